//! The models that answer, and their replacement while requests run.
//!
//! A request takes hold of the model once and keeps it to the end, so a swap in between does not touch it. A bundle is
//! read and checked whole before it takes over; one that does not check out is refused, and what was there goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tracing::{error, info, warn};

use super::engine::{Engine, Lane};
use super::kept::Kept;
use super::memory::give_back;
use super::metrics::Metrics;
use super::withheld::Snapshot;
use crate::bundle::{
    self, BundleError, BundleFolder, ClickBundle, CompletionBundle, Kind, Manifest, RatingsBundle, SimilarityBundle,
    Vocabulary, current_version, versions,
};
use crate::progress::Interrupt;
use crate::recommend::clicks::{ClickModel, Question};
use crate::recommend::completer::CompletionModel;
use crate::recommend::ratings::{Heard, RatingsModel};
use crate::recommend::{Completion, Recommended, SimilarityModel};

/// How often `current` is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often a version that was refused is tried again: files may still be on their way from another machine.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How long a model that was replaced is waited for, and how often it is looked whether it is still in use.
const LONGEST_USE: Duration = Duration::from_secs(60);
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);

/// Items of answers that are kept in each of two generations: 12 bytes each.
const MOST_KEPT: usize = 500_000;

/// A model with the manifest that it came with.
#[derive(Debug)]
pub struct Loaded<M> {
    /// what the bundle says of itself
    pub manifest: Manifest,
    /// ready to answer
    pub model: M,
    /// rows of the tracks that must not be recommended, rising, and the number of the list that they were looked up from
    withheld: ArcSwap<(u64, Arc<[u32]>)>,
    /// answers of similar tracks, by the number of that list, the row and the limit
    pub kept: Kept<(u64, u32, usize), Recommended>,
}

impl<M: Served> Loaded<M> {
    fn new(manifest: Manifest, model: M) -> Self {
        Self { manifest, model, withheld: ArcSwap::default(), kept: Kept::new(MOST_KEPT) }
    }

    fn open(models: &Path, version: &str) -> Result<Self, BundleError> {
        let loaded = M::load(&BundleFolder::open(&models.join(M::KIND.as_str()).join(version), M::KIND)?)?;
        loaded.model.trials().iter().for_each(|trial| trial());
        Ok(loaded)
    }

    /// Rows of the tracks of `list` that the model knows, rising. Looked up once for each list.
    pub fn withheld(&self, list: &Snapshot) -> Arc<[u32]> {
        let Some(vocabulary) = self.model.ids() else { return Arc::default() };
        let known = self.withheld.load();
        if known.0 == list.number {
            return known.1.clone();
        }
        let mut rows: Vec<u32> = list.ids().filter_map(|id| vocabulary.row(id)).collect();
        rows.sort_unstable();
        let rows: Arc<[u32]> = rows.into();
        self.withheld.store(Arc::new((list.number, rows.clone())));
        rows
    }
}

/// A piece of work for warm-up.
type Trial<'a> = Box<dyn Fn() + 'a>;

/// A model that a bundle of one kind makes.
pub trait Served: Send + Sync + Sized + 'static {
    /// the bundle's kind
    const KIND: Kind;
    /// Lanes of the engine in which its work waits.
    const LANES: &'static [Lane];

    /// The app's ids of the rows of tracks that it recommends; none for a model that only scores what it is told to.
    fn ids(&self) -> Option<&Vocabulary>;

    /// Tracks that it may recommend.
    fn candidates(&self) -> usize;

    /// Pieces of work like those that requests bring: what is mapped is in memory once they have run, and how long they take
    /// then is how long requests will take.
    fn trials(&self) -> Vec<Trial<'_>>;

    /// Reads a bundle and checks it whole.
    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError>;
}

impl Served for SimilarityModel {
    const KIND: Kind = Kind::Similarity;
    /// Without a completion model, it completes playlists too.
    const LANES: &'static [Lane] = &Lane::ALL;

    fn ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn candidates(&self) -> usize {
        Self::candidates(self)
    }

    fn trials(&self) -> Vec<Trial<'_>> {
        if self.vocabulary().is_empty() {
            return Vec::new();
        }
        vec![Box::new(|| drop(self.similar(0, 50)))]
    }

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = SimilarityBundle::load(folder)?;
        Ok(Loaded::new(manifest, Self::new(bundle)))
    }
}

