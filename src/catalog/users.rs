//! Users by themselves. What they rated and played is in `feedback`, their playlists in `playlists`.

use std::collections::HashSet;

use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{RowChange, UserId};

/// A user, and how much there is of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// the app's id
    pub id: UserId,
    /// playlists
    pub num_playlists: i64,
    /// tracks rated
    pub num_ratings: i64,
    /// listens
    pub num_listens: i64,
}

impl Catalog {
    /// The user with an id.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, CatalogError> {
        let user = sqlx::query_as!(
            User,
            r#"SELECT external_id AS "id: UserId",
                      (SELECT count(*) FROM playlists p WHERE p.user_id = u.id) AS "num_playlists!",
                      (SELECT count(*) FROM ratings r WHERE r.user_id = u.id) AS "num_ratings!",
                      (SELECT count(*) FROM listens l WHERE l.user_id = u.id) AS "num_listens!"
               FROM users u WHERE external_id = $1"#,
            id.as_str()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(user)
    }

    /// Up to `limit` users in the order of their ids, those behind `after`.
    pub async fn users_after(&self, after: &str, limit: i64) -> Result<Vec<User>, CatalogError> {
        let users = sqlx::query_as!(
            User,
            r#"SELECT external_id AS "id: UserId",
                      (SELECT count(*) FROM playlists p WHERE p.user_id = u.id) AS "num_playlists!",
                      (SELECT count(*) FROM ratings r WHERE r.user_id = u.id) AS "num_ratings!",
                      (SELECT count(*) FROM listens l WHERE l.user_id = u.id) AS "num_listens!"
               FROM users u WHERE external_id > $1 ORDER BY external_id LIMIT $2"#,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(users)
    }

    /// Adds those users that are not there yet; what became of each.
    pub async fn add_users(&self, ids: &[UserId]) -> Result<Vec<RowChange>, CatalogError> {
        // In one order everywhere, so that requests side by side don't wait for each other in a circle.
        let added = sqlx::query_scalar!(
            "INSERT INTO users (external_id) SELECT DISTINCT id FROM UNNEST($1::text[]) AS input (id) ORDER BY id
             ON CONFLICT (external_id) DO NOTHING RETURNING external_id",
            ids as &[UserId]
        )
        .fetch_all(&self.pool)
        .await?;
        let added: HashSet<String> = added.into_iter().collect();
        let change = |id: &UserId| if added.contains(id.as_str()) { RowChange::Added } else { RowChange::Unchanged };
        Ok(ids.iter().map(change).collect())
    }

    /// Deletes a user with all ratings and listens; playlists stay, nobody's. False when there is none.
    pub async fn delete_user(&self, id: &UserId) -> Result<bool, CatalogError> {
        let deleted = sqlx::query!("DELETE FROM users WHERE external_id = $1", id.as_str()).execute(&self.pool).await?;
        Ok(deleted.rows_affected() > 0)
    }
}
