//! `POST /scores`: click probabilities of tracks for a user.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::recommend::clicks::{ClickModel, ENSEMBLE, Question};
use crate::serve::http::extract::{BoundedList, JsonBody, Object};
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;

/// Most tracks of a request.
const MAX_TRACKS: usize = 1_000;

/// Returns the route.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(score))
}

/// Where in the app the tracks are offered. Omitted fields are unknown.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreContext {
    /// the tab of the app
    #[schema(example = "my library")]
    pub source_system_tab: Option<String>,
    /// the screen
    #[schema(example = "Local playlist more")]
    pub source_screen_name: Option<String>,
    /// what they are played from: an album, a playlist, a search
    #[schema(example = "local-library")]
    pub source_type: Option<String>,
}

/// Tracks to score for a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoresRequest {
    /// the app's id of the user, who may be unknown
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's ids of the tracks, up to 1,000
    #[schema(max_items = 1_000, value_type = Vec<String>)]
    pub tracks: BoundedList<String, MAX_TRACKS>,
    /// where they are offered
    #[serde(default)]
    #[schema(value_type = ScoreContext)]
    pub context: Object<ScoreContext>,
    /// a model of the bundle: `ensemble` (all of them together, the default), `deepfm`, …
    #[schema(example = "ensemble")]
    pub model: Option<String>,
    /// published version of the bundle; the current one if omitted
    pub version: Option<String>,
}

/// A track with its click probability.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScoredTrack {
    /// the app's id of the track
    pub track_id: String,
    /// probability that a user who starts the track comes back to it within a month
    #[schema(example = 0.83)]
    pub probability: f32,
}

/// Click probabilities.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Scores {
    /// the user
    pub user_id: String,
    /// version of the bundle
    pub model_version: String,
    /// the model that computed them
    pub model: String,
    /// in the order of the request
    pub scores: Vec<ScoredTrack>,
    /// true if nothing is known of the user: the probabilities are those for a new user
    pub unknown_user: bool,
    /// tracks of which nothing is known: their probabilities are those of a new track
    pub unknown_tracks: Vec<String>,
    /// fields of the context whose value the model has not seen in training: they count as omitted
    pub unknown_context: Vec<String>,
}

/// Click probabilities
///
/// How likely the user is to come back to each track within a month, from all listens so far.
#[utoipa::path(post, path = "/scores", tag = "users", request_body = ScoresRequest,
    responses((status = 200, description = "A probability for each track, in the order of the request", body = Scores)))]
async fn score(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<ScoresRequest>,
) -> Result<Json<Scores>, ApiError> {
    let loaded = state.model::<ClickModel>(request.version.as_deref()).await?;
    if let Some(model) = &request.model {
        let names = loaded.model.names();
        if !names.contains(&model.as_str()) {
            let detail = format!("unknown model {model:?}: this bundle has {}", names.join(", "));
            return Err(ApiError::UnknownModel(detail));
        }
    }
    let ScoreContext { source_system_tab, source_screen_name, source_type } = request.context.0;
    let alone = || loaded.model.bundle().members.first().map(|member| member.name.clone());
    let only = (loaded.model.bundle().members.len() == 1).then(alone).flatten();
    let model = request.model.clone().or(only).unwrap_or_else(|| ENSEMBLE.to_owned());
    let question = Question {
        user: request.user_id,
        tracks: request.tracks.0,
        source: [source_system_tab, source_screen_name, source_type],
        model: Some(model.clone()),
    };
    let model_version = loaded.manifest.version.clone();
    let (question, answer) = state.scores.ask(&state.engine, (loaded, question)).await?;
    let answer = answer.ok_or_else(|| ApiError::NoModel(Kind::Clicks))?;
    if let Some(shadow) = state.models.due_shadow::<ClickModel>(request.version.as_deref()) {
        let (question, first) = (question.clone(), answer.probabilities.clone());
        state.run_shadow(Kind::Clicks, move || {
            // The shadow version may lack the requested model.
            let Some(answer) = shadow.model.answer(&question) else { return 0.0 };
            let differences = first.iter().zip(&answer.probabilities).map(|(first, second)| (first - second).abs());
            1.0 - f64::from(differences.sum::<f32>()) / first.len().max(1) as f64
        });
    }
    let unknown_tracks = answer.unknown_tracks.iter().map(|&index| question.tracks[index].clone()).collect();
    let pairs = question.tracks.into_iter().zip(answer.probabilities);
    Ok(Json(Scores {
        user_id: question.user,
        model_version,
        model,
        scores: pairs.map(|(track_id, probability)| ScoredTrack { track_id, probability }).collect(),
        unknown_user: answer.unknown_user,
        unknown_tracks,
        unknown_context: answer.unknown_sources.into_iter().map(ToOwned::to_owned).collect(),
    }))
}
