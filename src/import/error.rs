//! Why an import, or the reading of a file, stops.

use std::io;
use std::path::PathBuf;

use crate::catalog::CatalogError;

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The paths named are not there or hold nothing to import.
    #[error("{}: {reason}", path.display())]
    Path {
        /// the path
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// The catalog could not be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The thread that reads the files ended before them.
    #[error("the thread that reads the files failed: {0}")]
    Reader(String),
    /// The rejects file could not be written.
    #[error("the rejects file {}: {source}", path.display())]
    Rejects {
        /// the file
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
}

/// A file that is not in its format, and where it ceases to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at byte {offset})")]
pub struct FormatError {
    /// bytes into the decompressed file
    pub offset: u64,
    /// what is wrong there
    pub reason: String,
}

impl FormatError {
    /// From an error of the parser; `otherwise` says what `bytes` are not, where they are not cut off.
    pub fn json(bytes: &[u8], error: &serde_json::Error, otherwise: &str) -> Self {
        let reason = match error.classify() {
            serde_json::error::Category::Eof => "the JSON ends in the middle: the file is truncated".to_owned(),
            _ => format!("{otherwise}: {error}"),
        };
        Self { offset: byte_offset(bytes, error.line(), error.column()), reason }
    }
}

fn byte_offset(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize =
        bytes.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(bytes.len()) as u64
}

/// Why a reader ends early.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is not in its format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The writer takes no more rows.
    #[error("stopped")]
    Stopped,
}
