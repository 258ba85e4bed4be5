//! A search for settings of the default model: one after another is made smaller and larger, and stays where the error
//! on withheld ratings is least.

use serde::Serialize;

use super::gaussian::GaussianSettings;
use super::network::NetworkSettings;
use super::settings::{RatingsModelName, RatingsSettings};
use super::training::learn;
use crate::dataset::{Feedback, FeedbackSplit};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;

/// What a setting is multiplied with and divided by in the first round; its root in the next, and so on.
const FACTOR: f32 = 2.0;
/// A change that gains less is chance.
const LEAST_GAIN: f64 = 1e-4;

/// A setting that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// the flag, without dashes
    pub setting: String,
    /// what it was set to
    pub value: f32,
    /// mean squared error on the withheld ratings
    pub mse: f64,
    /// NDCG@10 on them
    pub ndcg_at_10: f64,
}

/// Settings that were found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// the settings
    pub settings: GaussianSettings,
    /// the same as flags of `segue train ratings`
    pub flags: String,
    /// mean squared error on the withheld ratings
    pub mse: f64,
    /// NDCG@10 on them
    pub ndcg_at_10: f64,
    /// everything that was tried
    pub trials: Vec<Trial>,
}

/// A setting by name, and how it is read and changed.
type Knob = (&'static str, fn(&GaussianSettings) -> f32, fn(&mut GaussianSettings, f32));

const KNOBS: [Knob; 8] = [
    ("session-variance", |settings| settings.session_variance, |settings, value| settings.session_variance = value),
    (
        "session-gap",
        |settings| settings.session_gap as f32,
        |settings, value| settings.session_gap = value.round().max(1.0) as u32,
    ),
    (
        "direction-variance",
        |settings| settings.direction_variance,
        |settings, value| settings.direction_variance = value,
    ),
    ("genre-variance", |settings| settings.genre_variance, |settings, value| settings.genre_variance = value),
    (
        "popularity-variance",
        |settings| settings.popularity_variance,
        |settings, value| settings.popularity_variance = value,
    ),
    ("track-variance", |settings| settings.track_variance, |settings, value| settings.track_variance = value),
    ("user-variance", |settings| settings.user_variance, |settings, value| settings.user_variance = value),
    (
        "directions",
        |settings| settings.directions as f32,
        |settings, value| settings.directions = value.round().max(1.0) as u32,
    ),
];

/// Searches from `start` on for `rounds`, learning from `parts.training` and measuring on `parts.held_out`; `each` hears
/// of every trial.
///
/// # Errors
///
/// Those of training; [`TrainError::Stopped`] when the person asked to stop.
pub fn tune(
    feedback: &Feedback,
    parts: &FeedbackSplit,
    start: &GaussianSettings,
    rounds: usize,
    seed: u64,
    context: RunContext<'_>,
    mut each: impl FnMut(&Trial),
) -> Result<Tuned, TrainError> {
    if parts.held_out.is_empty() {
        return Err(TrainError::TooLittleData("the catalog has too few ratings to withhold any".to_owned()));
    }
    let mut trials = Vec::new();
    let mut attempt = |settings: &GaussianSettings, name: &str, value: f32| -> Result<Trial, TrainError> {
        context.check()?;
        let network = NetworkSettings::default();
        let settings = RatingsSettings { withheld: 0.0, seed, gaussian: settings.clone(), network };
        let trained = learn(feedback, &parts.training, RatingsModelName::Gp, &settings, context)?;
        let metrics = trained.measure(&parts.training, &parts.held_out, feedback.users());
        let trial = Trial { setting: name.to_owned(), value, mse: metrics.mse, ndcg_at_10: metrics.ndcg_at_10 };
        each(&trial);
        trials.push(trial.clone());
        Ok(trial)
    };
    let mut settings = start.clone();
    let mut best = attempt(&settings, "start", 0.0)?;
    let mut factor = FACTOR;
    for _ in 0..rounds {
        for (name, read, write) in KNOBS {
            let value = read(&settings);
            for changed in [value * factor, value / factor] {
                let mut candidate = settings.clone();
                write(&mut candidate, changed);
                if candidate == settings || candidate.check().is_err() {
                    continue;
                }
                let trial = attempt(&candidate, name, changed)?;
                if trial.mse < best.mse - LEAST_GAIN {
                    (settings, best) = (candidate, trial);
                    break; // a gain in one direction is a loss in the other
                }
            }
        }
        factor = factor.sqrt();
    }
    let flags: Vec<String> = KNOBS.iter().map(|(name, read, _)| format!("--{name} {}", read(&settings))).collect();
    Ok(Tuned { flags: flags.join(" "), settings, mse: best.mse, ndcg_at_10: best.ndcg_at_10, trials })
}
