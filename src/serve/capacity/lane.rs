//! Lanes of the engine: kinds of work that share the threads by weight.

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// a scan or a look-up: similar tracks, recommendations, scores
    Quick,
    /// the completion of one playlist
    Completion,
    /// a playlist among many of one request
    Batch,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Completion, Self::Batch];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Completion => "completion",
            Self::Batch => "batch",
        }
    }

    /// Its share of the threads' time when all lanes want it.
    pub fn weight(self) -> f64 {
        match self {
            Self::Quick | Self::Completion => 2.0,
            Self::Batch => 1.0,
        }
    }
}
