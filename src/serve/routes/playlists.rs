//! Playlists of the catalog: read, search, create, replace, change, delete, one or many at once.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
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

use crate::catalog::lines::PlaylistLine;
use crate::catalog::{
    Catalog, CatalogError, Edited, Playlist, PlaylistFields, PlaylistId, PlaylistRecord, TrackId, UserId,
};
use crate::serve::AppState;
use crate::serve::http::extract::{
    Id, JsonBody, Limit, ListQuery, MergePatch, Page, Preconditions, Whole, entity_tag, in_field, is_ndjson,
    optional_whole, query, segment,
};
use crate::serve::http::ndjson;
use crate::serve::http::ndjson::{BulkRows, RowOutcome};
use crate::serve::http::problem::{ApiError, Problem};

/// Most tracks of a playlist.
const MAX_TRACKS: usize = 100_000;
/// The longest title or description, in bytes.
const MAX_TEXT_BYTES: usize = 10_000;

/// Routes under `/playlists`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, replace, change, delete))
}

/// A playlist without its tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistSummary {
    /// the app's id
    #[schema(example = "37i9dQZF1DX4sWSpwq3LiO")]
    pub id: String,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// the app's id of the user whose it is
    pub user_id: Option<String>,
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
    pub modified_at: Option<OffsetDateTime>,
}

/// A playlist of the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistBody {
    /// all but its tracks
    #[serde(flatten)]
    pub summary: PlaylistSummary,
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

/// What a playlist is to be, its tracks aside.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaylistMetadata {
    /// its title
    #[schema(example = "late night jazz", max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub title: Option<String>,
    /// its description
    #[schema(max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// whether several people edit it
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub collaborative: bool,
    /// the app's id of the user whose it is, who need not be there yet
    #[schema(value_type = Option<Id>)]
    pub user_id: Option<String>,
    /// followers
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_followers: Option<i32>,
    /// edits
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_edits: Option<i32>,
    /// distinct albums
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_albums: Option<i32>,
    /// distinct artists
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_artists: Option<i32>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i64>,
    /// last change by its owner (RFC 3339); left out, now
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub modified_at: Option<OffsetDateTime>,
}

/// A playlist to create, or to put in the place of one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaylistInput {
    /// the app's id; in the path instead where there is one. Where there is none, one is made up
    #[schema(example = "my-playlist", value_type = Option<Id>)]
    pub id: Option<String>,
    /// its title
    #[schema(example = "late night jazz", max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub title: Option<String>,
    /// its description
    #[schema(max_length = 10_000, pattern = r"^[^\x00]*$")]
    pub description: Option<String>,
    /// whether several people edit it
    #[serde(default)]
    pub collaborative: bool,
    /// the app's id of the user whose it is, who need not be there yet
    #[schema(value_type = Option<Id>)]
    pub user_id: Option<String>,
    /// followers
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_followers: Option<i32>,
    /// edits
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_edits: Option<i32>,
    /// distinct albums
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_albums: Option<i32>,
    /// distinct artists
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub num_artists: Option<i32>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i64>,
    /// last change by its owner (RFC 3339); left out, now
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub modified_at: Option<OffsetDateTime>,
    /// ids of its tracks in order, all of which the catalog has to have
    #[serde(default)]
    #[schema(max_items = 100_000, value_type = Vec<Id>)]
    pub tracks: Vec<String>,
}

/// A page of playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaylistList {
    /// in the order of their ids, or the best results first
    pub items: Vec<PlaylistSummary>,
    /// the `cursor` of the next page, if there may be one
    pub next: Option<String>,
}

/// Which playlists.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlaylistsQuery {
    /// number of rows
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// `next` of the page before
    cursor: Option<String>,
    /// what to search titles for, misspelt or not; without it, or blank, rows come in the order of their ids
    #[param(max_length = 200)]
    q: Option<String>,
    /// only this user's
    user_id: Option<String>,
}

/// Which of a playlist's tracks.
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

    /// The number.
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
            // A change is a change now, unless it says otherwise.
            modified_at: None,
        }
    }
}

