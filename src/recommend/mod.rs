//! Retrieval and ranking over a loaded bundle: pure functions; no HTTP, no SQL, no files.

mod byte_table;
pub mod clicks;
pub mod completer;
mod completion;
pub mod diversify;
pub mod explain;
pub mod linear;
mod neumf;
pub mod rank;
pub mod ratings;
pub mod retrieve;
mod vector_index;

pub use byte_table::ByteTable;
pub use completion::{Completion, Recommended, Similar, SimilarityModel, Source};
pub use neumf::{NeumfModel, PlaylistEmbedding};
pub use vector_index::{Near, VectorIndex, VectorQuery};
