//! Factorization of playlists × tracks by alternating least squares for implicit feedback (iALS).
//!
//! Hu, Koren, Volinsky 2008: every cell of the playlist × track matrix counts, an observed one 1 + α times. Each half
//! step solves one small linear system a row by a few steps of conjugate gradients (Takács, Pilászy, Tikk 2011), which
//! start from where the row was; the cost is that of the observed cells and of one Gram matrix product a row.

use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::math::Csr;
use crate::math::linear::{axpy, dot, gram, vectorised};

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
    /// passes done
    pub passes: usize,
}

/// `[tracks, factors]`: the factors of the tracks, row after row. `each_iteration` is called after every iteration,
/// and stops the factorization by returning false. One that was stopped goes on from `begun`, to the same end.
///
/// Rows are `playlists` (distinct tracks each), columns the tracks that `postings` has lists for.
pub fn factorize(
    playlists: &Csr,
    postings: &Csr,
    settings: &AlsSettings,
    begun: Option<Factors>,
    mut each_iteration: impl FnMut(&mut Factors) -> bool,
) -> Option<Vec<f32>> {
    let mut at = match begun {
        Some(begun) => begun,
        None => begin(playlists, postings, settings)?,
    };
    while at.passes < settings.iterations {
        half_step(&at.of_tracks, playlists, &mut at.of_playlists, settings, 1);
        let shortest = if at.passes + 1 == settings.iterations { 1 } else { FEWEST_PLAYLISTS };
        half_step(&at.of_playlists, postings, &mut at.of_tracks, settings, shortest);
        at.passes += 1;
        if !each_iteration(&mut at) {
            return None;
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
    Some(Factors { of_playlists, of_tracks, passes: 0 })
}

/// Solves every row of `target` whose list is not shorter than `shortest`, with `fixed` held.
fn half_step(fixed: &[f32], lists: &Csr, target: &mut [f32], settings: &AlsSettings, shortest: usize) {
    let factors = settings.factors;
    let mut matrix = gram(fixed, factors, settings.threads);
    for diagonal in 0..factors {
        matrix[diagonal * factors + diagonal] += settings.regularization;
    }
    let (matrix, rows) = (&matrix, lists.rows());
    // Small shares, dealt in turn, so that no thread is left with all the long lists: popular tracks come first.
    let share = rows.div_ceil(settings.threads * 16).max(1);
    let mut of_thread: Vec<Vec<(usize, &mut [f32])>> = (0..settings.threads).map(|_| Vec::new()).collect();
    for (number, chunk) in target.chunks_mut(share * factors).enumerate() {
        of_thread[number % settings.threads].push((number * share, chunk));
    }
    std::thread::scope(|scope| {
        for shares in of_thread {
            scope.spawn(move || {
                let mut solver = Solver::new(factors, settings.alpha);
                for (first, chunk) in shares {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (offset, row) in chunk.chunks_exact_mut(factors).enumerate() {
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
            at.passes < 3
        });
        assert_eq!(stopped, None);
        assert_eq!(factorize(&playlists, &postings, &settings, begun, |_| true), Some(factors));
    }
}
