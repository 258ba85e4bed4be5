//! JSON: bodies, lines, and the values in them. An error names the field, or the position.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::catalog::fields::from_json;
use crate::serve::http::problem::ApiError;

pub use crate::catalog::fields::{Whole, optional_whole};

/// A JSON object: for a struct alone, serde also accepts an array of its values.
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
            return Err(format!("has {} values; the maximum is {MAX}", values.len()));
        }
        Ok(Self(values))
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request, state).await?;
        parse(&bytes).map(|Object(body)| Self(body))
    }
}

/// A JSON body that may be omitted.
#[derive(Debug)]
pub struct OptionalJsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request, state).await?;
        // `null` counts as omitted.
        if bytes.is_empty() || bytes.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(|Object(body)| Self(body))
    }
}

/// A JSON merge patch (RFC 7396).
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct MergePatch(serde_json::Map<String, Value>);

impl MergePatch {
    /// Returns `current` with the patch applied.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, current: &T) -> Result<T, ApiError> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(current) else {
            return Err(ApiError::Internal(anyhow::anyhow!("the patched value is not an object")));
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

/// The server's limit on bodies, in each request for the error message.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// Reads a body that is declared as JSON. One that says that it is too large is not read at all.
pub async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let limit_bytes = request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0);
    let declares_json = is_json(request.headers());
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit_bytes) {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::TooLarge { limit_bytes };
        }
        let reason = rejection.into_response().status().to_string();
        ApiError::MalformedJson(format!("can't read the body ({reason})"))
    })?;
    if !bytes.is_empty() && !declares_json {
        return Err(ApiError::NotJson);
    }
    Ok(bytes)
}

/// Returns the content type without parameters.
fn essence(headers: &HeaderMap) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Parses JSON. Half of a surrogate pair is read as U+FFFD, as in files.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut repaired = Vec::new();
    from_json(bytes, &mut repaired).map_err(|error| match error.error.is_data() {
        true => {
            let field = if error.path.is_empty() { "body".to_owned() } else { error.path.clone() };
            ApiError::invalid(field, error.reason())
        }
        false => ApiError::MalformedJson(error.error.to_string()),
    })
}

/// The media type of JSON rows, one per line.
pub const NDJSON: &str = "application/x-ndjson";

/// Returns whether the body is JSON rows, one per line, by any of the names that are in use.
pub fn is_ndjson(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    [NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines"].contains(&essence.as_str())
}
