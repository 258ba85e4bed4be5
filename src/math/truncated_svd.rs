//! Who rated or played what, as a truncated singular value decomposition.
//!
//! The matrix is users × tracks, value / (√n · c^¼) where the user did, of n tracks in all, with c users of that track, and
//! 0 elsewhere; the value is 1 unless it is given. A block of vectors is multiplied with it back and forth and made
//! orthonormal each time (subspace iteration; Halko, Martinsson and Tropp 2011, algorithm 4.4, with Rayleigh-Ritz at the
//! end). Nothing of the size of the matrix is ever there: a pass costs the events times the vectors.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::Csr;
use super::linear::{axpy, gram};

/// Vectors carried along beyond those wanted, so that these come out sharp.
const OVERSAMPLING: usize = 8;
/// Passes back and forth.
const PASSES: usize = 8;
/// Singular values below this share of the first one are noise.
const SMALLEST: f64 = 1e-3;
/// Sweeps of the Jacobi method; it converges quadratically after the first few.
const SWEEPS: usize = 30;

/// Singular vectors and values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decomposition {
    /// `[tracks, rank]`: orthonormal columns
    pub vectors: Vec<f32>,
    /// `[rank]`, falling
    pub singular: Vec<f32>,
    /// `[users, rank]`: the matrix times `vectors`, so that the product of a user's row and a track's row is near to what
    /// the matrix has there
    pub users: Vec<f32>,
}

/// Decomposes who did what: `tracks_of` has a list for each user, distinct tracks each, with a value for each of all lists'
/// items or none. As many as `rank` singular values, fewer where the matrix has no more.
pub fn decompose(
    tracks_of: &Csr,
    values: Option<&[f32]>,
    tracks: usize,
    rank: usize,
    seed: u64,
    threads: usize,
) -> Decomposition {
    if rank == 0 {
        return Decomposition::default();
    }
    let (users_of, transposed) = match values {
        Some(values) => tracks_of.transpose_with(tracks, values),
        None => (tracks_of.transpose(tracks), Vec::new()),
    };
    let transposed = values.map(|_| transposed.as_slice());
    let weights: [Vec<f32>; 2] = [
        tracks_of.iter().map(|list| (list.len().max(1) as f32).powf(-0.5)).collect(),
        users_of.iter().map(|list| (list.len().max(1) as f32).powf(-0.25)).collect(),
    ];
    let width = (rank + OVERSAMPLING).min(tracks).min(tracks_of.rows());
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut vectors: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(tracks * width).collect();
    orthonormalise(&mut vectors, width);
    for _ in 0..PASSES {
        let of_users = multiply(tracks_of, values, [&weights[1], &weights[0]], &vectors, width, threads);
        vectors = multiply(&users_of, transposed, [&weights[0], &weights[1]], &of_users, width, threads);
        orthonormalise(&mut vectors, width);
    }
    let of_users = multiply(tracks_of, values, [&weights[1], &weights[0]], &vectors, width, threads);
    let squared: Vec<f64> = gram(&of_users, width.max(1), threads).into_iter().map(f64::from).collect();
    let (squares, rotation) = eigen(squared, width);
    let largest = squares.first().copied().unwrap_or_default();
    let kept = squares.iter().take(rank).take_while(|&&value| value > 0.0 && value >= SMALLEST * SMALLEST * largest);
    let kept = kept.count();
    let rotated = |table: &[f32]| {
        let mut rotated = vec![0.0; table.len() / width.max(1) * kept];
        for (row, target) in table.chunks_exact(width.max(1)).zip(rotated.chunks_exact_mut(kept.max(1))) {
            for (column, target) in target.iter_mut().enumerate() {
                let turned =
                    row.iter().enumerate().map(|(from, &value)| value * rotation[from * width + column] as f32);
                *target = turned.sum();
            }
        }
        rotated
    };
    let singular = squares[..kept].iter().map(|value| value.sqrt() as f32).collect();
    Decomposition { vectors: rotated(&vectors), singular, users: rotated(&of_users) }
}

/// For each list the sum of its members' rows of `table` (`[members, width]`), each times its value, if there are any, and
/// its weight, times the list's weight.
fn multiply(
    lists: &Csr,
    values: Option<&[f32]>,
    weights: [&[f32]; 2],
    table: &[f32],
    width: usize,
    threads: usize,
) -> Vec<f32> {
    let mut sums = vec![0.0; lists.rows() * width];
    let share = lists.rows().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (number, sums) in sums.chunks_mut((share * width).max(1)).enumerate() {
            scope.spawn(move || {
                for (offset, sum) in sums.chunks_exact_mut(width).enumerate() {
                    let list = number * share + offset;
                    let mut add = |member: u32, value: f32| {
                        let member = member as usize;
                        let factor = value * weights[0][member] * weights[1][list];
                        axpy(factor, &table[member * width..(member + 1) * width], sum);
                    };
                    match values {
                        Some(values) => lists.row_with(list, values).for_each(|(member, value)| add(member, value)),
                        None => lists.row(list).iter().for_each(|&member| add(member, 1.0)),
                    }
                }
            });
        }
    });
    sums
}

