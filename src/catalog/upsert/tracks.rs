//! Tracks of a batch, with their artists and albums.

use std::collections::{BTreeSet, HashSet};

use sqlx::{Connection, PgConnection};

use super::batch::{Batch, BatchTrack, Description, Named};
use super::known_tracks::KnownTracks;
use super::named::{Albums, Artists, EVERYWHERE, NamedRecord, NamedRecords, UpsertedRows, upsert};
use super::transaction::begin_bulk;
use crate::catalog::attempts::Attempts;
use crate::catalog::connection::Catalog;
use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{BatchOutcome, ListensOutcome, RowChange, TrackId, TrackRecord};

/// Separates the genres of a track on the way to PostgreSQL, whose arrays of arrays must be rectangular.
const GENRE_SEPARATOR: &str = "\u{1f}";

/// Tracks of a batch after they were written.
pub(in crate::catalog) struct UpsertedTracks {
    /// the row of each; none for one that is only named by an id and is missing
    pub(super) rows: Vec<Option<i32>>,
    /// what became of each
    pub(in crate::catalog) changes: Vec<RowChange>,
    /// in numbers
    pub(in crate::catalog) outcome: BatchOutcome,
    /// whether artists or albums that were stored before are different now
    has_other_names: bool,
    /// whether what the batch says would be the same if it were said again
    is_settled: bool,
}

impl UpsertedTracks {
    /// Takes over that the tracks at these places, from 1, changed in another way too.
    pub(in crate::catalog) fn mark_changed(&mut self, places: impl IntoIterator<Item = i64>) {
        for place in places {
            let change = &mut self.changes[place as usize - 1];
            if *change == RowChange::Unchanged {
                *change = RowChange::Changed;
                self.outcome.tracks_changed += 1;
            }
        }
    }
}

impl From<UpsertedTracks> for ListensOutcome {
    fn from(upserted: UpsertedTracks) -> Self {
        let BatchOutcome { tracks_added, tracks_changed, artists_added, artists_changed, .. } = upserted.outcome;
        Self { tracks_added, tracks_changed, artists_added, artists_changed, ..Self::default() }
    }
}

impl Catalog {
    /// Upserts tracks with their albums and artists in one transaction.
    pub async fn upsert_tracks(&self, tracks: &[TrackRecord]) -> Result<BatchOutcome, CatalogError> {
        Ok(self.write_tracks(tracks).await?.outcome)
    }

    /// The same for tracks of distinct ids. Returns what became of each.
    pub async fn change_tracks(&self, tracks: &[TrackRecord]) -> Result<Vec<RowChange>, CatalogError> {
        Ok(self.write_tracks(tracks).await?.changes)
    }

    async fn write_tracks(&self, tracks: &[TrackRecord]) -> Result<UpsertedTracks, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_write_tracks(tracks).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_write_tracks(&self, tracks: &[TrackRecord]) -> Result<UpsertedTracks, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let upserted = upsert_track_records(&mut transaction, tracks).await?;
        transaction.commit().await?;
        Ok(upserted)
    }
}

/// Upserts tracks with their albums and artists, under the lock on names.
pub(in crate::catalog) async fn upsert_track_records<'a>(
    connection: &mut PgConnection,
    tracks: impl IntoIterator<Item = &'a TrackRecord>,
) -> Result<UpsertedTracks, CatalogError> {
    let batch = Batch::of_tracks(tracks);
    upsert_tracks(connection, &all(&batch), false).await
}

/// Upserts a track under the same locks; its artist and album are what the record says, whatever the catalog knows.
pub(in crate::catalog) async fn replace_track_record(
    connection: &mut PgConnection,
    track: &TrackRecord,
) -> Result<(), CatalogError> {
    let batch = Batch::of_tracks([track]);
    upsert_tracks(connection, &all(&batch), true).await.map(drop)
}

/// Adds tracks that are missing, named by their ids, under the same lock. Returns their number.
pub(in crate::catalog) async fn add_tracks<'a>(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = &'a TrackId>,
) -> Result<u64, CatalogError> {
    let ids: BTreeSet<&TrackId> = ids.collect();
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let known = sqlx::query_scalar!("SELECT uri FROM tracks WHERE uri = ANY($1)", &texts).fetch_all(&mut *connection);
    let known: HashSet<String> = known.await?.into_iter().collect();
    let unknown = ids.into_iter().filter(|id| !known.contains(id.as_str()));
    let unknown: Vec<TrackRecord> = unknown.map(|id| TrackRecord::bare(id.clone())).collect();
    Ok(upsert_track_records(connection, &unknown).await?.outcome.tracks_added)
}

