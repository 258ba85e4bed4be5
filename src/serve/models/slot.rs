//! The loaded versions of one kind of model: the current one, a shadow version, and versions that requests named.
//!
//! A request takes a reference to its model and keeps it to the end, so replacing the model does not affect it. A bundle
//! is read and verified as a whole before it takes over; if verification fails, the previous model keeps serving.
//!
//! Versions are loaded one at a time, whoever requests them, and one that is loaded already is shared: any number of
//! requests for a version read its files once.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
/// How long a version that failed verification is rejected without being read again when requests name it.
const REJECTED_FOR: Duration = Duration::from_secs(60);

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
    /// Loads a bundle and tries it out. A panic is a failed verification like any other.
    fn open(models: &Path, version: &str) -> Result<Self, BundleError> {
        let file = models.join(M::KIND.as_str()).join(version);
        let load = || {
            let (manifest, model) = M::load(&BundleFolder::open(&file, M::KIND)?)?;
            model.trials().iter().for_each(|trial| trial());
            Ok((manifest, model))
        };
        let (manifest, model) = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(BundleError::File { file: file.clone(), reason: format!("it can't be loaded: {text}") })
        })?;
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
    Damaged(Kind, String, #[source] Arc<BundleError>),
    /// The bundle passed verification, but can't become the current one.
    #[error("can't write the models folder: {0}")]
    ReadOnly(#[source] BundleError),
    /// The server stopped meanwhile.
    #[error("the server stopped before the version was loaded")]
    Stopped,
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

    /// Returns the lock that a request holds while it has a version loaded.
    fn turn(&self) -> &Arc<tokio::sync::Mutex<()>>;
}

/// The version that failed verification last when a request named it.
#[derive(Debug)]
struct Rejection {
    version: String,
    error: Arc<BundleError>,
    at: Instant,
}

/// The loaded versions of one kind of model.
#[derive(Debug)]
pub struct Slot<M> {
    /// the models folder
    models: PathBuf,
    current: ArcSwapOption<LoadedModel<M>>,
    shadow: ArcSwapOption<ShadowVersion<M>>,
    /// other versions that requests named, the one loaded last at the end
    pinned: ArcSwap<Vec<Arc<LoadedModel<M>>>>,
    /// held from before a version is loaded until it has its place: what was read first must not take over last
    loading: Mutex<Option<Rejection>>,
    /// held by the request that has a version loaded, and by the load itself if the request is canceled
    turn: Arc<tokio::sync::Mutex<()>>,
    metrics: Metrics,
    engine: Engine,
}

impl<M: ServedModel> Slot<M> {
    /// Returns an empty slot over the folder `models`. Its models tell the engine how long their work takes.
    pub fn new(models: &Path, metrics: &Metrics, engine: &Engine) -> Self {
        let (current, shadow, pinned, loading, turn) = Default::default();
        let (metrics, engine) = (metrics.clone(), engine.clone());
        Self { models: models.to_owned(), current, shadow, pinned, loading, turn, metrics, engine }
    }

    fn loading(&self) -> MutexGuard<'_, Option<Rejection>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current version, if one is loaded.
    pub fn current(&self) -> Option<Arc<LoadedModel<M>>> {
        self.current.load_full()
    }

    /// Returns a version if it is loaded, for whatever purpose.
    pub fn loaded(&self, version: &str) -> Option<Arc<LoadedModel<M>>> {
        self.all().into_iter().find(|loaded| loaded.manifest.version == version)
    }

    /// Returns a version that a request names, loading it if necessary. Blocking.
    pub fn pin(&self, version: &str) -> Result<Arc<LoadedModel<M>>, VersionError> {
        let mut rejection = self.loading();
        if let Some(loaded) = self.loaded(version) {
            return Ok(loaded);
        }
        let recent = rejection.as_ref().filter(|known| known.version == version && known.at.elapsed() < REJECTED_FOR);
        if let Some(Rejection { error, .. }) = recent {
            return Err(VersionError::Damaged(M::KIND, version.to_owned(), error.clone()));
        }
        self.check_published(version)?;
        // Space first: at no time are there more.
        let mut pinned = self.pinned.load().to_vec();
        let excess = (pinned.len() + 1).saturating_sub(MAX_PINNED);
        let old: Vec<_> = pinned.drain(..excess).collect();
        self.pinned.store(Arc::new(pinned.clone()));
        old.into_iter().for_each(retire);
        let loaded = self.open(version).map_err(|error| {
            let error = Arc::new(error);
            *rejection = Some(Rejection { version: version.to_owned(), error: error.clone(), at: Instant::now() });
            VersionError::Damaged(M::KIND, version.to_owned(), error)
        })?;
        pinned.push(loaded.clone());
        self.pinned.store(Arc::new(pinned));
        Ok(loaded)
    }

    /// Returns the shadow version if it also answers the next request.
    pub fn due_shadow(&self) -> Option<Arc<LoadedModel<M>>> {
        let shadow = self.shadow.load();
        let shadow = shadow.as_ref()?;
        let is_due = shadow.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(shadow.every);
        is_due.then(|| shadow.loaded.clone())
    }

    /// Returns all versions that are loaded, each once.
    pub fn all(&self) -> Vec<Arc<LoadedModel<M>>> {
        let shadow = self.shadow.load().as_ref().map(|shadow| shadow.loaded.clone());
        let pinned = self.pinned.load();
        let mut all: Vec<Arc<LoadedModel<M>>> = Vec::with_capacity(pinned.len() + 2);
        for loaded in self.current().into_iter().chain(shadow).chain(pinned.iter().cloned()) {
            if !all.iter().any(|other| Arc::ptr_eq(other, &loaded)) {
                all.push(loaded);
            }
        }
        all
    }

    /// Checks that a version is published: it is a name, not a path.
    fn check_published(&self, version: &str) -> Result<(), VersionError> {
        match versions(&self.models, M::KIND).iter().any(|published| published == version) {
            true => Ok(()),
            false => Err(VersionError::Unknown(M::KIND, version.to_owned())),
        }
    }

    fn open(&self, version: &str) -> Result<Arc<LoadedModel<M>>, BundleError> {
        let began = Instant::now();
        let loaded = LoadedModel::open(&self.models, version)?;
        self.metrics.model_loaded(M::KIND, began.elapsed().as_secs_f64());
        Ok(Arc::new(loaded))
    }

    /// Returns a published version, loading it if it is not loaded yet.
    fn obtain(&self, version: &str) -> Result<Arc<LoadedModel<M>>, VersionError> {
        self.check_published(version)?;
        let loaded = self.loaded(version).map_or_else(|| self.open(version), Ok);
        loaded.map_err(|error| VersionError::Damaged(M::KIND, version.to_owned(), Arc::new(error)))
    }

    fn take_over(&self, loaded: Arc<LoadedModel<M>>) {
        for trial in loaded.model.trials() {
            let began = Instant::now();
            trial();
            let seconds = began.elapsed().as_secs_f64();
            M::LANES.iter().for_each(|&lane| self.engine.warm(lane, seconds));
        }
        let Manifest { kind, version, data, .. } = &loaded.manifest;
        info!(%kind, version, tracks = data.tracks, playlists = data.playlists, "loaded a model");
        self.metrics.model_swapped(&loaded.manifest, loaded.model.candidates());
        // As the current one it needs no other place.
        let mut pinned = self.pinned.load().to_vec();
        pinned.retain(|other| !Arc::ptr_eq(other, &loaded));
        self.pinned.store(Arc::new(pinned));
        if let Some(old) = self.current.swap(Some(loaded)) {
            retire(old);
        }
    }
}

impl<M: ServedModel> KindSlot for Slot<M> {
    fn load(&self, reload: bool) -> Result<(), BundleError> {
        let _loading = self.loading();
        let none = || BundleError::None { kind: M::KIND, folder: self.models.join(M::KIND.as_str()) };
        let version = current_version(&self.models, M::KIND).ok_or_else(none)?;
        if !reload && self.current.load().as_ref().is_some_and(|loaded| loaded.manifest.version == version) {
            return Ok(());
        }
        let loaded = self.loaded(&version).filter(|_| !reload);
        self.take_over(loaded.map_or_else(|| self.open(&version), Ok)?);
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
            match self.open(&version) {
                Ok(loaded) => {
                    warn!(version, "serving an older bundle instead");
                    return self.take_over(loaded);
                }
                Err(error) => error!("an older bundle failed verification too: {error}"),
            }
        }
        error!("no {} bundle passed verification", M::KIND);
    }

    fn activate(&self, version: &str) -> Result<(), VersionError> {
        let _loading = self.loading();
        let loaded = self.obtain(version)?;
        bundle::activate(&self.models, M::KIND, version).map_err(VersionError::ReadOnly)?;
        if !self.current().is_some_and(|current| Arc::ptr_eq(&current, &loaded)) {
            self.take_over(loaded);
        }
        Ok(())
    }

    fn set_shadow(&self, version: Option<&str>, every: u64) -> Result<(), VersionError> {
        let _loading = self.loading();
        let loaded = version.map(|version| self.obtain(version)).transpose()?;
        let shadow =
            loaded.map(|loaded| Arc::new(ShadowVersion { loaded, every: every.max(1), requests: AtomicU64::new(0) }));
        if let Some(old) = self.shadow.swap(shadow) {
            retire(old.loaded.clone());
        }
        Ok(())
    }

    fn turn(&self) -> &Arc<tokio::sync::Mutex<()>> {
        &self.turn
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{BundleWriter, NewManifest, Vocabulary};
    use crate::dataset::DataFingerprint;
    use crate::serve::capacity::lane::Lane;
    use crate::serve::models::served::Trial;

    #[derive(Debug)]
    struct Panicking;

    impl ServedModel for Panicking {
        const KIND: Kind = Kind::Clicks;
        const LANES: &'static [Lane] = &[];

        fn load(_: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
            panic!("on purpose")
        }

        fn track_ids(&self) -> Option<&Vocabulary> {
            None
        }

        fn tracks(&self) -> usize {
            0
        }

        fn dimensions(&self) -> usize {
            0
        }

        fn trials(&self) -> Vec<Trial<'_>> {
            Vec::new()
        }
    }

    #[test]
    fn a_panic_while_a_bundle_is_loaded_is_a_failed_verification() {
        let models = tempfile::tempdir().expect("a folder");
        let data =
            DataFingerprint { playlists: 0, tracks: 0, placements: 0, newest_change: None, sha256: String::new() };
        let (parameters, metrics) = (serde_json::Value::Null, serde_json::Value::Null);
        let writer = BundleWriter::begin(models.path(), Kind::Clicks).expect("begins");
        let version = writer.publish(NewManifest { seed: 1, parameters, data, metrics }).expect("published").version;
        let error = LoadedModel::<Panicking>::open(models.path(), &version).expect_err("it panics").to_string();
        assert!(error.contains(&version) && error.contains("on purpose"), "{error}");
    }
}
