//! Hyper-parameters of the completion model.

use serde::Serialize;

use super::neumf::NeumfSettings;
use crate::train::als::AlsSettings;
use crate::train::error::TrainError;
use crate::train::gradient_boosting::{BoostingSettings, Objective};
use crate::train::settings::above_0;

/// Bins of a feature.
pub(super) const BINS: usize = 64;
/// Playlists for each that the ranking is learned from, from which on these are held out.
const HELD_OUT_FROM: usize = 20;

/// How to train for completions.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub struct CompletionSettings {
    /// Length of a track's factors
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(4..=512))]
    pub factors: u32,
    /// Passes of alternating least squares
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub als_iterations: u32,
    /// Extra weight of observed interactions
    ///
    /// The weight of an observed cell of the playlist × track matrix above that of an unobserved one.
    #[arg(long, default_value_t = 20.0)]
    pub als_alpha: f32,
    /// L2 penalty on the factors
    #[arg(long, default_value_t = 0.05)]
    pub als_regularization: f32,
    /// Folds of playlists to learn the ranking from
    ///
    /// The candidates of each fold come from an index of the other folds. With twenty times --ranking-playlists or more,
    /// there are none: the playlists to learn from are held out of one index.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub folds: u32,
    /// Maximum number of playlists to learn from
    ///
    /// The ranking is learned from at most this many playlists.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub ranking_playlists: u32,
    /// Times that each playlist is masked
    ///
    /// Each time another part of the playlist is hidden, for the ranking to find.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub maskings: u32,
    /// Negative candidates of each playlist
    ///
    /// Candidates that are not in the playlist, to learn the ranking from.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub negatives: u32,
    /// Trees that learn which tracks belong
    ///
    /// These trees learn whether a candidate belongs to the playlist.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trees: u32,
    /// Trees that learn the order of candidates
    ///
    /// Their scores are added to those of the other trees.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub order_trees: u32,
    /// Depth of a tree
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub depth: u32,
    /// Learning rate of the trees
    #[arg(long, default_value_t = 0.1)]
    pub tree_rate: f32,
    /// Random seed
    ///
    /// The same data, settings and seed give the same bundle on the same machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not train NeuMF
    ///
    /// NeuMF takes longest to train and only answers requests that name it.
    #[arg(long)]
    pub without_neumf: bool,
    /// how to train NeuMF
    #[command(flatten)]
    pub neumf: NeumfSettings,
}

impl CompletionSettings {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        above_0(&[
            ("--als-alpha", self.als_alpha.into()),
            ("--als-regularization", self.als_regularization.into()),
            ("--tree-rate", self.tree_rate.into()),
        ])
    }

    /// Whether there are so many playlists that those that the ranking is learned from are held out of one index, instead
    /// of being dealt into folds: the index then learns as much without them.
    pub fn holds_out(&self, playlists: usize) -> bool {
        playlists / HELD_OUT_FROM >= self.ranking_playlists as usize
    }

    pub(super) fn als(&self, threads: usize) -> AlsSettings {
        AlsSettings {
            factors: self.factors as usize,
            iterations: self.als_iterations as usize,
            alpha: self.als_alpha,
            regularization: self.als_regularization,
            seed: self.seed,
            threads,
        }
    }

    pub(super) fn boosting(&self, ensemble: Ensemble, threads: usize) -> BoostingSettings {
        let (trees, objective) = match ensemble {
            Ensemble::Belonging => (self.trees, Objective::Logistic),
            Ensemble::Order => (self.order_trees, Objective::LambdaRank),
        };
        BoostingSettings {
            trees: trees as usize,
            depth: self.depth as usize,
            learning_rate: self.tree_rate,
            regularization: 5.0,
            bins: BINS,
            group_share: 0.5,
            feature_share: 0.4,
            objective,
            seed: self.seed,
            threads,
        }
    }
}

/// The ranking is the sum of two ensembles, each divided by the spread of its scores. They err in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ensemble {
    /// Does a candidate belong to the playlist? One candidate by itself.
    Belonging,
    /// Which of two candidates comes first? Weighted by what NDCG it makes.
    Order,
}

impl Ensemble {
    pub fn name(self) -> &'static str {
        match self {
            Self::Belonging => "belonging",
            Self::Order => "order",
        }
    }
}