/// The tracks of a batch.
fn all<'b, 'a>(batch: &'b Batch<'a>) -> Vec<&'b BatchTrack<'a>> {
    batch.tracks.iter().collect()
}

/// Writes what a batch says of its tracks, but of those that are known to be as it says. Returns what it would have done
/// to all of them: the result is the same, whatever is known.
pub(super) async fn upsert_unknown_tracks(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    known: Option<&mut KnownTracks>,
) -> Result<UpsertedTracks, CatalogError> {
    let Some(known) = known else { return upsert_tracks(connection, &all(batch), false).await };
    known.check(&mut *connection).await?;
    let mut rows: Vec<Option<i32>> = batch.tracks.iter().map(|track| known.row(track)).collect();
    let unknown: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].is_none()).collect();
    let mut upserted = None;
    if unknown.len() < rows.len() {
        let mut changes = vec![RowChange::Unchanged; rows.len()];
        let tracks: Vec<&BatchTrack<'_>> = unknown.iter().map(|&index| &batch.tracks[index]).collect();
        let mut savepoint = connection.begin().await?;
        let some = upsert_tracks(&mut savepoint, &tracks, false).await?;
        if some.has_other_names || !some.is_settled {
            // What the known tracks say of the same artists and albums may come first.
            savepoint.rollback().await?;
        } else {
            savepoint.commit().await?;
            for ((index, row), change) in unknown.into_iter().zip(&some.rows).zip(&some.changes) {
                (rows[index], changes[index]) = (*row, *change);
            }
            upserted = Some(UpsertedTracks { rows, changes, ..some });
        }
    }
    let upserted = match upserted {
        Some(upserted) => upserted,
        None => upsert_tracks(&mut *connection, &all(batch), false).await?,
    };
    if upserted.has_other_names {
        known.clear();
    }
    known.keep(connection).await?;
    Ok(upserted)
}

/// Adds the tracks of a batch that was written and committed to those that are known.
pub(super) fn remember(known: &mut KnownTracks, batch: &Batch<'_>, upserted: &UpsertedTracks) {
    if upserted.has_other_names || !upserted.is_settled {
        return;
    }
    for (track, row) in batch.tracks.iter().zip(&upserted.rows) {
        if let Some(row) = *row {
            known.add(track, row);
        }
    }
}

