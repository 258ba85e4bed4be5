//! Hyper-parameters of the similarity model.

use serde::{Deserialize, Serialize};

use super::track2vec::Architecture;
use crate::train::error::TrainError;
use crate::train::next_track::TREES;
use crate::train::settings::{above_0, check, from_0};

/// Pairs to train on when the number of epochs is left open. More of them fit the training playlists better, and what
/// comes next no better (docs/models/track2vec.md).
const WISHED_PAIRS: f64 = 8e6;

/// Hyper-parameters of Track2Vec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct SimilaritySettings {
    /// Network
    #[arg(long, value_enum, default_value_t = Architecture::Cosine)]
    pub architecture: Architecture,
    /// Length of a track's vector
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub dim: u32,
    /// Distance within which tracks are neighbors
    ///
    /// Tracks up to this far apart in a playlist count as neighbors.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub window: u32,
    /// Negatives for each pair
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub negatives: u32,
    /// Negatives shared by 64 pairs
    ///
    /// They are weighted so that each pair learns from --negatives of them.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub pool: u32,
    /// Popularity exponent α of negatives
    ///
    /// Negatives are drawn in proportion to (placements of the track)^α; α may be negative.
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Sub-sampling threshold; 0: keep all
    ///
    /// Occurrences of tracks that are more frequent than this are dropped at random.
    #[arg(long, default_value_t = 1e-5)]
    pub subsample: f64,
    /// Minimum number of placements of a track
    ///
    /// Tracks with fewer placements get no vector of their own, and this model does not recommend them.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub min_count: u32,
    /// Passes over all playlists; 0: by size
    ///
    /// With 0 as many as make eight million pairs, but at least 2 and at most 60.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub epochs: u32,
    /// Pairs in a mini-batch
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Initial learning rate of Adam
    ///
    /// It falls linearly to a tenth.
    #[arg(long, default_value_t = 0.005)]
    pub learning_rate: f64,
    /// Random seed
    ///
    /// The same data, settings and seed give the same vectors on the same machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The lists of what comes next that are published with the vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, clap::Args)]
pub struct NextTracksSettings {
    /// Length of a track's next-track list; 0: none
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub next_tracks: u32,
    /// Trees of the next-track ranking
    #[arg(long, default_value_t = TREES, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub next_trees: u32,
}

impl SimilaritySettings {
    /// Number of epochs, each of `expected_pairs` pairs.
    pub(super) fn epochs_of(&self, expected_pairs: f64) -> usize {
        match self.epochs {
            0 => (WISHED_PAIRS / expected_pairs).ceil().clamp(2.0, 60.0) as usize,
            epochs => epochs as usize,
        }
    }

    /// Rejects settings that are out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        above_0(&[("--learning-rate", self.learning_rate)])?;
        from_0(&[("--subsample", self.subsample)])?;
        check(&[("--alpha", self.alpha)], |alpha| (-10.0..=10.0).contains(&alpha), "from -10 to 10")
    }
}
