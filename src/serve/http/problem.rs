//! Errors as problem documents (RFC 9457).
//!
//! Handlers return [`ApiError`]. [`problem_documents`] converts the error responses of the router, an extractor or a layer
//! (404, 405, 413, a timeout, a panic) to the same form, and adds the request id to each.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_http::request_id::RequestId;
use tracing::{error, warn};
use utoipa::ToSchema;

use crate::bundle::Kind;
use crate::catalog::{CatalogError, EditError, Scope};
use crate::serve::capacity::engine::EngineError;
use crate::serve::models::slot::VersionError;

const PROBLEM_JSON: &str = "application/problem+json";
/// Longest text of a foreign error that is passed on.
const MAX_DETAIL_BYTES: usize = 4_096;
/// `Retry-After` in seconds when the server is overloaded or PostgreSQL is unavailable.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a track that a request names is rejected.
pub const UNKNOWN_TRACK_ID: &str = "no track with this id in the catalog";

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// kind of problem; stable, for programs
    #[serde(rename = "type")]
    #[schema(example = "urn:segue:problem:unknown-playlist")]
    pub kind: String,
    /// kind of problem, for people
    #[schema(example = "Unknown playlist")]
    pub title: String,
    /// HTTP status
    #[schema(example = 404)]
    pub status: u16,
    /// what happened, and how to fix it
    #[schema(example = "no playlist with the id \"37i9\"")]
    pub detail: String,
    /// invalid fields of the request
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// id of the request in the logs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// An invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// path of the field: `playlists[3].tracks`
    #[schema(example = "limit")]
    pub field: String,
    /// why it is invalid
    #[schema(example = "must be between 1 and 500")]
    pub reason: String,
}

