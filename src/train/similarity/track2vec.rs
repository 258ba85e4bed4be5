//! Track2Vec: skip-gram with negative sampling over playlists (Mikolov et al. 2013; Caselles-Dupré et al. 2018 for
//! music, arXiv 1804.04212).
//!
//! Two networks share everything but the score of a target track t and a context track c:
//!
//! * `cosine`: σ(w · cos(u_t, u_c) + b), one table u, and w, b the weights of the one sigmoid unit.
//! * `sgns`: σ(u_t · v_c), two tables u and v; the tracks' vectors are u.
//!
//! The loss of a pair is −log σ(score of the pair) − Σ log σ(−score of each negative). Negatives are drawn once for a
//! tile of pairs: with a pool of N tracks and k negatives wished for, each pair's loss against the pool counts k/N. The
//! expectation is that of k negatives of its own, and a tile's scores and gradients are three small matrix products
//! that stay in the first-level cache (Ji et al. 2016).
//!
//! Gradients are written out rather than left to autograd: the network is one product and one sigmoid, and what autograd
//! keeps for each of its steps is larger than the tables' rows themselves.

use crate::math::linear::{LANES, axpy, dot, multiply_add, vectorised};

/// Which of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// one table, cosine, a sigmoid unit
    Cosine,
    /// skip-gram with negative sampling: two tables, dot product
    Sgns,
}

/// Pairs that share a pool of negatives.
pub const TILE: usize = 64;

/// Parts of a batch that threads may share. Fixed, so that the result does not depend on the number of threads.
const PARTS: usize = 2;

/// Pairs of a batch. Targets, contexts and negatives are slots: numbers of the rows that the batch touches, those of
/// `target_rows` first and those of `context_rows` behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairBatch {
    /// distinct rows of the first table that the batch touches
    pub target_rows: Vec<u32>,
    /// distinct rows of the second table that the batch touches; empty with one table
    pub context_rows: Vec<u32>,
    /// target of each pair
    pub targets: Vec<u32>,
    /// context of each pair
    pub contexts: Vec<u32>,
    /// `[tiles, pool]`: the negatives of every [`TILE`] pairs
    pub negatives: Vec<u32>,
}

/// The network's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Track2Vec {
    architecture: Architecture,
    dimensions: usize,
    /// `[tracks, dimensions]` tables: u, and v with two
    pub tables: Vec<Vec<f32>>,
    /// w and b of the sigmoid unit; used by `cosine` alone
    pub unit: [f32; 2],
}

/// Where w starts: at 1, a cosine could never say more than σ(1) = .73.
const INITIAL_WEIGHT: f32 = 5.0;

/// Mean loss of a batch's pairs and its gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// mean loss of a pair
    pub loss: f64,
    /// for each slot the gradient of its row, `stride` values of which the first `dimensions` count
    pub slots: Vec<f32>,
    /// length of a row of `slots`
    pub stride: usize,
    /// gradient of the unit; zeros for `sgns`
    pub unit: [f32; 2],
}

/// What one part of a batch adds to its gradients.
#[derive(Default)]
struct Part {
    slots: Vec<f32>,
    loss: f64,
    unit: [f64; 2],
}

impl Track2Vec {
    /// A new network for `tracks` tracks. `initial` gives the first table's start, `[tracks * dimensions]` values; the
    /// second starts at zero, as is usual.
    pub fn new(architecture: Architecture, tracks: usize, dimensions: usize, initial: Vec<f32>) -> Self {
        let mut tables = vec![initial];
        if architecture == Architecture::Sgns {
            tables.push(vec![0.0; tracks * dimensions]);
        }
        Self { architecture, dimensions, tables, unit: [INITIAL_WEIGHT, 0.0] }
    }

