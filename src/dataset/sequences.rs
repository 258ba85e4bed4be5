//! Playlists as sequences of tracks.
//!
//! Tracks are numbered by falling number of placements, so that "tracks that occur at least k times" is a prefix of the
//! rows, and the most popular tracks are the first ones.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::HashMap;

use crate::catalog::{Catalog, CatalogError, PlaylistRow, TrackRow};
use crate::math::Csr;

/// What a model was trained on, as its manifest says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFingerprint {
    /// playlists with at least one track
    pub playlists: u64,
    /// distinct tracks in them
    pub tracks: u64,
    /// placements, repeats counted
    pub placements: u64,
    /// when the newest playlist row, or name of a track, changed (RFC 3339)
    pub newest_change: Option<String>,
    /// SHA-256 of the track ids and the sequences
    pub sha256: String,
}

impl DataFingerprint {
    fn new(track_ids: &[String], playlists: &Csr, newest_change: Option<String>) -> Self {
        let mut hash = Sha256::new();
        for id in track_ids {
            hash.update(id.as_bytes());
            hash.update(b"\n");
        }
        hash.update(bytemuck::cast_slice::<u64, u8>(playlists.offsets()));
        hash.update(bytemuck::cast_slice::<u32, u8>(playlists.items()));
        Self {
            playlists: playlists.rows() as u64,
            tracks: track_ids.len() as u64,
            placements: playlists.items().len() as u64,
            newest_change,
            sha256: hex::encode(hash.finalize()),
        }
    }
}

/// All playlists of the catalog.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// the app's id of each row
    pub track_ids: Vec<String>,
    /// row id in the catalog of each row
    pub(super) catalog_rows: Vec<TrackRow>,
    /// placements of each row, falling
    pub counts: Vec<u32>,
    /// rows of each playlist, in its order
    pub playlists: Csr,
    /// what these sequences are
    pub fingerprint: DataFingerprint,
}

/// "This was the last track but one; which was the last?"
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTrackQuery {
    /// row of the last track but one
    pub query: u32,
    /// row of the track that followed
    pub target: u32,
}

/// Sequences to learn from, and what was taken off their ends to measure by.
#[derive(Debug, Clone)]
pub struct HeldOutSequences {
    /// what is left of each playlist, in its order; rows below `vocabulary` only
    pub playlists: Csr,
    /// one a playlist that was long enough
    pub queries: Vec<NextTrackQuery>,
    /// rows 0..vocabulary are the tracks that occur at least `min_count` times
    pub vocabulary: usize,
    /// how often each of those is left in `playlists`
    pub counts: Vec<u32>,
}

impl Sequences {
    /// Reads all playlists that have tracks, in the order of the app's ids.
    pub async fn load(catalog: &Catalog) -> Result<Self, CatalogError> {
        Ok(Self::load_with_rows(catalog).await?.0)
    }

    /// Also gives the row id that each playlist has in the catalog.
    pub(super) async fn load_with_rows(catalog: &Catalog) -> Result<(Self, Vec<PlaylistRow>), CatalogError> {
        let newest_change = catalog.newest_change().await?;
        let usage = catalog.track_usage().await?;
        let mut row_of: HashMap<TrackRow, u32> = HashMap::with_capacity(usage.len());
        let mut track_ids = Vec::with_capacity(usage.len());
        let mut counts = Vec::with_capacity(usage.len());
        let track_rows: Vec<TrackRow> = usage.iter().map(|track| track.row).collect();
        for (row, track) in usage.into_iter().enumerate() {
            row_of.insert(track.row, row as u32);
            track_ids.push(track.id.into());
            counts.push(u32::try_from(track.placements).unwrap_or(u32::MAX));
        }

        let mut reader = catalog.placements().await?;
        let mut playlist_rows: Vec<PlaylistRow> = Vec::new();
        let (mut offsets, mut items) = (Vec::new(), Vec::new());
        let mut rows = Vec::new();
        while reader.next_rows(&mut rows).await? {
            for (playlist_row, track_row) in rows.drain(..) {
                if playlist_rows.last() != Some(&playlist_row) {
                    offsets.push(items.len() as u64);
                    playlist_rows.push(playlist_row);
                }
                // A track first placed between the two queries has no row yet; the next training run has it.
                items.extend(row_of.get(&track_row));
            }
        }
        offsets.push(items.len() as u64);

        let playlists = Csr::from_parts(offsets.into(), items.into(), track_ids.len()).unwrap_or_default();
        let newest_change =
            newest_change.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
        let fingerprint = DataFingerprint::new(&track_ids, &playlists, newest_change);
        Ok((Self { track_ids, catalog_rows: track_rows, counts, playlists, fingerprint }, playlist_rows))
    }

