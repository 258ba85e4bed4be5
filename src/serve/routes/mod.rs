//! One file a resource. Each exports `router()`; a route and its place in openapi.yaml are registered together.

pub mod completion;
pub mod feedback;
pub mod health;
pub mod metrics;
pub mod models;
pub mod parts;
pub mod playlist_tracks;
pub mod playlists;
pub mod recommendations;
pub mod scores;
pub mod similar;
pub mod tracks;
pub mod users;
