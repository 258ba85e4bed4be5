//! Names and titles of the whole catalog, for training.

use super::{Catalog, CatalogError};

/// Where a track belongs and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackDescription {
    /// row id of the track
    pub row: i32,
    /// row id of its artist
    pub artist: i32,
    /// row id of its album, if it has one
    pub album: Option<i32>,
    /// its title
    pub name: String,
}

/// What a row is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowName {
    /// row id
    pub row: i32,
    /// its name
    pub name: String,
}

impl Catalog {
    /// Every track that is placed anywhere.
    pub async fn track_descriptions(&self) -> Result<Vec<TrackDescription>, CatalogError> {
        let tracks = sqlx::query_as!(
            TrackDescription,
            "SELECT id AS row, artist_id AS artist, album_id AS album, name FROM tracks
             WHERE EXISTS (SELECT FROM playlist_tracks WHERE track_id = tracks.id)"
        );
        Ok(tracks.fetch_all(&self.pool).await?)
    }

    /// Every artist.
    pub async fn artist_names(&self) -> Result<Vec<RowName>, CatalogError> {
        Ok(sqlx::query_as!(RowName, "SELECT id AS row, name FROM artists").fetch_all(&self.pool).await?)
    }

    /// Every album.
    pub async fn album_names(&self) -> Result<Vec<RowName>, CatalogError> {
        Ok(sqlx::query_as!(RowName, "SELECT id AS row, name FROM albums").fetch_all(&self.pool).await?)
    }

    /// Every playlist that has a title.
    pub async fn playlist_titles(&self) -> Result<Vec<RowName>, CatalogError> {
        let titles =
            sqlx::query_as!(RowName, r#"SELECT id AS row, title AS "name!" FROM playlists WHERE title IS NOT NULL"#);
        Ok(titles.fetch_all(&self.pool).await?)
    }
}
