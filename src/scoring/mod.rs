//! What the networks and trees of a bundle compute, on plain arrays and without LibTorch.

pub mod clicks;
pub mod neumf;
pub mod oblivious_trees;
pub mod ratings;
