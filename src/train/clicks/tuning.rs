//! A random search for settings of a model, and an ensemble of the best runs.
//!
//! Ranges are around those of the winning networks of the WSDM Cup 2018: widths and learning rates uniform on a logarithmic
//! scale, everything else uniform.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use super::learning::{ClickTask, choose, learn, parts};
use super::settings::{ClickModelName, ClickSettings};
use crate::evaluate::{ClickMetrics, measure_clicks};
use crate::progress::Progress;
use crate::recommend::clicks::ENSEMBLE;
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;

/// What to search.
#[derive(Debug, Clone)]
pub struct TuneTask<'a> {
    /// what is learned from
    pub task: ClickTask<'a>,
    /// whose settings
    pub model: ClickModelName,
    /// what is not searched for
    pub start: ClickSettings,
    /// settings to try
    pub trials: usize,
    /// best of them that make an ensemble
    pub best: usize,
}

/// Settings that were tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// the settings
    pub settings: ClickSettings,
    /// the same as flags of `segue train clicks`
    pub flags: String,
    /// area under the curve on the validation part
    pub auc: f64,
    /// logistic loss there
    pub logloss: f64,
    /// epochs or trees until its best
    pub epochs: usize,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// whose settings
    pub model: ClickModelName,
    /// best first
    pub trials: Vec<Trial>,
    /// the best ones together, on the validation part
    pub ensemble: ClickMetrics,
    /// the same on what was set aside and never looked at, if anything was: each of the best ones, and the ensemble
    pub set_aside: Vec<(String, ClickMetrics)>,
}

/// Tries settings drawn at random; `tell` hears of each.
pub fn tune(search: &TuneTask<'_>, context: RunContext<'_>, mut tell: impl FnMut(&Trial)) -> Result<Tuned, TrainError> {
    let (training, validation) = parts(&search.task, context.threads)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(search.task.seed);
    let mut trials: Vec<Trial> = Vec::new();
    let progress = Progress::start("searching", search.trials as u64);
    for number in 0..search.trials {
        let settings = match number {
            0 => search.start.clone(),
            _ => draw(search.model, &search.start, &mut rng),
        };
        settings.check()?;
        let seed = search.task.seed;
        let (member, chosen) = choose("trial", search.model, &settings, &training, &validation, seed, context)?;
        let scores = member.score(&validation.fields, &validation.numbers);
        let metrics = measure_clicks(&scores, &validation.targets, &validation.users);
        let epochs = chosen.epochs();
        let flags = flags(search.model, &settings);
        let trial = Trial { settings, flags, auc: metrics.auc, logloss: metrics.logloss, epochs };
        tell(&trial);
        trials.push(trial);
        progress.at(number as u64 + 1, || format!("{} of {}", number + 1, search.trials));
    }
    trials.sort_by(|left, right| right.auc.total_cmp(&left.auc));
    let best = trials.iter().take(search.best).zip(1..);
    let models: Vec<(String, ClickModelName, ClickSettings)> =
        best.map(|(trial, place)| (format!("trial-{place}"), search.model, trial.settings.clone())).collect();
    let learned = learn(&search.task, &models, context)?;
    let ensemble = learned.validation.iter().find(|(name, _)| name == ENSEMBLE);
    let ensemble = ensemble.map(|(_, metrics)| metrics.clone()).unwrap_or_default();
    let table = &learned.table;
    let rows: Vec<usize> = (0..table.rows()).filter(|&row| search.task.set_aside[table.clicks[row]]).collect();
    let set_aside = if rows.is_empty() { Vec::new() } else { learned.measure(&table.select(&rows)) };
    Ok(Tuned { model: search.model, trials, ensemble, set_aside })
}

/// Settings at random.
fn draw(model: ClickModelName, start: &ClickSettings, rng: &mut Xoshiro256PlusPlus) -> ClickSettings {
    let mut settings = start.clone();
    let mut between = |low: f64, high: f64| (rng.random_range(low.ln()..high.ln())).exp();
    if model == ClickModelName::Trees {
        settings.learning_rate = between(0.01, 0.1);
        settings.l2 = between(1.0, 50.0);
        settings.depth = between(3.0, 8.0).floor() as u32;
        return settings;
    }
    settings.learning_rate = between(3e-4, 3e-3);
    settings.l2 = between(1e-4, 1e-2);
    settings.dense_l2 = between(1e-4, 2e-2);
    settings.dim = between(2.0, 17.0) as u32;
    settings.batch = 1 << (between(64.0, 1024.0).log2().round() as u32);
    settings.hidden = settings.hidden.iter().map(|&units| (f64::from(units) * between(0.5, 2.0)) as u32).collect();
    settings.hidden.iter_mut().for_each(|units| *units = (*units).max(4));
    settings.dropout = rng.random_range(0.0..0.6);
    settings
}

/// Settings as flags, those that a search may change.
fn flags(model: ClickModelName, settings: &ClickSettings) -> String {
    if model == ClickModelName::Trees {
        let ClickSettings { learning_rate, l2, depth, .. } = settings;
        return format!("--learning-rate {learning_rate:.3} --l2 {l2:.1} --depth {depth}");
    }
    let ClickSettings { dim, dropout, l2, dense_l2, learning_rate, batch, .. } = settings;
    let mut flags = format!(
        "--dim {dim} --dropout {dropout:.2} --l2 {l2:.1e} --dense-l2 {dense_l2:.1e} --learning-rate {learning_rate:.1e} \
         --batch {batch}"
    );
    if !settings.hidden.is_empty() {
        let units: Vec<String> = settings.hidden.iter().map(u32::to_string).collect();
        flags.push_str(&format!(" --hidden {}", units.join(",")));
    }
    flags
}
