//! Factorization of playlists × tracks by alternating least squares for implicit feedback (iALS).
//!
//! Hu, Koren, Volinsky 2008: every cell of the playlist × track matrix counts, an observed one 1 + α times. Each half
//! step solves one small linear system a row by a few steps of conjugate gradients (Takács, Pilászy, Tikk 2011), which
//! start from where the row was; the cost is that of the observed cells and of one Gram matrix product a row.

use std::ops::Range;
use std::sync::Mutex;

use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::math::Csr;
use crate::math::linear::{axpy, dot, gram, vectorised};

/// Rows that are solved before anyone is asked whether to stop: a second or two.
const BLOCK: usize = 1 << 16;
/// Rows that a thread takes at a time.
const SHARE: usize = 64;
/// Steps of conjugate gradients a row.
const STEPS: usize = 3;
/// Tracks in fewer playlists don't take part in the iterations.
const FEWEST_PLAYLISTS: usize = 2;

/// How to factorize.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlsSettings {
    /// length of a factor
    pub factors: usize,
    /// passes over playlists and tracks
    pub iterations: usize,
    /// weight of an observed cell above that of an unobserved one
    pub alpha: f32,
    /// L2 penalty
    pub regularization: f32,
    /// random seed
    pub seed: u64,
    /// threads that share the rows
    pub threads: usize,
}

/// A factorization under way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Factors {
    /// `[playlists, factors]`
    pub of_playlists: Vec<f32>,
    /// `[tracks, factors]`
    pub of_tracks: Vec<f32>,
    /// half passes done: over the playlists, over the tracks, and again
    pub half_passes: usize,
    /// rows done of the next one
    pub rows: usize,
}

impl Factors {
    /// The side that is held fixed, and the one that is solved for.
    fn sides(&mut self, is_of_tracks: bool) -> (&[f32], &mut [f32]) {
        match is_of_tracks {
            true => (&self.of_playlists, &mut self.of_tracks),
            false => (&self.of_tracks, &mut self.of_playlists),
        }
    }
}

/// `[tracks, factors]`: the factors of the tracks, row after row. `each_block` is called every few seconds at least, and
/// stops the factorization by returning false. One that was stopped resumes from `begun`, with the same result.
///
/// Rows are `playlists` (distinct tracks each), columns the tracks that `postings` has lists for.
pub fn factorize(
    playlists: &Csr,
    postings: &Csr,
    settings: &AlsSettings,
    begun: Option<Factors>,
    mut each_block: impl FnMut(&mut Factors) -> bool,
) -> Option<Vec<f32>> {
    let mut at = match begun {
        Some(begun) => begun,
        None => begin(playlists, postings, settings)?,
    };
    while at.half_passes < 2 * settings.iterations {
        let is_of_tracks = at.half_passes % 2 == 1;
        let is_last = at.half_passes + 1 == 2 * settings.iterations;
        let shortest = if is_of_tracks && !is_last { FEWEST_PLAYLISTS } else { 1 };
        let lists = if is_of_tracks { postings } else { playlists };
        let half_pass = at.half_passes;
        let mut matrix = gram(at.sides(is_of_tracks).0, settings.factors, settings.threads);
        for diagonal in 0..settings.factors {
            matrix[diagonal * settings.factors + diagonal] += settings.regularization;
        }
        while at.half_passes == half_pass {
            let rows = at.rows..(at.rows + BLOCK).min(lists.rows());
            at.rows = rows.end;
            let (fixed, target) = at.sides(is_of_tracks);
            solve_rows(&matrix, fixed, lists, rows, target, settings, shortest);
            if at.rows == lists.rows() {
                (at.half_passes, at.rows) = (half_pass + 1, 0);
            }
            if !each_block(&mut at) {
                return None;
            }
        }
    }
    Some(at.of_tracks)
}

fn begin(playlists: &Csr, postings: &Csr, settings: &AlsSettings) -> Option<Factors> {
    let factors = settings.factors;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let spread = 1.0 / (factors as f32).sqrt() / 10.0;
    let law = Normal::new(0.0, spread).ok()?;
    let mut draw = |rows: usize| -> Vec<f32> { law.sample_iter(&mut rng).take(rows * factors).collect() };
    let of_playlists = draw(playlists.rows());
    let mut of_tracks = draw(postings.rows());
    // A track in a single list, as most are, says nothing about the others: it gets its factor in the end.
    for (track, row) in of_tracks.chunks_exact_mut(factors).enumerate() {
        if postings.row(track).len() < FEWEST_PLAYLISTS {
            row.fill(0.0);
        }
    }
    Some(Factors { of_playlists, of_tracks, half_passes: 0, rows: 0 })
}