impl Served for CompletionModel {
    const KIND: Kind = Kind::Completion;
    const LANES: &'static [Lane] = &[Lane::Completion, Lane::Batch];

    fn ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn candidates(&self) -> usize {
        self.bundle().index.popular.len()
    }

    fn trials(&self) -> Vec<Trial<'_>> {
        let popular = &self.bundle().index.popular;
        let trial = |seeds: &[u32]| -> Trial<'_> {
            let (title, seeds) = (Some("summer hits".to_owned()), seeds.to_vec());
            let playlist = Completion { title, seeds, limit: 100, ..Completion::default() };
            Box::new(move || drop(self.complete(&playlist)))
        };
        vec![trial(&popular[..popular.len().min(5)]), trial(&popular[popular.len() / 2..][..popular.len().min(1)])]
    }

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = CompletionBundle::load(folder)?;
        Ok(Loaded::new(manifest, Self::new(bundle)))
    }
}

impl Served for RatingsModel {
    const KIND: Kind = Kind::Ratings;
    const LANES: &'static [Lane] = &[Lane::Quick];

    fn ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn candidates(&self) -> usize {
        self.vocabulary().len()
    }

    fn trials(&self) -> Vec<Trial<'_>> {
        if self.vocabulary().is_empty() {
            return Vec::new();
        }
        vec![Box::new(|| {
            let taste = self.taste(&[Heard { row: 0, rating: None, at: 0 }]);
            self.recommend(&taste, &[], 50);
        })]
    }

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = RatingsBundle::load(folder)?;
        Ok(Loaded::new(manifest, Self::new(bundle)))
    }
}

/// Other versions that requests name are kept loaded, so many of each kind.
const MOST_PINNED: usize = 2;

/// A second version that answers too, unseen.
#[derive(Debug)]
pub struct Shadow<M> {
    /// the version
    pub loaded: Arc<Loaded<M>>,
    /// one request in so many
    pub every: u64,
    seen: AtomicU64,
}

impl<M> Shadow<M> {
    /// Whether the next request is one of those that it answers.
    pub fn is_due(&self) -> bool {
        self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every)
    }
}

impl Served for ClickModel {
    const KIND: Kind = Kind::Clicks;
    const LANES: &'static [Lane] = &[Lane::Quick];

    fn ids(&self) -> Option<&Vocabulary> {
        None
    }

    fn candidates(&self) -> usize {
        self.bundle().tracks.len()
    }

    fn trials(&self) -> Vec<Trial<'_>> {
        let question = Question { user: String::new(), tracks: vec![String::new()], ..Question::default() };
        vec![Box::new(move || drop(self.answer(&question)))]
    }

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = ClickBundle::load(folder)?;
        Ok(Loaded::new(manifest, Self::new(bundle)))
    }
}

/// The place of the model of one kind.
#[derive(Debug)]
pub struct Slot<M> {
    current: Arc<ArcSwapOption<Loaded<M>>>,
    /// held by whoever replaces it: what was read first must not take over last
    replacing: Arc<Mutex<()>>,
    shadow: Arc<ArcSwapOption<Shadow<M>>>,
    /// other versions that requests named, the one loaded last at the end
    pinned: Arc<ArcSwap<Vec<Arc<Loaded<M>>>>>,
    /// held by whoever loads one of them
    pinning: Arc<tokio::sync::Mutex<()>>,
    metrics: Metrics,
    engine: Engine,
}

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
            replacing: self.replacing.clone(),
            shadow: self.shadow.clone(),
            pinned: self.pinned.clone(),
            pinning: self.pinning.clone(),
            metrics: self.metrics.clone(),
            engine: self.engine.clone(),
        }
    }
}

/// Why a version can't be had.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// None of that name is published.
    #[error("no {0} model of the version {1:?} is published; GET /models lists those that are")]
    Unknown(Kind, String),
    /// It is not whole.
    #[error("the {0} model of the version {1:?} is refused: {2}")]
    Refused(Kind, String, #[source] BundleError),
    /// It is whole, and can't be made the current one.
    #[error("the models folder can't be written: {0}")]
    ReadOnly(#[source] BundleError),
}

/// The loaded models. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelStore {
    folder: PathBuf,
    completion: Slot<CompletionModel>,
    similarity: Slot<SimilarityModel>,
    ratings: Slot<RatingsModel>,
    clicks: Slot<ClickModel>,
}

