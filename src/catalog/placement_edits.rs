//! Changes of the tracks of a playlist: append, insert, move, remove, replace.
//!
//! Positions are 0, 1, 2 … without gaps, and the playlist's row has their number. Every edit locks that row first, so that
//! concurrent edits of one playlist run one after the other. An append, by far the most frequent edit, takes one
//! statement; the others read the positions between the first and the last that they change, and write those that differ.

use std::ops::Range;

use sqlx::{PgConnection, Postgres, Transaction};

use super::attempts::{Attempts, Contention, GivesWay};
use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{PlaylistId, PlaylistRow, TrackId, TrackRow};
use super::upsert::skip_foreign_key_checks;

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

impl GivesWay for EditError {
    fn contention(&self) -> Option<Contention> {
        match self {
            Self::Raced => Some(Contention::Raced),
            Self::Catalog(error) => error.contention(),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for EditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Catalog {
    /// Edits the tracks of a playlist unless `check` fails for its state, which no one else can change meanwhile. States in
    /// `expected` are known to pass, all without it: in these, tracks are appended faster.
    pub async fn edit_playlist<E: From<EditError>>(
        &self,
        id: &PlaylistId,
        edit: &Edit,
        expected: Option<&[i64]>,
        check: impl Fn(i64) -> Result<(), E>,
    ) -> Result<PlaylistState, E> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_edit_playlist(id, edit, expected, &check).await {
                Ok(checked) => return checked,
                Err(error) if attempts.again(&error).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_edit_playlist<E>(
        &self,
        id: &PlaylistId,
        edit: &Edit,
        expected: Option<&[i64]>,
        check: impl Fn(i64) -> Result<(), E>,
    ) -> Result<Result<PlaylistState, E>, EditError> {
        if let Edit::Append(tracks) = edit
            && let Some(edited) = self.append(id, tracks, expected).await?
        {
            return Ok(Ok(edited));
        }
        // The general way also finds out why an append failed.
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"SELECT id, num_tracks, (id::bigint << 32) | version AS "tag!" FROM playlists WHERE external_id = $1 FOR UPDATE"#,
            id.as_str()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let row = row.ok_or_else(|| EditError::NoSuchPlaylist(id.clone()))?;
        if let Err(refused) = check(row.tag) {
            return Ok(Err(refused));
        }
        let edited = edit_tracks(&mut transaction, PlaylistRow(row.id), row.num_tracks as usize, edit).await?;
        transaction.commit().await?;
        Ok(Ok(edited))
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

/// Edits the placements of a playlist whose row is locked and which has `length` tracks.
async fn edit_tracks(
    transaction: &mut Transaction<'static, Postgres>,
    playlist: PlaylistRow,
    length: usize,
    edit: &Edit,
) -> Result<PlaylistState, EditError> {
    let end_of = |from: usize, count: usize| {
        from.checked_add(count).filter(|&end| end <= length).ok_or(EditError::OutOfRange(length))
    };
    // Which positions the edit concerns, and what comes instead of them.
    let (range, new) = match edit {
        Edit::Append(tracks) => (length..length, rows_of(transaction, tracks).await?),
        Edit::Replace(tracks) => return replace_tracks(transaction, playlist, length, tracks).await,
        Edit::Insert { at, tracks } => {
            let range = end_of(*at, 0)?..length;
            let mut new = rows_of(transaction, tracks).await?;
            new.extend(read(transaction, playlist, &range).await?);
            (range, new)
        }
        Edit::Move { from, count, to } => {
            let (end, new_end) = (end_of(*from, *count)?, end_of(*to, *count)?);
            let range = (*from).min(*to)..end.max(new_end);
            let mut new = read(transaction, playlist, &range).await?;
            match from < to {
                true => new.rotate_left(*count),
                false => new.rotate_right(*count),
            }
            // They are placed there already, and the lock on the playlist keeps them from being deleted.
            skip_foreign_key_checks(transaction).await?;
            (range, new)
        }
        Edit::Remove { from, count } => {
            let end = end_of(*from, *count)?;
            let new = read(transaction, playlist, &(end..length)).await?;
            skip_foreign_key_checks(transaction).await?;
            (*from..length, new)
        }
    };
    write(transaction, playlist, length, range, &new).await
}

/// Replaces all placements of a playlist whose row is locked and which has `length` tracks.
pub(super) async fn replace_tracks(
    connection: &mut PgConnection,
    playlist: PlaylistRow,
    length: usize,
    tracks: &[TrackId],
) -> Result<PlaylistState, EditError> {
    let new = rows_of(connection, tracks).await?;
    write(connection, playlist, length, 0..length, &new).await
}

async fn read(
    connection: &mut PgConnection,
    PlaylistRow(playlist): PlaylistRow,
    range: &Range<usize>,
) -> Result<Vec<i32>, EditError> {
    let rows = sqlx::query_scalar!(
        "SELECT track_id FROM playlist_tracks WHERE playlist_id = $1 AND position >= $2 AND position < $3
         ORDER BY position",
        playlist,
        range.start as i32,
        range.end as i32
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Puts `new` in the place of the positions of `range`, which ends where the playlist does or has as many positions.
async fn write(
    connection: &mut PgConnection,
    playlist: PlaylistRow,
    length: usize,
    range: Range<usize>,
    new: &[i32],
) -> Result<PlaylistState, EditError> {
    let new_length = length - range.len() + new.len();
    if new_length > MAX_TRACKS as usize {
        return Err(EditError::TooLong);
    }
    let playlist = playlist.0;
    let (kept, added) = new.split_at(range.len().min(new.len()));
    // A position keeps its row, and only its track changes: no two rows ever have the same one.
    sqlx::query!(
        "UPDATE playlist_tracks p SET track_id = input.id
         FROM UNNEST($3::int[]) WITH ORDINALITY AS input (id, place)
         WHERE p.playlist_id = $1 AND p.position = $2 + input.place::int - 1 AND p.track_id <> input.id",
        playlist,
        range.start as i32,
        kept
    )
    .execute(&mut *connection)
    .await?;
    if new_length < length {
        sqlx::query!(
            "DELETE FROM playlist_tracks WHERE playlist_id = $1 AND position >= $2",
            playlist,
            new_length as i32
        )
        .execute(&mut *connection)
        .await?;
    }
    if !added.is_empty() {
        sqlx::query!(
            "INSERT INTO playlist_tracks (playlist_id, position, track_id)
             SELECT $1, $2 + place::int - 1, id FROM UNNEST($3::int[]) WITH ORDINALITY AS input (id, place)",
            playlist,
            length as i32,
            added
        )
        .execute(&mut *connection)
        .await?;
    }
    let changed = sqlx::query!(
        r#"UPDATE playlists SET num_tracks = $2, updated_at = now(), modified_at = now() WHERE id = $1
           RETURNING num_tracks, (id::bigint << 32) | version AS "tag!""#,
        playlist,
        new_length as i32
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

/// Removes a track from playlists whose rows are locked; what follows it moves up.
pub(super) async fn take_out(
    connection: &mut PgConnection,
    playlists: &[PlaylistRow],
    TrackRow(track): TrackRow,
) -> Result<(), CatalogError> {
    // Positions from the first one of the track on, and what moves there.
    let moved = sqlx::query!(
        r#"SELECT pt.playlist_id, first.position AS "first!",
                  array_agg(pt.track_id ORDER BY pt.position) FILTER (WHERE pt.track_id <> $2) AS tracks
           FROM (SELECT playlist_id, min(position) AS position FROM playlist_tracks
                 WHERE track_id = $2 AND playlist_id = ANY($1) GROUP BY playlist_id) first
           JOIN playlist_tracks pt ON pt.playlist_id = first.playlist_id AND pt.position >= first.position
           GROUP BY pt.playlist_id, first.position"#,
        playlists as &[PlaylistRow],
        track
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut owners, mut positions, mut tracks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut lengths) = (Vec::new(), Vec::new());
    for row in moved {
        let kept = row.tracks.unwrap_or_default();
        changed.push(row.playlist_id);
        lengths.push(row.first + kept.len() as i32);
        owners.resize(owners.len() + kept.len(), row.playlist_id);
        positions.extend((row.first..).take(kept.len()));
        tracks.extend(kept);
    }
    sqlx::query!(
        "UPDATE playlist_tracks p SET track_id = input.track_id
         FROM UNNEST($1::int[], $2::int[], $3::int[]) AS input (playlist_id, position, track_id)
         WHERE p.playlist_id = input.playlist_id AND p.position = input.position AND p.track_id <> input.track_id",
        &owners,
        &positions,
        &tracks
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM playlist_tracks p USING UNNEST($1::int[], $2::int[]) AS input (id, length)
         WHERE p.playlist_id = input.id AND p.position >= input.length",
        &changed,
        &lengths
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_raced_is_repeated_and_one_that_is_too_long_is_not() {
        assert_eq!(EditError::Raced.contention(), Some(Contention::Raced));
        assert_eq!(EditError::Catalog(CatalogError::Raced).contention(), Some(Contention::Raced));
        assert_eq!(EditError::TooLong.contention(), None);
    }
}
