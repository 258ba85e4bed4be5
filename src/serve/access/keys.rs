//! API keys with a scope, sent as `Authorization: Bearer`.
//!
//! A key is `segue_`, an id to find it by, `_`, and a secret of 256 random bits. The catalog stores the secret's SHA-256.
//! The server keeps all of them in memory, to check keys while PostgreSQL is unavailable, and reloads them when PostgreSQL
//! notifies it of a change. The response is the same for a key that is missing, malformed, unknown or revoked.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::scope::required_scope;
use crate::catalog::{Catalog, CatalogError, Scope};
use crate::serve::http::problem::ApiError;

const PREFIX: &str = "segue_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 6;

/// A key that was just created: the only time that its secret is known.
pub struct NewKey {
    /// the part that the key is found by
    pub id: String,
    /// what its holder sends, secret included
    pub key: String,
    /// SHA-256 of its secret
    pub hash: [u8; 32],
}

impl NewKey {
    /// Creates one from the operating system's random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let (id, secret) = (hex::encode(id), URL_SAFE_NO_PAD.encode(secret));
        let hash = Sha256::digest(secret.as_bytes()).into();
        Ok(Self { key: format!("{PREFIX}{id}_{secret}"), id, hash })
    }
}

/// Scope and hash of each key, by its id.
type Keys = HashMap<String, (Scope, Vec<u8>)>;

/// The valid keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// none before they are first read
    keys: Arc<ArcSwapOption<Keys>>,
    /// whether requests must carry one
    is_required: bool,
}

impl KeyRing {
    /// Returns a ring without keys; requests must carry one if `is_required`.
    pub fn new(is_required: bool) -> Self {
        Self { keys: Arc::default(), is_required }
    }

    /// Reloads the keys.
    pub async fn refresh(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let keys = catalog.key_hashes().await?.into_iter();
        self.keys.store(Some(Arc::new(keys.map(|key| (key.id, (key.scope, key.hash))).collect())));
        Ok(())
    }

    /// Returns id and scope of the key in the headers.
    fn check(&self, headers: &HeaderMap) -> Result<(String, Scope), ApiError> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(ApiError::CatalogUnavailable)?;
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, key) = sent.split_once(' ').unwrap_or_default();
        let key = if scheme.eq_ignore_ascii_case("bearer") { key.trim() } else { "" };
        let (id, secret) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).unwrap_or_default();
        let (found, nobody) = (keys.get(id), [0; 32].as_slice());
        // An unknown id takes as long as a wrong secret.
        let expected = found.map_or(nobody, |(_, hash)| hash);
        let is_right = bool::from(Sha256::digest(secret.as_bytes()).as_slice().ct_eq(expected));
        match found {
            Some((scope, _)) if is_right => Ok((id.to_owned(), *scope)),
            _ => Err(ApiError::Unauthorized),
        }
    }
}

/// The id of the key of a request: left in the request for the rate limit.
#[derive(Debug, Clone)]
pub struct KeyId(pub String);

/// Passes a request on if its key has the required scope.
pub async fn authorize(State(ring): State<KeyRing>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if let Some(required) = required_scope(request.method(), route).filter(|_| ring.is_required) {
        let (id, scope) = ring.check(request.headers())?;
        if scope < required {
            return Err(ApiError::Forbidden(required));
        }
        request.extensions_mut().insert(KeyId(id));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_whole_and_in_no_other_form() {
        let key = NewKey::generate().expect("random bytes");
        let ring = KeyRing::new(true);
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a value"))]);
        assert!(matches!(ring.check(&with("")), Err(ApiError::CatalogUnavailable)), "the keys were not read yet");
        let keys = HashMap::from([(key.id.clone(), (Scope::Write, key.hash.to_vec()))]);
        ring.keys.store(Some(Arc::new(keys)));
        let accepted = |value: String| ring.check(&with(&value)).is_ok();
        assert!(accepted(format!("Bearer {}", key.key)) && accepted(format!("bearer {}", key.key)));
        let other = NewKey::generate().expect("random bytes");
        let secret = other.key.split_once('_').and_then(|(_, rest)| rest.split_once('_')).expect("parts").1;
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            format!("Basic {}", key.key),
            key.key.clone(),
            format!("Bearer {}x", key.key),
            format!("Bearer {}", &key.key[..key.key.len() - 1]),
            format!("Bearer {}", other.key),
            format!("Bearer segue_{}_{secret}", key.id),
            format!("Bearer segue_{}_", key.id),
        ] {
            assert!(!accepted(wrong.clone()), "{wrong:?}");
        }
    }
}
