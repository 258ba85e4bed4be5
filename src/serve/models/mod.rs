//! The loaded models.

pub mod allocator;
pub mod answer_cache;
pub mod shadow;
pub mod store;
