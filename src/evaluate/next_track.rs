//! Next track: ask with one track, look for the one that followed it among the ten nearest.

use serde::{Deserialize, Serialize};

use crate::dataset::NextTrackQuery;
use crate::recommend::{VectorIndex, VectorQuery};

/// Length of the ranked list.
const K: usize = 10;
/// Queries that share one pass over the table.
const BLOCK: usize = 64;

/// Means over all queries; a query whose track is not ranked counts as missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NextTrackMetrics {
    /// share of queries whose target is among the first ten
    pub hit_at_10: f64,
    /// 1 / log₂(rank + 1) of the target if its rank, from 1, is ten or less, else 0
    pub ndcg_at_10: f64,
    /// number of queries
    pub queries: usize,
}

/// Ranks every row of `vectors` (`[rows, dimensions]`, rows of length 1) by cosine to each query's, itself excepted.
pub fn next_track(vectors: &[f32], dimensions: usize, queries: &[NextTrackQuery]) -> NextTrackMetrics {
    let index = VectorIndex::new(vectors, dimensions, vectors.len() / dimensions);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = queries.len().div_ceil(threads).max(1);
    let sums: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = queries
            .chunks(share)
            .map(|queries| {
                scope.spawn(move || queries.chunks(BLOCK).map(|block| score_block(index, block)).collect::<Vec<_>>())
            })
            .collect();
        // In the order of queries: floating-point sums depend on it.
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    let count = queries.len().max(1) as f64;
    NextTrackMetrics {
        hit_at_10: sums.iter().map(|sum| sum.0).sum::<f64>() / count,
        ndcg_at_10: sums.iter().map(|sum| sum.1).sum::<f64>() / count,
        queries: queries.len(),
    }
}

fn score_block(index: VectorIndex<'_>, block: &[NextTrackQuery]) -> (f64, f64) {
    let excluded: Vec<[u32; 1]> = block.iter().map(|query| [query.query]).collect();
    let vector_queries: Vec<VectorQuery<'_>> = block
        .iter()
        .zip(&excluded)
        .map(|(query, excluded)| VectorQuery { vector: index.vector(query.query), bias: &[], excluded, limit: K })
        .collect();
    let (mut hits, mut gains) = (0.0, 0.0);
    for (query, ranked) in block.iter().zip(index.nearest(&vector_queries)) {
        // A track without a vector is as far from everything as from anything.
        if index.vector(query.query).iter().all(|&value| value == 0.0) {
            continue;
        }
        if let Some(rank) = ranked.iter().position(|near| near.row == query.target) {
            hits += 1.0;
            gains += 1.0 / ((rank + 2) as f64).log2();
        }
    }
    (hits, gains)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_are_those_of_a_ranking_made_by_hand() {
        // Twelve rows on the unit circle, 10° apart: the neighbours of row 0 are 1, 2, 3, … in this order.
        let vectors: Vec<f32> = (0..12)
            .flat_map(|row| [(row as f32 * 10.0).to_radians().cos(), (row as f32 * 10.0).to_radians().sin()])
            .collect();
        let query = |target| NextTrackQuery { query: 0, target };
        let metrics = next_track(&vectors, 2, &[query(1), query(3), query(11)]);
        assert!((metrics.hit_at_10 - 2.0 / 3.0).abs() < 1e-12);
        assert!((metrics.ndcg_at_10 - (1.0 + 1.0 / 4f64.log2()) / 3.0).abs() < 1e-12);
    }
}
