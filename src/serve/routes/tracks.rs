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
    AlbumRecord, ArtistRecord, Catalog, CatalogError, Track, TrackContents, TrackRecord, TrackRowUpdate,
};
use crate::serve::AppState;
use crate::serve::http::extract::{
    Id, JsonBody, ListQuery, MAX_ID_BYTES, MergePatch, Page, Preconditions, check_id, is_ndjson, optional_whole, query,
    segment,
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
            id: track.id,
            name: track.name,
            artist: track.artist,
            artist_id: track.artist_id,
            album: track.album,
            album_id: track.album_id,
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
            artist_id: track.artist_id,
            album: track.album,
            album_id: track.album_id,
            duration_ms: track.duration_ms,
            genres: track.genres,
            hidden: track.hidden,
        }
    }
}

impl TrackFields {
    fn into_contents(self, id: &str) -> Result<TrackContents, ApiError> {
        check_name("name", &self.name)?;
        check_name("artist", &self.artist)?;
        let wrong = |field: &str, reason: &str| {
            Err(ApiError::InvalidField { field: field.to_owned(), reason: reason.to_owned() })
        };
        for (field, id) in [("artist_id", &self.artist_id), ("album_id", &self.album_id)] {
            id.as_deref().map_or(Ok(()), |id| check_id(field, id))?;
        }
        if let Some(album) = &self.album {
            check_name("album", album)?;
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
            check_id(&format!("genres[{place}]"), genre)?;
        }
        let record = TrackRecord {
            uri: id.to_owned(),
            name: self.name,
            artist: ArtistRecord { uri: self.artist_id, name: self.artist },
            // A name that is the id leaves the name that is there.
            album: self.album.or_else(|| self.album_id.clone()).map(|name| AlbumRecord { uri: self.album_id, name }),
            duration_ms: self.duration_ms,
        };
        Ok(TrackContents { record, genres: self.genres, hidden: self.hidden })
    }
}

impl TrackRow {
    fn into_update(self) -> Result<TrackRowUpdate, ApiError> {
        check_id("id", &self.id)?;
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
        Ok(TrackRowUpdate { record: fields.into_contents(&self.id)?.record, genres, hidden })
    }
}

fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let reason = match () {
        () if name.len() > MAX_ID_BYTES => format!("must not be longer than {MAX_ID_BYTES} bytes"),
        () if name.contains('\0') => "must not contain NUL".to_owned(),
        () => return Ok(()),
    };
    Err(ApiError::InvalidField { field: field.to_owned(), reason })
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
    let update = row.into_update()?;
    let id = update.record.uri.clone();
    let (track, _) = state
        .catalog()?
        .change_track(&id, |current| match current {
            Some(_) => Err(ApiError::AlreadyExists("track", id.clone())),
            None => Ok(TrackContents {
                record: update.record,
                genres: update.genres.unwrap_or_default(),
                hidden: update.hidden.unwrap_or_default(),
            }),
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
    let track = state.catalog()?.track(&id).await?.ok_or(ApiError::UnknownTrack(id))?;
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
    check_id("id", &id)?;
    let contents = fields.into_contents(&id)?;
    let (track, is_new) = state
        .catalog()?
        .change_track(&id, |current| {
            preconditions.check(tag_of(current).as_deref())?;
            Ok::<_, ApiError>(contents)
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
    check_id("id", &id).map_err(|_| ApiError::UnknownTrack(id.clone()))?;
    let (track, _) = state
        .catalog()?
        .change_track(&id, |current| {
            let current = current.ok_or_else(|| ApiError::UnknownTrack(id.clone()))?;
            preconditions.check(tag_of(Some(current)).as_deref())?;
            patch.apply(&TrackFields::from(current))?.into_contents(&id)
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
    let deleted =
        state.catalog()?.delete_track(&id, |track| preconditions.check(tag_of(Some(track)).as_deref())).await?;
    if !deleted {
        return Err(ApiError::UnknownTrack(id));
    }
    state.withheld.note(vec![(id, Some(Reason::Removed))]);
    Ok(StatusCode::NO_CONTENT)
}

fn tag_of(track: Option<&Track>) -> Option<String> {
    track.map(|track| TrackBody::from(track.clone()).entity_tag())
}

/// From the next request on.
fn note(state: &AppState, track: &Track) {
    state.withheld.note(vec![(track.id.clone(), track.hidden.then_some(Reason::Hidden))]);
}

/// Writes lines of bulk requests.
struct TrackRows {
    catalog: Catalog,
    withheld: Withheld,
}

impl BulkRows for TrackRows {
    type Row = TrackRowUpdate;
    const ROWS_AT_ONCE: usize = 2_000;

    fn parse(&self, line: &[u8]) -> Result<(String, TrackRowUpdate), ApiError> {
        let row: TrackRow = ndjson::parse_row(line)?;
        let update = row.into_update()?;
        Ok((update.record.uri.clone(), update))
    }

    async fn write(&self, rows: &[TrackRowUpdate]) -> Result<Vec<RowOutcome>, CatalogError> {
        let changes = self.catalog.upsert_track_rows(rows).await?;
        let stated = rows.iter().zip(&changes).filter_map(|(row, change)| {
            // A new track is no longer a deleted one.
            let is_new = *change == crate::catalog::RowChange::Added;
            let hidden = row.hidden.or(is_new.then_some(false))?;
            Some((row.record.uri.clone(), hidden.then_some(Reason::Hidden)))
        });
        self.withheld.note(stated.collect());
        Ok(changes.into_iter().map(RowOutcome::from).collect())
    }
}
