//! Rows that have an id of the app's, or are known by their names alone: artists and albums.
//!
//! A name stands for a row only with its scope: an artist's by itself, an album's with its artist. A source that states the
//! uri of such a name gives it to the row that is known by the name alone; where the uri has a row already, that is yet to
//! get this name, the two become one. So it makes no difference which source comes first.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::batch::Named;
use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;

/// Scope of an artist's name.
pub(super) const EVERYWHERE: Option<i32> = Some(0);

/// A row as a batch describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedRecord<'a> {
    pub(super) named: Named<'a>,
    /// whether no source says that this uri has this name, but one that the track has both: it only fills a gap
    pub(super) is_inferred: bool,
    /// [`EVERYWHERE`] for artists; of an album the row of its artist, if it has one: without, its name stands for nothing
    pub(super) scope: Option<i32>,
}

/// What stands for a row without a uri.
type Key = (i32, String);

/// Distinct records of a batch.
#[derive(Debug, Default)]
pub(super) struct NamedRecords<'a> {
    records: Vec<NamedRecord<'a>>,
    of_uri: HashMap<&'a str, usize>,
    of_name: HashMap<(i32, &'a str), usize>,
    /// whether records say different names of one uri: the first one counts
    pub(super) has_contradictions: bool,
}

impl<'a> NamedRecords<'a> {
    /// Adds a record, or to the one that there is. Returns its index.
    pub(super) fn add(&mut self, record: NamedRecord<'a>) -> usize {
        let fresh = self.records.len();
        let index = match (record.named.uri, record.scope.zip(record.named.name)) {
            (Some(uri), _) => *self.of_uri.entry(uri).or_insert(fresh),
            (None, Some(key)) => *self.of_name.entry(key).or_insert(fresh),
            (None, None) => fresh,
        };
        match self.records.get_mut(index) {
            None => self.records.push(record),
            Some(known) => {
                known.scope = known.scope.or(record.scope);
                self.has_contradictions |= !known.is_inferred
                    && !record.is_inferred
                    && known.named.name.zip(record.named.name).is_some_and(|(known, said)| known != said);
                if known.named.name.is_none() || (known.is_inferred && record.named.name.is_some()) {
                    (known.named.name, known.is_inferred) = (record.named.name, record.is_inferred);
                }
            }
        }
        index
    }
}

/// A row as it is stored. One without a name of its own has its uri for a name.
pub(super) struct StoredRow {
    id: i32,
    uri: Option<String>,
    name: String,
    artist: Option<i32>,
}

impl StoredRow {
    fn is_unnamed(&self) -> bool {
        self.uri.as_ref() == Some(&self.name)
    }

    /// The name that a record of this row's uri gives it, if it has another one.
    fn new_name<'a>(&self, record: &NamedRecord<'a>) -> Option<&'a str> {
        record.named.name.filter(|&name| self.name != name && (self.is_unnamed() || !record.is_inferred))
    }
}

/// A table of such rows, with its queries.
pub(super) trait NamedTable {
    const COPY: &'static str;

    /// Writes what is behind id, uri and name in [`NamedTable::COPY`].
    fn copy_artist(copy: &mut CopyRows, artist: Option<i32>);

    /// Rows of these names, those without a uri first.
    async fn of_names(connection: &mut PgConnection, artists: &[i32], names: &[String])
    -> sqlx::Result<Vec<StoredRow>>;

    /// Rows of these uris.
    async fn of_uris(connection: &mut PgConnection, uris: &[String]) -> sqlx::Result<Vec<StoredRow>>;

    /// Ids that no row has.
    async fn draw_ids(connection: &mut PgConnection, count: i32) -> sqlx::Result<Vec<i32>>;

    async fn set_uris(connection: &mut PgConnection, ids: &[i32], uris: &[String]) -> sqlx::Result<()>;

    async fn set_names(connection: &mut PgConnection, ids: &[i32], names: &[String]) -> sqlx::Result<()>;

    async fn set_artists(connection: &mut PgConnection, ids: &[i32], artists: &[i32]) -> sqlx::Result<()>;

    /// Makes each row of `gone`, known by its name alone, one with the row of `into`.
    async fn merge(connection: &mut PgConnection, gone: &[i32], into: &[i32]) -> sqlx::Result<()>;
}

