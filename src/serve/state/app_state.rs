//! The state that handlers share.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::catalog_gate::CatalogGate;
use super::catalog_watch::CatalogWatch;
use super::hidden_tracks::HiddenTracks;
use super::track_names::TrackNames;
use crate::bundle::Kind;
use crate::catalog::{Catalog, PlaylistId, RatingScale};
use crate::serve::access::keys::KeyRing;
use crate::serve::access::rate_limit::Limits;
use crate::serve::capacity::catalog_admission::{CatalogAdmission, Permit};
use crate::serve::capacity::engine::Engine;
use crate::serve::capacity::playlist_queue::{PlaylistQueue, Turn};
use crate::serve::http::ndjson::BulkLimits;
use crate::serve::http::problem::ApiError;
use crate::serve::metrics::Metrics;
use crate::serve::models::batches::{NearestBatch, ScoreBatch, nearest_batch, score_batch};
use crate::serve::models::shadow::ShadowThread;
use crate::serve::models::store::StoredModel;
use crate::serve::models::{LoadedModel, ModelStore};
use crate::serve::settings::ServeSettings;

/// Longest wait of a write for one of the connections that writes may use.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// The state that handlers share. Cheap to clone: each layer that a request passes has one.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of [`AppState`].
#[derive(Debug)]
pub struct Parts {
    /// the catalog, available or not: [`AppState::catalog`] checks first
    pub catalog: Catalog,
    /// whether it is available
    pub gate: CatalogGate,
    /// admits requests that use it
    pub catalog_admission: CatalogAdmission,
    /// admits requests that write
    write_admission: CatalogAdmission,
    /// connections that writes may use: three quarters of all, so that reads don't wait for writes
    write_connections: Semaphore,
    /// playlists that are being written
    playlist_queue: PlaylistQueue,
    /// tracks that must not be recommended
    pub hidden_tracks: HiddenTracks,
    /// the metrics
    pub metrics: Metrics,
    /// where shadow versions answer
    pub shadow: ShadowThread,
    /// the valid API keys
    pub keys: KeyRing,
    /// limits on numbers of requests
    pub limits: Limits,
    /// limits on bulk requests
    pub bulk: BulkLimits,
    /// names of recommended tracks
    pub names: TrackNames,
    /// the loaded models
    pub models: ModelStore,
    /// the threads that compute recommendations
    pub engine: Engine,
    /// requests for click probabilities that wait
    pub scores: ScoreBatch,
    /// requests for similar tracks that wait
    pub nearest: NearestBatch,
    /// the scale on which the app's users rate
    pub scale: RatingScale,
}

impl AppState {
    /// Starts the engine; loads no model yet.
    pub fn new(catalog: Catalog, models: &Path, settings: &ServeSettings) -> std::io::Result<Self> {
        let threads = match settings.engine_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let catalog = catalog.for_requests(settings.database_connections);
        let metrics = Metrics::new();
        let engine = Engine::start(threads, settings.engine_queue, metrics.clone())?;
        let models = ModelStore::new(models, &metrics, &engine);
        let gate = CatalogGate::default();
        let connections = settings.database_connections as usize;
        let write_connections = connections - connections.div_ceil(4);
        Ok(Self(Arc::new(Parts {
            names: TrackNames::new(catalog.clone(), models.clone(), gate.clone(), metrics.clone()),
            gate,
            catalog_admission: CatalogAdmission::new(connections),
            write_admission: CatalogAdmission::new(write_connections),
            write_connections: Semaphore::new(write_connections),
            playlist_queue: PlaylistQueue::default(),
            hidden_tracks: HiddenTracks::default(),
            keys: KeyRing::new(settings.needs_keys()),
            shadow: ShadowThread::start()?,
            limits: Limits::new(
                settings.rate_limit_per_key,
                settings.rate_limit_per_address,
                settings.proxies,
                settings.max_requests,
            ),
            bulk: BulkLimits::new(settings.max_bulk_requests, settings.idle()),
            catalog,
            models,
            engine,
            scores: score_batch(),
            nearest: nearest_batch(),
            metrics,
            scale: RatingScale { lowest: settings.rating_lowest, highest: settings.rating_highest },
        })))
    }

