//! Keys of the HTTP interface. Who holds one is known by a secret of which only the SHA-256 is here.

use time::OffsetDateTime;

use super::connection::Catalog;
use super::error::CatalogError;

/// A key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ApiKey {
    /// what the key itself begins with, and is found by
    pub id: String,
    /// what it is called
    pub name: String,
    /// `read`, `write` or `admin`
    pub scope: String,
    /// when it was made
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// since when it is of no use
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// What it takes to check a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHash {
    /// what the key is found by
    pub id: String,
    /// `read`, `write` or `admin`
    pub scope: String,
    /// SHA-256 of its secret
    pub hash: Vec<u8>,
}

impl Catalog {
    /// Stores a key. False when there is one of that name.
    pub async fn add_api_key(&self, id: &str, name: &str, scope: &str, hash: &[u8]) -> Result<bool, CatalogError> {
        let added = sqlx::query!(
            "INSERT INTO api_keys (id, name, scope, hash) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
            id,
            name,
            scope,
            hash
        );
        Ok(added.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// All keys, revoked ones too, oldest first.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, CatalogError> {
        let keys = sqlx::query_as!(
            ApiKey,
            "SELECT id, name, scope, created_at, revoked_at FROM api_keys ORDER BY created_at, id"
        );
        Ok(keys.fetch_all(&self.pool).await?)
    }

    /// Makes a key useless, by its name or id. False when there is none, or it is useless already.
    pub async fn revoke_api_key(&self, name: &str) -> Result<bool, CatalogError> {
        let revoked = sqlx::query!(
            "UPDATE api_keys SET revoked_at = now() WHERE (name = $1 OR id = $1) AND revoked_at IS NULL",
            name
        );
        Ok(revoked.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// What it takes to check the keys that are of use.
    pub async fn key_hashes(&self) -> Result<Vec<KeyHash>, CatalogError> {
        let keys = sqlx::query_as!(KeyHash, "SELECT id, scope, hash FROM api_keys WHERE revoked_at IS NULL");
        Ok(keys.fetch_all(&self.pool).await?)
    }
}
