//! How much work the server accepts at once.

pub mod catalog_admission;
pub mod engine;
pub mod lane;
pub mod micro_batch;
pub mod playlist_queue;
