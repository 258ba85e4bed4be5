//! The server's metrics, for Prometheus (`GET /metrics`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::capacity::lane::Lane;
use super::models::allocator::resident_bytes;
use crate::bundle::{Kind, Manifest};

/// From a fraction of a millisecond, as for similar tracks, to the time limit.
const SECONDS: [f64; 15] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0];
const PLAYLISTS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
const SHARES: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FoundLabels {
    found: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    kind: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn shares() -> Histogram {
    Histogram::new(SHARES)
}

/// Why a response is worse than it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// nothing else is known: popular tracks
    Popularity,
    /// no completion model is loaded: the similarity model completes
    NoCompletionModel,
    /// the catalog is unavailable or slow: no names
    NoNames,
}

impl Fallback {
    const ALL: [Self; 3] = [Self::Popularity, Self::NoCompletionModel, Self::NoNames];

    fn as_str(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::NoCompletionModel => "no_completion_model",
            Self::NoNames => "no_names",
        }
    }
}

/// Values that are read when the metrics are.
#[derive(Debug)]
pub struct Readings {
    /// pieces of work that wait for an engine thread
    pub engine_waiting: usize,
    /// whether requests may use the catalog
    pub is_catalog_available: bool,
    /// connections to PostgreSQL: open ones, and idle ones of them
    pub connections: (usize, usize),
    /// tracks that must not be recommended
    pub hidden_tracks: usize,
    /// manifests of the loaded models
    pub manifests: Vec<Manifest>,
}

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    faults: Counter,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_progress: Gauge,
    waits: Family<LaneLabels, Histogram, fn() -> Histogram>,
    work: Family<LaneLabels, Histogram, fn() -> Histogram>,
    refused: Family<LaneLabels, Counter>,
    waiting: Gauge,
    batches: Histogram,
    fallbacks: Family<ReasonLabels, Counter>,
    similar_cache: Family<FoundLabels, Counter>,
    swaps: Family<KindLabels, Counter>,
    loads: Family<KindLabels, Histogram, fn() -> Histogram>,
    rejections: Family<KindLabels, Counter>,
    model_created: Family<VersionLabels, Gauge>,
    model_age: Family<VersionLabels, Gauge<f64, AtomicU64>>,
    candidates: Family<KindLabels, Gauge>,
    shadow: Family<OutcomeLabels, Counter>,
    agreement: Family<KindLabels, Histogram, fn() -> Histogram>,
    database_up: Gauge,
    connections: Family<StateLabels, Gauge>,
    hidden_tracks: Gauge,
    memory: Gauge,
}

/// The metrics of one server. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Returns metrics that have counted nothing.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::default(),
            requests: Family::default(),
            faults: Counter::default(),
            durations: Family::new_with_constructor(seconds),
            in_progress: Gauge::default(),
            waits: Family::new_with_constructor(seconds),
            work: Family::new_with_constructor(seconds),
            refused: Family::default(),
            waiting: Gauge::default(),
            batches: Histogram::new(PLAYLISTS),
            fallbacks: Family::default(),
            similar_cache: Family::default(),
            swaps: Family::default(),
            loads: Family::new_with_constructor(seconds),
            rejections: Family::default(),
            model_created: Family::default(),
            model_age: Family::default(),
            candidates: Family::default(),
            shadow: Family::default(),
            agreement: Family::new_with_constructor(shares),
            database_up: Gauge::default(),
            connections: Family::default(),
            hidden_tracks: Gauge::default(),
            memory: Gauge::default(),
        };
        inner.register();
        inner.begin();
        Self(Arc::new(inner))
    }

    /// Counts a response.
    fn responded(&self, method: String, route: String, status: u16, seconds: f64) {
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        self.0.durations.get_or_create(&labels).observe(seconds);
        self.0.requests.get_or_create(&RequestLabels { method, route, status }).inc();
        if status == StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
            self.0.faults.inc();
        }
    }

    /// Records the seconds that work waited and ran.
    pub fn engine_work(&self, lane: Lane, wait: f64, work: f64) {
        let labels = LaneLabels { lane: lane.as_str() };
        self.0.waits.get_or_create(&labels).observe(wait);
        self.0.work.get_or_create(&labels).observe(work);
    }

    /// Counts rejected work.
    pub fn engine_rejected(&self, lane: Lane) {
        self.0.refused.get_or_create(&LaneLabels { lane: lane.as_str() }).inc();
    }

    /// Records the number of playlists in a request.
    pub fn batch(&self, playlists: usize) {
        self.0.batches.observe(playlists as f64);
    }

    /// Counts a response that is worse than it could be.
    pub fn fallback(&self, reason: Fallback) {
        self.0.fallbacks.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Counts a lookup in the cache of similar tracks.
    pub fn similar_cache(&self, is_found: bool) {
        let found = if is_found { "yes" } else { "no" };
        self.0.similar_cache.get_or_create(&FoundLabels { found }).inc();
    }

    /// Records that a bundle was read, verified and warmed up, in `seconds`.
    pub fn model_loaded(&self, kind: Kind, seconds: f64) {
        self.0.loads.get_or_create(&KindLabels { kind: kind.as_str() }).observe(seconds);
    }

    /// Records that a model took over; `candidates` of its tracks may be recommended.
    pub fn model_swapped(&self, manifest: &Manifest, candidates: usize) {
        let labels = KindLabels { kind: manifest.kind.as_str() };
        self.0.swaps.get_or_create(&labels).inc();
        self.0.candidates.get_or_create(&labels).set(candidates as i64);
    }

    /// Counts a bundle that failed verification.
    pub fn bundle_rejected(&self, kind: Kind) {
        self.0.rejections.get_or_create(&KindLabels { kind: kind.as_str() }).inc();
    }

    /// Records how far a shadow version agrees, 0 to 1: the share of the current version's tracks that it also recommends;
    /// for probabilities, 1 minus their mean difference.
    pub fn shadowed(&self, kind: Kind, agreement: f64) {
        self.0.agreement.get_or_create(&KindLabels { kind: kind.as_str() }).observe(agreement);
        self.shadow_outcome(kind, "answered");
    }

    /// Counts a request for a shadow version by its outcome.
    pub fn shadow_outcome(&self, kind: Kind, outcome: &'static str) {
        self.0.shadow.get_or_create(&OutcomeLabels { kind: kind.as_str(), outcome }).inc();
    }

    /// Returns all metrics in the text format of OpenMetrics.
    pub fn text(&self, readings: Readings) -> Result<String, std::fmt::Error> {
        let inner = &self.0;
        inner.waiting.set(readings.engine_waiting as i64);
        inner.database_up.set(readings.is_catalog_available.into());
        let (open, idle) = readings.connections;
        inner.connections.get_or_create(&StateLabels { state: "idle" }).set(idle as i64);
        inner.connections.get_or_create(&StateLabels { state: "used" }).set(open.saturating_sub(idle) as i64);
        inner.hidden_tracks.set(readings.hidden_tracks as i64);
        inner.memory.set(resident_bytes().unwrap_or_default());
        inner.model_created.clear();
        inner.model_age.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        for manifest in readings.manifests {
            let created =
                time::OffsetDateTime::parse(&manifest.created_at, &time::format_description::well_known::Rfc3339);
            let Ok(created) = created else { continue };
            let labels = VersionLabels { kind: manifest.kind.as_str(), version: manifest.version };
            inner.model_created.get_or_create(&labels).set(created.unix_timestamp());
            inner.model_age.get_or_create(&labels).set(now - created.unix_timestamp() as f64);
        }
        let mut text = String::new();
        encode(&mut text, &inner.registry)?;
        Ok(text)
    }
}

