//! Training: samplers, optimisers and checkpoints that all models share, and one file a kind that puts them together.

pub mod als;
mod checkpoint;
pub mod clicks;
pub mod completion;
pub mod gradient_boosting;
mod k_means;
pub mod next_track;
pub mod ratings;
mod row_adam;
pub mod similarity;
pub mod torch;

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
    /// There is too little to learn from.
    #[error("{0}")]
    TooLittleData(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Settings(String),
    /// LibTorch refused something.
    #[error("LibTorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The loss is no longer a number.
    #[error("the loss became {loss} in epoch {epoch}; try a smaller --learning-rate than {learning_rate}")]
    Diverged {
        /// epoch, from 1
        epoch: usize,
        /// the loss
        loss: f64,
        /// the learning rate that was set
        learning_rate: f64,
    },
    /// The person asked to stop.
    #[error("stopped; the same command goes on from there")]
    Stopped,
    /// The person asked to stop in the middle of an epoch.
    #[error("stopped in epoch {epoch} of {epochs}; the same command goes on from there")]
    Interrupted {
        /// epoch under way, from 1
        epoch: usize,
        /// epochs wanted
        epochs: usize,
    },
}
