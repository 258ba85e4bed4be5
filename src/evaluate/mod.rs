//! Metrics and the protocols that they are measured by.

mod next_track;

pub use next_track::{NextTrackMetrics, next_track};
