//! One file a resource. Each exports `router()`; a route and its place in openapi.yaml are registered together.

pub mod feedback;
pub mod health;
pub mod models;
pub mod parts;
pub mod playlists;
pub mod scores;
pub mod tracks;
pub mod users;
