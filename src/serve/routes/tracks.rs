//! Tracks of the catalog: read, search, create, replace, change, delete, one or many at once.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::{
    AlbumId, AlbumRecord, ArtistId, ArtistRecord, Catalog, CatalogError, Track, TrackId, TrackRecord, check_id,
    check_name,
};
use crate::serve::AppState;
use crate::serve::http::extract::{
    Id, JsonBody, ListQuery, MergePatch, Page, Preconditions, in_field, is_ndjson, optional_whole, query, segment,
};
use crate::serve::http::ndjson;
use crate::serve::http::ndjson::{BulkRows, RowOutcome};
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::state::hidden_tracks::{Reason, Withheld};

/// Most genres of a track.
const MAX_GENRES: usize = 100;

/// Routes under `/tracks`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, replace, change, delete))
}

/// A track of the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackBody {
    /// the app's id
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub id: String,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
    /// the app's id of the artist
    pub artist_id: Option<String>,
    /// name of its album
    pub album: Option<String>,
    /// the app's id of the album
    pub album_id: Option<String>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
    /// names of its genres
    pub genres: Vec<String>,
    /// whether it is kept from being recommended
    pub hidden: bool,
}

/// What a track is to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackFields {
    /// title of the track
    #[schema(example = "Naima", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: String,
    /// name of its artist
    #[schema(example = "John Coltrane", min_length = 1, max_length = 1000, pattern = r"^[^\x00]*[^\s\x00][^\x00]*$")]
    pub artist: String,
    /// the app's id of the artist; without it the name stands for the artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of its album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album, which alone is enough; without it artist and name stand for the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of its genres
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<Id>)]
    pub genres: Vec<String>,
    /// whether it is kept from being recommended
    #[serde(default)]
    pub hidden: bool,
}

/// A track to create, or a line of a bulk request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackRow {
    /// the app's id
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs", value_type = Id)]
    pub id: String,
    /// title of the track
    #[schema(example = "Naima", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: String,
    /// name of its artist
    #[schema(example = "John Coltrane", min_length = 1, max_length = 1000, pattern = r"^[^\x00]*[^\s\x00][^\x00]*$")]
    pub artist: String,
    /// the app's id of the artist; without it the name stands for the artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of its album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album, which alone is enough; without it artist and name stand for the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of its genres; in bulk, left out, they stay
    #[schema(max_items = 100, value_type = Option<Vec<Id>>)]
    pub genres: Option<Vec<String>>,
    /// whether it is kept from being recommended; in bulk, left out, that stays
    pub hidden: Option<bool>,
}

/// What of a track is to change: what is left out stays, what is null goes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackPatch {
    /// title of the track, which it always has
    #[schema(nullable = false, max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: Option<String>,
    /// name of its artist, which it always has
    #[schema(nullable = false, min_length = 1, max_length = 1000, pattern = r"^[^\x00]*[^\s\x00][^\x00]*$")]
    pub artist: Option<String>,
    /// the app's id of the artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of its album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of its genres
    #[schema(max_items = 100, value_type = Option<Vec<Id>>)]
    pub genres: Option<Vec<String>>,
    /// whether it is kept from being recommended
    #[schema(example = true)]
    pub hidden: Option<bool>,
}

/// A page of tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackList {
    /// in the order of their ids, or the best results first
    pub items: Vec<TrackBody>,
    /// the `cursor` of the next page, if there may be one
    pub next: Option<String>,
}

impl From<Track> for TrackBody {
    fn from(track: Track) -> Self {
        Self {
            id: track.id.into(),
            name: track.name,
            artist: track.artist,
            artist_id: track.artist_id.map(String::from),
            album: track.album,
            album_id: track.album_id.map(String::from),
            duration_ms: track.duration_ms,
            genres: track.genres,
            hidden: track.hidden,
        }
    }
}

impl TrackBody {
    /// Another one for every other content.
    fn entity_tag(&self) -> String {
        // A struct of strings and numbers always serialises.
        let hash = Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        format!("\"{}\"", hex::encode(&hash[..12]))
    }

    fn answer(self, status: StatusCode) -> Response {
        let mut headers = HeaderMap::new();
        if let Ok(tag) = self.entity_tag().parse() {
            headers.insert(ETAG, tag);
        }
        if status == StatusCode::CREATED
            && let Ok(location) = format!("/tracks/{}", segment(&self.id)).parse()
        {
            headers.insert(LOCATION, location);
        }
        (status, headers, Json(self)).into_response()
    }
}

impl From<&Track> for TrackFields {
    fn from(track: &Track) -> Self {
        let track = track.clone();
        Self {
            name: track.name,
            artist: track.artist,
            artist_id: track.artist_id.map(String::from),
            album: track.album,
            album_id: track.album_id.map(String::from),
            duration_ms: track.duration_ms,
            genres: track.genres,
            hidden: track.hidden,
        }
    }
}

