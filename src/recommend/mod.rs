//! Retrieval and ranking over a loaded bundle: pure functions; no HTTP, no SQL, no files.

pub mod clicks;
pub mod completion;
pub mod dispatch;
pub mod diversify;
pub mod explain;
mod neumf;
pub mod rank;
pub mod ratings;
pub mod retrieve;
mod similarity;
mod vector_index;

pub use neumf::NeumfModel;
pub use similarity::{Completion, Recommended, Similar, SimilarityModel, Source};
pub use vector_index::{ScoredRow, VectorIndex, VectorQuery};
