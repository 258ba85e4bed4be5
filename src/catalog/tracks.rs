//! Tracks, with the names that people see.

use std::collections::HashMap;

use sqlx::{Acquire, PgConnection};

use super::bulk::upsert_track_records;
use super::{Catalog, CatalogError, can_be_stored};
use super::{RowChange, TrackRecord};

/// Parts the genres of a track on the way to PostgreSQL, whose arrays of arrays must be rectangular.
const GENRE_SEPARATOR: &str = "\u{1f}";
/// Playlists that lose a deleted track in one transaction.
const PLAYLISTS_AT_ONCE: i64 = 500;

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
    /// names of its genres
    pub genres: Vec<String>,
    /// whether it must not be recommended
    pub hidden: bool,
}

/// All that a track is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackContents {
    /// its id, title, artist, album and length
    pub record: TrackRecord,
    /// names of its genres
    pub genres: Vec<String>,
    /// whether it must not be recommended
    pub hidden: bool,
}

/// What a row of a bulk request says of a track; what it leaves out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRowUpdate {
    /// its id, title, artist, album and length
    pub record: TrackRecord,
    /// names of its genres
    pub genres: Option<Vec<String>>,
    /// whether it must not be recommended
    pub hidden: Option<bool>,
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
pub struct Withheld {
    /// the app's id
    pub id: String,
    /// whether it was deleted; else it is hidden
    pub is_removed: bool,
}

impl Catalog {
    /// The track with the app's id `id`.
    pub async fn track(&self, id: &str) -> Result<Option<Track>, CatalogError> {
        if !can_be_stored(id) {
            return Ok(None);
        }
        Ok(fetch(&mut *self.pool.acquire().await?, id).await?)
    }

    /// Up to `limit` tracks in the order of their ids, those behind `after`.
    pub async fn tracks_after(&self, after: &str, limit: i64) -> Result<Vec<Track>, CatalogError> {
        let tracks = sqlx::query_as!(
            Track,
            "SELECT t.uri AS id, t.name, a.name AS artist, a.uri AS artist_id, b.name AS \"album?\", b.uri AS album_id,
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
            "SELECT t.uri AS id, t.name, a.name AS artist, a.uri AS artist_id, b.name AS \"album?\", b.uri AS album_id,
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

    /// Creates or replaces the track `id`, as `decide` says, which sees it as it is and keeps it so until it is written.
    /// Gives it as it is then, and whether it is new.
    pub async fn change_track<E: From<CatalogError>>(
        &self,
        id: &str,
        decide: impl FnOnce(Option<&Track>) -> Result<TrackContents, E>,
    ) -> Result<(Track, bool), E> {
        let mut connection = self.pool.acquire().await.map_err(CatalogError::from)?;
        let mut transaction = connection.begin().await.map_err(CatalogError::from)?;
        // In the order in which imports lock them.
        sqlx::query!("LOCK TABLE artists, albums, tracks IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .map_err(CatalogError::from)?;
        let current = fetch(&mut transaction, id).await.map_err(CatalogError::from)?;
        let contents = decide(current.as_ref())?;
        upsert_track_records(&mut transaction, std::slice::from_ref(&contents.record)).await?;
        sqlx::query!(
            "UPDATE tracks SET name = $2, duration_ms = $3, album_id = CASE WHEN $4 THEN album_id END, genres = $5,
                               hidden = $6
             WHERE uri = $1",
            id,
            contents.record.name,
            contents.record.duration_ms,
            contents.record.album.is_some(),
            &contents.genres,
            contents.hidden
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
    pub async fn upsert_track_rows(&self, rows: &[TrackRowUpdate]) -> Result<Vec<RowChange>, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        sqlx::query!("LOCK TABLE artists, albums, tracks IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await?;
        let records: Vec<TrackRecord> = rows.iter().map(|row| row.record.clone()).collect();
        let mut changes = upsert_track_records(&mut transaction, &records).await?.changes;
        let told: Vec<(usize, &TrackRowUpdate)> =
            rows.iter().enumerate().filter(|(_, row)| row.genres.is_some() || row.hidden.is_some()).collect();
        let uris: Vec<String> = told.iter().map(|(_, row)| row.record.uri.clone()).collect();
        let genres: Vec<Option<String>> =
            told.iter().map(|(_, row)| row.genres.as_ref().map(|genres| genres.join(GENRE_SEPARATOR))).collect();
        let hidden: Vec<Option<bool>> = told.iter().map(|(_, row)| row.hidden).collect();
        let written = sqlx::query_scalar!(
            r#"UPDATE tracks t
               SET genres = COALESCE(string_to_array(input.genres, $4), t.genres),
                   hidden = COALESCE(input.hidden, t.hidden)
               FROM UNNEST($1::text[], $2::text[], $3::bool[]) WITH ORDINALITY AS input (uri, genres, hidden, place)
               WHERE t.uri = input.uri
                 AND (t.genres, t.hidden) IS DISTINCT FROM
                     (COALESCE(string_to_array(input.genres, $4), t.genres), COALESCE(input.hidden, t.hidden))
               RETURNING input.place AS "place!""#,
            &uris,
            genres.as_slice() as &[Option<String>],
            hidden.as_slice() as &[Option<bool>],
            GENRE_SEPARATOR
        )
        .fetch_all(&mut *transaction)
        .await?;
        for place in written {
            let change = &mut changes[told[place as usize - 1].0];
            if *change == RowChange::Unchanged {
                *change = RowChange::Changed;
            }
        }
        transaction.commit().await?;
        Ok(changes)
    }

    /// Deletes the track `id` if `decide` lets it go: out of all playlists, whose later tracks move up, with what users
    /// rated and played of it. False when there is none.
    ///
    /// Takes as many transactions as its playlists need, and hides it in the first. Cut off, it can be called again.
    pub async fn delete_track<E: From<CatalogError>>(
        &self,
        id: &str,
        decide: impl FnOnce(&Track) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(track) = self.track(id).await? else { return Ok(false) };
        decide(&track)?;
        Ok(self.remove_track(id).await?)
    }

    async fn remove_track(&self, id: &str) -> Result<bool, CatalogError> {
        let row = sqlx::query_scalar!("UPDATE tracks SET hidden = true WHERE uri = $1 RETURNING id", id)
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
            crate::catalog::placement_edits::take_out(&mut transaction, &playlists, row).await?;
            transaction.commit().await?;
        }
    }

    /// All tracks that must not be recommended.
    pub async fn withheld_tracks(&self) -> Result<Vec<Withheld>, CatalogError> {
        let rows = sqlx::query_as!(
            Withheld,
            r#"SELECT uri AS "id!", false AS "is_removed!" FROM tracks WHERE hidden
               UNION ALL SELECT uri, true FROM removed_tracks"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

async fn fetch(connection: &mut PgConnection, id: &str) -> sqlx::Result<Option<Track>> {
    let track = sqlx::query_as!(
        Track,
        "SELECT t.uri AS id, t.name, a.name AS artist, a.uri AS artist_id, b.name AS \"album?\", b.uri AS album_id,
                    t.duration_ms, t.genres, t.hidden
             FROM tracks t JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             WHERE t.uri = $1",
        id
    );
    track.fetch_optional(connection).await
}