impl ModelStore {
    /// An empty store over the folder `models`. The models that it loads tell the engine how long their work takes.
    pub fn new(models: &Path, metrics: &Metrics, engine: &Engine) -> Self {
        Self {
            folder: models.to_owned(),
            completion: Slot::new(metrics, engine),
            similarity: Slot::new(metrics, engine),
            ratings: Slot::new(metrics, engine),
            clicks: Slot::new(metrics, engine),
        }
    }

    /// A version of the model for what comes next; the current one if none is named.
    pub async fn completion_of(
        &self,
        version: Option<&str>,
    ) -> Result<Option<Arc<Loaded<CompletionModel>>>, VersionError> {
        self.completion.version(&self.folder, version).await
    }

    /// A version of the model for similar tracks; the current one if none is named.
    pub async fn similarity_of(
        &self,
        version: Option<&str>,
    ) -> Result<Option<Arc<Loaded<SimilarityModel>>>, VersionError> {
        self.similarity.version(&self.folder, version).await
    }

    /// A version of the model for what users will think of tracks; the current one if none is named.
    pub async fn ratings_of(&self, version: Option<&str>) -> Result<Option<Arc<Loaded<RatingsModel>>>, VersionError> {
        self.ratings.version(&self.folder, version).await
    }

    /// The second version for what comes next.
    pub fn completion_shadow(&self) -> Option<Arc<Shadow<CompletionModel>>> {
        self.completion.shadow.load_full()
    }

    /// The second version for similar tracks.
    pub fn similarity_shadow(&self) -> Option<Arc<Shadow<SimilarityModel>>> {
        self.similarity.shadow.load_full()
    }

    /// The second version for what users will think of tracks.
    pub fn ratings_shadow(&self) -> Option<Arc<Shadow<RatingsModel>>> {
        self.ratings.shadow.load_full()
    }

    /// The second version for whether users come back to tracks.
    pub fn clicks_shadow(&self) -> Option<Arc<Shadow<ClickModel>>> {
        self.clicks.shadow.load_full()
    }

    /// Versions that are published, newest first.
    pub fn published(&self, kind: Kind) -> Vec<String> {
        versions(&self.folder, kind)
    }

    /// A version of the model for whether users come back to tracks; the current one if none is named.
    pub async fn clicks_of(&self, version: Option<&str>) -> Result<Option<Arc<Loaded<ClickModel>>>, VersionError> {
        self.clicks.version(&self.folder, version).await
    }

    /// All versions of the model for whether users come back to tracks that are loaded: each has to hear of listens.
    pub fn all_clicks(&self) -> Vec<Arc<Loaded<ClickModel>>> {
        self.clicks.all()
    }

    /// Makes a published version the current one, here at once and by and by in every server of this models folder.
    /// Blocking.
    pub fn activate(&self, kind: Kind, version: &str) -> Result<(), VersionError> {
        match kind {
            Kind::Completion => self.completion.activate(&self.folder, version),
            Kind::Similarity => self.similarity.activate(&self.folder, version),
            Kind::Ratings => self.ratings.activate(&self.folder, version),
            Kind::Clicks => self.clicks.activate(&self.folder, version),
        }
    }

    /// Has a published version answer one in `every` requests too, unseen; none ends that. Blocking.
    pub fn set_shadow(&self, kind: Kind, version: Option<&str>, every: u64) -> Result<(), VersionError> {
        match kind {
            Kind::Completion => self.completion.set_shadow(&self.folder, version, every),
            Kind::Similarity => self.similarity.set_shadow(&self.folder, version, every),
            Kind::Ratings => self.ratings.set_shadow(&self.folder, version, every),
            Kind::Clicks => self.clicks.set_shadow(&self.folder, version, every),
        }
    }

    /// The model for what comes next, if one is loaded.
    pub fn completion(&self) -> Option<Arc<Loaded<CompletionModel>>> {
        self.completion.current.load_full()
    }

    /// The model for similar tracks, if one is loaded.
    pub fn similarity(&self) -> Option<Arc<Loaded<SimilarityModel>>> {
        self.similarity.current.load_full()
    }

    /// The model for what users will think of tracks, if one is loaded.
    pub fn ratings(&self) -> Option<Arc<Loaded<RatingsModel>>> {
        self.ratings.current.load_full()
    }

