//! What is measured of the server, for Prometheus (`GET /metrics`).

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

use super::AppState;
use super::capacity::engine::Lane;
use super::models::allocator::resident_bytes;
use crate::bundle::{Kind, Manifest};

/// From a fraction of a millisecond, as similar tracks take, to the time limit.
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

/// What made an answer less than it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// nothing was known to go by: popular tracks
    Popularity,
    /// no completion model is loaded: the similarity model completed
    NoCompletionModel,
    /// the catalog is away or slow: no names
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

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    faults: Counter,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    waits: Family<LaneLabels, Histogram, fn() -> Histogram>,
    work: Family<LaneLabels, Histogram, fn() -> Histogram>,
    refused: Family<LaneLabels, Counter>,
    waiting: Gauge,
    batches: Histogram,
    fallbacks: Family<ReasonLabels, Counter>,
    kept: Family<FoundLabels, Counter>,
    swaps: Family<KindLabels, Counter>,
    loads: Family<KindLabels, Histogram, fn() -> Histogram>,
    refusals: Family<KindLabels, Counter>,
    model_created: Family<VersionLabels, Gauge>,
    model_age: Family<VersionLabels, Gauge<f64, AtomicU64>>,
    candidates: Family<KindLabels, Gauge>,
    shadow: Family<OutcomeLabels, Counter>,
    agreement: Family<KindLabels, Histogram, fn() -> Histogram>,
    database_up: Gauge,
    connections: Family<StateLabels, Gauge>,
    withheld: Gauge,
    memory: Gauge,
}

