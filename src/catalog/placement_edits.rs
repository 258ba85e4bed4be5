//! Changes of the tracks of a playlist: append, insert, move, remove, replace.
//!
//! Positions are 0, 1, 2 … without gaps, and a playlist's row says how many there are. Whoever changes placements holds
//! that row first, so that two who change one playlist come one after the other. To append, by far the most frequent
//! change, takes one statement; the others write anew what comes behind the first position that they change.

use sqlx::{Acquire, PgConnection};

use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{PlaylistId, PlaylistRow, TrackId, TrackRow};

/// The longest playlist, in tracks.
const MAX_TRACKS: i32 = 100_000;

/// A change of the tracks of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// puts tracks at the end
    Append(Vec<TrackId>),
    /// puts tracks before the one at a position
    Insert {
        /// position that the first of them gets
        at: usize,
        /// what to insert
        tracks: Vec<TrackId>,
    },
    /// takes tracks out and puts them in again elsewhere
    Move {
        /// position of the first of them
        from: usize,
        /// how many
        count: usize,
        /// position that the first of them gets
        to: usize,
    },
    /// takes tracks out
    Remove {
        /// position of the first of them
        from: usize,
        /// how many
        count: usize,
    },
    /// puts others in the place of all
    Replace(Vec<TrackId>),
}

/// A playlist after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// tracks that it has now
    pub num_tracks: i32,
    /// its state, as [`crate::catalog::Playlist::tag`]
    pub tag: i64,
}

/// Why a playlist is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such playlist.
    #[error("no playlist with the id {0:?}")]
    NoSuchPlaylist(PlaylistId),
    /// It is not in the state that was to be changed.
    #[error("the playlist has changed")]
    Stale,
    /// Someone else created or changed it at the same time.
    #[error("the playlist was created or changed at the same time")]
    Raced,
    /// Places in the list of tracks to add of those that the catalog does not have.
    #[error("there are no such tracks")]
    UnknownTracks(Vec<usize>),
    /// The positions lie outside of it.
    #[error("the playlist has {0} tracks")]
    OutOfRange(usize),
    /// It would be too long.
    #[error("a playlist has at most {MAX_TRACKS} tracks")]
    TooLong,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<sqlx::Error> for EditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Catalog {
    /// Changes the tracks of a playlist; with `expected`, only if it is in one of these states.
    pub async fn edit_playlist(
        &self,
        id: &PlaylistId,
        edit: Edit,
        expected: Option<&[i64]>,
    ) -> Result<Edited, EditError> {
        if let Edit::Append(tracks) = &edit
            && let Some(edited) = self.append(id, tracks, expected).await?
        {
            return Ok(edited);
        }
        // Whatever kept it from being appended is found out here.
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let row = sqlx::query!(
            r#"SELECT id, (id::bigint << 32) | version AS "tag!" FROM playlists WHERE external_id = $1 FOR UPDATE"#,
            id.as_str()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let row = row.ok_or_else(|| EditError::NoSuchPlaylist(id.clone()))?;
        if expected.is_some_and(|expected| !expected.contains(&row.tag)) {
            return Err(EditError::Stale);
        }
        let edited = rewrite(&mut transaction, PlaylistRow(row.id), edit).await?;
        transaction.commit().await?;
        Ok(edited)
    }

    /// Appends in one statement; `None` when that can't be, for whatever reason.
    async fn append(
        &self,
        id: &PlaylistId,
        tracks: &[TrackId],
        expected: Option<&[i64]>,
    ) -> Result<Option<Edited>, CatalogError> {
        let edited = sqlx::query!(
            r#"WITH wanted AS MATERIALIZED (
                   SELECT input.place, t.id
                   FROM UNNEST($2::text[]) WITH ORDINALITY AS input (uri, place) LEFT JOIN tracks t ON t.uri = input.uri
               ), changed AS (
                   UPDATE playlists
                   SET num_tracks = num_tracks + $3::int, updated_at = now(), modified_at = now()
                   WHERE external_id = $1 AND num_tracks <= $4::int - $3::int
                     AND NOT EXISTS (SELECT FROM wanted WHERE id IS NULL)
                     AND ($5::bigint[] IS NULL OR ((id::bigint << 32) | version) = ANY($5))
                   RETURNING id, num_tracks, version
               ), placed AS (
                   INSERT INTO playlist_tracks (playlist_id, position, track_id)
                   SELECT changed.id, changed.num_tracks - $3::int + wanted.place::int - 1, wanted.id FROM changed, wanted
               )
               SELECT num_tracks, (id::bigint << 32) | version AS "tag!" FROM changed"#,
            id.as_str(),
            tracks as &[TrackId],
            tracks.len() as i32,
            MAX_TRACKS,
            expected
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(edited.map(|row| Edited { num_tracks: row.num_tracks, tag: row.tag }))
    }
}

/// Changes the placements of a playlist whose row is held.
pub(super) async fn rewrite(
    connection: &mut PgConnection,
    PlaylistRow(playlist): PlaylistRow,
    edit: Edit,
) -> Result<Edited, EditError> {
    let mut rows =
        sqlx::query_scalar!("SELECT track_id FROM playlist_tracks WHERE playlist_id = $1 ORDER BY position", playlist)
            .fetch_all(&mut *connection)
            .await?;
    let length = rows.len();
    let first = match edit {
        Edit::Append(tracks) => {
            rows.extend(rows_of(connection, &tracks).await?);
            length
        }
        Edit::Insert { at, tracks } => {
            if at > length {
                return Err(EditError::OutOfRange(length));
            }
            let inserted = rows_of(connection, &tracks).await?;
            rows.splice(at..at, inserted);
            at
        }
        Edit::Move { from, count, to } => {
            let end = from.checked_add(count).filter(|&end| end <= length);
            let end = end.filter(|_| to <= length - count).ok_or(EditError::OutOfRange(length))?;
            let moved: Vec<i32> = rows.drain(from..end).collect();
            rows.splice(to..to, moved);
            from.min(to)
        }
        Edit::Remove { from, count } => {
            let end = from.checked_add(count).filter(|&end| end <= length).ok_or(EditError::OutOfRange(length))?;
            rows.drain(from..end);
            from
        }
        Edit::Replace(tracks) => {
            rows = rows_of(connection, &tracks).await?;
            0
        }
    };
    if rows.len() > MAX_TRACKS as usize {
        return Err(EditError::TooLong);
    }
    sqlx::query!("DELETE FROM playlist_tracks WHERE playlist_id = $1 AND position >= $2", playlist, first as i32)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "INSERT INTO playlist_tracks (playlist_id, position, track_id)
         SELECT $1, $2 + place::int - 1, id FROM UNNEST($3::int[]) WITH ORDINALITY AS input (id, place)",
        playlist,
        first as i32,
        &rows[first..]
    )
    .execute(&mut *connection)
    .await?;
    let changed = sqlx::query!(
        r#"UPDATE playlists SET num_tracks = $2, updated_at = now(), modified_at = now() WHERE id = $1
           RETURNING num_tracks, (id::bigint << 32) | version AS "tag!""#,
        playlist,
        rows.len() as i32
    )
    .fetch_one(connection)
    .await?;
    Ok(Edited { num_tracks: changed.num_tracks, tag: changed.tag })
}

