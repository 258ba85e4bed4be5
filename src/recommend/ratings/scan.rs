//! All tracks scored at once, roughly: the first of two stages.
//!
//! A track's vector is stored as bytes with a scale of its own, a quarter of the memory that a scan has to read; a score
//! of it is two sums of products of small integers over one reading of these bytes. The scalars of a track stay as
//! exact as they are. What is best by these scores is scored again exactly by the caller.

use std::collections::BinaryHeap;

use crate::math::linear::{axpy, dot};
use crate::recommend::ScoredRow;

/// Bytes of a vector are a multiple of this, for vector instructions.
const LANES: usize = 16;
/// Rows whose scalars are added up together.
const BLOCK_ROWS: usize = 1_024;

/// Tracks as bytes.
#[derive(Debug)]
pub struct Scan {
    /// bytes of a row: a multiple of [`LANES`], zeros at the end
    width: usize,
    /// `[T, width]`
    bytes: Vec<i8>,
    /// `[T]`: what a byte of the row stands for
    scales: Vec<f32>,
    /// `[T]`: length of the vector, with something to spare for its rounding
    lengths: Vec<f32>,
    /// `[plain columns, T]`: the scalars, one column after the other
    plain: Vec<f32>,
}

/// What to score by: `base + Σ plain · weight + vector · first + factor · (vector · second)`.
#[derive(Debug, Clone, Copy)]
pub struct ScanQuery<'a> {
    /// `[T]`
    pub base: &'a [f32],
    /// weights of the scalars
    pub plain: &'a [f32],
    /// as long as a vector
    pub first: &'a [f32],
    /// as long as a vector or shorter; empty for none
    pub second: &'a [f32],
    /// `[T]`: how much the second product counts, 0 or more; empty where there is none
    pub factors: &'a [f32],
    /// rows that must not be returned, rising
    pub excluded: &'a [u32],
    /// number of rows to return
    pub limit: usize,
}

impl Scan {
    /// Of the columns from `plain` on of `features`, `[T, columns]`.
    pub fn new(features: &[f32], columns: usize, plain: usize) -> Self {
        let width = (columns - plain).next_multiple_of(LANES);
        let rows = features.len() / columns.max(1);
        let (mut bytes, mut scales) = (Vec::with_capacity(rows * width), Vec::with_capacity(rows));
        let mut lengths = Vec::with_capacity(rows);
        for row in features.chunks_exact(columns) {
            let vector = &row[plain..];
            let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            bytes.extend(vector.iter().map(|value| (value / scale).round() as i8));
            bytes.resize(bytes.len().next_multiple_of(width.max(1)), 0);
            scales.push(scale);
            lengths.push(1.05 * dot(vector, vector).sqrt());
        }
        let of_column = |column: usize| features.chunks_exact(columns).map(move |row| row[column]);
        let plain = (0..plain).flat_map(of_column).collect();
        Self { width, bytes, scales, lengths, plain }
    }

