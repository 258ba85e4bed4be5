//! `/health`: whether the server is alive, and whether it is ready.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::state::AppState;

/// Longest wait for the catalog to reply.
const PATIENCE: Duration = Duration::from_secs(1);

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// The server is alive.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Live {
    /// always "ok"
    #[schema(example = "ok")]
    pub status: String,
}

/// What the server can do now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// "ok"; "degraded" if the catalog is read-only or unavailable: without it, similar tracks and inline completions work,
    /// some without names
    #[schema(example = "ok")]
    pub status: String,
    /// "ok", "read-only" or "unavailable"
    #[schema(example = "ok")]
    pub catalog: String,
    /// version of the loaded model of each kind
    pub models: BTreeMap<String, String>,
}

/// Liveness
///
/// Whether the process is alive; does not depend on anything else.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "Alive", body = Live)))]
async fn live() -> Json<Live> {
    Json(Live { status: "ok".to_owned() })
}

/// Readiness
///
/// 200 if a model is loaded, otherwise 503.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, description = "A model is loaded", body = Ready),
              (status = 503, description = "No model is loaded", body = Problem,
               content_type = "application/problem+json")))]
async fn ready(State(state): State<AppState>) -> Result<Json<Ready>, ApiError> {
    let catalog = match state.gate.is_open() {
        true => tokio::time::timeout(PATIENCE, state.catalog.is_read_only()).await.ok().and_then(Result::ok),
        false => None,
    };
    let loaded = state.models.manifests().into_iter();
    let models: BTreeMap<String, String> = loaded.map(|model| (model.kind.to_string(), model.version)).collect();
    if models.is_empty() {
        return Err(ApiError::NoModel(Kind::Completion));
    }
    let (status, catalog) = match catalog {
        Some(false) => ("ok", "ok"),
        Some(true) => ("degraded", "read-only"),
        None => ("degraded", "unavailable"),
    };
    Ok(Json(Ready { status: status.to_owned(), catalog: catalog.to_owned(), models }))
}
