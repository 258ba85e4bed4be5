//! Names of recommended tracks: from the completion bundle, which has those of all tracks that it was trained on, and for
//! other tracks from the catalog.
//!
//! A response does not wait long for names, and for a moment after a failure the next ones don't request them: while
//! PostgreSQL is unavailable, recommendations are sent without names instead of not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::warn;

use super::catalog_watch::CatalogGate;
use crate::catalog::{Catalog, TrackName};
use crate::recommend::completion::CompletionModel;
use crate::serve::metrics::{Fallback, Metrics};
use crate::serve::models::ModelStore;

const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Looks up names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrackNames {
    catalog: Catalog,
    models: ModelStore,
    gate: CatalogGate,
    metrics: Metrics,
    began: Instant,
    /// milliseconds after `began` until which the catalog is not queried
    paused_until: Arc<AtomicU64>,
}

impl TrackNames {
    /// Returns a lookup in `catalog` and the completion model of `models`.
    pub fn new(catalog: Catalog, models: ModelStore, gate: CatalogGate, metrics: Metrics) -> Self {
        Self { catalog, models, gate, metrics, began: Instant::now(), paused_until: Arc::default() }
    }

    /// Returns the names that are available.
    pub async fn of(&self, ids: &[String]) -> HashMap<String, TrackName> {
        let mut names = HashMap::with_capacity(ids.len());
        let mut unnamed = Vec::new();
        let completion = self.models.current::<CompletionModel>();
        for id in ids {
            match completion.as_ref().and_then(|loaded| Some((loaded, loaded.model.vocabulary().row(id)?))) {
                Some((loaded, row)) => {
                    let (name, artist) = loaded.model.names(row);
                    names
                        .insert(id.clone(), TrackName { name: name.to_owned(), artist: artist.map(ToOwned::to_owned) });
                }
                None => unnamed.push(id.clone()),
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
