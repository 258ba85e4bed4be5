//! Conditional requests: `If-Match`, `If-None-Match` and entity tags.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::serve::http::problem::ApiError;

/// The state in which a request may change something: `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// entity tags, or `*`; `None` without the header
    if_match: Option<Vec<String>>,
    /// likewise
    if_none_match: Option<Vec<String>>,
}

/// Returns the entity tags of a header, or `*`; `None` without any.
fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Vec<String>> {
    let values = headers.get_all(name).iter();
    let tags = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let tags: Vec<String> = tags.map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
    (!tags.is_empty()).then_some(tags)
}

/// Returns whether one of the tags is that of the current state, weak or not, or `*` (RFC 9110, 13.1.2).
fn any_is(tags: &[String], current: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    tags.iter().any(|tag| tag == "*" || opaque(tag) == opaque(current))
}

/// Responds 304 without a body to a GET if the client has the current state already.
pub async fn not_modified(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = if is_read { tags(request.headers(), IF_NONE_MATCH) } else { None };
    let mut response = next.run(request).await;
    let current = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let has_it = known.zip(current).is_some_and(|(known, current)| any_is(&known, current));
    if has_it && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let headers = &parts.headers;
        Ok(Self { if_match: tags(headers, IF_MATCH), if_none_match: tags(headers, IF_NONE_MATCH) })
    }
}

impl Preconditions {
    /// Checks whether the request may change what has the entity tag `current`; `None` if nothing exists.
    pub fn check(&self, current: Option<&str>) -> Result<(), ApiError> {
        if let Some(tags) = &self.if_match {
            let matches = current.is_some_and(|current| tags.iter().any(|tag| tag == "*" || tag == current));
            if !matches {
                return Err(ApiError::PreconditionFailed("If-Match"));
            }
        }
        match (&self.if_none_match, current) {
            (Some(tags), Some(current)) if any_is(tags, current) => Err(ApiError::PreconditionFailed("If-None-Match")),
            _ => Ok(()),
        }
    }

    /// Fails if something exists and `If-None-Match: *` forbids it.
    pub fn check_new(&self) -> Result<(), ApiError> {
        let must_be_new = self.if_none_match.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "*"));
        if must_be_new { Err(ApiError::PreconditionFailed("If-None-Match")) } else { Ok(()) }
    }

    /// Checks the same for what has no entity tags: `*` alone says something about it.
    pub fn check_untagged(&self, exists: bool) -> Result<(), ApiError> {
        self.check(exists.then_some("*"))
    }

    /// Returns whether there is no precondition.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Returns the numbers of states that pass, however much else is checked; `None` if all do. Foreign tags match nothing.
    pub fn expected(&self) -> Option<Vec<i64>> {
        if self.if_none_match.is_some() {
            return Some(Vec::new());
        }
        let tags = self.if_match.as_ref().filter(|tags| !tags.iter().any(|tag| tag == "*"))?;
        let number = |tag: &String| i64::from_str_radix(tag.trim_matches('"'), 16).ok();
        Some(tags.iter().filter_map(|tag| number(tag).filter(|&number| entity_tag(number) == *tag)).collect())
    }
}

/// Returns the entity tag of a number.
pub fn entity_tag(number: i64) -> String {
    format!("\"{number:x}\"")
}
