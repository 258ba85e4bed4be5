//! `/playlists`: list, search, create, read, replace, change, delete; bulk requests.

use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::columns::{self, MAX_PLAYLIST_TRACKS as MAX_TRACKS};
use crate::catalog::fields::Omitted;
use crate::catalog::{
    CatalogError, Playlist, PlaylistFields, PlaylistId, PlaylistRecord, PlaylistState, TrackId, UserId, lines, times,
};
use crate::serve::http::extract::{
    Id, JsonBody, Limit, ListQuery, MergePatch, Page, Preconditions, QueryParameters, Whole, entity_tag, in_field,
    is_ndjson, optional_whole, percent_encode,
};
use crate::serve::http::ndjson::{self, BulkRows, RowOutcome};
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, replace, change, delete))
}

/// A playlist without its tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistSummary {
    /// the app's id
    #[schema(example = "37i9dQZF1DX4sWSpwq3LiO")]
    pub id: String,
    /// title
    pub title: Option<String>,
    /// description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// the app's id of the owner
    pub user_id: Option<String>,
    /// number of followers
    pub num_followers: Option<i32>,
    /// number of edits, as given
    pub num_edits: Option<i32>,
    /// number of tracks, repeats included
    pub num_tracks: i32,
    /// number of distinct albums, as given
    pub num_albums: Option<i32>,
    /// number of distinct artists, as given
    pub num_artists: Option<i32>,
    /// length in milliseconds, as given
    pub duration_ms: Option<i64>,
    /// last change by the owner
    #[serde(with = "times::optional")]
    pub modified_at: Option<OffsetDateTime>,
}

/// A playlist with its tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistBody {
    /// everything but the tracks
    #[serde(flatten)]
    pub summary: PlaylistSummary,
    /// tracks in order, from position `from` on
    pub tracks: Vec<PlacedTrack>,
    /// `from` of the next page; null at the end
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
    /// name of the artist; null if it has none
    pub artist: Option<String>,
}

/// Changes of a playlist without its tracks.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaylistMetadata {
    /// title
    #[schema(example = "late night jazz", max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub title: Option<String>,
    /// description
    #[schema(max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// whether several people edit it
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub collaborative: bool,
    /// the app's id of the owner; created if new
    #[schema(value_type = Option<Id>)]
    pub user_id: Option<String>,
    /// number of followers
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_followers: Option<i32>,
    /// number of edits
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_edits: Option<i32>,
    /// number of distinct albums
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_albums: Option<i32>,
    /// number of distinct artists
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_artists: Option<i32>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i64>,
    /// last change by the owner (RFC 3339); now if omitted
    #[serde(default, with = "times::optional")]
    pub modified_at: Option<OffsetDateTime>,
}

/// The new content of a playlist.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaylistInput {
    /// the app's id; generated if omitted. In `PUT`, the one in the path counts
    #[schema(example = "my-playlist", value_type = Option<Id>)]
    pub id: Option<String>,
    /// title
    #[schema(example = "late night jazz", max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub title: Option<String>,
    /// description
    #[schema(max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// whether several people edit it
    #[serde(default)]
    pub collaborative: bool,
    /// the app's id of the owner; created if new
    #[schema(value_type = Option<Id>)]
    pub user_id: Option<String>,
    /// number of followers
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_followers: Option<i32>,
    /// number of edits
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_edits: Option<i32>,
    /// number of distinct albums
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_albums: Option<i32>,
    /// number of distinct artists
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_artists: Option<i32>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i64>,
    /// last change by the owner (RFC 3339); now if omitted
    #[serde(default, with = "times::optional")]
    pub modified_at: Option<OffsetDateTime>,
    /// ids of the tracks in order; the catalog must have all of them
    #[serde(default)]
    #[schema(max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
}

/// A page of playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistList {
    /// in the order of their ids; search results by relevance
    pub items: Vec<PlaylistSummary>,
    /// `cursor` of the next page; null at the end
    pub next: Option<String>,
}

/// The query of a list of playlists.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlaylistsQuery {
    /// maximum number of items
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// `next` of the previous page
    cursor: Option<String>,
    /// search text for titles; typos are tolerated. If omitted or blank, items are in the order of their ids
    #[param(max_length = 200)]
    q: Option<String>,
    /// only playlists of this user
    user_id: Option<String>,
}

/// The query of a playlist's tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TracksQuery {
    /// first position
    #[serde(default)]
    #[param(value_type = i64, minimum = 0, maximum = 100_000)]
    from: Position,
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// A position in a playlist, 0 to 100,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Whole")]
#[schema(value_type = i64, minimum = 0, maximum = 100_000)]
pub struct Position(u32);

