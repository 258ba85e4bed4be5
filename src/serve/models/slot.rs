//! The loaded versions of one kind of model: the current one, a shadow version, and versions that requests named.
//!
//! A request takes a reference to its model and keeps it to the end, so replacing the model does not affect it. A bundle
//! is read and verified as a whole before it takes over; if verification fails, the previous model keeps serving.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tracing::{error, info, warn};

use super::allocator::release_freed_memory;
use super::answer_cache::AnswerCache;
use super::served::ServedModel;
use crate::bundle::{self, BundleError, BundleFolder, Kind, Manifest, current_version, versions};
use crate::recommend::Recommended;
use crate::serve::capacity::engine::Engine;
use crate::serve::metrics::Metrics;
use crate::serve::state::hidden_tracks::Snapshot;

/// Longest wait for the requests that still use a replaced model, and the interval of checking.
const LONGEST_USE: Duration = Duration::from_secs(60);
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);
/// Items of cached similar-tracks responses in each of two generations: 12 bytes each.
const MAX_CACHED_ITEMS: usize = 500_000;
/// Most versions of a kind that stay loaded because requests named them.
const MAX_PINNED: usize = 2;

/// A model with its manifest.
#[derive(Debug)]
pub struct LoadedModel<M> {
    /// the bundle's manifest
    pub manifest: Manifest,
    /// ready to compute
    pub model: M,
    /// rows of the hidden tracks in ascending order, and the number of the list that they were looked up from
    hidden_rows: ArcSwap<(u64, Arc<[u32]>)>,
    /// similar tracks, by the number of that list, the row and the limit
    pub similar_cache: AnswerCache<(u64, u32, usize), Recommended>,
}

impl<M: ServedModel> LoadedModel<M> {
    fn open(models: &Path, version: &str) -> Result<Self, BundleError> {
        let folder = models.join(M::KIND.as_str()).join(version);
        let (manifest, model) = M::load(&BundleFolder::open(&folder, M::KIND)?)?;
        model.trials().iter().for_each(|trial| trial());
        let similar_cache = AnswerCache::new(MAX_CACHED_ITEMS);
        Ok(Self { manifest, model, hidden_rows: ArcSwap::default(), similar_cache })
    }

    /// Returns the rows of the hidden tracks that the model knows, in ascending order. Looked up once for each list.
    pub fn hidden_rows(&self, hidden: &Snapshot) -> Arc<[u32]> {
        let Some(vocabulary) = self.model.track_ids() else { return Arc::default() };
        let known = self.hidden_rows.load();
        if known.0 == hidden.number {
            return known.1.clone();
        }
        let mut rows: Vec<u32> = hidden.ids().filter_map(|id| vocabulary.row(id)).collect();
        rows.sort_unstable();
        let rows: Arc<[u32]> = rows.into();
        self.hidden_rows.store(Arc::new((hidden.number, rows.clone())));
        rows
    }
}

/// A second version that also answers a share of requests, unseen.
#[derive(Debug)]
struct ShadowVersion<M> {
    loaded: Arc<LoadedModel<M>>,
    /// answers one in this many requests
    every: u64,
    requests: AtomicU64,
}

/// Why a version is not available.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// No such version is published.
    #[error("no published {0} model has the version {1:?}: GET /models lists the published versions")]
    Unknown(Kind, String),
    /// The bundle failed verification.
    #[error("the {0} model of the version {1:?} failed verification: {2}")]
    Damaged(Kind, String, #[source] BundleError),
    /// The bundle passed verification, but can't become the current one.
    #[error("can't write the models folder: {0}")]
    ReadOnly(#[source] BundleError),
}

/// What `GET /models` says of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelSummary {
    /// the bundle's manifest
    pub manifest: Manifest,
    /// tracks that the model knows
    pub tracks: usize,
    /// tracks that it may recommend
    pub candidates: usize,
    /// length of a track's vector
    pub dimensions: usize,
}

/// What a slot does whatever its model is. All but `summary` block.
pub trait KindSlot {
    /// Loads the current bundle and lets it take over; one that is loaded already only if `reload` is set.
    fn load(&self, reload: bool) -> Result<(), BundleError>;

