//! `/tracks`: list, search, create, read, replace, change, delete; bulk requests.

use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::columns::MAX_GENRES;
use crate::catalog::fields::Omitted;
use crate::catalog::{
    AlbumId, AlbumRecord, ArtistId, ArtistRecord, CatalogError, RowChange, Track, TrackId, TrackRecord, check_id,
    check_name, lines,
};
use crate::serve::http::extract::{
    Id, JsonBody, ListQuery, MergePatch, Page, Preconditions, QueryParameters, in_field, is_ndjson, optional_whole,
    percent_encode,
};
use crate::serve::http::ndjson::{self, BulkRows, RowOutcome};
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;
use crate::serve::state::hidden_tracks::Reason;

/// Returns the routes.
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
    /// name of the artist; null if the track has none
    pub artist: Option<String>,
    /// the app's id of the artist
    pub artist_id: Option<String>,
    /// name of the album
    pub album: Option<String>,
    /// the app's id of the album
    pub album_id: Option<String>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
    /// names of the genres
    pub genres: Vec<String>,
    /// whether the track must not be recommended
    pub hidden: bool,
}

/// The new content of a track.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackFields {
    /// title of the track; if omitted or empty, the id is shown
    #[schema(example = "Naima", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: Option<String>,
    /// name of the artist; a name such as `Unknown artist` states none
    #[schema(example = "John Coltrane", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub artist: Option<String>,
    /// the app's id of the artist; if omitted, the name identifies the artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of the album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album, sufficient without `album`; if omitted, artist and name identify the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of the genres
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<Id>)]
    pub genres: Vec<String>,
    /// whether the track must not be recommended
    #[serde(default)]
    pub hidden: bool,
}

/// A new track, or a line of a bulk request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackRow {
    /// the app's id
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs", value_type = Id)]
    pub id: String,
    /// title of the track; if omitted or empty, the id is shown
    #[schema(example = "Naima", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: Option<String>,
    /// name of the artist; a name such as `Unknown artist` states none
    #[schema(example = "John Coltrane", max_length = 1000, pattern = r"^[^\x00]*$")]
    pub artist: Option<String>,
    /// the app's id of the artist; if omitted, the name identifies the artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of the album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album, sufficient without `album`; if omitted, artist and name identify the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of the genres; unchanged if omitted or empty in a bulk request
    #[schema(max_items = 100, value_type = Option<Vec<Id>>)]
    pub genres: Option<Vec<String>>,
    /// whether the track must not be recommended; unchanged if omitted in a bulk request
    pub hidden: Option<bool>,
}

/// Changes of a track: omitted fields stay, null removes a value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackPatch {
    /// title of the track; without one, the id is shown
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub name: Option<String>,
    /// name of the artist
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub artist: Option<String>,
    /// the app's id of the artist; null here and in `artist` leaves the track without an artist
    #[schema(value_type = Option<Id>)]
    pub artist_id: Option<String>,
    /// name of the album
    #[schema(max_length = 1000, pattern = r"^[^\x00]*$")]
    pub album: Option<String>,
    /// the app's id of the album
    #[schema(value_type = Option<Id>)]
    pub album_id: Option<String>,
    /// length in milliseconds
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0)]
    pub duration_ms: Option<i32>,
    /// names of the genres
    #[schema(max_items = 100, value_type = Option<Vec<Id>>)]
    pub genres: Option<Vec<String>>,
    /// whether the track must not be recommended
    #[schema(example = true)]
    pub hidden: Option<bool>,
}

