//! The loaded models.

pub mod allocator;
pub mod answer_cache;
pub mod batches;
pub mod served;
pub mod shadow;
pub mod slot;
pub mod store;

pub use slot::LoadedModel;
pub use store::ModelStore;
