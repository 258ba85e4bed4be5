//! Click probability: will this user come back to these tracks?

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::recommend::clicks::{ENSEMBLE, Question};
use crate::serve::AppState;
use crate::serve::http::extract::{BoundedList, JsonBody, Object};
use crate::serve::http::problem::{ApiError, Problem};

/// Most tracks of a request.
const MAX_TRACKS: usize = 1_000;

/// Routes of scores.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(score))
}

/// Where in the app the tracks are offered. A field that is left out is not known.
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

/// Which probabilities.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoresRequest {
    /// the app's id of the user, who need not be known
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's ids of the tracks, up to 1,000
    #[schema(max_items = 1_000, value_type = Vec<String>)]
    pub tracks: BoundedList<String, MAX_TRACKS>,
    /// where they are offered
    #[serde(default)]
    #[schema(value_type = ScoreContext)]
    pub context: Object<ScoreContext>,
    /// the model that answers, one of the bundle's: `ensemble` (all of them together, the default), `deepfm`, …
    #[schema(example = "ensemble")]
    pub model: Option<String>,
    /// a published version of the bundle; left out, the current one
    pub version: Option<String>,
}

/// A track with its probability.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScoredTrack {
    /// the app's id of the track
    pub track_id: String,
    /// how likely it is that the user, once the track is begun, comes back to it within a month
    #[schema(example = 0.83)]
    pub probability: f32,
}

/// Probabilities.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Scores {
    /// the user
    pub user_id: String,
    /// version of the bundle that answered
    pub model_version: String,
    /// the model that answered
    pub model: String,
    /// in the order of the request
    pub scores: Vec<ScoredTrack>,
    /// true for a user of whom nothing is known: the probabilities are those of a new user
    pub unknown_user: bool,
    /// tracks of which nothing is known: theirs are those of a new track
    pub unknown_tracks: Vec<String>,
    /// fields of the context whose value occurred in no listen that the model learned from: they count as left out
    pub unknown_context: Vec<String>,
}

/// How likely a user is to come back to each of some tracks, by all listens up to now.
#[utoipa::path(post, path = "/scores", tag = "users", request_body = ScoresRequest,
    responses((status = 200, description = "A probability for each track, in the order of the request", body = Scores),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such version, or no such model in the bundle", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn score(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<ScoresRequest>,
) -> Result<Json<Scores>, ApiError> {
    let loaded = state.models.clicks_of(request.version.as_deref()).await?.ok_or(ApiError::NoModel(Kind::Clicks))?;
    if let Some(model) = &request.model {
        let names = loaded.model.names();
        if !names.contains(&model.as_str()) {
            let detail = format!("there is no {model:?} in this bundle, but {}", names.join(", "));
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
    let is_of_version = request.version.is_some();
    if let Some(second) = state.models.clicks_shadow().filter(|second| !is_of_version && second.is_due()) {
        let (question, first) = (question.clone(), answer.probabilities.clone());
        state.shadow(Kind::Clicks, move || {
            // A second version may lack the model that was asked for.
            let Some(answer) = second.loaded.model.answer(&question) else { return 0.0 };
            let differences = first.iter().zip(&answer.probabilities).map(|(first, second)| (first - second).abs());
            1.0 - f64::from(differences.sum::<f32>()) / first.len().max(1) as f64
        });
    }
    let unknown_tracks = answer.unknown_tracks.iter().map(|&place| question.tracks[place].clone()).collect();
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
