//! All names and titles, for training.

use std::collections::HashMap;

use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{AlbumRow, ArtistRow, PlaylistRow, TrackRow};

/// A track with its name, artist and album.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackDescription {
    /// its row
    pub row: TrackRow,
    /// row of its artist, if it has one
    pub artist: Option<ArtistRow>,
    /// row of its album, if it has one
    pub album: Option<AlbumRow>,
    /// its title
    pub name: String,
}

impl Catalog {
    /// Returns all tracks that have placements.
    pub async fn track_descriptions(&self) -> Result<Vec<TrackDescription>, CatalogError> {
        let tracks = sqlx::query_as!(
            TrackDescription,
            r#"SELECT id AS row, artist_id AS "artist: ArtistRow", album_id AS "album: AlbumRow", name FROM tracks
               WHERE EXISTS (SELECT FROM playlist_tracks WHERE track_id = tracks.id)"#
        );
        Ok(tracks.fetch_all(&self.pool).await?)
    }

    /// Returns the names of all artists.
    pub async fn artist_names(&self) -> Result<HashMap<ArtistRow, String>, CatalogError> {
        let rows = sqlx::query!("SELECT id, name FROM artists").fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (ArtistRow(row.id), row.name)).collect())
    }

    /// Returns the names of all albums.
    pub async fn album_names(&self) -> Result<HashMap<AlbumRow, String>, CatalogError> {
        let rows = sqlx::query!("SELECT id, name FROM albums").fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (AlbumRow(row.id), row.name)).collect())
    }

    /// Returns the titles of all playlists that have one.
    pub async fn playlist_titles(&self) -> Result<HashMap<PlaylistRow, String>, CatalogError> {
        let rows = sqlx::query!(r#"SELECT id, title AS "title!" FROM playlists WHERE title IS NOT NULL"#);
        Ok(rows.fetch_all(&self.pool).await?.into_iter().map(|row| (PlaylistRow(row.id), row.title)).collect())
    }
}
