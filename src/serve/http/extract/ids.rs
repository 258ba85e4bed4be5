//! Ids of the app.

use utoipa::ToSchema;

use crate::catalog::TextError;
use crate::serve::http::problem::ApiError;

/// Names the field of an invalid id or name.
pub fn in_field<T>(field: &str, value: Result<T, TextError>) -> Result<T, ApiError> {
    value.map_err(|error| ApiError::invalid(field, error.to_string()))
}

// The ids of the catalog check what this says in the contract.
/// An id of the app: up to 1,000 bytes of UTF-8 without control characters and U+FFFD, and not white space alone. White
/// space around it is removed.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 1000,
    pattern = r"^[^\x00-\x1f\x7f-\x9f\ufffd]*[^\s\x00-\x1f\x7f-\x9f\ufffd][^\x00-\x1f\x7f-\x9f\ufffd]*$"
)]
#[expect(dead_code, reason = "a schema")]
pub struct Id(String);

/// Percent-encodes an id as a segment of a path.
pub fn percent_encode(id: &str) -> String {
    let mut segment = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => segment.push(byte.into()),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}