    /// Returns the catalog if it is available and not too many requests wait for a connection already: those would wait
    /// long, and be rejected in the end. Work that has begun continues with the field of the same name, so that it is not
    /// rejected halfway.
    pub fn catalog(&self) -> Result<AdmittedCatalog<'_>, ApiError> {
        if !self.gate.is_open() {
            return Err(ApiError::CatalogUnavailable);
        }
        let permit = self.catalog_admission.admit().ok_or(ApiError::Overloaded)?;
        Ok(AdmittedCatalog { catalog: &self.catalog, _permit: permit, _connection: None, _turn: None })
    }

    /// Returns the catalog to a request that writes, like [`AppState::catalog`], once one of the connections for writes is
    /// free.
    pub async fn catalog_to_write(&self) -> Result<AdmittedCatalog<'_>, ApiError> {
        if !self.gate.is_open() {
            return Err(ApiError::CatalogUnavailable);
        }
        let permit = self.write_admission.admit().ok_or(ApiError::Overloaded)?;
        let connection = tokio::time::timeout(WRITE_PATIENCE, self.write_connections.acquire()).await;
        let connection = connection.ok().and_then(Result::ok).ok_or(ApiError::Overloaded)?;
        Ok(AdmittedCatalog { catalog: &self.catalog, _permit: permit, _connection: Some(connection), _turn: None })
    }

    /// Returns the catalog to a request that writes a playlist, once it is the request's turn. Until then the request has no
    /// connection, and does not count among those that wait for one.
    pub async fn catalog_to_edit(&self, playlist: &PlaylistId) -> Result<AdmittedCatalog<'_>, ApiError> {
        if !self.gate.is_open() {
            return Err(ApiError::CatalogUnavailable);
        }
        let turn = self.playlist_queue.turn(playlist.as_str()).await.ok_or(ApiError::Overloaded)?;
        Ok(AdmittedCatalog { _turn: Some(turn), ..self.catalog_to_write().await? })
    }

    /// Returns the catalog to a batch of a bulk request, of which there are few, once one of the connections for writes is
    /// free.
    pub async fn catalog_for_batch(&self) -> BatchCatalog<'_> {
        BatchCatalog { catalog: &self.catalog, _connection: self.write_connections.acquire().await.ok() }
    }

    /// Returns a version of a model, the current one if none is named.
    pub async fn model<M: StoredModel>(&self, version: Option<&str>) -> Result<Arc<LoadedModel<M>>, ApiError> {
        self.models.version(version).await?.ok_or(ApiError::NoModel(M::KIND))
    }

    /// Lets a shadow version of a model answer, off the path of the request, and only if there is time. `work` returns how
    /// far the answers agree, see [`Metrics::shadowed`].
    pub fn run_shadow(&self, kind: Kind, work: impl FnOnce() -> f64 + Send + 'static) {
        let metrics = self.metrics.clone();
        if !self.shadow.offer(move || metrics.shadowed(kind, work())) {
            self.metrics.shadow_outcome(kind, "dropped");
        }
    }

    /// Returns the watch that keeps what is cached of the catalog up to date.
    pub fn catalog_watch(&self) -> CatalogWatch {
        CatalogWatch::new(&self.catalog, &self.gate, &self.keys, &self.hidden_tracks, &self.names)
    }
}

/// The catalog for one request, which counts among those that use it as long as it holds this.
pub struct AdmittedCatalog<'a> {
    catalog: &'a Catalog,
    _permit: Permit<'a>,
    _connection: Option<SemaphorePermit<'a>>,
    _turn: Option<Turn<'a>>,
}

impl Deref for AdmittedCatalog<'_> {
    type Target = Catalog;

    fn deref(&self) -> &Catalog {
        self.catalog
    }
}

/// The catalog for one batch of a bulk request.
pub struct BatchCatalog<'a> {
    catalog: &'a Catalog,
    _connection: Option<SemaphorePermit<'a>>,
}

impl Deref for BatchCatalog<'_> {
    type Target = Catalog;

    fn deref(&self) -> &Catalog {
        self.catalog
    }
}
