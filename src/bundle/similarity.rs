//! What a similarity bundle holds.
//!
//! * `vectors.npy`: float32 `[rows, dimensions]`, each row of length 1.
//! * `counts.npy`: uint32 `[rows]`, placements of each track, falling: row order is popularity order.
//! * `track_ids.utf8`, `track_ids.offsets.npy`: the app's ids of the rows, see [`Vocabulary`].
//! * `candidates.npy`: uint32 `[1]`, rows from 0 that may be recommended. The rows behind them occur too rarely to
//!   recommend; their vectors are means of their neighbours', good enough to ask with.
//! * `next.offsets.npy`, `next.items.npy`, `next.scores.npy`: for each of the candidates the rows that come next, best
//!   first, and their scores, float32. Missing where no lists were made.
//! * `checkpoint.safetensors`: the network's tensors by name, to train on or to look into. Not needed to serve.

use std::path::Path;

use crate::math::{Csr, Values};

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, Vocabulary, encode_array};

const VECTORS: &str = "vectors.npy";
const COUNTS: &str = "counts.npy";
const CANDIDATES: &str = "candidates.npy";
const IDS: &str = "track_ids.utf8";
const ID_OFFSETS: &str = "track_ids.offsets.npy";
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The lists of what comes next, and the files that make them.
const NEXT: &str = "next";
const NEXT_OFFSETS: &str = "next.offsets.npy";
const NEXT_ITEMS: &str = "next.items.npy";
const NEXT_SCORES: &str = "next.scores.npy";

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
        let read = [VECTORS, COUNTS, CANDIDATES, IDS, ID_OFFSETS, NEXT_OFFSETS, NEXT_ITEMS, NEXT_SCORES];
        folder.verify_except(&read)?;
        let vectors = folder.read_array::<f32>(VECTORS)?;
        let refuse = |name: &str, reason: &str| BundleError::file(&folder.path(name), reason);
        let &[rows, dimensions] = vectors.shape.as_slice() else {
            return Err(refuse(VECTORS, "it has not two dimensions"));
        };
        if dimensions == 0 {
            return Err(refuse(VECTORS, "its vectors have no values"));
        }
        if vectors.values.iter().any(|value| !value.is_finite()) {
            return Err(refuse(VECTORS, "it has values that are not finite"));
        }
        let counts = folder.read_array::<u32>(COUNTS)?;
        if counts.shape != [rows] {
            return Err(refuse(COUNTS, "it has not as many rows as vectors.npy"));
        }
        let candidates = folder.read_array::<u32>(CANDIDATES)?;
        let candidates = match candidates.values.as_slice() {
            &[candidates] if candidates as usize <= rows => candidates as usize,
            _ => return Err(refuse(CANDIDATES, "it is not one number up to the rows of vectors.npy")),
        };
        let text = String::from_utf8(folder.read(IDS)?).map_err(|_| refuse(IDS, "it is not UTF-8"))?;
        let vocabulary = Vocabulary::from_parts(text, folder.read_array::<u64>(ID_OFFSETS)?.values)
            .map_err(|reason| refuse(ID_OFFSETS, &reason))?;
        if vocabulary.len() != rows {
            return Err(refuse(ID_OFFSETS, "it has not as many rows as vectors.npy"));
        }
        let next = match folder.manifest().files.iter().any(|file| file.name == NEXT_OFFSETS) {
            false => None,
            true => {
                let lists = folder.map_csr(NEXT, Some(candidates), candidates)?;
                let scores = folder.map_values(NEXT_SCORES, lists.items().len())?;
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
        writer.write(VECTORS, &encode_array(&[rows, self.dimensions], &self.vectors))?;
        writer.write(COUNTS, &encode_array(&[rows], &self.counts))?;
        writer.write(CANDIDATES, &encode_array(&[1], &[self.candidates as u32]))?;
        if let Some(next) = &self.next {
            writer.write_csr(NEXT, &next.lists)?;
            writer.write(NEXT_SCORES, &encode_array(&[next.scores.len()], &next.scores))?;
        }
        let (text, offsets) = self.vocabulary.parts();
        writer.write(IDS, text.as_bytes())?;
        writer.write(ID_OFFSETS, &encode_array(&[offsets.len()], offsets))
    }

    /// Loads the current similarity bundle below the folder `models`.
    pub fn load_current(models: &Path) -> Result<(Manifest, Self), BundleError> {
        Self::load(&BundleFolder::open_current(models, Kind::Similarity)?)
    }
}
