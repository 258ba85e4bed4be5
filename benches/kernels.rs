//! The inner loops that requests and trainings spend their time in, each by itself, on generated data: `make kernels`.
//!
//! Sizes are those of a model of 100,000 tracks with the default settings. Throughput is stored bytes read, or the
//! elements that a group's comment names, per second. Everything but least squares runs on one thread. To compare two
//! versions, run `make kernels SAVE=before` on the old one and `make kernels BASELINE=before` on the new one: Criterion
//! says by how much each loop changed, and whether that is more than noise.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::CompletionIndex;
use segue::math::linear::{add_outer, dot, products, solve, vectorised};
use segue::math::{ByteTable, Csr};
use segue::recommend::rank::WIDTH;
use segue::recommend::retrieve::playlists::neighbours;
use segue::recommend::retrieve::walk::walk;
use segue::recommend::retrieve::{Query, Workspace};
use segue::scoring::oblivious_trees::{Binning, ObliviousTrees};
use segue::train::als::{AlsSettings, factorize};

const TRACKS: usize = 100_000;
const DIMENSIONS: usize = 64;
const FACTORS: usize = 128;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    dot_products(&mut criterion);
    byte_table(&mut criterion);
    walk_neighbours(&mut criterion);
    oblivious_trees(&mut criterion);
    least_squares(&mut criterion);
    criterion.final_summary();
}

/// One query against every vector in order, and four queries against some vectors that lie anywhere.
fn dot_products(criterion: &mut Criterion) {
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(1);
    let table = normal(rng, TRACKS * DIMENSIONS);
    let query = normal(rng, DIMENSIONS);
    let mut group = criterion.benchmark_group("dot");
    group.throughput(Throughput::Bytes((table.len() * size_of::<f32>()) as u64));
    group.bench_function("scan", |bencher| {
        let highest = || table.chunks_exact(DIMENSIONS).map(|row| dot(&query, row)).fold(f32::MIN, f32::max);
        bencher.iter(|| vectorised(highest));
    });
    let rows: Vec<u32> = (0..4_000).map(|_| rng.random_range(0..TRACKS as u32)).collect();
    let queries: Vec<Vec<f32>> = (0..4).map(|_| normal(rng, DIMENSIONS)).collect();
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    group.throughput(Throughput::Bytes((rows.len() * DIMENSIONS * size_of::<f32>()) as u64));
    group.bench_function("scattered_rows", |bencher| {
        bencher.iter(|| products(black_box(&table), black_box(&rows), &queries));
    });
    group.finish();
}

/// The rough pass over all vectors as bytes, by number of queries that share it.
fn byte_table(criterion: &mut Criterion) {
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(2);
    let table = ByteTable::new(&normal(rng, TRACKS * DIMENSIONS), DIMENSIONS);
    let queries: Vec<Vec<f32>> = (0..4).map(|_| normal(rng, DIMENSIONS)).collect();
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let mut group = criterion.benchmark_group("byte_table");
    group.throughput(Throughput::Bytes((TRACKS * DIMENSIONS) as u64));
    for count in [1, 4] {
        group.bench_with_input(BenchmarkId::new("best_100", count), &queries[..count], |bencher, queries| {
            bencher.iter(|| table.best(black_box(queries), &[], 100));
        });
    }
    group.finish();
}

/// Elements: placements of the neighboring playlists. Emptying the workspace, as between two requests, is included.
fn walk_neighbours(criterion: &mut Criterion) {
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(3);
    let playlists = playlists(rng, 20_000, 60, TRACKS);
    let index = CompletionIndex {
        postings: playlists.transpose(TRACKS),
        artist_of: vec![0; TRACKS].into(),
        playlists,
        ..CompletionIndex::default()
    };
    let mut workspace = Workspace::default();
    workspace.reserve(&index);
    let mut group = criterion.benchmark_group("walk");
    for seeds in [1, 10, 100] {
        let query = Query { title: String::new(), seeds: popular_tracks(rng, seeds, TRACKS) };
        let (near, _) = neighbours(&index, &query, &mut workspace);
        workspace.clear();
        let placements: usize = near.iter().map(|near| index.playlists.row(near.playlist as usize).len()).sum();
        group.throughput(Throughput::Elements(placements as u64));
        group.bench_function(BenchmarkId::new("seeds", seeds), |bencher| {
            bencher.iter(|| {
                walk(&index, black_box(&query), &[], &near, &mut workspace);
                workspace.clear();
            });
        });
    }
    group.finish();
}

