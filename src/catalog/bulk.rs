//! Bulk upserts: a batch of playlists with everything they mention, in one transaction.
//!
//! The batch's artists, albums and tracks are made unique here and sent as arrays; the rows that are missing are
//! inserted, those that say something new are updated, and the row ids come back in the order they were sent. Then
//! the placements, by far the most rows, go in by `COPY`. Nothing is written for a playlist that is already as it
//! should be, so that importing the same file twice changes nothing.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::Hash;

use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

use super::{Catalog, CatalogError};

/// An artist as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtistRecord {
    /// the app's id; without it the name stands for the artist
    pub uri: Option<String>,
    /// its name
    pub name: String,
}

/// An album as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlbumRecord {
    /// the app's id; without it artist and name stand for the album
    pub uri: Option<String>,
    /// its name
    pub name: String,
}

/// A track as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRecord {
    /// the app's id
    pub uri: String,
    /// its title
    pub name: String,
    /// its artist
    pub artist: ArtistRecord,
    /// its album
    pub album: Option<AlbumRecord>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
}

/// A playlist as a source describes it, tracks in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistRecord {
    /// the app's id
    pub external_id: String,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// followers
    pub num_followers: Option<i32>,
    /// edits
    pub num_edits: Option<i32>,
    /// distinct albums
    pub num_albums: Option<i32>,
    /// distinct artists
    pub num_artists: Option<i32>,
    /// length in milliseconds
    pub duration_ms: Option<i64>,
    /// last change by its owner
    pub modified_at: Option<OffsetDateTime>,
    /// its tracks in order
    pub tracks: Vec<TrackRecord>,
}

/// What a batch did to the catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BatchOutcome {
    /// playlists that were not there
    pub playlists_added: u64,
    /// playlists that were there with other metadata or other tracks
    pub playlists_changed: u64,
    /// playlists that were there just so
    pub playlists_unchanged: u64,
    /// placements of the batch, whether written or already there
    pub placements: u64,
    /// tracks that were not there
    pub tracks_added: u64,
    /// artists that were not there
    pub artists_added: u64,
    /// albums that were not there
    pub albums_added: u64,
}

impl std::ops::AddAssign for BatchOutcome {
    fn add_assign(&mut self, other: Self) {
        self.playlists_added += other.playlists_added;
        self.playlists_changed += other.playlists_changed;
        self.playlists_unchanged += other.playlists_unchanged;
        self.placements += other.placements;
        self.tracks_added += other.tracks_added;
        self.artists_added += other.artists_added;
        self.albums_added += other.albums_added;
    }
}

/// Distinct values in order of first sight, and the place of each.
struct Interner<K, V> {
    index: HashMap<K, usize>,
    values: Vec<V>,
}

impl<K: Hash + Eq, V> Interner<K, V> {
    fn new() -> Self {
        Self { index: HashMap::new(), values: Vec::new() }
    }

    fn intern(&mut self, key: K, value: impl FnOnce() -> V) -> usize {
        *self.index.entry(key).or_insert_with(|| {
            self.values.push(value());
            self.values.len() - 1
        })
    }
}