/// Rows of tracks, or the places of those that are not there.
async fn rows_of(connection: &mut PgConnection, tracks: &[TrackId]) -> Result<Vec<i32>, EditError> {
    let rows = sqlx::query_scalar!(
        r#"SELECT t.id AS "id?" FROM UNNEST($1::text[]) WITH ORDINALITY AS input (uri, place)
           LEFT JOIN tracks t ON t.uri = input.uri ORDER BY input.place"#,
        tracks as &[TrackId]
    )
    .fetch_all(connection)
    .await?;
    let unknown: Vec<usize> = (0..).zip(&rows).filter(|(_, row)| row.is_none()).map(|(place, _)| place).collect();
    if unknown.is_empty() { Ok(rows.into_iter().flatten().collect()) } else { Err(EditError::UnknownTracks(unknown)) }
}

/// Takes a track out of playlists whose rows are held.
pub(super) async fn take_out(
    connection: &mut PgConnection,
    playlists: &[PlaylistRow],
    TrackRow(track): TrackRow,
) -> Result<(), CatalogError> {
    let kept = sqlx::query!(
        r#"SELECT pt.playlist_id, array_agg(pt.track_id ORDER BY pt.position) FILTER (WHERE pt.track_id <> $2) AS tracks
           FROM playlist_tracks pt WHERE pt.playlist_id = ANY($1) GROUP BY pt.playlist_id"#,
        playlists as &[PlaylistRow],
        track
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!("DELETE FROM playlist_tracks WHERE playlist_id = ANY($1)", playlists as &[PlaylistRow])
        .execute(&mut *connection)
        .await?;
    let (mut owners, mut positions, mut tracks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut lengths) = (Vec::new(), Vec::new());
    for row in kept {
        let kept = row.tracks.unwrap_or_default();
        changed.push(row.playlist_id);
        lengths.push(kept.len() as i32);
        for (position, track) in (0..).zip(kept) {
            owners.push(row.playlist_id);
            positions.push(position);
            tracks.push(track);
        }
    }
    sqlx::query!(
        "INSERT INTO playlist_tracks (playlist_id, position, track_id)
         SELECT * FROM UNNEST($1::int[], $2::int[], $3::int[])",
        &owners,
        &positions,
        &tracks
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE playlists p SET num_tracks = input.length, updated_at = now()
         FROM UNNEST($1::int[], $2::int[]) AS input (id, length) WHERE p.id = input.id",
        &changed,
        &lengths
    )
    .execute(connection)
    .await?;
    Ok(())
}
