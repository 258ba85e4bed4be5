//! Pairs and negatives for skip-gram.

use rand::RngExt;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedAliasIndex;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::track2vec::{PairBatch, TILE};
use crate::dataset::HeldOutSequences;
use crate::train::sampling::{Mixing, Sampler, Slots};

/// How to sample.
#[derive(Debug, Clone, Copy)]
pub struct PairSampling {
    /// tracks up to this far apart are pairs
    pub window: usize,
    /// t of the sub-sampling rule: of a target with frequency f, the share (f−t)/f − √(t/f) of its pairs is dropped
    pub subsample: f64,
    /// α: negatives are drawn in proportion to count^α
    pub exponent: f64,
    /// pairs in a batch
    pub batch: usize,
    /// negatives that every [`TILE`] pairs share
    pub pool: usize,
    /// whether targets and contexts are rows of one table
    pub one_table: bool,
    /// random seed
    pub seed: u64,
}

/// Samples batches of pairs from sequences, the same ones for the same seed and epoch.
#[derive(Debug)]
pub struct PairSampler<'a> {
    data: &'a HeldOutSequences,
    sampling: PairSampling,
    /// chance that a pair with that target stays
    keep: Vec<f32>,
    negatives: WeightedAliasIndex<f64>,
    /// rows that negatives number
    present: Vec<u32>,
}

impl<'a> PairSampler<'a> {
    /// `None` when no track is left to sample.
    pub fn new(data: &'a HeldOutSequences, sampling: PairSampling) -> Option<Self> {
        let total = data.playlists.items().len() as f64;
        let keep =
            data.counts.iter().map(|&count| keep_probability(f64::from(count) / total, sampling.subsample)).collect();
        // With α below zero a track that never occurs would weigh infinitely much.
        let present: Vec<u32> = (0..data.vocabulary as u32).filter(|&row| data.counts[row as usize] > 0).collect();
        let weights = present.iter().map(|&row| f64::from(data.counts[row as usize]).powf(sampling.exponent)).collect();
        let negatives = WeightedAliasIndex::new(weights).ok()?;
        Some(Self { data, sampling, keep, negatives, present })
    }

    fn batch(&self, pairs: &[(u32, u32)], slots: &mut Slots, rng: &mut Xoshiro256PlusPlus) -> PairBatch {
        let mut batch = PairBatch {
            targets: Vec::with_capacity(pairs.len()),
            contexts: Vec::with_capacity(pairs.len()),
            ..PairBatch::default()
        };
        slots.clear();
        batch.targets.extend(pairs.iter().map(|&(target, _)| slots.of::<u32>(target, &mut batch.target_rows)));
        let (others, first) = if self.sampling.one_table {
            (&mut batch.target_rows, 0)
        } else {
            slots.clear();
            (&mut batch.context_rows, batch.target_rows.len() as u32)
        };
        batch.contexts.extend(pairs.iter().map(|&(_, context)| first + slots.of::<u32>(context, others)));
        let negatives = pairs.len().div_ceil(TILE) * self.sampling.pool;
        batch.negatives.extend((0..negatives).map(|_| {
            let row = self.present[self.negatives.sample(rng)];
            first + slots.of::<u32>(row, others)
        }));
        batch
    }
}

/// word2vec's rule in the form of the Track2Vec exercise: drop (f−t)/f − √(t/f).
fn keep_probability(frequency: f64, threshold: f64) -> f32 {
    if threshold <= 0.0 || frequency <= threshold {
        return 1.0;
    }
    let drop = (frequency - threshold) / frequency - (threshold / frequency).sqrt();
    (1.0 - drop.clamp(0.0, 1.0)) as f32
}

