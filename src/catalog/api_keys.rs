//! API keys of the HTTP interface: an id, a name, a scope and the SHA-256 of the secret. The secret itself is not stored.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::connection::Catalog;
use super::error::CatalogError;

/// What an API key permits; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// read the catalog and request recommendations
    Read,
    /// change the catalog and send feedback
    Write,
    /// switch models
    Admin,
}

impl Scope {
    /// Returns the name in the catalog and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, CatalogError> {
        let found = [Self::Read, Self::Write, Self::Admin].into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| CatalogError::Protocol(format!("unknown scope of an API key: {text:?}")))
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ApiKey {
    /// what the key begins with, and is looked up by
    pub id: String,
    /// its name
    pub name: String,
    /// what it permits
    pub scope: Scope,
    /// when it was created
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// when it was revoked
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// What a key is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHash {
    /// what the key is looked up by
    pub id: String,
    /// what it permits
    pub scope: Scope,
    /// SHA-256 of its secret
    pub hash: Vec<u8>,
}

impl Catalog {
    /// Stores a key. Returns false if the name is taken.
    pub async fn add_api_key(&self, id: &str, name: &str, scope: Scope, hash: &[u8]) -> Result<bool, CatalogError> {
        let added = sqlx::query!(
            "INSERT INTO api_keys (id, name, scope, hash) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
            id,
            name,
            scope.as_str(),
            hash
        );
        Ok(added.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Returns all keys, including revoked ones, oldest first.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, CatalogError> {
        let keys = sqlx::query!("SELECT id, name, scope, created_at, revoked_at FROM api_keys ORDER BY created_at, id");
        let keys = keys.fetch_all(&self.pool).await?.into_iter().map(|key| {
            let (created_at, revoked_at) = (key.created_at, key.revoked_at);
            Ok(ApiKey { id: key.id, name: key.name, scope: key.scope.parse()?, created_at, revoked_at })
        });
        keys.collect()
    }

    /// Revokes a key by its name or id. Returns false if there is none that is active.
    pub async fn revoke_api_key(&self, name: &str) -> Result<bool, CatalogError> {
        let revoked = sqlx::query!(
            "UPDATE api_keys SET revoked_at = now() WHERE (name = $1 OR id = $1) AND revoked_at IS NULL",
            name
        );
        Ok(revoked.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Returns what active keys are checked against.
    pub async fn key_hashes(&self) -> Result<Vec<KeyHash>, CatalogError> {
        let keys = sqlx::query!("SELECT id, scope, hash FROM api_keys WHERE revoked_at IS NULL");
        let keys = keys.fetch_all(&self.pool).await?.into_iter();
        keys.map(|key| Ok(KeyHash { id: key.id, scope: key.scope.parse()?, hash: key.hash })).collect()
    }
}
