//! What requests are made of, checked at the edge: JSON bodies, ids, limits.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::{ApiError, FieldError};

/// Most tracks that a request may ask for.
pub const MAX_LIMIT: usize = 500;
/// Tracks answered when a request does not say how many.
pub const DEFAULT_LIMIT: usize = 50;

/// A number of tracks, 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 1, maximum = 500, default = 50)]
pub struct Limit(usize);

impl Limit {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl TryFrom<i64> for Limit {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match usize::try_from(value) {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(Self(limit)),
            _ => Err(format!("must be between 1 and {MAX_LIMIT}")),
        }
    }
}

/// How much an answer is diversified: from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "f32")]
pub struct Diversity(f32);

impl Diversity {
    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Diversity {
    type Error = String;

    fn try_from(value: f32) -> Result<Self, String> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err("must be between 0 and 1".to_owned()) }
    }
}

/// A list of at most `MAX` values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct BoundedList<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for BoundedList<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for BoundedList<T, MAX> {
    type Error = String;

    fn try_from(values: Vec<T>) -> Result<Self, String> {
        if values.len() > MAX {
            return Err(format!("has {} values, at most {MAX} are taken", values.len()));
        }
        Ok(Self(values))
    }
}

/// The parameters of a query, or the problem with them.
pub fn query<T>(parameters: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match parameters {
        Ok(Query(parameters)) => Ok(parameters),
        Err(rejection) => {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let (field, reason) = text.split_once(": ").unwrap_or(("query", text));
            Err(ApiError::InvalidField { field: field.to_owned(), reason: reason.to_owned() })
        }
    }
}

/// A JSON body. An error names the field.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct OptionalJsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

/// Rows of JSON, one a line.
const NDJSON: &str = "application/x-ndjson";
/// Most rows of a bulk request.
const MAX_ROWS: usize = 10_000;

/// A row of a bulk request.
pub trait BulkRow: DeserializeOwned {
    /// Name of the list in a JSON body: `{"ratings": […]}`
    const FIELD: &'static str;
}

/// Rows of a bulk request: a JSON object with a list, or one row a line (`application/x-ndjson`). A row that is wrong
/// does not keep the others from being taken.
#[derive(Debug)]
pub struct Bulk<T>(Vec<Result<T, FieldError>>);

/// Rows of a bulk request after a check.
#[derive(Debug)]
pub struct Checked<R> {
    /// rows that are right
    pub good: Vec<R>,
    /// the number in the request of each of them, from 0
    pub places: Vec<usize>,
    /// number and problem of the others
    pub problems: Vec<(usize, FieldError)>,
}

impl<T: BulkRow> Bulk<T> {
    /// Checks each row; fields of problems get the row's number.
    pub fn check<R>(self, check: impl Fn(T) -> Result<R, FieldError>) -> Checked<R> {
        let mut checked = Checked { good: Vec::new(), places: Vec::new(), problems: Vec::new() };
        for (place, row) in self.0.into_iter().enumerate() {
            match row.and_then(&check) {
                Ok(row) => {
                    checked.good.push(row);
                    checked.places.push(place);
                }
                Err(FieldError { field, reason }) => {
                    let dot = if field.is_empty() { "" } else { "." };
                    let field = format!("{}[{place}]{dot}{field}", T::FIELD);
                    checked.problems.push((place, FieldError { field, reason }));
                }
            }
        }
        checked
    }
}

impl<S: Send + Sync, T: BulkRow> FromRequest<S> for Bulk<T> {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, ApiError> {
        let is_lines = essence(request.headers()) == NDJSON;
        if is_lines {
            // To the reader of bodies it is JSON, of which there is some a line.
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let bytes = read_body(request, state).await?;
        if is_lines {
            let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            return Self::of(lines);
        }
        let refuse = |field: &str, reason: String| ApiError::InvalidField { field: field.to_owned(), reason };
        let object: BTreeMap<String, Box<RawValue>> = parse(&bytes)?;
        if let Some(other) = object.keys().find(|name| *name != T::FIELD) {
            return Err(refuse(other, format!("there is no such field, expected `{}`", T::FIELD)));
        }
        let rows = object.get(T::FIELD).and_then(|rows| serde_json::from_str::<Vec<&RawValue>>(rows.get()).ok());
        let rows = rows.ok_or_else(|| refuse(T::FIELD, format!("must be a list of up to {MAX_ROWS} rows")))?;
        Self::of(rows.iter().map(|row| row.get().as_bytes()))
    }
}

impl<T: BulkRow> Bulk<T> {
    fn of<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Result<Self, ApiError> {
        let mut parsed = Vec::new();
        for row in rows {
            if parsed.len() == MAX_ROWS {
                let reason = format!("has more than {MAX_ROWS} rows");
                return Err(ApiError::InvalidField { field: T::FIELD.to_owned(), reason });
            }
            parsed.push(parse::<T>(row).map_err(|error| match error {
                ApiError::InvalidField { field, reason } if field == "body" => {
                    FieldError { field: String::new(), reason }
                }
                ApiError::InvalidField { field, reason } => FieldError { field, reason },
                other => FieldError { field: String::new(), reason: other.to_string() },
            }));
        }
        Ok(Self(parsed))
    }
}

/// The server's limit on bodies, left in each request for [`read_body`]'s message.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let limit_bytes = request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0);
    let declares_json = is_json(request.headers());
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::TooLarge { limit_bytes };
        }
        let reason = rejection.into_response().status().to_string();
        ApiError::MalformedJson(format!("the body could not be read ({reason})"))
    })?;
    if !bytes.is_empty() && !declares_json {
        return Err(ApiError::NotJson);
    }
    Ok(bytes)
}

/// The content type without parameters.
fn essence(headers: &HeaderMap) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let field = if path == "." { "body".to_owned() } else { path };
            let reason = inner.to_string();
            ApiError::InvalidField { field, reason: reason.split(" at line ").next().unwrap_or_default().to_owned() }
        } else {
            ApiError::MalformedJson(inner.to_string())
        }
    })?;
    deserializer.end().map_err(|error| ApiError::MalformedJson(error.to_string()))?;
    Ok(value)
}
