//! Rows of feedback: many in one request, checked one by one.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{Object, is_ndjson, parse, read_body};
use crate::catalog::lines::without_mark;
use crate::serve::http::problem::{ApiError, FieldError};

/// Most rows of a request.
const MAX_ROWS: usize = 10_000;

/// A row.
pub trait RowBody: DeserializeOwned {
    /// Name of the list in a JSON body: `{"ratings": […]}`
    const FIELD: &'static str;

    /// Reads one that is a line of its own, with fields of any type that they can be read from, as in a file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with a field.
    fn from_line<'de, D: Deserializer<'de>>(line: D) -> Result<Self, D::Error>;
}

/// A row that is a line of its own.
struct Line<T>(T);

impl<'de, T: RowBody> Deserialize<'de> for Line<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_line(deserializer).map(Self)
    }
}

/// The rows of a request: a JSON object with a list, which is rejected as a whole if a row is malformed; or one row per line
/// (`application/x-ndjson`), where a malformed row does not affect the others.
#[derive(Debug)]
pub struct Rows<T>(Vec<Result<T, FieldError>>);

/// Rows after a check.
#[derive(Debug)]
pub struct CheckedRows<R> {
    /// valid rows
    pub valid: Vec<R>,
    /// the index in the request of each of them
    pub indices: Vec<usize>,
    /// index and problem of the others
    pub problems: Vec<(usize, FieldError)>,
}

impl<T: RowBody> Rows<T> {
    /// Checks each row; the fields of problems get the row's index.
    pub fn check<R>(self, check: impl Fn(T) -> Result<R, FieldError>) -> CheckedRows<R> {
        let mut checked = CheckedRows { valid: Vec::new(), indices: Vec::new(), problems: Vec::new() };
        for (index, row) in self.0.into_iter().enumerate() {
            match row.and_then(&check) {
                Ok(row) => {
                    checked.valid.push(row);
                    checked.indices.push(index);
                }
                Err(problem) => checked.problems.push((index, in_row::<T>(index, &problem))),
            }
        }
        checked
    }
}

impl<S: Send + Sync, T: RowBody> FromRequest<S> for Rows<T> {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, ApiError> {
        let is_lines = is_ndjson(request.headers());
        if is_lines {
            // Each line is JSON.
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let bytes = read_body(request, state).await.map_err(|error| match error {
            ApiError::NotJson => ApiError::NotRows,
            other => other,
        })?;
        if is_lines {
            let lines = bytes.split(|&byte| byte == b'\n').map(without_mark);
            let lines = lines.filter(|line| !line.trim_ascii().is_empty());
            return Self::of(lines, |line| parse::<Object<Line<T>>>(line).map(|Object(Line(row))| row));
        }
        let object: BTreeMap<String, Box<RawValue>> = parse(&bytes)?;
        if let Some(other) = object.keys().find(|name| *name != T::FIELD) {
            return Err(ApiError::invalid(other, format!("unknown field, expected `{}`", T::FIELD)));
        }
        let rows = object.get(T::FIELD).and_then(|rows| serde_json::from_str::<Vec<&RawValue>>(rows.get()).ok());
        let rows =
            rows.ok_or_else(|| ApiError::invalid(T::FIELD, format!("must be a list of up to {MAX_ROWS} rows")))?;
        let rows = rows.iter().map(|row| row.get().as_bytes());
        let rows = Self::of(rows, |row| parse::<Object<T>>(row).map(|Object(row)| row))?;
        let malformed: Vec<FieldError> = rows
            .0
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some(in_row::<T>(index, row.as_ref().err()?)))
            .collect();
        if malformed.is_empty() { Ok(rows) } else { Err(ApiError::InvalidFields(malformed)) }
    }
}

/// Returns the problem of a row with its field as one of the body.
fn in_row<T: RowBody>(index: usize, problem: &FieldError) -> FieldError {
    let FieldError { field, reason } = problem;
    let dot = if field.is_empty() { "" } else { "." };
    FieldError { field: format!("{}[{index}]{dot}{field}", T::FIELD), reason: reason.clone() }
}

impl<T: RowBody> Rows<T> {
    fn of<'a>(
        rows: impl Iterator<Item = &'a [u8]>,
        parse: impl Fn(&[u8]) -> Result<T, ApiError>,
    ) -> Result<Self, ApiError> {
        let mut parsed = Vec::new();
        for row in rows {
            if parsed.len() == MAX_ROWS {
                return Err(ApiError::invalid(T::FIELD, format!("has more than {MAX_ROWS} rows")));
            }
            parsed.push(parse(row).map_err(|error| match error {
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
