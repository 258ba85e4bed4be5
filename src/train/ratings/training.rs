//! The training for ratings: a part of the ratings is withheld first, to measure by and to stop by; then the model is
//! trained once more on all of them, and published.

use std::path::Path;

use serde::Serialize;
use tracing::info;

use super::gaussian::{self, GaussianSettings, taste_events};
use super::network::{NetworkTask, into_bundle, predict, train_network};
use super::settings::{RatingsModelName, RatingsSettings};
use crate::bundle::{BundleWriter, Kind, Manifest, NewManifest, RatingsBundle};
use crate::dataset::{Event, Feedback, split};
use crate::evaluate::{Rater, RatingMetrics, measure_ratings};
use crate::progress::Interrupt;
use crate::recommend::ratings::RatingsModel;
use crate::train::checkpoint::{Checkpoint, RunContext};
use crate::train::error::TrainError;
use crate::train::torch::rating_network::RatingNetwork;

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
    fn predict(&self, known: &[Event], queries: &[Event]) -> Vec<f32> {
        if let Some(network) = &self.network {
            return predict(network, queries, self.model.bundle().shape.range);
        }
        let taste = self.model.taste(&taste_events(known));
        queries.iter().map(|event| self.model.predict(&taste, event.track, Some(event.at))).collect()
    }

    fn rank(&self, known: &[Event], limit: usize) -> Vec<u32> {
        let taste = self.model.taste(&taste_events(known));
        let mut seen: Vec<u32> = known.iter().map(|event| event.track).collect();
        seen.sort_unstable();
        self.model.recommend(&taste, &seen, limit).into_iter().map(|track| track.row).collect()
    }
}

/// Learns from `events` of `feedback`. A network that is to stop early withholds a part of them, and is trained once more
/// on all for as many epochs.
pub fn learn(
    feedback: &Feedback,
    events: &[Event],
    name: RatingsModelName,
    settings: &RatingsSettings,
    context: RunContext<'_>,
) -> Result<Trained, TrainError> {
    settings.check()?;
    let Some(architecture) = name.architecture() else {
        return learn_gaussian(feedback, events, name, &settings.gaussian, settings.seed, context);
    };
    tch::set_num_threads(context.threads as i32);
    let rows = (feedback.users(), feedback.tracks());
    let mut task = NetworkTask { architecture, rows, events, validation: &[], epochs: None, seed: settings.seed };
    if settings.network.patience > 0 {
        let parts = split(events, settings.withheld.max(0.05), settings.seed);
        let first = NetworkTask { events: &parts.training, validation: &parts.held_out, ..task };
        task.epochs = Some(train_network(&first, &settings.network, context.without_state())?.epochs);
    }
    let trained = train_network(&task, &settings.network, context)?;
    let bundle = into_bundle(&trained.network, feedback, events, settings.network.l2)?;
    Ok(Trained {
        model: RatingsModel::new(bundle),
        network: Some(trained.network),
        epochs: Some(trained.epochs),
        epoch_seconds: Some(trained.epoch_seconds),
    })
}

/// Learns the default model, or the baseline.
pub(super) fn learn_gaussian(
    feedback: &Feedback,
    events: &[Event],
    name: RatingsModelName,
    settings: &GaussianSettings,
    seed: u64,
    context: RunContext<'_>,
) -> Result<Trained, TrainError> {
    let mut settings = settings.clone();
    if name == RatingsModelName::Baseline {
        (settings.directions, settings.genres) = (0, 0);
        (settings.popularity_variance, settings.session_variance) = (1e-6, 0.0);
        (settings.track_variance, settings.user_variance) = (0.2, 0.2);
    }
    let mut bundle = gaussian::fit(feedback, events, &settings, seed, context.threads)?;
    bundle.shape.model = name.as_str().to_owned();
    Ok(Trained { model: RatingsModel::new(bundle), network: None, epochs: None, epoch_seconds: None })
}

/// Trains a model of `feedback` and publishes it in the folder `models`.
///
/// # Errors
///
/// [`TrainError::Interrupted`] when the person asked to stop; the same call continues from there.
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
            "the catalog has neither ratings nor listens to learn from: add some with `segue import ratings`, POST /ratings \
             or POST /listens"
                .to_owned(),
        ));
    }
    let mut writer = BundleWriter::begin(models, Kind::Ratings)?;
    let checkpoint = Checkpoint::open(models, Kind::Ratings, &(name, settings), &feedback.fingerprint)?;
    let context = RunContext::new(threads, interrupt);
    let parts = feedback.split(settings.withheld, settings.seed);
    let metrics = match parts.held_out.is_empty() {
        true => None,
        false => {
            let trained = learn(feedback, &parts.training, name, settings, context)?;
            Some(trained.measure(&parts.training, &parts.held_out, feedback.users()))
        }
    };
    if let Some(metrics) = &metrics {
        info!(mse = metrics.mse, ndcg_at_10 = metrics.ndcg_at_10, ratings = metrics.ratings, "measured");
    }
    context.check()?;
    let context = context.kept_in(&checkpoint);
    let trained = learn(feedback, &feedback.events, name, settings, context)?;
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
    checkpoint.delete();
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
