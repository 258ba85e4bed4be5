//! An ensemble of oblivious decision trees: every level of a tree asks one question of all rows.
//!
//! A tree of depth D has D questions and 2^D leaves, and a row's leaf is the number that its D answers spell in binary.
//! Scoring has no branches, so vector instructions score a block of rows at once. That is why Segue uses such trees (known
//! from CatBoost; Kohavi 1994) and not the more common ones that choose a question for each node.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::math::linear::{LANES, vectorised};
use crate::math::top_k::keep_best;

/// Rows that are scored together; their bins stay in the first-level cache.
const BLOCK: usize = 64;

/// Trees that score all rows when only the best rows are wanted.
const FIRST_TREES: usize = 150;

/// Most bins of a feature, including the one for missing values.
pub const MOST_BINS: usize = 256;

/// Turns features into bins: 0 for a missing value (not a number), otherwise 1 + the number of borders below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Binning {
    /// for each feature its borders, rising; at most 254
    pub borders: Vec<Vec<f32>>,
}

impl Binning {
    /// Puts borders between equal shares of the rows of `features` (`[rows, width]`), at most `bins` − 2 per feature.
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

    /// Returns the bin of a value.
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
    /// questions per tree
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

    /// Checks that trees from a file can score rows of `width` features.
    ///
    /// # Errors
    ///
    /// Says what does not fit together.
    pub fn check(&self, width: usize) -> Result<(), &'static str> {
        let borders = &self.binning.borders;
        let rise = |borders: &Vec<f32>| borders.is_sorted() && borders.iter().all(|border| border.is_finite());
        match () {
            () if !(1..=8).contains(&self.depth) => Err("the depth of its trees must be from 1 to 8"),
            () if width == 0 || borders.len() != width => Err("its trees are made for another number of features"),
            () if !borders.iter().all(|borders| borders.len() < MOST_BINS - 1 && rise(borders)) => {
                Err("its borders do not rise, or are too many")
            }
            () if self.features.iter().any(|&feature| usize::from(feature) >= width) => {
                Err("it refers to a feature that does not exist")
            }
            () if !self.features.len().is_multiple_of(self.depth)
                || self.thresholds.len() != self.features.len()
                || self.leaves.len() != self.trees() << self.depth =>
            {
                Err("its trees do not have the same number of questions, thresholds and leaves")
            }
            () if !self.leaves.iter().all(|leaf| leaf.is_finite()) => Err("it has leaves that are not finite"),
            () => Ok(()),
        }
    }

    /// Adds the trees of `other`, which must have the same depth and bins, with their leaves times `factor`.
    pub fn append(&mut self, other: &Self, factor: f32) {
        debug_assert!(self.depth == other.depth && self.binning == other.binning);
        self.features.extend_from_slice(&other.features);
        self.thresholds.extend_from_slice(&other.thresholds);
        self.leaves.extend(other.leaves.iter().map(|leaf| leaf * factor));
    }

    /// Scores the rows of `features` (`[rows, width]`).
    pub fn score(&self, features: &[f32]) -> Vec<f32> {
        let bins = self.bins_of(features);
        let rows: Vec<&[u8]> = bins.chunks_exact(self.width()).collect();
        let mut scores = vec![0.0; rows.len()];
        self.add_scores(0..self.trees(), &rows, &mut scores);
        scores
    }

    /// Scores rows as [`ObliviousTrees::score`] does, but only the `keep` rows that the first trees rank highest go on to
    /// the others; the rest get −∞. The first trees add most to a score: rows that they rank low would not reach the top.
    pub fn score_best(&self, features: &[f32], keep: usize) -> Vec<f32> {
        let first = FIRST_TREES.min(self.trees());
        let bins = self.bins_of(features);
        let rows: Vec<&[u8]> = bins.chunks_exact(self.width()).collect();
        let mut scores = vec![0.0; rows.len()];
        self.add_scores(0..first, &rows, &mut scores);
        let mut best: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
        keep_best(&mut best, keep);
        let kept: Vec<&[u8]> = best.iter().map(|&(row, _)| rows[row as usize]).collect();
        let mut kept_scores: Vec<f32> = best.iter().map(|&(_, score)| score).collect();
        self.add_scores(first..self.trees(), &kept, &mut kept_scores);
        scores.fill(f32::NEG_INFINITY);
        for (&(row, _), score) in best.iter().zip(kept_scores) {
            scores[row as usize] = score;
        }
        scores
    }

    fn width(&self) -> usize {
        self.binning.borders.len().max(1)
    }

    /// Returns the bin of each value, `[rows, width]`, the same as [`Binning::bin`]. Borders are counted, which takes more
    /// comparisons than a search, but compares many rows at once.
    fn bins_of(&self, features: &[f32]) -> Vec<u8> {
        let width = self.width();
        let mut bins = vec![0; features.len()];
        let mut values = vec![[f32::NAN; LANES]; width];
        for (features, bins) in features.chunks(LANES * width).zip(bins.chunks_mut(LANES * width)) {
            for (lane, row) in features.chunks_exact(width).enumerate() {
                for (values, &value) in values.iter_mut().zip(row) {
                    values[lane] = value;
                }
            }
            vectorised(
                #[inline(always)]
                || {
                    for (values, borders) in values.iter_mut().zip(&self.binning.borders) {
                        *values = count_below(borders, *values);
                    }
                },
            );
            for (lane, row) in bins.chunks_exact_mut(width).enumerate() {
                for (bin, values) in row.iter_mut().zip(&values) {
                    *bin = values[lane] as u8;
                }
            }
        }
        bins
    }

    /// Adds the leaves of `trees` to the scores of rows of bins.
    fn add_scores(&self, trees: Range<usize>, rows: &[&[u8]], scores: &mut [f32]) {
        let mut columns = vec![[0u8; BLOCK]; self.binning.borders.len()];
        for (block, scores) in rows.chunks(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            for (place, row) in block.iter().enumerate() {
                for (column, &bin) in columns.iter_mut().zip(*row) {
                    column[place] = bin;
                }
            }
            let mut sums = [0.0; BLOCK];
            sums[..scores.len()].copy_from_slice(scores);
            vectorised(
                #[inline(always)]
                || self.add_block(trees.clone(), &columns, &mut sums),
            );
            scores.copy_from_slice(&sums[..scores.len()]);
        }
    }

    #[inline(always)]
    fn add_block(&self, trees: Range<usize>, bins: &[[u8; BLOCK]], sums: &mut [f32; BLOCK]) {
        let questions = trees.start * self.depth..trees.end * self.depth;
        let features = self.features[questions.clone()].chunks_exact(self.depth);
        let thresholds = self.thresholds[questions].chunks_exact(self.depth);
        let leaves = self.leaves[trees.start << self.depth..trees.end << self.depth].chunks_exact(1 << self.depth);
        for ((features, thresholds), leaves) in features.zip(thresholds).zip(leaves) {
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

/// Returns for each value 1 + the number of borders below it, or 0 if it is not a number.
#[inline(always)]
fn count_below(borders: &[f32], values: [f32; LANES]) -> [f32; LANES] {
    let mut below = [0.0; LANES];
    for lane in 0..LANES {
        below[lane] = if values[lane].is_nan() { 0.0 } else { 1.0 };
    }
    for &border in borders {
        for lane in 0..LANES {
            below[lane] += if border < values[lane] { 1.0 } else { 0.0 };
        }
    }
    below
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
    fn the_best_rows_get_the_scores_that_all_trees_give_them() {
        let mut trees = ObliviousTrees {
            binning: Binning { borders: vec![(0..100).map(|border| border as f32).collect()] },
            depth: 1,
            ..ObliviousTrees::default()
        };
        for tree in 0..FIRST_TREES + 50 {
            trees.features.push(0);
            trees.thresholds.push((tree % 100) as u8);
            trees.leaves.extend([0.0, 1.0 / (tree + 1) as f32]);
        }
        let features: Vec<f32> = (0..200).map(|row| ((row * 37) % 101) as f32).collect();
        let all = trees.score(&features);
        let best = trees.score_best(&features, 90);
        let mut sorted = all.clone();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(best.iter().filter(|score| score.is_finite()).count(), 90);
        for (score, all) in best.iter().zip(&all).filter(|(score, _)| score.is_finite()) {
            assert!(score == all && *all >= sorted[200 - 100]);
        }
        assert_eq!(trees.score_best(&features, 500), all);
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
