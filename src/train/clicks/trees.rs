//! Boosted oblivious trees on the numbers: the member of the ensemble that is no network.

use super::{ClickSettings, Fitted, Running};
use crate::bundle::Scorer;
use crate::dataset::listens::{ClickTable, Encoding};
use crate::evaluate::auc;
use crate::recommend::clicks::tree_features;
use crate::scoring::oblivious_trees::ObliviousTrees;
use crate::train::TrainError;
use crate::train::gradient_boosting::{BoostingData, BoostingSettings, Objective, boost};

const BINS: usize = 64;
/// Share of the listens that a tree sees, and of the features that a level may ask about.
const SHARES: (f64, f64) = (0.8, 0.4);
/// Trees between two looks at the validation part.
const LOOK: usize = 20;
/// Looks without a better one before it ends.
const PATIENCE: usize = 5;

/// Fits trees: with a validation part as many as predict it best, else as many as the plan has entries.
pub(super) fn fit(
    settings: &ClickSettings,
    encoding: Encoding,
    training: &ClickTable,
    validation: Option<&ClickTable>,
    plans: &[Vec<f64>],
    seed: u64,
    running: Running<'_>,
) -> Result<Fitted, TrainError> {
    let features = tree_features(&encoding.numbers, &training.numbers);
    let data = BoostingData::new(
        &features,
        encoding.numbers.len(),
        training.targets.clone(),
        (0..=training.rows()).collect(),
        BINS,
    );
    let boosting = BoostingSettings {
        trees: if validation.is_some() { settings.epochs as usize } else { plans.first().map_or(0, Vec::len) },
        depth: settings.depth as usize,
        learning_rate: settings.learning_rate as f32,
        regularization: settings.l2 as f32,
        bins: BINS,
        group_share: SHARES.0,
        feature_share: SHARES.1,
        objective: Objective::Logistic,
        seed,
        threads: running.threads,
    };
    let asked = validation.map(|rows| (tree_features(&encoding.numbers, &rows.numbers), &rows.targets));
    let (mut best, mut waited) = ((0.0, 0), 0);
    let mut trees = boost(&data, &boosting, None, |trees| {
        if running.interrupt.is_raised() {
            return false;
        }
        let Some((features, targets)) = asked.as_ref().filter(|_| trees.trees().is_multiple_of(LOOK)) else {
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
    if running.interrupt.is_raised() {
        return Err(TrainError::Stopped);
    }
    if validation.is_some() {
        keep(&mut trees, best.1);
    }
    let plan = vec![settings.learning_rate; trees.trees()];
    Ok(Fitted { encoding, scorer: Scorer::Trees(trees), plans: vec![plan], rows_per_second: 0.0 })
}

/// Keeps the first trees alone.
fn keep(trees: &mut ObliviousTrees, count: usize) {
    trees.features.truncate(count * trees.depth);
    trees.thresholds.truncate(count * trees.depth);
    trees.leaves.truncate(count << trees.depth);
}
