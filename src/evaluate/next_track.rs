//! Next track: ask with one track, look for the one that followed it among the first of a list.
//!
//! The last track of every playlist is held out, and the one before it asks. A fifth of the queries is the test part;
//! ten thousand of the others, or all if there are fewer, are the validation part, which settings may be chosen on.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::dataset::NextTrackQuery;
use crate::recommend::{VectorIndex, VectorQuery};

/// Queries that share one pass over the table.
const BLOCK: usize = 64;
const TEST_SHARE: f64 = 0.2;
const VALIDATION_QUERIES: usize = 10_000;

/// Where each query's target stood in its list, from 0; `None` where it was not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranks(pub Vec<Option<usize>>);

/// Means over queries; a query whose target is not in the list counts as missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NextTrackMetrics {
    /// share of queries whose target is among the first ten
    pub hit_at_10: f64,
    /// 1 / log₂(rank + 1) of the target if its rank, from 1, is ten or less, else 0
    pub ndcg_at_10: f64,
    /// number of queries
    pub queries: usize,
}

impl Ranks {
    /// Share of queries whose target is among the first `k`.
    pub fn hit(&self, k: usize) -> f64 {
        self.mean(k, |_| 1.0)
    }

    /// Normalized discounted cumulative gain over the first `k`, one track being relevant.
    pub fn ndcg(&self, k: usize) -> f64 {
        self.mean(k, |rank| 1.0 / ((rank + 2) as f64).log2())
    }

    fn mean(&self, k: usize, gain: impl Fn(usize) -> f64) -> f64 {
        let gains = self.0.iter().flatten().filter(|&&rank| rank < k).map(|&rank| gain(rank));
        gains.sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Those of some of the queries.
    pub fn of(&self, queries: &[usize]) -> Self {
        Self(queries.iter().map(|&query| self.0[query]).collect())
    }

    /// Both metrics at ten.
    pub fn at_10(&self) -> NextTrackMetrics {
        NextTrackMetrics { hit_at_10: self.hit(10), ndcg_at_10: self.ndcg(10), queries: self.0.len() }
    }
}

/// Parts of the queries, as numbers of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// to choose settings on
    pub validation: Vec<usize>,
    /// to look at last
    pub test: Vec<usize>,
}

impl Parts {
    /// Of `queries` queries, the same ones for the same seed.
    pub fn new(queries: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..queries).collect();
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut test = order.split_off(queries - (queries as f64 * TEST_SHARE).round() as usize);
        order.truncate(VALIDATION_QUERIES);
        order.sort_unstable();
        test.sort_unstable();
        Self { validation: order, test }
    }
}

/// How two tracks' vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// by the angle between them, lengths left aside
    Cosine,
    /// by the distance between their ends
    Euclidean,
}

/// Ranks by distance between vectors: `vectors` are `[rows, dimensions]` of length 1, `lengths` what they were before;
/// the track that asks is left out. Exact, whatever the number of dimensions.
pub fn rank_by_vectors(
    vectors: &[f32],
    lengths: &[f32],
    distance: Distance,
    queries: &[NextTrackQuery],
    limit: usize,
) -> Ranks {
    let dimensions = vectors.len() / lengths.len().max(1);
    if vectors.is_empty() {
        return Ranks(vec![None; queries.len()]);
    }
    // −|a − b|² / 2 = a·b − |b|² / 2 − |a|² / 2, and the last is the same for all b.
    let (scaled, bias): (Vec<f32>, Vec<f32>) = match distance {
        Distance::Cosine => (Vec::new(), Vec::new()),
        Distance::Euclidean => (
            vectors
                .chunks_exact(dimensions)
                .zip(lengths)
                .flat_map(|(row, length)| row.iter().map(move |v| v * length))
                .collect(),
            lengths.iter().map(|length| -0.5 * length * length).collect(),
        ),
    };
    let table = if scaled.is_empty() { vectors } else { &scaled };
    let index = VectorIndex::new(table, dimensions, table.len() / dimensions);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = queries.len().div_ceil(threads).max(1);
    let ranks = std::thread::scope(|scope| {
        let workers: Vec<_> = queries
            .chunks(share)
            .map(|queries| {
                let bias = &bias;
                scope.spawn(move || {
                    queries.chunks(BLOCK).flat_map(|block| rank_block(index, bias, block, limit)).collect::<Vec<_>>()
                })
            })
            .collect();
        // A worker that panicked has no ranks; the scope says so.
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    Ranks(ranks)
}

fn rank_block(index: VectorIndex<'_>, bias: &[f32], block: &[NextTrackQuery], limit: usize) -> Vec<Option<usize>> {
    let excluded: Vec<[u32; 1]> = block.iter().map(|query| [query.query]).collect();
    let vector_queries: Vec<VectorQuery<'_>> = block
        .iter()
        .zip(&excluded)
        .map(|(query, excluded)| VectorQuery { vector: index.vector(query.query), bias, excluded, limit })
        .collect();
    let lists = index.nearest(&vector_queries);
    let rank = |(query, ranked): (&NextTrackQuery, Vec<crate::recommend::ScoredRow>)| {
        // A track without a vector is as far from everything as from anything.
        let known = index.vector(query.query).iter().any(|&value| value != 0.0);
        ranked.iter().position(|near| near.row == query.target).filter(|_| known)
    };
    block.iter().zip(lists).map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(target: u32) -> NextTrackQuery {
        NextTrackQuery { query: 0, target }
    }

    #[test]
    fn the_metrics_are_those_of_a_ranking_made_by_hand() {
        // Twelve rows on the unit circle, 10° apart: the neighbors of row 0 are 1, 2, 3, … in this order.
        let vectors: Vec<f32> = (0..12)
            .flat_map(|row| [(row as f32 * 10.0).to_radians().cos(), (row as f32 * 10.0).to_radians().sin()])
            .collect();
        let queries = [query(1), query(3), query(11)];
        let ranks = rank_by_vectors(&vectors, &[1.0; 12], Distance::Cosine, &queries, 10);
        assert_eq!(ranks, Ranks(vec![Some(0), Some(2), None]));
        let metrics = ranks.at_10();
        assert!((metrics.hit_at_10 - 2.0 / 3.0).abs() < 1e-12);
        assert!((metrics.ndcg_at_10 - (1.0 + 1.0 / 4f64.log2()) / 3.0).abs() < 1e-12);
        assert!((ranks.hit(1) - 1.0 / 3.0).abs() < 1e-12 && ranks.of(&[1]).hit(3) == 1.0);
    }

    #[test]
    fn the_euclidean_distance_sees_lengths() {
        // Row 1 points as row 0 does but is ten times as long; row 2 is as long, 30° aside.
        let (sin, cos) = 30f32.to_radians().sin_cos();
        let vectors = [1.0, 0.0, 1.0, 0.0, cos, sin];
        let lengths = [1.0, 10.0, 1.0];
        let first = |distance| rank_by_vectors(&vectors, &lengths, distance, &[query(1), query(2)], 1);
        assert_eq!(first(Distance::Cosine), Ranks(vec![Some(0), None]));
        assert_eq!(first(Distance::Euclidean), Ranks(vec![None, Some(0)]));
    }

    #[test]
    fn parts_have_no_query_in_common() {
        let parts = Parts::new(103, 1);
        assert_eq!((parts.validation.len(), parts.test.len()), (82, 21));
        let mut all = [parts.validation.clone(), parts.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!((Parts::new(103, 1), Parts::new(60_000, 1).validation.len()), (parts, VALIDATION_QUERIES));
    }
}