    /// Length of a track's vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Mean loss of the batch's pairs and its gradients for the rows that it touches. `negatives` is k.
    pub fn gradients(&self, batch: &PairBatch, negatives: f32, threads: usize) -> Gradients {
        // Rows of compact tables are a multiple of the lanes long, so that no loop has a rest.
        let stride = self.dimensions.next_multiple_of(LANES);
        let mut vectors = self.gather(batch, stride);
        let lengths = match self.architecture {
            Architecture::Cosine => normalize(&mut vectors, stride),
            Architecture::Sgns => Vec::new(),
        };
        let tiles = batch.targets.len().div_ceil(TILE);
        let pool = batch.negatives.len() / tiles.max(1);
        let share = tiles.div_ceil(PARTS);
        let work = |part: usize| {
            let (first, last) = ((part * share).min(tiles), ((part + 1) * share).min(tiles));
            let mut sums = Part { slots: vec![0.0; vectors.len()], ..Part::default() };
            vectorised(
                #[inline(always)]
                || {
                    let mut scratch = Scratch::new(pool, stride);
                    for tile in first..last {
                        self.add_tile(batch, tile, pool, negatives, &vectors, &mut scratch, &mut sums);
                    }
                },
            );
            sums
        };
        let parts: Vec<Part> = if threads > 1 {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (1..PARTS).map(|part| scope.spawn(move || work(part))).collect();
                let first = work(0);
                // A part is missing only if its thread panicked, which the scope then says.
                std::iter::once(first).chain(workers.into_iter().filter_map(|worker| worker.join().ok())).collect()
            })
        } else {
            (0..PARTS).map(work).collect()
        };
        let scale = 1.0 / batch.targets.len().max(1) as f32;
        let mut total = Gradients { loss: 0.0, slots: vec![0.0; vectors.len()], stride, unit: [0.0; 2] };
        for part in &parts {
            total.loss += part.loss * f64::from(scale);
            axpy(scale, &part.slots, &mut total.slots);
            for (sum, value) in total.unit.iter_mut().zip(part.unit) {
                *sum += value as f32 * scale;
            }
        }
        if self.architecture == Architecture::Cosine {
            // From the gradient of a vector of length 1 to that of the row: what lies along the row has no effect.
            let rows = total.slots.chunks_exact_mut(stride).zip(vectors.chunks_exact(stride));
            for ((gradient, vector), length) in rows.zip(&lengths) {
                axpy(-dot(gradient, vector), vector, gradient);
                gradient.iter_mut().for_each(|value| *value /= length);
            }
        }
        total
    }

    /// The rows that a batch touches, one after another, `stride` values each.
    fn gather(&self, batch: &PairBatch, stride: usize) -> Vec<f32> {
        let lists = [&batch.target_rows, &batch.context_rows];
        let mut vectors = vec![0.0; lists.iter().map(|rows| rows.len()).sum::<usize>() * stride];
        let mut slots = vectors.chunks_exact_mut(stride);
        for (table, rows) in self.tables.iter().zip(lists) {
            for (&row, slot) in rows.iter().zip(&mut slots) {
                let from = row as usize * self.dimensions;
                slot[..self.dimensions].copy_from_slice(&table[from..from + self.dimensions]);
            }
        }
        vectors
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what a tile reads and what it adds to, of one loop")]
    fn add_tile(
        &self,
        batch: &PairBatch,
        tile: usize,
        pool: usize,
        negatives: f32,
        vectors: &[f32],
        scratch: &mut Scratch,
        sums: &mut Part,
    ) {
        let Scratch { stride, width, .. } = *scratch;
        let (weight, bias) = match self.architecture {
            Architecture::Cosine => (self.unit[0], self.unit[1]),
            Architecture::Sgns => (1.0, 0.0),
        };
        let from = tile * TILE;
        let to = (from + TILE).min(batch.targets.len());
        let (targets, contexts) = (&batch.targets[from..to], &batch.contexts[from..to]);
        let pool = &batch.negatives[tile * pool..(tile + 1) * pool];
        let row = |slot: u32| slot as usize * stride..(slot as usize + 1) * stride;
        for (target, &slot) in scratch.targets.chunks_exact_mut(stride).zip(targets) {
            target.copy_from_slice(&vectors[row(slot)]);
        }
        for (place, &slot) in pool.iter().enumerate() {
            let vector = &vectors[row(slot)];
            scratch.pool[place * stride..(place + 1) * stride].copy_from_slice(vector);
            for (offset, &value) in vector.iter().enumerate() {
                scratch.pool_columns[offset * width + place] = value;
            }
        }
        let pairs = targets.len();
        scratch.scores.fill(0.0);
        multiply_add(&scratch.targets[..pairs * stride], &scratch.pool_columns, &mut scratch.scores, stride, width);

        // From scores to the loss's derivatives by them, in place.
        let share = negatives / pool.len() as f32;
        let (mut by_weight, mut by_bias, mut loss) = (0.0f32, 0.0f32, 0.0f64);
        for (pair, scores) in scratch.scores.chunks_exact_mut(width).take(pairs).enumerate() {
            // Π (1 − σ) is small, but not too small for a double: one logarithm a pair instead of one a negative.
            let mut none_of_them = 1.0f64;
            let mut derivatives = [0.0f32; LANES];
            for (scores, slots) in scores.chunks_exact_mut(LANES).zip(pool.chunks(LANES)) {
                for (derivative, score) in derivatives.iter_mut().zip(scores.iter()) {
                    *derivative = sigmoid(weight * score + bias);
                }
                for ((derivative, score), &slot) in derivatives.iter().zip(scores.iter_mut()).zip(slots) {
                    // A pool's track that is the pair's own context is no negative of it.
                    let counts = f32::from(u8::from(slot != contexts[pair]));
                    none_of_them *= f64::from(1.0 - counts * derivative.min(1.0 - 1e-6));
                    let derivative = counts * share * derivative;
                    by_weight += derivative * *score;
                    by_bias += derivative;
                    *score = weight * derivative;
                }
                scores[slots.len()..].fill(0.0);
            }
            loss -= f64::from(share) * none_of_them.ln();
        }

        scratch.target_sums.fill(0.0);
        multiply_add(&scratch.scores[..pairs * width], &scratch.pool, &mut scratch.target_sums, width, stride);
        for (pair, (&target, &context)) in targets.iter().zip(contexts).enumerate() {
            let own = &scratch.targets[pair * stride..(pair + 1) * stride];
            let other = &vectors[row(context)];
            let product = dot(own, other);
            let score = weight * product + bias;
            let probability = sigmoid(score);
            loss -= f64::from(probability.max(1e-7)).ln();
            let derivative = probability - 1.0;
            by_weight += derivative * product;
            by_bias += derivative;
            axpy(weight * derivative, own, &mut sums.slots[row(context)]);
            let target_sums = &mut scratch.target_sums[pair * stride..(pair + 1) * stride];
            axpy(weight * derivative, other, target_sums);
            axpy(1.0, target_sums, &mut sums.slots[row(target)]);
        }
        for (pair, scores) in scratch.scores.chunks_exact(width).take(pairs).enumerate() {
            for (place, &score) in scores.iter().enumerate() {
                scratch.by_negative[place * TILE + pair] = score;
            }
        }
        if pairs < TILE {
            scratch.by_negative.chunks_exact_mut(TILE).for_each(|scores| scores[pairs..].fill(0.0));
        }
        scratch.pool_sums.fill(0.0);
        multiply_add(&scratch.by_negative, &scratch.targets, &mut scratch.pool_sums, TILE, stride);
        for (pool_sums, &slot) in scratch.pool_sums.chunks_exact(stride).zip(pool) {
            axpy(1.0, pool_sums, &mut sums.slots[row(slot)]);
        }
        sums.loss += loss;
        if self.architecture == Architecture::Cosine {
            sums.unit[0] += f64::from(by_weight);
            sums.unit[1] += f64::from(by_bias);
        }
    }

    /// The tracks' vectors, `[tracks, dimensions]`, each row of length 1 (or zero), and what their lengths were.
    pub fn normalized_vectors(&self) -> (Vec<f32>, Vec<f32>) {
        let mut vectors = self.tables[0].clone();
        let lengths = normalize(&mut vectors, self.dimensions);
        (vectors, lengths)
    }

    /// How many pairs and negatives of a batch the sigmoid puts on the right side of one half, and how many there are. A
    /// pair's share of its pool counts as `negatives`.
    pub fn accuracy(&self, batch: &PairBatch, negatives: f64) -> (f64, f64) {
        let mut vectors = self.gather(batch, self.dimensions);
        if self.architecture == Architecture::Cosine {
            normalize(&mut vectors, self.dimensions);
        }
        let vector = |slot: u32| &vectors[slot as usize * self.dimensions..(slot as usize + 1) * self.dimensions];
        let is_positive = |target: u32, other: u32| {
            let product = dot(vector(target), vector(other));
            match self.architecture {
                Architecture::Cosine => self.unit[0] * product + self.unit[1] > 0.0,
                Architecture::Sgns => product > 0.0,
            }
        };
        let pool = batch.negatives.len() / batch.targets.len().div_ceil(TILE).max(1);
        let mut correct = 0.0;
        for (pair, (&target, &context)) in batch.targets.iter().zip(&batch.contexts).enumerate() {
            let tile = &batch.negatives[pair / TILE * pool..(pair / TILE + 1) * pool];
            let right = tile.iter().filter(|&&slot| slot == context || !is_positive(target, slot)).count();
            correct += f64::from(u8::from(is_positive(target, context)));
            correct += negatives * right as f64 / pool.max(1) as f64;
        }
        (correct, batch.targets.len() as f64 * (1.0 + negatives))
    }
}

