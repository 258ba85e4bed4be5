//! Tracks, with the names that people see.

use std::collections::HashMap;

use super::{Catalog, CatalogError, can_be_stored};

/// A track with its artist and album.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// the app's id
    pub id: String,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
    /// the app's id of the artist, where it has one
    pub artist_id: Option<String>,
    /// name of its album
    pub album: Option<String>,
    /// the app's id of the album, where it has one
    pub album_id: Option<String>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
}

/// What it takes to show a track in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackName {
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
}

impl Catalog {
    /// The track with the app's id `id`.
    pub async fn track(&self, id: &str) -> Result<Option<Track>, CatalogError> {
        if !can_be_stored(id) {
            return Ok(None);
        }
        let track = sqlx::query_as!(
            Track,
            "SELECT t.uri AS id, t.name, a.name AS artist, a.uri AS artist_id, b.name AS \"album?\", b.uri AS album_id,
                    t.duration_ms
             FROM tracks t JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             WHERE t.uri = $1",
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(track)
    }

    /// Names of those of the tracks that the catalog has.
    pub async fn track_names(&self, ids: &[String]) -> Result<HashMap<String, TrackName>, CatalogError> {
        let rows = sqlx::query!(
            "SELECT t.uri, t.name, a.name AS artist FROM tracks t JOIN artists a ON a.id = t.artist_id
             WHERE t.uri = ANY($1)",
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.uri, TrackName { name: row.name, artist: row.artist })).collect())
    }
}
