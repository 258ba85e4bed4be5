//! Vectors as bytes, for a first rough pass over very many of them.
//!
//! A row is kept as signed bytes with a scale of its own: a quarter of the memory, and the time of a pass is that of
//! reading it. Rows lie in blocks of sixteen, pair of dimensions by pair of dimensions, so that one instruction
//! multiplies and adds a pair for eight rows and no sum goes across the lanes of a register. Several queries share a
//! pass: they cost arithmetic, but no further reading. What is best by these scores is for the caller to score again
//! exactly.

use super::top_k::Best;

/// Rows of a block.
const ROWS: usize = 16;
/// Queries that go over a block together; their sums stay in registers.
const QUERIES: usize = 4;
/// Largest value of a query's integers: times 127, two of them and a thousand dimensions stay below 2³¹.
const LARGEST: f32 = 8_191.0;

/// `[rows, dimensions]` as bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ByteTable {
    rows: usize,
    /// dimensions by two, rounded up
    pairs: usize,
    /// `[blocks, pairs, ROWS, 2]`
    bytes: Vec<i8>,
    /// `[blocks, ROWS]`: what a byte of the row stands for
    scales: Vec<f32>,
}

/// A query as whole numbers.
struct Integers {
    /// `[pairs]`: two 16-bit integers each, the first one in the lower half
    pairs: Vec<i32>,
    scale: f32,
}

impl ByteTable {
    /// Of vectors, row after row.
    pub fn new(vectors: &[f32], dimensions: usize) -> Self {
        let pairs = dimensions.div_ceil(2);
        let rows = vectors.len() / dimensions.max(1);
        let blocks = rows.div_ceil(ROWS);
        let mut bytes = vec![0i8; blocks * pairs * ROWS * 2];
        let mut scales = vec![0.0; blocks * ROWS];
        for (number, row) in vectors.chunks_exact(dimensions.max(1)).enumerate() {
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales[number] = scale;
            let block = number / ROWS * pairs * ROWS * 2 + number % ROWS * 2;
            for (dimension, value) in row.iter().enumerate() {
                bytes[block + dimension / 2 * ROWS * 2 + dimension % 2] = (value / scale).round() as i8;
            }
        }
        Self { rows, pairs, bytes, scales }
    }

    /// For each query the best `limit` rows by rough score plus `bias` (`[rows]`, or empty), in no order.
    pub fn best(&self, queries: &[&[f32]], bias: &[f32], limit: usize) -> Vec<Vec<(u32, f32)>> {
        let limit = limit.clamp(1, self.rows.max(1));
        let mut found = Vec::with_capacity(queries.len());
        for group in queries.chunks(QUERIES) {
            let integers: Vec<Integers> = group.iter().map(|query| self.integers(query)).collect();
            let bests = match integers.as_slice() {
                [one] => self.pass([one], bias, limit),
                [one, two] => self.pass([one, two], bias, limit),
                [one, two, three] => self.pass([one, two, three], bias, limit),
                [one, two, three, four, ..] => self.pass([one, two, three, four], bias, limit),
                [] => Vec::new(),
            };
            found.extend(bests.into_iter().map(Best::finish));
        }
        found
    }

    fn integers(&self, query: &[f32]) -> Integers {
        let largest = query.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / LARGEST } else { 1.0 };
        let whole = |value: Option<&f32>| (value.copied().unwrap_or(0.0) / scale).round() as i32;
        let pair = |pair: usize| whole(query.get(2 * pair)) & 0xffff | whole(query.get(2 * pair + 1)) << 16;
        Integers { pairs: (0..self.pairs).map(pair).collect(), scale }
    }

    fn pass<const Q: usize>(&self, queries: [&Integers; Q], bias: &[f32], limit: usize) -> Vec<Best> {
        let mut best: Vec<Best> = (0..Q).map(|_| Best::new(limit, f32::NEG_INFINITY)).collect();
        let pass = Pass { table: self, queries, bias, best: &mut best };
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            simd.vectorize(
                #[inline(always)]
                || {
                    pass.run(
                        #[inline(always)]
                        |block, queries| avx2::products(simd, block, queries),
                    )
                },
            );
            return best;
        }
        pass.run(plain::<Q>);
        best
    }
}

struct Pass<'a, const Q: usize> {
    table: &'a ByteTable,
    queries: [&'a Integers; Q],
    bias: &'a [f32],
    best: &'a mut [Best],
}

impl<const Q: usize> Pass<'_, Q> {
    /// Goes over all blocks; `products` gives the dot products of a block's rows with each query.
    #[inline(always)]
    fn run(self, products: impl Fn(&[i8], &[&[i32]; Q]) -> [[i32; ROWS]; Q]) {
        let Self { table, queries, bias, best } = self;
        let pairs: [&[i32]; Q] = queries.map(|query| query.pairs.as_slice());
        let blocks = table.bytes.chunks_exact((table.pairs * ROWS * 2).max(1));
        for (block, (bytes, scales)) in blocks.zip(table.scales.as_chunks::<ROWS>().0).enumerate() {
            let products = products(bytes, &pairs);
            for ((products, query), best) in products.iter().zip(queries).zip(&mut *best) {
                let mut scores = [0.0f32; ROWS];
                for ((score, &product), scale) in scores.iter_mut().zip(products).zip(scales) {
                    *score = product as f32 * scale * query.scale;
                }
                if let Some(bias) = bias.get(block * ROWS..) {
                    scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
                }
                let mut any = false;
                for score in scores {
                    any |= score >= best.bar();
                }
                if any {
                    for (row, score) in (block * ROWS..table.rows).zip(scores) {
                        best.push(row as u32, score);
                    }
                }
            }
        }
    }
}

