//! Tracks of a batch, with their artists and albums.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;

use super::batch::{Batch, Description};
use super::named::{Albums, Artists, NamedRecord, upsert};
use super::transaction::begin_bulk;
use crate::catalog::attempts::Attempts;
use crate::catalog::connection::Catalog;
use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{AlbumId, ArtistId, BatchOutcome, RowChange, TrackId, TrackRecord};

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
    upsert_tracks(connection, &Batch::of_tracks(tracks)).await
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
    let unknown: Vec<TrackRecord> = unknown.map(|id| TrackRecord::unnamed(id.clone())).collect();
    Ok(upsert_track_records(connection, &unknown).await?.outcome.tracks_added)
}

/// Writes what a batch says of its tracks, their artists and albums.
pub(super) async fn upsert_tracks(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<UpsertedTracks, CatalogError> {
    let mut outcome = BatchOutcome::default();
    let records = batch.artists.iter().map(|artist| NamedRecord {
        uri: artist.id.as_ref().map(ArtistId::as_str),
        name: &artist.name,
        artist: 0,
    });
    let (artists, artists_added) = upsert::<Artists>(connection, &records.collect::<Vec<_>>()).await?;
    let records = batch.albums.iter().map(|(artist, album)| NamedRecord {
        uri: album.id.as_ref().map(AlbumId::as_str),
        name: &album.name,
        artist: artists[*artist],
    });
    let (albums, albums_added) = upsert::<Albums>(connection, &records.collect::<Vec<_>>()).await?;
    (outcome.artists_added, outcome.albums_added) = (artists_added, albums_added);

    let uris: Vec<String> = batch.tracks.iter().map(|track| track.id.to_string()).collect();
    let stored = sqlx::query!(
        r#"SELECT input.place AS "place!", t.id, t.name, t.artist_id, t.album_id, t.duration_ms
           FROM UNNEST($1::text[]) WITH ORDINALITY AS input (uri, place) JOIN tracks t ON t.uri = input.uri"#,
        &uris
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut rows: Vec<Option<i32>> = vec![None; uris.len()];
    let mut changes = vec![RowChange::Unchanged; uris.len()];
    let mut changed = Vec::new();
    for row in stored {
        let index = row.place as usize - 1;
        rows[index] = Some(row.id);
        let Some(track) = &batch.tracks[index].described else { continue };
        let (artist, album) = (artists[track.artist_index], track.album_index.map(|album| albums[album]));
        // A name that is the id itself says nothing, and leaves the name that is there.
        let name = if track.name == uris[index] { &row.name } else { track.name };
        let differs = row.name != name
            || row.artist_id != artist
            || album.is_some_and(|album| row.album_id != Some(album))
            || track.duration_ms.is_some_and(|duration| row.duration_ms != Some(duration));
        if differs {
            changes[index] = RowChange::Changed;
            changed.push((row.id, name.to_owned(), artist, album, track.duration_ms));
        }
    }
    let missing: Vec<(usize, &Description<'_>)> = (0..rows.len())
        .filter(|&index| rows[index].is_none())
        .filter_map(|index| Some((index, batch.tracks[index].described.as_ref()?)))
        .collect();
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
        copy.field(id).text(&uris[index]).text(track.name).field(artists[track.artist_index]);
        copy.optional(track.album_index.map(|album| albums[album])).optional(track.duration_ms).end_row();
    }
    outcome.tracks_added =
        copy.send(connection, "COPY tracks (id, uri, name, artist_id, album_id, duration_ms) FROM STDIN").await?;
    if !changed.is_empty() {
        let changed_ids: Vec<i32> = changed.iter().map(|track| track.0).collect();
        let names: Vec<String> = changed.iter().map(|track| track.1.clone()).collect();
        let artist_ids: Vec<i32> = changed.iter().map(|track| track.2).collect();
        let album_ids: Vec<Option<i32>> = changed.iter().map(|track| track.3).collect();
        let durations: Vec<Option<i32>> = changed.iter().map(|track| track.4).collect();
        sqlx::query!(
            "UPDATE tracks t
             SET name = input.name, artist_id = input.artist_id, album_id = COALESCE(input.album_id, t.album_id),
                 duration_ms = COALESCE(input.duration_ms, t.duration_ms)
             FROM UNNEST($1::int[], $2::text[], $3::int[], $4::int[], $5::int[])
                  AS input (id, name, artist_id, album_id, duration_ms)
             WHERE t.id = input.id",
            &changed_ids,
            &names,
            &artist_ids,
            album_ids.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i32>]
        )
        .execute(&mut *connection)
        .await?;
    }
    set_genres_and_hidden(connection, batch, &uris, &mut changes).await?;
    outcome.tracks_changed = changes.iter().filter(|&&change| change == RowChange::Changed).count() as u64;
    Ok(UpsertedTracks { rows, changes, outcome })
}

async fn set_genres_and_hidden(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    uris: &[String],
    changes: &mut [RowChange],
) -> Result<(), CatalogError> {
    let stated: Vec<(usize, &Description<'_>)> = (0..)
        .zip(&batch.tracks)
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
