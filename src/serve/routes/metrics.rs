//! What is measured of the server.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::AppState;
use crate::serve::http::problem::ApiError;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Route of metrics.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// The same by itself, for a port of its own.
pub fn open_router(state: AppState) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(state)
}

/// What is measured of the server, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Metrics in the format of OpenMetrics", body = String,
               content_type = "application/openmetrics-text")))]
async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let text = state.metrics.text(&state).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
