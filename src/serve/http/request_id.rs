//! Ids of requests: the client's own, or a new one.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id of a client, in bytes.
const LONGEST: usize = 128;

/// Removes an id that is too long for a log line, or not of visible characters: the request gets another one.
pub async fn drop_unusable(mut request: Request) -> Request {
    let is_usable = |id: &HeaderValue| {
        (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte))
    };
    if request.headers().get(REQUEST_ID).is_some_and(|id| !is_usable(id)) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}
