//! What is loaded.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Manifest;
use crate::serve::AppState;

/// Routes under `/models`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
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
