//! All placements as a stream, for training.

use bytes::Buf;
use sqlx::postgres::PgPoolCopyExt;
use time::OffsetDateTime;

use super::connection::Catalog;
use super::copy::CopyOut;
use super::error::CatalogError;
use super::records::{PlaylistRow, TrackId, TrackRow};

/// A track and the number of its placements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackUsage {
    /// its row
    pub row: TrackRow,
    /// the app's id
    pub id: TrackId,
    /// placements, repeats counted
    pub placements: i64,
}

impl Catalog {
    /// Returns all tracks that have placements, by falling number of them (ties by the app's id).
    pub async fn track_usage(&self) -> Result<Vec<TrackUsage>, CatalogError> {
        let usage = sqlx::query_as!(
            TrackUsage,
            r#"SELECT t.id AS row, t.uri AS "id: TrackId", u.placements AS "placements!"
               FROM (SELECT track_id, count(*) AS placements FROM playlist_tracks GROUP BY track_id) u
               JOIN tracks t ON t.id = u.track_id
               ORDER BY u.placements DESC, t.uri COLLATE "C""#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(usage)
    }

    /// Returns when a playlist last changed, or a track that was there got another name.
    pub async fn newest_change(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        let newest = sqlx::query_scalar!(
            "SELECT GREATEST((SELECT max(updated_at) FROM playlists), (SELECT max(renamed_at) FROM tracks))"
        );
        Ok(newest.fetch_one(&self.pool).await?)
    }

    /// Streams all placements, playlist by playlist, in the order of each playlist.
    ///
    /// Playlists come in the order of the app's ids, so that the same catalog reads the same however it was imported.
    pub async fn placements(&self) -> Result<PlacementReader, CatalogError> {
        // ORDER BY the app's id: row ids depend on the order of imports.
        let stream = self
            .pool
            .copy_out_raw(
                "COPY (SELECT pt.playlist_id, pt.track_id
                       FROM playlist_tracks pt JOIN playlists p ON p.id = pt.playlist_id
                       ORDER BY p.external_id COLLATE \"C\", pt.position) TO STDOUT (FORMAT binary)",
            )
            .await?;
        Ok(PlacementReader(CopyOut::new(stream, [4, 4], "placements")))
    }
}

/// Rows of [`Catalog::placements`] as they arrive.
pub struct PlacementReader(CopyOut<2>);

impl PlacementReader {
    /// Appends the next rows to `rows`; false at the end.
    pub async fn next_rows(&mut self, rows: &mut Vec<(PlaylistRow, TrackRow)>) -> Result<bool, CatalogError> {
        self.0.next_rows(|row| rows.push((PlaylistRow(row.get_i32()), TrackRow(row.get_i32())))).await
    }
}
