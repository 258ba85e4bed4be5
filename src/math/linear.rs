//! The little linear algebra that retrieval needs, on plain slices.
//!
//! The loops are written so that the compiler can turn them into vector instructions. Which of these the processor has
//! is asked when the program runs ([`vectorised`]): one program for old processors and for new ones. Results do not
//! depend on it, since the order of additions is fixed by the source.

/// Independent sums in a dot product, so that the compiler can use vector instructions.
pub const LANES: usize = 16;

/// Runs `work` compiled for the vector instructions that this processor has (AVX2 on x86-64 from 2013 on). What it calls
/// is compiled so too if it is inlined.
#[inline]
pub fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(work)
}

/// Dot product of two vectors of the same length.
#[inline(always)]
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left_lanes, left_rest) = left.as_chunks::<LANES>();
    let (right_lanes, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sum(sums) + rest
}

/// Halved again and again: a chain of four additions, not of sixteen.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Dot products of one vector with several of the same length.
#[inline(always)]
fn dots<const DIRECTIONS: usize>(vector: &[f32], directions: [&[f32]; DIRECTIONS]) -> [f32; DIRECTIONS] {
    let (lanes, rest) = vector.as_chunks::<LANES>();
    let directions = directions.map(|direction| direction.as_chunks::<LANES>());
    let mut sums = [[0.0f32; LANES]; DIRECTIONS];
    for (block, vector) in lanes.iter().enumerate() {
        for (sums, (direction, _)) in sums.iter_mut().zip(&directions) {
            let direction = &direction[block];
            for lane in 0..LANES {
                sums[lane] += vector[lane] * direction[lane];
            }
        }
    }
    let mut products = [0.0; DIRECTIONS];
    for ((product, sums), (_, direction)) in products.iter_mut().zip(sums).zip(&directions) {
        *product = sum(sums);
        for (left, right) in rest.iter().zip(*direction) {
            *product += left * right;
        }
    }
    products
}

/// `[rows, directions]`: the dot products of some rows of `table` with each direction.
pub fn products(table: &[f32], rows: &[u32], directions: &[&[f32]]) -> Vec<f32> {
    let length = directions.first().map_or(0, |direction| direction.len());
    let vector = |row: u32| &table[row as usize * length..][..length];
    let mut products = vec![0.0; rows.len() * directions.len()];
    vectorised(
        #[inline(always)]
        || {
            let fours = rows.chunks(4).zip(products.chunks_mut(4 * directions.len()));
            for (rows, products) in fours {
                match *rows {
                    // Four rows, which lie anywhere, come from memory at the same time.
                    [first, second, third, fourth] => {
                        let vectors = [first, second, third, fourth].map(vector);
                        for (place, direction) in directions.iter().enumerate() {
                            for (row, product) in dots(direction, vectors).into_iter().enumerate() {
                                products[row * directions.len() + place] = product;
                            }
                        }
                    }
                    _ => {
                        for (&row, products) in rows.iter().zip(products.chunks_exact_mut(directions.len())) {
                            for (product, direction) in products.iter_mut().zip(directions) {
                                *product = dot(direction, vector(row));
                            }
                        }
                    }
                }
            }
        },
    );
    products
}

/// `sum += factor · vector`.
#[inline(always)]
pub fn axpy(factor: f32, vector: &[f32], sum: &mut [f32]) {
    for (sum, value) in sum.iter_mut().zip(vector) {
        *sum += factor * value;
    }
}

/// `sums` (`[rows, columns]`) += `left` (`[rows, inner]`) · `right` (`[inner, columns]`), for small matrices that the
/// cache holds. `columns` must be a multiple of [`LANES`].
#[inline(always)]
pub fn multiply_add(left: &[f32], right: &[f32], sums: &mut [f32], inner: usize, columns: usize) {
    /// Rows whose sums stay in registers together.
    const ROWS: usize = 4;
    debug_assert!(columns.is_multiple_of(LANES) && right.len() == inner * columns);
    let rows = left.len() / inner;
    let blocks = rows / ROWS;
    for block in 0..blocks {
        let left = &left[block * ROWS * inner..(block + 1) * ROWS * inner];
        add_rows::<ROWS>(left, right, &mut sums[block * ROWS * columns..], inner, columns);
    }
    for row in blocks * ROWS..rows {
        add_rows::<1>(&left[row * inner..(row + 1) * inner], right, &mut sums[row * columns..], inner, columns);
    }
}

#[inline(always)]
fn add_rows<const ROWS: usize>(left: &[f32], right: &[f32], sums: &mut [f32], inner: usize, columns: usize) {
    let left: [&[f32]; ROWS] = std::array::from_fn(|row| &left[row * inner..(row + 1) * inner]);
    for from in (0..columns).step_by(LANES) {
        let mut block = [[0.0f32; LANES]; ROWS];
        for step in 0..inner {
            let values = &right[step * columns + from..step * columns + from + LANES];
            for row in 0..ROWS {
                let factor = left[row][step];
                for lane in 0..LANES {
                    block[row][lane] += factor * values[lane];
                }
            }
        }
        for (row, block) in block.iter().enumerate() {
            axpy(1.0, block, &mut sums[row * columns + from..row * columns + from + LANES]);
        }
    }
}

