//! The models that answer, and their replacement while requests run.
//!
//! A request takes hold of the model once and keeps it to the end, so a swap in between does not touch it. A bundle is
//! read and checked whole before it takes over; one that does not check out is refused, and what was there goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tracing::{error, info, warn};

use crate::bundle::{BundleError, BundleFolder, Kind, Manifest, SimilarityBundle, current_version, versions};
use crate::progress::Interrupt;
use crate::recommend::SimilarityModel;

/// How often `current` is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often a version that was refused is tried again: files may still be on their way from another machine.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// A model with the manifest that it came with.
#[derive(Debug)]
pub struct LoadedModel {
    /// what the bundle says of itself
    pub manifest: Manifest,
    /// ready to answer
    pub model: SimilarityModel,
}

/// The loaded models. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelStore {
    folder: PathBuf,
    similarity: Arc<ArcSwapOption<LoadedModel>>,
}

impl ModelStore {
    /// An empty store over the folder `models`.
    pub fn new(models: &Path) -> Self {
        Self { folder: models.to_owned(), similarity: Arc::default() }
    }

    /// The model for similar tracks, if one is loaded.
    pub fn similarity(&self) -> Option<Arc<LoadedModel>> {
        self.similarity.load_full()
    }

    /// Loads the current bundle and lets it take over. Blocking.
    pub fn load(&self) -> Result<(), BundleError> {
        self.take_over(SimilarityBundle::load_current(&self.folder)?);
        Ok(())
    }

    /// Loads the current bundle, or failing that the newest older one that is whole. Blocking.
    ///
    /// A server that comes back up at night on a damaged disk answers from last week's model rather than not at all.
    pub fn load_at_start(&self) {
        match self.load() {
            Ok(()) => return,
            Err(error @ BundleError::None { .. }) => {
                warn!("{error}; requests for recommendations get 503 until then");
                return;
            }
            Err(error) => error!("the current bundle is refused: {error}"),
        }
        let current = current_version(&self.folder, Kind::Similarity);
        for version in versions(&self.folder, Kind::Similarity) {
            if Some(&version) >= current.as_ref() {
                continue;
            }
            let folder = self.folder.join(Kind::Similarity.as_str()).join(&version);
            let loaded =
                BundleFolder::open(&folder, Kind::Similarity).and_then(|folder| SimilarityBundle::load(&folder));
            match loaded {
                Ok(loaded) => {
                    warn!(version, "serving an older bundle instead");
                    return self.take_over(loaded);
                }
                Err(error) => error!("an older bundle is refused too: {error}"),
            }
        }
        error!("no bundle is whole; requests for recommendations get 503 until one is published");
    }

    fn take_over(&self, (manifest, bundle): (Manifest, SimilarityBundle)) {
        let model = SimilarityModel::new(bundle);
        info!(
            kind = %manifest.kind,
            version = manifest.version,
            tracks = model.vocabulary().len(),
            dimensions = model.dimensions(),
            "loaded a model"
        );
        self.similarity.store(Some(Arc::new(LoadedModel { manifest, model })));
    }

    /// Loads whatever `current` comes to point at, until interrupted.
    pub async fn watch(self, interrupt: Interrupt) {
        let mut refused: Option<(String, Instant)> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = interrupt.raised() => return,
            }
            let current = current_version(&self.folder, Kind::Similarity);
            let loaded = self.similarity().map(|loaded| loaded.manifest.version.clone());
            let Some(current) = current.filter(|current| Some(current) != loaded.as_ref()) else { continue };
            if refused.as_ref().is_some_and(|(version, at)| *version == current && at.elapsed() < RETRY_INTERVAL) {
                continue;
            }
            let store = self.clone();
            match tokio::task::spawn_blocking(move || store.load()).await {
                Ok(Ok(())) => refused = None,
                Ok(Err(error)) => {
                    error!("the new bundle is refused, the old one goes on: {error}");
                    refused = Some((current, Instant::now()));
                }
                Err(error) => error!("loading a bundle ended badly: {error}"),
            }
        }
    }
}
