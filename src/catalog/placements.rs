//! The whole catalog as a stream, for training: who is placed where.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgPoolCopyExt;
use time::OffsetDateTime;

use super::{Catalog, CatalogError};

/// A track and how often it is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackUsage {
    /// row id of the track
    pub row: i32,
    /// the app's id
    pub id: String,
    /// placements, repeats counted
    pub placements: i64,
}

impl Catalog {
    /// Every track that is placed anywhere, by falling number of placements (ties by the app's id).
    pub async fn track_usage(&self) -> Result<Vec<TrackUsage>, CatalogError> {
        let usage = sqlx::query_as!(
            TrackUsage,
            r#"SELECT t.id AS row, t.uri AS id, u.placements AS "placements!"
               FROM (SELECT track_id, count(*) AS placements FROM playlist_tracks GROUP BY track_id) u
               JOIN tracks t ON t.id = u.track_id
               ORDER BY u.placements DESC, t.uri COLLATE "C""#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(usage)
    }

    /// When the newest playlist row changed.
    pub async fn newest_change(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        Ok(sqlx::query_scalar!("SELECT max(updated_at) FROM playlists").fetch_one(&self.pool).await?)
    }

    /// All placements as `(playlist row, track row)`, playlist by playlist, in the order of each playlist.
    ///
    /// Playlists come in the order of the app's ids, so that the same catalog reads the same however it was imported.
    pub async fn placements(&self) -> Result<PlacementReader, CatalogError> {
        // ORDER BY the app's id, not the row id: row ids depend on the order of imports.
        let stream = self
            .pool
            .copy_out_raw(
                "COPY (SELECT pt.playlist_id, pt.track_id
                       FROM playlist_tracks pt JOIN playlists p ON p.id = pt.playlist_id
                       ORDER BY p.external_id COLLATE \"C\", pt.position) TO STDOUT (FORMAT binary)",
            )
            .await?;
        Ok(PlacementReader { stream, buffer: BytesMut::new(), in_header: true, done: false })
    }
}

/// Reads PostgreSQL's binary copy format: an 11-byte signature, flags and extension; then per row the number of fields
/// (16 bits) and per field its length (32 bits) and bytes, big-endian; a field count of −1 ends it.
pub struct PlacementReader {
    stream: BoxStream<'static, sqlx::Result<Bytes>>,
    buffer: BytesMut,
    in_header: bool,
    done: bool,
}

/// Bytes of a row of two 32-bit integers.
const ROW_BYTES: usize = 2 + 2 * (4 + 4);
const HEADER_BYTES: usize = 11 + 4 + 4;

impl PlacementReader {
    /// Appends the next rows to `rows`; false at the end.
    pub async fn next_rows(&mut self, rows: &mut Vec<(i32, i32)>) -> Result<bool, CatalogError> {
        if self.done {
            return Ok(false);
        }
        let Some(chunk) = self.stream.next().await else {
            return Err(CatalogError::Protocol("the copy of placements ended early".to_owned()));
        };
        self.buffer.extend_from_slice(&chunk?);
        if self.in_header {
            if self.buffer.len() < HEADER_BYTES {
                return Ok(true);
            }
            if !self.buffer.starts_with(b"PGCOPY\n") {
                return Err(CatalogError::Protocol("the copy of placements is not in binary format".to_owned()));
            }
            self.buffer.advance(HEADER_BYTES);
            self.in_header = false;
        }
        while self.buffer.len() >= 2 {
            match i16::from_be_bytes([self.buffer[0], self.buffer[1]]) {
                -1 => {
                    // Read to the end of the protocol's exchange, or the connection is of no use to the next one.
                    while let Some(chunk) = self.stream.next().await {
                        chunk?;
                    }
                    self.done = true;
                    return Ok(true);
                }
                2 if self.buffer.len() >= ROW_BYTES => {
                    self.buffer.advance(2 + 4);
                    let playlist = self.buffer.get_i32();
                    self.buffer.advance(4);
                    rows.push((playlist, self.buffer.get_i32()));
                }
                2 => break,
                fields => {
                    return Err(CatalogError::Protocol(format!("a placement has {fields} fields, expected 2")));
                }
            }
        }
        Ok(true)
    }
}