impl TryFrom<Whole> for Position {
    type Error = String;

    fn try_from(Whole(value): Whole) -> Result<Self, String> {
        match u32::try_from(value) {
            Ok(position) if position as usize <= MAX_TRACKS => Ok(Self(position)),
            _ => Err(format!("must be between 0 and {MAX_TRACKS}")),
        }
    }
}

impl Position {
    /// The second position, or one track.
    pub const ONE: Self = Self(1);

    /// Returns the number.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl From<Playlist> for PlaylistSummary {
    fn from(playlist: Playlist) -> Self {
        Self {
            id: playlist.id.into(),
            title: playlist.title,
            description: playlist.description,
            collaborative: playlist.collaborative,
            user_id: playlist.user_id.map(String::from),
            num_followers: playlist.num_followers,
            num_edits: playlist.num_edits,
            num_tracks: playlist.num_tracks,
            num_albums: playlist.num_albums,
            num_artists: playlist.num_artists,
            duration_ms: playlist.duration_ms,
            modified_at: playlist.modified_at,
        }
    }
}

impl From<&Playlist> for PlaylistMetadata {
    fn from(playlist: &Playlist) -> Self {
        let playlist = playlist.clone();
        Self {
            title: playlist.title,
            description: playlist.description,
            collaborative: playlist.collaborative,
            user_id: playlist.user_id.map(String::from),
            num_followers: playlist.num_followers,
            num_edits: playlist.num_edits,
            num_albums: playlist.num_albums,
            num_artists: playlist.num_artists,
            duration_ms: playlist.duration_ms,
            // The time of a change is now, unless it says otherwise.
            modified_at: None,
        }
    }
}

impl PlaylistMetadata {
    fn into_fields(self) -> Result<PlaylistFields, ApiError> {
        let invalid = |field: &str, reason: &str| Err(ApiError::invalid(field, reason));
        for (field, text) in [("title", &self.title), ("description", &self.description)] {
            match text {
                Some(text) if text.contains('\0') => return invalid(field, "must not contain NUL"),
                Some(text) => drop(columns::text(text).map_err(|reason| ApiError::invalid(field, reason))?),
                None => {}
            }
        }
        let user_id = self.user_id.map(|id| in_field("user_id", UserId::new(id))).transpose()?;
        let counts = [
            ("num_followers", self.num_followers.map(i64::from)),
            ("num_edits", self.num_edits.map(i64::from)),
            ("num_albums", self.num_albums.map(i64::from)),
            ("num_artists", self.num_artists.map(i64::from)),
            ("duration_ms", self.duration_ms),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, count)| count.is_some_and(|count| count < 0)) {
            return invalid(field, "must not be negative");
        }
        Ok(PlaylistFields {
            title: self.title,
            description: self.description,
            collaborative: self.collaborative,
            user_id,
            num_followers: self.num_followers,
            num_edits: self.num_edits,
            num_albums: self.num_albums,
            num_artists: self.num_artists,
            duration_ms: self.duration_ms,
            modified_at: self.modified_at,
        })
    }
}

impl PlaylistInput {
    /// Returns metadata and tracks.
    fn into_parts(self) -> Result<(PlaylistFields, Vec<TrackId>), ApiError> {
        let tracks = track_ids(self.tracks)?;
        let metadata = PlaylistMetadata {
            title: self.title,
            description: self.description,
            collaborative: self.collaborative,
            user_id: self.user_id,
            num_followers: self.num_followers,
            num_edits: self.num_edits,
            num_albums: self.num_albums,
            num_artists: self.num_artists,
            duration_ms: self.duration_ms,
            modified_at: self.modified_at,
        };
        Ok((metadata.into_fields()?, tracks))
    }
}

/// Checks the ids of a playlist's tracks.
pub fn track_ids(tracks: Vec<String>) -> Result<Vec<TrackId>, ApiError> {
    if tracks.len() > MAX_TRACKS {
        let reason = format!("has {} values; the maximum is {MAX_TRACKS}", tracks.len());
        return Err(ApiError::invalid("tracks", reason));
    }
    (0..).zip(tracks).map(|(index, id): (usize, _)| in_field(&format!("tracks[{index}]"), TrackId::new(id))).collect()
}

/// Returns the id of a playlist to look up.
pub fn playlist_id(id: String) -> Result<PlaylistId, ApiError> {
    PlaylistId::storable(id.as_str()).map_err(|_| ApiError::UnknownPlaylist(id))
}

