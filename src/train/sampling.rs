//! What samplers of mini-batches share: a generator for each epoch, so that a resumed run sees what an uninterrupted one
//! would, examples mixed in a buffer, and numbers for the rows that a batch touches.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Examples that are mixed with one another before they are cut into batches.
const SHUFFLE: usize = 1 << 20;
/// Sets the seeds of consecutive epochs far apart (2⁶⁴ divided by the golden ratio).
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mini-batches of a training run.
pub trait Sampler: Sync {
    /// What one step learns from.
    type Batch: Send;

    /// Hands the batches of an epoch to `each` until it returns false: for the same epoch always the same ones.
    fn epoch(&self, epoch: usize, each: impl FnMut(Self::Batch) -> bool);

    /// Number of examples in an epoch, on average.
    fn examples(&self) -> f64;
}

/// Batches of the examples that `push` makes of each of `sources` rows, the rows in random order, the examples mixed.
pub(super) struct Mixing {
    /// rows that examples come from
    pub sources: usize,
    /// examples in a batch
    pub batch: usize,
    /// random seed
    pub seed: u64,
}

impl Mixing {
    /// Hands the batches of an epoch to `each` until it returns false.
    pub fn epoch<T>(
        &self,
        epoch: usize,
        mut push: impl FnMut(u32, &mut Vec<T>, &mut Xoshiro256PlusPlus),
        mut each: impl FnMut(&[T], &mut Xoshiro256PlusPlus) -> bool,
    ) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ (epoch as u64).wrapping_mul(STRIDE));
        let mut order: Vec<u32> = (0..self.sources as u32).collect();
        order.shuffle(&mut rng);
        let mut examples: Vec<T> = Vec::new();
        for (nth, &source) in order.iter().enumerate() {
            push(source, &mut examples, &mut rng);
            let last = nth + 1 == order.len();
            if examples.len() >= SHUFFLE || last {
                examples.shuffle(&mut rng);
                let whole = if last { examples.len() } else { examples.len() / self.batch * self.batch };
                for chunk in examples[..whole].chunks(self.batch) {
                    if !each(chunk, &mut rng) {
                        return;
                    }
                }
                examples.drain(..whole);
            }
        }
    }
}

/// Batches of examples by their numbers, in random order.
#[derive(Debug, Clone, Copy)]
pub struct ShuffledExamples {
    /// number of examples
    pub examples: usize,
    /// examples in a batch
    pub batch: usize,
    /// random seed
    pub seed: u64,
}

impl ShuffledExamples {
    /// The seed of an epoch.
    pub fn seed_of(&self, epoch: usize) -> u64 {
        self.seed.wrapping_add((epoch as u64 + 1).wrapping_mul(STRIDE))
    }

    /// The order of an epoch, and the generator as the shuffling leaves it.
    pub fn shuffled(&self, epoch: usize) -> (Vec<u32>, Xoshiro256PlusPlus) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed_of(epoch));
        let mut order: Vec<u32> = (0..self.examples as u32).collect();
        order.shuffle(&mut rng);
        (order, rng)
    }
}

impl Sampler for ShuffledExamples {
    type Batch = Vec<u32>;

    fn epoch(&self, epoch: usize, mut each: impl FnMut(Vec<u32>) -> bool) {
        self.shuffled(epoch).0.chunks(self.batch).all(|batch| each(batch.to_vec()));
    }

    fn examples(&self) -> f64 {
        self.examples as f64
    }
}

/// Numbers distinct rows in order of first sight. Clearing it costs nothing: an entry counts only in its own round.
pub(super) struct Slots {
    round: u32,
    slot: Vec<(u32, u32)>,
}

impl Slots {
    pub fn new(rows: usize) -> Self {
        Self { round: 0, slot: vec![(0, 0); rows] }
    }

    pub fn clear(&mut self) {
        self.round += 1;
    }

    /// The number of `row`, which joins `rows` if it is new.
    pub fn of<T: From<u32>>(&mut self, row: u32, rows: &mut Vec<T>) -> T {
        let slot = &mut self.slot[row as usize];
        if slot.0 != self.round {
            *slot = (self.round, rows.len() as u32);
            rows.push(row.into());
        }
        slot.1.into()
    }
}
