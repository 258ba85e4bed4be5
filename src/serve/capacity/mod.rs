//! How much work is taken on at once.

pub mod catalog_admission;
pub mod engine;
pub mod micro_batch;
