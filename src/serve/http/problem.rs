//! Errors as problem documents (RFC 9457), whoever raises them.
//!
//! Handlers return [`ApiError`]. What the router, an extractor or a layer answers by itself (404, 405, 413, a time-out, a
//! panic) is turned into the same form by [`problem_documents`], which also puts the request's id into each.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_http::request_id::RequestId;
use tracing::error;
use utoipa::ToSchema;

use crate::bundle::Kind;
use crate::catalog::{CatalogError, EditError, Scope};
use crate::serve::capacity::engine::EngineError;
use crate::serve::models::store::VersionError;

const PROBLEM_JSON: &str = "application/problem+json";
/// Longest text of a foreign error that is passed on.
const MAX_DETAIL_BYTES: usize = 4_096;
/// What clients are told to wait, in seconds, when the server is overloaded or something is away.
const RETRY_AFTER_SECONDS: &str = "1";

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// what kind of problem it is; stable, for programs
    #[serde(rename = "type")]
    #[schema(example = "urn:segue:problem:unknown-playlist")]
    pub kind: String,
    /// the same for people
    #[schema(example = "Unknown playlist")]
    pub title: String,
    /// HTTP status
    #[schema(example = 404)]
    pub status: u16,
    /// what happened this time
    #[schema(example = "no playlist with the id \"37i9\"")]
    pub detail: String,
    /// fields of the request that are wrong
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// the request, as the logs name it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// path of the field: `playlists[3].tracks`
    #[schema(example = "limit")]
    pub field: String,
    /// what is wrong with it
    #[schema(example = "must be between 1 and 500")]
    pub reason: String,
}