/// An error of a handler.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The catalog has no such playlist.
    #[error("no playlist with the id {0:?}")]
    UnknownPlaylist(String),
    /// The catalog and the model have no such track.
    #[error("no track with the id {0:?}")]
    UnknownTrack(String),
    /// The catalog has no such user.
    #[error("no user with the id {0:?}")]
    UnknownUser(String),
    /// No key, or an invalid one.
    #[error("this request needs a valid API key: send Authorization: Bearer <key>")]
    Unauthorized,
    /// The key lacks a scope.
    #[error("this key lacks the required scope: {0}")]
    Forbidden(Scope),
    /// The request names another host.
    #[error("this server is not {0:?}: use localhost, or allow the name with `segue serve --hosts`")]
    UnknownHost(String),
    /// The request comes from a web page of another origin.
    #[error("requests from web pages of {0:?} are not allowed: see `segue serve --cors-origins`")]
    ForeignOrigin(String),
    /// The sender exceeded its rate limit.
    #[error("rate limit exceeded: retry after the seconds in Retry-After")]
    TooManyRequests,
    /// What the request creates exists already.
    #[error("a {0} with the id {1:?} already exists: use PUT to replace it")]
    AlreadyExists(&'static str, String),
    /// A concurrent change.
    #[error("another request changed it at the same time: read it again and repeat the change")]
    Conflict,
    /// `If-Match` or `If-None-Match` does not hold.
    #[error("{0} does not hold: read the current state and repeat the change")]
    PreconditionFailed(&'static str),
    /// The ratings model has no such track.
    #[error(
        "the ratings model does not know the track {0:?}: it learns tracks with ratings or listens at the next training"
    )]
    TrackNotInModel(String),
    /// The ratings model has no such part.
    #[error("the ratings model {0:?} has no {1}")]
    NoSuchPart(String, &'static str),
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(String),
    /// A field or query parameter is invalid; `body` is the body as a whole.
    #[error("{field}: {reason}")]
    InvalidField {
        /// path of the field
        field: String,
        /// why it is invalid
        reason: String,
    },
    /// Several fields are invalid.
    #[error("{} invalid fields, the first is {}: {}", .0.len(), .0.first().map_or("", |first| &first.field), .0.first().map_or("", |first| &first.reason))]
    InvalidFields(Vec<FieldError>),
    /// The body is not declared as JSON.
    #[error("the body must be JSON: send content-type: application/json")]
    NotJson,
    /// The body is neither JSON nor JSON rows.
    #[error(
        "the body must be JSON, or one JSON object per line: send content-type: application/json or application/x-ndjson"
    )]
    NotRows,
    /// The body is too large.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// largest accepted size
        limit_bytes: usize,
    },
    /// There is no such kind of model.
    #[error("unknown kind of model: {0:?}")]
    UnknownKind(String),
    /// The loaded bundle has no such model.
    #[error("{0}")]
    UnknownModel(String),
    /// A cursor of no previous response.
    #[error("unknown cursor: pass the `next` value of a previous response to the same query")]
    UnknownCursor,
    /// Fields are well formed, but conflict with the current state.
    #[error("{} fields conflict with the current state, the first is {}: {}", .0.len(), .0.first().map_or("", |first| &first.field), .0.first().map_or("", |first| &first.reason))]
    Unfit(Vec<FieldError>),
    /// A version of a model is not available.
    #[error("{}", without_paths(.0))]
    Version(#[from] VersionError),
    /// No model of the kind is loaded.
    #[error("no {0} model is loaded: publish one with `segue train {0}`, the server loads it automatically")]
    NoModel(Kind),
    /// Too many requests wait.
    #[error("the server is overloaded: retry shortly")]
    Overloaded,
    /// PostgreSQL is unavailable.
    #[error("the catalog is unavailable: retry shortly")]
    CatalogUnavailable,
    /// Anything else; details go to the log only.
    #[error("internal error: see the server's log under this request id")]
    Internal(#[source] anyhow::Error),
}

/// Returns the text for clients; paths are for the log.
fn without_paths(error: &VersionError) -> String {
    match error {
        VersionError::Unknown(..) | VersionError::Stopped => error.to_string(),
        VersionError::Damaged(kind, version, _) => {
            format!("the {kind} model {version:?} is damaged or made for another release: see the server's log")
        }
        VersionError::ReadOnly(_) => "the server can't write its models folder: see its log".to_owned(),
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        if error.is_unavailable() {
            warn!("the catalog is unavailable: {error}");
            Self::CatalogUnavailable
        } else if error.is_conflict() {
            Self::Conflict
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NoSuchPlaylist(id) => Self::UnknownPlaylist(id.into()),
            EditError::Raced => Self::Conflict,
            EditError::UnknownTracks(indices) => {
                let reason = UNKNOWN_TRACK_ID.to_owned();
                let field = |index| FieldError { field: format!("tracks[{index}]"), reason: reason.clone() };
                Self::Unfit(indices.into_iter().map(field).collect())
            }
            EditError::OutOfRange(tracks) => Self::unfit("position", format!("the playlist has {tracks} tracks")),
            EditError::TooLong => Self::unfit("tracks", error.to_string()),
            EditError::Catalog(error) => error.into(),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Full => Self::Overloaded,
            EngineError::Lost => Self::Internal(error.into()),
        }
    }
}

impl ApiError {
    /// Returns the error of one invalid field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), reason: reason.into() }
    }

    /// Returns the error of one field that conflicts with the current state.
    pub fn unfit(field: &str, reason: String) -> Self {
        Self::Unfit(vec![FieldError { field: field.to_owned(), reason }])
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::UnknownPlaylist(_) => (StatusCode::NOT_FOUND, "unknown-playlist", "Unknown playlist"),
            Self::UnknownTrack(_) => (StatusCode::NOT_FOUND, "unknown-track", "Unknown track"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::UnknownHost(_) => (StatusCode::MISDIRECTED_REQUEST, "unknown-host", "Unknown host"),
            Self::ForeignOrigin(_) => (StatusCode::FORBIDDEN, "foreign-origin", "Foreign origin"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::UnknownUser(_) => (StatusCode::NOT_FOUND, "unknown-user", "Unknown user"),
            Self::AlreadyExists(..) => (StatusCode::CONFLICT, "already-exists", "Already exists"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::PreconditionFailed(_) => {
                (StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed")
            }
            Self::TrackNotInModel(_) => (StatusCode::NOT_FOUND, "track-not-in-model", "Track unknown to the model"),
            Self::NoSuchPart(..) => (StatusCode::NOT_FOUND, "no-such-part", "No such part"),
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON"),
            Self::InvalidField { .. } | Self::InvalidFields(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "Invalid field")
            }
            Self::NotJson | Self::NotRows => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Not JSON"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Self::Unfit(_) => (StatusCode::CONFLICT, "unfit", "Conflict with the current state"),
            Self::UnknownModel(_) => (StatusCode::NOT_FOUND, "unknown-model", "Unknown model"),
            Self::UnknownCursor => (StatusCode::NOT_FOUND, "unknown-cursor", "Unknown cursor"),
            Self::UnknownKind(_) => (StatusCode::NOT_FOUND, "unknown-kind", "Unknown kind of model"),
            Self::Version(VersionError::Unknown(..)) => (StatusCode::NOT_FOUND, "unknown-version", "Unknown version"),
            Self::Version(VersionError::Damaged(..)) => (StatusCode::CONFLICT, "model-refused", "Damaged model"),
            Self::Version(VersionError::ReadOnly(_)) => {
                (StatusCode::CONFLICT, "models-read-only", "Models folder is read-only")
            }
            Self::Version(VersionError::Stopped) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::NoModel(_) => (StatusCode::SERVICE_UNAVAILABLE, "no-model", "No model loaded"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::CatalogUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "catalog-unavailable", "Catalog unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(error) => error!("internal error: {error:#}"),
            Self::Version(error @ (VersionError::Damaged(..) | VersionError::ReadOnly(_))) => error!("{error}"),
            _ => {}
        }
        let (status, kind, title) = self.parts();
        let errors = match &self {
            Self::InvalidField { field, reason } => {
                vec![FieldError { field: field.clone(), reason: reason.clone() }]
            }
            Self::InvalidFields(fields) | Self::Unfit(fields) => fields.clone(),
            _ => Vec::new(),
        };
        let problem = Problem {
            kind: format!("urn:segue:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            errors,
            request_id: None,
        };
        // `problem_documents` writes the body, with the request id.
        let mut response = status.into_response();
        response.extensions_mut().insert(problem);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Converts every error response to a problem document.
pub async fn problem_documents(request: Request, next: Next) -> Response {
    let request_id =
        request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).map(ToOwned::to_owned);
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let mut problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None => foreign_problem(status, body).await,
    };
    problem.request_id = request_id;
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        parts.headers.entry(RETRY_AFTER).or_insert(HeaderValue::from_static(RETRY_AFTER_SECONDS));
    }
    // A struct of strings and numbers always serializes.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}

/// Returns the problem for an error response in plain text of axum or a layer.
async fn foreign_problem(status: StatusCode, body: Body) -> Problem {
    let text = to_bytes(body, MAX_DETAIL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.is_server_error() {
        // Errors of handlers are logged where they occur, and panics where they are caught.
        warn!(status = status.as_u16(), "a request failed outside of its handler: {text}");
    }
    let detail = match status {
        StatusCode::NOT_FOUND => "unknown path: GET /docs lists all paths".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => {
            "method not allowed: the Allow header lists the methods of this path".to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => "the request timed out".to_owned(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "unknown content-encoding: send the body as it is, or compressed with gzip".to_owned()
        }
        _ if status.is_server_error() => "internal error: see the server's log under this request id".to_owned(),
        _ if text.is_empty() => status.canonical_reason().unwrap_or("error").to_owned(),
        _ => text,
    };
    let title = status.canonical_reason().unwrap_or("Error").to_owned();
    Problem {
        kind: format!("urn:segue:problem:{}", title.to_lowercase().replace(' ', "-")),
        title,
        status: status.as_u16(),
        detail,
        errors: Vec::new(),
        request_id: None,
    }
}
