//! The HTTP server.
//!
//! A request passes, outside in: an id for it ([`tower_http::request_id`]), a span in the logs, the form of its errors
//! ([`error::problem_documents`]), a catch for panics, a time limit, a body limit, and its handler in [`routes`]. A
//! handler extracts, makes one call and responds; what computes runs in the [`engine`].

mod admission;
pub mod auth;
mod batch;
mod bulk;
mod catalog_watch;
mod contract;
pub mod engine;
pub mod error;
mod extract;
mod kept;
mod limits;
mod listener;
mod memory;
mod metrics;
mod model_store;
mod names;
pub mod routes;
mod score_batch;
mod shadow;
mod trace_context;
mod withheld;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::{Level, Span, info, warn};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::bundle::Kind;
use crate::catalog::{Catalog, RatingScale};
use crate::progress::Interrupt;
use crate::recommend::ratings::RatingsModel;
use admission::{Admission, Admitted};
use auth::{AuthMode, KeyRing};
use catalog_watch::Gate;
use engine::Engine;
use error::ApiError;
use extract::BodyLimit;
use limits::Limits;
use metrics::Metrics;
use names::Names;
use score_batch::{ScoreBatch, catch_up, score_batch};
use shadow::ShadowThread;
use withheld::Withheld;

pub use model_store::{Loaded, ModelStore};

/// Connections to the port of the metrics at once.
const METRICS_CONNECTIONS: usize = 16;

/// How to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeSettings {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "SEGUE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Whether requests need a key; `auto`: unless the address is a loopback one
    #[arg(long, env = "SEGUE_AUTH", value_enum, default_value_t = AuthMode::Auto)]
    pub auth: AuthMode,
    /// Requests a second of each key, ten seconds' worth of them at once; 0 takes any number
    #[arg(long, env = "SEGUE_RATE_LIMIT_PER_KEY", default_value_t = 0.0, value_parser = rate)]
    pub rate_limit_per_key: f64,
    /// Requests a second from each address, ten seconds' worth of them at once; 0 takes any number
    #[arg(long, env = "SEGUE_RATE_LIMIT_PER_ADDRESS", default_value_t = 0.0, value_parser = rate)]
    pub rate_limit_per_address: f64,
    /// Proxies in front that add to X-Forwarded-For; with 0 that header says nothing
    #[arg(long, env = "SEGUE_PROXIES", default_value_t = 0)]
    pub proxies: usize,
    /// Origins of web pages that may ask, such as https://app.example; none by default
    #[arg(long, env = "SEGUE_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Connections at once; further ones get a 503 and are closed
    #[arg(long, env = "SEGUE_MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: usize,
    /// Requests under way at once; further ones get a 503
    #[arg(long, env = "SEGUE_MAX_REQUESTS", default_value_t = 1024)]
    pub max_requests: usize,
    /// Bulk requests under way at once; further ones get a 503
    #[arg(long, env = "SEGUE_MAX_BULK_REQUESTS", default_value_t = 4)]
    pub max_bulk_requests: usize,
    /// Seconds after which a request is given up
    #[arg(long, env = "SEGUE_REQUEST_TIMEOUT_SECONDS", allow_negative_numbers = true, default_value_t = 10.0, value_parser = seconds)]
    pub request_timeout_seconds: f64,
    /// Largest request body in bytes
    #[arg(long, env = "SEGUE_MAX_BODY_BYTES", default_value_t = 4 << 20)]
    pub max_body_bytes: usize,
    /// Threads that compute recommendations; 0 takes one for each processor
    #[arg(long, env = "SEGUE_ENGINE_THREADS", default_value_t = 0)]
    pub engine_threads: usize,
    /// Requests that may wait for an engine thread; further ones are refused with 503
    #[arg(long, env = "SEGUE_ENGINE_QUEUE", default_value_t = 256)]
    pub engine_queue: usize,
    /// Connections to PostgreSQL at most
    #[arg(long, env = "SEGUE_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// Another address and port for GET /metrics, where no key is asked for; for the network of the monitoring alone
    #[arg(long, env = "SEGUE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Seconds that requests under way are given to end at shutdown
    #[arg(long, env = "SEGUE_SHUTDOWN_SECONDS", allow_negative_numbers = true, default_value_t = 15.0, value_parser = seconds)]
    pub shutdown_seconds: f64,
    /// Lowest rating that POST /ratings takes
    #[arg(long, env = "SEGUE_RATING_LOWEST", allow_negative_numbers = true, default_value_t = 0.5)]
    pub rating_lowest: f32,
    /// Highest rating that POST /ratings takes
    #[arg(long, env = "SEGUE_RATING_HIGHEST", allow_negative_numbers = true, default_value_t = 5.0)]
    pub rating_highest: f32,
}

