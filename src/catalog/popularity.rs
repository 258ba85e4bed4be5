//! How popular tracks are, roughly, for the order of search results.

use super::connection::Catalog;
use super::error::CatalogError;

/// Placements that an estimate reads: a second's work, however large the catalog is.
const SAMPLED_PLACEMENTS: f32 = 1e6;

impl Catalog {
    /// Estimates anew how many placements each track has, from a sample of a million; exactly if there are fewer.
    ///
    /// Of several processes that try at once, one does it.
    pub(super) async fn estimate_popularity(&self) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let share = sqlx::query_scalar!(
            r#"SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext('segue'), hashtext('track_popularity'))
                           THEN LEAST(1, $1 / GREATEST(reltuples, 1)) END::real AS "share"
               FROM pg_class WHERE oid = 'playlist_tracks'::regclass"#,
            SAMPLED_PLACEMENTS
        );
        let Some(share) = share.fetch_one(&mut *transaction).await? else { return Ok(()) };
        sqlx::query!("DELETE FROM track_popularity").execute(&mut *transaction).await?;
        sqlx::query!(
            "INSERT INTO track_popularity (track_id, placements)
             SELECT track_id, (count(*) / $1::real)::int FROM playlist_tracks TABLESAMPLE SYSTEM (100 * $1::real)
             GROUP BY track_id",
            share
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("UPDATE track_popularity_estimate SET estimated_at = now()").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Estimates the popularity of tracks again, if playlists changed since the last estimate.
    pub async fn refresh_popularity(&self) -> Result<(), CatalogError> {
        let is_stale = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM playlists WHERE updated_at > (SELECT estimated_at FROM track_popularity_estimate))
                      AS "is_stale!""#
        );
        match is_stale.fetch_one(&self.pool).await? {
            true => self.estimate_popularity().await,
            false => Ok(()),
        }
    }
}
