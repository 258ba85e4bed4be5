//! `/playlists/{id}/tracks`: append, insert, move, remove, replace.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::playlists::{Position, playlist_id, track_ids};
use crate::catalog::Edit;
use crate::serve::http::extract::{Id, JsonBody, Preconditions, QueryParameters, entity_tag};
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(add, replace, remove)).routes(routes!(rearrange))
}

/// Tracks to add.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTracks {
    /// ids in order; the catalog must have all of them
    #[schema(min_items = 1, max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
    /// new position of the first of them; the end if omitted
    pub position: Option<Position>,
}

/// All tracks of a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceTracks {
    /// ids in order; the catalog must have all of them
    #[schema(max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
}

/// Tracks to move.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveTracks {
    /// position of the first of them
    pub from: Position,
    /// number of tracks
    #[serde(default = "one")]
    pub count: Position,
    /// new position of the first of them, in the playlist after the move
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
    /// number of tracks
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
    /// number of tracks after the change
    pub num_tracks: i32,
}

/// Add tracks to a playlist
///
/// At the end, or at a position.
#[utoipa::path(post, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the playlist only if this is its entity tag")),
    request_body = AddTracks,
    responses((status = 200, description = "The tracks were added", body = ChangedPlaylist, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn add(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(AddTracks { tracks, position }): JsonBody<AddTracks>,
) -> Result<Response, ApiError> {
    if tracks.is_empty() {
        let reason = "must contain at least one track".to_owned();
        return Err(ApiError::invalid("tracks", reason));
    }
    let tracks = track_ids(tracks)?;
    let edit = match position {
        None => Edit::Append(tracks),
        Some(at) => Edit::Insert { at: at.get(), tracks },
    };
    apply(&state, id, edit, &preconditions).await
}

/// Replace all tracks of a playlist
#[utoipa::path(put, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the playlist only if this is its entity tag")),
    request_body = ReplaceTracks,
    responses((status = 200, description = "The tracks were replaced", body = ChangedPlaylist, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(ReplaceTracks { tracks }): JsonBody<ReplaceTracks>,
) -> Result<Response, ApiError> {
    apply(&state, id, Edit::Replace(track_ids(tracks)?), &preconditions).await
}

/// Remove tracks from a playlist
///
/// The tracks after them move up.
#[utoipa::path(delete, path = "/playlists/{id}/tracks", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the playlist only if this is its entity tag"), RemoveTracks),
    responses((status = 200, description = "The tracks were removed", body = ChangedPlaylist, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn remove(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    QueryParameters(query): QueryParameters<RemoveTracks>,
) -> Result<Response, ApiError> {
    let RemoveTracks { position, count } = query;
    apply(&state, id, Edit::Remove { from: position.get(), count: count.get() }, &preconditions).await
}

/// Move tracks within a playlist
#[utoipa::path(post, path = "/playlists/{id}/tracks/move", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the playlist only if this is its entity tag")),
    request_body = MoveTracks,
    responses((status = 200, description = "The tracks were moved", body = ChangedPlaylist, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn rearrange(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(MoveTracks { from, count, to }): JsonBody<MoveTracks>,
) -> Result<Response, ApiError> {
    apply(&state, id, Edit::Move { from: from.get(), count: count.get(), to: to.get() }, &preconditions).await
}

async fn apply(state: &AppState, id: String, edit: Edit, preconditions: &Preconditions) -> Result<Response, ApiError> {
    let id = playlist_id(id)?;
    let catalog = state.catalog_to_edit(&id).await?;
    let check = |tag| preconditions.check(Some(&entity_tag(tag)));
    let edited = catalog.edit_playlist(&id, &edit, preconditions.expected().as_deref(), check).await?;
    let body = ChangedPlaylist { id: id.into(), num_tracks: edited.num_tracks };
    Ok(([(ETAG, entity_tag(edited.tag))], Json(body)).into_response())
}