/// A page of tracks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackList {
    /// in the order of their ids; search results by relevance
    pub items: Vec<TrackBody>,
    /// `cursor` of the next page; null at the end
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
    /// Returns a tag that differs for different content.
    fn entity_tag(&self) -> String {
        // A struct of strings and numbers always serializes.
        let hash = Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        format!("\"{}\"", hex::encode(&hash[..12]))
    }

    fn into_response(self, status: StatusCode) -> Response {
        let mut headers = HeaderMap::new();
        if let Ok(tag) = self.entity_tag().parse() {
            headers.insert(ETAG, tag);
        }
        if status == StatusCode::CREATED
            && let Ok(location) = format!("/tracks/{}", percent_encode(&self.id)).parse()
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
            name: Some(track.name),
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
        for (field, name) in [("name", &self.name), ("artist", &self.artist), ("album", &self.album)] {
            in_field(field, name.as_deref().map_or(Ok(()), check_name))?;
        }
        let artist_id = self.artist_id.map(|id| in_field("artist_id", ArtistId::new(id))).transpose()?;
        let album_id = self.album_id.map(|id| in_field("album_id", AlbumId::new(id))).transpose()?;
        if self.duration_ms.is_some_and(|duration| duration < 0) {
            return Err(ApiError::invalid("duration_ms", "must not be negative"));
        }
        if self.genres.len() > MAX_GENRES {
            let reason = format!("has {} values; the maximum is {MAX_GENRES}", self.genres.len());
            return Err(ApiError::invalid("genres", reason));
        }
        for (index, genre) in self.genres.iter().enumerate() {
            in_field(&format!("genres[{index}]"), check_id(genre))?;
        }
        let track = TrackRecord::named(id, self.name.as_deref().unwrap_or_default()).of_genres(self.genres);
        Ok(TrackRecord {
            artist: ArtistRecord::stated(artist_id, self.artist.as_deref()),
            album: AlbumRecord::stated(album_id, self.album.as_deref()),
            duration_ms: self.duration_ms,
            hidden: Some(self.hidden),
            ..track
        })
    }
}

impl TrackRow {
    /// Fields that it omits are `None` in the record.
    fn into_record(self) -> Result<TrackRecord, ApiError> {
        let id = in_field("id", TrackId::new(self.id))?;
        let hidden = self.hidden;
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
        Ok(TrackRecord { hidden, ..fields.into_record(id)? })
    }
}

/// Returns the id of a track to look up.
fn track_id(id: String) -> Result<TrackId, ApiError> {
    TrackId::storable(id.as_str()).map_err(|_| ApiError::UnknownTrack(id))
}

/// List or search tracks
///
/// Tracks are in the order of their ids. With `q`, those come first whose title and artist have all its words (the last may be
/// unfinished), the ones in most playlists first; then those with similar words, so that typos are tolerated.
#[utoipa::path(get, path = "/tracks", tag = "tracks", params(ListQuery),
    responses((status = 200, description = "A page of tracks", body = TrackList)))]
async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ListQuery>,
) -> Result<Json<TrackList>, ApiError> {
    let (page, limit) = (query.page()?, query.limit.get());
    let tracks = match &page {
        Page::After(id) => state.catalog()?.tracks_after(id, limit as i64).await?,
        Page::Search(text, offset) => state.catalog()?.search_tracks(text, *offset as usize, limit).await?,
    };
    let next = query.next(&page, tracks.len(), tracks.last().map(|track| track.id.as_str()));
    Ok(Json(TrackList { items: tracks.into_iter().map(TrackBody::from).collect(), next }))
}

/// Create tracks
///
/// One track as a JSON object, or any number of tracks with `application/x-ndjson`: one per line. For a bulk request, the
/// server creates or changes tracks as lines arrive and responds with a line for each while it still reads others: the
/// client must read while it sends. Fields that a line omits, or leaves empty, stay unchanged. The last line of the response is a summary.
#[utoipa::path(post, path = "/tracks", tag = "tracks", params(ndjson::BulkQuery),
    request_body(content((TrackRow = "application/json"), (String = "application/x-ndjson")),
                 description = "one track, or one per line"),
    responses((status = 200, description = "Outcome of each line of a bulk request", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "The track was created", body = TrackBody,
               headers(("ETag" = String, description = "entity tag of the track"), ("Location" = String, description = "path of the track")))))]
async fn create(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ndjson::BulkQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    if is_ndjson(request.headers()) {
        state.catalog()?;
        return ndjson::store(TrackRows(state.clone()), request.into_body(), query, &state.bulk);
    }
    let JsonBody(row) = JsonBody::<TrackRow>::from_request(request, &state).await?;
    let record = row.into_record()?;
    let id = record.id.clone();
    let (track, _) = state
        .catalog_to_write()
        .await?
        .change_track(&id, |current| match current {
            Some(_) => Err(ApiError::AlreadyExists("track", id.to_string())),
            None => Ok(record.clone()),
        })
        .await?;
    apply_change(&state, &track);
    Ok(TrackBody::from(track).into_response(StatusCode::CREATED))
}

/// Read a track
#[utoipa::path(get, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded")),
    responses((status = 200, description = "The track", body = TrackBody, headers(("ETag" = String, description = "entity tag of the track")))))]
async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let id = track_id(id)?;
    let track = state.catalog()?.track(&id).await?.ok_or(ApiError::UnknownTrack(id.into()))?;
    Ok(TrackBody::from(track).into_response(StatusCode::OK))
}

