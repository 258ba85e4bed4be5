//! Changes of the tracks of a playlist: append, insert, move, remove, replace.
//!
//! Positions are 0, 1, 2 … without gaps, and the playlist's row has their number. Every edit locks that row first, so that
//! concurrent edits of one playlist run one after the other. An append, by far the most frequent edit, takes one
//! statement; the others rewrite everything from the first position that they change.

use sqlx::PgConnection;

use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{PlaylistId, PlaylistRow, TrackId, TrackRow};

/// The longest playlist, in tracks.
const MAX_TRACKS: i32 = 100_000;

/// An edit of the tracks of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// adds tracks at the end
    Append(Vec<TrackId>),
    /// inserts tracks before a position
    Insert {
        /// position that the first of them gets
        at: usize,
        /// what to insert
        tracks: Vec<TrackId>,
    },
    /// moves tracks
    Move {
        /// position of the first of them
        from: usize,
        /// how many
        count: usize,
        /// position that the first of them gets
        to: usize,
    },
    /// removes tracks
    Remove {
        /// position of the first of them
        from: usize,
        /// how many
        count: usize,
    },
    /// replaces all tracks
    Replace(Vec<TrackId>),
}

/// The state of a playlist after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaylistState {
    /// number of tracks
    pub num_tracks: i32,
    /// its state, as [`crate::catalog::Playlist::tag`]
    pub tag: i64,
}

/// Why an edit failed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such playlist.
    #[error("no playlist with the id {0:?}")]
    NoSuchPlaylist(PlaylistId),
    /// It is not in an expected state.
    #[error("the playlist has changed")]
    Stale,
    /// Another request created or changed it at the same time.
    #[error("another request changed the playlist at the same time")]
    Raced,
    /// The catalog does not have the tracks at these indices of the list.
    #[error("unknown tracks")]
    UnknownTracks(Vec<usize>),
    /// A position is past the end.
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
    /// Edits the tracks of a playlist; with `expected`, only if it is in one of these states.
    pub async fn edit_playlist(
        &self,
        id: &PlaylistId,
        edit: Edit,
        expected: Option<&[i64]>,
    ) -> Result<PlaylistState, EditError> {
        if let Edit::Append(tracks) = &edit
            && let Some(edited) = self.append(id, tracks, expected).await?
        {
            return Ok(edited);
        }
        // The general way also finds out why an append failed.
        let mut transaction = self.pool.begin().await?;
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

    /// Appends in one statement. Returns none if that failed, for whatever reason.
    async fn append(
        &self,
        id: &PlaylistId,
        tracks: &[TrackId],
        expected: Option<&[i64]>,
    ) -> Result<Option<PlaylistState>, CatalogError> {
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
        Ok(edited.map(|row| PlaylistState { num_tracks: row.num_tracks, tag: row.tag }))
    }
}

/// Edits the placements of a playlist whose row is locked.
pub(super) async fn rewrite(
    connection: &mut PgConnection,
    PlaylistRow(playlist): PlaylistRow,
    edit: Edit,
) -> Result<PlaylistState, EditError> {
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
    Ok(PlaylistState { num_tracks: changed.num_tracks, tag: changed.tag })
}

/// Looks up tracks, or fails with the indices of the unknown ones.
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

/// Removes a track from playlists whose rows are locked.
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
