//! `segue train similarity`: Track2Vec from the catalog's playlists to a published bundle.

pub mod pair_sampler;
mod settings;
pub mod track2vec;
mod training;
pub mod tuning;

pub use settings::{NextTracksSettings, SimilaritySettings};
pub use training::{Fitted, VECTORS, VectorLearner, expected_pairs, fit, train_similarity};
