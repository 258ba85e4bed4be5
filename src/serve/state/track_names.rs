//! Names for answers: from the completion bundle, which has those of all tracks it was trained on, and for other tracks
//! from the catalog, when it has them to hand.
//!
//! An answer does not wait long for names, and after a failure the next ones don't ask for a moment: when PostgreSQL is
//! away, recommendations go out without names instead of not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::warn;

use super::catalog_watch::Gate;
use crate::catalog::{Catalog, TrackName};
use crate::serve::ModelStore;
use crate::serve::metrics::{Fallback, Metrics};

const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Looks names up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names {
    catalog: Catalog,
    models: ModelStore,
    gate: Gate,
    metrics: Metrics,
    began: Instant,
    /// milliseconds after `began` until which nobody asks
    paused_until: Arc<AtomicU64>,
}

impl Names {
    /// Over `catalog` and the completion model of `models`.
    pub fn new(catalog: Catalog, models: ModelStore, gate: Gate, metrics: Metrics) -> Self {
        Self { catalog, models, gate, metrics, began: Instant::now(), paused_until: Arc::default() }
    }

    /// Names of those of the tracks that could be found out.
    pub async fn of(&self, ids: &[String]) -> HashMap<String, TrackName> {
        let mut names = HashMap::with_capacity(ids.len());
        let mut unnamed = Vec::new();
        let completion = self.models.completion();
        for id in ids {
            match completion.as_ref().and_then(|loaded| Some((loaded, loaded.model.vocabulary().row(id)?))) {
                Some((loaded, row)) => {
                    let (name, artist) = loaded.model.names(row);
                    names.insert(id.clone(), TrackName { name: name.to_owned(), artist: artist.to_owned() });
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
            Err(_) => "no answer in time".to_owned(),
        };
        self.metrics.fallback(Fallback::NoNames);
        warn!("answering without names: {reason}");
        let until = self.began.elapsed() + PAUSE_AFTER_FAILURE;
        self.paused_until.store(until.as_millis() as u64, Ordering::Relaxed);
        HashMap::new()
    }
}
