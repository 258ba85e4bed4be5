//! Tracks that an import has written, which it need not look up again.
//!
//! Most tracks of a large import come again and again with the same names. Looking up each of them in each batch, with its
//! artist and album, took most of an import's time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use sqlx::PgConnection;

use super::batch::BatchTrack;
use crate::catalog::records::TrackId;

/// Tracks held at most; one takes about 60 bytes.
const MOST: usize = 16 << 20;

/// A hash of an id. Two ids have the same one by chance of 2⁻¹²⁸, and nobody can choose them so: the hashes have random
/// keys.
type Key = [u64; 2];

/// The rows of tracks, and what was last said of them.
#[derive(Debug, Default)]
pub(crate) struct KnownTracks {
    hashes: [RandomState; 2],
    tracks: HashMap<Key, Known>,
    /// number of changes to names, by anyone, up to which this holds
    changes: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    row: i32,
    /// hash of the description that the catalog has taken over; none of a track that was named by its id alone
    description: Option<u64>,
}

impl KnownTracks {
    fn key(&self, id: &TrackId) -> Key {
        [self.hashes[0].hash_one(id.as_str()), self.hashes[1].hash_one(id.as_str())]
    }

    /// The row of a track, if the catalog has it and all that is said of it.
    pub(super) fn row(&self, track: &BatchTrack<'_>) -> Option<i32> {
        let known = self.tracks.get(&self.key(track.id))?;
        let is_said = match &track.described {
            None => true,
            Some(described) => known.description == Some(self.hashes[0].hash_one(described)),
        };
        is_said.then_some(known.row)
    }

    /// Adds a track that was written or found as it is said to be.
    pub(super) fn add(&mut self, track: &BatchTrack<'_>, row: i32) {
        if self.tracks.len() >= MOST {
            return;
        }
        let key = self.key(track.id);
        let description = track.described.as_ref().map(|described| self.hashes[0].hash_one(described));
        let known = self.tracks.entry(key).or_insert(Known { row, description });
        known.description = description.or(known.description);
    }

    /// Forgets all tracks.
    pub(super) fn clear(&mut self) {
        self.tracks.clear();
    }

    /// Forgets all tracks if anyone has changed names since [`KnownTracks::keep`]. Under the lock on names.
    pub(super) async fn check(&mut self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if !self.tracks.is_empty() && self.changes != Some(changes(connection).await?) {
            self.clear();
        }
        Ok(())
    }

    /// Takes over that all changes to names until now are this import's own. Under the lock on names.
    pub(super) async fn keep(&mut self, connection: &mut PgConnection) -> sqlx::Result<()> {
        self.changes = Some(changes(connection).await?);
        Ok(())
    }
}

async fn changes(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT last_value AS "changes!" FROM names_changes"#).fetch_one(connection).await
}