    /// Loads the current bundle, or if it fails verification the newest older one that passes.
    fn load_at_start(&self);

    /// Makes a published version the current one.
    fn activate(&self, version: &str) -> Result<(), VersionError>;

    /// Lets a published version also answer one in `every` requests; `None` ends that.
    fn set_shadow(&self, version: Option<&str>, every: u64) -> Result<(), VersionError>;

    /// Returns what is loaded.
    fn summary(&self) -> Option<ModelSummary>;
}

/// The loaded versions of one kind of model.
#[derive(Debug)]
pub struct Slot<M> {
    /// the models folder
    models: PathBuf,
    current: ArcSwapOption<LoadedModel<M>>,
    /// held while the current version is replaced: what was read first must not take over last
    replacing: Mutex<()>,
    shadow: ArcSwapOption<ShadowVersion<M>>,
    /// other versions that requests named, the one loaded last at the end
    pinned: ArcSwap<Vec<Arc<LoadedModel<M>>>>,
    /// held while one of them is loaded
    pinning: tokio::sync::Mutex<()>,
    metrics: Metrics,
    engine: Engine,
}

impl<M: ServedModel> Slot<M> {
    /// Returns an empty slot over the folder `models`. Its models tell the engine how long their work takes.
    pub fn new(models: &Path, metrics: &Metrics, engine: &Engine) -> Self {
        let (current, replacing, shadow, pinned, pinning) = Default::default();
        let (metrics, engine) = (metrics.clone(), engine.clone());
        Self { models: models.to_owned(), current, replacing, shadow, pinned, pinning, metrics, engine }
    }

    fn replacing(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current version, if one is loaded.
    pub fn current(&self) -> Option<Arc<LoadedModel<M>>> {
        self.current.load_full()
    }

    /// Returns the named version, loading it if necessary; the current one if `version` is `None`.
    pub async fn version(&self, version: Option<&str>) -> Result<Option<Arc<LoadedModel<M>>>, VersionError> {
        let current = self.current();
        let Some(version) = version else { return Ok(current) };
        if let Some(loaded) = current.filter(|loaded| loaded.manifest.version == version) {
            return Ok(Some(loaded));
        }
        let pinned = || self.pinned.load().iter().find(|loaded| loaded.manifest.version == version).cloned();
        if let Some(loaded) = pinned() {
            return Ok(Some(loaded));
        }
        let _pinning = self.pinning.lock().await;
        if let Some(loaded) = pinned() {
            return Ok(Some(loaded));
        }
        let (models, name) = (self.models.clone(), version.to_owned());
        let opened = tokio::task::spawn_blocking(move || Self::open(&models, &name)).await;
        let lost = |_| VersionError::Unknown(M::KIND, version.to_owned());
        let loaded = Arc::new(opened.map_err(lost)??);
        let mut pinned = self.pinned.load().to_vec();
        pinned.push(loaded.clone());
        let excess = pinned.len().saturating_sub(MAX_PINNED);
        let old: Vec<_> = pinned.drain(..excess).collect();
        self.pinned.store(Arc::new(pinned));
        old.into_iter().for_each(retire);
        Ok(Some(loaded))
    }

    /// Returns the shadow version if it also answers the next request.
    pub fn due_shadow(&self) -> Option<Arc<LoadedModel<M>>> {
        let shadow = self.shadow.load();
        let shadow = shadow.as_ref()?;
        let is_due = shadow.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(shadow.every);
        is_due.then(|| shadow.loaded.clone())
    }

    /// Returns all versions that are loaded.
    pub fn all(&self) -> Vec<Arc<LoadedModel<M>>> {
        let shadow = self.shadow.load().as_ref().map(|shadow| shadow.loaded.clone());
        let pinned = self.pinned.load();
        self.current().into_iter().chain(shadow).chain(pinned.iter().cloned()).collect()
    }

    /// Opens published versions only: a version is a name, not a path.
    fn open(models: &Path, version: &str) -> Result<LoadedModel<M>, VersionError> {
        if !versions(models, M::KIND).iter().any(|published| published == version) {
            return Err(VersionError::Unknown(M::KIND, version.to_owned()));
        }
        LoadedModel::open(models, version).map_err(|error| VersionError::Damaged(M::KIND, version.to_owned(), error))
    }

    fn take_over(&self, loaded: LoadedModel<M>, began: Instant) {
        for trial in loaded.model.trials() {
            let began = Instant::now();
            trial();
            let seconds = began.elapsed().as_secs_f64();
            M::LANES.iter().for_each(|&lane| self.engine.warm(lane, seconds));
        }
        let Manifest { kind, version, data, .. } = &loaded.manifest;
        info!(%kind, version, tracks = data.tracks, playlists = data.playlists, "loaded a model");
        self.metrics.model_swapped(&loaded.manifest, loaded.model.candidates(), began.elapsed().as_secs_f64());
        if let Some(old) = self.current.swap(Some(Arc::new(loaded))) {
            retire(old);
        }
    }
}

impl<M: ServedModel> KindSlot for Slot<M> {
    fn load(&self, reload: bool) -> Result<(), BundleError> {
        let _replacing = self.replacing();
        let began = Instant::now();
        let none = || BundleError::None { kind: M::KIND, folder: self.models.join(M::KIND.as_str()) };
        let version = current_version(&self.models, M::KIND).ok_or_else(none)?;
        if !reload && self.current.load().as_ref().is_some_and(|loaded| loaded.manifest.version == version) {
            return Ok(());
        }
        self.take_over(LoadedModel::open(&self.models, &version)?, began);
        Ok(())
    }

