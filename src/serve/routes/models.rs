//! `/models`: loaded and published versions, activation, shadow versions.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::serve::http::extract::{JsonBody, Whole};
use crate::serve::http::problem::ApiError;
use crate::serve::models::slot::ModelSummary;
use crate::serve::state::AppState;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(activate)).routes(routes!(shadow))
}

/// The loaded models.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// one for each kind
    pub models: Vec<ModelInfo>,
}

/// A loaded model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// what it is for
    #[schema(example = "similarity")]
    pub kind: String,
    /// its version; versions sort by time
    #[schema(example = "20261121T201533.120Z")]
    pub version: String,
    /// when it was published (RFC 3339)
    pub created_at: String,
    /// tracks that it knows
    pub tracks: usize,
    /// tracks that it may recommend
    pub candidates: usize,
    /// length of a track's vector
    pub dimensions: usize,
    /// hyperparameters
    pub parameters: Value,
    /// what it was trained on: playlists, tracks, placements, newest change, hash
    pub data: Value,
    /// metrics that the training measured
    pub metrics: Value,
    /// published versions of the kind, newest first
    pub published: Vec<String>,
}

/// A version to activate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// a published version
    #[schema(example = "20261121T201533.120Z")]
    pub version: String,
}

/// A version to run as a shadow.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// a published version; null or omitted ends the shadow
    #[schema(example = "20261121T201533.120Z")]
    pub version: Option<String>,
    /// send it one in this many requests
    #[serde(default)]
    pub every: Every,
}

/// One in this many requests, 1 to 1,000,000.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Whole")]
#[schema(value_type = i64, minimum = 1, maximum = 1_000_000, default = 10)]
pub struct Every(u64);

impl Default for Every {
    fn default() -> Self {
        Self(10)
    }
}

impl TryFrom<Whole> for Every {
    type Error = String;

    fn try_from(Whole(value): Whole) -> Result<Self, String> {
        match u64::try_from(value) {
            Ok(every @ 1..=1_000_000) => Ok(Self(every)),
            _ => Err("must be between 1 and 1000000".to_owned()),
        }
    }
}

/// The activated version, or the shadow version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ActiveModel {
    /// what it is for
    #[schema(example = "similarity")]
    pub kind: String,
    /// its version; null if the shadow was ended
    pub version: Option<String>,
}

/// List loaded models
///
/// With their data, hyperparameters and metrics.
#[utoipa::path(get, path = "/models", tag = "models",
    responses((status = 200, description = "The loaded models; none before the first training", body = ModelList)))]
async fn list(State(state): State<AppState>) -> Json<ModelList> {
    let info = |summary: ModelSummary| {
        let ModelSummary { manifest, tracks, candidates, dimensions } = summary;
        ModelInfo {
            kind: manifest.kind.to_string(),
            version: manifest.version,
            created_at: manifest.created_at,
            tracks,
            candidates,
            dimensions,
            parameters: manifest.parameters,
            data: serde_json::to_value(&manifest.data).unwrap_or_default(),
            metrics: manifest.metrics,
            published: state.models.published(manifest.kind),
        }
    };
    Json(ModelList { models: state.models.summaries().map(info).collect() })
}

/// Activate a version
///
/// Makes a published version the current one; an older one rolls back. The server verifies the bundle first; requests in
/// progress finish with the previous version. Other servers with the same models folder follow within seconds.
#[utoipa::path(post, path = "/models/{kind}/activate", tag = "models",
    params(("kind" = String, Path, description = "completion, similarity, ratings or clicks",
            pattern = "^(completion|similarity|ratings|clicks)$")),
    request_body = ActivateRequest,
    responses((status = 200, description = "The version is active", body = ActiveModel)))]
async fn activate(
    State(state): State<AppState>,
    Path(kind): Path<String>,
    JsonBody(ActivateRequest { version }): JsonBody<ActivateRequest>,
) -> Result<Json<ActiveModel>, ApiError> {
    let kind = parse_kind(kind)?;
    state.models.activate(kind, version.clone()).await?;
    Ok(Json(ActiveModel { kind: kind.to_string(), version: Some(version) }))
}

/// Run a shadow version
///
/// A second published version also answers a share of requests, unseen; the metric `segue_shadow_agreement` says how far
/// it agrees with the current version. The shadow lasts until it is ended or the server stops.
#[utoipa::path(post, path = "/models/{kind}/shadow", tag = "models",
    params(("kind" = String, Path, description = "completion, similarity, ratings or clicks",
            pattern = "^(completion|similarity|ratings|clicks)$")),
    request_body = ShadowRequest,
    responses((status = 200, description = "The shadow runs, or was ended", body = ActiveModel)))]
async fn shadow(
    State(state): State<AppState>,
    Path(kind): Path<String>,
    JsonBody(ShadowRequest { version, every }): JsonBody<ShadowRequest>,
) -> Result<Json<ActiveModel>, ApiError> {
    let kind = parse_kind(kind)?;
    state.models.set_shadow(kind, version.clone(), every.0).await?;
    Ok(Json(ActiveModel { kind: kind.to_string(), version }))
}

fn parse_kind(text: String) -> Result<Kind, ApiError> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ApiError::UnknownKind(text))
}
