//! The catalog as compact arrays to learn from.

mod corpus;
mod feedback;
pub mod listens;
mod masking;
mod sequences;
mod text;
mod track_finder;

pub use corpus::{Corpus, NONE};
pub use feedback::{Event, Feedback, FeedbackSplit, by_user, split};
pub use masking::{MIN_HOLDOUTS, MaskedPlaylist, SeedKind, mask};
pub use sequences::{DataFingerprint, HeldOutSequences, NextTrackQuery, Sequences};
pub use text::{TextIndex, Texts, Unit, normalise};
pub use track_finder::{TrackFinder, TrackMatches};
