//! Who may do what: keys with a scope, sent as `Authorization: Bearer`.
//!
//! A key is `segue_`, an id to find it by, `_`, and a secret of 256 random bits. The catalog holds the secret's SHA-256;
//! this holds all of them in memory, so that keys are checked while PostgreSQL is away, and hears from PostgreSQL when
//! they change. A refusal is the same for a key that is missing, malformed, unknown or revoked.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::catalog::{Catalog, CatalogError, Scope};
use crate::serve::AppState;
use crate::serve::http::problem::ApiError;

const PREFIX: &str = "segue_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 6;

/// When keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// unless the server listens on a loopback address
    Auto,
    /// always
    Required,
    /// never
    Off,
}

/// A key that was just made. This is the one time that it is there as a whole.
pub struct NewKey {
    /// what it is found by
    pub id: String,
    /// what its holder sends
    pub key: String,
    /// SHA-256 of its secret
    pub hash: [u8; 32],
}

impl NewKey {
    /// Makes one of the operating system's random bytes.
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

/// The keys that are of use. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<ArcSwapOption<Keys>>);

impl KeyRing {
    /// Reads them anew.
    pub async fn refresh(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let keys = catalog.key_hashes().await?.into_iter();
        self.0.store(Some(Arc::new(keys.map(|key| (key.id, (key.scope, key.hash))).collect())));
        Ok(())
    }

    /// Id and scope of the key that the headers hold.
    fn check(&self, headers: &HeaderMap) -> Result<(String, Scope), ApiError> {
        let keys = self.0.load();
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

/// The scope that a route asks for; none for what anyone may ask.
fn needed(method: &Method, route: &str) -> Option<Scope> {
    match (method, route) {
        _ if route.starts_with("/health/") => None,
        (&Method::GET | &Method::HEAD, _) => Some(Scope::Read),
        (_, "/playlists/{id}/complete" | "/playlists/complete" | "/scores") => Some(Scope::Read),
        _ if route.starts_with("/models") => Some(Scope::Admin),
        _ => Some(Scope::Write),
    }
}

/// Who sends a request: left in it for what counts requests.
#[derive(Debug, Clone)]
pub struct KeyId(pub String);

/// Lets a request through if its key may do what it asks for.
pub async fn authorize(State(state): State<AppState>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if let Some(needed) = needed(request.method(), route).filter(|_| state.needs_keys) {
        let (id, scope) = state.keys.check(request.headers())?;
        if scope < needed {
            return Err(ApiError::Forbidden(needed));
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
        let ring = KeyRing::default();
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a value"))]);
        assert!(matches!(ring.check(&with("")), Err(ApiError::CatalogUnavailable)), "keys are not known yet");
        let keys = HashMap::from([(key.id.clone(), (Scope::Write, key.hash.to_vec()))]);
        ring.0.store(Some(Arc::new(keys)));
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

    #[test]
    fn what_a_route_needs_follows_from_what_it_does() {
        let cases = [
            (Method::GET, "/health/ready", None),
            (Method::GET, "/tracks/{id}", Some(Scope::Read)),
            (Method::POST, "/playlists/{id}/complete", Some(Scope::Read)),
            (Method::POST, "/playlists", Some(Scope::Write)),
            (Method::DELETE, "/tracks/{id}", Some(Scope::Write)),
            (Method::POST, "/ratings", Some(Scope::Write)),
            (Method::GET, "/models", Some(Scope::Read)),
            (Method::POST, "/models/{kind}/activate", Some(Scope::Admin)),
        ];
        for (method, route, scope) in cases {
            assert_eq!(needed(&method, route), scope, "{method} {route}");
        }
    }
}
