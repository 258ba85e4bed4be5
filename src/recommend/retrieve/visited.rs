//! The tracks that a walk visits, with their sums.

use super::sums::{LAST_SEEDS, MOST_NEIGHBOURS, Neighbour, OrderSums, TrackSums};

/// Tracks this far from a seed in a playlist still count as its neighbors.
pub(super) const WINDOW: usize = 10;
/// What a track so many places away adds, the next one first: 1 / distance.
const GAINS: [f32; WINDOW] =
    [1.0, 1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0, 1.0 / 5.0, 1.0 / 6.0, 1.0 / 7.0, 1.0 / 8.0, 1.0 / 9.0, 0.1];

/// Bits of a visit that say which neighbor it is.
pub(super) const NEIGHBOUR_BITS: u32 = (MOST_NEIGHBOURS - 1).ilog2() + 1;
/// Bits of a nearby track's note that say how it lies, see [`Nearness`].
pub(super) const NEARNESS_BITS: u32 = 8;

/// How a track lies to a seed in a playlist, in one number.
pub(super) struct Nearness;

impl Nearness {
    const BEHIND: usize = 1 << 4;
    const LATE: usize = 1 << 5;

    /// Of the tracks around a seed that is `from_end` places before the end of the query; the places in between are to
    /// be added.
    pub fn around(from_end: usize, is_behind: bool) -> usize {
        let late = if from_end < LAST_SEEDS { from_end + 1 } else { 0 };
        late * Self::LATE + if is_behind { Self::BEHIND } else { 0 }
    }

    /// What each adds.
    fn gains() -> [OrderSums; 1 << NEARNESS_BITS] {
        std::array::from_fn(|nearness| {
            let gain = GAINS.get(nearness % Self::BEHIND).copied().unwrap_or_default();
            // 1 for the last seed, then 1/2, 1/3 …, and 0 for those before the last few.
            let late = match nearness / Self::LATE {
                0 => 0.0,
                from_end => gain / from_end as f32,
            };
            let is_behind = nearness & Self::BEHIND > 0;
            OrderSums {
                near: gain,
                behind: if is_behind { late } else { 0.0 },
                before: if is_behind { 0.0 } else { late },
                next: if is_behind && nearness / Self::LATE == 1 { gain } else { 0.0 },
            }
        })
    }
}

/// The visited tracks and their sums.
#[derive(Debug, Default)]
pub struct Visited {
    /// the tracks, rising, then those of [`Visited::add`]
    pub rows: Vec<u32>,
    /// `[rows]`
    pub sums: Vec<TrackSums>,
    /// `[rows]`
    pub order: Vec<OrderSums>,
    /// of each range, the tracks (counted from its beginning) with the neighbor that holds them, in one number: all
    /// that a walk notes fits the second-level cache
    pub(super) visits: Vec<Vec<u32>>,
    /// of each range, the tracks near a seed with how they lie to it, in one number
    pub(super) nearby: Vec<Vec<u32>>,
}

impl Visited {
    /// Adds those of `rows` (rising, distinct) that are not there yet, with sums of 0.
    pub fn add(&mut self, rows: &[u32]) {
        let (mut there, visited) = (0, self.rows.len());
        for &row in rows {
            while there < visited && self.rows[there] < row {
                there += 1;
            }
            if there == visited || self.rows[there] != row {
                self.rows.push(row);
            }
        }
        self.sums.resize(self.rows.len(), TrackSums::default());
        self.order.resize(self.rows.len(), OrderSums::default());
    }

    /// Adds up what was noted.
    pub(super) fn add_up(&mut self, range: usize, neighbours: &[Neighbour]) {
        let Self { rows, sums, order, visits, nearby } = self;
        let gains = Nearness::gains();
        let mut sums_here = vec![TrackSums::default(); range];
        let mut order_here = vec![OrderSums::default(); range];
        let mut touched = vec![0u64; range / 64];
        for ((number, visits), nearby) in visits.iter_mut().enumerate().zip(nearby) {
            for visit in visits.drain(..) {
                let (place, neighbour) = ((visit >> NEIGHBOUR_BITS) as usize, visit & ((1 << NEIGHBOUR_BITS) - 1));
                touched[place / 64] |= 1 << (place % 64);
                sums_here[place] += neighbours[neighbour as usize].gives;
            }
            for near in nearby.drain(..) {
                let (place, nearness) = ((near >> NEARNESS_BITS) as usize, near & ((1 << NEARNESS_BITS) - 1));
                order_here[place] += gains[nearness as usize];
            }
            for (word, bits) in touched.iter_mut().enumerate() {
                while *bits != 0 {
                    let place = word * 64 + bits.trailing_zeros() as usize;
                    rows.push((number * range + place) as u32);
                    sums.push(std::mem::take(&mut sums_here[place]));
                    order.push(std::mem::take(&mut order_here[place]));
                    *bits &= *bits - 1;
                }
            }
        }
    }

    /// Nothing visited.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.sums.clear();
        self.order.clear();
    }
}
