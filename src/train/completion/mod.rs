//! `segue train completion`: retrievers, a learned ranking and NeuMF.

pub mod examples;
pub mod index;
mod interaction_sampler;
pub mod neumf;
mod settings;
mod training;

pub use settings::CompletionSettings;
pub use training::{TrainedCompletion, learn, train_completion};
