//! Training: samplers, optimizers, the training loop and the checkpoints that all models share, and a folder for each
//! kind that puts them together.

pub mod als;
pub mod checkpoint;
pub mod clicks;
pub mod completion;
pub mod epochs;
pub mod error;
pub mod gradient_boosting;
mod k_means;
pub mod next_track;
pub mod optimizer;
mod parallel;
pub mod ratings;
pub mod sampling;
mod settings;
pub mod similarity;
pub mod torch;
pub mod tuning;

pub use checkpoint::{Checkpoint, RunContext};
pub use error::TrainError;
