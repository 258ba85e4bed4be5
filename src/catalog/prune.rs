//! Removing what a source no longer has.
//!
//! The rows that an import names are copied to temporary tables as it goes, so that their number does not matter. At its
//! end, the rows that it did not name are deleted, a batch in a transaction. Rows that somebody else wrote since the import
//! began stay: a row of a table of ids is another version than it was then (`xmin`), a rating has a later time. Tracks and
//! users stay too if something refers to them.
//!
//! sqlx can't check queries of temporary tables when it compiles them; those of the catalog's tables are checked.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::copy::CopyRows;
use super::error::CatalogError;
use super::records::RatingRecord;
use super::upsert::lock_names;

/// Playlists, tracks or users deleted in one transaction.
const BATCH: i64 = 1_000;
/// Ratings deleted in one transaction.
const RATINGS_BATCH: i64 = 20_000;

/// Rows that can be pruned, in the order in which they are: what refers to others comes before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prunable {
    /// ratings, by user and track
    Ratings,
    /// playlists with their placements
    Playlists,
    /// tracks
    Tracks,
    /// users
    Users,
}

impl Prunable {
    /// Returns the name of its table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Ratings => "ratings",
            Self::Playlists => "playlists",
            Self::Tracks => "tracks",
            Self::Users => "users",
        }
    }

    /// The column of the app's ids.
    fn id(self) -> &'static str {
        match self {
            Self::Tracks => "uri",
            _ => "external_id",
        }
    }

    /// Tables and columns that refer to it.
    fn references(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ratings | Self::Playlists => &[],
            Self::Tracks => &[("playlist_tracks", "track_id"), ("ratings", "track_id"), ("listens", "track_id")],
            Self::Users => &[("playlists", "user_id"), ("ratings", "user_id"), ("listens", "user_id")],
        }
    }
}

/// What became of the rows that a source does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// deleted
    pub removed: u64,
    /// still there, because others refer to them, or somebody changed them meanwhile
    pub kept: u64,
}

/// Collects the rows that an import names, to delete the others at its end.
pub struct NamedRows {
    /// has the temporary tables
    connection: PgConnection,
    /// what is pruned, and how many rows of it were named
    named: BTreeMap<Prunable, u64>,
    /// when ratings that the import does not have may have been written last
    since: OffsetDateTime,
}

impl Catalog {
    /// Begins to collect the rows of these kinds that an import names.
    pub async fn begin_pruning(&self, kinds: &[Prunable]) -> Result<NamedRows, CatalogError> {
        // Beside the pool, since it is in use until the import ends.
        let mut connection = self.pool.acquire().await?.detach();
        // Writers that began before may commit later.
        let since = sqlx::query_scalar!(
            r#"SELECT LEAST(now(), min(xact_start)) AS "since!" FROM pg_stat_activity WHERE datname = current_database()"#
        );
        let since = since.fetch_one(&mut connection).await?;
        let named: BTreeMap<Prunable, u64> = kinds.iter().map(|&kind| (kind, 0)).collect();
        for kind in named.keys() {
            let table = kind.table();
            let create = match kind {
                Prunable::Ratings => {
                    "CREATE TEMPORARY TABLE named_ratings (user_id integer, track_id integer)".to_owned()
                }
                _ => format!(
                    "CREATE TEMPORARY TABLE named_{table} (id text);
                     CREATE TEMPORARY TABLE old_{table} AS SELECT id, xmin AS version FROM {table}"
                ),
            };
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        }
        Ok(NamedRows { connection, named, since })
    }
}

