//! Imports: files of other systems, read into catalog rows.
//!
//! A format is a file here that reads a [`Source`] and hands rows over a batch at a time; the [engine](engine) writes a
//! batch in one transaction while the reader, on a thread of its own, reads the next one. A bad row in a good file is
//! skipped and listed as a [`Reject`]. A file that is not in its format is rejected with the position: of a slice that fits
//! into a batch, and of a NumPy file, nothing is imported then; files of lines are imported up to that position. A killed
//! import leaves whole batches, and running it again completes it.

pub mod deezer;
mod engine;
mod error;
pub mod kkbox;
pub mod mpd;
pub mod ndjson;
pub mod npy;
pub mod pickle;
pub mod ratings;
mod report;
mod sink;
mod source;
mod table;
pub mod yes_radio;

pub use deezer::import_deezer;
pub use error::{FormatError, ImportError, ReadError};
pub use kkbox::import_kkbox;
pub use mpd::{import_mpd, import_mpd_naming};
pub use ndjson::{import_ndjson, import_ndjson_naming};
pub use ratings::{ParsedRatings, RatingsFile, find_movielens, import_ratings, import_ratings_naming};
pub use report::{FailedFile, ImportReport, Outcome, Reason, Reject, RejectLog, Skipped};
pub use sink::{Batch, RowNumber, RowPlace, Sink};
pub use source::{BytesRead, Line, LineProblem, Source, read_file};
pub use yes_radio::import_yes_radio;