/// Create or replace a track
///
/// Omitted fields are empty afterwards.
#[utoipa::path(put, path = "/tracks/{id}", tag = "tracks",
    params(("id" = Id, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "replace the track only if this is its entity tag"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: only create, do not replace")),
    request_body = TrackFields,
    responses((status = 200, description = "The track was replaced", body = TrackBody, headers(("ETag" = String, description = "entity tag of the track"))),
              (status = 201, description = "The track was created", body = TrackBody,
               headers(("ETag" = String, description = "entity tag of the track"), ("Location" = String, description = "path of the track")))))]
async fn replace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(fields): JsonBody<TrackFields>,
) -> Result<Response, ApiError> {
    let id = in_field("id", TrackId::new(id))?;
    let record = fields.into_record(id.clone())?;
    let (track, is_new) = state
        .catalog_to_write()
        .await?
        .change_track(&id, |current| {
            preconditions.check(tag_of(current).as_deref())?;
            Ok::<_, ApiError>(record.clone())
        })
        .await?;
    apply_change(&state, &track);
    Ok(TrackBody::from(track).into_response(if is_new { StatusCode::CREATED } else { StatusCode::OK }))
}

/// Change a track
///
/// A JSON merge patch (RFC 7396): omitted fields stay, null removes a value.
#[utoipa::path(patch, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "change the track only if this is its entity tag")),
    request_body(content((TrackPatch = "application/merge-patch+json"), (TrackPatch = "application/json"))),
    responses((status = 200, description = "The track was changed", body = TrackBody, headers(("ETag" = String, description = "entity tag of the track")))))]
async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
    JsonBody(patch): JsonBody<MergePatch>,
) -> Result<Response, ApiError> {
    let id = track_id(id)?;
    let (track, _) = state
        .catalog_to_write()
        .await?
        .change_track(&id, |current| {
            let current = current.ok_or_else(|| ApiError::UnknownTrack(id.to_string()))?;
            preconditions.check(tag_of(Some(current)).as_deref())?;
            patch.apply(&TrackFields::from(current))?.into_record(id.clone())
        })
        .await?;
    apply_change(&state, &track);
    Ok(TrackBody::from(track).into_response(StatusCode::OK))
}

/// Delete a track
///
/// Removes the track from the catalog and from all playlists, with its ratings and listens. To keep it and only stop
/// recommending it, set `hidden`.
#[utoipa::path(delete, path = "/tracks/{id}", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "delete the track only if this is its entity tag")),
    responses((status = 204, description = "The track was deleted")))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let id = track_id(id)?;
    let catalog = state.catalog_to_write().await?;
    let deleted = catalog.delete_track(&id, |track| preconditions.check(tag_of(Some(track)).as_deref())).await?;
    if !deleted {
        return Err(ApiError::UnknownTrack(id.into()));
    }
    state.hidden_tracks.apply(vec![(id.into(), Some(Reason::Removed))]);
    Ok(StatusCode::NO_CONTENT)
}

fn tag_of(track: Option<&Track>) -> Option<String> {
    track.map(|track| TrackBody::from(track.clone()).entity_tag())
}

/// Applies `hidden` and the name from the next request on.
fn apply_change(state: &AppState, track: &Track) {
    state.names.note(track);
    state.hidden_tracks.apply(vec![(track.id.to_string(), track.hidden.then_some(Reason::Hidden))]);
}

/// Stores the lines of a bulk request.
struct TrackRows(AppState);

impl BulkRows for TrackRows {
    type Row = TrackRecord;
    const BATCH_ROWS: usize = 2_000;

    fn parse(&self, line: &[u8]) -> Result<(String, TrackRecord, Vec<Omitted>), String> {
        let (record, omitted) = lines::track(line)?;
        Ok((record.id.to_string(), record, omitted))
    }

    async fn write(&self, rows: &[TrackRecord]) -> Result<Vec<RowOutcome>, CatalogError> {
        let changes = self.0.catalog_for_batch().await.change_tracks(rows).await?;
        let stated = rows.iter().zip(&changes).filter_map(|(row, change)| {
            // A new track is no longer deleted.
            let is_new = *change == RowChange::Added;
            let hidden = row.hidden.or(is_new.then_some(false))?;
            Some((row.id.to_string(), hidden.then_some(Reason::Hidden)))
        });
        self.0.hidden_tracks.apply(stated.collect());
        Ok(changes.into_iter().map(RowOutcome::from).collect())
    }
}