impl NamedRows {
    /// Takes the ids of rows that the import names.
    pub async fn add<'a>(
        &mut self,
        kind: Prunable,
        ids: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), CatalogError> {
        let Some(count) = self.named.get_mut(&kind) else { return Ok(()) };
        *count += ids.len() as u64;
        let mut copy = CopyRows::default();
        for id in ids {
            copy.text(id).end_row();
        }
        let statement = match kind {
            Prunable::Ratings => return Ok(()), // these have no ids
            Prunable::Playlists => "COPY named_playlists (id) FROM STDIN",
            Prunable::Tracks => "COPY named_tracks (id) FROM STDIN",
            Prunable::Users => "COPY named_users (id) FROM STDIN",
        };
        copy.send(&mut self.connection, statement).await.map(drop)
    }

    /// Takes ratings that the import has, once they are written.
    pub async fn add_ratings(&mut self, ratings: &[RatingRecord]) -> Result<(), CatalogError> {
        let Some(count) = self.named.get_mut(&Prunable::Ratings) else { return Ok(()) };
        *count += ratings.len() as u64;
        let users: Vec<&str> = ratings.iter().map(|rating| rating.user.as_str()).collect();
        let tracks: Vec<&str> = ratings.iter().map(|rating| rating.track.as_str()).collect();
        sqlx::query(
            "INSERT INTO named_ratings (user_id, track_id)
             SELECT u.id, t.id FROM UNNEST($1::text[], $2::text[]) AS named (user_id, track_id)
             JOIN users u ON u.external_id = named.user_id JOIN tracks t ON t.uri = named.track_id",
        )
        .bind(users)
        .bind(tracks)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Deletes the rows that were not named. Nothing of a kind of which no row was. Ends early, without an error, once
    /// `is_stopped`.
    pub async fn prune(mut self, is_stopped: impl Fn() -> bool) -> Result<BTreeMap<Prunable, Pruned>, CatalogError> {
        let mut pruned = BTreeMap::new();
        for (kind, _) in std::mem::take(&mut self.named).into_iter().filter(|(_, named)| *named > 0) {
            if is_stopped() {
                break;
            }
            let unnamed = self.find_unnamed(kind).await?;
            let removed = match kind {
                Prunable::Ratings => self.delete_ratings(&is_stopped).await?,
                _ => self.delete_rows(kind, &is_stopped).await?,
            };
            pruned.insert(kind, Pruned { removed, kept: unnamed.saturating_sub(removed) });
        }
        self.connection.close().await?;
        Ok(pruned)
    }

    /// Makes a table of the rows that were not named, less those that others refer to. Returns how many there are, with
    /// these.
    async fn find_unnamed(&mut self, kind: Prunable) -> Result<u64, CatalogError> {
        let table = kind.table();
        sqlx::raw_sql(AssertSqlSafe(format!("ANALYZE named_{table}"))).execute(&mut self.connection).await?;
        let create = match kind {
            Prunable::Ratings => {
                "CREATE TEMPORARY TABLE unnamed_ratings AS SELECT user_id, track_id FROM ratings r
                 WHERE NOT EXISTS (SELECT FROM named_ratings n WHERE n.user_id = r.user_id AND n.track_id = r.track_id)"
                    .to_owned()
            }
            _ => format!(
                "CREATE TEMPORARY TABLE unnamed_{table} AS
                 SELECT t.id, o.version FROM old_{table} o JOIN {table} t ON t.id = o.id
                 WHERE NOT EXISTS (SELECT FROM named_{table} n WHERE n.id = t.{})",
                kind.id()
            ),
        };
        let created = sqlx::query(AssertSqlSafe(create)).execute(&mut self.connection).await?;
        let key = if kind == Prunable::Ratings { "user_id, track_id" } else { "id" };
        let mut prepare = format!("ALTER TABLE unnamed_{table} ADD PRIMARY KEY ({key}); ANALYZE unnamed_{table};");
        for (other, column) in kind.references() {
            prepare.push_str(&format!(
                "DELETE FROM unnamed_{table} u WHERE EXISTS (SELECT FROM {other} r WHERE r.{column} = u.id);"
            ));
        }
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut self.connection).await?;
        Ok(created.rows_affected())
    }

    async fn delete_ratings(&mut self, is_stopped: &impl Fn() -> bool) -> Result<u64, CatalogError> {
        let (mut deleted, mut after) = (0, (0, 0));
        loop {
            let batch: Vec<(i32, i32)> = sqlx::query_as(
                "SELECT user_id, track_id FROM unnamed_ratings WHERE (user_id, track_id) > ($1, $2)
                 ORDER BY user_id, track_id LIMIT $3",
            )
            .bind(after.0)
            .bind(after.1)
            .bind(RATINGS_BATCH)
            .fetch_all(&mut self.connection)
            .await?;
            let Some(&last) = batch.last().filter(|_| !is_stopped()) else { return Ok(deleted) };
            let (users, tracks): (Vec<i32>, Vec<i32>) = batch.into_iter().unzip();
            let mut attempts = Attempts::default();
            deleted += loop {
                // In the order in which everyone locks ratings.
                let outcome = sqlx::query!(
                    "WITH locked AS MATERIALIZED (
                         SELECT r.user_id, r.track_id FROM UNNEST($1::int[], $2::int[]) AS unnamed (user_id, track_id)
                         JOIN ratings r ON r.user_id = unnamed.user_id AND r.track_id = unnamed.track_id
                         WHERE r.updated_at < $3 ORDER BY r.user_id, r.track_id FOR UPDATE OF r
                     )
                     DELETE FROM ratings r USING locked WHERE r.user_id = locked.user_id AND r.track_id = locked.track_id",
                    &users,
                    &tracks,
                    self.since
                )
                .execute(&mut self.connection)
                .await
                .map_err(CatalogError::from);
                match outcome {
                    Ok(done) => break done.rows_affected(),
                    Err(error) if attempts.again(&error).await => {}
                    Err(error) => return Err(error),
                }
            };
            after = last;
        }
    }

    async fn delete_rows(&mut self, kind: Prunable, is_stopped: &impl Fn() -> bool) -> Result<u64, CatalogError> {
        let table = kind.table();
        let select = format!("SELECT id, version::text FROM unnamed_{table} WHERE id > $1 ORDER BY id LIMIT {BATCH}");
        let (mut deleted, mut after) = (0, 0);
        loop {
            let batch: Vec<(i32, String)> =
                sqlx::query_as(AssertSqlSafe(select.as_str())).bind(after).fetch_all(&mut self.connection).await?;
            let Some((last, _)) = batch.last().filter(|_| !is_stopped()) else { return Ok(deleted) };
            after = *last;
            let (ids, versions): (Vec<i32>, Vec<String>) = batch.into_iter().unzip();
            let mut attempts = Attempts::default();
            deleted += loop {
                match try_delete(&mut self.connection, kind, &ids, &versions).await {
                    Ok(rows) => break rows,
                    Err(error) if attempts.again(&error).await => {}
                    Err(error) => return Err(error),
                }
            };
        }
    }
}