macro_rules! common_queries {
    ($table:tt, $artist:tt) => {
        async fn of_uris(connection: &mut PgConnection, uris: &[String]) -> sqlx::Result<Vec<StoredRow>> {
            let rows = sqlx::query_as!(
                StoredRow,
                "SELECT id, uri, name, " + $artist + r#" AS "artist?" FROM "# + $table + " WHERE uri = ANY($1)",
                uris
            );
            rows.fetch_all(connection).await
        }

        async fn draw_ids(connection: &mut PgConnection, count: i32) -> sqlx::Result<Vec<i32>> {
            let ids = sqlx::query_scalar!(
                "SELECT nextval('" + $table + r#"_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
                count
            );
            ids.fetch_all(connection).await
        }

        async fn set_uris(connection: &mut PgConnection, ids: &[i32], uris: &[String]) -> sqlx::Result<()> {
            let set = sqlx::query!(
                "UPDATE "
                    + $table
                    + " AS t SET uri = input.uri FROM UNNEST($1::int[], $2::text[]) AS input (id, uri)
                 WHERE t.id = input.id",
                ids,
                uris
            );
            set.execute(connection).await.map(drop)
        }

        async fn set_names(connection: &mut PgConnection, ids: &[i32], names: &[String]) -> sqlx::Result<()> {
            let set = sqlx::query!(
                "UPDATE "
                    + $table
                    + " AS t SET name = input.name FROM UNNEST($1::int[], $2::text[]) AS input (id, name)
                 WHERE t.id = input.id",
                ids,
                names
            );
            set.execute(connection).await.map(drop)
        }
    };
}

/// The table `artists`.
pub(super) struct Artists;

impl NamedTable for Artists {
    const COPY: &'static str = "COPY artists (id, uri, name) FROM STDIN";

    fn copy_artist(_: &mut CopyRows, _: Option<i32>) {}

    async fn of_names(connection: &mut PgConnection, _: &[i32], names: &[String]) -> sqlx::Result<Vec<StoredRow>> {
        let rows = sqlx::query_as!(
            StoredRow,
            r#"SELECT id, uri, name, 0 AS "artist?" FROM artists WHERE name = ANY($1) ORDER BY uri NULLS FIRST"#,
            names
        );
        rows.fetch_all(connection).await
    }

    common_queries!("artists", "0");

    async fn set_artists(_: &mut PgConnection, _: &[i32], _: &[i32]) -> sqlx::Result<()> {
        Ok(())
    }

    async fn merge(connection: &mut PgConnection, gone: &[i32], into: &[i32]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE tracks t SET artist_id = input.into_id FROM UNNEST($1::int[], $2::int[]) AS input (gone_id, into_id)
             WHERE t.artist_id = input.gone_id",
            gone,
            into
        )
        .execute(&mut *connection)
        .await?;
        // Albums of one name are one then: the one that has a uri, if there is one.
        let albums = sqlx::query!(
            r#"SELECT id AS "gone!", kept AS "into!"
               FROM (SELECT b.id, b.uri, first_value(b.id) OVER (PARTITION BY input.into_id, b.name
                                                                 ORDER BY b.uri NULLS LAST, b.id) AS kept
                     FROM UNNEST($1::int[], $2::int[]) AS input (gone_id, into_id)
                     JOIN albums b ON b.artist_id IN (input.gone_id, input.into_id)) of_both
               WHERE uri IS NULL AND id <> kept"#,
            gone,
            into
        )
        .fetch_all(&mut *connection)
        .await?;
        let (old, new): (Vec<i32>, Vec<i32>) = albums.into_iter().map(|row| (row.gone, row.into)).unzip();
        Albums::merge(&mut *connection, &old, &new).await?;
        sqlx::query!(
            "UPDATE albums b SET artist_id = input.into_id FROM UNNEST($1::int[], $2::int[]) AS input (gone_id, into_id)
             WHERE b.artist_id = input.gone_id",
            gone,
            into
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!("DELETE FROM artists WHERE id = ANY($1)", gone).execute(connection).await.map(drop)
    }
}

/// The table `albums`.
pub(super) struct Albums;

impl NamedTable for Albums {
    const COPY: &'static str = "COPY albums (id, uri, name, artist_id) FROM STDIN";

    fn copy_artist(copy: &mut CopyRows, artist: Option<i32>) {
        copy.optional(artist);
    }