/// Writes what a batch says of its tracks, their artists and albums. What it does not say stays; unless it `replaces` what
/// is there, it completes what the catalog knows of a track's artist and album.
pub(super) async fn upsert_tracks(
    connection: &mut PgConnection,
    tracks: &[&BatchTrack<'_>],
    replaces: bool,
) -> Result<UpsertedTracks, CatalogError> {
    let mut outcome = BatchOutcome::default();
    let uris: Vec<String> = tracks.iter().map(|track| track.id.to_string()).collect();
    let mut stored = stored_tracks(&mut *connection, &uris).await?;
    let mut records = NamedRecords::default();
    let found: Vec<Found> = (tracks.iter().zip(&stored))
        .map(|(track, stored)| {
            let stored = stored.as_ref().and_then(|track| track.artist.as_ref());
            match track.described.as_ref().and_then(|track| track.artist) {
                Some(said) => find(said, stored, EVERYWHERE, replaces, &mut records),
                None => Found::stored(stored),
            }
        })
        .collect();
    let mut is_settled = !records.has_contradictions;
    let upserted = upsert::<Artists>(connection, &records).await?;
    let mut has_other_names = upserted.is_different;
    (outcome.artists_added, outcome.artists_changed) = (upserted.added, upserted.changed);
    let artists: Vec<Option<i32>> = found.into_iter().map(|found| found.row(&upserted)).collect();
    if upserted.has_merged() {
        stored = stored_tracks(&mut *connection, &uris).await?;
    }

    let mut records = NamedRecords::default();
    let found: Vec<Found> = (tracks.iter().zip(&stored).zip(&artists))
        .map(|((track, stored), &artist)| {
            let artist_before = stored.as_ref().and_then(|track| Some(track.artist.as_ref()?.id));
            let stored = stored.as_ref().and_then(|track| track.album.as_ref());
            match (track.described.as_ref().and_then(|track| track.album), stored) {
                (Some(said), _) => find(said, stored, artist, replaces, &mut records),
                // The album of another artist is another one, if only its name is known.
                (None, Some(stored)) if artist != artist_before && !replaces => {
                    let said = Named { uri: stored.uri.as_deref(), name: Some(&stored.name) };
                    let is_inferred = said.uri.is_some();
                    Found::Record(records.add(NamedRecord { named: said, is_inferred, scope: artist }))
                }
                (None, stored) => Found::stored(stored),
            }
        })
        .collect();
    is_settled &= !records.has_contradictions;
    let upserted = upsert::<Albums>(connection, &records).await?;
    has_other_names |= upserted.is_different;
    (outcome.albums_added, outcome.albums_changed) = (upserted.added, upserted.changed);
    let albums: Vec<Option<i32>> = found.into_iter().map(|found| found.row(&upserted)).collect();

    let mut rows: Vec<Option<i32>> = stored.iter().map(|track| track.as_ref().map(|track| track.id)).collect();
    let mut changes = vec![RowChange::Unchanged; uris.len()];
    let mut changed = ChangedTracks::default();
    let mut missing: Vec<(usize, &Description<'_>)> = Vec::new();
    for (index, track) in tracks.iter().enumerate() {
        let Some(described) = &track.described else { continue };
        let Some(stored) = &stored[index] else {
            missing.push((index, described));
            continue;
        };
        let is_same = described.name.is_none_or(|name| name == stored.name)
            && described.duration_ms.is_none_or(|duration| stored.duration_ms == Some(duration))
            && artists[index] == stored.artist.as_ref().map(|artist| artist.id)
            && albums[index] == stored.album.as_ref().map(|album| album.id);
        if !is_same {
            changes[index] = RowChange::Changed;
            changed.ids.push(stored.id);
            changed.names.push(described.name.map(ToOwned::to_owned));
            changed.artists.push(artists[index]);
            changed.albums.push(albums[index]);
            changed.durations.push(described.duration_ms);
        }
    }
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('tracks_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        missing.len() as i32
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut copy = CopyRows::default();
    for ((index, track), id) in missing.into_iter().zip(fresh) {
        rows[index] = Some(id);
        changes[index] = RowChange::Added;
        copy.field(id).text(&uris[index]).text(track.name.unwrap_or(&uris[index])).optional(artists[index]);
        copy.optional(albums[index]).optional(track.duration_ms).end_row();
    }
    outcome.tracks_added =
        copy.send(&mut *connection, "COPY tracks (id, uri, name, artist_id, album_id, duration_ms) FROM STDIN").await?;
    changed.write(&mut *connection).await?;
    set_genres_and_hidden(connection, tracks, &uris, &mut changes).await?;
    outcome.tracks_changed = changes.iter().filter(|&&change| change == RowChange::Changed).count() as u64;
    Ok(UpsertedTracks { rows, changes, outcome, has_other_names, is_settled })
}

/// Returns the tracks of these uris as they are stored.
async fn stored_tracks(connection: &mut PgConnection, uris: &[String]) -> sqlx::Result<Vec<Option<StoredTrack>>> {
    let mut stored: Vec<Option<StoredTrack>> = Vec::new();
    stored.resize_with(uris.len(), || None);
    let rows = sqlx::query!(
        r#"SELECT input.place AS "place!", t.id AS "id!", t.name AS "name!", t.duration_ms, t.artist_id, a.uri AS artist_uri,
                  a.name AS "artist_name?", t.album_id, b.uri AS album_uri, b.name AS "album_name?",
                  b.artist_id AS album_artist
           FROM UNNEST($1::text[]) WITH ORDINALITY AS input (uri, place) JOIN tracks t ON t.uri = input.uri
           LEFT JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id"#,
        uris
    );
    for row in rows.fetch_all(connection).await? {
        let named =
            |id: Option<i32>, uri, name: Option<String>, scope| Some(StoredNamed { id: id?, uri, name: name?, scope });
        stored[row.place as usize - 1] = Some(StoredTrack {
            id: row.id,
            name: row.name,
            duration_ms: row.duration_ms,
            artist: named(row.artist_id, row.artist_uri, row.artist_name, EVERYWHERE),
            album: named(row.album_id, row.album_uri, row.album_name, row.album_artist),
        });
    }
    Ok(stored)
}

/// A track as it is stored.
struct StoredTrack {
    id: i32,
    name: String,
    duration_ms: Option<i32>,
    artist: Option<StoredNamed>,
    album: Option<StoredNamed>,
}

/// The artist or album of a stored track.
struct StoredNamed {
    id: i32,
    uri: Option<String>,
    name: String,
    /// see [`NamedRecord::scope`]
    scope: Option<i32>,
}

/// The artist or album that a track has from now on.
enum Found {
    /// none
    Nothing,
    /// the row that it has
    Stored(i32),
    /// the one of this record
    Record(usize),
}

impl Found {
    fn stored(stored: Option<&StoredNamed>) -> Self {
        stored.map_or(Self::Nothing, |stored| Self::Stored(stored.id))
    }

    fn row(self, upserted: &UpsertedRows) -> Option<i32> {
        match self {
            Self::Nothing => None,
            Self::Stored(id) => Some(upserted.row(id)),
            Self::Record(index) => upserted.ids.get(index).copied(),
        }
    }
}

/// Finds the artist or album that a track has, if its source says `said` and it has `stored`. A track keeps the one that bears
/// the name, if that is all that is said. Unless the batch `replaces` what is there, a uri and a name that different sources
/// state belong together.
fn find<'a>(
    said: Named<'a>,
    stored: Option<&'a StoredNamed>,
    scope: Option<i32>,
    replaces: bool,
    records: &mut NamedRecords<'a>,
) -> Found {
    let (mut named, mut is_inferred) = (said, false);
    if let Some(stored) = stored {
        let uri = stored.uri.as_deref();
        let is_unnamed = uri == Some(stored.name.as_str());
        match said {
            Named { uri: None, name: Some(name) }
                if name == stored.name && (uri.is_some() || scope == stored.scope) =>
            {
                return Found::Stored(stored.id);
            }
            Named { uri: None, .. } if is_unnamed && !replaces => (named.uri, is_inferred) = (uri, true),
            Named { uri: Some(_), name: None } if uri.is_none() && !replaces => {
                (named.name, is_inferred) = (Some(stored.name.as_str()), true);
            }
            _ => {}
        }
    }
    Found::Record(records.add(NamedRecord { named, is_inferred, scope }))
}

/// Tracks of which more or other things are known; what is none stays, but artists and albums.
#[derive(Default)]
struct ChangedTracks {
    ids: Vec<i32>,
    names: Vec<Option<String>>,
    artists: Vec<Option<i32>>,
    albums: Vec<Option<i32>>,
    durations: Vec<Option<i32>>,
}

impl ChangedTracks {
    async fn write(&self, connection: &mut PgConnection) -> Result<(), CatalogError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "UPDATE tracks t
             SET name = COALESCE(input.name, t.name), artist_id = input.artist_id, album_id = input.album_id,
                 duration_ms = COALESCE(input.duration_ms, t.duration_ms)
             FROM UNNEST($1::int[], $2::text[], $3::int[], $4::int[], $5::int[])
                  AS input (id, name, artist_id, album_id, duration_ms)
             WHERE t.id = input.id",
            &self.ids,
            self.names.as_slice() as &[Option<String>],
            self.artists.as_slice() as &[Option<i32>],
            self.albums.as_slice() as &[Option<i32>],
            self.durations.as_slice() as &[Option<i32>]
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

async fn set_genres_and_hidden(
    connection: &mut PgConnection,
    tracks: &[&BatchTrack<'_>],
    uris: &[String],
    changes: &mut [RowChange],
) -> Result<(), CatalogError> {
    let stated: Vec<(usize, &Description<'_>)> = (0..)
        .zip(tracks)
        .filter_map(|(index, track)| Some((index, track.described.as_ref()?)))
        .filter(|(_, track)| track.genres.is_some() || track.hidden.is_some())
        .collect();
    if stated.is_empty() {
        return Ok(());
    }
    let uris: Vec<String> = stated.iter().map(|(index, _)| uris[*index].clone()).collect();
    let genres: Vec<Option<String>> =
        stated.iter().map(|(_, track)| track.genres.map(|genres| genres.join(GENRE_SEPARATOR))).collect();
    let hidden: Vec<Option<bool>> = stated.iter().map(|(_, track)| track.hidden).collect();
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
    .fetch_all(connection)
    .await?;
    for place in written {
        let change = &mut changes[stated[place as usize - 1].0];
        if *change == RowChange::Unchanged {
            *change = RowChange::Changed;
        }
    }
    Ok(())
}
