//! Names of recommended tracks: from the completion bundle, which has those of all tracks that it was trained on. Names that
//! changed since, and those of other tracks, come from the catalog.
//!
//! Which names changed is in memory: the server notes its own changes at once, and PostgreSQL notifies it of changes by
//! others.
//!
//! A response does not wait long for names, and for a moment after a failure the next ones don't request them: while
//! PostgreSQL is unavailable, recommendations are sent with names of the bundle, or without names, instead of not at all.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::warn;

use super::catalog_gate::CatalogGate;
use crate::catalog::{Catalog, CatalogError, Track, TrackName};
use crate::recommend::completion::CompletionModel;
use crate::serve::metrics::{Fallback, Metrics};
use crate::serve::models::{LoadedModel, ModelStore};

const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// No transaction of a writer takes longer. A change carries the time at which its transaction began, so that later ones
/// may be read before it.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(600);

/// Looks up names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrackNames {
    catalog: Catalog,
    models: ModelStore,
    gate: CatalogGate,
    metrics: Metrics,
    renamed: Arc<RwLock<Renamed>>,
    began: Instant,
    /// milliseconds after `began` until which the catalog is not queried
    paused_until: Arc<AtomicU64>,
}

/// Which tracks got other names, and when. Ids are hashed: if two have one hash, a name is looked up in vain.
#[derive(Debug, Default)]
struct Renamed {
    at: HashMap<u64, OffsetDateTime>,
    hasher: RandomState,
    /// the newest change that was read from the catalog
    newest_read: Option<OffsetDateTime>,
}

impl Renamed {
    fn note(&mut self, id: &str, at: OffsetDateTime) {
        let newest = self.at.entry(self.hasher.hash_one(id)).or_insert(at);
        *newest = at.max(*newest);
    }

    /// Whether the name of a track changed after `moment`.
    fn is_newer(&self, id: &str, moment: OffsetDateTime) -> bool {
        self.at.get(&self.hasher.hash_one(id)).is_some_and(|&at| at > moment)
    }
}

impl TrackNames {
    /// Returns a lookup in `catalog` and the completion model of `models`.
    pub fn new(catalog: Catalog, models: ModelStore, gate: CatalogGate, metrics: Metrics) -> Self {
        let (renamed, paused_until) = Default::default();
        Self { catalog, models, gate, metrics, renamed, began: Instant::now(), paused_until }
    }

    /// Reads which names changed, but for changes read before.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let newest_read = self.renamed.read().unwrap_or_else(PoisonError::into_inner).newest_read;
        let since = newest_read.map(|newest| newest - LONGEST_TRANSACTION);
        let tracks = self.catalog.renamed_tracks(since).await?;
        let mut renamed = self.renamed.write().unwrap_or_else(PoisonError::into_inner);
        for track in tracks {
            renamed.note(&track.id, track.at);
            renamed.newest_read = renamed.newest_read.max(Some(track.at));
        }
        Ok(())
    }

    /// Notes that the catalog has this name for a track, if the completion model has another one.
    pub fn note(&self, track: &Track) {
        let Some(loaded) = self.models.current::<CompletionModel>() else { return };
        let Some(row) = loaded.model.vocabulary().row(track.id.as_str()) else { return };
        if loaded.model.names(row) != (&track.name, track.artist.as_deref()) {
            let mut renamed = self.renamed.write().unwrap_or_else(PoisonError::into_inner);
            renamed.note(track.id.as_str(), OffsetDateTime::now_utc());
        }
    }

    /// Returns the names that are available.
    pub async fn of(&self, ids: &[String]) -> HashMap<String, TrackName> {
        let mut names = HashMap::with_capacity(ids.len());
        let mut unnamed = Vec::new();
        let completion = self.models.current::<CompletionModel>();
        {
            let renamed = self.renamed.read().unwrap_or_else(PoisonError::into_inner);
            let moment = completion.as_deref().map(named_at);
            for id in ids {
                let known = completion.as_ref().and_then(|loaded| Some((loaded, loaded.model.vocabulary().row(id)?)));
                if let Some((loaded, row)) = known {
                    let (name, artist) = loaded.model.names(row);
                    names
                        .insert(id.clone(), TrackName { name: name.to_owned(), artist: artist.map(ToOwned::to_owned) });
                }
                if known.is_none() || moment.is_some_and(|moment| renamed.is_newer(id, moment)) {
                    unnamed.push(id.clone());
                }
            }
        }
        names.extend(self.of_catalog(&unnamed).await);
        names
    }

    async fn of_catalog(&self, ids: &[String]) -> HashMap<String, TrackName> {
        let now = self.began.elapsed();
        if ids.is_empty() {
            return HashMap::new();
        }
        if !self.gate.is_open() || (now.as_millis() as u64) < self.paused_until.load(Ordering::Relaxed) {
            self.metrics.fallback(Fallback::NoNames);
            return HashMap::new();
        }
        let reason = match tokio::time::timeout(PATIENCE, self.catalog.track_names(ids)).await {
            Ok(Ok(names)) => return names,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no reply in time".to_owned(),
        };
        self.metrics.fallback(Fallback::NoNames);
        warn!("responding without names: {reason}");
        let until = self.began.elapsed() + PAUSE_AFTER_FAILURE;
        self.paused_until.store(until.as_millis() as u64, Ordering::Relaxed);
        HashMap::new()
    }
}

/// Returns when the names in a bundle were current.
fn named_at(loaded: &LoadedModel<CompletionModel>) -> OffsetDateTime {
    let newest_change = loaded.manifest.data.newest_change.as_deref();
    newest_change.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
