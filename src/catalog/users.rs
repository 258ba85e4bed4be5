//! Users: read, add, delete. Their ratings and listens are in `feedback`, their playlists in `playlists`.

use std::collections::{BTreeSet, HashSet};

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{RowChange, UserId};
use super::upsert::lock_names;

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
        // In the order of their bytes, as everywhere, so that concurrent writers don't deadlock. An insert that does nothing
        // uses up a row id all the same, so those that are there are left out first.
        let distinct: Vec<String> = ids.iter().collect::<BTreeSet<_>>().into_iter().map(ToString::to_string).collect();
        let added = sqlx::query_scalar!(
            "INSERT INTO users (external_id)
             SELECT input.id FROM UNNEST($1::text[]) WITH ORDINALITY AS input (id, place)
             WHERE NOT EXISTS (SELECT FROM users u WHERE u.external_id = input.id) ORDER BY place
             ON CONFLICT (external_id) DO NOTHING RETURNING external_id",
            &distinct
        )
        .fetch_all(&self.pool)
        .await?;
        let added: HashSet<String> = added.into_iter().collect();
        let change = |id: &UserId| if added.contains(id.as_str()) { RowChange::Added } else { RowChange::Unchanged };
        Ok(ids.iter().map(change).collect())
    }

    /// Deletes a user with all ratings and listens; playlists stay, without an owner. Returns false if there is none.
    pub async fn delete_user(&self, id: &UserId) -> Result<bool, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_delete_user(id).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_delete_user(&self, id: &UserId) -> Result<bool, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        lock_names(&mut transaction).await?;
        let user = sqlx::query_scalar!("SELECT id FROM users WHERE external_id = $1", id.as_str());
        let Some(user) = user.fetch_optional(&mut *transaction).await? else { return Ok(false) };
        // What the foreign keys would change too, but in no particular order.
        sqlx::query!(
            "WITH locked AS MATERIALIZED (SELECT id FROM playlists WHERE user_id = $1 ORDER BY id FOR UPDATE)
             UPDATE playlists p SET user_id = NULL FROM locked WHERE p.id = locked.id",
            user
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "WITH locked AS MATERIALIZED (SELECT track_id FROM ratings WHERE user_id = $1 ORDER BY track_id FOR UPDATE)
             DELETE FROM ratings r USING locked WHERE r.user_id = $1 AND r.track_id = locked.track_id",
            user
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "WITH locked AS MATERIALIZED (
                 SELECT track_id, listened_at FROM listens WHERE user_id = $1 ORDER BY track_id, listened_at FOR UPDATE
             )
             DELETE FROM listens l USING locked
             WHERE l.user_id = $1 AND l.track_id = locked.track_id AND l.listened_at = locked.listened_at",
            user
        )
        .execute(&mut *transaction)
        .await?;
        let deleted = sqlx::query!("DELETE FROM users WHERE id = $1", user).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected() > 0)
    }
}
