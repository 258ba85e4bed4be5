//! Indexes that a first import builds at its end: to build one at once takes a small part of the time that it takes to add
//! each row to it, in places all over the index.

use std::sync::Mutex;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::{info, warn};

use super::connection::Catalog;
use super::error::CatalogError;
use crate::progress::Progress;

/// The advisory lock of the import that deferred indexes.
const DEFERRED: i64 = 0x5e_67_7e_02;
/// Indexes that are built at the same time.
const AT_A_TIME: usize = 2;

/// An import that deferred indexes. Until it is dropped, nobody else builds them.
#[derive(Debug)]
pub struct DeferredIndexes {
    /// has the lock
    connection: PgConnection,
}

impl Catalog {
    /// Drops those indexes of empty tables that an import does without and that are the most work to keep: those of words,
    /// and those of placements. None if there is nothing to defer, or others use the tables.
    ///
    /// [`Catalog::build_deferred_indexes`] builds them. Until then, whatever becomes of the import, they are written down.
    pub async fn defer_indexes(&self) -> Result<Option<DeferredIndexes>, CatalogError> {
        let Some(mut connection) = self.lock_deferred_indexes().await? else { return Ok(None) };
        match drop_indexes(&mut connection).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(DeferredIndexes { connection })),
            // Somebody reads the tables for long.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Builds the indexes that an import deferred: this one, if it has `deferred` them, or one that does not run any more.
    /// Returns how many it built.
    ///
    /// Readers don't wait for it; writers of a table do, until its indexes are built.
    pub async fn build_deferred_indexes(&self, deferred: Option<DeferredIndexes>) -> Result<usize, CatalogError> {
        let lock = match deferred {
            Some(DeferredIndexes { connection }) => Some(connection),
            None => self.lock_deferred_indexes().await?,
        };
        let Some(lock) = lock else { return Ok(0) };
        let rows =
            sqlx::query!("SELECT name, definition FROM deferred_indexes ORDER BY name").fetch_all(&self.pool).await?;
        // Placements first: theirs takes longest.
        let (last, first): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| !row.name.starts_with("playlist_tracks"));
        let mut deferred: Vec<_> = first.into_iter().chain(last).map(|row| (row.name, row.definition)).collect();
        let count = deferred.len();
        if count == 0 {
            return Ok(0);
        }
        info!(count, "building the indexes that a first import left for its end");
        deferred.reverse();
        let (progress, deferred) = (Progress::start("building indexes", count as u64), Mutex::new(deferred));
        let build = || async {
            loop {
                let next = deferred.lock().ok().and_then(|mut deferred| Some((deferred.pop()?, deferred.len())));
                let Some(((name, definition), left)) = next else { return Ok::<(), CatalogError>(()) };
                progress.at((count - left - 1) as u64, || name.clone());
                self.build_index(&name, &definition).await?;
            }
        };
        futures_util::future::try_join_all((0..AT_A_TIME).map(|_| build())).await?;
        lock.close().await?;
        Ok(count)
    }

    async fn build_index(&self, name: &str, definition: &str) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::raw_sql(
            "SET LOCAL maintenance_work_mem = '512MB'; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::raw_sql(AssertSqlSafe(definition.to_owned())).execute(&mut *transaction).await?;
        sqlx::query!("DELETE FROM deferred_indexes WHERE name = $1", name).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// A connection with the lock on deferred indexes; none if another one has it.
    async fn lock_deferred_indexes(&self) -> Result<Option<PgConnection>, CatalogError> {
        let mut connection = self.pool.acquire().await?.detach();
        let has_lock = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "has!""#, DEFERRED);
        Ok(has_lock.fetch_one(&mut connection).await?.then_some(connection))
    }
}

/// Returns how many indexes are deferred now, those that an earlier import deferred among them.
async fn drop_indexes(connection: &mut PgConnection) -> sqlx::Result<usize> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL lock_timeout = '3s'").execute(&mut *transaction).await?;
    // A catalog in `public` is told from an app's own tables by an index.
    let dropped = sqlx::query!(
        r#"SELECT i.indexname AS "name!", i.indexdef AS "definition!", format('%I.%I', i.schemaname, i.indexname) AS "quoted!"
           FROM pg_indexes i
           WHERE i.schemaname = current_schema() AND i.schemaname <> 'public'
             AND (i.tablename = 'tracks' AND i.indexdef LIKE '% USING gin %' AND NOT EXISTS (SELECT FROM tracks)
                  OR i.tablename = 'playlists' AND i.indexdef LIKE '% USING gin %' AND NOT EXISTS (SELECT FROM playlists)
                  OR i.tablename = 'playlist_tracks' AND i.indexdef NOT LIKE 'CREATE UNIQUE %'
                     AND NOT EXISTS (SELECT FROM playlist_tracks))"#
    )
    .fetch_all(&mut *transaction)
    .await?;
    for index in dropped {
        sqlx::query!(
            "INSERT INTO deferred_indexes (name, definition) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            index.name,
            index.definition
        )
        .execute(&mut *transaction)
        .await?;
        if let Err(error) =
            sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {}", index.quoted))).execute(&mut *transaction).await
        {
            warn!("could not defer the index {}: {error}", index.name);
            return Err(error);
        }
    }
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM deferred_indexes"#).fetch_one(&mut *transaction);
    let count = count.await?;
    transaction.commit().await?;
    Ok(count as usize)
}
