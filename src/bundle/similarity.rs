//! What a similarity bundle holds.
//!
//! * `vectors.npy`: float32 `[rows, dimensions]`, each row of length 1.
//! * `counts.npy`: uint32 `[rows]`, placements of each track, falling: row order is popularity order.
//! * `track_ids.utf8`, `track_ids.offsets.npy`: the app's ids of the rows, see [`Vocabulary`].
//! * `candidates.npy`: uint32 `[1]`, rows from 0 that may be recommended. The rows behind them occur too rarely to
//!   recommend; their vectors are means of their neighbors', good enough to ask with.
//! * `next.offsets.npy`, `next.items.npy`, `next.scores.npy`: for each of the candidates the rows that come next, best
//!   first, and their scores, float32. Missing where no lists were made.
//! * `checkpoint.safetensors`: the network's tensors by name, to train on or to look into. Not needed to serve.

use std::path::Path;

use crate::math::{Csr, Values};

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, Vocabulary};

const VECTORS: &str = "vectors.npy";
const COUNTS: &str = "counts.npy";
const CANDIDATES: &str = "candidates.npy";
const IDS: &str = "track_ids";
const ID_TEXT: &str = "track_ids.utf8";
const ID_OFFSETS: &str = "track_ids.offsets.npy";
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The lists of what comes next, and the files that make them.
const NEXT: &str = "next";
const NEXT_OFFSETS: &str = "next.offsets.npy";
const NEXT_ITEMS: &str = "next.items.npy";
const NEXT_SCORES: &str = "next.scores.npy";

/// Greatest square of a vector's length: 1, with something to spare for rounding.
const LONGEST_VECTOR: f32 = 1.001;

/// Similar tracks: vectors and vocabulary.
#[derive(Debug)]
pub struct SimilarityBundle {
    /// the app's ids of the rows
    pub vocabulary: Vocabulary,
    /// `[rows, dimensions]`, each row of length 1
    pub vectors: Vec<f32>,
    /// length of a vector
    pub dimensions: usize,
    /// placements of each row, falling
    pub counts: Vec<u32>,
    /// rows 0..candidates may be recommended
    pub candidates: usize,
    /// what comes after each of them
    pub next: Option<NextTracks>,
}

/// For each track the ones that come next, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct NextTracks {
    lists: Csr,
    scores: Values<f32>,
}

impl NextTracks {
    /// Of lists of rows with their scores, best first.
    pub fn new(lists: &[Vec<(u32, f32)>]) -> Self {
        let scores: Vec<f32> = lists.iter().flatten().map(|next| next.1).collect();
        Self { lists: Csr::from_lists(lists.iter().map(|list| list.iter().map(|next| next.0))), scores: scores.into() }
    }

    /// What comes after `row`, best first; nothing for a row without a list.
    pub fn after(&self, row: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        let row = Some(row as usize).filter(|&row| row < self.lists.rows());
        row.into_iter().flat_map(|row| self.lists.row_with(row, &self.scores))
    }
}

impl SimilarityBundle {
    /// Reads and checks all that serving needs, and checks the rest.
    pub fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        let read = [VECTORS, COUNTS, CANDIDATES, ID_TEXT, ID_OFFSETS, NEXT_OFFSETS, NEXT_ITEMS, NEXT_SCORES];
        folder.verify_except(&read)?;
        let vectors = folder.read_finite(VECTORS)?;
        let &[rows, dimensions] = vectors.shape.as_slice() else {
            return Err(folder.invalid(VECTORS, "it does not have two dimensions"));
        };
        if dimensions == 0 {
            return Err(folder.invalid(VECTORS, "its vectors are empty"));
        }
        // Otherwise a score could be infinite.
        let is_long = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>() > LONGEST_VECTOR;
        if vectors.values.chunks_exact(dimensions).any(is_long) {
            return Err(folder.invalid(VECTORS, "it has vectors longer than 1"));
        }
        let counts = folder.read_array::<u32>(COUNTS)?;
        if counts.shape != [rows] {
            return Err(folder.invalid(COUNTS, "its number of rows differs from vectors.npy"));
        }
        if !counts.values.is_sorted_by(|left, right| left >= right) {
            return Err(folder.invalid(COUNTS, "its counts do not fall"));
        }
        let candidates = folder.read_array::<u32>(CANDIDATES)?;
        let candidates = match candidates.values.as_slice() {
            &[candidates] if candidates as usize <= rows => candidates as usize,
            _ => {
                return Err(
                    folder.invalid(CANDIDATES, "it must be one number, at most the number of rows of vectors.npy")
                );
            }
        };
        let vocabulary = folder.read_vocabulary(IDS)?;
        if vocabulary.len() != rows {
            return Err(folder.invalid(ID_OFFSETS, "its number of rows differs from vectors.npy"));
        }
        let next = match folder.has(NEXT_OFFSETS) {
            false => None,
            true => {
                let lists = folder.map_csr(NEXT, Some(candidates), candidates)?;
                let scores = folder.map_finite(NEXT_SCORES, lists.items().len())?;
                Some(NextTracks { lists, scores })
            }
        };
        let bundle = Self { vocabulary, vectors: vectors.values, dimensions, counts: counts.values, candidates, next };
        Ok((folder.manifest().clone(), bundle))
    }

    /// Writes all but the manifest; `checkpoint` writes the network's tensors at the path that it is given.
    pub fn write(
        &self,
        writer: &mut BundleWriter,
        checkpoint: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), BundleError> {
        let rows = self.vocabulary.len();
        writer.write_with(CHECKPOINT, checkpoint)?;
        writer.write_array(VECTORS, &[rows, self.dimensions], &self.vectors)?;
        writer.write_array(COUNTS, &[rows], &self.counts)?;
        writer.write_array(CANDIDATES, &[1], &[self.candidates as u32])?;
        if let Some(next) = &self.next {
            writer.write_csr(NEXT, &next.lists)?;
            writer.write_values(NEXT_SCORES, &next.scores)?;
        }
        writer.write_vocabulary(IDS, &self.vocabulary)
    }

    /// Loads the current similarity bundle below the folder `models`.
    pub fn load_current(models: &Path) -> Result<(Manifest, Self), BundleError> {
        Self::load(&BundleFolder::open_current(models, Kind::Similarity)?)
    }
}
