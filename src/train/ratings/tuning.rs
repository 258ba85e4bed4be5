//! The search for settings of the default model: one after another is made smaller and larger, and stays where the error
//! on withheld ratings is least.

use serde::Serialize;

use super::gaussian::GaussianSettings;
use super::network::NetworkSettings;
use super::settings::{RatingsModelName, RatingsSettings};
use super::training::learn;
use crate::dataset::{Feedback, FeedbackSplit};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::tuning::{self, Parameter, Tuner};

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
    /// all settings
    #[serde(skip)]
    pub settings: GaussianSettings,
}

impl tuning::Trial for Trial {
    type Settings = GaussianSettings;

    fn settings(&self) -> &GaussianSettings {
        &self.settings
    }

    fn note_change(&mut self, name: &'static str, value: f64) {
        (self.setting, self.value) = (name.to_owned(), value as f32);
    }
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
    type Settings = GaussianSettings;
    type Variance = fn(&mut Settings) -> &mut f32;
    fn variance(name: &'static str, of: Variance) -> Parameter<Settings> {
        Parameter::new(name, move |settings, value| *of(settings) = value as f32)
            .read_by(move |settings| f64::from(*of(&mut settings.clone())))
    }
    fn count(name: &'static str, of: fn(&mut Settings) -> &mut u32) -> Parameter<Settings> {
        Parameter::new(name, move |settings, value| *of(settings) = (value as f32).round().max(1.0) as u32)
            .read_by(move |settings| f64::from(*of(&mut settings.clone())))
    }
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
    let evaluate = |gaussian: &GaussianSettings| {
        context.check()?;
        let (gaussian, network) = (gaussian.clone(), NetworkSettings::default());
        let settings = RatingsSettings { withheld: 0.0, seed, gaussian, network };
        let trained = learn(feedback, &parts.training, RatingsModelName::Gp, &settings, context)?;
        let metrics = trained.measure(&parts.training, &parts.held_out, feedback.users());
        let (mse, ndcg_at_10, settings) = (metrics.mse, metrics.ndcg_at_10, settings.gaussian);
        Ok(Trial { setting: String::new(), value: 0.0, mse, ndcg_at_10, settings })
    };
    let mut tuner = Tuner::new(space(), evaluate);
    let best = tuner.coordinate(start, rounds, |settings| settings.check().is_ok(), |trial| -trial.mse, each)?;
    let flag = |parameter: &Parameter<GaussianSettings>| {
        format!("--{} {}", parameter.name, parameter.value(&best.settings) as f32)
    };
    let flags: Vec<String> = space().iter().map(flag).collect();
    let (mse, ndcg_at_10, settings) = (best.mse, best.ndcg_at_10, best.settings);
    Ok(Tuned { settings, flags: flags.join(" "), mse, ndcg_at_10, trials: tuner.trials })
}
