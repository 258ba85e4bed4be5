//! What became of rows that were written.

use std::ops::AddAssign;

use serde::Serialize;
use time::OffsetDateTime;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowChange {
    /// it was missing
    Added,
    /// it differed
    Changed,
    /// it was the same
    Unchanged,
}

/// Structs of counts that add up, batch by batch.
macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$field_doc:meta])+ $field:ident,)+ })+) => { $(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct $name {
            $($(#[$field_doc])+ pub $field: u64,)+
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)+
            }
        }
    )+ };
}

counts! {
    /// What a batch of playlists, tracks or users did to the catalog.
    BatchOutcome {
        /// playlists that were missing
        playlists_added,
        /// playlists that had other metadata or other tracks
        playlists_changed,
        /// playlists that were the same
        playlists_unchanged,
        /// placements of the batch, whether written or already there
        placements,
        /// tracks that were missing
        tracks_added,
        /// tracks that were described differently
        tracks_changed,
        /// artists that were missing
        artists_added,
        /// artists that had another name, or no id
        artists_changed,
        /// albums that were missing
        albums_added,
        /// albums that had another name, or no id
        albums_changed,
        /// users that were missing
        users_added,
    }
    /// What an import of ratings did to the catalog.
    RatingsOutcome {
        /// ratings read, whether written or already there
        ratings,
        /// ratings that were missing
        ratings_added,
        /// ratings that differed
        ratings_changed,
        /// ratings that were the same, or newer
        ratings_unchanged,
        /// tracks that were missing
        tracks_added,
        /// tracks that were described differently
        tracks_changed,
        /// artists that were missing
        artists_added,
        /// artists that had another name, or no id
        artists_changed,
        /// users that were missing
        users_added,
    }
    /// What an import of listens, with their users and tracks, did to the catalog.
    ListensOutcome {
        /// listens read, whether written or already there
        listens,
        /// listens that were missing
        listens_added,
        /// listens of which more is known now
        listens_changed,
        /// tracks that were missing
        tracks_added,
        /// tracks that were described differently
        tracks_changed,
        /// artists that were missing
        artists_added,
        /// artists that had another name, or no id
        artists_changed,
        /// users that were missing
        users_added,
        /// users that were described differently
        users_changed,
    }
}

/// A track that a playlist of a batch names and the catalog does not have: it is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTrack {
    /// index of the playlist in the batch
    pub playlist: usize,
    /// index of the track in the playlist
    pub track: usize,
}

/// Playlists of a batch after they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertedPlaylists {
    /// in numbers
    pub outcome: BatchOutcome,
    /// tracks that are not placed
    pub unknown_tracks: Vec<UnknownTrack>,
    /// what became of each playlist
    pub changes: Vec<RowChange>,
}

/// What became of feedback that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackOutcome {
    /// rows that were missing
    pub added: u64,
    /// rows that differed
    pub changed: u64,
    /// rows that were the same, or newer
    pub unchanged: u64,
    /// indices in the input of rows about tracks that the catalog does not have; they are not stored
    pub unknown_tracks: Vec<usize>,
}

/// A listen that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenListen {
    /// its index in the input
    pub place: usize,
    /// whether it was missing
    pub is_new: bool,
    /// what was known before of whether the user came back to it
    pub target_before: Option<bool>,
    /// when it was written
    pub updated_at: OffsetDateTime,
}