/// Selects and locks, in the order of their rows, those that have the same version still.
macro_rules! lock_rows {
    ($table:tt, $ids:expr, $versions:expr, $connection:expr) => {
        sqlx::query_scalar!(
            "SELECT t.id FROM UNNEST($1::int[], $2::text[]) AS old (id, version) JOIN "
                + $table
                + " t ON t.id = old.id WHERE t.xmin::text = old.version ORDER BY t.id FOR UPDATE OF t",
            $ids,
            $versions
        )
        .fetch_all($connection)
        .await?
    };
}

/// Deletes rows that have the same versions still, if nothing refers to them. Locked first: what refers to them then is
/// seen by the next statement, and nothing can from then on.
async fn try_delete(
    connection: &mut PgConnection,
    kind: Prunable,
    ids: &[i32],
    versions: &[String],
) -> Result<u64, CatalogError> {
    let mut transaction = connection.begin().await?;
    let deleted = match kind {
        Prunable::Ratings => return Ok(0), // these have no ids
        Prunable::Playlists => {
            let ids = lock_rows!("playlists", ids, versions, &mut *transaction);
            sqlx::query!("DELETE FROM playlists WHERE id = ANY($1)", &ids).execute(&mut *transaction).await?
        }
        Prunable::Tracks => {
            lock_names(&mut transaction).await?;
            let ids = lock_rows!("tracks", ids, versions, &mut *transaction);
            sqlx::query!(
                "DELETE FROM tracks t WHERE id = ANY($1)
                   AND NOT EXISTS (SELECT FROM playlist_tracks r WHERE r.track_id = t.id)
                   AND NOT EXISTS (SELECT FROM ratings r WHERE r.track_id = t.id)
                   AND NOT EXISTS (SELECT FROM listens r WHERE r.track_id = t.id)",
                &ids
            )
            .execute(&mut *transaction)
            .await?
        }
        Prunable::Users => {
            lock_names(&mut transaction).await?;
            let ids = lock_rows!("users", ids, versions, &mut *transaction);
            sqlx::query!(
                "DELETE FROM users u WHERE id = ANY($1)
                   AND NOT EXISTS (SELECT FROM playlists r WHERE r.user_id = u.id)
                   AND NOT EXISTS (SELECT FROM ratings r WHERE r.user_id = u.id)
                   AND NOT EXISTS (SELECT FROM listens r WHERE r.user_id = u.id)",
                &ids
            )
            .execute(&mut *transaction)
            .await?
        }
    };
    transaction.commit().await?;
    Ok(deleted.rows_affected())
}
