//! Boosted oblivious trees on the numbers: the one member of the ensemble that is not a network.

use super::settings::ClickSettings;
use crate::dataset::listens::{ClickTable, Encoding};
use crate::evaluate::auc;
use crate::recommend::clicks::tree_features;
use crate::scoring::oblivious_trees::ObliviousTrees;
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::gradient_boosting::{BoostingData, BoostingSettings, Examples, Objective, boost};

const BINS: usize = 64;
/// Share of the listens that a tree sees, and of the features that a level may split on.
const SHARES: (f64, f64) = (0.8, 0.4);
/// Trees between two evaluations on the validation part.
const INTERVAL: usize = 20;
/// Evaluations without a better one before it ends.
const PATIENCE: usize = 5;

/// Fits `count` trees, or with a validation part those of them that predict it best.
pub(super) fn fit_trees(
    settings: &ClickSettings,
    encoding: &Encoding,
    training: &ClickTable,
    validation: Option<&ClickTable>,
    count: usize,
    seed: u64,
    context: RunContext<'_>,
) -> Result<ObliviousTrees, TrainError> {
    let examples = Examples {
        features: tree_features(&encoding.numbers, &training.numbers),
        labels: training.targets.clone(),
        groups: (0..=training.rows()).collect(),
    };
    let data = BoostingData::new(examples, encoding.numbers.len(), BINS);
    let boosting = BoostingSettings {
        trees: count,
        depth: settings.depth as usize,
        learning_rate: settings.learning_rate as f32,
        regularization: settings.l2 as f32,
        bins: BINS,
        group_share: SHARES.0,
        feature_share: SHARES.1,
        objective: Objective::Logistic,
        seed,
        threads: context.threads,
    };
    let evaluated = validation.map(|rows| (tree_features(&encoding.numbers, &rows.numbers), &rows.targets));
    let (mut best, mut waited) = ((0.0, 0), 0);
    let mut trees = boost(&data, &boosting, None, |trees| {
        if context.interrupt.is_raised() {
            return false;
        }
        let Some((features, targets)) = evaluated.as_ref().filter(|_| trees.trees().is_multiple_of(INTERVAL)) else {
            return true;
        };
        let found = auc(&trees.score(features), targets);
        if found > best.0 {
            (best, waited) = ((found, trees.trees()), 0);
        } else {
            waited += 1;
        }
        waited < PATIENCE
    });
    context.check()?;
    if validation.is_some() {
        truncate(&mut trees, best.1);
    }
    Ok(trees)
}

/// Keeps the first `count` trees.
fn truncate(trees: &mut ObliviousTrees, count: usize) {
    trees.features.truncate(count * trees.depth);
    trees.thresholds.truncate(count * trees.depth);
    trees.leaves.truncate(count << trees.depth);
}
