//! Bundles: what the trainer publishes and the server loads, and the only interface between the two.
//!
//! `models/<kind>/<version>/` holds a `manifest.json` and the files that it lists with size and SHA-256. A version is
//! written into a folder beside it, synced and renamed, and then `models/<kind>/current`, a symbolic link, is swapped
//! by rename: `current` always points to a complete bundle. Reading a bundle checks every file against the manifest.

mod array;
mod clicks;
mod completion;
mod error;
mod export;
mod load;
mod manifest;
mod neumf;
mod ratings;
mod similarity;
mod vocabulary;
mod write;

pub use array::{Element, decode_array, encode_array};
pub use clicks::{ClickBundle, ClickMember, Scorer};
pub use completion::{CompletionBundle, CompletionIndex, DerivedTables, RANKING_FEATURES};
pub use error::BundleError;
pub use export::{EmbeddingTable, ExportError, ExportFormat, ExportName, export_embeddings, names_file};
pub use load::{BundleFolder, current_version, versions};
pub use manifest::{FORMAT_VERSION, FileEntry, Kind, Manifest, NewManifest};
pub use neumf::NeumfBundle;
pub use ratings::{ImplicitBundle, RatingsBundle, RatingsShape};
pub use similarity::{NextTracks, SimilarityBundle};
pub use vocabulary::Vocabulary;
pub use write::{BundleWriter, activate};