    async fn of_names(
        connection: &mut PgConnection,
        artists: &[i32],
        names: &[String],
    ) -> sqlx::Result<Vec<StoredRow>> {
        let rows = sqlx::query_as!(
            StoredRow,
            "SELECT b.id, b.uri, b.name, b.artist_id AS artist
             FROM (SELECT DISTINCT artist_id, name FROM UNNEST($1::int[], $2::text[]) AS i (artist_id, name)) AS input
             JOIN albums b ON b.artist_id = input.artist_id AND b.name = input.name
             ORDER BY b.uri NULLS FIRST",
            artists,
            names
        );
        rows.fetch_all(connection).await
    }

    common_queries!("albums", "artist_id");

    async fn set_artists(connection: &mut PgConnection, ids: &[i32], artists: &[i32]) -> sqlx::Result<()> {
        let set = sqlx::query!(
            "UPDATE albums b SET artist_id = input.artist_id FROM UNNEST($1::int[], $2::int[]) AS input (id, artist_id)
             WHERE b.id = input.id",
            ids,
            artists
        );
        set.execute(connection).await.map(drop)
    }

    async fn merge(connection: &mut PgConnection, gone: &[i32], into: &[i32]) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE tracks t SET album_id = input.into_id FROM UNNEST($1::int[], $2::int[]) AS input (gone_id, into_id)
             WHERE t.album_id = input.gone_id",
            gone,
            into
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!("DELETE FROM albums WHERE id = ANY($1)", gone).execute(connection).await.map(drop)
    }
}

/// Rows of a batch after they were written.
#[derive(Debug, Default)]
pub(super) struct UpsertedRows {
    /// in the order of the records
    pub(super) ids: Vec<i32>,
    /// how many were missing
    pub(super) added: u64,
    /// how many have another name now, or a uri
    pub(super) changed: u64,
    /// whether anything is different now in rows that were stored before, their artists included
    pub(super) is_different: bool,
    /// rows that became one with another, and that one
    merged: HashMap<i32, i32>,
}

impl UpsertedRows {
    /// The row that a row stored before is now.
    pub(super) fn row(&self, id: i32) -> i32 {
        self.merged.get(&id).copied().unwrap_or(id)
    }

    /// Whether any row is gone: what was read before may refer to it.
    pub(super) fn has_merged(&self) -> bool {
        !self.merged.is_empty()
    }
}

/// Writes what is missing or differs.
pub(super) async fn upsert<T: NamedTable>(
    connection: &mut PgConnection,
    records: &NamedRecords<'_>,
) -> Result<UpsertedRows, CatalogError> {
    let records = &records.records;
    if records.is_empty() {
        return Ok(UpsertedRows::default());
    }
    let uris: Vec<String> = records.iter().filter_map(|record| record.named.uri.map(ToOwned::to_owned)).collect();
    let mut stored = Stored::default();
    for row in T::of_uris(&mut *connection, &uris).await? {
        if let Some(uri) = row.uri.clone() {
            stored.by_uri.insert(uri, row);
        }
    }
    let (artists, names): (Vec<i32>, Vec<String>) = records.iter().filter_map(|record| stored.key(record)).unzip();
    for row in T::of_names(&mut *connection, &artists, &names).await? {
        stored.by_name.entry((row.artist.unwrap_or_default(), row.name)).or_insert((row.id, row.uri));
    }
    let fresh = T::draw_ids(&mut *connection, stored.missing(records)).await?;
    let resolved = stored.resolve(records, fresh)?;

    let mut copy = CopyRows::default();
    for (id, index) in resolved.added {
        let NamedRecord { named: Named { uri, name }, scope, .. } = records[index];
        let name = name.or(uri).unwrap_or_default();
        T::copy_artist(copy.field(id).optional_text(uri).text(name), scope);
        copy.end_row();
    }
    let added = copy.send(&mut *connection, T::COPY).await?;
    let ((adopted, uris), (renamed, names), (placed, artists)) = (resolved.adopted, resolved.renamed, resolved.placed);
    if !adopted.is_empty() {
        T::set_uris(&mut *connection, &adopted, &uris).await?;
    }
    if !renamed.is_empty() {
        T::set_names(&mut *connection, &renamed, &names).await?;
    }
    if !placed.is_empty() {
        T::set_artists(&mut *connection, &placed, &artists).await?;
    }
    let merged = resolved.merged;
    if !merged.is_empty() {
        let (gone, into): (Vec<i32>, Vec<i32>) = merged.iter().map(|(gone, into)| (*gone, *into)).unzip();
        T::merge(connection, &gone, &into).await?;
    }
    let changed = (adopted.len() + renamed.len()) as u64;
    let is_different = changed > 0 || !placed.is_empty() || !merged.is_empty();
    Ok(UpsertedRows { ids: resolved.ids, added, changed, is_different, merged })
}

