//! The best few of many.

use std::cmp::Ordering;

/// Leaves the first `limit` of `items` by `order`, in no order. Linear in their number.
pub fn keep_best<T>(items: &mut Vec<T>, limit: usize, order: impl FnMut(&T, &T) -> Ordering) {
    if items.len() > limit {
        items.select_nth_unstable_by(limit, order);
        items.truncate(limit);
    }
}

/// Leaves the first `limit` of `items` by `order`, in that order.
pub fn sort_best<T>(items: &mut Vec<T>, limit: usize, mut order: impl FnMut(&T, &T) -> Ordering) {
    keep_best(items, limit, &mut order);
    items.sort_unstable_by(order);
}

/// Rows by falling score, equal ones by row.
pub fn by_score(left: &(u32, f32), right: &(u32, f32)) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_that_sorting_everything_gives() {
        let scored: Vec<(u32, f32)> = (0..200).map(|row| (row, ((row * 37) % 23) as f32)).collect();
        let mut sorted = scored.clone();
        sorted.sort_by(by_score);
        for limit in [0, 1, 50, 199, 200, 500] {
            let mut best = scored.clone();
            sort_best(&mut best, limit, by_score);
            assert_eq!(best, sorted[..limit.min(200)]);
            let mut kept = scored.clone();
            keep_best(&mut kept, limit, by_score);
            kept.sort_by(by_score);
            assert_eq!(kept, best);
        }
    }
}
