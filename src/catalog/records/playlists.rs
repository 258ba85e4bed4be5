//! Playlists with their tracks.

use time::OffsetDateTime;

use super::ids::{PlaylistId, UserId};
use super::tracks::TrackMention;

/// A playlist as a source describes it, tracks in order. None leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistRecord {
    /// the app's id
    pub id: PlaylistId,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it; false if no source says so
    pub collaborative: Option<bool>,
    /// followers
    pub num_followers: Option<i32>,
    /// edits
    pub num_edits: Option<i32>,
    /// distinct albums
    pub num_albums: Option<i32>,
    /// distinct artists
    pub num_artists: Option<i32>,
    /// length in milliseconds
    pub duration_ms: Option<i64>,
    /// last change by its owner
    pub modified_at: Option<OffsetDateTime>,
    /// its owner
    pub user: Option<UserId>,
    /// its tracks in order
    pub tracks: Vec<TrackMention>,
    /// whether the source says nothing of its tracks; those that are there stay then
    pub keeps_tracks: bool,
}

impl PlaylistRecord {
    /// A playlist of which a source only states the tracks.
    pub fn bare(id: PlaylistId, tracks: Vec<TrackMention>) -> Self {
        Self {
            id,
            title: None,
            description: None,
            collaborative: None,
            num_followers: None,
            num_edits: None,
            num_albums: None,
            num_artists: None,
            duration_ms: None,
            modified_at: None,
            user: None,
            tracks,
            keeps_tracks: false,
        }
    }
}
