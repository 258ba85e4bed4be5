//! Models of ratings, and their hyper-parameters.

use serde::{Deserialize, Serialize};

use super::gaussian::GaussianSettings;
use super::network::NetworkSettings;
use crate::train::error::TrainError;
use crate::train::settings::check;
use crate::train::torch::rating_network::RatingArchitecture;

/// Models of ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RatingsModelName {
    /// a Gaussian process per user over genres, co-rated tracks and sessions, on top of track biases
    Gp,
    /// dot product of two embeddings
    Dot,
    /// dot product and biases
    Bias,
    /// a hidden layer over two embeddings
    Mlp,
    /// shrunken track and user biases only, for comparison
    Baseline,
}

impl RatingsModelName {
    /// The name in commands and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gp => "gp",
            Self::Dot => "dot",
            Self::Bias => "bias",
            Self::Mlp => "mlp",
            Self::Baseline => "baseline",
        }
    }

    pub(super) fn architecture(self) -> Option<RatingArchitecture> {
        match self {
            Self::Dot => Some(RatingArchitecture::Dot),
            Self::Bias => Some(RatingArchitecture::Bias),
            Self::Mlp => Some(RatingArchitecture::Mlp),
            Self::Gp | Self::Baseline => None,
        }
    }
}

/// How to train a model of ratings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct RatingsSettings {
    /// Share of ratings to hold out for measuring
    ///
    /// Afterwards the model is trained on all ratings.
    #[arg(long, default_value_t = 0.1)]
    pub withheld: f64,
    /// Random seed
    ///
    /// The same data, settings and seed give the same model on the same machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// of the default model
    #[command(flatten)]
    pub gaussian: GaussianSettings,
    /// of the networks
    #[command(flatten)]
    pub network: NetworkSettings,
}

impl RatingsSettings {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        check(&[("--withheld", self.withheld)], |share| (0.0..=0.9).contains(&share), "from 0 to 0.9")?;
        self.gaussian.check()?;
        self.network.check()
    }
}
