//! Users: read, add, delete. Their ratings and listens are in `feedback`, their playlists in `playlists`.

use std::collections::HashSet;

use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{RowChange, UserId};

/// A user with the number of their playlists, ratings and listens.
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

macro_rules! select_users {
    ($condition:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            User,
            r#"SELECT external_id AS "id: UserId",
                      (SELECT count(*) FROM playlists p WHERE p.user_id = u.id) AS "num_playlists!",
                      (SELECT count(*) FROM ratings r WHERE r.user_id = u.id) AS "num_ratings!",
                      (SELECT count(*) FROM listens l WHERE l.user_id = u.id) AS "num_listens!"
               FROM users u "# + $condition
            $(, $argument)*
        )
    };
}

impl Catalog {
    /// Returns a user.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, CatalogError> {
        let user = select_users!("WHERE external_id = $1", id.as_str()).fetch_optional(&self.pool).await?;
        Ok(user)
    }

    /// Returns up to `limit` users in the order of their ids, from the first one after `after`.
    pub async fn users_after(&self, after: &str, limit: i64) -> Result<Vec<User>, CatalogError> {
        let users = select_users!("WHERE external_id > $1 ORDER BY external_id LIMIT $2", after, limit)
            .fetch_all(&self.pool)
            .await?;
        Ok(users)
    }

    /// Adds users that are missing. Returns what became of each.
    pub async fn add_users(&self, ids: &[UserId]) -> Result<Vec<RowChange>, CatalogError> {
        // In one order everywhere, so that concurrent requests don't deadlock.
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

    /// Deletes a user with all ratings and listens; playlists stay, without an owner. Returns false if there is none.
    pub async fn delete_user(&self, id: &UserId) -> Result<bool, CatalogError> {
        let deleted = sqlx::query!("DELETE FROM users WHERE external_id = $1", id.as_str()).execute(&self.pool).await?;
        Ok(deleted.rows_affected() > 0)
    }
}
