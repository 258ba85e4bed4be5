//! Retrievers: from a playlist's seeds and title to tracks with scores. Pure functions over a [`CompletionIndex`].
//!
//! [`playlists`] finds playlists like the one asked about; [`walk`] goes over their tracks once and adds up, for each
//! track, what every retriever built on neighbouring playlists says of it; [`factors`] folds the seeds into the
//! factorisation.

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
