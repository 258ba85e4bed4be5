//! One file for each URL or resource. Each exports `router()`, which registers a route together with its contract.

pub mod completion;
pub mod feedback;
pub mod health;
pub mod metrics;
pub mod models;
pub mod next;
pub mod playlist_tracks;
pub mod playlists;
pub mod recommendations;
pub mod recommended_track;
pub mod scores;
pub mod similar;
pub mod track_embedding;
pub mod tracks;
pub mod users;
