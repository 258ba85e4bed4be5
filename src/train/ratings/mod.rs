//! Ratings: what a user will think of tracks, learned from ratings and listens.
//!
//! A part of the ratings is withheld first, to measure by and to stop by; then the model is trained once more on all of
//! them, and published.

pub mod gaussian;
pub mod network;
pub mod tuning;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;

use super::TrainError;
use super::torch::rating_network::{RatingArchitecture, RatingNetwork};
use crate::bundle::{BundleWriter, Kind, Manifest, NewManifest, RatingsBundle};
use crate::dataset::{Event, Feedback, split};
use crate::evaluate::{Rater, RatingMetrics, measure_ratings};
use crate::progress::Interrupt;
use crate::recommend::ratings::RatingsModel;
use gaussian::{GaussianSettings, heard};
use network::{NetworkSettings, NetworkTask, into_bundle, predict, train_network};

/// Models of ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RatingsModelName {
    /// a Gaussian process for each user, over genres, who-rated-what and sessions, on top of track biases
    Gp,
    /// dot product of two embeddings
    Dot,
    /// dot product and biases
    Bias,
    /// a hidden layer on two embeddings
    Mlp,
    /// shrunken track and user biases alone, to compare with
    Baseline,
}

impl RatingsModelName {
    /// The name in commands and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gp => "gp",
            Self::Dot => "dot",
            Self::Bias => "bias",
            Self::Mlp => "mlp",
            Self::Baseline => "baseline",
        }
    }

    fn architecture(self) -> Option<RatingArchitecture> {
        match self {
            Self::Dot => Some(RatingArchitecture::Dot),
            Self::Bias => Some(RatingArchitecture::Bias),
            Self::Mlp => Some(RatingArchitecture::Mlp),
            Self::Gp | Self::Baseline => None,
        }
    }
}

/// How to train a model of ratings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct RatingsSettings {
    /// Share of the ratings that is withheld to measure by, before the model is trained on all
    #[arg(long, default_value_t = 0.1)]
    pub withheld: f64,
    /// Random seed: the same data, settings and seed give the same model on the same machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// of the default model
    #[command(flatten)]
    pub gaussian: GaussianSettings,
    /// of the networks
    #[command(flatten)]
    pub network: NetworkSettings,
}

impl RatingsSettings {
    fn check(&self) -> Result<(), TrainError> {
        if !(0.0..=0.9).contains(&self.withheld) {
            return Err(TrainError::Settings("--withheld must be from 0 to 0.9".to_owned()));
        }
        self.gaussian.check()?;
        self.network.check()
    }
}

/// A model that has learned, with what it can tell of the users that it learned from.
#[derive(Debug)]
pub struct Trained {
    /// what serves
    pub model: RatingsModel,
    /// the network with its users' embeddings, for one that has such
    network: Option<RatingNetwork>,
    /// epochs that it was trained for, if it goes by epochs
    pub epochs: Option<usize>,
    /// mean seconds of an epoch, likewise
    pub epoch_seconds: Option<f64>,
}

impl Trained {
    /// Measures on `held_out` what was learned from `training`.
    pub fn measure(&self, training: &[Event], held_out: &[Event], users: usize) -> RatingMetrics {
        measure_ratings(self, training, held_out, users)
    }
}

impl Rater for Trained {
    fn predict(&self, known: &[Event], asked: &[Event]) -> Vec<f32> {
        if let Some(network) = &self.network {
            return predict(network, asked, self.model.bundle().shape.range);
        }
        let taste = self.model.taste(&heard(known));
        asked.iter().map(|event| self.model.predict(&taste, event.track, Some(event.at))).collect()
    }

    fn rank(&self, known: &[Event], limit: usize) -> Vec<u32> {
        let taste = self.model.taste(&heard(known));
        let mut seen: Vec<u32> = known.iter().map(|event| event.track).collect();
        seen.sort_unstable();
        self.model.recommend(&taste, &seen, limit).into_iter().map(|track| track.row).collect()
    }
}

/// Where a run keeps its state, and how it is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// threads that compute
    pub threads: usize,
    /// where a network's state is kept; none keeps none
    pub resume_file: Option<&'a Path>,
    /// asked now and then
    pub interrupt: &'a Interrupt,
}

