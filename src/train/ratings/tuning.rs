//! The search for settings of the default model: one after another is made smaller and larger, and stays where the error
//! on withheld ratings is least.

use serde::Serialize;

use super::gaussian::GaussianSettings;
use super::settings::RatingsModelName;
use super::training::learn_gaussian;
use crate::dataset::{Feedback, FeedbackSplit};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::tuning::{Change, Parameter, Tuner};

/// A setting that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// the flag, without dashes
    pub setting: String,
    /// its value
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

fn space() -> Vec<Parameter<GaussianSettings>> {
    type Of<T> = fn(&mut GaussianSettings) -> &mut T;
    let variance = |name, of: Of<f32>| {
        Parameter::new(name, move |settings, value| *of(settings) = value as f32)
            .read_by(move |settings| f64::from(*of(&mut settings.clone())))
    };
    let count = |name, of: Of<u32>| {
        Parameter::new(name, move |settings, value| *of(settings) = (value as f32).round().max(1.0) as u32)
            .read_by(move |settings| f64::from(*of(&mut settings.clone())))
    };
    vec![
        variance("session-variance", |settings| &mut settings.session_variance),
        count("session-gap", |settings| &mut settings.session_gap),
        variance("direction-variance", |settings| &mut settings.direction_variance),
        variance("genre-variance", |settings| &mut settings.genre_variance),
        variance("popularity-variance", |settings| &mut settings.popularity_variance),
        variance("track-variance", |settings| &mut settings.track_variance),
        variance("user-variance", |settings| &mut settings.user_variance),
        count("directions", |settings| &mut settings.directions),
    ]
}

/// Searches from `start` on for `rounds`, learning from `parts.training` and measuring on `parts.held_out`; calls `each`
/// with every trial.
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
    each: impl FnMut(&Trial),
) -> Result<Tuned, TrainError> {
    if parts.held_out.is_empty() {
        return Err(TrainError::TooLittleData("the catalog has too few ratings to withhold any".to_owned()));
    }
    let evaluate = |gaussian: &GaussianSettings, (setting, value): Change| {
        context.check()?;
        let trained = learn_gaussian(feedback, &parts.training, RatingsModelName::Gp, gaussian, seed, context)?;
        let metrics = trained.measure(&parts.training, &parts.held_out, feedback.users());
        let (setting, value) = (setting.to_owned(), value as f32);
        Ok(Trial { setting, value, mse: metrics.mse, ndcg_at_10: metrics.ndcg_at_10 })
    };
    let mut tuner = Tuner::new(space(), evaluate);
    let is_valid = |settings: &GaussianSettings| settings.check().is_ok();
    let (settings, Trial { mse, ndcg_at_10, .. }) =
        tuner.coordinate(start, rounds, is_valid, |trial| -trial.mse, each)?;
    let flags =
        space().into_iter().map(|parameter| format!("--{} {}", parameter.name, parameter.value(&settings) as f32));
    let trials = std::mem::take(&mut tuner.trials).into_iter().map(|(_, trial)| trial).collect();
    Ok(Tuned { flags: flags.collect::<Vec<String>>().join(" "), settings, mse, ndcg_at_10, trials })
}