    /// The best rows by rough scores, best first.
    pub fn best(&self, query: &ScanQuery<'_>) -> Vec<ScoredRow> {
        let (first, first_scale) = self.quantised(query.first);
        let (second, second_scale) = self.quantised(query.second);
        let [first_length, second_length] = [query.first, query.second].map(|vector| dot(vector, vector).sqrt());
        let rows = query.base.len();
        let mut heap: BinaryHeap<ScoredRow> = BinaryHeap::with_capacity(query.limit + 1);
        let mut bar = if query.limit == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        let (mut scores, mut bounds) = (Vec::with_capacity(BLOCK_ROWS), Vec::with_capacity(BLOCK_ROWS));
        for start in (0..rows).step_by(BLOCK_ROWS) {
            let end = rows.min(start + BLOCK_ROWS);
            scores.clear();
            scores.extend_from_slice(&query.base[start..end]);
            for (column, &weight) in query.plain.iter().enumerate() {
                axpy(weight, &self.plain[column * rows + start..column * rows + end], &mut scores);
            }
            // A product is not above that of both lengths: most rows fall out before their bytes are read.
            bounds.clear();
            let lengths = &self.lengths[start..end];
            match query.factors.get(start..end) {
                Some(factors) => bounds.extend(
                    scores
                        .iter()
                        .zip(lengths)
                        .zip(factors)
                        .map(|((score, length), factor)| score + length * (first_length + factor * second_length)),
                ),
                None => bounds.extend(scores.iter().zip(lengths).map(|(score, length)| score + length * first_length)),
            }
            for (offset, &bound) in bounds.iter().enumerate() {
                if bound < bar {
                    continue;
                }
                let (row, mut score) = (start + offset, scores[offset]);
                let bytes = &self.bytes[row * self.width..(row + 1) * self.width];
                score += self.scales[row] * first_scale * product(bytes, &first) as f32;
                if let Some(&factor) = query.factors.get(row) {
                    if score + factor * lengths[offset] * second_length < bar {
                        continue;
                    }
                    score += factor * self.scales[row] * second_scale * product(bytes, &second) as f32;
                }
                let near = ScoredRow { row: row as u32, score };
                if score < bar || query.excluded.binary_search(&near.row).is_ok() {
                    continue;
                }
                heap.push(near);
                if heap.len() > query.limit {
                    heap.pop();
                }
                if heap.len() == query.limit {
                    bar = heap.peek().map_or(bar, |worst| worst.score);
                }
            }
        }
        heap.into_sorted_vec()
    }

    /// As 16-bit integers, as many as it takes whole steps of [`LANES`], small enough for sums of their products with bytes, and what one stands
    /// for.
    fn quantised(&self, vector: &[f32]) -> (Vec<i16>, f32) {
        let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / 8_191.0 } else { 1.0 };
        let mut values: Vec<i16> = vector.iter().map(|value| (value / scale).round() as i16).collect();
        values.resize(vector.len().next_multiple_of(LANES).min(self.width), 0);
        (values, scale)
    }
}

/// Of as many as there are of both. Below 2³¹ for rows of up to two thousand bytes, 127 · 8,191 · 2,064; it is told to
/// wrap around all the same, because a check of each sum keeps the compiler from vector instructions.
#[inline]
fn product(bytes: &[i8], values: &[i16]) -> i32 {
    let products = bytes.iter().zip(values).map(|(byte, value)| i32::from(*byte).wrapping_mul(i32::from(*value)));
    products.fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn rough_scores_are_near_the_exact_ones_and_so_are_the_best_rows() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let (rows, columns, plain) = (2_000, 2 + 37, 2);
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (features, base) = (draw(rows * columns), draw(rows));
        let factors: Vec<f32> = draw(rows).into_iter().map(f32::abs).collect();
        let (weights, second) = (draw(columns), draw(20));
        let excluded = [5, 9, 700];
        let query = ScanQuery {
            base: &base,
            plain: &weights[..plain],
            first: &weights[plain..],
            second: &second,
            factors: &factors,
            excluded: &excluded,
            limit: 100,
        };
        let found = Scan::new(&features, columns, plain).best(&query);
        let exact = |row: usize| {
            let feature = &features[row * columns..(row + 1) * columns];
            base[row] + dot(feature, &weights) + factors[row] * dot(&feature[plain..plain + 20], &second)
        };
        for near in &found {
            assert!((near.score - exact(near.row as usize)).abs() < 0.1, "{near:?}");
            assert!(!excluded.contains(&near.row));
        }
        let mut all: Vec<ScoredRow> = (0..rows as u32)
            .filter(|row| !excluded.contains(row))
            .map(|row| ScoredRow { row, score: exact(row as usize) })
            .collect();
        all.sort();
        let missed = all[..50].iter().filter(|best| found.iter().all(|near| near.row != best.row)).count();
        assert_eq!((found.len(), missed), (100, 0));
    }

    #[test]
    fn scalars_alone_are_enough() {
        let query = ScanQuery {
            base: &[0.0, 1.0, 0.5],
            plain: &[0.5],
            first: &[],
            second: &[],
            factors: &[],
            excluded: &[],
            limit: 2,
        };
        let best = Scan::new(&[3.0, 1.0, 1.0], 1, 1).best(&query);
        assert_eq!(best.iter().map(|near| (near.row, near.score)).collect::<Vec<_>>(), [(0, 1.5), (1, 1.5)]);
    }
}
