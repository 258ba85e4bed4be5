//! Bulk upserts: a batch of playlists with everything they mention, in one transaction.
//!
//! The batch's artists, albums and tracks are made unique here and looked up together; those that are missing go in by
//! `COPY` under ids drawn for them, those that say something new are updated. Then the placements, by far the most
//! rows, go in by `COPY` too. Nothing is written for a playlist that is already as it should be, so that importing the
//! same file twice changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::hash::Hash;

use sqlx::{Acquire, PgConnection, Postgres, Transaction};
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

/// A track of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackMention {
    /// with all that the source says of it
    Described(TrackRecord),
    /// by the app's id alone; the catalog has to have it already
    Id(String),
}

impl TrackMention {
    /// The app's id.
    pub fn uri(&self) -> &str {
        match self {
            Self::Described(track) => &track.uri,
            Self::Id(uri) => uri,
        }
    }
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
    /// whether several people edit it; not, if no source says so
    pub collaborative: Option<bool>,
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
    /// the app's id of the user whose it is
    pub user: Option<String>,
    /// its tracks in order
    pub tracks: Vec<TrackMention>,
}

impl PlaylistRecord {
    /// A playlist of which a source says nothing but its tracks.
    pub fn bare(external_id: String, tracks: Vec<TrackMention>) -> Self {
        Self {
            external_id,
            title: None,
            description: None,
            collaborative: None,
            num_followers: None,
            num_edits: None,
            num_albums: None,
            num_artists: None,
            duration_ms: None,
            modified_at: None,
            user: None,
            tracks,
        }
    }
}

/// A track that a playlist of a batch names and the catalog does not have: it is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTrack {
    /// place of the playlist in the batch
    pub playlist: usize,
    /// place of the track in the playlist
    pub track: usize,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowChange {
    /// it was not there
    Added,
    /// it is another now
    Changed,
    /// it was there just so
    Unchanged,
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
    /// tracks that were there and of which something else is said now
    pub tracks_changed: u64,
    /// artists that were not there
    pub artists_added: u64,
    /// albums that were not there
    pub albums_added: u64,
    /// users that were not there
    pub users_added: u64,
}

/// Playlists of a batch after they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertedPlaylists {
    /// in numbers
    pub outcome: BatchOutcome,
    /// tracks that are not placed
    pub unknown_tracks: Vec<UnknownTrack>,
    /// what became of each playlist
    pub changes: Vec<RowChange>,
}

/// Tracks of a batch after they were written.
pub(super) struct UpsertedTracks {
    /// the row of each; none for one that is only named by an id and is not there
    pub(super) rows: Vec<Option<i32>>,
    /// what became of each
    pub(super) changes: Vec<RowChange>,
}

impl std::ops::AddAssign for BatchOutcome {
    fn add_assign(&mut self, other: Self) {
        self.playlists_added += other.playlists_added;
        self.playlists_changed += other.playlists_changed;
        self.playlists_unchanged += other.playlists_unchanged;
        self.placements += other.placements;
        self.tracks_added += other.tracks_added;
        self.tracks_changed += other.tracks_changed;
        self.artists_added += other.artists_added;
        self.albums_added += other.albums_added;
        self.users_added += other.users_added;
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

/// All that a batch says of one track, from whichever mentions say it; the first one's word goes.
#[derive(Clone, Copy)]
struct BatchTrack<'a> {
    uri: &'a str,
    /// none when it is only named by its id
    described: Option<DescribedTrack<'a>>,
}

#[derive(Clone, Copy)]
struct DescribedTrack<'a> {
    name: &'a str,
    artist: &'a ArtistRecord,
    album: Option<&'a AlbumRecord>,
    duration_ms: Option<i32>,
    /// places of artist and album in the batch
    artist_place: usize,
    album_place: Option<usize>,
}

impl<'a> BatchTrack<'a> {
    fn add_description(&mut self, track: &'a TrackRecord) {
        let known = self.described.get_or_insert_with(|| DescribedTrack {
            name: &track.name,
            artist: &track.artist,
            album: None,
            duration_ms: None,
            artist_place: 0,
            album_place: None,
        });
        if known.artist.uri.is_none() && track.artist.uri.is_some() {
            known.artist = &track.artist;
        }
        if let Some(album) = &track.album
            && known.album.is_none_or(|known| known.uri.is_none() && album.uri.is_some())
        {
            known.album = Some(album);
        }
        known.duration_ms = known.duration_ms.or(track.duration_ms);
    }
}

