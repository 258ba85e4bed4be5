//! One file a resource. Each exports `router()`; a route and its place in openapi.yaml are registered together.

pub mod health;
pub mod models;
pub mod playlists;
pub mod tracks;