impl Inner {
    /// Creates counters of failures at 0: otherwise an alert on their increase would miss the first failure.
    fn begin(&self) {
        for lane in Lane::ALL {
            self.refused.get_or_create(&LaneLabels { lane: lane.as_str() }).inc_by(0);
        }
        for kind in Kind::ALL {
            self.swaps.get_or_create(&KindLabels { kind: kind.as_str() }).inc_by(0);
            self.rejections.get_or_create(&KindLabels { kind: kind.as_str() }).inc_by(0);
        }
        for reason in Fallback::ALL {
            self.fallbacks.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc_by(0);
        }
    }

    fn register(&mut self) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION")), ("commit", env!("SEGUE_GIT_COMMIT"))]);
        let registry = self.registry.sub_registry_with_prefix("segue");
        registry.register("build", "Version and commit of the server", version);
        registry.register("http_requests", "Responses sent", self.requests.clone());
        registry.register("http_faults", "Responses with status 500", self.faults.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request to its response",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("http_requests_under_way", "Requests in progress", self.in_progress.clone());
        registry.register_with_unit(
            "engine_wait",
            "Time that work waited for an engine thread",
            Unit::Seconds,
            self.waits.clone(),
        );
        registry.register_with_unit(
            "engine_work",
            "Time that work took on an engine thread",
            Unit::Seconds,
            self.work.clone(),
        );
        registry.register("engine_refused", "Work rejected because it would wait too long", self.refused.clone());
        registry.register("engine_waiting", "Work that waits for an engine thread", self.waiting.clone());
        registry.register("completion_playlists", "Playlists per completion request", self.batches.clone());
        registry.register(
            "fallbacks",
            "Responses that fell back to popularity, another model or no names",
            self.fallbacks.clone(),
        );
        registry.register("similar_kept", "Lookups in the cache of similar tracks", self.similar_cache.clone());
        registry.register("model_swaps", "Models that replaced another or the first of their kind", self.swaps.clone());
        registry.register_with_unit("model_load", "Time to load a bundle", Unit::Seconds, self.loads.clone());
        registry.register("model_refused", "Bundles that failed verification", self.rejections.clone());
        let created = "Time when the loaded model was published, since 1970";
        registry.register_with_unit("model_created_timestamp", created, Unit::Seconds, self.model_created.clone());
        registry.register_with_unit("model_age", "Age of the loaded model", Unit::Seconds, self.model_age.clone());
        registry.register("model_candidates", "Tracks that the loaded model may recommend", self.candidates.clone());
        registry.register("shadow_requests", "Requests for the shadow version of a model", self.shadow.clone());
        let agreement = "Agreement of the shadow version with the current one, 0 to 1";
        registry.register("shadow_agreement", agreement, self.agreement.clone());
        registry.register("database_up", "1 if PostgreSQL is available", self.database_up.clone());
        registry.register("database_connections", "Connections to PostgreSQL", self.connections.clone());
        registry.register("withheld_tracks", "Tracks that are hidden or were deleted", self.hidden_tracks.clone());
        let memory = "Resident memory";
        self.registry.register_with_unit("process_resident_memory", memory, Unit::Bytes, self.memory.clone());
    }
}

/// Counts and times each request.
pub async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    // The route's pattern: with ids, each path would be a label. Unknown methods share one.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let in_progress = RequestInProgress::begin(metrics.0.clone());
    let response = next.run(request).await;
    drop(in_progress);
    metrics.responded(method, route, response.status().as_u16(), began.elapsed().as_secs_f64());
    response
}

/// Counts down also if the client disconnects and the request is dropped.
struct RequestInProgress(Arc<Inner>);

impl RequestInProgress {
    fn begin(inner: Arc<Inner>) -> Self {
        inner.in_progress.inc();
        Self(inner)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.in_progress.dec();
    }
}