/// A batch taken apart: distinct artists, albums and tracks that refer to one another by place.
struct Batch<'a> {
    artists: Vec<&'a ArtistRecord>,
    /// (place of the artist, album)
    albums: Vec<(usize, &'a AlbumRecord)>,
    tracks: Vec<BatchTrack<'a>>,
    /// places of each playlist's tracks
    placements: Vec<Vec<usize>>,
}

impl<'a> Batch<'a> {
    fn of_playlists(playlists: &'a [PlaylistRecord]) -> Self {
        let mut tracks: Interner<&str, BatchTrack<'_>> = Interner::new();
        let mut placements = Vec::with_capacity(playlists.len());
        for playlist in playlists {
            let places = playlist.tracks.iter().map(|track| {
                let uri = track.uri();
                let place = tracks.intern(uri, || BatchTrack { uri, described: None });
                if let TrackMention::Described(track) = track {
                    tracks.values[place].add_description(track);
                }
                place
            });
            placements.push(places.collect());
        }
        Self::new(tracks.values, placements)
    }

    fn of_tracks(records: impl IntoIterator<Item = &'a TrackRecord>) -> Self {
        let mut tracks: Interner<&str, BatchTrack<'_>> = Interner::new();
        for track in records {
            let place = tracks.intern(&track.uri, || BatchTrack { uri: &track.uri, described: None });
            tracks.values[place].add_description(track);
        }
        Self::new(tracks.values, Vec::new())
    }

    fn new(mut tracks: Vec<BatchTrack<'a>>, placements: Vec<Vec<usize>>) -> Self {
        // With a uri, that alone is the key; without one the name is.
        let mut artists: Interner<(Option<&str>, &str), &ArtistRecord> = Interner::new();
        let mut albums: Interner<(Option<&str>, usize, &str), (usize, &AlbumRecord)> = Interner::new();
        for track in tracks.iter_mut().filter_map(|track| track.described.as_mut()) {
            let artist = track.artist;
            let key = (artist.uri.as_deref(), if artist.uri.is_some() { "" } else { artist.name.as_str() });
            track.artist_place = artists.intern(key, || artist);
            track.album_place = track.album.map(|album| {
                let key = match album.uri.as_deref() {
                    Some(uri) => (Some(uri), 0, ""),
                    None => (None, track.artist_place, album.name.as_str()),
                };
                albums.intern(key, || (track.artist_place, album))
            });
        }
        Self { artists: artists.values, albums: albums.values, tracks, placements }
    }
}

impl Catalog {
    /// Upserts a batch of playlists with their tracks, albums, artists and users in one transaction.
    ///
    /// External ids must be distinct within the batch. Absent fields leave what is there; a playlist's tracks are
    /// replaced by the ones given, less those that are named by an id that the catalog does not have: these are
    /// returned. Until it is done, other writers of these tables wait; readers don't.
    pub async fn upsert_playlists(
        &self,
        playlists: &[PlaylistRecord],
    ) -> Result<(BatchOutcome, Vec<UnknownTrack>), CatalogError> {
        let upserted = self.upsert_playlist_rows(playlists).await?;
        Ok((upserted.outcome, upserted.unknown_tracks))
    }

    /// As [`Catalog::upsert_playlists`], and says of each playlist what became of it.
    pub async fn upsert_playlist_rows(&self, playlists: &[PlaylistRecord]) -> Result<UpsertedPlaylists, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin_bulk(&mut connection).await?;
        let batch = Batch::of_playlists(playlists);
        let mut outcome = BatchOutcome::default();
        let tracks = upsert_tracks(&mut transaction, &batch, &mut outcome).await?.rows;
        let named: Vec<&str> = playlists.iter().filter_map(|playlist| playlist.user.as_deref()).collect();
        let users = upsert_users(&mut transaction, &named, &mut outcome).await?;