    /// Returns the playlists `kept` as if there were no others: tracks are renumbered by their placements there, and those
    /// without one are dropped. Also gives the row that each one had.
    pub(super) fn select(&self, kept: &[u32]) -> (Self, Vec<u32>) {
        let kept = || kept.iter().map(|&playlist| self.playlists.row(playlist as usize));
        let mut counts = vec![0u32; self.track_ids.len()];
        kept().flatten().for_each(|&row| counts[row as usize] += 1);
        let mut rows: Vec<u32> = (0..counts.len() as u32).filter(|&row| counts[row as usize] > 0).collect();
        // Ties go by id, as in the catalog: by the rows as they were, the playlists left out would have a say in it.
        rows.sort_by_key(|&row| (Reverse(counts[row as usize]), &self.track_ids[row as usize]));
        let mut new_row = vec![0u32; counts.len()];
        for (new, &row) in rows.iter().enumerate() {
            new_row[row as usize] = new as u32;
        }
        let playlists = Csr::from_lists(kept().map(|tracks| tracks.iter().map(|&row| new_row[row as usize])));
        let track_ids: Vec<String> = rows.iter().map(|&row| self.track_ids[row as usize].clone()).collect();
        let fingerprint = DataFingerprint::new(&track_ids, &playlists, self.fingerprint.newest_change.clone());
        let selected = Self {
            track_ids,
            catalog_rows: rows.iter().map(|&row| self.catalog_rows[row as usize]).collect(),
            counts: rows.iter().map(|&row| counts[row as usize]).collect(),
            playlists,
            fingerprint,
        };
        (selected, rows)
    }

    /// Drops tracks that occur less than `min_count` times, then takes the last track off every playlist that still has
    /// four or more: the last track that remains is the query, the one taken off the target.
    pub fn hold_out_last(&self, min_count: u32) -> HeldOutSequences {
        const SHORTEST: usize = 4;
        let vocabulary = self.counts.partition_point(|&count| count >= min_count);
        let (mut counts, mut queries) = (vec![0; vocabulary], Vec::new());
        let playlists = Csr::from_lists(self.playlists.iter().map(|tracks| {
            let mut rows: Vec<u32> = tracks.iter().copied().filter(|&row| (row as usize) < vocabulary).collect();
            if rows.len() >= SHORTEST
                && let Some(target) = rows.pop()
                && let Some(&query) = rows.last()
            {
                queries.push(NextTrackQuery { query, target });
            }
            for &row in &rows {
                counts[row as usize] += 1;
            }
            rows
        }));
        HeldOutSequences { playlists, queries, vocabulary, counts }
    }
}

#[cfg(test)]
impl Sequences {
    pub(super) fn by_hand(track_ids: Vec<String>, counts: Vec<u32>, playlists: Csr) -> Self {
        let catalog_rows = (0..track_ids.len() as i32).map(TrackRow).collect();
        let fingerprint = DataFingerprint::new(&track_ids, &playlists, None);
        Self { track_ids, catalog_rows, counts, playlists, fingerprint }
    }
}
