//! Whether the server is alive, and whether it can answer.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::AppState;

/// Longest wait for the catalog's sign of life.
const PATIENCE: Duration = Duration::from_secs(1);

/// Routes under `/health`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// A sign of life.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Live {
    /// always "ok"
    #[schema(example = "ok")]
    pub status: String,
}

/// What the server can do at the moment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// "ok"; "degraded" when the catalog is away: similar tracks and inline completions are answered, without names;
    /// "unavailable" when no model is loaded
    #[schema(example = "ok")]
    pub status: String,
    /// "ok" or "unavailable"
    #[schema(example = "ok")]
    pub catalog: String,
    /// version of the model loaded for each kind
    pub models: BTreeMap<String, String>,
}

/// Whether the process is alive. Asks nothing of anyone else.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "Alive", body = Live)))]
async fn live() -> Json<Live> {
    Json(Live { status: "ok".to_owned() })
}

/// Whether the server can answer: 200 when a model is loaded, else 503.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, description = "Can answer", body = Ready),
              (status = 503, description = "No model is loaded", body = crate::serve::http::problem::Problem,
               content_type = "application/problem+json")))]
async fn ready(
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<Ready>), crate::serve::http::problem::ApiError> {
    let catalog =
        state.gate.is_open() && matches!(tokio::time::timeout(PATIENCE, state.catalog.ping()).await, Ok(Ok(())));
    let loaded = state.models.manifests().into_iter();
    let models: BTreeMap<String, String> = loaded.map(|model| (model.kind.to_string(), model.version)).collect();
    if models.is_empty() {
        return Err(crate::serve::http::problem::ApiError::NoModel(crate::bundle::Kind::Completion));
    }
    let (status, catalog) = if catalog { ("ok", "ok") } else { ("degraded", "unavailable") };
    Ok((StatusCode::OK, Json(Ready { status: status.to_owned(), catalog: catalog.to_owned(), models })))
}
