//! The manifest of a bundle.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::DataFingerprint;

/// The format of bundles that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// what comes next in a playlist
    Completion,
    /// which tracks sound alike
    Similarity,
    /// what a user will think of tracks
    Ratings,
    /// whether a user will come back to a track
    Clicks,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Completion, Self::Similarity, Self::Ratings, Self::Clicks];

    /// The name in paths and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Similarity => "similarity",
            Self::Ratings => "ratings",
            Self::Clicks => "clicks",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// name within the bundle's folder
    pub name: String,
    /// size in bytes
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits
    pub sha256: String,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the program that wrote it
    pub format_version: u32,
    /// what the bundle is for
    pub kind: Kind,
    /// name of the bundle's folder; sorts by time
    pub version: String,
    /// version of the program that wrote it
    pub segue_version: String,
    /// commit of the program that wrote it, or "unknown"
    pub git_commit: String,
    /// when it was published (RFC 3339)
    pub created_at: String,
    /// random seed of the training
    pub seed: u64,
    /// hyper-parameters
    pub parameters: Value,
    /// what it was trained on
    pub data: DataFingerprint,
    /// what was measured when it was trained
    pub metrics: Value,
    /// every other file of the bundle
    pub files: Vec<FileEntry>,
}

/// What a trainer adds to a manifest; writing the bundle adds the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct NewManifest {
    /// random seed of the training
    pub seed: u64,
    /// hyper-parameters
    pub parameters: Value,
    /// what it was trained on
    pub data: DataFingerprint,
    /// what was measured
    pub metrics: Value,
}
