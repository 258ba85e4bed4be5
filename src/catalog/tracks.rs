//! Tracks with their artists and albums: read, search, change, delete.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;
use super::placement_edits::take_out;
use super::records::{AlbumId, ArtistId, PlaylistRow, TrackId, TrackRecord, TrackRow};
use super::upsert::{lock_names, replace_track_record};

/// Playlists that one transaction takes a deleted track out of.
const PLAYLISTS_AT_ONCE: i64 = 500;

/// A track with its artist and album.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// the app's id
    pub id: TrackId,
    /// title of the track
    pub name: String,
    /// name of its artist, if it has one
    pub artist: Option<String>,
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

/// Title and artist of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackName {
    /// title of the track
    pub name: String,
    /// name of its artist, if it has one
    pub artist: Option<String>,
}

/// A track that got another title or artist, or whose artist got another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenamedTrack {
    /// the app's id
    pub id: String,
    /// when
    pub at: OffsetDateTime,
}

/// A track that must not be recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenTrack {
    /// the app's id
    pub id: TrackId,
    /// whether it was deleted; else it is hidden
    pub is_removed: bool,
}

macro_rules! select_tracks {
    ($condition:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            Track,
            r#"SELECT t.uri AS "id!: TrackId", t.name AS "name!", a.name AS "artist?", a.uri AS "artist_id: ArtistId",
                      b.name AS "album?", b.uri AS "album_id: AlbumId", t.duration_ms, t.genres AS "genres!",
                      t.hidden AS "hidden!"
               FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id "# + $condition
            $(, $argument)*
        )
    };
}

impl Catalog {
    /// Returns a track.
    pub async fn track(&self, id: &TrackId) -> Result<Option<Track>, CatalogError> {
        Ok(fetch(&mut *self.pool.acquire().await?, id).await?)
    }

    /// Returns up to `limit` tracks in the order of their ids, from the first one after `after`.
    pub async fn tracks_after(&self, after: &str, limit: i64) -> Result<Vec<Track>, CatalogError> {
        let tracks =
            select_tracks!("WHERE t.uri > $1 ORDER BY t.uri LIMIT $2", after, limit).fetch_all(&self.pool).await?;
        Ok(tracks)
    }

