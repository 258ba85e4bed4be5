//! HNSW on the vectors that `two_million_tracks_are_searched_in_milliseconds` (tests/api/tracks.rs) asks the server for:
//! time, memory, recall and time to build, for docs/benchmarks.md.
//!
//! `cargo run --release --manifest-path benches/ann/Cargo.toml [ROWS]`

use std::collections::HashSet;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

const DIMENSIONS: usize = 64;
const LIMIT: usize = 100;
const QUERIES: usize = 200;

/// Around two thousand centres, as tracks lie around kinds of music.
fn vectors(rows: usize) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let centres: Vec<f32> = (0..2_000 * DIMENSIONS).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut vectors = Vec::with_capacity(rows * DIMENSIONS);
    for _ in 0..rows {
        let centre = rng.random_range(0..2_000) * DIMENSIONS;
        let row: Vec<f32> =
            centres[centre..centre + DIMENSIONS].iter().map(|value| value + rng.random_range(-1.0f32..1.0)).collect();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        vectors.extend(row.iter().map(|value| value / length));
    }
    vectors
}

fn exact(vectors: &[f32], query: &[f32]) -> HashSet<u64> {
    let mut scored: Vec<(f32, u64)> = vectors
        .chunks_exact(DIMENSIONS)
        .zip(0..)
        .map(|(row, number)| (row.iter().zip(query).map(|(left, right)| left * right).sum(), number))
        .collect();
    scored.select_nth_unstable_by(LIMIT, |left, right| right.0.total_cmp(&left.0));
    scored[..LIMIT].iter().map(|scored| scored.1).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: usize = std::env::args().nth(1).map_or(Ok(2_262_292), |rows| rows.parse())?;
    let vectors = vectors(rows);
    let queries: Vec<&[f32]> =
        (0..QUERIES).map(|number| number * 10_007 % rows).map(|row| &vectors[row * DIMENSIONS..(row + 1) * DIMENSIONS]).collect();
    let truth: Vec<HashSet<u64>> = queries.iter().take(40).map(|query| exact(&vectors, query)).collect();
    for (name, quantization) in [("int8", ScalarKind::I8), ("float32", ScalarKind::F32)] {
        let options = IndexOptions { dimensions: DIMENSIONS, metric: MetricKind::IP, quantization, ..Default::default() };
        let index = Index::new(&options)?;
        index.reserve(rows)?;
        let threads = std::thread::available_parallelism()?.get();
        let started = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (index, vectors) = (&index, &vectors);
                scope.spawn(move || {
                    for (row, vector) in vectors.chunks_exact(DIMENSIONS).enumerate().skip(thread).step_by(threads) {
                        if let Err(error) = index.add(row as u64, vector) {
                            panic!("{error}");
                        }
                    }
                });
            }
        });
        let build = started.elapsed().as_secs_f64();
        println!("HNSW {name}: {rows} rows, built in {build:.0} s by {threads} threads, {} MB", index.memory_usage() >> 20);
        for expansion in [100, 200, 400, 800] {
            index.change_expansion_search(expansion);
            let (mut found, mut milliseconds) = (0, Vec::new());
            for (number, query) in queries.iter().enumerate() {
                let started = Instant::now();
                let matches = index.search(query, LIMIT)?;
                milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
                if let Some(truth) = truth.get(number) {
                    found += matches.keys.iter().filter(|key| truth.contains(key)).count();
                }
            }
            milliseconds.sort_by(f64::total_cmp);
            let recall = found as f64 / (truth.len() * LIMIT) as f64;
            println!("  expansion {expansion}: median {:.2} ms, recall@{LIMIT} {recall:.4}", milliseconds[QUERIES / 2]);
        }
    }
    Ok(())
}