        let mut unknown = Vec::new();
        let mut placements: Vec<Vec<i32>> = Vec::with_capacity(playlists.len());
        for (playlist, places) in batch.placements.iter().enumerate() {
            let mut rows = Vec::with_capacity(places.len());
            for (track, &place) in places.iter().enumerate() {
                match tracks[place] {
                    Some(row) => rows.push(row),
                    None => unknown.push(UnknownTrack { playlist, track }),
                }
            }
            placements.push(rows);
        }
        let changes = replace_playlists(&mut transaction, playlists, &placements, &users, &mut outcome).await?;
        transaction.commit().await?;
        Ok(UpsertedPlaylists { outcome, unknown_tracks: unknown, changes })
    }

    /// Upserts tracks with their albums and artists in one transaction, as [`Catalog::upsert_playlists`] does those of
    /// playlists.
    pub async fn upsert_tracks(&self, tracks: &[TrackRecord]) -> Result<BatchOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin_bulk(&mut connection).await?;
        let mut outcome = BatchOutcome::default();
        upsert_tracks(&mut transaction, &Batch::of_tracks(tracks), &mut outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Adds those users that are not there yet, by the app's ids, in one transaction.
    pub async fn upsert_users(&self, users: &[String]) -> Result<BatchOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin_bulk(&mut connection).await?;
        let mut outcome = BatchOutcome::default();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        upsert_users(&mut transaction, &users, &mut outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }
}

/// Begins a transaction with no other writer until its end: what is looked up stays as it was, and what is missing stays
/// missing.
async fn begin_bulk(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, CatalogError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("LOCK TABLE artists, albums, tracks, users, playlists, playlist_tracks IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    skip_foreign_key_checks(&mut transaction).await?;
    Ok(transaction)
}

/// Upserts tracks of distinct ids with their albums and artists, under locks that keep others from writing these tables.
pub(super) async fn upsert_track_records(
    connection: &mut PgConnection,
    tracks: &[TrackRecord],
) -> Result<UpsertedTracks, CatalogError> {
    upsert_tracks(connection, &Batch::of_tracks(tracks), &mut BatchOutcome::default()).await
}

/// Upserts tracks with their albums and artists, under the locks of [`Catalog::upsert_playlists`]; gives how many were
/// not there.
pub(super) async fn upsert_records<'a>(
    connection: &mut PgConnection,
    tracks: impl Iterator<Item = &'a TrackRecord>,
) -> Result<u64, CatalogError> {
    let mut outcome = BatchOutcome::default();
    upsert_tracks(connection, &Batch::of_tracks(tracks), &mut outcome).await?;
    Ok(outcome.tracks_added)
}

/// The foreign keys check each row with a query of its own, half of the time of an import. All of them are known to
/// hold here: the rows that are referred to were read or written in this very transaction, whose locks keep others from
/// deleting them. Only a privileged role may skip the checks, as in the private PostgreSQL; elsewhere they are made.
pub(super) async fn skip_foreign_key_checks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    let is_privileged =
        sqlx::query_scalar!(r#"SELECT rolsuper AS "rolsuper!" FROM pg_roles WHERE rolname = current_user"#)
            .fetch_optional(&mut *connection)
            .await?
            .unwrap_or(false);
    if is_privileged {
        sqlx::query!("SET LOCAL session_replication_role = replica").execute(connection).await?;
    }
    Ok(())
}

/// Rows for `COPY` in text format: fields separated by tabs, `\N` for null.
#[derive(Default)]
pub(super) struct CopyRows {
    text: String,
    rows: u64,
}

impl CopyRows {
    pub(super) fn field(&mut self, value: impl std::fmt::Display) -> &mut Self {
        // Writing to a String can't fail.
        let _ = write!(self.text, "{value}\t");
        self
    }

    pub(super) fn optional(&mut self, value: Option<impl std::fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.field(value),
            None => self.field("\\N"),
        }
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
        self.text.push('\t');
        self
    }

    pub(super) fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.field("\\N"),
        }
    }

    pub(super) fn end_row(&mut self) {
        self.text.pop(); // the last tab
        self.text.push('\n');
        self.rows += 1;
    }

    pub(super) async fn send(
        self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<u64, CatalogError> {
        if self.rows == 0 {
            return Ok(0);
        }
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.text.into_bytes()).await?;
        Ok(copy.finish().await?)
    }
}

/// A row that a name stands for, as it is stored or will be.
struct NamedRow {
    id: i32,
    uri: Option<String>,
}

/// What is stored of a batch's artists or albums. `K` is what stands for a row without a uri: an artist's name, an
/// album's artist and name.
struct Stored<K> {
    /// id and name of each uri
    by_uri: HashMap<String, (i32, String)>,
    /// of several rows of one name, the one known by its name alone; failing that, the first
    by_name: HashMap<K, NamedRow>,
}