/// A batch taken apart: distinct artists, albums and tracks that refer to one another by place.
struct Batch<'a> {
    artists: Vec<&'a ArtistRecord>,
    /// (artist, album)
    albums: Vec<(usize, &'a AlbumRecord)>,
    /// (track, artist, album)
    tracks: Vec<(&'a TrackRecord, usize, Option<usize>)>,
    /// places of each playlist's tracks
    placements: Vec<Vec<usize>>,
}

impl<'a> Batch<'a> {
    fn new(playlists: &'a [PlaylistRecord]) -> Self {
        // With a uri, that alone is the key; without one the name is.
        let mut artists: Interner<(Option<&str>, &str), &ArtistRecord> = Interner::new();
        let mut albums: Interner<(Option<&str>, usize, &str), (usize, &AlbumRecord)> = Interner::new();
        let mut tracks: Interner<&str, (&TrackRecord, usize, Option<usize>)> = Interner::new();
        let mut placements = Vec::with_capacity(playlists.len());
        for playlist in playlists {
            let mut row = Vec::with_capacity(playlist.tracks.len());
            for track in &playlist.tracks {
                let place = tracks.intern(&track.uri, || {
                    let artist = &track.artist;
                    let key = (artist.uri.as_deref(), if artist.uri.is_some() { "" } else { artist.name.as_str() });
                    let artist = artists.intern(key, || artist);
                    let album = track.album.as_ref().map(|album| {
                        let key = match album.uri.as_deref() {
                            Some(uri) => (Some(uri), 0, ""),
                            None => (None, artist, album.name.as_str()),
                        };
                        albums.intern(key, || (artist, album))
                    });
                    (track, artist, album)
                });
                row.push(place);
            }
            placements.push(row);
        }
        Self { artists: artists.values, albums: albums.values, tracks: tracks.values, placements }
    }
}

/// Writers of the catalog's bulk data take turns: the place of this lock is the number that "segue" spells.
const IMPORT_LOCK: i64 = 0x0073_6567_7565;

impl Catalog {
    /// Upserts a batch of playlists with their tracks, albums and artists in one transaction.
    ///
    /// External ids must be distinct within the batch. Absent fields leave what is there; a playlist's tracks are
    /// replaced by the ones given.
    pub async fn upsert_playlists(&self, playlists: &[PlaylistRecord]) -> Result<BatchOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", IMPORT_LOCK).execute(&mut *transaction).await?;

        let batch = Batch::new(playlists);
        let mut outcome = BatchOutcome::default();
        let artists = upsert_artists(&mut transaction, &batch, &mut outcome).await?;
        let albums = upsert_albums(&mut transaction, &batch, &artists, &mut outcome).await?;
        let tracks = upsert_tracks(&mut transaction, &batch, &artists, &albums, &mut outcome).await?;
        let placements: Vec<Vec<i32>> =
            batch.placements.iter().map(|row| row.iter().map(|&place| tracks[place]).collect()).collect();
        replace_playlists(&mut transaction, playlists, &placements, &mut outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }
}

async fn upsert_artists(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    outcome: &mut BatchOutcome,
) -> Result<Vec<i32>, CatalogError> {
    let uris: Vec<Option<String>> = batch.artists.iter().map(|artist| artist.uri.clone()).collect();
    let names: Vec<String> = batch.artists.iter().map(|artist| artist.name.clone()).collect();
    let uris = uris.as_slice() as &[Option<String>];

    // An artist known by name alone gets its uri from the first source that states it.
    sqlx::query!(
        "UPDATE artists SET uri = input.uri
         FROM (SELECT DISTINCT ON (name) uri, name FROM UNNEST($1::text[], $2::text[]) AS i (uri, name)
               WHERE uri IS NOT NULL AND NOT EXISTS (SELECT FROM artists a WHERE a.uri = i.uri)
               ORDER BY name, uri) AS input
         WHERE artists.uri IS NULL AND artists.name = input.name",
        uris as _,
        &names
    )
    .execute(&mut *connection)
    .await?;
    outcome.artists_added += sqlx::query!(
        "INSERT INTO artists (uri, name)
         SELECT uri, name FROM UNNEST($1::text[], $2::text[]) AS input (uri, name)
         WHERE CASE WHEN uri IS NULL THEN NOT EXISTS (SELECT FROM artists a WHERE a.name = input.name)
                    ELSE NOT EXISTS (SELECT FROM artists a WHERE a.uri = input.uri) END
         ON CONFLICT DO NOTHING",
        uris as _,
        &names
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query!(
        "UPDATE artists SET name = input.name FROM UNNEST($1::text[], $2::text[]) AS input (uri, name)
         WHERE artists.uri = input.uri AND artists.name <> input.name",
        uris as _,
        &names
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query_scalar!(
        r#"SELECT COALESCE(
                      (SELECT a.id FROM artists a WHERE a.uri = input.uri),
                      (SELECT a.id FROM artists a WHERE input.uri IS NULL AND a.name = input.name
                       ORDER BY a.uri NULLS FIRST LIMIT 1)) AS "id!"
           FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS input (uri, name, place)
           ORDER BY place"#,
        uris as _,
        &names
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(rows)
}

async fn upsert_albums(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    artists: &[i32],
    outcome: &mut BatchOutcome,
) -> Result<Vec<i32>, CatalogError> {
    if batch.albums.is_empty() {
        return Ok(Vec::new());
    }
    let uris: Vec<Option<String>> = batch.albums.iter().map(|(_, album)| album.uri.clone()).collect();
    let names: Vec<String> = batch.albums.iter().map(|(_, album)| album.name.clone()).collect();
    let artist_ids: Vec<i32> = batch.albums.iter().map(|(artist, _)| artists[*artist]).collect();
    let uris = uris.as_slice() as &[Option<String>];

    sqlx::query!(
        "UPDATE albums SET uri = input.uri
         FROM (SELECT DISTINCT ON (artist_id, name) uri, name, artist_id
               FROM UNNEST($1::text[], $2::text[], $3::int[]) AS i (uri, name, artist_id)
               WHERE uri IS NOT NULL AND NOT EXISTS (SELECT FROM albums b WHERE b.uri = i.uri)
               ORDER BY artist_id, name, uri) AS input
         WHERE albums.uri IS NULL AND albums.name = input.name AND albums.artist_id = input.artist_id",
        uris as _,
        &names,
        &artist_ids
    )
    .execute(&mut *connection)
    .await?;
    outcome.albums_added += sqlx::query!(
        "INSERT INTO albums (uri, name, artist_id)
         SELECT uri, name, artist_id FROM UNNEST($1::text[], $2::text[], $3::int[]) AS input (uri, name, artist_id)
         WHERE CASE WHEN uri IS NULL
                    THEN NOT EXISTS (SELECT FROM albums b WHERE b.name = input.name AND b.artist_id = input.artist_id)
                    ELSE NOT EXISTS (SELECT FROM albums b WHERE b.uri = input.uri) END
         ON CONFLICT DO NOTHING",
        uris as _,
        &names,
        &artist_ids
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query!(
        "UPDATE albums SET name = input.name FROM UNNEST($1::text[], $2::text[]) AS input (uri, name)
         WHERE albums.uri = input.uri AND albums.name <> input.name",
        uris as _,
        &names
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query_scalar!(
        r#"SELECT COALESCE(
                      (SELECT b.id FROM albums b WHERE b.uri = input.uri),
                      (SELECT b.id FROM albums b
                       WHERE input.uri IS NULL AND b.name = input.name AND b.artist_id = input.artist_id
                       ORDER BY b.uri NULLS FIRST LIMIT 1)) AS "id!"
           FROM UNNEST($1::text[], $2::text[], $3::int[]) WITH ORDINALITY AS input (uri, name, artist_id, place)
           ORDER BY place"#,
        uris as _,
        &names,
        &artist_ids
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(rows)
}

async fn upsert_tracks(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    artists: &[i32],
    albums: &[i32],
    outcome: &mut BatchOutcome,
) -> Result<Vec<i32>, CatalogError> {
    let uris: Vec<String> = batch.tracks.iter().map(|(track, ..)| track.uri.clone()).collect();
    let names: Vec<String> = batch.tracks.iter().map(|(track, ..)| track.name.clone()).collect();
    let artist_ids: Vec<i32> = batch.tracks.iter().map(|(_, artist, _)| artists[*artist]).collect();
    let album_ids: Vec<Option<i32>> =
        batch.tracks.iter().map(|(_, _, album)| album.map(|album| albums[album])).collect();
    let durations: Vec<Option<i32>> = batch.tracks.iter().map(|(track, ..)| track.duration_ms).collect();

    let added = sqlx::query!(
        "INSERT INTO tracks (uri, name, artist_id, album_id, duration_ms)
         SELECT uri, name, artist_id, album_id, duration_ms
         FROM UNNEST($1::text[], $2::text[], $3::int[], $4::int[], $5::int[])
              AS input (uri, name, artist_id, album_id, duration_ms)
         WHERE NOT EXISTS (SELECT FROM tracks t WHERE t.uri = input.uri)
         ON CONFLICT (uri) DO NOTHING",
        &uris,
        &names,
        &artist_ids,
        album_ids.as_slice() as &[Option<i32>],
        durations.as_slice() as &[Option<i32>]
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    outcome.tracks_added += added;
    if added < uris.len() as u64 {
        sqlx::query!(
            "UPDATE tracks t
             SET name = input.name, artist_id = input.artist_id, album_id = COALESCE(input.album_id, t.album_id),
                 duration_ms = COALESCE(input.duration_ms, t.duration_ms)
             FROM UNNEST($1::text[], $2::text[], $3::int[], $4::int[], $5::int[])
                  AS input (uri, name, artist_id, album_id, duration_ms)
             WHERE t.uri = input.uri
               AND (t.name, t.artist_id, t.album_id, t.duration_ms) IS DISTINCT FROM
                   (input.name, input.artist_id, COALESCE(input.album_id, t.album_id),
                    COALESCE(input.duration_ms, t.duration_ms))",
            &uris,
            &names,
            &artist_ids,
            album_ids.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i32>]
        )
        .execute(&mut *connection)
        .await?;
    }
    // KEY SHARE is the lock that the placements' foreign key would take on each of these rows, taken once for all.
    let rows = sqlx::query!(
        "SELECT t.id, input.place AS \"place!\"
         FROM UNNEST($1::text[]) WITH ORDINALITY AS input (uri, place) JOIN tracks t ON t.uri = input.uri
         FOR KEY SHARE OF t",
        &uris
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut ids = vec![0; uris.len()];
    for row in &rows {
        ids[row.place as usize - 1] = row.id;
    }
    if rows.len() < uris.len() {
        return Err(CatalogError::Protocol("a track vanished while it was imported".to_owned()));
    }
    Ok(ids)
}

async fn replace_playlists(
    connection: &mut PgConnection,
    playlists: &[PlaylistRecord],
    placements: &[Vec<i32>],
    outcome: &mut BatchOutcome,
) -> Result<(), CatalogError> {
    let external_ids: Vec<String> = playlists.iter().map(|playlist| playlist.external_id.clone()).collect();
    let titles: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.title.clone()).collect();
    let descriptions: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.description.clone()).collect();
    let collaborative: Vec<bool> = playlists.iter().map(|playlist| playlist.collaborative).collect();
    let followers: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_followers).collect();
    let edits: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_edits).collect();
    let tracks: Vec<i32> = placements.iter().map(|row| row.len() as i32).collect();
    let albums: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_albums).collect();
    let artists: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_artists).collect();
    let durations: Vec<Option<i64>> = playlists.iter().map(|playlist| playlist.duration_ms).collect();
    let modified: Vec<Option<OffsetDateTime>> = playlists.iter().map(|playlist| playlist.modified_at).collect();

    let present: HashMap<String, i32> = sqlx::query!(
        "SELECT external_id, id FROM playlists WHERE external_id = ANY($1) ORDER BY id FOR UPDATE",
        &external_ids
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|row| (row.external_id, row.id))
    .collect();

    let mut rows = present.clone();
    if present.len() < playlists.len() {
        let added = sqlx::query!(
            "INSERT INTO playlists (external_id, title, description, collaborative, num_followers, num_edits,
                                    num_tracks, num_albums, num_artists, duration_ms, modified_at)
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[],
                                  $8::int[], $9::int[], $10::bigint[], $11::timestamptz[]) AS input (external_id)
             WHERE NOT EXISTS (SELECT FROM playlists p WHERE p.external_id = input.external_id)
             RETURNING external_id, id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            &collaborative,
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
        )
        .fetch_all(&mut *connection)
        .await?;
        outcome.playlists_added += added.len() as u64;
        rows.extend(added.into_iter().map(|row| (row.external_id, row.id)));
    }

    let mut changed: Vec<i32> = Vec::new();
    if !present.is_empty() {
        let ids: Vec<i32> = present.values().copied().collect();
        changed = sqlx::query_scalar!(
            "UPDATE playlists p
             SET title = COALESCE(input.title, p.title), description = COALESCE(input.description, p.description),
                 collaborative = input.collaborative, num_followers = COALESCE(input.num_followers, p.num_followers),
                 num_edits = COALESCE(input.num_edits, p.num_edits), num_tracks = input.num_tracks,
                 num_albums = COALESCE(input.num_albums, p.num_albums),
                 num_artists = COALESCE(input.num_artists, p.num_artists),
                 duration_ms = COALESCE(input.duration_ms, p.duration_ms),
                 modified_at = COALESCE(input.modified_at, p.modified_at), updated_at = now()
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[], $8::int[],
                         $9::int[], $10::bigint[], $11::timestamptz[])
                  AS input (external_id, title, description, collaborative, num_followers, num_edits, num_tracks,
                            num_albums, num_artists, duration_ms, modified_at)
             WHERE p.external_id = input.external_id AND p.id = ANY($12)
               AND (p.title, p.description, p.collaborative, p.num_followers, p.num_edits, p.num_tracks, p.num_albums,
                    p.num_artists, p.duration_ms, p.modified_at)
                   IS DISTINCT FROM
                   (COALESCE(input.title, p.title), COALESCE(input.description, p.description), input.collaborative,
                    COALESCE(input.num_followers, p.num_followers), COALESCE(input.num_edits, p.num_edits),
                    input.num_tracks, COALESCE(input.num_albums, p.num_albums),
                    COALESCE(input.num_artists, p.num_artists), COALESCE(input.duration_ms, p.duration_ms),
                    COALESCE(input.modified_at, p.modified_at))
             RETURNING p.id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            &collaborative,
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
            &ids,
        )
        .fetch_all(&mut *connection)
        .await?;
    }

    // What is there already, so that only playlists with other tracks are written.
    let mut stored: HashMap<i32, Vec<i32>> = HashMap::new();
    if !present.is_empty() {
        let ids: Vec<i32> = present.values().copied().collect();
        let existing = sqlx::query!(
            r#"SELECT playlist_id, array_agg(track_id ORDER BY position) AS "tracks!"
               FROM playlist_tracks WHERE playlist_id = ANY($1) GROUP BY playlist_id"#,
            &ids
        )
        .fetch_all(&mut *connection)
        .await?;
        stored.extend(existing.into_iter().map(|row| (row.playlist_id, row.tracks)));
    }
    let mut replaced: Vec<i32> = Vec::new();
    let mut copy = String::new();
    for (playlist, tracks) in playlists.iter().zip(placements) {
        let row = rows[&playlist.external_id];
        outcome.placements += tracks.len() as u64;
        if present.contains_key(&playlist.external_id) {
            if stored.get(&row).map_or(&[][..], Vec::as_slice) == tracks.as_slice() {
                continue;
            }
            replaced.push(row);
        }
        for (position, track) in tracks.iter().enumerate() {
            // Writing to a String can't fail.
            let _ = writeln!(copy, "{row}\t{position}\t{track}");
        }
    }
    if !replaced.is_empty() {
        sqlx::query!("DELETE FROM playlist_tracks WHERE playlist_id = ANY($1)", &replaced)
            .execute(&mut *connection)
            .await?;
        sqlx::query!("UPDATE playlists SET updated_at = now() WHERE id = ANY($1)", &replaced)
            .execute(&mut *connection)
            .await?;
    }
    copy_placements(connection, copy).await?;

    changed.extend(replaced);
    changed.sort_unstable();
    changed.dedup();
    outcome.playlists_changed += changed.len() as u64;
    outcome.playlists_unchanged += (present.len() - changed.len()) as u64;
    Ok(())
}

/// Copies rows of `playlist row, position, track row` into `playlist_tracks`.
async fn copy_placements(connection: &mut PgConnection, rows: String) -> Result<(), CatalogError> {
    if rows.is_empty() {
        return Ok(());
    }
    // The foreign keys check each row with a query of its own, two thirds of the time of an import. Both are known to
    // hold here: the tracks' and playlists' rows were read, and locked against deletion, in this very transaction.
    // Only a privileged role may skip the checks, as in the private PostgreSQL; elsewhere they are made.
    let may_skip = sqlx::query_scalar!(r#"SELECT rolsuper AS "rolsuper!" FROM pg_roles WHERE rolname = current_user"#)
        .fetch_optional(&mut *connection)
        .await?
        .unwrap_or(false);
    if may_skip {
        sqlx::query!("SET LOCAL session_replication_role = replica").execute(&mut *connection).await?;
    }
    let mut copy = connection.copy_in_raw("COPY playlist_tracks (playlist_id, position, track_id) FROM STDIN").await?;
    copy.send(rows.into_bytes()).await?;
    copy.finish().await?;
    if may_skip {
        sqlx::query!("SET LOCAL session_replication_role = origin").execute(&mut *connection).await?;
    }
    Ok(())
}
