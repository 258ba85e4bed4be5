//! Interactions of playlists with tracks, and negatives for them.

use rand::RngExt;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedAliasIndex;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::math::Csr;
use crate::train::sampling::{Mixing, Sampler, Slots};
use crate::train::torch::neumf::InteractionBatch;

/// Draws after which a track of the playlist itself passes as a negative: that happens only for a playlist of nearly all
/// tracks of the catalog.
const MOST_DRAWS: usize = 32;

/// How to sample.
#[derive(Debug, Clone, Copy)]
pub struct InteractionSampling {
    /// interactions in a batch
    pub batch: usize,
    /// negatives of each interaction
    pub negatives: usize,
    /// negatives are drawn in proportion to (playlists that hold the track)^exponent
    pub exponent: f64,
    /// random seed
    pub seed: u64,
}

/// Samples batches of interactions with negatives, the same ones for the same seed and epoch.
#[derive(Debug)]
pub struct InteractionSampler {
    /// distinct tracks of each playlist, rising
    playlists: Csr,
    tracks: usize,
    sampling: InteractionSampling,
    negatives: WeightedAliasIndex<f64>,
}

impl InteractionSampler {
    /// `None` when there are no interactions. Rows of `playlists` are below `tracks`.
    pub fn new(playlists: &Csr, tracks: usize, sampling: InteractionSampling) -> Option<Self> {
        let mut counts = vec![0u32; tracks];
        let playlists = Csr::from_lists(playlists.iter().map(|rows| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows.dedup();
            for &row in &rows {
                counts[row as usize] += 1;
            }
            rows
        }));
        // A track in no playlist is a negative of all, whatever the exponent says of zero.
        let weight = |&count: &u32| f64::from(count.max(1)).powf(sampling.exponent);
        let negatives = WeightedAliasIndex::new(counts.iter().map(weight).collect()).ok()?;
        (!playlists.items().is_empty()).then_some(Self { playlists, tracks, sampling, negatives })
    }

    fn batch(
        &self,
        interactions: &[(u32, u32)],
        playlist_slots: &mut Slots,
        track_slots: &mut Slots,
        rng: &mut Xoshiro256PlusPlus,
    ) -> InteractionBatch {
        let mut batch = InteractionBatch {
            playlists: Vec::with_capacity(interactions.len()),
            tracks: Vec::with_capacity(interactions.len() * (1 + self.sampling.negatives)),
            ..InteractionBatch::default()
        };
        playlist_slots.clear();
        track_slots.clear();
        for &(playlist, track) in interactions {
            batch.playlists.push(playlist_slots.of(playlist, &mut batch.playlist_rows));
            batch.tracks.push(track_slots.of(track, &mut batch.track_rows));
            for _ in 0..self.sampling.negatives {
                let negative = self.negative(playlist, rng);
                batch.tracks.push(track_slots.of(negative, &mut batch.track_rows));
            }
        }
        batch
    }

    /// A track that is not in the playlist.
    fn negative(&self, playlist: u32, rng: &mut Xoshiro256PlusPlus) -> u32 {
        let held = self.playlists.row(playlist as usize);
        let mut draw = || {
            if self.sampling.exponent == 0.0 {
                rng.random_range(0..self.tracks as u32)
            } else {
                self.negatives.sample(rng) as u32
            }
        };
        let mut track = draw();
        for _ in 1..MOST_DRAWS {
            if held.binary_search(&track).is_err() {
                break;
            }
            track = draw();
        }
        track
    }
}

impl Sampler for InteractionSampler {
    type Batch = InteractionBatch;

    fn epoch(&self, epoch: usize, mut each: impl FnMut(InteractionBatch) -> bool) {
        let (mut playlist_slots, mut track_slots) = (Slots::new(self.playlists.rows()), Slots::new(self.tracks));
        let push = |playlist: u32, interactions: &mut Vec<(u32, u32)>, _: &mut Xoshiro256PlusPlus| {
            interactions.extend(self.playlists.row(playlist as usize).iter().map(|&track| (playlist, track)));
        };
        let InteractionSampling { batch, seed, .. } = self.sampling;
        Mixing { sources: self.playlists.rows(), batch, seed }.epoch(epoch, push, |interactions, rng| {
            each(self.batch(interactions, &mut playlist_slots, &mut track_slots, rng))
        });
    }

    /// Distinct pairs of playlist and track.
    fn examples(&self) -> f64 {
        self.playlists.items().len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(playlists: &Csr, exponent: f64) -> InteractionSampler {
        let sampling = InteractionSampling { batch: 4, negatives: 3, exponent, seed: 2 };
        InteractionSampler::new(playlists, 10, sampling).expect("interactions")
    }

    fn batches(sampler: &InteractionSampler, epoch: usize) -> Vec<InteractionBatch> {
        let mut batches = Vec::new();
        sampler.epoch(epoch, |batch| {
            batches.push(batch);
            true
        });
        batches
    }

    #[test]
    fn an_epoch_has_every_distinct_interaction_once_with_tracks_that_are_not_in_the_playlist() {
        let playlists = Csr::from_lists([vec![1, 2, 2, 3], vec![], vec![3, 9, 0, 4, 4]]);
        for exponent in [0.0, 0.5, -1.0] {
            let mut seen = Vec::new();
            for batch in batches(&sampler(&playlists, exponent), 0) {
                assert_eq!(batch.tracks.len(), 4 * batch.playlists.len());
                for (slot, tracks) in batch.playlists.iter().zip(batch.tracks.chunks_exact(4)) {
                    let playlist = batch.playlist_rows[*slot as usize] as u32;
                    let tracks: Vec<u32> = tracks.iter().map(|&slot| batch.track_rows[slot as usize] as u32).collect();
                    seen.push((playlist, tracks[0]));
                    assert!(tracks[1..].iter().all(|track| !playlists.row(playlist as usize).contains(track)));
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, [(0, 1), (0, 2), (0, 3), (2, 0), (2, 3), (2, 4), (2, 9)]);
        }
    }

    #[test]
    fn an_epoch_depends_on_seed_and_number_alone() {
        let playlists = Csr::from_lists([vec![1, 2, 3], vec![3, 9, 0, 4], vec![5, 6]]);
        assert_eq!(batches(&sampler(&playlists, 0.5), 3), batches(&sampler(&playlists, 0.5), 3));
        assert_ne!(batches(&sampler(&playlists, 0.5), 3), batches(&sampler(&playlists, 0.5), 4));
    }

    #[test]
    fn a_playlist_of_all_tracks_does_not_hang() {
        let playlists = Csr::from_lists([(0..10).collect::<Vec<u32>>()]);
        assert_eq!(batches(&sampler(&playlists, 0.0), 0).len(), 3);
    }
}
