//! Retrieval and ranking over a loaded bundle: pure functions; no HTTP, no SQL, no files.

mod completion;
mod neumf;
mod vector_index;

pub use completion::{Completion, Recommended, Similar, SimilarityModel, Source};
pub use neumf::{NeumfModel, PlaylistEmbedding};
pub use vector_index::{Near, VectorIndex, VectorQuery};
