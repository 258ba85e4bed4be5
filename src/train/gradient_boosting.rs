//! Gradient boosting of oblivious trees.
//!
//! Second-order boosting on histograms, as in LightGBM or CatBoost: features are binned once, and a level's question is
//! the (feature, threshold) with the highest gain summed over all leaves. Each tree sees a random part of the groups
//! and each level a random part of the features. Rows of a group (the candidates of one playlist) lie together.

use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::checkpoint::{Kept, RunContext, SAVE_INTERVAL, State, StateFile};
use super::error::TrainError;
use super::parallel::Collected;
use crate::scoring::oblivious_trees::{Binning, ObliviousTrees};

/// How to boost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoostingSettings {
    /// trees at most
    pub trees: usize,
    /// questions a tree, 1 to 8
    pub depth: usize,
    /// what a tree's leaves are multiplied with
    pub learning_rate: f32,
    /// L2 penalty on leaves
    pub regularization: f32,
    /// bins a feature, "missing" included
    pub bins: usize,
    /// share of the groups that a tree sees
    pub group_share: f64,
    /// share of the features that a level may split on
    pub feature_share: f64,
    /// what is minimized
    pub objective: Objective,
    /// random seed
    pub seed: u64,
    /// threads that share the features
    pub threads: usize,
}

/// What boosting minimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// mean logistic loss of the rows
    Logistic,
    /// LambdaRank (Burges 2010): for each pair of a relevant and another row of a group the logistic loss of their order,
    /// weighted by what swapping the two would change of the group's NDCG
    LambdaRank,
}

/// Candidates to learn from, group by group.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// `[candidates, width]`
    pub features: Vec<f32>,
    /// whether each is relevant
    pub labels: Vec<bool>,
    /// where the candidates of each group begin, and the end
    pub groups: Vec<usize>,
}

impl Default for Examples {
    fn default() -> Self {
        Self { features: Vec::new(), labels: Vec::new(), groups: vec![0] }
    }
}

impl Examples {
    /// Adds those of `other` behind these.
    pub fn append(&mut self, other: Self) {
        let first = self.labels.len();
        self.features.extend(other.features);
        self.labels.extend(other.labels);
        self.groups.extend(other.groups[1..].iter().map(|end| first + end));
    }
}

impl Kept for Examples {
    fn save(&self, file: &StateFile) -> Result<(), TrainError> {
        let mut examples = self.clone();
        let mut groups: Vec<i64> = self.groups.iter().map(|&end| end as i64).collect();
        file.save(examples.state(&mut groups))
    }

    fn load(file: &StateFile) -> Result<Option<Self>, TrainError> {
        let mut examples = Self { features: Vec::new(), labels: Vec::new(), groups: Vec::new() };
        let mut groups = Vec::new();
        let is_there = file.load(examples.state(&mut groups))?;
        examples.groups = groups.into_iter().map(|end| end as usize).collect();
        Ok(is_there.then_some(examples))
    }
}

impl Examples {
    fn state<'a>(&'a mut self, groups: &'a mut Vec<i64>) -> State<'a> {
        vec![
            ("features".to_owned(), &mut self.features),
            ("labels".to_owned(), &mut self.labels),
            ("groups".to_owned(), groups),
        ]
    }
}

impl Collected for Examples {
    type Item = Self;

    fn push(&mut self, item: Self) {
        self.append(item);
    }

    fn append(&mut self, other: Self) {
        Self::append(self, other);
    }
}

/// Rows to learn from, binned.
#[derive(Debug)]
pub struct BoostingData {
    binning: Binning,
    /// for each feature the bin of every row
    columns: Vec<Vec<u8>>,
    labels: Vec<bool>,
    /// where each group begins, and the end
    groups: Vec<usize>,
}

impl BoostingData {
    /// Bins examples of `width` features.
    pub fn new(examples: Examples, width: usize, bins: usize) -> Self {
        /// Rows that borders are taken from.
        const SAMPLE: usize = 200_000;
        let Examples { features, labels, groups } = examples;
        let stride = (features.len() / width / SAMPLE).max(1);
        let sample: Vec<f32> = features.chunks_exact(width).step_by(stride).flatten().copied().collect();
        let binning = Binning::by_quantiles(&sample, width, bins);
        let columns = (0..width)
            .map(|feature| {
                features.iter().skip(feature).step_by(width).map(|&value| binning.bin(feature, value)).collect()
            })
            .collect();
        Self { binning, columns, labels, groups }
    }

    fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Adds the answer to a question of level `level` to the number of each row's leaf.
    fn answer(&self, feature: usize, threshold: u8, level: usize, leaf_of: &mut [u8]) {
        for (leaf, &bin) in leaf_of.iter_mut().zip(&self.columns[feature]) {
            *leaf |= u8::from(bin > threshold) << level;
        }
    }
}

