//! What the server knows between requests.

pub mod app_state;
pub mod catalog_gate;
pub mod catalog_watch;
pub mod hidden_tracks;
pub mod listen_feed;
pub mod track_names;
pub mod upkeep;

pub use app_state::AppState;
