//! The catalog as compact arrays to learn from.

mod sequences;

pub use sequences::{DataFingerprint, HeldOut, NextTrackQuery, Sequences};