/// An artist or an album of a batch. A name that is the uri itself says nothing, and leaves the name that is there.
struct Wanted<'a, K> {
    uri: Option<&'a str>,
    name: &'a str,
    key: K,
}

/// Which row each wanted one is, and what has to be written for that.
#[derive(Default)]
struct Resolved {
    /// in the order wanted
    ids: Vec<i32>,
    /// (id, place) of the rows that are not there yet
    added: Vec<(i32, usize)>,
    /// rows known by name alone so far, and their uris
    adopted: (Vec<i32>, Vec<String>),
    /// rows that have another name now
    renamed: (Vec<i32>, Vec<String>),
}

impl<K: Hash + Eq + Clone> Stored<K> {
    /// How many ids to draw for rows that are not there: enough, and a few too many where uris turn out to be adopted.
    fn missing(&self, wanted: &[Wanted<'_, K>]) -> i32 {
        let is_known = |one: &&Wanted<'_, K>| match one.uri {
            Some(uri) => self.by_uri.contains_key(uri),
            None => self.by_name.contains_key(&one.key),
        };
        (wanted.len() - wanted.iter().filter(is_known).count()) as i32
    }

    fn resolve(mut self, wanted: &[Wanted<'_, K>], fresh: Vec<i32>) -> Result<Resolved, CatalogError> {
        let mut fresh = fresh.into_iter();
        let mut resolved = Resolved::default();
        for (place, one) in wanted.iter().enumerate() {
            if let Some((id, name)) = one.uri.and_then(|uri| self.by_uri.get(uri)) {
                if name != one.name && one.uri != Some(one.name) {
                    resolved.renamed.0.push(*id);
                    resolved.renamed.1.push(one.name.to_owned());
                }
                resolved.ids.push(*id);
                continue;
            }
            let id = match (self.by_name.get_mut(&one.key), one.uri) {
                (Some(named), None) => named.id,
                // What is known by name alone gets its uri from the first source that states it.
                (Some(named), Some(uri)) if named.uri.is_none() => {
                    named.uri = Some(uri.to_owned());
                    resolved.adopted.0.push(named.id);
                    resolved.adopted.1.push(uri.to_owned());
                    named.id
                }
                (_, uri) => {
                    let id = fresh.next().ok_or_else(|| {
                        CatalogError::Protocol("the sequence gave fewer ids than were asked for".to_owned())
                    })?;
                    let row = NamedRow { id, uri: uri.map(ToOwned::to_owned) };
                    self.by_name.entry(one.key.clone()).or_insert(row);
                    resolved.added.push((id, place));
                    id
                }
            };
            resolved.ids.push(id);
        }
        Ok(resolved)
    }
}

async fn upsert_artists(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    outcome: &mut BatchOutcome,
) -> Result<Vec<i32>, CatalogError> {
    let uris: Vec<String> = batch.artists.iter().filter_map(|artist| artist.uri.clone()).collect();
    let names: Vec<String> = batch.artists.iter().map(|artist| artist.name.clone()).collect();
    let mut stored: Stored<String> = Stored { by_uri: HashMap::new(), by_name: HashMap::new() };
    let rows = sqlx::query!(r#"SELECT uri AS "uri!", id, name FROM artists WHERE uri = ANY($1)"#, &uris);
    stored.by_uri.extend(rows.fetch_all(&mut *connection).await?.into_iter().map(|row| (row.uri, (row.id, row.name))));
    let rows = sqlx::query!("SELECT id, uri, name FROM artists WHERE name = ANY($1) ORDER BY uri NULLS FIRST", &names);
    for row in rows.fetch_all(&mut *connection).await? {
        stored.by_name.entry(row.name).or_insert(NamedRow { id: row.id, uri: row.uri });
    }
    let wanted: Vec<Wanted<'_, String>> = batch
        .artists
        .iter()
        .map(|artist| Wanted { uri: artist.uri.as_deref(), name: &artist.name, key: artist.name.clone() })
        .collect();
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('artists_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        stored.missing(&wanted)
    )
    .fetch_all(&mut *connection)
    .await?;
    let resolved = stored.resolve(&wanted, fresh)?;

    let mut copy = CopyRows::default();
    for (id, place) in resolved.added {
        copy.field(id).optional_text(wanted[place].uri).text(wanted[place].name).end_row();
    }
    outcome.artists_added += copy.send(connection, "COPY artists (id, uri, name) FROM STDIN").await?;
    let (ids, uris) = resolved.adopted;
    if !ids.is_empty() {
        let sql = sqlx::query!(
            "UPDATE artists SET uri = input.uri FROM UNNEST($1::int[], $2::text[]) AS input (id, uri)
             WHERE artists.id = input.id",
            &ids,
            &uris
        );
        sql.execute(&mut *connection).await?;
    }
    let (ids, names) = resolved.renamed;
    if !ids.is_empty() {
        let sql = sqlx::query!(
            "UPDATE artists SET name = input.name FROM UNNEST($1::int[], $2::text[]) AS input (id, name)
             WHERE artists.id = input.id",
            &ids,
            &names
        );
        sql.execute(&mut *connection).await?;
    }
    Ok(resolved.ids)
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
    let uris: Vec<String> = batch.albums.iter().filter_map(|(_, album)| album.uri.clone()).collect();
    let artist_ids: Vec<i32> = batch.albums.iter().map(|(artist, _)| artists[*artist]).collect();
    let names: Vec<String> = batch.albums.iter().map(|(_, album)| album.name.clone()).collect();
    let mut stored: Stored<(i32, String)> = Stored { by_uri: HashMap::new(), by_name: HashMap::new() };
    let rows = sqlx::query!(r#"SELECT uri AS "uri!", id, name FROM albums WHERE uri = ANY($1)"#, &uris);
    stored.by_uri.extend(rows.fetch_all(&mut *connection).await?.into_iter().map(|row| (row.uri, (row.id, row.name))));
    let rows = sqlx::query!(
        "SELECT b.id, b.uri, b.artist_id, b.name
         FROM (SELECT DISTINCT artist_id, name FROM UNNEST($1::int[], $2::text[]) AS i (artist_id, name)) AS input
         JOIN albums b ON b.artist_id = input.artist_id AND b.name = input.name
         ORDER BY b.uri NULLS FIRST",
        &artist_ids,
        &names
    );
    for row in rows.fetch_all(&mut *connection).await? {
        stored.by_name.entry((row.artist_id, row.name)).or_insert(NamedRow { id: row.id, uri: row.uri });
    }
    let wanted: Vec<Wanted<'_, (i32, String)>> = batch
        .albums
        .iter()
        .zip(&artist_ids)
        .map(|((_, album), &artist)| Wanted {
            uri: album.uri.as_deref(),
            name: &album.name,
            key: (artist, album.name.clone()),
        })
        .collect();
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('albums_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        stored.missing(&wanted)
    )
    .fetch_all(&mut *connection)
    .await?;
    let resolved = stored.resolve(&wanted, fresh)?;

    let mut copy = CopyRows::default();
    for (id, place) in resolved.added {
        copy.field(id).optional_text(wanted[place].uri).text(wanted[place].name).field(artist_ids[place]).end_row();
    }
    outcome.albums_added += copy.send(connection, "COPY albums (id, uri, name, artist_id) FROM STDIN").await?;
    let (ids, uris) = resolved.adopted;
    if !ids.is_empty() {
        let sql = sqlx::query!(
            "UPDATE albums SET uri = input.uri FROM UNNEST($1::int[], $2::text[]) AS input (id, uri)
             WHERE albums.id = input.id",
            &ids,
            &uris
        );
        sql.execute(&mut *connection).await?;
    }
    let (ids, names) = resolved.renamed;
    if !ids.is_empty() {
        let sql = sqlx::query!(
            "UPDATE albums SET name = input.name FROM UNNEST($1::int[], $2::text[]) AS input (id, name)
             WHERE albums.id = input.id",
            &ids,
            &names
        );
        sql.execute(&mut *connection).await?;
    }
    Ok(resolved.ids)
}

/// Adds users that are not there; the row of each.
async fn upsert_users(
    connection: &mut PgConnection,
    users: &[&str],
    outcome: &mut BatchOutcome,
) -> Result<HashMap<String, i32>, CatalogError> {
    let distinct: Vec<String> = users.iter().collect::<BTreeSet<_>>().into_iter().map(ToString::to_string).collect();
    if distinct.is_empty() {
        return Ok(HashMap::new());
    }
    let stored = sqlx::query!("SELECT external_id, id FROM users WHERE external_id = ANY($1)", &distinct);
    let mut rows: HashMap<String, i32> =
        stored.fetch_all(&mut *connection).await?.into_iter().map(|row| (row.external_id, row.id)).collect();
    let new: Vec<String> = distinct.into_iter().filter(|user| !rows.contains_key(user)).collect();
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('users_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        new.len() as i32
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut copy = CopyRows::default();
    for (user, id) in new.into_iter().zip(fresh) {
        copy.field(id).text(&user).end_row();
        rows.insert(user, id);
    }
    outcome.users_added += copy.send(connection, "COPY users (id, external_id) FROM STDIN").await?;
    Ok(rows)
}

/// Writes what a batch says of its tracks, their artists and albums.
async fn upsert_tracks(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    outcome: &mut BatchOutcome,
) -> Result<UpsertedTracks, CatalogError> {
    let artists = upsert_artists(connection, batch, outcome).await?;
    let albums = upsert_albums(connection, batch, &artists, outcome).await?;
    let uris: Vec<String> = batch.tracks.iter().map(|track| track.uri.to_owned()).collect();
    let stored = sqlx::query!(
        r#"SELECT input.place AS "place!", t.id, t.name, t.artist_id, t.album_id, t.duration_ms
           FROM UNNEST($1::text[]) WITH ORDINALITY AS input (uri, place) JOIN tracks t ON t.uri = input.uri"#,
        &uris
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut ids: Vec<Option<i32>> = vec![None; uris.len()];
    let mut changes = vec![RowChange::Unchanged; uris.len()];
    let mut changed = Vec::new();
    for row in stored {
        let place = row.place as usize - 1;
        ids[place] = Some(row.id);
        let Some(track) = &batch.tracks[place].described else { continue };
        let (artist, album) = (artists[track.artist_place], track.album_place.map(|album| albums[album]));
        // A name that is the uri itself says nothing, and leaves the name that is there.
        let name = if track.name == batch.tracks[place].uri { &row.name } else { track.name };
        let differs = row.name != name
            || row.artist_id != artist
            || album.is_some_and(|album| row.album_id != Some(album))
            || track.duration_ms.is_some_and(|duration| row.duration_ms != Some(duration));
        if differs {
            changes[place] = RowChange::Changed;
            changed.push((row.id, name.to_owned(), artist, album, track.duration_ms));
        }
    }
    let new: Vec<(usize, &DescribedTrack<'_>)> = (0..ids.len())
        .filter(|&place| ids[place].is_none())
        .filter_map(|place| Some((place, batch.tracks[place].described.as_ref()?)))
        .collect();
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('tracks_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        new.len() as i32
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut copy = CopyRows::default();
    for ((place, track), id) in new.into_iter().zip(fresh) {
        ids[place] = Some(id);
        changes[place] = RowChange::Added;
        copy.field(id).text(batch.tracks[place].uri).text(track.name).field(artists[track.artist_place]);
        copy.optional(track.album_place.map(|album| albums[album])).optional(track.duration_ms).end_row();
    }
    outcome.tracks_added +=
        copy.send(connection, "COPY tracks (id, uri, name, artist_id, album_id, duration_ms) FROM STDIN").await?;
    outcome.tracks_changed += changed.len() as u64;
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
    Ok(UpsertedTracks { rows: ids, changes })
}

async fn replace_playlists(
    connection: &mut PgConnection,
    playlists: &[PlaylistRecord],
    placements: &[Vec<i32>],
    users: &HashMap<String, i32>,
    outcome: &mut BatchOutcome,
) -> Result<Vec<RowChange>, CatalogError> {
    let external_ids: Vec<String> = playlists.iter().map(|playlist| playlist.external_id.clone()).collect();
    let titles: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.title.clone()).collect();
    let descriptions: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.description.clone()).collect();
    let collaborative: Vec<Option<bool>> = playlists.iter().map(|playlist| playlist.collaborative).collect();
    let followers: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_followers).collect();
    let edits: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_edits).collect();
    let tracks: Vec<i32> = placements.iter().map(|row| row.len() as i32).collect();
    let albums: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_albums).collect();
    let artists: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_artists).collect();
    let durations: Vec<Option<i64>> = playlists.iter().map(|playlist| playlist.duration_ms).collect();
    let modified: Vec<Option<OffsetDateTime>> = playlists.iter().map(|playlist| playlist.modified_at).collect();

    let users: Vec<Option<i32>> =
        playlists.iter().map(|playlist| users.get(playlist.user.as_deref()?).copied()).collect();

    let present: HashMap<String, i32> =
        sqlx::query!("SELECT external_id, id FROM playlists WHERE external_id = ANY($1)", &external_ids)
            .fetch_all(&mut *connection)
            .await?
            .into_iter()
            .map(|row| (row.external_id, row.id))
            .collect();

    let mut rows = present.clone();
    if present.len() < playlists.len() {
        let added = sqlx::query!(
            "INSERT INTO playlists (external_id, title, description, collaborative, num_followers, num_edits,
                                    num_tracks, num_albums, num_artists, duration_ms, modified_at, user_id)
             SELECT external_id, title, description, COALESCE(collaborative, false), num_followers, num_edits,
                    num_tracks, num_albums, num_artists, duration_ms, modified_at, user_id
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[], $8::int[],
                         $9::int[], $10::bigint[], $11::timestamptz[], $12::int[])
                  AS input (external_id, title, description, collaborative, num_followers, num_edits, num_tracks,
                            num_albums, num_artists, duration_ms, modified_at, user_id)
             WHERE NOT EXISTS (SELECT FROM playlists p WHERE p.external_id = input.external_id)
             RETURNING external_id, id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            collaborative.as_slice() as &[Option<bool>],
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
            users.as_slice() as &[Option<i32>],
        )
        .fetch_all(&mut *connection)
        .await?;
        outcome.playlists_added += added.len() as u64;
        rows.extend(added.into_iter().map(|row| (row.external_id, row.id)));
    }

    let mut changed: Vec<i32> = Vec::new();
    // What is there already, so that only playlists with other tracks are written.
    let mut stored: HashMap<i32, Vec<i32>> = HashMap::new();
    if !present.is_empty() {
        let ids: Vec<i32> = present.values().copied().collect();
        changed = sqlx::query_scalar!(
            "UPDATE playlists p
             SET title = COALESCE(input.title, p.title), description = COALESCE(input.description, p.description),
                 collaborative = COALESCE(input.collaborative, p.collaborative), num_followers = COALESCE(input.num_followers, p.num_followers),
                 num_edits = COALESCE(input.num_edits, p.num_edits), num_tracks = input.num_tracks,
                 num_albums = COALESCE(input.num_albums, p.num_albums),
                 num_artists = COALESCE(input.num_artists, p.num_artists),
                 duration_ms = COALESCE(input.duration_ms, p.duration_ms),
                 modified_at = COALESCE(input.modified_at, p.modified_at),
                 user_id = COALESCE(input.user_id, p.user_id), updated_at = now()
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[], $8::int[],
                         $9::int[], $10::bigint[], $11::timestamptz[], $12::int[])
                  AS input (external_id, title, description, collaborative, num_followers, num_edits, num_tracks,
                            num_albums, num_artists, duration_ms, modified_at, user_id)
             WHERE p.external_id = input.external_id AND p.id = ANY($13)
               AND (p.title, p.description, p.collaborative, p.num_followers, p.num_edits, p.num_tracks, p.num_albums,
                    p.num_artists, p.duration_ms, p.modified_at, p.user_id)
                   IS DISTINCT FROM
                   (COALESCE(input.title, p.title), COALESCE(input.description, p.description), COALESCE(input.collaborative, p.collaborative),
                    COALESCE(input.num_followers, p.num_followers), COALESCE(input.num_edits, p.num_edits),
                    input.num_tracks, COALESCE(input.num_albums, p.num_albums),
                    COALESCE(input.num_artists, p.num_artists), COALESCE(input.duration_ms, p.duration_ms),
                    COALESCE(input.modified_at, p.modified_at), COALESCE(input.user_id, p.user_id))
             RETURNING p.id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            collaborative.as_slice() as &[Option<bool>],
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
            users.as_slice() as &[Option<i32>],
            &ids,
        )
        .fetch_all(&mut *connection)
        .await?;
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
    let mut copy = CopyRows::default();
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
            copy.field(row).field(position).field(track).end_row();
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
    copy.send(connection, "COPY playlist_tracks (playlist_id, position, track_id) FROM STDIN").await?;

    changed.extend(replaced);
    changed.sort_unstable();
    changed.dedup();
    outcome.playlists_changed += changed.len() as u64;
    outcome.playlists_unchanged += (present.len() - changed.len()) as u64;
    let change_of = |playlist: &PlaylistRecord| match present.get(&playlist.external_id) {
        None => RowChange::Added,
        Some(row) if changed.binary_search(row).is_ok() => RowChange::Changed,
        Some(_) => RowChange::Unchanged,
    };
    Ok(playlists.iter().map(change_of).collect())
}
