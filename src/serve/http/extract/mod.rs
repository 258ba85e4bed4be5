//! What requests are made of, checked at the edge: JSON bodies, ids, limits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::problem::{ApiError, FieldError};
use crate::catalog::TextError;

/// Most tracks that a request may ask for.
pub const MAX_LIMIT: usize = 500;
/// Tracks answered when a request does not say how many.
pub const DEFAULT_LIMIT: usize = 50;

/// A number without a fraction, written `3` or `3.0`, which is the same to JSON Schema.
#[derive(Debug, Clone, Copy)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                i64::try_from(number).map(Whole).map_err(|_| E::custom("is out of range"))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() != 0.0 {
                    return Err(E::invalid_type(de::Unexpected::Float(number), &self));
                }
                // A cast would make the largest number of what is beyond it.
                if number.abs() >= 2f64.powi(63) {
                    return Err(E::custom("is out of range"));
                }
                Ok(Whole(number as i64))
            }
        }
        deserializer.deserialize_i64(WholeVisitor)
    }
}

/// For a field that may hold a [`Whole`] number.
pub fn optional_whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let number: Option<Whole> = Option::deserialize(deserializer)?;
    let number = number.map(|Whole(number)| T::try_from(number).map_err(|_| de::Error::custom("is out of range")));
    number.transpose()
}

/// A JSON object, and not the array of its values that serde takes for a struct too.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A number of tracks, 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Whole")]
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

impl TryFrom<Whole> for Limit {
    type Error = String;

    fn try_from(Whole(value): Whole) -> Result<Self, String> {
        match usize::try_from(value) {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(Self(limit)),
            _ => Err(format!("must be between 1 and {MAX_LIMIT}")),
        }
    }
}

/// How much an answer is diversified: from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "f64")]
#[schema(value_type = f32, minimum = 0, maximum = 1)]
pub struct Diversity(f32);

impl Diversity {
    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f64> for Diversity {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value as f32)) } else { Err("must be between 0 and 1".to_owned()) }
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
        parse(&bytes).map(|Object(body)| Self(body))
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
        parse(&bytes).map(|Object(body)| Self(body))
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

/// What was made of the text of a field, an id or a name.
pub fn in_field<T>(field: &str, made: Result<T, TextError>) -> Result<T, ApiError> {
    made.map_err(|error| ApiError::InvalidField { field: field.to_owned(), reason: error.to_string() })
}

// The ids of the catalog check what this says in the contract.
/// An app's id.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
#[expect(dead_code, reason = "a schema")]
pub struct Id(String);

/// Where the next page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// behind an id
    After(String),
    /// behind so many results of a search
    Offset(u32),
}

/// The longest text to search for.
const MAX_SEARCH_CHARACTERS: usize = 200;
/// The most results of a search that pages go through.
pub const MAX_SEARCH_RESULTS: u32 = 1_000;

impl Cursor {
    /// The one that went out as `text`.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        match bytes.split_first()? {
            (b'a', id) => {
                let id = String::from_utf8(id.to_vec()).ok()?;
                (!id.contains('\0')).then_some(Self::After(id))
            }
            (b'o', offset) => {
                let offset = offset.try_into().map(u32::from_le_bytes).ok()?;
                (offset <= MAX_SEARCH_RESULTS).then_some(Self::Offset(offset))
            }
            _ => None,
        }
    }

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
    pub cursor: Option<String>,
    /// what to search for, misspelt or not; without it, or blank, rows come in the order of their ids
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
    cursor: Option<String>,
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
        if self.q.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH_CHARACTERS) {
            let reason = format!("must not have more than {MAX_SEARCH_CHARACTERS} characters");
            return Err(ApiError::InvalidField { field: "q".to_owned(), reason });
        }
        // No name has control characters, and PostgreSQL can't take NUL.
        let text = self.q.as_ref().map(|text| text.replace(char::is_control, " "));
        let text = text.filter(|text| !text.trim().is_empty());
        let cursor =
            self.cursor.as_ref().map(|text| Cursor::decode(text).ok_or(ApiError::UnknownCursor)).transpose()?;
        match (text, cursor) {
            (None, None) => Ok(Page::After(String::new())),
            (None, Some(Cursor::After(id))) => Ok(Page::After(id)),
            (Some(text), None) => Ok(Page::Search(text, 0)),
            (Some(text), Some(Cursor::Offset(offset))) => Ok(Page::Search(text, offset)),
            _ => Err(ApiError::UnknownCursor),
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

/// Rows of a bulk request: a JSON object with a list, which is refused whole where a row is malformed, or one row a line
/// (`application/x-ndjson`), where a malformed row does not keep the others from being taken.
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
                Err(problem) => checked.problems.push((place, in_row::<T>(place, &problem))),
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
        let bulk = Self::of(rows.iter().map(|row| row.get().as_bytes()))?;
        let malformed: Vec<FieldError> = bulk
            .0
            .iter()
            .enumerate()
            .filter_map(|(place, row)| Some(in_row::<T>(place, row.as_ref().err()?)))
            .collect();
        if malformed.is_empty() { Ok(bulk) } else { Err(ApiError::InvalidFields(malformed)) }
    }
}

/// The problem of a row, its field as one of the body.
fn in_row<T: BulkRow>(place: usize, problem: &FieldError) -> FieldError {
    let FieldError { field, reason } = problem;
    let dot = if field.is_empty() { "" } else { "." };
    FieldError { field: format!("{}[{place}]{dot}{field}", T::FIELD), reason: reason.clone() }
}

impl<T: BulkRow> Bulk<T> {
    fn of<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Result<Self, ApiError> {
        let mut parsed = Vec::new();
        for row in rows {
            if parsed.len() == MAX_ROWS {
                let reason = format!("has more than {MAX_ROWS} rows");
                return Err(ApiError::InvalidField { field: T::FIELD.to_owned(), reason });
            }
            parsed.push(parse::<Object<T>>(row).map(|Object(row)| row).map_err(|error| match error {
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