impl PlaylistMetadata {
    fn into_fields(self) -> Result<PlaylistFields, ApiError> {
        let wrong = |field: &str, reason: String| Err(ApiError::InvalidField { field: field.to_owned(), reason });
        for (field, text) in [("title", &self.title), ("description", &self.description)] {
            match text {
                Some(text) if text.len() > MAX_TEXT_BYTES => {
                    return wrong(field, format!("must not be longer than {MAX_TEXT_BYTES} bytes"));
                }
                Some(text) if text.contains('\0') => return wrong(field, "must not contain NUL".to_owned()),
                _ => {}
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
            return wrong(field, "must not be negative".to_owned());
        }
        // Years beyond these are more than PostgreSQL holds, or RFC 3339 writes.
        if self.modified_at.is_some_and(|at| !(1..=9_999).contains(&at.to_offset(time::UtcOffset::UTC).year())) {
            return wrong("modified_at", "must lie in the years 1 to 9999".to_owned());
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
    /// Metadata and tracks.
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

/// Ids of tracks to look up.
pub fn track_ids(tracks: Vec<String>) -> Result<Vec<TrackId>, ApiError> {
    if tracks.len() > MAX_TRACKS {
        let reason = format!("has {} values, at most {MAX_TRACKS} are taken", tracks.len());
        return Err(ApiError::InvalidField { field: "tracks".to_owned(), reason });
    }
    (0..).zip(tracks).map(|(place, id): (usize, _)| in_field(&format!("tracks[{place}]"), TrackId::new(id))).collect()
}

/// The id of a playlist to look up.
pub fn known(id: String) -> Result<PlaylistId, ApiError> {
    PlaylistId::storable(id.as_str()).map_err(|_| ApiError::UnknownPlaylist(id))
}

/// Playlists in the order of their ids; with `q`, those whose titles are most like it, misspelt or not.
#[utoipa::path(get, path = "/playlists", tag = "playlists", params(PlaylistsQuery),
    responses((status = 200, description = "A page of playlists", body = PlaylistList),
              (status = 404, description = "No such cursor", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(state): State<AppState>,
    parameters: Result<Query<PlaylistsQuery>, QueryRejection>,
) -> Result<Json<PlaylistList>, ApiError> {
    let PlaylistsQuery { limit, cursor, q, user_id } = query(parameters)?;
    let asked = ListQuery { limit, cursor, q };
    let (page, limit) = (asked.page()?, limit.get() as i64);
    let playlists = match (&page, user_id.map(UserId::storable).transpose()) {
        // A text that can't be an id is nobody's.
        (_, Err(_)) => Vec::new(),
        (Page::After(id), Ok(user)) => state.catalog()?.playlists_after(id, user.as_ref(), limit).await?,
        (Page::Search(text, offset), Ok(user)) => {
            state.catalog()?.search_playlists(text, user.as_ref(), (*offset).into(), limit).await?
        }
    };
    let next = asked.next(&page, playlists.len(), playlists.last().map(|playlist| playlist.id.as_str()));
    Ok(Json(PlaylistList { items: playlists.into_iter().map(PlaylistSummary::from).collect(), next }))
}

/// Creates a playlist, or many: one JSON object, or one a line (`application/x-ndjson`), of any number.
///
/// Lines are created or replaced as they arrive, and answered with a line each while the rest is still being read: a
/// client has to read while it sends. A line's tracks are ids, or tracks in full, which are created too; ids that the
/// catalog does not have are left out, and listed. The last line is a summary.
#[utoipa::path(post, path = "/playlists", tag = "playlists", params(ndjson::BulkQuery),
    request_body(content((PlaylistInput = "application/json"), (String = "application/x-ndjson")),
                 description = "a playlist, or one a line"),
    responses((status = 200, description = "What became of each line", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "It is created", body = PlaylistSummary,
               headers(("ETag" = String, description = "its state"), ("Location" = String, description = "its path"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "There is one with that id, or a track is not in the catalog", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(state): State<AppState>,
    parameters: Result<Query<ndjson::BulkQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = query(parameters)?;
    if is_ndjson(request.headers()) {
        return ndjson::answer(PlaylistRows(state.catalog()?.clone()), request.into_body(), asked, &state.bulk);
    }
    let JsonBody(mut input) = JsonBody::<PlaylistInput>::from_request(request, &state).await?;
    let id = in_field("id", PlaylistId::new(input.id.take().map_or_else(new_id, Ok)?))?;
    let (fields, tracks) = input.into_parts()?;
    let edited = state
        .catalog()?
        .change_playlist(&id, |current| match current {
            Some(_) => Err(ApiError::AlreadyExists("playlist", id.to_string())),
            None => Ok((fields, Some(tracks))),
        })
        .await?;
    answer(&state, &id, edited, StatusCode::CREATED).await
}

/// A playlist of the catalog with its tracks.
#[utoipa::path(get, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"), TracksQuery),
    responses((status = 200, description = "The playlist", body = PlaylistBody, headers(("ETag" = String, description = "its state"))),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json")))]
async fn get(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<TracksQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let TracksQuery { from, limit } = query(parameters)?;
    let (id, catalog) = (known(id)?, state.catalog()?);
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

/// Creates a playlist, or replaces the one that is there with its tracks: what is left out is empty afterwards.
#[utoipa::path(put, path = "/playlists/{id}", tag = "playlists",
    params(("id" = Id, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "replace it only in this state"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: only create it")),
    request_body = PlaylistInput,
    responses((status = 200, description = "It is replaced", body = PlaylistSummary, headers(("ETag" = String, description = "its state"))),
              (status = 201, description = "It is created", body = PlaylistSummary,
               headers(("ETag" = String, description = "its state"), ("Location" = String, description = "its path"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time, or something that it names is not there", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(mut input): JsonBody<PlaylistInput>,
) -> Result<Response, ApiError> {
    let id = in_field("id", PlaylistId::new(id))?;
    if input.id.take().is_some_and(|other| id != other.as_str()) {
        return Err(ApiError::unfit("id", "must be the one in the path, or left out".to_owned()));
    }
    let (fields, tracks) = input.into_parts()?;
    let mut is_new = false;
    let edited = state
        .catalog()?
        .change_playlist(&id, |current| {
            is_new = current.is_none();
            preconditions.check(tag_of(current).as_deref())?;
            Ok::<_, ApiError>((fields, Some(tracks)))
        })
        .await?;
    answer(&state, &id, edited, if is_new { StatusCode::CREATED } else { StatusCode::OK }).await
}

/// Changes parts of a playlist, not its tracks (RFC 7396): what is left out stays, what is null goes.
#[utoipa::path(patch, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change it only in this state")),
    request_body(content((PlaylistMetadata = "application/merge-patch+json"), (PlaylistMetadata = "application/json"))),
    responses((status = 200, description = "It is changed", body = PlaylistSummary, headers(("ETag" = String, description = "its state"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time, or something that it names is not there", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(patch): JsonBody<MergePatch>,
) -> Result<Response, ApiError> {
    let id = known(id)?;
    let edited = state
        .catalog()?
        .change_playlist(&id, |current| {
            let current = current.ok_or_else(|| ApiError::UnknownPlaylist(id.to_string()))?;
            preconditions.check(tag_of(Some(current)).as_deref())?;
            Ok::<_, ApiError>((patch.apply(&PlaylistMetadata::from(current))?.into_fields()?, None))
        })
        .await?;
    answer(&state, &id, edited, StatusCode::OK).await
}

/// Deletes a playlist. Its tracks stay in the catalog.
#[utoipa::path(delete, path = "/playlists/{id}", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "delete it only in this state")),
    responses((status = 204, description = "It is gone"),
              (status = 404, description = "No such playlist", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time, or something that it names is not there", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json")))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let id = known(id)?;
    let deleted = state
        .catalog()?
        .delete_playlist(&id, |playlist| preconditions.check(tag_of(Some(playlist)).as_deref()))
        .await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::UnknownPlaylist(id.into())) }
}

/// An id for a playlist that came without one, which no other has.
fn new_id() -> Result<String, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn tag_of(playlist: Option<&Playlist>) -> Option<String> {
    playlist.map(|playlist| entity_tag(playlist.tag))
}

/// The playlist as it is after a change.
async fn answer(state: &AppState, id: &PlaylistId, edited: Edited, status: StatusCode) -> Result<Response, ApiError> {
    let playlist = state.catalog.playlist(id).await?.ok_or(ApiError::Conflict)?;
    let mut headers = HeaderMap::new();
    if let Ok(tag) = entity_tag(edited.tag).parse() {
        headers.insert(ETAG, tag);
    }
    if status == StatusCode::CREATED
        && let Ok(location) = format!("/playlists/{}", segment(id.as_str())).parse()
    {
        headers.insert(LOCATION, location);
    }
    Ok((status, headers, Json(PlaylistSummary::from(playlist))).into_response())
}

/// Writes lines of bulk requests.
struct PlaylistRows(Catalog);

impl BulkRows for PlaylistRows {
    type Row = PlaylistRecord;
    const ROWS_AT_ONCE: usize = 500;

    fn parse(&self, line: &[u8]) -> Result<(String, PlaylistRecord), ApiError> {
        let row: PlaylistLine = ndjson::parse_row(line)?;
        let record = row.into_record().map_err(ApiError::InvalidRow)?;
        Ok((record.id.to_string(), record))
    }

    async fn write(&self, rows: &[PlaylistRecord]) -> Result<Vec<RowOutcome>, CatalogError> {
        let upserted = self.0.upsert_playlists(rows).await?;
        let mut unknown: Vec<Vec<String>> = vec![Vec::new(); rows.len()];
        for track in &upserted.unknown_tracks {
            unknown[track.playlist].push(rows[track.playlist].tracks[track.track].id().to_string());
        }
        let outcomes = upserted.changes.into_iter().zip(unknown);
        Ok(outcomes.map(|(change, unknown)| RowOutcome::from(change).with_unknown_tracks(unknown)).collect())
    }
}