    /// The model for whether users come back to tracks, if one is loaded.
    pub fn clicks(&self) -> Option<Arc<Loaded<ClickModel>>> {
        self.clicks.current.load_full()
    }

    /// Manifests of the loaded models.
    pub fn manifests(&self) -> Vec<Manifest> {
        let completion = self.completion().map(|loaded| loaded.manifest.clone());
        let similarity = self.similarity().map(|loaded| loaded.manifest.clone());
        let ratings = self.ratings().map(|loaded| loaded.manifest.clone());
        let clicks = self.clicks().map(|loaded| loaded.manifest.clone());
        [completion, similarity, ratings, clicks].into_iter().flatten().collect()
    }

    /// Loads the current bundle of a kind and lets it take over, loaded already or not. Blocking.
    pub fn load(&self, kind: Kind) -> Result<(), BundleError> {
        self.load_current(kind, true)
    }

    fn load_current(&self, kind: Kind, again: bool) -> Result<(), BundleError> {
        match kind {
            Kind::Completion => self.completion.load(&self.folder, again),
            Kind::Similarity => self.similarity.load(&self.folder, again),
            Kind::Ratings => self.ratings.load(&self.folder, again),
            Kind::Clicks => self.clicks.load(&self.folder, again),
        }
    }

    /// Loads the current bundle of each kind, or failing that the newest older one that is whole. Blocking.
    ///
    /// A server that comes back up at night on a damaged disk answers from last week's model rather than not at all.
    pub fn load_at_start(&self) {
        self.completion.load_at_start(&self.folder);
        self.similarity.load_at_start(&self.folder);
        self.ratings.load_at_start(&self.folder);
        self.clicks.load_at_start(&self.folder);
        if self.manifests().is_empty() {
            warn!("no model is loaded; requests for recommendations get 503 until one is published");
        }
    }

    /// Loads whatever `current` comes to point at, for each kind, until interrupted.
    pub async fn watch(self, interrupt: Interrupt) {
        let mut refused: Vec<Option<(String, Instant)>> = vec![None; Kind::ALL.len()];
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = interrupt.raised() => return,
            }
            for (kind, refused) in Kind::ALL.into_iter().zip(&mut refused) {
                let loaded = self.manifests().into_iter().find(|manifest| manifest.kind == kind);
                let loaded = loaded.map(|manifest| manifest.version);
                let current = current_version(&self.folder, kind);
                let Some(current) = current.filter(|current| Some(current) != loaded.as_ref()) else { continue };
                if refused.as_ref().is_some_and(|(version, at)| *version == current && at.elapsed() < RETRY_INTERVAL) {
                    continue;
                }
                let store = self.clone();
                match tokio::task::spawn_blocking(move || store.load_current(kind, false)).await {
                    Ok(Ok(())) => *refused = None,
                    Ok(Err(error)) => {
                        error!("the new bundle is refused, the old one goes on: {error}");
                        self.similarity.metrics.refused(kind);
                        *refused = Some((current, Instant::now()));
                    }
                    Err(error) => error!("loading a bundle ended badly: {error}"),
                }
            }
        }
    }
}

impl<M: Served> Slot<M> {
    fn new(metrics: &Metrics, engine: &Engine) -> Self {
        let (current, replacing, shadow, pinned, pinning) = Default::default();
        Self { current, replacing, shadow, pinned, pinning, metrics: metrics.clone(), engine: engine.clone() }
    }