/// What is stored of a batch's rows.
#[derive(Default)]
struct Stored {
    by_uri: HashMap<String, StoredRow>,
    /// id and uri of each name: of several rows of one name the one without a uri; failing that, the first
    by_name: HashMap<Key, (i32, Option<String>)>,
}

/// Which row each record is, and what has to be written for that.
#[derive(Default)]
struct Resolved {
    /// in the order of the records
    ids: Vec<i32>,
    /// (id, index) of the rows that are missing
    added: Vec<(i32, usize)>,
    /// rows known by name alone so far, and their uris
    adopted: (Vec<i32>, Vec<String>),
    /// rows that have another name now
    renamed: (Vec<i32>, Vec<String>),
    /// albums that had no artist, and have one now
    placed: (Vec<i32>, Vec<i32>),
    /// rows that become one with another, and that one
    merged: HashMap<i32, i32>,
}

impl Stored {
    /// What stands for the row of a record from now on, if anything does.
    fn key(&self, record: &NamedRecord<'_>) -> Option<Key> {
        let Some(row) = record.named.uri.and_then(|uri| self.by_uri.get(uri)) else {
            return Some((record.scope?, record.named.name?.to_owned()));
        };
        let name = row.new_name(record).unwrap_or(&row.name);
        Some((row.artist.or(record.scope)?, name.to_owned()))
    }

    /// How many ids to draw for rows that are missing: enough, and a few too many where uris turn out to be adopted.
    fn missing(&self, records: &[NamedRecord<'_>]) -> i32 {
        let is_known = |record: &&NamedRecord<'_>| match record.named.uri {
            Some(uri) => self.by_uri.contains_key(uri),
            None => self.key(record).is_some_and(|key| self.by_name.contains_key(&key)),
        };
        (records.len() - records.iter().filter(is_known).count()) as i32
    }

    fn resolve(mut self, records: &[NamedRecord<'_>], fresh: Vec<i32>) -> Result<Resolved, CatalogError> {
        let mut fresh = fresh.into_iter();
        let mut resolved = Resolved { ids: vec![0; records.len()], ..Resolved::default() };
        // Those with a uri first, so that a name finds the row that it stands for wherever it is in the batch.
        let (with_uri, by_name): (Vec<usize>, Vec<usize>) =
            (0..records.len()).partition(|&index| records[index].named.uri.is_some());
        for index in with_uri.into_iter().chain(by_name) {
            let record = &records[index];
            let (key, uri) = (self.key(record), record.named.uri);
            if let Some(row) = uri.and_then(|uri| self.by_uri.get(uri)) {
                resolved.ids[index] = row.id;
                let new_name = row.new_name(record);
                let new_artist = record.scope.filter(|_| row.artist.is_none());
                let is_new_key = new_artist.is_some() || (new_name.is_some() && row.is_unnamed());
                if let Some(name) = new_name {
                    resolved.renamed.0.push(row.id);
                    resolved.renamed.1.push(name.to_owned());
                }
                if let Some(artist) = new_artist {
                    resolved.placed.0.push(row.id);
                    resolved.placed.1.push(artist);
                }
                let Some(key) = key else { continue };
                match self.by_name.get_mut(&key) {
                    // The name is yet to be this row's: what was known by it alone is this row.
                    Some((id, known @ None)) if is_new_key => {
                        resolved.merged.insert(*id, row.id);
                        (*id, *known) = (row.id, row.uri.clone());
                    }
                    Some(_) => {}
                    None => drop(self.by_name.insert(key, (row.id, row.uri.clone()))),
                }
                continue;
            }
            resolved.ids[index] = match (key.as_ref().and_then(|key| self.by_name.get_mut(key)), uri) {
                (Some((id, _)), None) => *id,
                // What is known by name alone gets its uri from the first source that states it.
                (Some((id, known @ None)), Some(uri)) => {
                    *known = Some(uri.to_owned());
                    resolved.adopted.0.push(*id);
                    resolved.adopted.1.push(uri.to_owned());
                    *id
                }
                (_, uri) => {
                    let id = fresh.next().ok_or_else(|| {
                        CatalogError::Protocol("the sequence gave fewer ids than were asked for".to_owned())
                    })?;
                    if let Some(key) = key {
                        self.by_name.entry(key).or_insert((id, uri.map(ToOwned::to_owned)));
                    }
                    resolved.added.push((id, index));
                    id
                }
            };
        }
        Ok(resolved)
    }
}