/// What a handler can answer instead.
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
    /// No key, or none that is of use.
    #[error("a valid key is needed: Authorization: Bearer …")]
    Unauthorized,
    /// The key is good for less.
    #[error("the key is not good for that; it takes one of the scope {0}")]
    Forbidden(Scope),
    /// The sender's share is used up.
    #[error("too many requests; Retry-After says when the next one is taken")]
    TooManyRequests,
    /// What is to be created is there.
    #[error("there is a {0} with the id {1:?} already; PUT replaces it")]
    AlreadyExists(&'static str, String),
    /// Someone else changed it at the same time.
    #[error("someone else changed it at the same time; read it again and repeat the change")]
    Conflict,
    /// It is not, or no longer, what `If-Match` or `If-None-Match` says.
    #[error("it is not in the state that {0} names; read it again and repeat the change")]
    PreconditionFailed(&'static str),
    /// The ratings model has no such track.
    #[error("the ratings model does not know the track {0:?}; the next training does if it was rated or listened to")]
    TrackNotInModel(String),
    /// The ratings model has no such part.
    #[error("a ratings model of the kind {0} has no {1}")]
    NoSuchPart(String, &'static str),
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(String),
    /// The body is JSON, but a field is wrong; an empty path is the body as a whole.
    #[error("{field}: {reason}")]
    InvalidField {
        /// path of the field
        field: String,
        /// what is wrong with it
        reason: String,
    },
    /// A line of a bulk request is wrong.
    #[error("{0}")]
    InvalidRow(String),
    /// Several fields are wrong.
    #[error("{} fields are wrong, the first of them {}: {}", .0.len(), .0.first().map_or("", |first| &first.field), .0.first().map_or("", |first| &first.reason))]
    InvalidFields(Vec<FieldError>),
    /// The body says that it is something else than JSON.
    #[error("the body must be JSON (content-type: application/json)")]
    NotJson,
    /// The body is too large.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// largest size
        limit_bytes: usize,
    },
    /// There is no such kind of model.
    #[error("there is no kind of model {0:?}")]
    UnknownKind(String),
    /// There is no such model in the bundle that is loaded; what there is.
    #[error("{0}")]
    UnknownModel(String),
    /// A cursor that no answer gave.
    #[error("the cursor is none that an earlier answer to the same question gave as `next`")]
    UnknownCursor,
    /// Fields that are well formed, but do not go with what is there.
    #[error("{} fields do not go with what is there, the first of them {}: {}", .0.len(), .0.first().map_or("", |first| &first.field), .0.first().map_or("", |first| &first.reason))]
    Unfit(Vec<FieldError>),
    /// A version of a model can't be had.
    #[error("{}", tell(.0))]
    Version(#[from] VersionError),
    /// No model is loaded that could answer.
    #[error("no {0} model is loaded yet; `segue train {0}` publishes one, and the server loads it by itself")]
    NoModel(Kind),
    /// The queue is full.
    #[error("too many requests are waiting; try again shortly")]
    Overloaded,
    /// PostgreSQL is away.
    #[error("the catalog is unavailable; try again shortly")]
    CatalogUnavailable,
    /// Anything else. Logged, not told.
    #[error("the server failed to answer; the logs say more under the request's id")]
    Internal(#[source] anyhow::Error),
}

/// What a client is told of a version; paths are for the log.
fn tell(error: &VersionError) -> String {
    match error {
        VersionError::Unknown(..) => error.to_string(),
        VersionError::Refused(kind, version, _) => {
            format!("the {kind} model of the version {version:?} is damaged or not for this program; the logs say more")
        }
        VersionError::ReadOnly(_) => "this server can't write its models folder; the logs say more".to_owned(),
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        if error.is_unavailable() {
            error!("the catalog is unavailable: {error}");
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
            EditError::Stale => Self::PreconditionFailed("If-Match"),
            EditError::Raced => Self::Conflict,
            EditError::UnknownTracks(places) => {
                let reason = "no track with that id is in the catalog".to_owned();
                let field = |place| FieldError { field: format!("tracks[{place}]"), reason: reason.clone() };
                Self::Unfit(places.into_iter().map(field).collect())
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
    /// One field that does not go with what is there.
    pub fn unfit(field: &str, reason: String) -> Self {
        Self::Unfit(vec![FieldError { field: field.to_owned(), reason }])
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::UnknownPlaylist(_) => (StatusCode::NOT_FOUND, "unknown-playlist", "Unknown playlist"),
            Self::UnknownTrack(_) => (StatusCode::NOT_FOUND, "unknown-track", "Unknown track"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::UnknownUser(_) => (StatusCode::NOT_FOUND, "unknown-user", "Unknown user"),
            Self::AlreadyExists(..) => (StatusCode::CONFLICT, "already-exists", "Already exists"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::PreconditionFailed(_) => {
                (StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed")
            }
            Self::TrackNotInModel(_) => (StatusCode::NOT_FOUND, "track-not-in-model", "Track not in the model"),
            Self::NoSuchPart(..) => (StatusCode::NOT_FOUND, "no-such-part", "No such part"),
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON"),
            Self::InvalidField { .. } | Self::InvalidFields(_) | Self::InvalidRow(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "Invalid field")
            }
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Not JSON"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Self::Unfit(_) => (StatusCode::CONFLICT, "unfit", "Does not go with what is there"),
            Self::UnknownModel(_) => (StatusCode::NOT_FOUND, "unknown-model", "Unknown model"),
            Self::UnknownCursor => (StatusCode::NOT_FOUND, "unknown-cursor", "Unknown cursor"),
            Self::UnknownKind(_) => (StatusCode::NOT_FOUND, "unknown-kind", "Unknown kind of model"),
            Self::Version(VersionError::Unknown(..)) => (StatusCode::NOT_FOUND, "unknown-version", "Unknown version"),
            Self::Version(VersionError::Refused(..)) => (StatusCode::CONFLICT, "model-refused", "Model refused"),
            Self::Version(VersionError::ReadOnly(_)) => {
                (StatusCode::CONFLICT, "models-read-only", "Models folder can't be written")
            }
            Self::NoModel(_) => (StatusCode::SERVICE_UNAVAILABLE, "no-model", "No model"),
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
            Self::Version(error @ (VersionError::Refused(..) | VersionError::ReadOnly(_))) => error!("{error}"),
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
        // `problem_documents` writes it out, with the request's id.
        let mut response = status.into_response();
        response.extensions_mut().insert(problem);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Gives every error response the form of a problem document.
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
    // A struct of strings and numbers always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}

/// The problem behind an error that axum or a layer answered in plain text.
async fn foreign_problem(status: StatusCode, body: Body) -> Problem {
    let text = to_bytes(body, MAX_DETAIL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let detail = match status {
        StatusCode::NOT_FOUND => "no such path; GET /docs lists them".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path does not take that method; the Allow header lists those it takes".to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => "the request took too long".to_owned(),
        _ if status.is_server_error() => {
            "the server failed to answer; the logs say more under the request's id".to_owned()
        }
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
