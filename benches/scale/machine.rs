//! What the machine is able to do, measured: the limits that costs are compared with.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use segue::math::linear::{dot, vectorised};
use serde::{Deserialize, Serialize};

/// Bytes and operations a second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Machine {
    /// bytes that one core reads from memory
    pub memory: f64,
    /// multiplications and additions of floats on all cores
    pub operations: f64,
    /// bytes written to disk and synced
    pub disk: f64,
}

/// Measures, or reads what an earlier run measured.
pub fn measure(folder: &Path) -> Machine {
    let file = folder.join("machine.json");
    if let Some(machine) = std::fs::read(&file).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
        return machine;
    }
    let machine = Machine { memory: memory(), operations: operations(), disk: disk(folder) };
    std::fs::write(&file, serde_json::to_vec(&machine).expect("JSON")).expect("results can be written");
    machine
}

/// Best of five passes over half a gigabyte.
fn memory() -> f64 {
    let words = vec![1_u64; 64 << 20];
    let pass = |_| {
        let began = Instant::now();
        black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        (words.len() * 8) as f64 / began.elapsed().as_secs_f64()
    };
    (0..5).map(pass).fold(0.0, f64::max)
}

/// Sums of products of vectors that stay in the first cache, by the kernel that everything here uses.
fn operations() -> f64 {
    let one_core = || {
        let (left, right) = (vec![1.0_f32; 1_024], vec![0.5_f32; 1_024]);
        let began = Instant::now();
        let rounds = 1_000_000;
        for _ in 0..rounds {
            black_box(vectorised(|| dot(black_box(&left), black_box(&right))));
        }
        rounds as f64 * 2.0 * 1_024.0 / began.elapsed().as_secs_f64()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one_core)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rate")).sum()
    })
}

/// A gigabyte written and synced.
fn disk(folder: &Path) -> f64 {
    let mut file = tempfile::tempfile_in(folder).expect("a file");
    let block = vec![7_u8; 16 << 20];
    let began = Instant::now();
    for _ in 0..64 {
        file.write_all(&block).expect("room on the disk");
    }
    file.sync_all().expect("synced");
    (64 * block.len()) as f64 / began.elapsed().as_secs_f64()
}
