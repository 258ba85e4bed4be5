//! Parts of the ratings model by themselves: what it knows of a track.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::recommend::ratings::RatingsModel;
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::{AppState, Loaded};

/// Routes of parts.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(embedding)).routes(routes!(bias))
}

/// What the ratings model describes a track by.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackEmbedding {
    /// the track
    pub track_id: String,
    /// version of the model
    pub model_version: String,
    /// which model: `gp`, `dot`, `bias`, `mlp`
    #[schema(example = "gp")]
    pub model: String,
    /// the numbers that a user's taste is a function of
    pub embedding: Vec<f32>,
}

/// How much better than others a track is rated.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackBias {
    /// the track
    pub track_id: String,
    /// version of the model
    pub model_version: String,
    /// which model: `gp`, `bias`
    #[schema(example = "gp")]
    pub model: String,
    /// what the model expects of it above the mean rating, before anything is known of the user
    #[schema(example = 0.42)]
    pub bias: f32,
    /// the mean rating
    #[schema(example = 3.5)]
    pub mean: f32,
}

/// What the ratings model describes a track by: the same numbers for everyone.
#[utoipa::path(get, path = "/tracks/{id}/embedding", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "Its embedding", body = TrackEmbedding),
              (status = 404, description = "The model does not know the track", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No ratings model", body = Problem, content_type = "application/problem+json")))]
async fn embedding(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<TrackEmbedding>, ApiError> {
    let (loaded, row) = known(&state, &id)?;
    let embedding = loaded.model.bundle().feature(row).to_vec();
    let (model_version, model) = names(&loaded);
    Ok(Json(TrackEmbedding { track_id: id, model_version, model, embedding }))
}

/// How much better than others the ratings model expects a track to be rated.
#[utoipa::path(get, path = "/tracks/{id}/bias", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "Its bias", body = TrackBias),
              (status = 404, description = "The model does not know the track, or has no biases", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No ratings model", body = Problem, content_type = "application/problem+json")))]
async fn bias(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<TrackBias>, ApiError> {
    let (loaded, row) = known(&state, &id)?;
    let (model_version, model) = names(&loaded);
    let bias = loaded.model.bias(row).ok_or_else(|| ApiError::NoSuchPart(model.clone(), "biases"))?;
    let mean = loaded.model.bundle().shape.mean;
    Ok(Json(TrackBias { track_id: id, model_version, model, bias, mean }))
}

/// The ratings model, and the row of a track in it.
fn known(state: &AppState, id: &str) -> Result<(Arc<Loaded<RatingsModel>>, u32), ApiError> {
    let loaded = state.ratings()?;
    let row = loaded.model.vocabulary().row(id).ok_or_else(|| ApiError::TrackNotInModel(id.to_owned()))?;
    Ok((loaded, row))
}

fn names(loaded: &Loaded<RatingsModel>) -> (String, String) {
    (loaded.manifest.version.clone(), loaded.model.bundle().shape.model.clone())
}
