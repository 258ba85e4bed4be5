//! Retrievers: from a playlist's seeds and title to tracks with scores. Pure functions over a [`CompletionIndex`].
//!
//! [`playlists`] finds playlists like the query; [`walk`] visits their tracks once and adds up the scores of all
//! retrievers that use neighboring playlists; [`factors`] folds the seeds into the factorization.

pub mod factors;
pub mod playlists;
mod query;
mod sparse;
mod sums;
mod visited;
pub mod walk;
mod workspace;

pub use query::Query;
pub use sparse::Sparse;
pub use sums::{ArtistSums, Neighbour, Neighbourhood, OrderSums, SeedArtist, TrackSums};
pub use visited::Visited;
pub use workspace::Workspace;
