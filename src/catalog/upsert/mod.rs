//! Upserts of batches: playlists, tracks or users with everything they mention, in one transaction.
//!
//! The batch's artists, albums and tracks are made unique and looked up together; those that are missing go in by `COPY`
//! under ids drawn for them, those that differ are updated. Then the placements, by far the most rows, go in by `COPY`
//! too. Nothing is written for a playlist that has not changed, so that importing the same file twice changes nothing.
//! An import remembers the tracks that it wrote, and looks up the others alone.

mod batch;
mod known_tracks;
mod mentions;
mod named;
mod playlists;
mod tracks;
mod transaction;
mod users;

pub(crate) use known_tracks::KnownTracks;
pub(super) use mentions::Mentions;
pub(super) use tracks::{add_tracks, replace_track_record, upsert_track_records};
pub(super) use transaction::{begin_bulk, lock_names, skip_foreign_key_checks};
pub(super) use users::upsert_users;