/// Arrays that a tile works in.
struct Scratch {
    stride: usize,
    /// the pool's size, up to a multiple of [`LANES`]
    width: usize,
    /// `[TILE, stride]`
    targets: Vec<f32>,
    /// `[TILE, stride]`
    target_sums: Vec<f32>,
    /// `[width, stride]`
    pool: Vec<f32>,
    /// `[stride, width]`
    pool_columns: Vec<f32>,
    /// `[width, stride]`
    pool_sums: Vec<f32>,
    /// `[TILE, width]`
    scores: Vec<f32>,
    /// `[width, TILE]`
    by_negative: Vec<f32>,
}

impl Scratch {
    fn new(pool: usize, stride: usize) -> Self {
        let width = pool.next_multiple_of(LANES);
        Self {
            stride,
            width,
            targets: vec![0.0; TILE * stride],
            target_sums: vec![0.0; TILE * stride],
            pool: vec![0.0; width * stride],
            pool_columns: vec![0.0; stride * width],
            pool_sums: vec![0.0; width * stride],
            scores: vec![0.0; TILE * width],
            by_negative: vec![0.0; width * TILE],
        }
    }
}

/// Brings rows to length 1, and gives the lengths that they had.
fn normalize(vectors: &mut [f32], stride: usize) -> Vec<f32> {
    vectors
        .chunks_exact_mut(stride)
        .map(|row| {
            let length = dot(row, row).sqrt().max(1e-12);
            row.iter_mut().for_each(|value| *value /= length);
            length
        })
        .collect()
}

