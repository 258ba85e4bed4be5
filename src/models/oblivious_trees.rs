//! An ensemble of oblivious decision trees: every level of a tree asks one question of all rows.
//!
//! A tree of depth D is D questions and 2^D leaves, and a row's leaf is the number that its D answers spell in binary.
//! There are no branches, so that a block of rows is scored with vector instructions: that is why such trees (known from
//! CatBoost; Kohavi 1994) are here and not the more common ones that choose a question for each node.

use serde::{Deserialize, Serialize};

use crate::recommend::linear::vectorised;

/// Rows that are scored together; their bins stay in the first-level cache.
const BLOCK: usize = 64;

/// Most values that a binned feature can take, "missing" included.
pub const MOST_BINS: usize = 256;

/// Turns features into bins: 0 for a missing value (not a number), else 1 + the number of borders below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Binning {
    /// for each feature its borders, rising; at most 254
    pub borders: Vec<Vec<f32>>,
}

impl Binning {
    /// Borders between equal shares of the rows of `features` (`[rows, width]`), at most `bins` − 2 a feature.
    pub fn by_quantiles(features: &[f32], width: usize, bins: usize) -> Self {
        let borders = (0..width).map(|feature| {
            let mut values: Vec<f32> =
                features.iter().skip(feature).step_by(width).copied().filter(|value| !value.is_nan()).collect();
            values.sort_unstable_by(f32::total_cmp);
            let mut borders: Vec<f32> = (1..bins - 1)
                .filter_map(|quantile| values.get(values.len() * quantile / (bins - 1)).copied())
                .collect();
            borders.dedup();
            borders
        });
        Self { borders: borders.collect() }
    }

    /// The bin of a value.
    #[inline]
    pub fn bin(&self, feature: usize, value: f32) -> u8 {
        if value.is_nan() {
            return 0;
        }
        let borders = &self.borders[feature];
        1 + borders.partition_point(|&border| border < value) as u8
    }
}

/// The ensemble.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObliviousTrees {
    /// how features become bins
    pub binning: Binning,
    /// questions a tree
    pub depth: usize,
    /// `[trees, depth]`: the feature of each question
    pub features: Vec<u8>,
    /// `[trees, depth]`: the answer is yes for bins above it
    pub thresholds: Vec<u8>,
    /// `[trees, 2^depth]`: what a tree adds to the score
    pub leaves: Vec<f32>,
}

impl ObliviousTrees {
    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.features.len() / self.depth.max(1)
    }

    /// Adds the trees of `other`, which must ask as many questions and bin alike, with their leaves times `factor`.
    pub fn append(&mut self, other: &Self, factor: f32) {
        debug_assert!(self.depth == other.depth && self.binning == other.binning);
        self.features.extend_from_slice(&other.features);
        self.thresholds.extend_from_slice(&other.thresholds);
        self.leaves.extend(other.leaves.iter().map(|leaf| leaf * factor));
    }

    /// Scores the rows of `features` (`[rows, width]`).
    pub fn score(&self, features: &[f32]) -> Vec<f32> {
        let width = self.binning.borders.len();
        let rows = features.len() / width.max(1);
        let mut scores = vec![0.0; rows];
        let mut bins = vec![[0u8; BLOCK]; width];
        for (block, scores) in features.chunks(BLOCK * width).zip(scores.chunks_mut(BLOCK)) {
            for (row, values) in block.chunks_exact(width).enumerate() {
                for (feature, &value) in values.iter().enumerate() {
                    bins[feature][row] = self.binning.bin(feature, value);
                }
            }
            let mut sums = [0.0; BLOCK];
            vectorised(
                #[inline(always)]
                || self.add_scores(&bins, &mut sums),
            );
            scores.copy_from_slice(&sums[..scores.len()]);
        }
        scores
    }

    #[inline(always)]
    fn add_scores(&self, bins: &[[u8; BLOCK]], sums: &mut [f32; BLOCK]) {
        let questions = self.features.chunks_exact(self.depth).zip(self.thresholds.chunks_exact(self.depth));
        for ((features, thresholds), leaves) in questions.zip(self.leaves.chunks_exact(1 << self.depth)) {
            let mut leaf = [0u8; BLOCK];
            for (level, (&feature, &threshold)) in features.iter().zip(thresholds).enumerate() {
                let column = &bins[feature as usize];
                for row in 0..BLOCK {
                    leaf[row] |= u8::from(column[row] > threshold) << level;
                }
            }
            for row in 0..BLOCK {
                sums[row] += leaves[leaf[row] as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gets_the_leaf_that_its_answers_spell() {
        let trees = ObliviousTrees {
            binning: Binning { borders: vec![vec![0.5, 1.5], vec![0.0]] },
            depth: 2,
            features: vec![0, 1, 0, 0],
            thresholds: vec![1, 1, 0, 2],
            leaves: vec![1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0],
        };
        let mut features = Vec::new();
        let mut expected = Vec::new();
        for (first, second, score) in [
            (0.0, -1.0, 1.0 + 20.0),
            (1.0, -1.0, 2.0 + 20.0),
            (2.0, 1.0, 4.0 + 40.0),
            (f32::NAN, 1.0, 3.0 + 10.0),
            (0.5, f32::NAN, 1.0 + 20.0),
        ] {
            for _ in 0..BLOCK / 3 {
                features.extend([first, second]);
                expected.push(score);
            }
        }
        assert_eq!(trees.score(&features), expected);
        assert_eq!(trees.trees(), 2);
    }

    #[test]
    fn borders_part_the_rows_in_equal_shares() {
        let features: Vec<f32> = (0..1000).flat_map(|row| [row as f32, 7.0, f32::NAN]).collect();
        let binning = Binning::by_quantiles(&features, 3, 12);
        assert_eq!(binning.borders[0].len(), 10);
        assert_eq!(binning.borders[1], [7.0]);
        assert!(binning.borders[2].is_empty());
        assert_eq!((binning.bin(0, -1.0), binning.bin(0, f32::NAN), binning.bin(0, 2000.0)), (1, 0, 11));
    }
}