/// Solves those of `rows` of `target` whose list is not shorter than `shortest`, with `fixed` held, of which `matrix` is
/// the Gram matrix with the penalty.
fn solve_rows(
    matrix: &[f32],
    fixed: &[f32],
    lists: &Csr,
    rows: Range<usize>,
    target: &mut [f32],
    settings: &AlsSettings,
    shortest: usize,
) {
    let factors = settings.factors;
    let target = &mut target[rows.start * factors..rows.end * factors];
    // Each thread takes the next few rows when it is done with its own: popular tracks, whose lists are long, come first.
    let queue = Mutex::new((rows.start..).step_by(SHARE).zip(target.chunks_mut(SHARE * factors)));
    std::thread::scope(|scope| {
        for _ in 0..settings.threads.max(1) {
            scope.spawn(|| {
                let mut solver = Solver::new(factors, settings.alpha);
                while let Some((first, share)) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (offset, row) in share.chunks_exact_mut(factors).enumerate() {
                                let list = lists.row(first + offset);
                                if list.len() >= shortest {
                                    solver.solve(matrix, fixed, list, row);
                                }
                            }
                        },
                    );
                }
            });
        }
    });
}

/// Conjugate gradients on `(G + α Σ v vᵀ) x = (1 + α) Σ v`.
struct Solver {
    factors: usize,
    alpha: f32,
    residual: Vec<f32>,
    direction: Vec<f32>,
    image: Vec<f32>,
}

impl Solver {
    fn new(factors: usize, alpha: f32) -> Self {
        Self { factors, alpha, residual: vec![0.0; factors], direction: vec![0.0; factors], image: vec![0.0; factors] }
    }

    #[inline(always)]
    fn solve(&mut self, matrix: &[f32], fixed: &[f32], list: &[u32], row: &mut [f32]) {
        let factors = self.factors;
        let vector = |item: u32| &fixed[item as usize * factors..(item as usize + 1) * factors];
        multiply(matrix, row, &mut self.image);
        for (residual, image) in self.residual.iter_mut().zip(&self.image) {
            *residual = -image;
        }
        for &item in list {
            let vector = vector(item);
            axpy(1.0 + self.alpha - self.alpha * dot(vector, row), vector, &mut self.residual);
        }
        self.direction.copy_from_slice(&self.residual);
        let mut squared = dot(&self.residual, &self.residual);
        for _ in 0..STEPS {
            if squared < 1e-12 {
                return;
            }
            multiply(matrix, &self.direction, &mut self.image);
            for &item in list {
                let vector = vector(item);
                axpy(self.alpha * dot(vector, &self.direction), vector, &mut self.image);
            }
            let step = squared / dot(&self.direction, &self.image);
            axpy(step, &self.direction, row);
            axpy(-step, &self.image, &mut self.residual);
            let next = dot(&self.residual, &self.residual);
            let ratio = next / squared;
            for (direction, residual) in self.direction.iter_mut().zip(&self.residual) {
                *direction = residual + ratio * *direction;
            }
            squared = next;
        }
    }
}

/// `image = matrix · vector` for a symmetric matrix.
#[inline(always)]
fn multiply(matrix: &[f32], vector: &[f32], image: &mut [f32]) {
    image.fill(0.0);
    for (row, &value) in matrix.chunks_exact(vector.len()).zip(vector) {
        axpy(value, row, image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_of_one_taste_get_factors_that_point_one_way() {
        // As many factors as tastes, so that they can't tell more apart. Two tastes, of tracks 0..5 and 5..10; each playlist leaves one track out.
        let playlists = Csr::from_lists((0..20).map(|playlist: u32| {
            let first = playlist % 2 * 5;
            (first..first + 5).filter(move |track| track % 5 != playlist / 4)
        }));
        let settings =
            AlsSettings { factors: 2, iterations: 10, alpha: 10.0, regularization: 0.05, seed: 1, threads: 2 };
        let postings = playlists.transpose(11);
        let factors = factorize(&playlists, &postings, &settings, None, |_| true).expect("not stopped");
        let vector = |track: usize| &factors[track * 2..(track + 1) * 2];
        let cosine = |left: usize, right: usize| {
            let (left, right) = (vector(left), vector(right));
            dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
        };
        assert!(cosine(0, 4) > 0.9 && cosine(5, 9) > 0.9, "{} {}", cosine(0, 4), cosine(5, 9));
        assert!(cosine(0, 5).abs() < 0.2, "{}", cosine(0, 5));
        assert!(vector(10).iter().all(|&value| value == 0.0));
        let alone = factorize(&playlists, &postings, &AlsSettings { threads: 1, ..settings }, None, |_| true);
        assert_eq!(alone.as_ref(), Some(&factors), "the result depends on the number of threads");
        let mut begun = None;
        let stopped = factorize(&playlists, &postings, &settings, None, |at| {
            begun = Some(at.clone());
            at.half_passes < 7
        });
        assert_eq!(stopped, None);
        assert_eq!(factorize(&playlists, &postings, &settings, begun, |_| true), Some(factors));
    }
}