impl TrackFields {
    fn into_record(self, id: TrackId) -> Result<TrackRecord, ApiError> {
        in_field("name", check_name(&self.name))?;
        in_field("artist", check_name(&self.artist))?;
        let wrong = |field: &str, reason: &str| {
            Err(ApiError::InvalidField { field: field.to_owned(), reason: reason.to_owned() })
        };
        let artist_id = self.artist_id.map(|id| in_field("artist_id", ArtistId::new(id))).transpose()?;
        let album_id = self.album_id.map(|id| in_field("album_id", AlbumId::new(id))).transpose()?;
        if let Some(album) = &self.album {
            in_field("album", check_name(album))?;
        }
        if self.artist.trim().is_empty() {
            return wrong("artist", "must not be empty");
        }
        if self.duration_ms.is_some_and(|duration| duration < 0) {
            return wrong("duration_ms", "must not be negative");
        }
        if self.genres.len() > MAX_GENRES {
            return wrong("genres", &format!("has {} values, at most {MAX_GENRES} are taken", self.genres.len()));
        }
        for (place, genre) in self.genres.iter().enumerate() {
            in_field(&format!("genres[{place}]"), check_id(genre))?;
        }
        // A name that is the id leaves the name that is there.
        let album = self.album.or_else(|| album_id.as_ref().map(ToString::to_string));
        Ok(TrackRecord {
            id,
            name: self.name,
            artist: ArtistRecord { id: artist_id, name: self.artist },
            album: album.map(|name| AlbumRecord { id: album_id, name }),
            duration_ms: self.duration_ms,
            genres: Some(self.genres),
            hidden: Some(self.hidden),
        })
    }
}

impl TrackRow {
    /// What it leaves out is none in the record.
    fn into_record(self) -> Result<TrackRecord, ApiError> {
        let id = in_field("id", TrackId::new(self.id))?;
        let (genres, hidden) = (self.genres.clone(), self.hidden);
        let fields = TrackFields {
            name: self.name,
            artist: self.artist,
            artist_id: self.artist_id,
            album: self.album,
            album_id: self.album_id,
            duration_ms: self.duration_ms,
            genres: self.genres.unwrap_or_default(),
            hidden: self.hidden.unwrap_or_default(),
        };
        Ok(TrackRecord { genres, hidden, ..fields.into_record(id)? })
    }
}

/// The id of a track to look up.
fn known(id: String) -> Result<TrackId, ApiError> {
    TrackId::storable(id.as_str()).map_err(|_| ApiError::UnknownTrack(id))
}

/// Tracks in the order of their ids; with `q`, those whose title and artist are most like it, misspelt or not.
#[utoipa::path(get, path = "/tracks", tag = "tracks", params(ListQuery),
    responses((status = 200, description = "A page of tracks", body = TrackList),
              (status = 404, description = "No such cursor", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(state): State<AppState>,
    parameters: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TrackList>, ApiError> {
    let asked = query(parameters)?;
    let (page, limit) = (asked.page()?, asked.limit.get() as i64);
    let tracks = match &page {
        Page::After(id) => state.catalog()?.tracks_after(id, limit).await?,
        Page::Search(text, offset) => state.catalog()?.search_tracks(text, (*offset).into(), limit).await?,
    };
    let next = asked.next(&page, tracks.len(), tracks.last().map(|track| track.id.as_str()));
    Ok(Json(TrackList { items: tracks.into_iter().map(TrackBody::from).collect(), next }))
}

/// Creates a track, or many: one JSON object, or one a line (`application/x-ndjson`), of any number.
///
/// Lines are created or changed as they arrive, and answered with a line each while the rest is still being read: a client
/// has to read while it sends. What a line leaves out stays as it is. The last line is a summary.
#[utoipa::path(post, path = "/tracks", tag = "tracks", params(ndjson::BulkQuery),
    request_body(content((TrackRow = "application/json"), (String = "application/x-ndjson")),
                 description = "a track, or one a line"),
    responses((status = 200, description = "What became of each line", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "It is created", body = TrackBody,
               headers(("ETag" = String, description = "its state"), ("Location" = String, description = "its path"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "There is one with that id", body = Problem, content_type = "application/problem+json"),
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
        let rows = TrackRows { catalog: state.catalog()?.clone(), withheld: state.withheld.clone() };
        return ndjson::answer(rows, request.into_body(), asked, &state.bulk);
    }
    let JsonBody(row) = JsonBody::<TrackRow>::from_request(request, &state).await?;
    let record = row.into_record()?;
    let id = record.id.clone();
    let (track, _) = state
        .catalog()?
        .change_track(&id, |current| match current {
            Some(_) => Err(ApiError::AlreadyExists("track", id.to_string())),
            None => Ok(record),
        })
        .await?;
    note(&state, &track);
    Ok(TrackBody::from(track).answer(StatusCode::CREATED))
}

/// A track of the catalog.
#[utoipa::path(get, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "The track", body = TrackBody, headers(("ETag" = String, description = "its state"))),
              (status = 404, description = "No such track", body = Problem, content_type = "application/problem+json")))]
