//! The loaded models of all kinds, and the watch for new versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::served::ServedModel;
use super::slot::{KindSlot, LoadedModel, ModelSummary, Slot, VersionError};
use crate::bundle::{BundleError, Kind, Manifest, current_version, versions};
use crate::progress::Interrupt;
use crate::recommend::SimilarityModel;
use crate::recommend::clicks::ClickModel;
use crate::recommend::completion::CompletionModel;
use crate::recommend::ratings::RatingsModel;
use crate::serve::capacity::engine::Engine;
use crate::serve::metrics::Metrics;

/// How often the store compares each `current` link with what is loaded.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often a rejected version is tried again: its files may still be on their way from another machine.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The loaded models. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelStore(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    /// the models folder
    folder: PathBuf,
    metrics: Metrics,
    completion: Slot<CompletionModel>,
    similarity: Slot<SimilarityModel>,
    ratings: Slot<RatingsModel>,
    clicks: Slot<ClickModel>,
}

/// A model with a slot in the store.
pub trait StoredModel: ServedModel {
    /// Returns its slot.
    fn slot(store: &ModelStore) -> &Slot<Self>;
}

impl StoredModel for CompletionModel {
    fn slot(store: &ModelStore) -> &Slot<Self> {
        &store.0.completion
    }
}

impl StoredModel for SimilarityModel {
    fn slot(store: &ModelStore) -> &Slot<Self> {
        &store.0.similarity
    }
}

impl StoredModel for RatingsModel {
    fn slot(store: &ModelStore) -> &Slot<Self> {
        &store.0.ratings
    }
}

impl StoredModel for ClickModel {
    fn slot(store: &ModelStore) -> &Slot<Self> {
        &store.0.clicks
    }
}

impl ModelStore {
    /// Returns an empty store over the folder `models`. Its models tell the engine how long their work takes.
    pub fn new(models: &Path, metrics: &Metrics, engine: &Engine) -> Self {
        Self(Arc::new(Slots {
            folder: models.to_owned(),
            metrics: metrics.clone(),
            completion: Slot::new(models, metrics, engine),
            similarity: Slot::new(models, metrics, engine),
            ratings: Slot::new(models, metrics, engine),
            clicks: Slot::new(models, metrics, engine),
        }))
    }

    /// Returns the current version of a model, if one is loaded.
    pub fn current<M: StoredModel>(&self) -> Option<Arc<LoadedModel<M>>> {
        M::slot(self).current()
    }

    /// Returns the named version of a model; the current one if `version` is `None`.
    pub async fn version<M: StoredModel>(
        &self,
        version: Option<&str>,
    ) -> Result<Option<Arc<LoadedModel<M>>>, VersionError> {
        let slot = M::slot(self);
        let Some(version) = version else { return Ok(slot.current()) };
        if let Some(loaded) = slot.loaded(version) {
            return Ok(Some(loaded));
        }
        let version = version.to_owned();
        self.in_turn(M::KIND, move |store| M::slot(store).pin(&version)).await.map(Some)
    }

    /// Returns the shadow version of a model if it also answers this request; not if the request names a `version`.
    pub fn due_shadow<M: StoredModel>(&self, version: Option<&str>) -> Option<Arc<LoadedModel<M>>> {
        if version.is_some() { None } else { M::slot(self).due_shadow() }
    }

    /// Returns all loaded versions of a model.
    pub fn all<M: StoredModel>(&self) -> Vec<Arc<LoadedModel<M>>> {
        M::slot(self).all()
    }

    /// Returns the published versions of a kind, newest first.
    pub fn published(&self, kind: Kind) -> Vec<String> {
        versions(&self.0.folder, kind)
    }

    /// Makes a published version the current one: at once here, within seconds in other servers of this models folder.
    pub async fn activate(&self, kind: Kind, version: String) -> Result<(), VersionError> {
        self.in_turn(kind, move |store| store.slot(kind).activate(&version)).await
    }

    /// Lets a published version also answer one in `every` requests, unseen; `None` ends that.
    pub async fn set_shadow(&self, kind: Kind, version: Option<String>, every: u64) -> Result<(), VersionError> {
        self.in_turn(kind, move |store| store.slot(kind).set_shadow(version.as_deref(), every)).await
    }

    /// Has a version loaded for a request, after those that came before. If the request is canceled while it waits,
    /// nothing happens; if it is canceled later, the next one waits until the work is done and finds the version loaded.
    async fn in_turn<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Self) -> Result<T, VersionError> + Send + 'static,
    ) -> Result<T, VersionError> {
        let turn = self.slot(kind).turn().clone().lock_owned().await;
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&store)
        });
        done.await.unwrap_or(Err(VersionError::Stopped))
    }

    /// Returns what is loaded.
    pub fn summaries(&self) -> impl Iterator<Item = ModelSummary> {
        Kind::ALL.into_iter().filter_map(|kind| self.slot(kind).summary())
    }

    /// Returns the manifests of the loaded models.
    pub fn manifests(&self) -> Vec<Manifest> {
        self.summaries().map(|summary| summary.manifest).collect()
    }

    /// Loads the current bundle of a kind and lets it take over, loaded already or not. Blocking.
    pub fn load(&self, kind: Kind) -> Result<(), BundleError> {
        self.slot(kind).load(true)
    }

    /// Loads the current bundle of each kind, or if it fails verification the newest older one that passes. Blocking.
    ///
    /// A server that restarts on a damaged disk serves last week's model instead of none.
    pub fn load_at_start(&self) {
        Kind::ALL.into_iter().for_each(|kind| self.slot(kind).load_at_start());
        if self.manifests().is_empty() {
            warn!("no model is loaded; requests for recommendations get 503 until one is published");
        }
    }

    /// Loads each version that `current` comes to point at, for each kind, until interrupted.
    pub async fn watch(self, interrupt: Interrupt) {
        let mut rejected: Vec<Option<(String, Instant)>> = vec![None; Kind::ALL.len()];
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = interrupt.raised() => return,
            }
            for (kind, rejected) in Kind::ALL.into_iter().zip(&mut rejected) {
                let loaded = self.slot(kind).summary().map(|summary| summary.manifest.version);
                let current = current_version(&self.0.folder, kind);
                let Some(current) = current.filter(|current| Some(current) != loaded.as_ref()) else { continue };
                if rejected.as_ref().is_some_and(|(version, at)| *version == current && at.elapsed() < RETRY_INTERVAL) {
                    continue;
                }
                let store = self.clone();
                let loaded = tokio::task::spawn_blocking(move || store.slot(kind).load(false)).await;
                *rejected = match loaded {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => {
                        error!("the new bundle failed verification, the previous one keeps serving: {error}");
                        self.0.metrics.bundle_rejected(kind);
                        Some((current, Instant::now()))
                    }
                    Err(error) => {
                        error!("loading a bundle failed: {error}");
                        Some((current, Instant::now()))
                    }
                };
            }
        }
    }

    fn slot(&self, kind: Kind) -> &dyn KindSlot {
        match kind {
            Kind::Completion => &self.0.completion,
            Kind::Similarity => &self.0.similarity,
            Kind::Ratings => &self.0.ratings,
            Kind::Clicks => &self.0.clicks,
        }
    }
}
