//! Lists of what comes next after a track.

mod candidates;
mod learning;

pub use candidates::{Candidates, Part, Placements, WIDTH, Workspace};
pub use learning::{TREES, learn, measure, measure_co_occurrence, rank};