    /// Returns the names of the tracks that the catalog has. Ids are a model's, unchecked.
    pub async fn track_names(&self, ids: &[String]) -> Result<HashMap<String, TrackName>, CatalogError> {
        let rows = sqlx::query!(
            r#"SELECT t.uri AS "uri!", t.name AS "name!", a.name AS "artist?" FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id
               WHERE t.uri = ANY($1)"#,
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.uri, TrackName { name: row.name, artist: row.artist })).collect())
    }

    /// Returns the tracks that got other names after `moment`; all that ever did without one.
    pub async fn renamed_tracks(&self, moment: Option<OffsetDateTime>) -> Result<Vec<RenamedTrack>, CatalogError> {
        let tracks = sqlx::query_as!(
            RenamedTrack,
            r#"SELECT uri AS id, renamed_at AS "at!" FROM tracks WHERE renamed_at > COALESCE($1::timestamptz, '-infinity')"#,
            moment
        );
        Ok(tracks.fetch_all(&self.pool).await?)
    }

    /// Creates or replaces the track `id` with what `decide` makes of its current state, which no one else can change
    /// meanwhile. Returns the new state, and whether the track is new. Calls `decide` again if the change is repeated
    /// because of another writer.
    pub async fn change_track<E: From<CatalogError>>(
        &self,
        id: &TrackId,
        mut decide: impl FnMut(Option<&Track>) -> Result<TrackRecord, E>,
    ) -> Result<(Track, bool), E> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_change_track(id, &mut decide).await {
                Ok(decided) => return decided,
                Err(error) if attempts.again(&error).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_change_track<E>(
        &self,
        id: &TrackId,
        decide: &mut impl FnMut(Option<&Track>) -> Result<TrackRecord, E>,
    ) -> Result<Result<(Track, bool), E>, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        lock_names(&mut transaction).await?;
        let current = fetch(&mut transaction, id).await?;
        let record = match decide(current.as_ref()) {
            Ok(record) => record,
            Err(refused) => return Ok(Err(refused)),
        };
        replace_track_record(&mut transaction, &record).await?;
        sqlx::query!(
            "UPDATE tracks SET name = COALESCE($2, uri), artist_id = CASE WHEN $3 THEN artist_id END,
                               album_id = CASE WHEN $4 THEN album_id END, duration_ms = $5, genres = $6, hidden = $7
             WHERE uri = $1",
            id.as_str(),
            record.name,
            record.artist.is_some(),
            record.album.is_some(),
            record.duration_ms,
            &record.genres.unwrap_or_default(),
            record.hidden.unwrap_or_default()
        )
        .execute(&mut *transaction)
        .await?;
        let written = fetch(&mut transaction, id).await?;
        transaction.commit().await?;
        let lost = || CatalogError::Protocol("a track is missing after it was written".to_owned());
        Ok(Ok((written.ok_or_else(lost)?, current.is_none())))
    }

    /// Deletes the track `id` unless `decide` fails: out of all playlists, whose later tracks move up, with its ratings and
    /// listens. Returns false if there is none.
    ///
    /// Takes as many transactions as the playlists need, and hides the track in the first. If interrupted, it can be
    /// called again.
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
        let mut attempts = Attempts::default();
        loop {
            match self.try_remove_track(TrackRow(row)).await {
                Ok(Some(was_there)) => return Ok(was_there),
                Ok(None) => attempts = Attempts::default(),
                // Another writer may have placed, rated or played it since.
                Err(error) if attempts.again(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a track out of some playlists; out of the catalog if it is in none. Returns whether it was in the catalog then.
    async fn try_remove_track(&self, row: TrackRow) -> Result<Option<bool>, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let playlists = sqlx::query_scalar!(
            "SELECT id FROM playlists
             WHERE id IN (SELECT DISTINCT playlist_id FROM playlist_tracks WHERE track_id = $1 ORDER BY playlist_id LIMIT $2)
             ORDER BY id FOR UPDATE",
            row.0,
            PLAYLISTS_AT_ONCE
        )
        .fetch_all(&mut *transaction)
        .await?;
        if !playlists.is_empty() {
            let playlists: Vec<PlaylistRow> = playlists.into_iter().map(PlaylistRow).collect();
            take_out(&mut transaction, &playlists, row).await?;
            transaction.commit().await?;
            return Ok(None);
        }
        lock_names(&mut transaction).await?;
        sqlx::query!(
            "WITH locked AS MATERIALIZED (SELECT user_id FROM ratings WHERE track_id = $1 ORDER BY user_id FOR UPDATE)
             DELETE FROM ratings r USING locked WHERE r.track_id = $1 AND r.user_id = locked.user_id",
            row.0
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "WITH locked AS MATERIALIZED (
                 SELECT user_id, listened_at FROM listens WHERE track_id = $1 ORDER BY user_id, listened_at FOR UPDATE
             )
             DELETE FROM listens l USING locked
             WHERE l.track_id = $1 AND l.user_id = locked.user_id AND l.listened_at = locked.listened_at",
            row.0
        )
        .execute(&mut *transaction)
        .await?;
        let deleted = sqlx::query!("DELETE FROM tracks WHERE id = $1", row.0).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(deleted.rows_affected() > 0))
    }

    /// Returns all tracks that must not be recommended.
    pub async fn hidden_tracks(&self) -> Result<Vec<HiddenTrack>, CatalogError> {
        let rows = sqlx::query_as!(
            HiddenTrack,
            r#"SELECT uri AS "id!: TrackId", false AS "is_removed!" FROM tracks WHERE hidden
               UNION ALL SELECT uri, true FROM removed_tracks"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

/// Returns the tracks of `rows`, in that order.
pub(super) async fn tracks_of_rows(connection: &mut PgConnection, rows: &[i32]) -> sqlx::Result<Vec<Track>> {
    let tracks = select_tracks!(
        "JOIN unnest($1::int[]) WITH ORDINALITY AS listed (row, place) ON listed.row = t.id ORDER BY listed.place",
        rows
    );
    tracks.fetch_all(connection).await
}

async fn fetch(connection: &mut PgConnection, id: &TrackId) -> sqlx::Result<Option<Track>> {
    let track = select_tracks!("WHERE t.uri = $1", id.as_str());
    track.fetch_optional(connection).await
}
