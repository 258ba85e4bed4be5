//! Exact nearest neighbors by dot product, which is the cosine for rows of length 1.
//!
//! The table is plain memory, row after row. A search reads all of it once, in blocks that stay in the cache while
//! every query of a batch goes over them; what limits it is the bandwidth of memory. Each query keeps its best rows in
//! a heap whose worst member is the bar for the next row.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::math::linear::dot;

/// Rows of a block, times a few hundred bytes: fits the second-level cache.
const BLOCK_ROWS: usize = 512;

/// A table of vectors to search: `[rows, dimensions]`.
#[derive(Debug, Clone, Copy)]
pub struct VectorIndex<'a> {
    vectors: &'a [f32],
    dimensions: usize,
    candidates: usize,
}

/// A query of a [`VectorIndex`].
#[derive(Debug, Clone, Copy)]
pub struct VectorQuery<'a> {
    /// `[dimensions]`
    pub vector: &'a [f32],
    /// `[candidates]`: added to each row's dot product; empty for none
    pub bias: &'a [f32],
    /// rows that must not be returned, rising
    pub excluded: &'a [u32],
    /// number of rows to return
    pub limit: usize,
}

/// A row and its dot product with the query. Orders by score, then by row: equal scores have one order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredRow {
    /// the row
    pub row: u32,
    /// dot product, plus the row's bias
    pub score: f32,
}

impl Eq for ScoredRow {}

impl Ord for ScoredRow {
    /// The greater one is the worse one, so that a heap's top is the first to go.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for ScoredRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> VectorIndex<'a> {
    /// Over `vectors`, of which rows 0..`candidates` may be returned; the rows after them may only be queried with.
    pub fn new(vectors: &'a [f32], dimensions: usize, candidates: usize) -> Self {
        debug_assert!(candidates * dimensions <= vectors.len());
        Self { vectors, dimensions, candidates }
    }

    /// The vector of a row.
    pub fn vector(&self, row: u32) -> &'a [f32] {
        &self.vectors[row as usize * self.dimensions..(row as usize + 1) * self.dimensions]
    }

    /// Returns the nearest rows of each query, best first. Several queries share one pass over the table.
    pub fn nearest(&self, queries: &[VectorQuery<'_>]) -> Vec<Vec<ScoredRow>> {
        let mut heaps: Vec<BinaryHeap<ScoredRow>> =
            queries.iter().map(|query| BinaryHeap::with_capacity(query.limit + 1)).collect();
        let table = &self.vectors[..self.candidates * self.dimensions];
        for (block, rows) in table.chunks(BLOCK_ROWS * self.dimensions).enumerate() {
            let first = block * BLOCK_ROWS;
            for (query, heap) in queries.iter().zip(&mut heaps) {
                let mut bar = bar_of(heap, query.limit);
                let bias = query.bias.get(first..).unwrap_or_default();
                for (offset, vector) in rows.chunks_exact(self.dimensions).enumerate() {
                    let score = dot(query.vector, vector) + bias.get(offset).copied().unwrap_or(0.0);
                    if score < bar {
                        continue;
                    }
                    let near = ScoredRow { row: (first + offset) as u32, score };
                    if query.excluded.binary_search(&near.row).is_ok() {
                        continue;
                    }
                    heap.push(near);
                    if heap.len() > query.limit {
                        heap.pop();
                    }
                    bar = bar_of(heap, query.limit);
                }
            }
        }
        heaps.into_iter().map(BinaryHeap::into_sorted_vec).collect()
    }
}

/// The score that a row must reach to be among the best.
fn bar_of(heap: &BinaryHeap<ScoredRow>, limit: usize) -> f32 {
    match heap.peek() {
        _ if limit == 0 => f32::INFINITY,
        Some(worst) if heap.len() >= limit => worst.score,
        _ => f32::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn the_nearest_are_those_that_sorting_everything_gives() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        for dimensions in [1, 16, 37] {
            let rows = 1_300;
            let vectors: Vec<f32> = (0..rows * dimensions).map(|_| rng.random_range(-1.0..1.0)).collect();
            let index = VectorIndex::new(&vectors, dimensions, rows - 100);
            let excluded = [3, 4, 700];
            let bias: Vec<f32> = (0..rows).map(|_| rng.random_range(0.0..0.1)).collect();
            let queries: Vec<VectorQuery<'_>> = [0, 1_299]
                .iter()
                .map(|&row| VectorQuery { vector: index.vector(row), bias: &bias, excluded: &excluded, limit: 25 })
                .collect();
            for (query, nearest) in queries.iter().zip(index.nearest(&queries)) {
                let mut all: Vec<ScoredRow> = (0..1_200u32)
                    .filter(|row| !excluded.contains(row))
                    .map(|row| ScoredRow { row, score: dot(query.vector, index.vector(row)) + bias[row as usize] })
                    .collect();
                all.sort();
                assert_eq!(nearest, all[..25]);
            }
        }
    }

    #[test]
    fn fewer_rows_than_asked_for_are_all_answered() {
        let index = VectorIndex::new(&[1.0, 2.0, 3.0], 1, 3);
        let query = VectorQuery { vector: &[1.0], bias: &[], excluded: &[2], limit: 10 };
        let rows: Vec<u32> = index.nearest(&[query])[0].iter().map(|near| near.row).collect();
        assert_eq!(rows, [1, 0]);
    }
}
