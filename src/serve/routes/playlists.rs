//! Playlists: one by itself, and what comes next in it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::tracks::{Item, Scored, source_of};
use crate::recommend::Completion;
use crate::serve::error::{ApiError, Problem};
use crate::serve::extract::{BoundedList, JsonBody, Limit, OptionalJsonBody, query};
use crate::serve::{AppState, LoadedModel};

/// Most playlists in one inline request.
const MAX_PLAYLISTS: usize = 64;
/// Most tracks of an inline playlist, and most excluded ones.
const MAX_TRACKS: usize = 10_000;

/// Routes under `/playlists`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(complete)).routes(routes!(complete_inline))
}

/// A playlist of the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistBody {
    /// the app's id
    #[schema(example = "37i9dQZF1DX4sWSpwq3LiO")]
    pub id: String,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// followers
    pub num_followers: Option<i32>,
    /// edits, as the source states them
    pub num_edits: Option<i32>,
    /// tracks in it, repeats counted
    pub num_tracks: i32,
    /// distinct albums, as the source states them
    pub num_albums: Option<i32>,
    /// distinct artists, as the source states them
    pub num_artists: Option<i32>,
    /// length in milliseconds, as the source states it
    pub duration_ms: Option<i64>,
    /// last change by its owner
    #[serde(with = "time::serde::rfc3339::option")]
    pub modified_at: Option<time::OffsetDateTime>,
    /// its tracks in order, from position `from` on
    pub tracks: Vec<PlacedTrack>,
    /// where to go on, if there are more: the next `from`
    pub next: Option<i32>,
}

/// A track in a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlacedTrack {
    /// position in the playlist, from 0
    pub position: i32,
    /// the app's id of the track
    pub track_id: String,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
}

/// Which of a playlist's tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TracksQuery {
    /// first position
    #[serde(default)]
    #[param(minimum = 0)]
    from: u16,
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// What recommends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompletionModel {
    /// track vectors, filled up by popularity
    #[default]
    Track2vec,
    /// the most popular tracks, the same for everyone
    Popularity,
}

/// How to complete a stored playlist. All of it may be left out.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// number of tracks to recommend
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks that must not be recommended, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends
    #[serde(default)]
    pub model: CompletionModel,
}

/// Playlists to complete that need not be in the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineCompleteRequest {
    /// 1 to 64 playlists
    #[schema(value_type = Vec<InlinePlaylist>, min_items = 1, max_items = 64)]
    pub playlists: BoundedList<InlinePlaylist, MAX_PLAYLISTS>,
    /// number of tracks to recommend for each
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks that must not be recommended for any, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends
    #[serde(default)]
    pub model: CompletionModel,
}

/// A playlist given in the request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlinePlaylist {
    /// its title; neither `track2vec` nor `popularity` goes by it
    #[serde(default)]
    #[schema(example = "late night jazz")]
    pub title: Option<String>,
    /// ids of its tracks in order, up to 10,000; without any, the popular tracks are recommended
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub tracks: BoundedList<String, MAX_TRACKS>,
}

/// What comes next in a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletionBody {
    /// what the answer rests on: `track2vec`, or `popularity` when there is no known track to go by
    #[schema(example = "track2vec")]
    pub source: String,
    /// best first; distinct, none of them in the playlist already
    pub items: Vec<Item>,
    /// tracks of the playlist and the exclusions that the model does not know; they were passed over
    pub unknown_tracks: Vec<String>,
}

/// Completion of a stored playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompleteResponse {
    /// the playlist
    pub playlist_id: String,
    /// version of the model that answered
    pub model_version: String,
    /// what comes next
    #[serde(flatten)]
    pub completion: CompletionBody,
}

/// Completions of inline playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InlineCompleteResponse {
    /// version of the model that answered
    pub model_version: String,
    /// one a playlist, in the order of the request
    pub completions: Vec<CompletionBody>,
}

/// A playlist of the catalog with its tracks.
#[utoipa::path(get, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"), TracksQuery),
    responses((status = 200, description = "The playlist", body = PlaylistBody),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "The catalog is away", body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<TracksQuery>, QueryRejection>,
) -> Result<Json<PlaylistBody>, ApiError> {
    let TracksQuery { from, limit } = query(parameters)?;
    let playlist = state.catalog.playlist(&id).await?.ok_or_else(|| ApiError::UnknownPlaylist(id.clone()))?;
    let tracks = state.catalog.playlist_tracks(&id, from.into(), limit.get() as i64).await?;
    let next = tracks.last().map(|track| track.position + 1).filter(|&next| next < playlist.num_tracks);
    Ok(Json(PlaylistBody {
        id: playlist.id,
        title: playlist.title,
        description: playlist.description,
        collaborative: playlist.collaborative,
        num_followers: playlist.num_followers,
        num_edits: playlist.num_edits,
        num_tracks: playlist.num_tracks,
        num_albums: playlist.num_albums,
        num_artists: playlist.num_artists,
        duration_ms: playlist.duration_ms,
        modified_at: playlist.modified_at,
        tracks: tracks
            .into_iter()
            .map(|track| PlacedTrack {
                position: track.position,
                track_id: track.id,
                name: track.name,
                artist: track.artist,
            })
            .collect(),
        next,
    }))
}