async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let id = known(id)?;
    let track = state.catalog()?.track(&id).await?.ok_or(ApiError::UnknownTrack(id.into()))?;
    Ok(TrackBody::from(track).answer(StatusCode::OK))
}

/// Creates a track, or replaces the one that is there: what is left out is empty afterwards.
#[utoipa::path(put, path = "/tracks/{id}", tag = "tracks",
    params(("id" = Id, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "replace it only in this state"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: only create it")),
    request_body = TrackFields,
    responses((status = 200, description = "It is replaced", body = TrackBody, headers(("ETag" = String, description = "its state"))),
              (status = 201, description = "It is created", body = TrackBody,
               headers(("ETag" = String, description = "its state"), ("Location" = String, description = "its path"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(fields): JsonBody<TrackFields>,
) -> Result<Response, ApiError> {
    let id = in_field("id", TrackId::new(id))?;
    let record = fields.into_record(id.clone())?;
    let (track, is_new) = state
        .catalog()?
        .change_track(&id, |current| {
            preconditions.check(tag_of(current).as_deref())?;
            Ok::<_, ApiError>(record)
        })
        .await?;
    note(&state, &track);
    Ok(TrackBody::from(track).answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }))
}

/// Changes parts of a track (RFC 7396): what is left out stays, what is null goes.
#[utoipa::path(patch, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change it only in this state")),
    request_body(content((TrackPatch = "application/merge-patch+json"), (TrackPatch = "application/json"))),
    responses((status = 200, description = "It is changed", body = TrackBody, headers(("ETag" = String, description = "its state"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such track", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
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
    let (track, _) = state
        .catalog()?
        .change_track(&id, |current| {
            let current = current.ok_or_else(|| ApiError::UnknownTrack(id.to_string()))?;
            preconditions.check(tag_of(Some(current)).as_deref())?;
            patch.apply(&TrackFields::from(current))?.into_record(id.clone())
        })
        .await?;
    note(&state, &track);
    Ok(TrackBody::from(track).answer(StatusCode::OK))
}

/// Deletes a track: out of the catalog, out of all playlists, with what users rated and played of it. To keep it there and
/// only not recommend it, set `hidden`.
#[utoipa::path(delete, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "delete it only in this state")),
    responses((status = 204, description = "It is gone"),
              (status = 404, description = "No such track", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Changed by someone else at the same time", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "Not in the state that was named", body = Problem, content_type = "application/problem+json")))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let id = known(id)?;
    let deleted =
        state.catalog()?.delete_track(&id, |track| preconditions.check(tag_of(Some(track)).as_deref())).await?;
    if !deleted {
        return Err(ApiError::UnknownTrack(id.into()));
    }
    state.withheld.note(vec![(id.into(), Some(Reason::Removed))]);
    Ok(StatusCode::NO_CONTENT)
}

fn tag_of(track: Option<&Track>) -> Option<String> {
    track.map(|track| TrackBody::from(track.clone()).entity_tag())
}

/// From the next request on.
fn note(state: &AppState, track: &Track) {
    state.withheld.note(vec![(track.id.to_string(), track.hidden.then_some(Reason::Hidden))]);
}

/// Writes lines of bulk requests.
struct TrackRows {
    catalog: Catalog,
    withheld: Withheld,
}

impl BulkRows for TrackRows {
    type Row = TrackRecord;
    const ROWS_AT_ONCE: usize = 2_000;

    fn parse(&self, line: &[u8]) -> Result<(String, TrackRecord), ApiError> {
        let row: TrackRow = ndjson::parse_row(line)?;
        let record = row.into_record()?;
        Ok((record.id.to_string(), record))
    }

    async fn write(&self, rows: &[TrackRecord]) -> Result<Vec<RowOutcome>, CatalogError> {
        let changes = self.catalog.change_tracks(rows).await?;
        let stated = rows.iter().zip(&changes).filter_map(|(row, change)| {
            // A new track is no longer a deleted one.
            let is_new = *change == crate::catalog::RowChange::Added;
            let hidden = row.hidden.or(is_new.then_some(false))?;
            Some((row.id.to_string(), hidden.then_some(Reason::Hidden)))
        });
        self.withheld.note(stated.collect());
        Ok(changes.into_iter().map(RowOutcome::from).collect())
    }
}
