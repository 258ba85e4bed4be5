//! Tracks, with the names that people see.

use std::collections::HashMap;

use sqlx::{Acquire, PgConnection};

use super::connection::Catalog;
use super::error::CatalogError;
use super::placement_edits::take_out;
use super::records::{AlbumId, ArtistId, PlaylistRow, RowChange, TrackId, TrackRecord, TrackRow};
use super::upsert::{lock_tracks, upsert_track_records};

/// Playlists that lose a deleted track in one transaction.
const PLAYLISTS_AT_ONCE: i64 = 500;

/// A track with its artist and album.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// the app's id
    pub id: TrackId,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
    /// the app's id of the artist, where it has one
    pub artist_id: Option<ArtistId>,
    /// name of its album
    pub album: Option<String>,
    /// the app's id of the album, where it has one
    pub album_id: Option<AlbumId>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
    /// names of its genres
    pub genres: Vec<String>,
    /// whether it must not be recommended
    pub hidden: bool,
}

/// What it takes to show a track in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackName {
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
}

/// A track that must not be recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenTrack {
    /// the app's id
    pub id: TrackId,
    /// whether it was deleted; else it is hidden
    pub is_removed: bool,
}

impl Catalog {
    /// The track with an id.
    pub async fn track(&self, id: &TrackId) -> Result<Option<Track>, CatalogError> {
        Ok(fetch(&mut *self.pool.acquire().await?, id).await?)
    }

    /// Up to `limit` tracks in the order of their ids, those behind `after`.
    pub async fn tracks_after(&self, after: &str, limit: i64) -> Result<Vec<Track>, CatalogError> {
        let tracks = sqlx::query_as!(
            Track,
            "SELECT t.uri AS \"id: TrackId\", t.name, a.name AS artist, a.uri AS \"artist_id: ArtistId\",
                    b.name AS \"album?\", b.uri AS \"album_id: AlbumId\",
                    t.duration_ms, t.genres, t.hidden
             FROM tracks t JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             WHERE t.uri > $1 ORDER BY t.uri LIMIT $2",
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tracks)
    }

    /// Up to `limit` tracks whose title and artist are most like `text`, misspelt or not, those behind the first
    /// `offset`.
    pub async fn search_tracks(&self, text: &str, offset: i64, limit: i64) -> Result<Vec<Track>, CatalogError> {
        let mut transaction = self.begin_search().await?;
        let tracks = sqlx::query_as!(
            Track,
            "SELECT t.uri AS \"id: TrackId\", t.name, a.name AS artist, a.uri AS \"artist_id: ArtistId\",
                    b.name AS \"album?\", b.uri AS \"album_id: AlbumId\",
                    t.duration_ms, t.genres, t.hidden
             FROM tracks t JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             WHERE t.search_text %> $1
             ORDER BY word_similarity($1, t.search_text) DESC, similarity($1, t.search_text) DESC, t.uri
             OFFSET $2 LIMIT $3",
            text,
            offset,
            limit
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(tracks)
    }

    /// Names of those of the tracks that the catalog has, by the ids that models know.
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

    /// Creates or replaces the track `id`, as `decide` says, which sees it as it is and keeps it so until it is written.
    /// Gives it as it is then, and whether it is new.
    pub async fn change_track<E: From<CatalogError>>(
        &self,
        id: &TrackId,
        decide: impl FnOnce(Option<&Track>) -> Result<TrackRecord, E>,
    ) -> Result<(Track, bool), E> {
        let mut connection = self.pool.acquire().await.map_err(CatalogError::from)?;
        let mut transaction = connection.begin().await.map_err(CatalogError::from)?;
        lock_tracks(&mut transaction).await?;
        let current = fetch(&mut transaction, id).await.map_err(CatalogError::from)?;
        let record = decide(current.as_ref())?;
        upsert_track_records(&mut transaction, [&record]).await?;
        sqlx::query!(
            "UPDATE tracks SET name = $2, duration_ms = $3, album_id = CASE WHEN $4 THEN album_id END, genres = $5,
                               hidden = $6
             WHERE uri = $1",
            id.as_str(),
            record.name,
            record.duration_ms,
            record.album.is_some(),
            &record.genres.unwrap_or_default(),
            record.hidden.unwrap_or_default()
        )
        .execute(&mut *transaction)
        .await
        .map_err(CatalogError::from)?;
        let written = fetch(&mut transaction, id).await.map_err(CatalogError::from)?;
        transaction.commit().await.map_err(CatalogError::from)?;
        let lost = || CatalogError::Protocol("a track that was written is not there".to_owned());
        Ok((written.ok_or_else(lost)?, current.is_none()))
    }

    /// Upserts tracks of distinct ids in one transaction; what became of each.
    pub async fn change_tracks(&self, tracks: &[TrackRecord]) -> Result<Vec<RowChange>, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        lock_tracks(&mut transaction).await?;
        let changes = upsert_track_records(&mut transaction, tracks).await?.changes;
        transaction.commit().await?;
        Ok(changes)
    }