/// Makes the columns of a table `[rows, width]` orthonormal by the modified Gram-Schmidt process, twice; a column that
/// the ones before it span becomes 0.
fn orthonormalise(table: &mut [f32], width: usize) {
    let rows = table.len() / width.max(1);
    let mut columns: Vec<Vec<f32>> =
        (0..width).map(|column| (0..rows).map(|row| table[row * width + column]).collect()).collect();
    let product = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    for current in 0..width {
        let (before, rest) = columns.split_at_mut(current);
        let column = &mut rest[0];
        let length = product(column, column).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let part = product(other, column) as f32;
                axpy(-part, other, column);
            }
        }
        let left = product(column, column).sqrt();
        let factor = if left > 1e-5 * length { 1.0 / left } else { 0.0 };
        column.iter_mut().for_each(|value| *value *= factor as f32);
    }
    for (column, values) in columns.iter().enumerate() {
        for (row, value) in values.iter().enumerate() {
            table[row * width + column] = *value;
        }
    }
}

/// Eigenvalues, falling, and eigenvectors (columns of `[size, size]`) of a symmetric matrix, by Jacobi's rotations
/// (Golub and Van Loan 2013, section 8.5).
fn eigen(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; size * size];
    (0..size).for_each(|index| vectors[index * size + index] = 1.0);
    for _ in 0..SWEEPS {
        let off: f64 = (0..size)
            .flat_map(|row| (0..row).map(move |column| (row, column)))
            .map(|(row, column)| matrix[row * size + column].powi(2))
            .sum();
        let diagonal: f64 = (0..size).map(|index| matrix[index * size + index].powi(2)).sum();
        if off <= 1e-24 * diagonal {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                let apart = matrix[p * size + q];
                if apart == 0.0 {
                    continue;
                }
                let theta = (matrix[q * size + q] - matrix[p * size + p]) / (2.0 * apart);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (t * t + 1.0).sqrt();
                let sine = t * cosine;
                for k in 0..size {
                    let (left, right) = (matrix[k * size + p], matrix[k * size + q]);
                    matrix[k * size + p] = cosine * left - sine * right;
                    matrix[k * size + q] = sine * left + cosine * right;
                }
                for k in 0..size {
                    let (left, right) = (matrix[p * size + k], matrix[q * size + k]);
                    matrix[p * size + k] = cosine * left - sine * right;
                    matrix[q * size + k] = sine * left + cosine * right;
                    let (left, right) = (vectors[k * size + p], vectors[k * size + q]);
                    vectors[k * size + p] = cosine * left - sine * right;
                    vectors[k * size + q] = sine * left + cosine * right;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&left, &right| matrix[right * size + right].total_cmp(&matrix[left * size + left]));
    let values = order.iter().map(|&index| matrix[index * size + index]).collect();
    let sorted = (0..size).flat_map(|row| order.iter().map(move |&column| (row, column)));
    (values, sorted.map(|(row, column)| vectors[row * size + column]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_of_a_matrix_by_hand() {
        // Eigenvalues 3 and 1, along (1, 1) and (1, −1).
        let (values, vectors) = eigen(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-9 && (values[1] - 1.0).abs() < 1e-9, "{values:?}");
        assert!((vectors[0] - vectors[2]).abs() < 1e-9 && (vectors[1] + vectors[3]).abs() < 1e-9, "{vectors:?}");
    }

    /// Two groups of users that share no track: blocks of equal entries, whose singular values are entry · √(cells).
    #[test]
    fn groups_that_share_nothing_come_apart() {
        let users = Csr::from_lists((0..9u32).map(|user| if user < 6 { vec![0, 1, 2] } else { vec![3, 4] }));
        let found = decompose(&users, None, 5, 4, 1, 2);
        let expected =
            [(18.0f32).sqrt() / (3f32.sqrt() * 6f32.powf(0.25)), (6.0f32).sqrt() / (2f32.sqrt() * 3f32.powf(0.25))];
        assert_eq!(found.singular.len(), 2, "{:?}", found.singular);
        for (found, expected) in found.singular.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        let row = |track: usize| &found.vectors[track * 2..track * 2 + 2];
        for track in 0..3 {
            assert!((row(track)[0].abs() - 1.0 / 3f32.sqrt()).abs() < 1e-4 && row(track)[1].abs() < 1e-4);
        }
        assert!((row(4)[1].abs() - 0.5f32.sqrt()).abs() < 1e-4);
        assert_eq!(decompose(&users, None, 5, 4, 1, 1), found, "the result depends on the number of threads");
    }

    /// Of full rank the product of the factors is the matrix: 2 / (√2 · 1^¼), 1 / (√2 · 2^¼), 3 / (√1 · 2^¼).
    #[test]
    fn users_times_tracks_is_the_matrix() {
        let lists = Csr::from_lists([vec![0, 1], vec![1]]);
        let found = decompose(&lists, Some(&[2.0, 1.0, 3.0]), 2, 2, 1, 1);
        let product = |user: usize, track: usize| -> f32 {
            let (user, track) = (&found.users[2 * user..2 * user + 2], &found.vectors[2 * track..2 * track + 2]);
            user.iter().zip(track).map(|(user, track)| user * track).sum()
        };
        let (root, fourth) = (2f32.sqrt(), 2f32.powf(0.25));
        for (user, track, expected) in
            [(0, 0, 2.0 / root), (0, 1, 1.0 / (root * fourth)), (1, 0, 0.0), (1, 1, 3.0 / fourth)]
        {
            assert!((product(user, track) - expected).abs() < 1e-4, "{user} {track}: {}", product(user, track));
        }
    }

    #[test]
    fn nothing_decomposes_into_nothing() {
        let found = decompose(&Csr::from_lists([vec![], vec![]]), None, 3, 2, 1, 1);
        assert_eq!((found.vectors.len(), found.singular.len()), (0, 0));
    }
}
