//! Metrics and the protocols that they are measured by.

mod challenge;
mod clicks;
mod completion;
mod metrics;
pub mod next_track;
#[cfg(feature = "train")]
pub mod pictures;
mod ratings;
mod report;
mod splits;
mod submission;
mod test_set;

pub use challenge::{Challenge, ChallengeError};
pub use clicks::{ClickMetrics, ReliabilityBin, auc, measure_clicks};
pub use completion::{EvaluateError, Recommend, Recommender, evaluate};
pub use metrics::{CompletionMetrics, LIST_LENGTH, completion_metrics};
pub use ratings::{Rater, RatingMetrics, measure_ratings};
#[cfg(all(test, feature = "train"))]
pub(crate) use report::tests::report as example_report;
pub use report::{CoverageAt10, LatencyMs, ModelReport, Report};
pub use splits::{HeldOutPlaylist, Split, evaluate_split};
pub use submission::{SubmissionError, Team, submit};
pub use test_set::{PartialPlaylist, TestPlaylist, TestSet};