/// `[dimensions, dimensions]`: the product of the transposed table with itself, for a table `[rows, dimensions]`.
///
/// Sums are formed over fixed blocks of rows, so the result does not depend on the number of threads.
pub fn gram(table: &[f32], dimensions: usize, threads: usize) -> Vec<f32> {
    const BLOCK_ROWS: usize = 4096;
    let blocks: Vec<&[f32]> = table.chunks(BLOCK_ROWS * dimensions).collect();
    let mut sums: Vec<Vec<f32>> = vec![Vec::new(); blocks.len()];
    let share = blocks.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (blocks, sums) in blocks.chunks(share).zip(sums.chunks_mut(share)) {
            scope.spawn(move || {
                for (block, sum) in blocks.iter().zip(sums) {
                    *sum = vec![0.0; dimensions * dimensions];
                    vectorised(
                        #[inline(always)]
                        || {
                            for row in block.chunks_exact(dimensions) {
                                for (&value, sums) in row.iter().zip(sum.chunks_exact_mut(dimensions)) {
                                    axpy(value, row, sums);
                                }
                            }
                        },
                    );
                }
            });
        }
    });
    let mut total = vec![0.0; dimensions * dimensions];
    for sum in &sums {
        axpy(1.0, sum, &mut total);
    }
    total
}

/// `matrix` += `factor` · v vᵀ; only its upper half, which is all that [`solve`] reads.
#[inline(always)]
pub fn add_outer(factor: f32, vector: &[f32], matrix: &mut [f32]) {
    for (row, sums) in matrix.chunks_exact_mut(vector.len()).enumerate() {
        axpy(factor * vector[row], &vector[row..], &mut sums[row..]);
    }
}

/// Solves `matrix · x = right` in place of `right` by Cholesky decomposition; `matrix` (symmetric, positive definite,
/// row after row, of which only the upper half is read) is overwritten. False when it is not positive definite.
pub fn solve(matrix: &mut [f32], right: &mut [f32]) -> bool {
    vectorised(
        #[inline(always)]
        || decompose_and_solve(matrix, right),
    )
}

#[inline(always)]
fn decompose_and_solve(matrix: &mut [f32], right: &mut [f32]) -> bool {
    let size = right.len();
    // matrix = upperᵀ · upper, row after row of it; each is taken off what is left below it, along memory.
    for row in 0..size {
        let (above, below) = matrix.split_at_mut((row + 1) * size);
        let current = &mut above[row * size + row..];
        if current[0] <= 0.0 {
            return false;
        }
        let scale = 1.0 / current[0].sqrt();
        current.iter_mut().for_each(|value| *value *= scale);
        for (offset, below) in below.chunks_exact_mut(size).enumerate() {
            let along = &current[offset + 1..];
            axpy(-along[0], along, &mut below[row + 1 + offset..]);
        }
    }
    for row in 0..size {
        let current = &matrix[row * size + row..(row + 1) * size];
        let (done, behind) = right.split_at_mut(row + 1);
        done[row] /= current[0];
        axpy(-done[row], &current[1..], behind);
    }
    for row in (0..size).rev() {
        let current = &matrix[row * size + row..(row + 1) * size];
        right[row] = (right[row] - dot(&current[1..], &right[row + 1..])) / current[0];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_matrices_are_sums_of_products() {
        let (rows, inner, columns) = (7, 5, 32);
        let value = |index: usize| ((index * 7919) % 101) as f32 / 50.0 - 1.0;
        let left: Vec<f32> = (0..rows * inner).map(value).collect();
        let right: Vec<f32> = (0..inner * columns).map(|index| value(index + 13)).collect();
        let mut sums = vec![1.0; rows * columns];
        multiply_add(&left, &right, &mut sums, inner, columns);
        for row in 0..rows {
            for column in 0..columns {
                let expected: f32 =
                    (0..inner).map(|step| left[row * inner + step] * right[step * columns + column]).sum();
                assert!((sums[row * columns + column] - 1.0 - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_upper_half_is_enough_to_solve() {
        let (mut matrix, mut right) = (vec![0.0; 9], vec![0.0; 3]);
        for vector in [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]] {
            add_outer(1.0, &vector, &mut matrix);
            axpy(vector.iter().sum(), &vector, &mut right);
        }
        assert_eq!((matrix[3], matrix[6], matrix[7]), (0.0, 0.0, 0.0));
        assert!(solve(&mut matrix, &mut right));
        right.iter().for_each(|found| assert!((found - 1.0).abs() < 1e-4, "{right:?}"));
    }

    #[test]
    fn solving_gives_back_what_was_multiplied() {
        let table: Vec<f32> = (0..40 * 20).map(|index| ((index * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        let mut matrix = gram(&table, 20, 2);
        let expected: Vec<f32> = (0..20).map(|index| index as f32 - 7.0).collect();
        let mut right: Vec<f32> = matrix.chunks_exact(20).map(|row| dot(row, &expected)).collect();
        assert!(solve(&mut matrix, &mut right));
        for (found, expected) in right.iter().zip(&expected) {
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
        assert!(!solve(&mut [1.0, 2.0, 2.0, 1.0], &mut [1.0, 1.0]));
    }
}
