//! What the ratings model has learned of a track: `GET /tracks/{id}/embedding` and `GET /tracks/{id}/bias`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::recommend::ratings::RatingsModel;
use crate::serve::http::problem::ApiError;
use crate::serve::models::LoadedModel;
use crate::serve::state::AppState;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(embedding)).routes(routes!(bias))
}

/// The embedding of a track in the ratings model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackEmbedding {
    /// the track
    pub track_id: String,
    /// version of the model
    pub model_version: String,
    /// which model: `gp`, `dot`, `bias`, `mlp`
    #[schema(example = "gp")]
    pub model: String,
    /// the numbers from which the model predicts ratings
    pub embedding: Vec<f32>,
}

/// The bias of a track in the ratings model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackBias {
    /// the track
    pub track_id: String,
    /// version of the model
    pub model_version: String,
    /// which model: `gp`, `bias`
    #[schema(example = "gp")]
    pub model: String,
    /// predicted rating above the mean, for a user of whom nothing is known
    #[schema(example = 0.42)]
    pub bias: f32,
    /// mean rating
    #[schema(example = 3.5)]
    pub mean: f32,
}

/// Embedding of a track
///
/// The numbers with which the ratings model describes a track; the same for all users.
#[utoipa::path(get, path = "/tracks/{id}/embedding", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "The embedding", body = TrackEmbedding)))]
async fn embedding(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<TrackEmbedding>, ApiError> {
    let (loaded, row) = loaded_with_row(&state, &id).await?;
    let embedding = loaded.model.bundle().feature(row).to_vec();
    let (model_version, model) = version_and_model(&loaded);
    Ok(Json(TrackEmbedding { track_id: id, model_version, model, embedding }))
}

/// Bias of a track
///
/// How much higher than the mean the ratings model expects the track to be rated.
#[utoipa::path(get, path = "/tracks/{id}/bias", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "The bias", body = TrackBias)))]
async fn bias(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<TrackBias>, ApiError> {
    let (loaded, row) = loaded_with_row(&state, &id).await?;
    let (model_version, model) = version_and_model(&loaded);
    let bias = loaded.model.bias(row).ok_or_else(|| ApiError::NoSuchPart(model.clone(), "biases"))?;
    let mean = loaded.model.bundle().shape.mean;
    Ok(Json(TrackBias { track_id: id, model_version, model, bias, mean }))
}

/// Returns the ratings model, and the row of a track in it.
async fn loaded_with_row(state: &AppState, id: &str) -> Result<(Arc<LoadedModel<RatingsModel>>, u32), ApiError> {
    let loaded = state.model::<RatingsModel>(None).await?;
    let row = loaded.model.vocabulary().row(id).ok_or_else(|| ApiError::TrackNotInModel(id.to_owned()))?;
    Ok((loaded, row))
}

fn version_and_model(loaded: &LoadedModel<RatingsModel>) -> (String, String) {
    (loaded.manifest.version.clone(), loaded.model.bundle().shape.model.clone())
}
