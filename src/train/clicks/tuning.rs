//! The random search for settings of a model, and an ensemble of the best runs.
//!
//! Ranges are around those of the winning networks of the WSDM Cup 2018: widths and learning rates uniform on a logarithmic
//! scale, everything else uniform.

use serde::Serialize;

use super::learning::{ClickTask, choose, learn, parts};
use super::settings::{ClickModelName, ClickSettings};
use crate::evaluate::{ClickMetrics, measure_clicks};
use crate::progress::Progress;
use crate::recommend::clicks::ENSEMBLE;
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::tuning::Scale::{Even, Logarithmic};
use crate::train::tuning::{Parameter, Tuner, sort_best};

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
    /// the same on what was set aside, if anything was: each of the best ones, and the ensemble
    pub set_aside: Vec<(String, ClickMetrics)>,
}

/// Tries settings drawn at random; calls `each` with every trial.
pub fn tune(search: &TuneTask<'_>, context: RunContext<'_>, mut each: impl FnMut(&Trial)) -> Result<Tuned, TrainError> {
    let (task, model) = (search.task, search.model);
    let (training, validation) = parts(&task, context.threads)?;
    let evaluate = |settings: &ClickSettings, _| {
        settings.check()?;
        let (member, chosen) = choose("trial", model, settings, &training, &validation, task.seed, context)?;
        let scores = member.score(&validation.fields, &validation.numbers);
        let ClickMetrics { auc, logloss, .. } = measure_clicks(&scores, &validation.targets, &validation.users);
        let flags = flags(model, settings);
        Ok(Trial { settings: settings.clone(), flags, auc, logloss, epochs: chosen.epochs() })
    };
    let progress = Progress::start("searching", search.trials as u64);
    let mut done = 0;
    let mut trials =
        Tuner::new(space(model, &search.start), evaluate).random(&search.start, search.trials, task.seed, |trial| {
            each(trial);
            done += 1;
            progress.at(done, || format!("{done} of {}", search.trials));
        })?;
    sort_best(&mut trials, |trial| trial.auc);
    let best = trials.iter().take(search.best).zip(1..);
    let models: Vec<(String, ClickModelName, ClickSettings)> =
        best.map(|(trial, place)| (format!("trial-{place}"), model, trial.settings.clone())).collect();
    let learned = learn(&task, &models, context)?;
    let ensemble = learned.validation.iter().find(|(name, _)| name == ENSEMBLE);
    let ensemble = ensemble.map(|(_, metrics)| metrics.clone()).unwrap_or_default();
    let table = &learned.table;
    let rows: Vec<usize> = (0..table.rows()).filter(|&row| task.set_aside[table.clicks[row]]).collect();
    let set_aside = if rows.is_empty() { Vec::new() } else { learned.measure(&table.select(&rows)) };
    Ok(Tuned { model, trials, ensemble, set_aside })
}

/// What is drawn, around `start`.
fn space(model: ClickModelName, start: &ClickSettings) -> Vec<Parameter<ClickSettings>> {
    let drawn = |from, to, set: fn(&mut ClickSettings, f64)| Parameter::new("", set).range(from, to, Logarithmic);
    if model == ClickModelName::Trees {
        return vec![
            drawn(0.01, 0.1, |settings, value| settings.learning_rate = value),
            drawn(1.0, 50.0, |settings, value| settings.l2 = value),
            drawn(3.0, 8.0, |settings, value| settings.depth = value as u32),
        ];
    }
    let mut space = vec![
        drawn(3e-4, 3e-3, |settings, value| settings.learning_rate = value),
        drawn(1e-4, 1e-2, |settings, value| settings.l2 = value),
        drawn(1e-4, 2e-2, |settings, value| settings.dense_l2 = value),
        drawn(2.0, 17.0, |settings, value| settings.dim = value as u32),
        drawn(64.0, 1024.0, |settings, value| settings.batch = 1 << (value.log2().round() as u32)),
    ];
    space.extend(start.hidden.iter().enumerate().map(|(layer, &units)| {
        let set = move |settings: &mut ClickSettings, factor| {
            settings.hidden[layer] = ((f64::from(units) * factor) as u32).max(4);
        };
        Parameter::new("", set).range(0.5, 2.0, Logarithmic)
    }));
    space
        .push(Parameter::new("", |settings: &mut ClickSettings, value| settings.dropout = value).range(0.0, 0.6, Even));
    space
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
