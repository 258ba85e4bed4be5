//! Playlists and the tracks in them.

use time::OffsetDateTime;

use super::{Catalog, CatalogError, can_be_stored};

/// A playlist without its tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    /// the app's id
    pub id: String,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// followers
    pub num_followers: Option<i32>,
    /// edits, as the source states them
    pub num_edits: Option<i32>,
    /// placements in it
    pub num_tracks: i32,
    /// distinct albums, as the source states them
    pub num_albums: Option<i32>,
    /// distinct artists, as the source states them
    pub num_artists: Option<i32>,
    /// length in milliseconds, as the source states it
    pub duration_ms: Option<i64>,
    /// last change by its owner
    pub modified_at: Option<OffsetDateTime>,
}

/// A placement with the names that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistTrack {
    /// position in the playlist, from 0
    pub position: i32,
    /// the app's id of the track
    pub id: String,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
}

/// What is completed of a playlist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistContents {
    /// its title
    pub title: Option<String>,
    /// the app's ids of all of its tracks, in order
    pub tracks: Vec<String>,
}

impl Catalog {
    /// The playlist with the app's id `id`.
    pub async fn playlist(&self, id: &str) -> Result<Option<Playlist>, CatalogError> {
        if !can_be_stored(id) {
            return Ok(None);
        }
        let playlist = sqlx::query_as!(
            Playlist,
            "SELECT external_id AS id, title, description, collaborative, num_followers, num_edits, num_tracks,
                    num_albums, num_artists, duration_ms, modified_at
             FROM playlists WHERE external_id = $1",
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(playlist)
    }

    /// Up to `limit` placements of a playlist, from position `from` on, in order.
    pub async fn playlist_tracks(&self, id: &str, from: i32, limit: i64) -> Result<Vec<PlaylistTrack>, CatalogError> {
        let tracks = sqlx::query_as!(
            PlaylistTrack,
            "SELECT pt.position, t.uri AS id, t.name, a.name AS artist
             FROM playlists p
             JOIN playlist_tracks pt ON pt.playlist_id = p.id
             JOIN tracks t ON t.id = pt.track_id
             JOIN artists a ON a.id = t.artist_id
             WHERE p.external_id = $1 AND pt.position >= $2
             ORDER BY pt.position LIMIT $3",
            id,
            from,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tracks)
    }

    /// Title and tracks of a playlist; `None` when there is no such playlist.
    pub async fn playlist_contents(&self, id: &str) -> Result<Option<PlaylistContents>, CatalogError> {
        if !can_be_stored(id) {
            return Ok(None);
        }
        let row = sqlx::query_as!(
            PlaylistContents,
            r#"SELECT p.title,
                      ARRAY(SELECT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
                            WHERE pt.playlist_id = p.id ORDER BY pt.position) AS "tracks!"
               FROM playlists p WHERE p.external_id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// The app's id of some playlist with `tracks` tracks or more, the same one each time; `None` if there is none.
    pub async fn sample_playlist(&self, tracks: i32) -> Result<Option<String>, CatalogError> {
        let id = sqlx::query_scalar!(
            "SELECT external_id FROM playlists WHERE num_tracks >= $1 ORDER BY md5(external_id) LIMIT 1",
            tracks
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(id)
    }
}