impl Sampler for PairSampler<'_> {
    type Batch = PairBatch;

    fn epoch(&self, epoch: usize, mut each: impl FnMut(PairBatch) -> bool) {
        let PairSampling { window, batch, seed, .. } = self.sampling;
        let mut slots = Slots::new(self.data.vocabulary);
        let push = |playlist: u32, pairs: &mut Vec<(u32, u32)>, rng: &mut Xoshiro256PlusPlus| {
            let tracks = self.data.playlists.row(playlist as usize);
            for (position, &target) in tracks.iter().enumerate() {
                let keep = self.keep[target as usize];
                let (from, to) = (position.saturating_sub(window), (position + window + 1).min(tracks.len()));
                for (other, &context) in tracks.iter().enumerate().take(to).skip(from) {
                    if other != position && context != target && (keep >= 1.0 || rng.random::<f32>() < keep) {
                        pairs.push((target, context));
                    }
                }
            }
        };
        let mixing = Mixing { sources: self.data.playlists.rows(), batch, seed };
        mixing.epoch(epoch, push, |pairs, rng| each(self.batch(pairs, &mut slots, rng)));
    }

    fn examples(&self) -> f64 {
        let pairs_of = |playlist: &[u32]| {
            let (last, window) = (playlist.len().saturating_sub(1), self.sampling.window);
            let neighbours = |position: usize| position.min(window) + (last - position).min(window);
            let pairs =
                |(position, &row): (usize, &u32)| f64::from(self.keep[row as usize]) * neighbours(position) as f64;
            playlist.iter().enumerate().map(pairs).sum::<f64>()
        };
        (0..self.data.playlists.rows()).map(|playlist| pairs_of(self.data.playlists.row(playlist))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Csr;

    fn data() -> HeldOutSequences {
        let playlists = Csr::from_lists([0..20, 20..40].map(|items| items.map(|item| item % 10)));
        HeldOutSequences { playlists, queries: Vec::new(), vocabulary: 10, counts: vec![4; 10] }
    }

    fn sampling(one_table: bool) -> PairSampling {
        PairSampling { window: 2, subsample: 0.0, exponent: 0.5, batch: 16, pool: 8, one_table, seed: 3 }
    }

    #[test]
    fn pairs_are_all_those_within_the_window_in_both_directions() {
        let data = data();
        for one_table in [false, true] {
            let sampler = PairSampler::new(&data, sampling(one_table)).expect("tracks");
            let mut pairs = Vec::new();
            sampler.epoch(0, |batch| {
                assert_eq!(batch.context_rows.is_empty(), one_table);
                let others = if one_table { 0 } else { batch.target_rows.len() as u32 };
                let rows = [batch.target_rows, batch.context_rows].concat();
                assert!(batch.negatives.iter().all(|slot| (others..rows.len() as u32).contains(slot)));
                for (&target, &context) in batch.targets.iter().zip(&batch.contexts) {
                    pairs.push((rows[target as usize] as i32, rows[context as usize] as i32));
                }
                true
            });
            // Two playlists of 20: (2·20 − 2 − 1) neighbours each way.
            assert_eq!(pairs.len(), 2 * 2 * (19 + 18));
            assert!(pairs.iter().all(|(target, context)| [1, 2, 8, 9].contains(&((target - context).rem_euclid(10)))));
        }
    }

    #[test]
    fn an_epoch_depends_on_seed_and_number_alone() {
        let data = data();
        let sampler = PairSampler::new(&data, sampling(false)).expect("tracks");
        let collect = |epoch| {
            let mut batches = Vec::new();
            sampler.epoch(epoch, |batch| {
                batches.push(batch);
                true
            });
            batches
        };
        assert_eq!(collect(4), collect(4));
        assert_ne!(collect(4), collect(5));
    }

    #[test]
    fn frequent_targets_are_thinned_by_the_rule() {
        assert_eq!(keep_probability(1e-6, 1e-5), 1.0);
        // f = 100 t: t/f + √(t/f) = .01 + .1
        assert!((keep_probability(1e-3, 1e-5) - 0.11).abs() < 1e-6);
        assert_eq!(keep_probability(0.5, 0.0), 1.0);
    }
}
