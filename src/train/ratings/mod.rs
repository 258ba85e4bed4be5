//! `segue train ratings`: what a user will think of tracks, learned from ratings and listens.

pub mod gaussian;
pub mod network;
mod settings;
mod training;
pub mod tuning;

pub use settings::{RatingsModelName, RatingsSettings};
pub use training::{Trained, learn, train_ratings};
