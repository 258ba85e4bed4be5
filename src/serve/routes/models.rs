//! Models: what is loaded and published; switching, and second versions that answer unseen.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::{Kind, Manifest};
use crate::serve::AppState;
use crate::serve::http::extract::{JsonBody, Whole};
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::models::store::VersionError;

/// Routes under `/models`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(activate)).routes(routes!(shadow))
}

/// The models that answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// one a kind
    pub models: Vec<ModelInfo>,
}

/// A loaded model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// what it answers
    #[schema(example = "similarity")]
    pub kind: String,
    /// its version; sorts by time
    #[schema(example = "20261121T201533.120Z")]
    pub version: String,
    /// when it was published (RFC 3339)
    pub created_at: String,
    /// tracks that it knows
    pub tracks: usize,
    /// those of them that it recommends
    pub candidates: usize,
    /// length of a track's vector
    pub dimensions: usize,
    /// hyper-parameters
    pub parameters: Value,
    /// what it was trained on: playlists, tracks, placements, newest change, hash
    pub data: Value,
    /// what was measured when it was trained
    pub metrics: Value,
    /// versions that are published, newest first
    pub published: Vec<String>,
}

/// A version to switch to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// a published version
    #[schema(example = "20261121T201533.120Z")]
    pub version: String,
}

/// A second version that answers too.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// a published version; null or left out ends it
    #[schema(example = "20261121T201533.120Z")]
    pub version: Option<String>,
    /// one in so many requests
    #[serde(default)]
    pub every: Every,
}

/// One in so many, 1 to 1,000,000.
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

/// The version that answers from now on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ActiveModel {
    /// what it answers
    #[schema(example = "similarity")]
    pub kind: String,
    /// its version; null where a second version was ended
    pub version: Option<String>,
}

/// The models that answer at the moment, with their data, hyper-parameters and metrics.
#[utoipa::path(get, path = "/models", tag = "models",
    responses((status = 200, description = "What is loaded; empty before the first training", body = ModelList)))]
async fn list(State(state): State<AppState>) -> Json<ModelList> {
    let info = |manifest: &Manifest, tracks, candidates, dimensions| ModelInfo {
        kind: manifest.kind.to_string(),
        version: manifest.version.clone(),
        created_at: manifest.created_at.clone(),
        tracks,
        candidates,
        dimensions,
        parameters: manifest.parameters.clone(),
        data: serde_json::to_value(&manifest.data).unwrap_or_default(),
        metrics: manifest.metrics.clone(),
        published: state.models.published(manifest.kind),
    };
    let completion = state.models.completion().map(|loaded| {
        let index = &loaded.model.bundle().index;
        info(&loaded.manifest, index.tracks(), index.popular.len(), index.dimensions())
    });
    let similarity = state.models.similarity().map(|loaded| {
        let model = &loaded.model;
        info(&loaded.manifest, model.vocabulary().len(), model.candidates(), model.dimensions())
    });
    let ratings = state.models.ratings().map(|loaded| {
        let (model, tracks) = (&loaded.model, loaded.model.vocabulary().len());
        info(&loaded.manifest, tracks, tracks, model.bundle().columns())
    });
    let clicks = state.models.clicks().map(|loaded| {
        let tracks = loaded.model.bundle().tracks.len();
        info(&loaded.manifest, tracks, tracks, 0)
    });
    Json(ModelList { models: [completion, similarity, ratings, clicks].into_iter().flatten().collect() })
}

/// Switches to a published version, an older one too. It is read and checked whole before; requests under way finish on
/// the one before. Other servers of the same models folder follow within seconds.
#[utoipa::path(post, path = "/models/{kind}/activate", tag = "models",
    params(("kind" = String, Path, description = "completion, similarity, ratings or clicks",
            pattern = "^(completion|similarity|ratings|clicks)$")),
    request_body = ActivateRequest,
    responses((status = 200, description = "It answers", body = ActiveModel),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such kind or version", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It is damaged, or the models folder can't be written", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn activate(
    State(state): State<AppState>,
    Path(kind): Path<String>,
    JsonBody(ActivateRequest { version }): JsonBody<ActivateRequest>,
) -> Result<Json<ActiveModel>, ApiError> {
    let kind = parse_kind(kind)?;
    let name = version.clone();
    blocking(move || state.models.activate(kind, &name)).await?;
    Ok(Json(ActiveModel { kind: kind.to_string(), version: Some(version) }))
}

/// Has another published version answer some of the requests too, unseen: how far it agrees is a metric
/// (`segue_shadow_agreement`). It lasts until it is ended, or the server is.
#[utoipa::path(post, path = "/models/{kind}/shadow", tag = "models",
    params(("kind" = String, Path, description = "completion, similarity, ratings or clicks",
            pattern = "^(completion|similarity|ratings|clicks)$")),
    request_body = ShadowRequest,
    responses((status = 200, description = "It answers too", body = ActiveModel),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such kind or version", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn shadow(
    State(state): State<AppState>,
    Path(kind): Path<String>,
    JsonBody(ShadowRequest { version, every }): JsonBody<ShadowRequest>,
) -> Result<Json<ActiveModel>, ApiError> {
    let kind = parse_kind(kind)?;
    let name = version.clone();
    blocking(move || state.models.set_shadow(kind, name.as_deref(), every.0)).await?;
    Ok(Json(ActiveModel { kind: kind.to_string(), version }))
}

fn parse_kind(text: String) -> Result<Kind, ApiError> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ApiError::UnknownKind(text))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VersionError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::Internal(error.into()))?;
    Ok(done?)
}
