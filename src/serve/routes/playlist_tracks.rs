//! The tracks of a playlist: append, insert, move, remove, replace.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::playlists::{Position, known, track_ids};
use crate::catalog::Edit;
use crate::serve::AppState;
use crate::serve::http::extract::{Id, JsonBody, Preconditions, entity_tag, query};
use crate::serve::http::problem::{ApiError, Problem};

/// Routes under `/playlists/{id}/tracks`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(add, replace, remove)).routes(routes!(rearrange))
}

/// Tracks to add.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTracks {
    /// their ids in order, all of which the catalog has to have
    #[schema(min_items = 1, max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
    /// position that the first of them gets; left out, the end
    pub position: Option<Position>,
}

/// All tracks of a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceTracks {
    /// their ids in order, all of which the catalog has to have
    #[schema(max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
}

/// Tracks to move.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveTracks {
    /// position of the first of them
    pub from: Position,
    /// how many
    #[serde(default = "one")]
    pub count: Position,
    /// position that the first of them gets, in the playlist as it is afterwards
    pub to: Position,
}

/// Tracks to remove.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveTracks {
    /// position of the first of them
    #[param(value_type = i64, minimum = 0, maximum = 100_000)]
    position: Position,
    /// how many
    #[serde(default = "one")]
    #[param(value_type = i64, minimum = 0, maximum = 100_000, default = 1)]
    count: Position,
}

fn one() -> Position {
    Position::ONE
}

/// A playlist after a change of its tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedPlaylist {
    /// the app's id
    pub id: String,
    /// tracks that it has now
    pub num_tracks: i32,
}

/// Adds tracks at the end of a playlist, or at a position.
#[utoipa::path(post, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "only in this state")),
    request_body = AddTracks,
    responses((status = 200, description = "They are in it", body = ChangedPlaylist, headers(("ETag" = String, description = "its state"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No such track or position, or changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn add(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(AddTracks { tracks, position }): JsonBody<AddTracks>,
) -> Result<Response, ApiError> {
    if tracks.is_empty() {
        let reason = "must hold at least one track".to_owned();
        return Err(ApiError::InvalidField { field: "tracks".to_owned(), reason });
    }
    let tracks = track_ids(tracks)?;
    let edit = match position {
        None => Edit::Append(tracks),
        Some(at) => Edit::Insert { at: at.get(), tracks },
    };
    apply(&state, id, edit, &preconditions).await
}

/// Puts others in the place of all tracks of a playlist.
#[utoipa::path(put, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "only in this state")),
    request_body = ReplaceTracks,
    responses((status = 200, description = "They are in it", body = ChangedPlaylist, headers(("ETag" = String, description = "its state"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No such track or position, or changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(ReplaceTracks { tracks }): JsonBody<ReplaceTracks>,
) -> Result<Response, ApiError> {
    apply(&state, id, Edit::Replace(track_ids(tracks)?), &preconditions).await
}

/// Removes tracks from a playlist; those behind them move up.
#[utoipa::path(delete, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "only in this state"), RemoveTracks),
    responses((status = 200, description = "They are out of it", body = ChangedPlaylist, headers(("ETag" = String, description = "its state"))),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No such track or position, or changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    parameters: Result<Query<RemoveTracks>, QueryRejection>,
) -> Result<Response, ApiError> {
    let RemoveTracks { position, count } = query(parameters)?;
    apply(&state, id, Edit::Remove { from: position.get(), count: count.get() }, &preconditions).await
}

/// Moves tracks within a playlist.
#[utoipa::path(post, path = "/playlists/{id}/tracks/move", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "only in this state")),
    request_body = MoveTracks,
    responses((status = 200, description = "They are elsewhere", body = ChangedPlaylist, headers(("ETag" = String, description = "its state"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No such track or position, or changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn rearrange(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(MoveTracks { from, count, to }): JsonBody<MoveTracks>,
) -> Result<Response, ApiError> {
    apply(&state, id, Edit::Move { from: from.get(), count: count.get(), to: to.get() }, &preconditions).await
}

async fn apply(state: &AppState, id: String, edit: Edit, preconditions: &Preconditions) -> Result<Response, ApiError> {
    let (id, expected) = (known(id)?, preconditions.expected());
    let edited = state.catalog()?.edit_playlist(&id, edit, expected.as_deref()).await?;
    let body = ChangedPlaylist { id: id.into(), num_tracks: edited.num_tracks };
    Ok(([(ETAG, entity_tag(edited.tag))], Json(body)).into_response())
}
