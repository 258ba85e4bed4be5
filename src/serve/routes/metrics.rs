//! `GET /metrics`

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::http::problem::ApiError;
use crate::serve::metrics::Readings;
use crate::serve::state::AppState;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns the route with its contract.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Returns the route alone, for a port of its own.
pub fn open_router(state: AppState) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(state)
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Metrics in the OpenMetrics text format", body = String,
               content_type = "application/openmetrics-text")))]
async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let readings = Readings {
        engine_waiting: state.engine.waiting(),
        is_catalog_available: state.gate.is_open(),
        connections: state.catalog.connections(),
        hidden_tracks: state.hidden_tracks.snapshot().ids().count(),
        manifests: state.models.manifests(),
    };
    let text = state.metrics.text(readings).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
