//! What requests are made of, checked at the edge: JSON bodies, ids, limits.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

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
        // Nothing, as JSON has it, is nothing too.
        if bytes.is_empty() || bytes.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

/// What a request says of the state that it means to change: `If-Match`, and `If-None-Match: *`.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// entity tags, or `*`; none without the header
    if_match: Option<Vec<String>>,
    must_be_new: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let tags = |name: HeaderName| -> Option<Vec<String>> {
            let values = parts.headers.get_all(name).iter();
            let tags: Vec<String> = values
                .flat_map(|value| value.to_str().unwrap_or_default().split(','))
                .map(|tag| tag.trim().to_owned())
                .filter(|tag| !tag.is_empty())
                .collect();
            (!tags.is_empty()).then_some(tags)
        };
        let must_be_new = tags(IF_NONE_MATCH).is_some_and(|tags| tags.iter().any(|tag| tag == "*"));
        Ok(Self { if_match: tags(IF_MATCH), must_be_new })
    }
}

impl Preconditions {
    /// Whether what is there, by its entity tag, may be changed.
    pub fn check(&self, current: Option<&str>) -> Result<(), ApiError> {
        if let Some(tags) = &self.if_match {
            let matches = current.is_some_and(|current| tags.iter().any(|tag| tag == "*" || tag == current));
            if !matches {
                return Err(ApiError::PreconditionFailed("If-Match"));
            }
        }
        if current.is_some() { self.check_new() } else { Ok(()) }
    }

    /// Fails where something is there and `If-None-Match` says that it must not be.
    pub fn check_new(&self) -> Result<(), ApiError> {
        if self.must_be_new { Err(ApiError::PreconditionFailed("If-None-Match")) } else { Ok(()) }
    }

    /// The numbers behind the entity tags, where there are tags and not `*`; what is none of ours matches nothing.
    pub fn expected(&self) -> Option<Vec<i64>> {
        let tags = self.if_match.as_ref().filter(|tags| !tags.iter().any(|tag| tag == "*"))?;
        Some(tags.iter().filter_map(|tag| i64::from_str_radix(tag.trim_matches('"'), 16).ok()).collect())
    }
}

/// The entity tag of a number.
pub fn entity_tag(number: i64) -> String {
    format!("\"{number:x}\"")
}

/// The longest id, in bytes; PostgreSQL's indexes take 2,704.
pub const MAX_ID_BYTES: usize = 1_000;

/// An id for something new: not empty, not too long, and without control characters.
pub fn check_id(field: &str, id: &str) -> Result<(), ApiError> {
    let reason = match () {
        () if id.is_empty() => "must not be empty".to_owned(),
        () if id.len() > MAX_ID_BYTES => format!("must not be longer than {MAX_ID_BYTES} bytes"),
        () if id.chars().any(char::is_control) => "must not contain control characters".to_owned(),
        () => return Ok(()),
    };
    Err(ApiError::InvalidField { field: field.to_owned(), reason })
}

/// Where the next page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Cursor {
    /// behind an id
    After(String),
    /// behind so many results of a search
    Offset(u32),
}

/// The most results of a search that pages go through.
pub const MAX_SEARCH_RESULTS: u32 = 1_000;

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const REASON: &str = "must be the next of an earlier answer";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| REASON)?;
        match bytes.split_first() {
            Some((b'a', id)) => {
                let id = String::from_utf8(id.to_vec()).map_err(|_| REASON)?;
                if id.contains('\0') { Err(REASON) } else { Ok(Self::After(id)) }
            }
            Some((b'o', offset)) => {
                let offset = offset.try_into().map(u32::from_le_bytes).map_err(|_| REASON)?;
                if offset > MAX_SEARCH_RESULTS { Err(REASON) } else { Ok(Self::Offset(offset)) }
            }
            _ => Err(REASON),
        }
    }
}

impl Cursor {
    /// As it goes out.
    pub fn encode(&self) -> String {
        let bytes = match self {
            Self::After(id) => [b"a", id.as_bytes()].concat(),
            Self::Offset(offset) => [b"o".as_slice(), &offset.to_le_bytes()].concat(),
        };
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Which page of a list, and of what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// number of rows
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    pub limit: Limit,
    /// `next` of the page before
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
    /// what to search for, misspelt or not; without it, rows come in the order of their ids
    #[serde(default)]
    #[param(max_length = 200)]
    pub q: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// number of rows
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// `next` of the page before
    #[serde(default)]
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl PageQuery {
    /// As a question without a search.
    pub fn into_list(self) -> ListQuery {
        ListQuery { limit: self.limit, cursor: self.cursor, q: None }
    }
}

/// What a list is asked for.
pub enum Page {
    /// rows behind an id
    After(String),
    /// results of a search behind so many
    Search(String, u32),
}

impl ListQuery {
    /// What is asked for.
    pub fn page(&self) -> Result<Page, ApiError> {
        let refuse = |field: &str, reason: &str| {
            Err(ApiError::InvalidField { field: field.to_owned(), reason: reason.to_owned() })
        };
        match (&self.q, &self.cursor) {
            (None, None) => Ok(Page::After(String::new())),
            (None, Some(Cursor::After(id))) => Ok(Page::After(id.clone())),
            (Some(text), _) if text.contains('\0') || text.trim().is_empty() || text.chars().count() > 200 => {
                refuse("q", "must have 1 to 200 characters")
            }
            (Some(text), None) => Ok(Page::Search(text.clone(), 0)),
            (Some(text), Some(Cursor::Offset(offset))) => Ok(Page::Search(text.clone(), *offset)),
            _ => refuse("cursor", "must be the next of an earlier answer to the same question"),
        }
    }

    /// The cursor of the page behind one of `rows`, the last of them `last`; none where that is the end.
    pub fn next(&self, page: &Page, rows: usize, last: Option<&str>) -> Option<String> {
        if rows < self.limit.get() {
            return None;
        }
        match page {
            Page::After(_) => Some(Cursor::After(last?.to_owned()).encode()),
            Page::Search(_, offset) => {
                let offset = offset + rows as u32;
                (offset < MAX_SEARCH_RESULTS).then(|| Cursor::Offset(offset).encode())
            }
        }
    }
}

/// Whether the body is rows of JSON, one a line.
pub fn is_ndjson(headers: &HeaderMap) -> bool {
    essence(headers) == NDJSON
}

/// Rows of JSON, one a line.
pub const NDJSON: &str = "application/x-ndjson";
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

/// Parses JSON; an error names the field, or the position.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
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

/// A JSON merge patch (RFC 7396).
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct MergePatch(serde_json::Map<String, Value>);

impl MergePatch {
    /// What `current` is after it.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, current: &T) -> Result<T, ApiError> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(current) else {
            return Err(ApiError::Internal(anyhow::anyhow!("what is to be changed is no object")));
        };
        for (name, value) in &self.0 {
            match value {
                Value::Null if fields.contains_key(name) => drop(fields.remove(name)),
                value => drop(fields.insert(name.clone(), value.clone())),
            }
        }
        let bytes = serde_json::to_vec(&fields).map_err(|error| ApiError::Internal(error.into()))?;
        parse(&bytes)
    }
}

/// An id as a segment of a path.
pub fn segment(id: &str) -> String {
    let mut segment = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => segment.push(byte.into()),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}