impl ServeSettings {
    fn needs_keys(&self) -> bool {
        match self.auth {
            AuthMode::Auto => !self.listen.ip().is_loopback(),
            AuthMode::Required => true,
            AuthMode::Off => false,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || (0.1..=1e6).contains(&rate) => Ok(rate),
        _ => Err("must be 0, or a number from 0.1 to 1000000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0.001 to 86400".to_owned()),
    }
}

/// What handlers share. Cheap to clone: each layer that a request goes through has one.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// See [`AppState`].
#[derive(Debug)]
pub struct Shared {
    /// the catalog, there or not: [`AppState::catalog`] asks first
    pub catalog: Catalog,
    /// whether it is there
    gate: Gate,
    /// requests that use it
    catalog_admission: Admission,
    /// tracks that must not be recommended
    withheld: Withheld,
    /// what is measured
    pub metrics: Metrics,
    /// where second versions answer
    shadow: ShadowThread,
    /// keys that are of use
    keys: KeyRing,
    /// whether they are asked for
    needs_keys: bool,
    /// how much is taken from whom
    limits: Limits,
    /// bulk requests that may still begin
    bulk: Arc<Semaphore>,
    /// names for answers
    names: Names,
    /// the loaded models
    pub models: ModelStore,
    /// where computing happens
    pub engine: Engine,
    /// questions for scores that wait
    scores: ScoreBatch,
    nearest: routes::similar::NearestBatch,
    /// the scale that the app rates on
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
        let gate = Gate::default();
        Ok(Self(Arc::new(Shared {
            names: Names::new(catalog.clone(), models.clone(), gate.clone(), metrics.clone()),
            gate,
            catalog_admission: Admission::new(settings.database_connections as usize),
            withheld: Withheld::default(),
            keys: KeyRing::default(),
            shadow: ShadowThread::start()?,
            needs_keys: settings.needs_keys(),
            limits: Limits::new(
                settings.rate_limit_per_key,
                settings.rate_limit_per_address,
                settings.proxies,
                settings.max_requests,
            ),
            bulk: Arc::new(Semaphore::new(settings.max_bulk_requests)),
            catalog,
            models,
            engine,
            scores: score_batch(),
            nearest: routes::similar::nearest_batch(),
            metrics,
            scale: RatingScale { lowest: settings.rating_lowest, highest: settings.rating_highest },
        })))
    }

    /// The catalog, if it is there and not too many requests wait for a connection already: those would wait long, and be
    /// refused in the end. Work that is begun goes on with the field of the same name, so as not to be refused half done.
    fn catalog(&self) -> Result<AdmittedCatalog<'_>, ApiError> {
        if !self.gate.is_open() {
            return Err(ApiError::CatalogUnavailable);
        }
        let admitted = self.catalog_admission.admit().ok_or(ApiError::Overloaded)?;
        Ok(AdmittedCatalog { catalog: &self.catalog, _admitted: admitted })
    }

    /// Has a second version of a model answer too, off the path of the request, and only if there is time. `work` says how
    /// far it says the same, see [`Metrics::shadowed`].
    fn shadow(&self, kind: Kind, work: impl FnOnce() -> f64 + Send + 'static) {
        let metrics = self.metrics.clone();
        if !self.shadow.offer(move || metrics.shadowed(kind, work())) {
            self.metrics.shadow_outcome(kind, "dropped");
        }
    }

    /// The model for what users will think of tracks.
    fn ratings(&self) -> Result<Arc<Loaded<RatingsModel>>, ApiError> {
        self.models.ratings().ok_or(ApiError::NoModel(Kind::Ratings))
    }
}

/// The catalog for a request that is counted among those that use it, as long as this is held.
struct AdmittedCatalog<'a> {
    catalog: &'a Catalog,
    _admitted: Admitted<'a>,
}

impl Deref for AdmittedCatalog<'_> {
    type Target = Catalog;

    fn deref(&self) -> &Catalog {
        self.catalog
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Segue",
        description = "Recommendations for music apps: what comes next in a playlist, what sounds like a track, and what a user will like.\n\nIds are the app's own, as text; in paths they are percent-encoded. Errors are problem documents (RFC 9457, application/problem+json). Every response carries `x-request-id`, the caller's own if it sent one.",
    ),
    tags(
        (name = "playlists", description = "Playlists, and what comes next in them"),
        (name = "tracks", description = "Tracks, and what is like them"),
        (name = "users", description = "Users, and what to recommend to them"),
        (name = "feedback", description = "What users rate and listen to"),
        (name = "models", description = "What is loaded"),
        (name = "operations", description = "Health"),
    ),
    security((), ("key" = []))
)]
struct ApiDoc;

fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .merge(routes::completion::router())
        .merge(routes::playlists::router())
        .merge(routes::playlist_tracks::router())
        .merge(routes::tracks::router())
        .merge(routes::similar::router())
        .merge(routes::parts::router())
        .merge(routes::users::router())
        .merge(routes::recommendations::router())
        .merge(routes::feedback::router())
        .merge(routes::scores::router())
        .merge(routes::models::router())
        .merge(routes::health::router())
        .merge(routes::metrics::router())
}

/// The HTTP contract, as `openapi.yaml` has it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = api().into_openapi();
    document.info.license = None; // utoipa takes it from Cargo.toml, which has none
    contract::complete(&mut document);
    document
}

/// All routes with all layers.
pub fn router(state: AppState, settings: &ServeSettings) -> Router {
    let (router, _) = api().split_for_parts();
    let middleware = |state: &AppState| {
        let state = state.clone();
        ServiceBuilder::new()
            .layer(axum::middleware::from_fn_with_state(state.clone(), limits::by_address))
            .layer(axum::middleware::from_fn_with_state(state.clone(), auth::authorize))
            .layer(axum::middleware::from_fn_with_state(state, limits::by_key))
    };
    let router = router.route_layer(middleware(&state));
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_request(())
                .on_response(|response: &axum::response::Response, latency: Duration, span: &Span| {
                    let latency_ms = latency.as_secs_f64() * 1e3;
                    let status = response.status().as_u16();
                    if span.is_disabled() {
                        return;
                    }
                    span.record("http.response.status_code", status);
                    info!(parent: span, status, latency_ms, "answered");
                })
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(axum::middleware::from_fn_with_state(state.clone(), metrics::measure))
        .layer(cors(&settings.cors_origins))
        .layer(axum::middleware::from_fn(error::problem_documents))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs_f64(settings.request_timeout_seconds),
        ))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .layer(Extension(BodyLimit(settings.max_body_bytes)));
    Router::new()
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi()))
        .merge(router.with_state(state))
        .layer(layers)
}

/// Web pages of these origins may ask; of no origin by default.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok());
    let origins: Vec<HeaderValue> = origins.collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, HeaderName::from_static("x-request-id")])
        .expose_headers([ETAG, LOCATION, RETRY_AFTER, HeaderName::from_static("x-request-id")])
}

/// The route's pattern and not the path: ids of people and playlists stay out of the logs.
fn request_span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    // Probes ask every few seconds; what they ask is of interest when something is looked for.
    let (method, headers) = (request.method(), request.headers());
    let trace = trace_context::trace_id(headers);
    if route.starts_with("/health/") || route == "/metrics" {
        return tracing::span!(Level::DEBUG, "request", %method, route, id, trace);
    }
    let span = tracing::span!(
        Level::INFO, "request", %method, route, id, trace, otel.kind = "server", otel.name = %format_args!("{method} {route}"),
        http.response.status_code = tracing::field::Empty
    );
    trace_context::adopt(&span, headers);
    span
}

/// Serves on `listener` until interrupted, then lets requests under way end.
///
/// Without a published bundle it serves all the same, says so, and loads one as soon as there is one.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    settings: &ServeSettings,
    interrupt: Interrupt,
) -> std::io::Result<()> {
    memory::keep_large_arrays_apart();
    let store = state.models.clone();
    tokio::task::spawn_blocking(move || store.load_at_start()).await.map_err(std::io::Error::other)?;
    let watch = tokio::spawn(state.models.clone().watch(interrupt.clone()));
    // Before the first request: what was hidden while no server ran is hidden.
    if let Err(error) = catalog_watch::refresh_at_start(&state).await {
        warn!("which tracks are hidden is not known until the catalog is there: {error}");
    }
    let catalog_watch = tokio::spawn(catalog_watch::watch(state.clone(), interrupt.clone()));
    let catching_up = tokio::spawn(catch_up(state.catalog.clone(), state.models.clone()));
    info!("listening on http://{}", listener.local_addr()?);
    let shutdown = {
        let interrupt = interrupt.clone();
        async move { interrupt.raised().await }
    };
    let metrics = match settings.metrics_listen {
        Some(address) => Some(tokio::spawn(listener::run(
            TcpListener::bind(address).await?,
            routes::metrics::open_router(state.clone()),
            METRICS_CONNECTIONS,
            std::future::pending(),
        ))),
        None => None,
    };
    let serving = listener::run(listener, router(state, settings), settings.max_connections, shutdown);
    let grace = Duration::from_secs_f64(settings.shutdown_seconds);
    tokio::select! {
        () = serving => {}
        () = async { interrupt.raised().await; tokio::time::sleep(grace).await } => {
            warn!("requests were still under way after {grace:?}; closing them");
        }
    }
    watch.abort();
    catalog_watch.abort();
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    catching_up.abort();
    info!("stopped");
    Ok(())
}