/// Sums of gradients and of second derivatives.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    gradient: f32,
    curvature: f32,
}

/// Boosts on `data` as the stage `name` of a run, which keeps its state. `each_tree` learns how many trees there are.
///
/// # Errors
///
/// [`TrainError::Stopped`] when the person asked to stop; those of the file.
pub fn boost_kept(
    data: &BoostingData,
    settings: &BoostingSettings,
    name: &str,
    context: RunContext<'_>,
    mut each_tree: impl FnMut(usize),
) -> Result<ObliviousTrees, TrainError> {
    let begun = context.load_kept(name)?;
    let (mut saved, mut outcome) = (Instant::now(), Ok(()));
    let trees = boost(data, settings, begun, |trees| {
        each_tree(trees.trees());
        let stop = context.interrupt.is_raised();
        if stop || saved.elapsed() > SAVE_INTERVAL || trees.trees() == settings.trees {
            outcome = context.keep(name, trees);
            saved = Instant::now();
        }
        !stop && outcome.is_ok()
    });
    outcome?;
    context.check().map(|()| trees)
}

/// Boosts on `data`, continuing from the trees `begun` of a stopped run. `each_tree` is called after every tree with the
/// ensemble so far, and stops boosting by returning false.
pub fn boost(
    data: &BoostingData,
    settings: &BoostingSettings,
    begun: Option<ObliviousTrees>,
    mut each_tree: impl FnMut(&ObliviousTrees) -> bool,
) -> ObliviousTrees {
    let (rows, width) = (data.rows(), data.columns.len());
    let mut trees = begun.unwrap_or_else(|| ObliviousTrees {
        binning: data.binning.clone(),
        depth: settings.depth,
        ..ObliviousTrees::default()
    });
    let mut scores = vec![0.0f32; rows];
    let mut sums = vec![Sums::default(); rows];
    let mut leaf_of = vec![0u8; rows];
    for tree in 0..trees.trees() {
        leaf_of.fill(0);
        for level in 0..trees.depth {
            let question = tree * trees.depth + level;
            data.answer(trees.features[question].into(), trees.thresholds[question], level, &mut leaf_of);
        }
        let leaves = &trees.leaves[tree << trees.depth..(tree + 1) << trees.depth];
        for (score, &leaf) in scores.iter_mut().zip(&leaf_of) {
            *score += leaves[leaf as usize];
        }
    }
    let usable: Vec<usize> = (0..width).filter(|&feature| !data.binning.borders[feature].is_empty()).collect();
    let mut groups: Vec<usize> = (0..data.groups.len() - 1).collect();
    let mut features = usable.clone();
    let groups_of_a_tree = ((groups.len() as f64 * settings.group_share) as usize).clamp(1, groups.len().max(1));
    let features_of_a_level = ((features.len() as f64 * settings.feature_share).ceil() as usize).max(1);
    while trees.trees() < settings.trees {
        differentiate(data, settings.objective, &scores, &mut sums, settings.threads);
        // A generator for each tree, so that a resumed run grows the trees of an uninterrupted one.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ (trees.trees() as u64) << 32);
        groups.sort_unstable();
        groups.shuffle(&mut rng);
        features.clone_from(&usable);
        let mut seen: Vec<(usize, usize)> =
            groups[..groups_of_a_tree].iter().map(|&group| (data.groups[group], data.groups[group + 1])).collect();
        seen.sort_unstable();
        leaf_of.fill(0);
        for level in 0..settings.depth {
            features.shuffle(&mut rng);
            let candidates = &features[..features_of_a_level.min(features.len())];
            let question = best_question(data, settings, candidates, &seen, &sums, &leaf_of, 1 << level);
            // Where no further question gains anything (the penalty outweighs it in small leaves) the tree repeats its last one: all trees are of one depth.
            let repeated = (level > 0).then(|| {
                let last = trees.features.len() - 1;
                (usize::from(trees.features[last]), trees.thresholds[last])
            });
            // Not even a first question gains anything.
            let Some((feature, threshold)) = question.or(repeated) else { return trees };
            trees.features.push(feature as u8);
            trees.thresholds.push(threshold);
            data.answer(feature, threshold, level, &mut leaf_of);
        }
        let mut totals = vec![(0.0f64, 0.0f64); 1 << settings.depth];
        for (&leaf, sums) in leaf_of.iter().zip(&sums) {
            totals[leaf as usize].0 += f64::from(sums.gradient);
            totals[leaf as usize].1 += f64::from(sums.curvature);
        }
        let leaves: Vec<f32> = totals
            .iter()
            .map(|&(gradient, curvature)| {
                -settings.learning_rate * (gradient / (curvature + f64::from(settings.regularization))) as f32
            })
            .collect();
        for (score, &leaf) in scores.iter_mut().zip(&leaf_of) {
            *score += leaves[leaf as usize];
        }
        trees.leaves.extend(leaves);
        if !each_tree(&trees) {
            break;
        }
    }
    trees
}

