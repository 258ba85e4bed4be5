//! Why a training run ends without a bundle.

use std::path::Path;

use crate::bundle::BundleError;
use crate::catalog::CatalogError;

/// Why a training run ended without a bundle.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The bundle could not be published.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is too little data to learn from.
    #[error("{0}")]
    TooLittleData(String),
    /// A setting is invalid, or a file of the run cannot be used.
    #[error("{0}")]
    Settings(String),
    /// LibTorch reported an error.
    #[error("LibTorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The loss is no longer a number.
    #[error("the loss became {loss} in epoch {epoch}: try a smaller --learning-rate than {learning_rate}")]
    Diverged {
        /// epoch, from 1
        epoch: usize,
        /// the loss
        loss: f64,
        /// the learning rate that was set
        learning_rate: f64,
    },
    /// The person asked to stop.
    #[error("stopped: run the same command again to continue")]
    Stopped,
    /// The person asked to stop while a network was trained.
    #[error("stopped in epoch {epoch} of {epochs}: run the same command again to continue")]
    Interrupted {
        /// epoch under way, from 1
        epoch: usize,
        /// epochs in all
        epochs: usize,
    },
}

impl TrainError {
    /// What went wrong with the file at `path`.
    pub(super) fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Settings(format!("{}: {error}", path.display()))
    }
}
