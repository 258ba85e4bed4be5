//! Removing what a source no longer has.

use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;

/// Playlists deleted in one transaction.
const BATCH: usize = 1_000;

impl Catalog {
    /// Returns the time of PostgreSQL's clock.
    pub async fn now(&self) -> Result<OffsetDateTime, CatalogError> {
        Ok(sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&self.pool).await?)
    }

    /// Deletes the playlists whose ids are not among `named`, except those that somebody changed after `since`. Returns how
    /// many there were.
    pub async fn prune_playlists(&self, named: &[String], since: OffsetDateTime) -> Result<u64, CatalogError> {
        let rows = sqlx::query_scalar!(
            "SELECT p.id FROM playlists p
             WHERE p.updated_at < $2 AND NOT EXISTS (SELECT FROM UNNEST($1::text[]) AS named (id) WHERE named.id = p.external_id)
             ORDER BY p.id",
            named,
            since
        )
        .fetch_all(&self.pool)
        .await?;
        let mut deleted = 0;
        for batch in rows.chunks(BATCH) {
            let mut attempts = Attempts::default();
            deleted += loop {
                // In the order in which everyone locks playlists.
                let outcome = sqlx::query!(
                    "WITH locked AS (SELECT id FROM playlists WHERE id = ANY($1) AND updated_at < $2 ORDER BY id FOR UPDATE)
                     DELETE FROM playlists p USING locked WHERE p.id = locked.id",
                    batch,
                    since
                )
                .execute(&self.pool)
                .await
                .map_err(CatalogError::from);
                match outcome {
                    Ok(done) => break done.rows_affected(),
                    Err(error) if attempts.again(&error).await => {}
                    Err(error) => return Err(error),
                }
            };
        }
        Ok(deleted)
    }
}