/// List or search playlists
///
/// Playlists are in the order of their ids. With `q`, they are those whose title has all its words (the last may be
/// unfinished), shortest titles first; if there are none, those with similar words, so that typos are tolerated.
#[utoipa::path(get, path = "/playlists", tag = "playlists", params(PlaylistsQuery),
    responses((status = 200, description = "A page of playlists", body = PlaylistList)))]
async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<PlaylistsQuery>,
) -> Result<Json<PlaylistList>, ApiError> {
    let PlaylistsQuery { limit, cursor, q, user_id } = query;
    let query = ListQuery { limit, cursor, q };
    let (page, limit) = (query.page()?, limit.get());
    let playlists = match (&page, user_id.map(UserId::storable).transpose()) {
        // A text that can't be an id is nobody's.
        (_, Err(_)) => Vec::new(),
        (Page::After(id), Ok(user)) => state.catalog()?.playlists_after(id, user.as_ref(), limit as i64).await?,
        (Page::Search(text, offset), Ok(user)) => {
            state.catalog()?.search_playlists(text, user.as_ref(), *offset as usize, limit).await?
        }
    };
    let next = query.next(&page, playlists.len(), playlists.last().map(|playlist| playlist.id.as_str()));
    Ok(Json(PlaylistList { items: playlists.into_iter().map(PlaylistSummary::from).collect(), next }))
}

/// Create playlists
///
/// One playlist as a JSON object, or any number of playlists with `application/x-ndjson`: one per line. For a bulk request,
/// the server creates or replaces playlists as lines arrive and responds with a line for each while it still reads others:
/// the client must read while it sends. The tracks of a line are ids, or complete tracks, which are created too; the server
/// omits ids that the catalog does not have, and reports them. The last line of the response is a summary.
#[utoipa::path(post, path = "/playlists", tag = "playlists", params(ndjson::BulkQuery),
    request_body(content((PlaylistInput = "application/json"), (String = "application/x-ndjson")),
                 description = "one playlist, or one per line"),
    responses((status = 200, description = "Outcome of each line of a bulk request", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "The playlist was created", body = PlaylistSummary,
               headers(("ETag" = String, description = "entity tag of the playlist"), ("Location" = String, description = "path of the playlist")))))]
async fn create(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ndjson::BulkQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    if is_ndjson(request.headers()) {
        state.catalog()?;
        return ndjson::store(PlaylistRows(state.clone()), request.into_body(), query, &state.bulk);
    }
    let JsonBody(mut input) = JsonBody::<PlaylistInput>::from_request(request, &state).await?;
    let id = in_field("id", PlaylistId::new(input.id.take().map_or_else(new_id, Ok)?))?;
    let (fields, tracks) = input.into_parts()?;
    let edited = state
        .catalog_to_edit(&id)
        .await?
        .change_playlist(&id, Some(&tracks), |current| match current {
            Some(_) => Err(ApiError::AlreadyExists("playlist", id.to_string())),
            None => Ok(fields.clone()),
        })
        .await?;
    respond(&state, &id, edited, StatusCode::CREATED).await
}

/// Read a playlist
#[utoipa::path(get, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"), TracksQuery),
    responses((status = 200, description = "The playlist", body = PlaylistBody, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn get(
    State(state): State<AppState>,
    Path(id): Path<String>,
    QueryParameters(query): QueryParameters<TracksQuery>,
) -> Result<Response, ApiError> {
    let TracksQuery { from, limit } = query;
    let (id, catalog) = (playlist_id(id)?, state.catalog()?);
    let playlist = catalog.playlist(&id).await?.ok_or_else(|| ApiError::UnknownPlaylist(id.to_string()))?;
    let tracks = catalog.playlist_tracks(&id, from.0 as i32, limit.get() as i64).await?;
    let next = tracks.last().map(|track| track.position + 1).filter(|&next| next < playlist.num_tracks);
    let tag = entity_tag(playlist.tag);
    let tracks = tracks.into_iter().map(|track| PlacedTrack {
        position: track.position,
        track_id: track.id.into(),
        name: track.name,
        artist: track.artist,
    });
    let body = PlaylistBody { summary: playlist.into(), tracks: tracks.collect(), next };
    Ok(([(ETAG, tag)], Json(body)).into_response())
}

/// Create or replace a playlist
///
/// Replaces the tracks too. Omitted fields are empty afterwards.
#[utoipa::path(put, path = "/playlists/{id}", tag = "playlists",
    params(("id" = Id, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "replace the playlist only if this is its entity tag"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: only create, do not replace")),
    request_body = PlaylistInput,
    responses((status = 200, description = "The playlist was replaced", body = PlaylistSummary, headers(("ETag" = String, description = "entity tag of the playlist"))),
              (status = 201, description = "The playlist was created", body = PlaylistSummary,
               headers(("ETag" = String, description = "entity tag of the playlist"), ("Location" = String, description = "path of the playlist")))))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(mut input): JsonBody<PlaylistInput>,
) -> Result<Response, ApiError> {
    let id = in_field("id", PlaylistId::new(id))?;
    if input.id.take().is_some_and(|other| id != other.as_str()) {
        return Err(ApiError::unfit("id", "must equal the id in the path, or be omitted".to_owned()));
    }
    let (fields, tracks) = input.into_parts()?;
    let mut is_new = false;
    let edited = state
        .catalog_to_edit(&id)
        .await?
        .change_playlist(&id, Some(&tracks), |current| {
            is_new = current.is_none();
            preconditions.check(tag_of(current).as_deref())?;
            Ok::<_, ApiError>(fields.clone())
        })
        .await?;
    respond(&state, &id, edited, if is_new { StatusCode::CREATED } else { StatusCode::OK }).await
}

/// Change a playlist
///
/// A JSON merge patch (RFC 7396) of everything but the tracks: omitted fields stay, null removes a value.
#[utoipa::path(patch, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the playlist only if this is its entity tag")),
    request_body(content((PlaylistMetadata = "application/merge-patch+json"), (PlaylistMetadata = "application/json"))),
    responses((status = 200, description = "The playlist was changed", body = PlaylistSummary, headers(("ETag" = String, description = "entity tag of the playlist")))))]
