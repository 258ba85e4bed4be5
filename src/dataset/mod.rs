//! The catalog as compact arrays to learn from.

pub mod click_features;
pub mod click_table;
pub mod clicks;
mod corpus;
mod csr;
mod feedback;
mod masking;
mod sequences;
mod taste;
mod text;
pub mod top;
mod track_finder;
pub mod truncated_svd;
mod values;

pub use corpus::{Corpus, NONE};
pub use csr::Csr;
pub use feedback::{Event, Feedback, FeedbackSplit, by_user, split};
pub use masking::{MIN_HOLDOUTS, Masked, SeedKind, mask};
pub use sequences::{DataFingerprint, HeldOut, NextTrackQuery, Sequences};
pub use taste::{Taste, Tastes};
pub use text::{TextIndex, Texts, Unit, normalise};
pub use track_finder::{Found, TrackFinder};
pub use values::Values;