/// Counts and measures. Cheap to clone.
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
    /// All at nothing.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::default(),
            requests: Family::default(),
            faults: Counter::default(),
            durations: Family::new_with_constructor(seconds),
            under_way: Gauge::default(),
            waits: Family::new_with_constructor(seconds),
            work: Family::new_with_constructor(seconds),
            refused: Family::default(),
            waiting: Gauge::default(),
            batches: Histogram::new(PLAYLISTS),
            fallbacks: Family::default(),
            kept: Family::default(),
            swaps: Family::default(),
            loads: Family::new_with_constructor(seconds),
            refusals: Family::default(),
            model_created: Family::default(),
            model_age: Family::default(),
            candidates: Family::default(),
            shadow: Family::default(),
            agreement: Family::new_with_constructor(shares),
            database_up: Gauge::default(),
            connections: Family::default(),
            withheld: Gauge::default(),
            memory: Gauge::default(),
        };
        inner.register();
        inner.begin();
        Self(Arc::new(inner))
    }

    /// A request has been answered.
    fn answered(&self, method: String, route: String, status: u16, seconds: f64) {
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        self.0.durations.get_or_create(&labels).observe(seconds);
        self.0.requests.get_or_create(&RequestLabels { method, route, status }).inc();
        if status == StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
            self.0.faults.inc();
        }
    }

    /// Work has waited and run for so many seconds.
    pub fn engine_work(&self, lane: Lane, wait: f64, work: f64) {
        let labels = LaneLabels { lane: lane.as_str() };
        self.0.waits.get_or_create(&labels).observe(wait);
        self.0.work.get_or_create(&labels).observe(work);
    }

    /// Work has been refused.
    pub fn engine_refused(&self, lane: Lane) {
        self.0.refused.get_or_create(&LaneLabels { lane: lane.as_str() }).inc();
    }

    /// So many playlists came in one request.
    pub fn batch(&self, playlists: usize) {
        self.0.batches.observe(playlists as f64);
    }

    /// An answer was less than it could be.
    pub fn fallback(&self, reason: Fallback) {
        self.0.fallbacks.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// It was looked for an answer given before.
    pub fn kept(&self, is_found: bool) {
        let found = if is_found { "yes" } else { "no" };
        self.0.kept.get_or_create(&FoundLabels { found }).inc();
    }

    /// A model has taken over, read in so many seconds; `candidates` of its tracks may be recommended.
    pub fn swapped(&self, manifest: &Manifest, candidates: usize, seconds: f64) {
        let labels = KindLabels { kind: manifest.kind.as_str() };
        self.0.swaps.get_or_create(&labels).inc();
        self.0.loads.get_or_create(&labels).observe(seconds);
        self.0.candidates.get_or_create(&labels).set(candidates as i64);
    }

    /// A bundle has been refused.
    pub fn refused(&self, kind: Kind) {
        self.0.refusals.get_or_create(&KindLabels { kind: kind.as_str() }).inc();
    }

    /// A second version answered too, and says the same so far, 0 to 1: the share of the first one's tracks that it
    /// recommends too; of probabilities, 1 less their mean difference.
    pub fn shadowed(&self, kind: Kind, agreement: f64) {
        self.0.agreement.get_or_create(&KindLabels { kind: kind.as_str() }).observe(agreement);
        self.shadow_outcome(kind, "answered");
    }

    /// What became of a request that a second version was to answer too.
    pub fn shadow_outcome(&self, kind: Kind, outcome: &'static str) {
        self.0.shadow.get_or_create(&OutcomeLabels { kind: kind.as_str(), outcome }).inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub fn text(&self, state: &AppState) -> Result<String, std::fmt::Error> {
        let inner = &self.0;
        inner.waiting.set(state.engine.waiting() as i64);
        inner.database_up.set(state.gate.is_open().into());
        let (open, idle) = state.catalog.connections();
        inner.connections.get_or_create(&StateLabels { state: "idle" }).set(idle as i64);
        inner.connections.get_or_create(&StateLabels { state: "used" }).set(open.saturating_sub(idle) as i64);
        inner.withheld.set(state.withheld.snapshot().ids().count() as i64);
        inner.memory.set(resident_bytes().unwrap_or_default());
        inner.model_created.clear();
        inner.model_age.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        for manifest in state.models.manifests() {
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
    /// Counts of what should not happen are there from the beginning: an alarm on their increase would not see the first
    /// one otherwise.
    fn begin(&self) {
        for lane in Lane::ALL {
            self.refused.get_or_create(&LaneLabels { lane: lane.as_str() }).inc_by(0);
        }
        for kind in Kind::ALL {
            self.swaps.get_or_create(&KindLabels { kind: kind.as_str() }).inc_by(0);
            self.refusals.get_or_create(&KindLabels { kind: kind.as_str() }).inc_by(0);
        }
        for reason in Fallback::ALL {
            self.fallbacks.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc_by(0);
        }
    }

    fn register(&mut self) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION")), ("commit", env!("SEGUE_GIT_COMMIT"))]);
        let registry = self.registry.sub_registry_with_prefix("segue");
        registry.register("build", "What runs", version);
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register("http_faults", "Requests answered by 500", self.faults.clone());
        registry.register_with_unit("http_request_duration", "Time to answer", Unit::Seconds, self.durations.clone());
        registry.register("http_requests_under_way", "Requests not answered yet", self.under_way.clone());
        registry.register_with_unit("engine_wait", "Time that work waits", Unit::Seconds, self.waits.clone());
        registry.register_with_unit("engine_work", "Time that work takes", Unit::Seconds, self.work.clone());
        registry.register("engine_refused", "Work refused, for it would wait too long", self.refused.clone());
        registry.register("engine_waiting", "Pieces of work that wait", self.waiting.clone());
        registry.register("completion_playlists", "Playlists in one request", self.batches.clone());
        registry.register("fallbacks", "Answers that are less than they could be", self.fallbacks.clone());
        registry.register("similar_kept", "Looks for an answer given before", self.kept.clone());
        registry.register("model_swaps", "Models that took over", self.swaps.clone());
        registry.register_with_unit("model_load", "Time to read a bundle", Unit::Seconds, self.loads.clone());
        registry.register("model_refused", "Bundles refused", self.refusals.clone());
        let created = "When the loaded model was published, since 1970";
        registry.register_with_unit("model_created_timestamp", created, Unit::Seconds, self.model_created.clone());
        registry.register_with_unit("model_age", "Age of the loaded model", Unit::Seconds, self.model_age.clone());
        registry.register("model_candidates", "Tracks that the loaded model may recommend", self.candidates.clone());
        registry.register("shadow_requests", "Requests for a second version of a model", self.shadow.clone());
        let agreement = "How far the second version of a model says the same, 0 to 1";
        registry.register("shadow_agreement", agreement, self.agreement.clone());
        registry.register("database_up", "1 when PostgreSQL can be asked", self.database_up.clone());
        registry.register("database_connections", "Connections to PostgreSQL", self.connections.clone());
        registry.register("withheld_tracks", "Tracks hidden or deleted", self.withheld.clone());
        let memory = "Memory in use";
        self.registry.register_with_unit("process_resident_memory", memory, Unit::Bytes, self.memory.clone());
    }
}

/// Counts and measures each request.
pub async fn measure(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    // The route's pattern: ids would be a label each. Methods that nobody knows are one.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let under_way = UnderWay::begin(state.metrics.0.clone());
    let response = next.run(request).await;
    drop(under_way);
    state.metrics.answered(method, route, response.status().as_u16(), began.elapsed().as_secs_f64());
    response
}

/// Counts down also when the client goes away and the request is dropped.
struct UnderWay(Arc<Inner>);

impl UnderWay {
    fn begin(inner: Arc<Inner>) -> Self {
        inner.under_way.inc();
        Self(inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.dec();
    }
}