/// 1 / (1 + e^−x) to within 1e-6, in operations that the compiler can do for many numbers at once.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    /// 1.5 · 2^23: added to a number below 2^22 it leaves the nearest whole number in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    // e^−x = 2^whole · 2^rest with rest in ±½. Beyond ±30 the sigmoid is 0 or 1 as far as an f32 can tell.
    let exponent = -x.clamp(-30.0, 30.0) * std::f32::consts::LOG2_E;
    let rounded = exponent + ROUNDING;
    let rest = exponent - (rounded - ROUNDING);
    let power = 1.0
        + rest
            * (std::f32::consts::LN_2
                + rest * (0.240_226_5 + rest * (0.055_504_1 + rest * (0.009_618_1 + rest * 0.001_333_4))));
    let scaled = f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23));
    1.0 / (1.0 + scaled)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Loss of a batch as the formula says it, in f64, pair by pair.
    fn loss(model: &Track2Vec, batch: &PairBatch, negatives: f64) -> f64 {
        let dimensions = model.dimensions;
        let vector = |slot: u32| -> Vec<f64> {
            let of_first = batch.target_rows.len() as u32;
            let (table, row) = match slot.checked_sub(of_first) {
                Some(slot) => (1, batch.context_rows[slot as usize]),
                None => (0, batch.target_rows[slot as usize]),
            };
            let row = &model.tables[table][row as usize * dimensions..(row as usize + 1) * dimensions];
            row.iter().map(|&value| f64::from(value)).collect()
        };
        let score = |left: u32, right: u32| -> f64 {
            let (left, right) = (vector(left), vector(right));
            let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(l, r)| l * r).sum::<f64>();
            match model.architecture {
                Architecture::Sgns => dot(&left, &right),
                Architecture::Cosine => {
                    let cosine = dot(&left, &right) / (dot(&left, &left) * dot(&right, &right)).sqrt();
                    f64::from(model.unit[0]) * cosine + f64::from(model.unit[1])
                }
            }
        };
        let softplus = |x: f64| x.exp().ln_1p();
        let pool = batch.negatives.len() / batch.targets.len().div_ceil(TILE);
        let of_pair = |(pair, (&target, &context)): (usize, (&u32, &u32))| {
            let pool_of = &batch.negatives[pair / TILE * pool..(pair / TILE + 1) * pool];
            let against: f64 =
                pool_of.iter().filter(|&&slot| slot != context).map(|&slot| softplus(score(target, slot))).sum();
            softplus(-score(target, context)) + negatives / pool as f64 * against
        };
        batch.targets.iter().zip(&batch.contexts).enumerate().map(of_pair).sum::<f64>() / batch.targets.len() as f64
    }

    fn example(architecture: Architecture) -> (Track2Vec, PairBatch) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let (tracks, dimensions, pairs, pool) = (12, 21, TILE + 9, 5);
        let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.8..0.8)).collect() };
        let mut model = Track2Vec::new(architecture, tracks, dimensions, draw(tracks * dimensions));
        let mut batch = PairBatch { target_rows: vec![3, 1, 7, 0, 11], ..PairBatch::default() };
        let mut others = 0..5;
        if architecture == Architecture::Sgns {
            model.tables[1] = draw(tracks * dimensions);
            batch.context_rows = vec![2, 3, 5, 8];
            others = 5..9;
        }
        model.unit = [3.0, -0.5];
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
        batch.targets = (0..pairs).map(|_| rng.random_range(0..5)).collect();
        batch.contexts = (0..pairs).map(|_| rng.random_range(others.clone())).collect();
        batch.negatives = (0..2 * pool).map(|_| rng.random_range(others.clone())).collect();
        (model, batch)
    }

    #[test]
    fn loss_and_gradients_are_those_of_the_formula() {
        for architecture in [Architecture::Sgns, Architecture::Cosine] {
            let (mut model, batch) = example(architecture);
            let gradients = model.gradients(&batch, 3.0, 2);
            let expected = loss(&model, &batch, 3.0);
            assert!((gradients.loss - expected).abs() < 1e-5, "{architecture:?}: {} {expected}", gradients.loss);
            assert_eq!(model.gradients(&batch, 3.0, 1), gradients, "it depends on the number of threads");
            let lists = [batch.target_rows.clone(), batch.context_rows.clone()];
            let mut slot = 0;
            // Against the slope between two losses: central differences, whose error falls with the square of the step.
            let step = 1e-3f32;
            let check = |model: &mut Track2Vec, place: &dyn Fn(&mut Track2Vec) -> &mut f32, found: f32| {
                let start = *place(model);
                *place(model) = start + step;
                let (up, above) = (*place(model), loss(model, &batch, 3.0));
                *place(model) = start - step;
                let (down, below) = (*place(model), loss(model, &batch, 3.0));
                *place(model) = start;
                let slope = (above - below) / f64::from(up - down);
                assert!((f64::from(found) - slope).abs() < 1e-5, "{architecture:?}: {found} {slope}");
            };
            for (table, rows) in lists.iter().enumerate() {
                for &row in rows {
                    for offset in 0..21 {
                        let found = gradients.slots[slot * gradients.stride + offset];
                        check(&mut model, &|model| &mut model.tables[table][row as usize * 21 + offset], found);
                    }
                    slot += 1;
                }
            }
            if architecture == Architecture::Cosine {
                for place in 0..2 {
                    check(&mut model, &|model| &mut model.unit[place], gradients.unit[place]);
                }
            }
        }
    }

    #[test]
    fn the_sigmoid_is_the_sigmoid() {
        for step in -4000..=4000 {
            let x = step as f32 / 100.0;
            let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn the_cosine_network_does_not_see_lengths() {
        let (model, batch) = example(Architecture::Cosine);
        let mut longer = model.clone();
        longer.tables[0].iter_mut().for_each(|value| *value *= 7.0);
        let (loss, of_longer) = (model.gradients(&batch, 1.0, 1).loss, longer.gradients(&batch, 1.0, 1).loss);
        assert!((loss - of_longer).abs() < 1e-6);
    }
}
