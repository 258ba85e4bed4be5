//! Lanes of the engine: kinds of work that share its threads by weight.

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// a scan or a lookup: similar tracks, recommendations, scores
    Quick,
    /// the completion of one playlist
    Completion,
    /// one of many playlists of a request
    Batch,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Completion, Self::Batch];

    /// Returns the name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Completion => "completion",
            Self::Batch => "batch",
        }
    }

    /// Returns its share of the threads' time if work waits in all lanes.
    pub fn weight(self) -> f64 {
        match self {
            Self::Quick | Self::Completion => 2.0,
            Self::Batch => 1.0,
        }
    }
}
