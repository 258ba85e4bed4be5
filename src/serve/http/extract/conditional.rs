//! Conditional requests: `If-Match`, `If-None-Match` and entity tags.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;

use crate::serve::http::problem::ApiError;

/// The state in which a request may change something: `If-Match`, and `If-None-Match: *`.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    /// entity tags, or `*`; `None` without the header
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
    /// Checks whether the request may change what has the entity tag `current`; `None` if nothing exists.
    pub fn check(&self, current: Option<&str>) -> Result<(), ApiError> {
        if let Some(tags) = &self.if_match {
            let matches = current.is_some_and(|current| tags.iter().any(|tag| tag == "*" || tag == current));
            if !matches {
                return Err(ApiError::PreconditionFailed("If-Match"));
            }
        }
        if current.is_some() { self.check_new() } else { Ok(()) }
    }

    /// Fails if something exists and `If-None-Match: *` forbids it.
    pub fn check_new(&self) -> Result<(), ApiError> {
        if self.must_be_new { Err(ApiError::PreconditionFailed("If-None-Match")) } else { Ok(()) }
    }

    /// Returns the numbers of the entity tags; `None` without tags or for `*`. Foreign tags match nothing.
    pub fn expected(&self) -> Option<Vec<i64>> {
        let tags = self.if_match.as_ref().filter(|tags| !tags.iter().any(|tag| tag == "*"))?;
        Some(tags.iter().filter_map(|tag| i64::from_str_radix(tag.trim_matches('"'), 16).ok()).collect())
    }
}

/// Returns the entity tag of a number.
pub fn entity_tag(number: i64) -> String {
    format!("\"{number:x}\"")
}