/// Learns from `events` of `feedback`. A network that is to stop early withholds a part of them, and is trained once more
/// on all for as many epochs.
pub fn learn(
    feedback: &Feedback,
    events: &[Event],
    name: RatingsModelName,
    settings: &RatingsSettings,
    running: Running<'_>,
) -> Result<Trained, TrainError> {
    settings.check()?;
    let Some(architecture) = name.architecture() else {
        let baseline = GaussianSettings {
            directions: 0,
            genres: 0,
            popularity_variance: 1e-6,
            session_variance: 0.0,
            track_variance: 0.2,
            user_variance: 0.2,
            ..settings.gaussian.clone()
        };
        let gaussian = if name == RatingsModelName::Baseline { &baseline } else { &settings.gaussian };
        let mut bundle = gaussian::fit(feedback, events, gaussian, settings.seed, running.threads)?;
        bundle.shape.model = name.as_str().to_owned();
        return Ok(Trained { model: RatingsModel::new(bundle), network: None, epochs: None, epoch_seconds: None });
    };
    tch::set_num_threads(running.threads as i32);
    let rows = (feedback.users(), feedback.tracks());
    let mut task = NetworkTask { architecture, rows, events, validation: &[], epochs: None, seed: settings.seed };
    if settings.network.patience > 0 {
        let parts = split(events, settings.withheld.max(0.05), settings.seed);
        let first = NetworkTask { events: &parts.training, validation: &parts.held_out, ..task };
        task.epochs = Some(train_network(&first, &settings.network, None, running.interrupt)?.epochs);
    }
    let trained = train_network(&task, &settings.network, running.resume_file, running.interrupt)?;
    let bundle = into_bundle(&trained.network, feedback, events, settings.network.l2)?;
    Ok(Trained {
        model: RatingsModel::new(bundle),
        network: Some(trained.network),
        epochs: Some(trained.epochs),
        epoch_seconds: Some(trained.epoch_seconds),
    })
}

/// Trains a model of `feedback` and publishes it in the folder `models`.
///
/// # Errors
///
/// [`TrainError::Interrupted`] when the person asked to stop; the same call goes on from there.
pub fn train_ratings(
    feedback: &Feedback,
    name: RatingsModelName,
    settings: &RatingsSettings,
    models: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    settings.check()?;
    if feedback.events.is_empty() {
        return Err(TrainError::TooLittleData(
            "the catalog has neither ratings nor listens to learn from; `segue import ratings`, POST /ratings or POST \
             /listens brings some"
                .to_owned(),
        ));
    }
    let mut writer = BundleWriter::begin(models, Kind::Ratings)?;
    let resume_file = resume_file(models, name, settings, feedback);
    let running = Running { threads, resume_file: None, interrupt };
    let parts = feedback.split(settings.withheld, settings.seed);
    let metrics = match parts.held_out.is_empty() {
        true => None,
        false => {
            let trained = learn(feedback, &parts.training, name, settings, running)?;
            Some(trained.measure(&parts.training, &parts.held_out, feedback.users()))
        }
    };
    if let Some(metrics) = &metrics {
        info!(mse = metrics.mse, ndcg_at_10 = metrics.ndcg_at_10, ratings = metrics.ratings, "measured");
    }
    if interrupt.is_raised() {
        return Err(TrainError::Stopped);
    }
    let running = Running { resume_file: Some(&resume_file), ..running };
    let trained = learn(feedback, &feedback.events, name, settings, running)?;
    let epochs = trained.epochs;
    let bundle: RatingsBundle = trained.model.into_bundle();
    bundle.write(&mut writer)?;
    let manifest = writer.publish(NewManifest {
        seed: settings.seed,
        parameters: serde_json::json!({ "model": name, "settings": settings }),
        data: feedback.fingerprint.clone(),
        metrics: serde_json::json!({
            "withheld": metrics.map(|metrics| MetricsRecord { protocol: PROTOCOL, metrics }),
            "epochs": epochs,
        }),
    })?;
    let _ = fs::remove_file(&resume_file);
    Ok(manifest)
}

const PROTOCOL: &str = "a random part of the ratings withheld, the model trained on the rest; for NDCG every track ranked \
                        that the user has not in training";

#[derive(Serialize)]
struct MetricsRecord {
    protocol: &'static str,
    #[serde(flatten)]
    metrics: RatingMetrics,
}

/// A file of its own for each combination of settings and data: a run with other settings does not go on from it.
fn resume_file(models: &Path, name: RatingsModelName, settings: &RatingsSettings, feedback: &Feedback) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(name.as_str());
    hash.update(serde_json::to_vec(settings).unwrap_or_default());
    hash.update(&feedback.fingerprint.sha256);
    let key = hex::encode(hash.finalize());
    models.join(Kind::Ratings.as_str()).join(format!(".resume-{}.safetensors", &key[..16]))
}
