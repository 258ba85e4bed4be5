//! The training of click models on all listens, to a published bundle.

use std::path::Path;

use super::learning::{ClickTask, SplitKind, learn};
use super::settings::{ClickModelName, ClickSettings};
use crate::bundle::{BundleWriter, ClickBundle, Kind, Manifest, NewManifest, Vocabulary};
use crate::dataset::listens::Listening;
use crate::dataset::listens::Variant;
use crate::progress::Interrupt;
use crate::train::checkpoint::{Checkpoint, RunContext};
use crate::train::error::TrainError;

/// Trains `models` on all listens of `listening` and publishes them in the folder `folder`.
///
/// # Errors
///
/// [`TrainError::Interrupted`] when the person asked to stop; the same call continues from there.
pub fn train_clicks(
    listening: &Listening,
    models: &[(String, ClickModelName, ClickSettings)],
    validation: f64,
    seed: u64,
    folder: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    let mut writer = BundleWriter::begin(folder, Kind::Clicks)?;
    let settings = (models, validation.to_bits(), seed);
    let checkpoint = Checkpoint::open(folder, Kind::Clicks, &settings, &listening.fingerprint)?;
    let nothing = vec![false; listening.clicks.len()];
    let task = ClickTask {
        listening,
        variant: Variant::Causal,
        set_aside: &nothing,
        validation,
        split: SplitKind::Time,
        seed,
    };
    let learned = learn(&task, models, RunContext::new(threads, interrupt).kept_in(&checkpoint))?;
    let vocabulary = |ids: &[String]| Vocabulary::new(ids.iter().map(String::as_str)).map_err(TrainError::Settings);
    let bundle = ClickBundle {
        users: vocabulary(&listening.user_ids)?,
        user_fields: listening.users.clone(),
        tracks: vocabulary(&listening.track_ids)?,
        track_fields: listening.tracks.clone(),
        sources: listening.sources.clone(),
        state: learned.state,
        members: learned.members,
        ensemble: learned.ensemble,
    };
    bundle.write(&mut writer)?;
    let metrics: serde_json::Map<String, serde_json::Value> = learned
        .validation
        .iter()
        .map(|(name, metrics)| (name.clone(), serde_json::to_value(metrics).unwrap_or_default()))
        .collect();
    let weights: serde_json::Map<String, serde_json::Value> =
        bundle.members.iter().map(|member| (member.name.clone(), member.weight.into())).collect();
    let settings: Vec<serde_json::Value> = models
        .iter()
        .map(|(name, model, settings)| serde_json::json!({ "name": name, "model": model, "settings": settings }))
        .collect();
    let manifest = writer.publish(NewManifest {
        seed,
        parameters: serde_json::json!({ "models": settings, "validation": validation }),
        data: listening.fingerprint.clone(),
        metrics: serde_json::json!({
            "protocol": "the last part of the listens withheld, the models trained on the rest; then on all",
            "validation": metrics,
            "weights": weights,
            "epochs": learned.epochs,
            "rows_per_second": learned.rows_per_second,
        }),
    })?;
    checkpoint.delete();
    Ok(manifest)
}