    fn load_at_start(&self) {
        match self.load(true) {
            Ok(()) => return,
            Err(error @ BundleError::None { .. }) => return warn!("{error}"),
            Err(error) => error!("the current bundle failed verification: {error}"),
        }
        let current = current_version(&self.models, M::KIND);
        for version in versions(&self.models, M::KIND) {
            if Some(&version) >= current.as_ref() {
                continue;
            }
            let began = Instant::now();
            match LoadedModel::open(&self.models, &version) {
                Ok(loaded) => {
                    warn!(version, "serving an older bundle instead");
                    return self.take_over(loaded, began);
                }
                Err(error) => error!("an older bundle failed verification too: {error}"),
            }
        }
        error!("no {} bundle passed verification", M::KIND);
    }

    fn activate(&self, version: &str) -> Result<(), VersionError> {
        let _replacing = self.replacing();
        let began = Instant::now();
        let loaded = Self::open(&self.models, version)?;
        bundle::activate(&self.models, M::KIND, version).map_err(VersionError::ReadOnly)?;
        self.take_over(loaded, began);
        Ok(())
    }

    fn set_shadow(&self, version: Option<&str>, every: u64) -> Result<(), VersionError> {
        let loaded = version.map(|version| Self::open(&self.models, version)).transpose()?;
        let shadow = loaded.map(|loaded| {
            let (loaded, requests) = (Arc::new(loaded), AtomicU64::new(0));
            Arc::new(ShadowVersion { loaded, every: every.max(1), requests })
        });
        if let Some(old) = self.shadow.swap(shadow) {
            retire(old.loaded.clone());
        }
        Ok(())
    }

    fn summary(&self) -> Option<ModelSummary> {
        let loaded = self.current()?;
        let LoadedModel { manifest, model, .. } = &*loaded;
        let (tracks, candidates, dimensions) = (model.tracks(), model.candidates(), model.dimensions());
        Some(ModelSummary { manifest: manifest.clone(), tracks, candidates, dimensions })
    }
}

/// Releases a model once the requests that use it are done: on a thread of its own, so that no request waits while its
/// arrays are freed.
fn retire<M: ServedModel>(old: Arc<LoadedModel<M>>) {
    let waiting = thread::Builder::new().name("retire".to_owned()).spawn(move || {
        let until = Instant::now() + LONGEST_USE;
        while Arc::strong_count(&old) > 1 && Instant::now() < until {
            thread::sleep(RETIRE_INTERVAL);
        }
        drop(old);
        release_freed_memory();
    });
    if let Err(error) = waiting {
        warn!("can't start a thread to release a model: {error}");
    }
}
