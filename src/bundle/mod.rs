//! Bundles: what the trainer and the server agree on, and the only thing that both know.
//!
//! `models/<kind>/<version>/` holds a `manifest.json` and the files that it lists with size and SHA-256. A version is
//! written into a folder beside it, synced and renamed, and then `models/<kind>/current`, a symbolic link, is swapped
//! by rename: at any moment `current` leads to a whole bundle. Reading a bundle checks every file against the manifest.

mod array;
mod clicks;
mod completion;
mod export;
mod load;
mod manifest;
mod neumf;
mod ratings;
mod similarity;
mod vocabulary;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use array::{decode_array, encode_array};
pub use clicks::{ClickBundle, ClickMember, Scorer};
pub use completion::{CompletionBundle, CompletionIndex, Derived};
pub use export::{EmbeddingTable, ExportError, ExportFormat, ExportName, export_embeddings, names_file};
pub use load::{BundleFolder, current_version, versions};
pub use manifest::{FORMAT_VERSION, FileEntry, Kind, Manifest, NewManifest};
pub use neumf::NeumfBundle;
pub use ratings::{ImplicitBundle, RatingsBundle, RatingsShape};
pub use similarity::{NextTracks, SimilarityBundle};
pub use vocabulary::Vocabulary;
pub use write::{BundleWriter, activate};

/// Why a bundle can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no bundle of that kind.
    #[error("no {kind} bundle in {}; `segue train {kind}` publishes one", folder.display())]
    None {
        /// the kind asked for
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
    /// Someone else is writing bundles of this kind.
    #[error("another process is training or publishing in {}", folder.display())]
    Busy {
        /// the folder of the kind
        folder: PathBuf,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// the file or folder
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
}

impl BundleError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    fn file(file: &Path, reason: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), reason: reason.into() }
    }
}