fn differentiate(data: &BoostingData, objective: Objective, scores: &[f32], sums: &mut [Sums], threads: usize) {
    match objective {
        Objective::Logistic => {
            for (row, sums) in sums.iter_mut().enumerate() {
                let probability = 1.0 / (1.0 + (-scores[row]).exp());
                let label = f32::from(u8::from(data.labels[row]));
                sums.gradient = probability - label;
                sums.curvature = probability * (1.0 - probability);
            }
        }
        Objective::LambdaRank => {
            let groups = data.groups.windows(2).collect::<Vec<_>>();
            let share = groups.len().div_ceil(threads.max(1)).max(1);
            let mut rest = sums;
            std::thread::scope(|scope| {
                for groups in groups.chunks(share) {
                    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return };
                    let (own, others) = std::mem::take(&mut rest).split_at_mut(last[1] - first[0]);
                    rest = others;
                    scope.spawn(move || {
                        let mut own = own;
                        for ends in groups {
                            let rows = ends[0]..ends[1];
                            let (group, others) = own.split_at_mut(rows.len());
                            own = others;
                            lambdas(&scores[rows.clone()], &data.labels[rows], group);
                        }
                    });
                }
            });
        }
    }
}

/// Gradients of one group.
fn lambdas(scores: &[f32], labels: &[bool], sums: &mut [Sums]) {
    sums.fill(Sums::default());
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
    let discount = |rank: usize| 1.0 / (rank as f32 + 2.0).log2();
    let discounts: Vec<f32> = (0..order.len()).map(discount).collect();
    let relevant: Vec<usize> = (0..order.len()).filter(|&rank| labels[order[rank]]).collect();
    let ideal: f32 = discounts[..relevant.len()].iter().sum();
    for &rank in &relevant {
        let row = order[rank];
        let mut own = Sums::default();
        for (other_rank, &other) in order.iter().enumerate() {
            if labels[other] {
                continue;
            }
            let change = (discounts[rank] - discounts[other_rank]).abs() / ideal;
            let wrong = 1.0 / (1.0 + (scores[row] - scores[other]).exp());
            let (gradient, curvature) = (change * wrong, change * wrong * (1.0 - wrong));
            own.gradient -= gradient;
            own.curvature += curvature;
            sums[other].gradient += gradient;
            sums[other].curvature += curvature;
        }
        sums[row] = own;
    }
}

/// The feature and threshold with the highest gain; `None` when no question parts any leaf.
fn best_question(
    data: &BoostingData,
    settings: &BoostingSettings,
    features: &[usize],
    seen: &[(usize, usize)],
    sums: &[Sums],
    leaf_of: &[u8],
    leaves: usize,
) -> Option<(usize, u8)> {
    let share = features.len().div_ceil(settings.threads.max(1)).max(1);
    let mut best: Option<(f64, usize, u8)> = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> = features
            .chunks(share)
            .map(|features| {
                scope.spawn(move || {
                    let mut histogram = vec![Sums::default(); leaves * settings.bins];
                    let mut best: Option<(f64, usize, u8)> = None;
                    for &feature in features {
                        histogram.fill(Sums::default());
                        let column = &data.columns[feature];
                        for &(from, to) in seen {
                            let rows = column[from..to].iter().zip(&leaf_of[from..to]).zip(&sums[from..to]);
                            for ((&bin, &leaf), sums) in rows {
                                let cell = &mut histogram[leaf as usize * settings.bins + bin as usize];
                                cell.gradient += sums.gradient;
                                cell.curvature += sums.curvature;
                            }
                        }
                        let found = best_threshold(&histogram, settings);
                        best = better(best, found.map(|(gain, threshold)| (gain, feature, threshold)));
                    }
                    best
                })
            })
            .collect();
        for worker in workers {
            best = better(best, worker.join().ok().flatten());
        }
    });
    best.map(|(_, feature, threshold)| (feature, threshold))
}

fn better(left: Option<(f64, usize, u8)>, right: Option<(f64, usize, u8)>) -> Option<(f64, usize, u8)> {
    match (left, right) {
        (Some(left), Some(right)) => {
            // Of equal gains the lower feature, so that the result does not depend on the number of threads.
            let second = right.0 > left.0 || (right.0 == left.0 && right.1 < left.1);
            Some(if second { right } else { left })
        }
        (left, right) => left.or(right),
    }
}