async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(patch): JsonBody<MergePatch>,
) -> Result<Response, ApiError> {
    let id = playlist_id(id)?;
    let edited = state
        .catalog_to_edit(&id)
        .await?
        .change_playlist(&id, None, |current| {
            let current = current.ok_or_else(|| ApiError::UnknownPlaylist(id.to_string()))?;
            preconditions.check(tag_of(Some(current)).as_deref())?;
            patch.apply(&PlaylistMetadata::from(current))?.into_fields()
        })
        .await?;
    respond(&state, &id, edited, StatusCode::OK).await
}

/// Delete a playlist
///
/// Its tracks stay in the catalog.
#[utoipa::path(delete, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "delete the playlist only if this is its entity tag")),
    responses((status = 204, description = "The playlist was deleted")))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let id = playlist_id(id)?;
    let deleted = state
        .catalog_to_edit(&id)
        .await?
        .delete_playlist(&id, |playlist| preconditions.check(tag_of(Some(playlist)).as_deref()))
        .await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::UnknownPlaylist(id.into())) }
}

/// Generates an id for a playlist without one.
fn new_id() -> Result<String, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn tag_of(playlist: Option<&Playlist>) -> Option<String> {
    playlist.map(|playlist| entity_tag(playlist.tag))
}

/// Returns the playlist after a change.
async fn respond(
    state: &AppState,
    id: &PlaylistId,
    edited: PlaylistState,
    status: StatusCode,
) -> Result<Response, ApiError> {
    let playlist = state.catalog.playlist(id).await?.ok_or(ApiError::Conflict)?;
    let mut headers = HeaderMap::new();
    if let Ok(tag) = entity_tag(edited.tag).parse() {
        headers.insert(ETAG, tag);
    }
    if status == StatusCode::CREATED
        && let Ok(location) = format!("/playlists/{}", percent_encode(id.as_str())).parse()
    {
        headers.insert(LOCATION, location);
    }
    Ok((status, headers, Json(PlaylistSummary::from(playlist))).into_response())
}

/// Stores the lines of a bulk request.
struct PlaylistRows(AppState);

impl BulkRows for PlaylistRows {
    type Row = PlaylistRecord;
    const BATCH_ROWS: usize = 500;

    fn parse(&self, line: &[u8]) -> Result<(String, PlaylistRecord, Vec<Omitted>), String> {
        let (record, omitted) = lines::playlist(line)?;
        Ok((record.id.to_string(), record, omitted))
    }

    async fn write(&self, rows: &[PlaylistRecord]) -> Result<Vec<RowOutcome>, CatalogError> {
        let upserted = self.0.catalog_for_batch().await.upsert_playlists(rows).await?;
        let mut unknown: Vec<Vec<String>> = vec![Vec::new(); rows.len()];
        for track in &upserted.unknown_tracks {
            unknown[track.playlist].push(rows[track.playlist].tracks[track.track].id().to_string());
        }
        let outcomes = upserted.changes.into_iter().zip(unknown);
        Ok(outcomes.map(|(change, unknown)| RowOutcome::from(change).with_unknown_tracks(unknown)).collect())
    }
}