    fn replacing(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the current version; `again`: even if it is the one that is loaded.
    fn load(&self, models: &Path, again: bool) -> Result<(), BundleError> {
        let _replacing = self.replacing();
        let began = Instant::now();
        let none = || BundleError::None { kind: M::KIND, folder: models.join(M::KIND.as_str()) };
        let version = current_version(models, M::KIND).ok_or_else(none)?;
        if !again && self.current.load().as_ref().is_some_and(|loaded| loaded.manifest.version == version) {
            return Ok(());
        }
        self.take_over(Loaded::open(models, &version)?, began);
        Ok(())
    }

    /// Only what is listed is opened: a version is a name, not a path.
    fn find(models: &Path, version: &str) -> Result<(), VersionError> {
        match versions(models, M::KIND).iter().any(|published| published == version) {
            true => Ok(()),
            false => Err(VersionError::Unknown(M::KIND, version.to_owned())),
        }
    }

    fn open(models: &Path, version: &str) -> Result<Loaded<M>, VersionError> {
        Self::find(models, version)?;
        Loaded::open(models, version).map_err(|error| VersionError::Refused(M::KIND, version.to_owned(), error))
    }

    async fn version(&self, models: &Path, version: Option<&str>) -> Result<Option<Arc<Loaded<M>>>, VersionError> {
        let current = self.current.load_full();
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
        let (models, name) = (models.to_owned(), version.to_owned());
        let opened = tokio::task::spawn_blocking(move || Self::open(&models, &name)).await;
        let lost = |_| VersionError::Unknown(M::KIND, version.to_owned());
        let loaded = Arc::new(opened.map_err(lost)??);
        let mut pinned = self.pinned.load().to_vec();
        pinned.push(loaded.clone());
        let beyond = pinned.len().saturating_sub(MOST_PINNED);
        let old: Vec<_> = pinned.drain(..beyond).collect();
        self.pinned.store(Arc::new(pinned));
        old.into_iter().for_each(retire);
        Ok(Some(loaded))
    }

    /// All versions that are loaded.
    fn all(&self) -> Vec<Arc<Loaded<M>>> {
        let shadow = self.shadow.load().as_ref().map(|shadow| shadow.loaded.clone());
        let pinned = self.pinned.load();
        self.current.load_full().into_iter().chain(shadow).chain(pinned.iter().cloned()).collect()
    }

    fn activate(&self, models: &Path, version: &str) -> Result<(), VersionError> {
        let _replacing = self.replacing();
        let began = Instant::now();
        let loaded = Self::open(models, version)?;
        bundle::activate(models, M::KIND, version).map_err(VersionError::ReadOnly)?;
        self.take_over(loaded, began);
        Ok(())
    }

    fn set_shadow(&self, models: &Path, version: Option<&str>, every: u64) -> Result<(), VersionError> {
        let loaded = version.map(|version| Self::open(models, version)).transpose()?;
        let shadow =
            loaded.map(|loaded| Shadow { loaded: Arc::new(loaded), every: every.max(1), seen: AtomicU64::new(0) });
        if let Some(old) = self.shadow.swap(shadow.map(Arc::new)) {
            retire(old.loaded.clone());
        }
        Ok(())
    }

    fn load_at_start(&self, models: &Path) {
        match self.load(models, true) {
            Ok(()) => return,
            Err(error @ BundleError::None { .. }) => return warn!("{error}"),
            Err(error) => error!("the current bundle is refused: {error}"),
        }
        let current = current_version(models, M::KIND);
        for version in versions(models, M::KIND) {
            if Some(&version) >= current.as_ref() {
                continue;
            }
            let began = Instant::now();
            match Loaded::open(models, &version) {
                Ok(loaded) => {
                    warn!(version, "serving an older bundle instead");
                    return self.take_over(loaded, began);
                }
                Err(error) => error!("an older bundle is refused too: {error}"),
            }
        }
        error!("no {} bundle is whole", M::KIND);
    }

    fn take_over(&self, loaded: Loaded<M>, began: Instant) {
        for trial in loaded.model.trials() {
            let began = Instant::now();
            trial();
            let seconds = began.elapsed().as_secs_f64();
            M::LANES.iter().for_each(|&lane| self.engine.warm(lane, seconds));
        }
        let Manifest { kind, version, data, .. } = &loaded.manifest;
        info!(%kind, version, tracks = data.tracks, playlists = data.playlists, "loaded a model");
        self.metrics.swapped(&loaded.manifest, loaded.model.candidates(), began.elapsed().as_secs_f64());
        if let Some(old) = self.current.swap(Some(Arc::new(loaded))) {
            retire(old);
        }
    }
}

/// Lets go of a model once the requests that hold it are done: on a thread of its own, for none of them should be the one
/// that waits while its arrays are freed.
fn retire<M: Served>(old: Arc<Loaded<M>>) {
    let waiting = thread::Builder::new().name("retire".to_owned()).spawn(move || {
        let until = Instant::now() + LONGEST_USE;
        while Arc::strong_count(&old) > 1 && Instant::now() < until {
            thread::sleep(RETIRE_INTERVAL);
        }
        drop(old);
        give_back();
    });
    if let Err(error) = waiting {
        warn!("there is no thread to let go of a model: {error}");
    }
}