fn best_threshold(histogram: &[Sums], settings: &BoostingSettings) -> Option<(f64, u8)> {
    let bins = settings.bins;
    let penalty = f64::from(settings.regularization);
    let value = |gradient: f64, curvature: f64| gradient * gradient / (curvature + penalty);
    let mut gains = vec![0.0f64; bins - 1];
    for leaf in histogram.chunks_exact(bins) {
        let (mut gradient, mut curvature) = (0.0f64, 0.0f64);
        for sums in leaf {
            gradient += f64::from(sums.gradient);
            curvature += f64::from(sums.curvature);
        }
        let whole = value(gradient, curvature);
        let (mut below, mut below_curvature) = (0.0f64, 0.0f64);
        for (sums, gain) in leaf.iter().zip(&mut gains) {
            below += f64::from(sums.gradient);
            below_curvature += f64::from(sums.curvature);
            *gain += value(below, below_curvature) + value(gradient - below, curvature - below_curvature) - whole;
        }
    }
    let (threshold, gain) = gains.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1))?;
    (*gain > 1e-12).then_some((*gain, threshold as u8))
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::train::checkpoint::Checkpoint;

    fn settings(objective: Objective) -> BoostingSettings {
        BoostingSettings {
            trees: 60,
            depth: 3,
            learning_rate: 0.3,
            regularization: 1.0,
            bins: 32,
            group_share: 0.7,
            feature_share: 1.0,
            objective,
            seed: 1,
            threads: 2,
        }
    }

    #[test]
    fn what_depends_on_two_features_together_is_learned() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let features: Vec<f32> = (0..3 * 4_000).map(|_| rng.random_range(-1.0..1.0)).collect();
        let labels: Vec<bool> = features.chunks_exact(3).map(|row| (row[0] > 0.3) != (row[1] > -0.2)).collect();
        let groups: Vec<usize> = (0..=100).map(|group| group * 40).collect();
        let examples = Examples { features: features.clone(), labels: labels.clone(), groups };
        let data = BoostingData::new(examples, 3, 32);
        for objective in [Objective::Logistic, Objective::LambdaRank] {
            let trees = boost(&data, &settings(objective), None, |_| true);
            let scores = trees.score(&features);
            let (mut right, mut pairs) = (0, 0);
            for (label, score) in labels.iter().zip(&scores).filter(|(label, _)| **label) {
                for (other, other_score) in labels.iter().zip(&scores).take(200).filter(|(label, _)| !**label) {
                    assert_ne!(label, other);
                    right += usize::from(score > other_score);
                    pairs += 1;
                }
            }
            let share = right as f64 / pairs as f64;
            assert!(share > 0.97, "{objective:?}: only {share:.3} of the pairs are in order");
            let alone = boost(&data, &BoostingSettings { threads: 1, ..settings(objective) }, None, |_| true);
            assert_eq!(alone, trees);
            let begun = boost(&data, &settings(objective), None, |trees| trees.trees() < 7);
            assert_eq!(begun.trees(), 7);
            assert_eq!(boost(&data, &settings(objective), Some(begun), |_| true), trees);
        }
    }

    #[test]
    fn boosting_ends_with_whole_trees_when_nothing_is_left_to_ask() {
        let features: Vec<f32> = (0..40).map(|row| f32::from(u8::from(row % 2 == 0))).collect();
        let labels: Vec<bool> = (0..40).map(|row| row % 2 == 0).collect();
        let data = BoostingData::new(Examples { features, labels, groups: vec![0, 20, 40] }, 1, 32);
        let trees = boost(&data, &settings(Objective::Logistic), None, |_| true);
        assert_eq!(trees.features.len(), trees.trees() * 3);
        assert_eq!(trees.leaves.len(), trees.trees() * 8);
    }

    #[test]
    fn examples_are_read_as_they_were_written() {
        let mut examples = Examples { features: vec![0.5; 6], labels: vec![true, false], groups: vec![0, 2] };
        examples.append(Examples { features: vec![-1.0; 3], labels: vec![true], groups: vec![0, 0, 1] });
        assert_eq!(examples.groups, [0, 2, 2, 3]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = Checkpoint::in_folder(folder.path().to_owned()).expect("a folder").file("fold-0-0");
        assert_eq!(Examples::load(&file).expect("no file"), None);
        examples.save(&file).expect("saved");
        assert_eq!(Examples::load(&file).expect("loaded"), Some(examples));
        let path = folder.path().join("fold-0-0.safetensors");
        let bytes = std::fs::read(&path).expect("a file");
        for length in [0, 10, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).expect("written");
            assert_eq!(Examples::load(&file).expect("passed over"), None);
        }
    }
}
