//! The tracks with the most placements, roughly: what a search lists first.

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;

/// Placements that an estimate reads: a second's work, however large the catalog is.
const SAMPLED_PLACEMENTS: f32 = 1e6;
/// Tracks that count as popular at most. Among so many even a word that every fifth name has is searched in 20 ms.
const POPULAR_TRACKS: i64 = 100_000;

impl Catalog {
    /// Estimates anew which tracks have the most placements, from a sample of a million; exactly if there are fewer.
    ///
    /// Of several processes that try at once, one does it.
    pub(super) async fn estimate_popular_tracks(&self) -> Result<(), CatalogError> {
        // Who renames tracks at the same time writes the same rows, in another order.
        let mut attempts = Attempts::default();
        loop {
            match self.try_estimate_popular_tracks().await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_estimate_popular_tracks(&self) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let share = sqlx::query_scalar!(
            r#"SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext('segue'), hashtext('popular_tracks'))
                           THEN LEAST(1, $1 / GREATEST(reltuples, 1)) END::real AS "share"
               FROM pg_class WHERE oid = 'playlist_tracks'::regclass"#,
            SAMPLED_PLACEMENTS
        );
        let Some(share) = share.fetch_one(&mut *transaction).await? else { return Ok(()) };
        // What a sample says differs a little each time: rows are written for larger differences only.
        sqlx::query!(
            "WITH counted AS (
                 SELECT track_id, (count(*) / $1::real)::int AS placements
                 FROM playlist_tracks TABLESAMPLE SYSTEM (100 * $1::real) GROUP BY track_id
             ), popular AS MATERIALIZED (
                 SELECT t.id, COALESCE(c.placements, 0) AS placements, t.search_text
                 FROM tracks t LEFT JOIN counted c ON c.track_id = t.id
                 ORDER BY placements DESC, t.id LIMIT $2
             ), gone AS (
                 DELETE FROM popular_tracks p WHERE NOT EXISTS (SELECT FROM popular WHERE id = p.track_id)
             )
             INSERT INTO popular_tracks AS old (track_id, placements, search_text) SELECT * FROM popular
             ON CONFLICT (track_id) DO UPDATE SET placements = EXCLUDED.placements, search_text = EXCLUDED.search_text
             WHERE old.search_text <> EXCLUDED.search_text
                OR abs(old.placements - EXCLUDED.placements) > CASE WHEN $1 < 1 THEN old.placements / 10 ELSE 0 END",
            share,
            POPULAR_TRACKS
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE popular_tracks_estimate
             SET estimated_at = now(), is_all = (SELECT count(*) < $1 FROM popular_tracks)",
            POPULAR_TRACKS
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Estimates again which tracks are popular, if playlists changed since the last estimate.
    pub async fn refresh_popular_tracks(&self) -> Result<(), CatalogError> {
        let is_stale = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM playlists WHERE updated_at > (SELECT estimated_at FROM popular_tracks_estimate))
                      AS "is_stale!""#
        );
        match is_stale.fetch_one(&self.pool).await? {
            true => self.estimate_popular_tracks().await,
            false => Ok(()),
        }
    }
}
