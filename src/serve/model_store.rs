//! The models that answer, and their replacement while requests run.
//!
//! A request takes hold of the model once and keeps it to the end, so a swap in between does not touch it. A bundle is
//! read and checked whole before it takes over; one that does not check out is refused, and what was there goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tracing::{error, info, warn};

use crate::bundle::{
    BundleError, BundleFolder, ClickBundle, CompletionBundle, Kind, Manifest, RatingsBundle, SimilarityBundle,
    current_version, versions,
};
use crate::progress::Interrupt;
use crate::recommend::SimilarityModel;
use crate::recommend::clicks::ClickModel;
use crate::recommend::completer::CompletionModel;
use crate::recommend::ratings::RatingsModel;

/// How often `current` is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often a version that was refused is tried again: files may still be on their way from another machine.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// A model with the manifest that it came with.
#[derive(Debug)]
pub struct Loaded<M> {
    /// what the bundle says of itself
    pub manifest: Manifest,
    /// ready to answer
    pub model: M,
}

/// A model that a bundle of one kind makes.
trait Served: Sized {
    const KIND: Kind;

    /// Reads a bundle and checks it whole.
    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError>;
}

impl Served for SimilarityModel {
    const KIND: Kind = Kind::Similarity;

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = SimilarityBundle::load(folder)?;
        Ok(Loaded { manifest, model: Self::new(bundle) })
    }
}

impl Served for CompletionModel {
    const KIND: Kind = Kind::Completion;

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = CompletionBundle::load(folder)?;
        Ok(Loaded { manifest, model: Self::new(bundle) })
    }
}

impl Served for RatingsModel {
    const KIND: Kind = Kind::Ratings;

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = RatingsBundle::load(folder)?;
        Ok(Loaded { manifest, model: Self::new(bundle) })
    }
}

impl Served for ClickModel {
    const KIND: Kind = Kind::Clicks;

    fn load(folder: &BundleFolder) -> Result<Loaded<Self>, BundleError> {
        let (manifest, bundle) = ClickBundle::load(folder)?;
        Ok(Loaded { manifest, model: Self::new(bundle) })
    }
}

/// The place of the model of one kind.
#[derive(Debug)]
struct Slot<M>(Arc<ArcSwapOption<Loaded<M>>>);

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Default for Slot<M> {
    fn default() -> Self {
        Self(Arc::default())
    }
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
    /// An empty store over the folder `models`.
    pub fn new(models: &Path) -> Self {
        Self {
            folder: models.to_owned(),
            completion: Slot::default(),
            similarity: Slot::default(),
            ratings: Slot::default(),
            clicks: Slot::default(),
        }
    }

    /// The model for what comes next, if one is loaded.
    pub fn completion(&self) -> Option<Arc<Loaded<CompletionModel>>> {
        self.completion.0.load_full()
    }

    /// The model for similar tracks, if one is loaded.
    pub fn similarity(&self) -> Option<Arc<Loaded<SimilarityModel>>> {
        self.similarity.0.load_full()
    }

    /// The model for what users will think of tracks, if one is loaded.
    pub fn ratings(&self) -> Option<Arc<Loaded<RatingsModel>>> {
        self.ratings.0.load_full()
    }

    /// The model for whether users come back to tracks, if one is loaded.
    pub fn clicks(&self) -> Option<Arc<Loaded<ClickModel>>> {
        self.clicks.0.load_full()
    }

    /// Manifests of the loaded models.
    pub fn manifests(&self) -> Vec<Manifest> {
        let completion = self.completion().map(|loaded| loaded.manifest.clone());
        let similarity = self.similarity().map(|loaded| loaded.manifest.clone());
        let ratings = self.ratings().map(|loaded| loaded.manifest.clone());
        let clicks = self.clicks().map(|loaded| loaded.manifest.clone());
        [completion, similarity, ratings, clicks].into_iter().flatten().collect()
    }

    /// Loads the current bundle of a kind and lets it take over. Blocking.
    pub fn load(&self, kind: Kind) -> Result<(), BundleError> {
        match kind {
            Kind::Completion => self.completion.load(&self.folder),
            Kind::Similarity => self.similarity.load(&self.folder),
            Kind::Ratings => self.ratings.load(&self.folder),
            Kind::Clicks => self.clicks.load(&self.folder),
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
                match tokio::task::spawn_blocking(move || store.load(kind)).await {
                    Ok(Ok(())) => *refused = None,
                    Ok(Err(error)) => {
                        error!("the new bundle is refused, the old one goes on: {error}");
                        *refused = Some((current, Instant::now()));
                    }
                    Err(error) => error!("loading a bundle ended badly: {error}"),
                }
            }
        }
    }
}

impl<M: Served> Slot<M> {
    fn load(&self, models: &Path) -> Result<(), BundleError> {
        self.take_over(M::load(&BundleFolder::open_current(models, M::KIND)?)?);
        Ok(())
    }

    fn load_at_start(&self, models: &Path) {
        match self.load(models) {
            Ok(()) => return,
            Err(error @ BundleError::None { .. }) => return warn!("{error}"),
            Err(error) => error!("the current bundle is refused: {error}"),
        }
        let current = current_version(models, M::KIND);
        for version in versions(models, M::KIND) {
            if Some(&version) >= current.as_ref() {
                continue;
            }
            let folder = models.join(M::KIND.as_str()).join(&version);
            match BundleFolder::open(&folder, M::KIND).and_then(|folder| M::load(&folder)) {
                Ok(loaded) => {
                    warn!(version, "serving an older bundle instead");
                    return self.take_over(loaded);
                }
                Err(error) => error!("an older bundle is refused too: {error}"),
            }
        }
        error!("no {} bundle is whole", M::KIND);
    }

    fn take_over(&self, loaded: Loaded<M>) {
        let Manifest { kind, version, data, .. } = &loaded.manifest;
        info!(%kind, version, tracks = data.tracks, playlists = data.playlists, "loaded a model");
        self.0.store(Some(Arc::new(loaded)));
    }
}
