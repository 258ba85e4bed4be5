//! Where a playlist lies among the factors and the vectors.

use crate::bundle::CompletionIndex;
use crate::math::linear::{axpy, dot};
use crate::math::top_k::Best;
use crate::recommend::retrieve::factors::fold_in;
use crate::recommend::retrieve::{Query, Visited, Workspace};

/// Tracks of playlists with similar titles that stand in for seeds.
const TITLE_SEEDS: usize = 30;
/// For the late mean of the vectors, a seed this many tracks further from the end has half the weight.
const HALF_LIFE: f32 = 3.0;

/// Directions that candidates are compared with.
pub(super) struct Directions {
    /// the seeds' factor; zeros if there is none
    pub factor: Vec<f32>,
    /// the factor of the tracks that playlists of similar titles hold most; zeros if there is none
    pub title_factor: Vec<f32>,
    /// mean of the seeds' vectors, of length 1
    pub vector: Vec<f32>,
    /// mean of the seeds' vectors, the last ones weighing most, of length 1
    late_vector: Vec<f32>,
    last: Option<u32>,
}

impl Directions {
    pub fn new(index: &CompletionIndex, query: &Query, workspace: &Workspace) -> Self {
        let title_factor = (!query.title.is_empty()).then(|| title_factor(index, workspace)).flatten();
        let zeros = || vec![0.0; index.dimensions()];
        Self {
            factor: fold_in(index, &query.seeds).unwrap_or_else(zeros),
            title_factor: title_factor.unwrap_or_else(zeros),
            vector: mean_vector(index, &query.seeds, f32::INFINITY),
            late_vector: mean_vector(index, &query.seeds, HALF_LIFE),
            last: query.seeds.last().copied(),
        }
    }

    /// The mean of the vectors, the last seed's (or the mean without seeds), the late mean, then those of some seeds.
    pub fn vectors<'a>(&'a self, index: &'a CompletionIndex, few_seeds: &[u32]) -> Vec<&'a [f32]> {
        let last = self.last.map_or(self.vector.as_slice(), |last| index.vector(last));
        let mut directions = vec![self.vector.as_slice(), last, self.late_vector.as_slice()];
        directions.extend(few_seeds.iter().map(|&seed| index.vector(seed)));
        directions
    }
}

/// The factor of the tracks that playlists of similar titles hold most: stands in for seeds.
fn title_factor(index: &CompletionIndex, workspace: &Workspace) -> Option<Vec<f32>> {
    let Visited { rows, sums, .. } = &workspace.tracks;
    let mut best = Best::new(TITLE_SEEDS, f32::MIN_POSITIVE);
    for (&row, sums) in rows.iter().zip(sums).filter(|(_, sums)| sums.title > 0.0) {
        best.push(row, sums.title * index.derived.discount[row as usize].sqrt());
    }
    let mut rows: Vec<u32> = best.finish().into_iter().map(|scored| scored.0).collect();
    rows.sort_unstable();
    fold_in(index, &rows)
}

/// The mean of the tracks' vectors, of length 1; zeros of no tracks.
fn mean_vector(index: &CompletionIndex, rows: &[u32], half_life: f32) -> Vec<f32> {
    let mut mean = vec![0.0; index.derived.vector_length];
    for (distance, &row) in rows.iter().rev().enumerate() {
        axpy(0.5f32.powf(distance as f32 / half_life), index.vector(row), &mut mean);
    }
    let norm = dot(&mean, &mean).sqrt();
    if norm > 1e-6 {
        mean.iter_mut().for_each(|value| *value /= norm);
    }
    mean
}

/// The mean of the tracks' factors, each of length 1; zeros of no tracks.
pub(super) fn mean_factor(index: &CompletionIndex, rows: &[u32]) -> Vec<f32> {
    let mut mean = vec![0.0; index.dimensions()];
    for &row in rows {
        axpy(index.derived.inverse_norm[row as usize] / rows.len() as f32, index.factor(row), &mut mean);
    }
    mean
}
