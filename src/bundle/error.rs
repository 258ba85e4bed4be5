//! What can be wrong with a bundle.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Kind;

/// Why a bundle can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no bundle of that kind.
    #[error("no {kind} bundle in {}; `segue train {kind}` publishes one", folder.display())]
    None {
        /// the requested kind
        kind: Kind,
        /// where it was looked for
        folder: PathBuf,
    },
    /// A file of the bundle is not what the manifest says, or not what its kind needs.
    #[error("bundle file {}: {reason}", file.display())]
    File {
        /// the file
        file: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// Another process is writing bundles of this kind.
    #[error("another process is training or publishing in {}", folder.display())]
    Busy {
        /// the folder of the kind
        folder: PathBuf,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// the file or folder
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
}

impl BundleError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn file(file: &Path, reason: impl Into<String>) -> Self {
        /// A reason may quote a damaged file, which can have one number of many kilobytes.
        const LONGEST_REASON: usize = 1_000;
        let mut reason = reason.into();
        if reason.len() > LONGEST_REASON {
            reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
            reason.push('…');
        }
        Self::File { file: file.to_owned(), reason }
    }
}
