//! The HTTP server.
//!
//! A request passes, outside in: an id for it ([`tower_http::request_id`]), a span in the logs, the form of its errors
//! ([`error::problem_documents`]), a catch for panics, a time limit, a body limit, and its handler in [`routes`]. A
//! handler extracts, makes one call and responds; what computes runs in the [`engine`].

pub mod engine;
pub mod error;
mod extract;
mod model_store;
mod names;
pub mod routes;
mod score_batch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::StatusCode;
use axum::serve::ListenerExt;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
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
use crate::recommend::SimilarityModel;
use crate::recommend::ratings::RatingsModel;
use engine::Engine;
use error::ApiError;
use extract::BodyLimit;
use names::Names;
use score_batch::{ScoreBatch, catch_up};

pub use model_store::{Loaded, ModelStore};

/// How to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeSettings {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "SEGUE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
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

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0.001 to 86400".to_owned()),
    }
}

/// What handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// the catalog
    pub catalog: Catalog,
    /// names for answers
    names: Names,
    /// the loaded models
    pub models: ModelStore,
    /// where computing happens
    pub engine: Engine,
    /// questions for scores that wait
    scores: ScoreBatch,
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
        let models = ModelStore::new(models);
        Ok(Self {
            names: Names::new(catalog.clone(), models.clone()),
            catalog,
            models,
            engine: Engine::start(threads, settings.engine_queue)?,
            scores: ScoreBatch::default(),
            scale: RatingScale { lowest: settings.rating_lowest, highest: settings.rating_highest },
        })
    }

    /// The model for similar tracks.
    fn similarity(&self) -> Result<Arc<Loaded<SimilarityModel>>, ApiError> {
        self.models.similarity().ok_or(ApiError::NoModel(Kind::Similarity))
    }

    /// The model for what users will think of tracks.
    fn ratings(&self) -> Result<Arc<Loaded<RatingsModel>>, ApiError> {
        self.models.ratings().ok_or(ApiError::NoModel(Kind::Ratings))
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
    )
)]
struct ApiDoc;

fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .merge(routes::playlists::router())
        .merge(routes::tracks::router())
        .merge(routes::parts::router())
        .merge(routes::users::router())
        .merge(routes::feedback::router())
        .merge(routes::scores::router())
        .merge(routes::models::router())
        .merge(routes::health::router())
}

/// The HTTP contract, as `openapi.yaml` has it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = api().into_openapi();
    document.info.license = None; // utoipa takes it from Cargo.toml, which has none
    document
}

/// All routes with all layers.
pub fn router(state: AppState, settings: &ServeSettings) -> Router {
    let (router, _) = api().split_for_parts();
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
                    info!(parent: span, status, latency_ms, "answered");
                })
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::x_request_id())
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

/// The route's pattern and not the path: ids of people and playlists stay out of the logs.
fn request_span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    // Probes ask every few seconds; what they ask is of interest when something is looked for.
    if route.starts_with("/health/") {
        return tracing::span!(Level::DEBUG, "request", method = %request.method(), route, id);
    }
    tracing::span!(Level::INFO, "request", method = %request.method(), route, id)
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
    let store = state.models.clone();
    tokio::task::spawn_blocking(move || store.load_at_start()).await.map_err(std::io::Error::other)?;
    let watch = tokio::spawn(state.models.clone().watch(interrupt.clone()));
    let catching_up = tokio::spawn(catch_up(state.catalog.clone(), state.models.clone()));
    info!("listening on http://{}", listener.local_addr()?);
    let shutdown = {
        let interrupt = interrupt.clone();
        async move { interrupt.raised().await }
    };
    // An answer goes out at once, not when the kernel has gathered more to send.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            warn!("TCP_NODELAY could not be set: {error}");
        }
    });
    let serving = axum::serve(listener, router(state, settings)).with_graceful_shutdown(shutdown);
    let grace = Duration::from_secs_f64(settings.shutdown_seconds);
    let outcome = tokio::select! {
        outcome = async { serving.await } => outcome,
        () = async { interrupt.raised().await; tokio::time::sleep(grace).await } => {
            warn!("requests were still under way after {grace:?}; closing them");
            Ok(())
        }
    };
    watch.abort();
    catching_up.abort();
    info!("stopped");
    outcome
}
