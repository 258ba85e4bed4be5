//! Ids of the app.

use utoipa::ToSchema;

use crate::serve::http::problem::ApiError;

/// The longest id, in bytes; PostgreSQL's indexes take 2,704.
pub const MAX_ID_BYTES: usize = 1_000;

/// Checks an id of something new: not empty, not too long, without control characters.
pub fn check_id(field: &str, id: &str) -> Result<(), ApiError> {
    let reason = match () {
        () if id.is_empty() => "must not be empty".to_owned(),
        () if id.len() > MAX_ID_BYTES => format!("must not be longer than {MAX_ID_BYTES} bytes"),
        () if id.chars().any(char::is_control) => "must not contain control characters".to_owned(),
        () => return Ok(()),
    };
    Err(ApiError::invalid(field, reason))
}

// In the contract, the same as `check_id`.
/// An id of the app.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
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