/// Without special instructions.
fn plain<const Q: usize>(block: &[i8], queries: &[&[i32]; Q]) -> [[i32; ROWS]; Q] {
    let mut sums = [[0i32; ROWS]; Q];
    for (pair, bytes) in block.as_chunks::<{ 2 * ROWS }>().0.iter().enumerate() {
        for (query, sums) in queries.iter().zip(&mut sums) {
            let (first, second) = (i32::from(query[pair] as i16), query[pair] >> 16);
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum += i32::from(bytes[2 * row]) * first + i32::from(bytes[2 * row + 1]) * second;
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! With AVX2, which x86-64 processors have had since 2013.

    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::cast;
    use pulp::x86::V3;

    use crate::math::quantized::ROWS;

    #[inline(always)]
    pub(crate) fn products<const Q: usize>(simd: V3, block: &[i8], queries: &[&[i32]; Q]) -> [[i32; ROWS]; Q] {
        let widen = |bytes: [i8; 16]| -> __m256i { simd.avx2._mm256_cvtepi8_epi16(cast::<_, __m128i>(bytes)) };
        let mut sums = [[simd.avx._mm256_setzero_si256(); 2]; Q];
        for (pair, bytes) in block.as_chunks::<{ 2 * ROWS }>().0.iter().enumerate() {
            let [low, high]: [[i8; 16]; 2] = cast(*bytes);
            let (low, high) = (widen(low), widen(high));
            for (query, sums) in queries.iter().zip(&mut sums) {
                let factors = simd.avx._mm256_set1_epi32(query[pair]);
                sums[0] = simd.avx2._mm256_add_epi32(sums[0], simd.avx2._mm256_madd_epi16(low, factors));
                sums[1] = simd.avx2._mm256_add_epi32(sums[1], simd.avx2._mm256_madd_epi16(high, factors));
            }
        }
        sums.map(cast)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::math::linear::dot;
    use crate::math::top_k::keep_best;

    #[test]
    fn the_best_by_bytes_hold_the_best_by_floats() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        for dimensions in [1, 7, 64] {
            let rows = 3_005;
            let vectors: Vec<f32> = (0..rows * dimensions).map(|_| rng.random_range(-1.0..1.0)).collect();
            let bias: Vec<f32> = (0..rows).map(|_| rng.random_range(0.0..0.2)).collect();
            let table = ByteTable::new(&vectors, dimensions);
            let vector = |row: usize| &vectors[row * dimensions..(row + 1) * dimensions];
            let queries: Vec<&[f32]> = (0..7).map(|number| vector(number * 400)).collect();
            for bias in [&bias[..], &[]] {
                for (query, found) in queries.iter().zip(table.best(&queries, bias, 60)) {
                    let exact = |row: usize| dot(query, vector(row)) + bias.get(row).copied().unwrap_or(0.0);
                    let error = 0.01 * (dimensions as f32).sqrt();
                    assert!(found.iter().all(|&(row, score)| (score - exact(row as usize)).abs() < error));
                    let mut all: Vec<(u32, f32)> = (0..rows).map(|row| (row as u32, exact(row))).collect();
                    keep_best(&mut all, 30);
                    let missed = all.iter().filter(|best| found.iter().all(|near| near.0 != best.0)).count();
                    // In one dimension whole rows of scores are as good as equal.
                    assert!(found.len() == 60 && (missed == 0 || dimensions == 1), "{dimensions}: {missed}");
                }
            }
        }
    }

    #[test]
    fn instructions_and_plain_loops_give_the_same_integers() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let vectors: Vec<f32> = (0..160 * 9).map(|_| rng.random_range(-1.0..1.0)).collect();
        let table = ByteTable::new(&vectors, 9);
        let integers = [table.integers(&vectors[..9]), table.integers(&vectors[9..18])];
        let mut by_loops = [Best::new(200, f32::NEG_INFINITY), Best::new(200, f32::NEG_INFINITY)];
        let queries = [&integers[0], &integers[1]];
        Pass { table: &table, queries, bias: &[], best: &mut by_loops }.run(plain::<2>);
        for (best, by_loops) in table.pass(queries, &[], 200).into_iter().zip(by_loops) {
            assert_eq!(best.finish(), by_loops.finish());
        }
    }

    #[test]
    fn an_empty_table_answers_nothing() {
        assert_eq!(ByteTable::new(&[], 8).best(&[&[1.0; 8]], &[], 5), [Vec::new()]);
    }
}
