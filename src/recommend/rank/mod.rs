//! Ranking: candidates, their features, and how many of them the trees score.

mod candidates;
mod directions;
mod features;
mod limits;

pub use candidates::{Candidates, candidates};
pub use features::{FEATURES, WIDTH, column_of};
pub use limits::{LONGEST_ANSWER, candidates_for, finalists_for};