/// The ranking's two ensembles, 750 trees, over the candidates of a short response. Elements: candidates.
fn oblivious_trees(criterion: &mut Criterion) {
    const TREES: usize = 750;
    const DEPTH: usize = 7;
    const BORDERS: usize = 62;
    const CANDIDATES: usize = 1_200;
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(4);
    let borders: Vec<f32> = (1..=BORDERS).map(|border| border as f32 / (BORDERS + 1) as f32).collect();
    let trees = ObliviousTrees {
        binning: Binning { borders: vec![borders; WIDTH] },
        depth: DEPTH,
        features: (0..TREES * DEPTH).map(|_| rng.random_range(0..WIDTH as u8)).collect(),
        thresholds: (0..TREES * DEPTH).map(|_| rng.random_range(1..=BORDERS as u8)).collect(),
        leaves: normal(rng, TREES << DEPTH),
    };
    let features: Vec<f32> = (0..CANDIDATES * WIDTH).map(|_| rng.random()).collect();
    let mut group = criterion.benchmark_group("trees");
    group.throughput(Throughput::Elements(CANDIDATES as u64));
    group.bench_function("score", |bencher| bencher.iter(|| trees.score(black_box(&features))));
    group.bench_function("score_best_600", |bencher| bencher.iter(|| trees.score_best(black_box(&features), 600)));
    group.finish();
}

/// One small system, as a request solves it (elements: systems), and an iteration of training (elements: placements).
fn least_squares(criterion: &mut Criterion) {
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(5);
    let mut group = criterion.benchmark_group("least_squares");
    let mut matrix = vec![0.0; FACTORS * FACTORS];
    for diagonal in 0..FACTORS {
        matrix[diagonal * FACTORS + diagonal] = 1.0;
    }
    for _ in 0..2 * FACTORS {
        add_outer(1.0, &normal(rng, FACTORS), &mut matrix);
    }
    let right = normal(rng, FACTORS);
    group.throughput(Throughput::Elements(1));
    group.bench_function("solve_128", |bencher| {
        bencher.iter_batched_ref(
            || (matrix.clone(), right.clone()),
            |(matrix, right)| solve(matrix, right),
            BatchSize::SmallInput,
        );
    });
    let playlists = playlists(rng, 2_000, 60, TRACKS / 5);
    let postings = playlists.transpose(TRACKS / 5);
    let settings =
        AlsSettings { factors: FACTORS, iterations: 1, alpha: 20.0, regularization: 0.05, seed: 1, threads: 1 };
    group.sample_size(10);
    group.throughput(Throughput::Elements(playlists.items().len() as u64));
    group.bench_function("als_iteration", |bencher| {
        bencher.iter(|| factorize(&playlists, &postings, black_box(&settings), None, |_| true));
    });
    group.finish();
}

/// Sums of uniform numbers, close enough to normal ones.
fn normal(rng: &mut Xoshiro256PlusPlus, length: usize) -> Vec<f32> {
    (0..length).map(|_| (0..4).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
}

/// Distinct tracks, of which the first are drawn much more often than the last, as in catalogs.
fn popular_tracks(rng: &mut Xoshiro256PlusPlus, count: usize, tracks: usize) -> Vec<u32> {
    let mut rows: Vec<u32> = Vec::with_capacity(count);
    while rows.len() < count {
        let row = (rng.random::<f32>().powi(3) * tracks as f32) as u32;
        if (row as usize) < tracks && !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn playlists(rng: &mut Xoshiro256PlusPlus, count: usize, mean_length: usize, tracks: usize) -> Csr {
    Csr::from_lists((0..count).map(|_| {
        let length = rng.random_range(5..2 * mean_length - 5);
        popular_tracks(rng, length, tracks)
    }))
}