/// What comes next in a stored playlist: tracks that are not in it yet, best first.
#[utoipa::path(post, path = "/playlists/{id}/complete", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded")),
    request_body(content = Option<CompleteRequest>, description = "may be left out"),
    responses((status = 200, description = "What comes next", body = CompleteResponse),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, catalog away, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn complete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    OptionalJsonBody(request): OptionalJsonBody<CompleteRequest>,
) -> Result<Json<CompleteResponse>, ApiError> {
    let loaded = state.loaded()?;
    let tracks = state.catalog.playlist_track_ids(&id).await?;
    let tracks = tracks.ok_or_else(|| ApiError::UnknownPlaylist(id.clone()))?;
    let asked =
        Asked { playlists: vec![tracks], exclude: request.exclude.0, limit: request.limit, model: request.model };
    let completion = complete_all(&state, loaded.clone(), asked).await?.pop();
    let completion = completion.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("one playlist, no completion")))?;
    Ok(Json(CompleteResponse { playlist_id: id, model_version: loaded.manifest.version.clone(), completion }))
}

/// What comes next in up to 64 playlists given in the request.
#[utoipa::path(post, path = "/playlists/complete", tag = "playlists",
    request_body = InlineCompleteRequest,
    responses((status = 200, description = "What comes next in each", body = InlineCompleteResponse),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn complete_inline(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<InlineCompleteRequest>,
) -> Result<Json<InlineCompleteResponse>, ApiError> {
    if request.playlists.0.is_empty() {
        let reason = format!("must hold 1 to {MAX_PLAYLISTS} playlists");
        return Err(ApiError::InvalidField { field: "playlists".to_owned(), reason });
    }
    let loaded = state.loaded()?;
    let playlists = request.playlists.0.into_iter().map(|playlist| playlist.tracks.0).collect();
    let asked = Asked { playlists, exclude: request.exclude.0, limit: request.limit, model: request.model };
    let completions = complete_all(&state, loaded.clone(), asked).await?;
    Ok(Json(InlineCompleteResponse { model_version: loaded.manifest.version.clone(), completions }))
}

/// Playlists by the app's ids, and how to complete them.
struct Asked {
    playlists: Vec<Vec<String>>,
    exclude: Vec<String>,
    limit: Limit,
    model: CompletionModel,
}

/// A completion before the names are known.
struct Answer {
    recommended: Vec<Scored>,
    unknown_tracks: Vec<String>,
}

async fn complete_all(
    state: &AppState,
    loaded: Arc<LoadedModel>,
    asked: Asked,
) -> Result<Vec<CompletionBody>, ApiError> {
    let answers = state.engine.run(move || answer(&loaded, asked)).await?;
    let all: Vec<String> = answers.iter().flat_map(|answer| &answer.recommended).map(|item| item.id.clone()).collect();
    let names = state.names.of(&all).await;
    Ok(answers
        .into_iter()
        .map(|answer| CompletionBody {
            source: source_of(answer.recommended.first().map(|item| item.source)),
            items: answer.recommended.into_iter().map(|item| item.named(&names)).collect(),
            unknown_tracks: answer.unknown_tracks,
        })
        .collect())
}

/// On an engine thread.
fn answer(loaded: &LoadedModel, asked: Asked) -> Vec<Answer> {
    let model = &loaded.model;
    let limit = asked.limit.get();
    let (excluded, unknown_exclusions) = rows(&loaded.model, &asked.exclude);
    let mut unknown = Vec::with_capacity(asked.playlists.len());
    let playlists: Vec<Completion> = asked
        .playlists
        .iter()
        .map(|tracks| {
            let (seeds, unknown_seeds) = rows(model, tracks);
            unknown.push([unknown_seeds, unknown_exclusions.clone()].concat());
            Completion { seeds, excluded: excluded.clone(), limit, ..Completion::default() }
        })
        .collect();
    let recommended = match asked.model {
        CompletionModel::Track2vec => model.complete(&playlists),
        CompletionModel::Popularity => playlists
            .iter()
            .map(|playlist| model.popular(&[playlist.seeds.as_slice(), &playlist.excluded].concat(), limit))
            .collect(),
    };
    recommended
        .iter()
        .zip(unknown)
        .map(|(items, mut unknown_tracks)| {
            unknown_tracks.sort_unstable();
            unknown_tracks.dedup();
            Answer { recommended: items.iter().map(|item| Scored::new(item, model)).collect(), unknown_tracks }
        })
        .collect()
}

/// The rows of the ids that the model knows, and the ids that it does not.
fn rows(model: &crate::recommend::SimilarityModel, ids: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut rows = Vec::with_capacity(ids.len());
    let mut unknown = Vec::new();
    for id in ids {
        match model.vocabulary().row(id) {
            Some(row) => rows.push(row),
            None => unknown.push(id.clone()),
        }
    }
    (rows, unknown)
}
