//! All routes, with the layers that every request passes.
//!
//! From the outside in: a request id ([`tower_http::request_id`]), a span in the logs, metrics, CORS, compression, problem
//! documents ([`problem_documents`]), a catch for panics, a time limit, the hosts that requests may name, the rate limit
//! per address and the number of requests in progress, decompression, a body limit; then for all but the contract API
//! keys, the rate limit per key, and the handler in [`routes`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::response::Response;
use axum::{Extension, Router};
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{CompressionBody, CompressionLayer};
use tower_http::cors::CorsLayer;
use tower_http::decompression::{DecompressionBody, RequestDecompressionLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::{Level, Span, info};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::access::hosts::{AllowedHosts, check_hosts};
use super::access::keys::authorize;
use super::access::rate_limit::{limit_by_address, limit_by_key};
use super::http::extract::{BodyLimit, NDJSON, not_modified};
use super::http::openapi::complete;
use super::http::problem::{Problem, problem_documents};
use super::http::request_id::drop_unusable;
use super::http::trace_context::{adopt, trace_id};
use super::metrics::measure;
use super::routes;
use super::settings::ServeSettings;
use super::state::AppState;

/// Smaller responses are not compressed, in bytes.
const LEAST_COMPRESSED: u64 = 1_024;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Segue",
        description = "Recommendations for music apps: playlist completion, similar and next tracks, and tracks for a user.\n\nIds are the app's own, as text; percent-encode them in paths. Errors are problem documents (RFC 9457, application/problem+json). Every response carries `x-request-id`: the client's own if it sent one.",
    ),
    tags(
        (name = "playlists", description = "Playlists and playlist completion"),
        (name = "tracks", description = "Tracks, similar tracks and next tracks"),
        (name = "users", description = "Users and recommendations for them"),
        (name = "feedback", description = "Ratings and listens"),
        (name = "models", description = "Loaded and published models"),
        (name = "operations", description = "Health and metrics"),
    ),
    components(schemas(Problem)),
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
        .merge(routes::next::router())
        .merge(routes::track_embedding::router())
        .merge(routes::users::router())
        .merge(routes::recommendations::router())
        .merge(routes::feedback::router())
        .merge(routes::scores::router())
        .merge(routes::models::router())
        .merge(routes::health::router())
        .merge(routes::metrics::router())
}

/// Returns the HTTP contract, as in `openapi.yaml`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = api().into_openapi();
    complete(&mut document);
    document
}

/// Returns all routes with all layers.
pub fn router(state: AppState, settings: &ServeSettings) -> Router {
    let (router, _) = api().split_for_parts();
    let access = ServiceBuilder::new()
        .layer(from_fn_with_state(state.keys.clone(), authorize))
        .layer(from_fn_with_state(state.limits.clone(), limit_by_key))
        .layer(from_fn(not_modified));
    let hosts = match settings.is_local() && !settings.needs_keys() {
        true => AllowedHosts::loopback_and(&settings.hosts, &settings.cors_origins),
        false => AllowedHosts::all(),
    };
    let worth_compressing = SizeAbove::new(LEAST_COMPRESSED).and(NotForContentType::const_new(NDJSON));
    let layers = ServiceBuilder::new()
        .layer(map_request(drop_unusable))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_request(())
                .on_response(log_response)
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(state.metrics.clone(), measure))
        .layer(cors(&settings.cors_origins))
        .map_response(|response: Response<CompressionBody<_>>| response.map(Body::new))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_compressing))
        .layer(from_fn(problem_documents))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs_f64(settings.request_timeout_seconds),
        ))
        .layer(from_fn_with_state(hosts, check_hosts))
        .layer(from_fn_with_state(state.limits.clone(), limit_by_address))
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: Request<DecompressionBody<_>>| request.map(Body::new))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .layer(Extension(BodyLimit(settings.max_body_bytes)));
    Router::new()
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi()))
        .merge(router.route_layer(access).with_state(state))
        .layer(layers)
}

/// Allows web pages of these origins to send requests; of none by default.
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

/// Names the route's pattern instead of the path: ids of users and playlists stay out of the logs.
fn request_span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    let (method, headers) = (request.method(), request.headers());
    let trace = trace_id(headers);
    // Probes send these every few seconds; they matter only to someone who debugs.
    if route.starts_with("/health/") || route == "/metrics" {
        return tracing::span!(Level::DEBUG, "request", %method, route, id, trace);
    }
    let span = tracing::span!(
        Level::INFO, "request", %method, route, id, trace, otel.kind = "server", otel.name = %format_args!("{method} {route}"),
        http.response.status_code = tracing::field::Empty
    );
    adopt(&span, headers);
    span
}

fn log_response(response: &Response, latency: Duration, span: &Span) {
    let (status, latency_ms) = (response.status().as_u16(), latency.as_secs_f64() * 1e3);
    if span.is_disabled() {
        if response.status().is_server_error() {
            let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
            info!(status, latency_ms, id, "responded to a probe");
        }
        return;
    }
    span.record("http.response.status_code", status);
    info!(parent: span, status, latency_ms, "responded");
}
