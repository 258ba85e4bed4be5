//! The best few of many scored rows.
//!
//! Best is the highest score; of equal ones the row of the smaller number, so that there is one order.

/// A row and its score as one number that rises from the best to the worst: integers are compared several times faster
/// than pairs.
fn key(row: u32, score: f32) -> u64 {
    let bits = score.to_bits();
    // As `f32::total_cmp` orders: the bits of a negative number fall as it rises.
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!rising) << 32 | u64::from(row)
}

fn unkey(key: u64) -> (u32, f32) {
    let rising = !((key >> 32) as u32);
    let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
    (key as u32, f32::from_bits(bits))
}

fn best_keys(scored: &[(u32, f32)], limit: usize) -> Vec<u64> {
    let mut keys: Vec<u64> = scored.iter().map(|&(row, score)| key(row, score)).collect();
    if keys.len() > limit {
        keys.select_nth_unstable(limit);
        keys.truncate(limit);
    }
    keys
}

/// Leaves the best `limit` of `scored`, in no order. Linear in their number.
pub fn keep_best(scored: &mut Vec<(u32, f32)>, limit: usize) {
    if scored.len() > limit {
        *scored = best_keys(scored, limit).into_iter().map(unkey).collect();
    }
}

/// Leaves the best `limit` of `scored`, best first.
pub fn sort_best(scored: &mut Vec<(u32, f32)>, limit: usize) {
    let mut keys = best_keys(scored, limit);
    keys.sort_unstable();
    scored.clear();
    scored.extend(keys.into_iter().map(unkey));
}

/// Sorts by row, and adds up the values of equal rows in the order in which they stood.
pub fn add_up_rows(scored: &mut Vec<(u32, f32)>) {
    scored.sort_by_key(|&(row, _)| row); // stable: there is one order of additions
    scored.dedup_by(|next, first| {
        let is_same = next.0 == first.0;
        first.1 += if is_same { next.1 } else { 0.0 };
        is_same
    });
}

/// The best rows so far of a stream of them: somewhat more than are asked for, thinned out now and then.
pub struct Best {
    scored: Vec<(u32, f32)>,
    limit: usize,
    bar: f32,
}

impl Best {
    /// Of the best `limit` rows whose score is at least `bar`.
    pub fn new(limit: usize, bar: f32) -> Self {
        Self { scored: Vec::new(), limit, bar }
    }

    /// What the score of a row has to be for it to be among the best still.
    #[inline(always)]
    pub fn bar(&self) -> f32 {
        self.bar
    }

    /// Takes a row, if it is among the best.
    #[inline(always)]
    pub fn push(&mut self, row: u32, score: f32) {
        if score >= self.bar {
            self.scored.push((row, score));
            if self.scored.len() >= 2 * self.limit.max(16) {
                self.thin_out();
            }
        }
    }

    fn thin_out(&mut self) {
        keep_best(&mut self.scored, self.limit);
        self.bar = self.scored.iter().map(|scored| scored.1).fold(f32::INFINITY, f32::min);
    }

    /// The best, in no order.
    pub fn finish(mut self) -> Vec<(u32, f32)> {
        keep_best(&mut self.scored, self.limit);
        self.scored
    }
}

/// The places of `values`, that of the highest first.
pub fn by_falling(values: &[f32]) -> Vec<u32> {
    let mut keys: Vec<u64> = values.iter().zip(0..).map(|(&value, place)| key(place, value)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_that_sorting_everything_gives() {
        let scored: Vec<(u32, f32)> = (0..200).map(|row| (row, ((row * 37) % 23) as f32 - 11.0)).collect();
        let mut sorted = scored.clone();
        sorted.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        for limit in [0, 1, 50, 199, 200, 500] {
            let mut best = scored.clone();
            sort_best(&mut best, limit);
            assert_eq!(best, sorted[..limit.min(200)]);
            let mut kept = scored.clone();
            keep_best(&mut kept, limit);
            sort_best(&mut kept, limit);
            assert_eq!(kept, best);
            let mut streamed = Best::new(limit, -7.0);
            scored.iter().for_each(|&(row, score)| streamed.push(row, score));
            let mut streamed = streamed.finish();
            sort_best(&mut streamed, limit);
            best.retain(|scored| scored.1 >= -7.0);
            assert_eq!(streamed, best);
        }
        let values: Vec<f32> = scored.iter().map(|scored| scored.1).collect();
        assert_eq!(by_falling(&values), sorted.iter().map(|scored| scored.0).collect::<Vec<u32>>());
    }

    #[test]
    fn scores_of_every_kind_are_given_back_as_they_were() {
        let scores = [f32::INFINITY, 3.5, f32::MIN_POSITIVE, 0.0, -0.0, -1e-30, -7.25, f32::NEG_INFINITY];
        let mut scored: Vec<(u32, f32)> = (0..8).zip(scores).rev().collect();
        sort_best(&mut scored, 8);
        for ((place, score), (found, given)) in (0..).zip(scores).zip(scored) {
            assert_eq!((place, score.to_bits()), (found, given.to_bits()));
        }
    }
}