    /// Deletes the track `id` if `decide` lets it go: out of all playlists, whose later tracks move up, with what users
    /// rated and played of it. False when there is none.
    ///
    /// Takes as many transactions as its playlists need, and hides it in the first. Cut off, it can be called again.
    pub async fn delete_track<E: From<CatalogError>>(
        &self,
        id: &TrackId,
        decide: impl FnOnce(&Track) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(track) = self.track(id).await? else { return Ok(false) };
        decide(&track)?;
        Ok(self.remove_track(id).await?)
    }

    async fn remove_track(&self, id: &TrackId) -> Result<bool, CatalogError> {
        let row = sqlx::query_scalar!("UPDATE tracks SET hidden = true WHERE uri = $1 RETURNING id", id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(false) };
        loop {
            let mut connection = self.pool.acquire().await?;
            let mut transaction = connection.begin().await?;
            // In one order everywhere, so that requests side by side don't wait for each other in a circle.
            let playlists = sqlx::query_scalar!(
                "SELECT id FROM playlists
                 WHERE id IN (SELECT playlist_id FROM playlist_tracks WHERE track_id = $1 ORDER BY playlist_id LIMIT $2)
                 ORDER BY id FOR UPDATE",
                row,
                PLAYLISTS_AT_ONCE
            )
            .fetch_all(&mut *transaction)
            .await?;
            if playlists.is_empty() {
                sqlx::query!("DELETE FROM ratings WHERE track_id = $1", row).execute(&mut *transaction).await?;
                sqlx::query!("DELETE FROM listens WHERE track_id = $1", row).execute(&mut *transaction).await?;
                let deleted = sqlx::query!("DELETE FROM tracks WHERE id = $1", row).execute(&mut *transaction).await?;
                transaction.commit().await?;
                return Ok(deleted.rows_affected() > 0);
            }
            let playlists: Vec<PlaylistRow> = playlists.into_iter().map(PlaylistRow).collect();
            take_out(&mut transaction, &playlists, TrackRow(row)).await?;
            transaction.commit().await?;
        }
    }

    /// All tracks that must not be recommended.
    pub async fn hidden_tracks(&self) -> Result<Vec<HiddenTrack>, CatalogError> {
        let rows = sqlx::query_as!(
            HiddenTrack,
            r#"SELECT uri AS "id!: TrackId", false AS "is_removed!" FROM tracks WHERE hidden
               UNION ALL SELECT uri, true FROM removed_tracks"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

async fn fetch(connection: &mut PgConnection, id: &TrackId) -> sqlx::Result<Option<Track>> {
    let track = sqlx::query_as!(
        Track,
        "SELECT t.uri AS \"id: TrackId\", t.name, a.name AS artist, a.uri AS \"artist_id: ArtistId\",
                    b.name AS \"album?\", b.uri AS \"album_id: AlbumId\",
                    t.duration_ms, t.genres, t.hidden
             FROM tracks t JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             WHERE t.uri = $1",
        id.as_str()
    );
    track.fetch_optional(connection).await
}
