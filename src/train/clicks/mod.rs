//! `segue train clicks`: whether a user will come back to a track that was just begun.

mod ensemble;
mod learning;
pub mod network;
mod settings;
mod shape;
mod training;
mod trees;
pub mod tuning;

pub use learning::{ClickTask, LearnedClicks, SplitKind, learn, mark};
pub use settings::{ClickModelName, ClickSettings, Preset};
pub use training::train_clicks;
