//! Rows that have an id of the app's, or are known by their names alone: artists and albums.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;

/// A row as a batch describes it. A name that is the uri itself says nothing, and leaves the name that is there.
pub(super) struct NamedRecord<'a> {
    pub(super) uri: Option<&'a str>,
    pub(super) name: &'a str,
    /// row of an album's artist, which with the name stands for an album without a uri; 0 for artists
    pub(super) artist: i32,
}

/// What stands for a row without a uri.
type Key = (i32, String);

impl NamedRecord<'_> {
    fn key(&self) -> Key {
        (self.artist, self.name.to_owned())
    }
}

/// A row as it is stored.
pub(super) struct StoredRow {
    id: i32,
    uri: Option<String>,
    name: String,
    artist: i32,
}

/// A table of such rows, with its queries.
pub(super) trait NamedTable {
    const COPY: &'static str;

    /// Writes what is behind id, uri and name in [`NamedTable::COPY`].
    fn copy_artist(copy: &mut CopyRows, artist: i32);

    /// Rows of these names, those without a uri first.
    async fn of_names(connection: &mut PgConnection, artists: &[i32], names: &[String])
    -> sqlx::Result<Vec<StoredRow>>;

    /// Name and id of the rows of these uris.
    async fn of_uris(connection: &mut PgConnection, uris: &[String]) -> sqlx::Result<Vec<(String, (i32, String))>>;

    /// Ids that no row has.
    async fn draw_ids(connection: &mut PgConnection, count: i32) -> sqlx::Result<Vec<i32>>;

    async fn set_uris(connection: &mut PgConnection, ids: &[i32], uris: &[String]) -> sqlx::Result<()>;

    async fn set_names(connection: &mut PgConnection, ids: &[i32], names: &[String]) -> sqlx::Result<()>;
}

macro_rules! common_queries {
    ($table:tt) => {
        async fn of_uris(connection: &mut PgConnection, uris: &[String]) -> sqlx::Result<Vec<(String, (i32, String))>> {
            let rows = sqlx::query!(r#"SELECT uri AS "uri!", id, name FROM "# + $table + " WHERE uri = ANY($1)", uris);
            Ok(rows.fetch_all(connection).await?.into_iter().map(|row| (row.uri, (row.id, row.name))).collect())
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

    fn copy_artist(_: &mut CopyRows, _: i32) {}

    async fn of_names(connection: &mut PgConnection, _: &[i32], names: &[String]) -> sqlx::Result<Vec<StoredRow>> {
        let rows = sqlx::query_as!(
            StoredRow,
            r#"SELECT id, uri, name, 0 AS "artist!" FROM artists WHERE name = ANY($1) ORDER BY uri NULLS FIRST"#,
            names
        );
        rows.fetch_all(connection).await
    }

    common_queries!("artists");
}

/// The table `albums`.
pub(super) struct Albums;

impl NamedTable for Albums {
    const COPY: &'static str = "COPY albums (id, uri, name, artist_id) FROM STDIN";

    fn copy_artist(copy: &mut CopyRows, artist: i32) {
        copy.field(artist);
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

    common_queries!("albums");
}

/// Writes what is missing or differs. Returns the row of each, and how many were missing.
pub(super) async fn upsert<T: NamedTable>(
    connection: &mut PgConnection,
    records: &[NamedRecord<'_>],
) -> Result<(Vec<i32>, u64), CatalogError> {
    if records.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let uris: Vec<String> = records.iter().filter_map(|record| record.uri.map(ToOwned::to_owned)).collect();
    let names: Vec<String> = records.iter().map(|record| record.name.to_owned()).collect();
    let artists: Vec<i32> = records.iter().map(|record| record.artist).collect();
    let mut stored =
        Stored { by_uri: T::of_uris(&mut *connection, &uris).await?.into_iter().collect(), by_name: HashMap::new() };
    for row in T::of_names(&mut *connection, &artists, &names).await? {
        stored.by_name.entry((row.artist, row.name)).or_insert((row.id, row.uri));
    }
    let fresh = T::draw_ids(&mut *connection, stored.missing(records)).await?;
    let resolved = stored.resolve(records, fresh)?;

    let mut copy = CopyRows::default();
    for (id, index) in resolved.added {
        let record = &records[index];
        T::copy_artist(copy.field(id).optional_text(record.uri).text(record.name), record.artist);
        copy.end_row();
    }
    let added = copy.send(&mut *connection, T::COPY).await?;
    let (ids, uris) = resolved.adopted;
    if !ids.is_empty() {
        T::set_uris(&mut *connection, &ids, &uris).await?;
    }
    let (ids, names) = resolved.renamed;
    if !ids.is_empty() {
        T::set_names(connection, &ids, &names).await?;
    }
    Ok((resolved.ids, added))
}

/// What is stored of a batch's rows.
struct Stored {
    /// id and name of each uri
    by_uri: HashMap<String, (i32, String)>,
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
}

impl Stored {
    /// How many ids to draw for rows that are missing: enough, and a few too many where uris turn out to be adopted.
    fn missing(&self, records: &[NamedRecord<'_>]) -> i32 {
        let is_known = |record: &&NamedRecord<'_>| match record.uri {
            Some(uri) => self.by_uri.contains_key(uri),
            None => self.by_name.contains_key(&record.key()),
        };
        (records.len() - records.iter().filter(is_known).count()) as i32
    }

    fn resolve(mut self, records: &[NamedRecord<'_>], fresh: Vec<i32>) -> Result<Resolved, CatalogError> {
        let mut fresh = fresh.into_iter();
        let mut resolved = Resolved::default();
        for (index, record) in records.iter().enumerate() {
            if let Some((id, name)) = record.uri.and_then(|uri| self.by_uri.get(uri)) {
                if name != record.name && record.uri != Some(record.name) {
                    resolved.renamed.0.push(*id);
                    resolved.renamed.1.push(record.name.to_owned());
                }
                resolved.ids.push(*id);
                continue;
            }
            let key = record.key();
            let id = match (self.by_name.get_mut(&key), record.uri) {
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
                    self.by_name.entry(key).or_insert((id, uri.map(ToOwned::to_owned)));
                    resolved.added.push((id, index));
                    id
                }
            };
            resolved.ids.push(id);
        }
        Ok(resolved)
    }
}
