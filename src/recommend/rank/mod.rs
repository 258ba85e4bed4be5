//! Ranking: the features of candidates, and the trees that score them.

pub mod features;

/// Candidates of a playlist that are ranked by the trees.
pub const CANDIDATES: usize = 1_500;
