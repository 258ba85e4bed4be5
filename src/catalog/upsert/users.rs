//! Users of a batch.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, PgPool};

use crate::catalog::attempts::Attempts;
use crate::catalog::connection::Catalog;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{BatchOutcome, UserId, UserRow};

impl Catalog {
    /// Adds users that are missing, in one transaction.
    pub async fn upsert_users(&self, users: &[UserId]) -> Result<BatchOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match add_users(&self.pool, users).await {
                Ok(users_added) => return Ok(BatchOutcome { users_added, ..BatchOutcome::default() }),
                Err(error) if attempts.again(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn add_users(pool: &PgPool, users: &[UserId]) -> Result<u64, CatalogError> {
    let mut transaction = pool.begin().await?;
    let (_, added) = upsert_users(&mut transaction, users).await?;
    transaction.commit().await?;
    Ok(added)
}

/// Adds users that are missing. Returns the row of each, and how many were missing.
///
/// Those that are there are looked up first: an insert that does nothing uses up a row id all the same.
pub(in crate::catalog) async fn upsert_users<'a>(
    connection: &mut PgConnection,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(HashMap<&'a UserId, UserRow>, u64), CatalogError> {
    let distinct: BTreeSet<&UserId> = users.into_iter().collect();
    if distinct.is_empty() {
        return Ok((HashMap::new(), 0));
    }
    let ids: Vec<String> = distinct.iter().map(ToString::to_string).collect();
    let mut stored = rows_of(&mut *connection, &ids).await?;
    let missing: Vec<String> = ids.into_iter().filter(|id| !stored.contains_key(id)).collect();
    let mut added = 0;
    if !missing.is_empty() {
        // In the order of their bytes, as everywhere, so that concurrent writers don't deadlock.
        let inserted = sqlx::query!(
            "INSERT INTO users (external_id) SELECT * FROM UNNEST($1::text[]) ON CONFLICT (external_id) DO NOTHING",
            &missing
        );
        added = inserted.execute(&mut *connection).await?.rows_affected();
        stored.extend(rows_of(connection, &missing).await?);
    }
    let row = |user: &'a UserId| Some((user, *stored.get(user.as_str())?));
    let rows: HashMap<&UserId, UserRow> = distinct.iter().copied().filter_map(row).collect();
    // One that another writer added first may be deleted again.
    if rows.len() < distinct.len() { Err(CatalogError::Raced) } else { Ok((rows, added)) }
}

async fn rows_of(connection: &mut PgConnection, ids: &[String]) -> Result<HashMap<String, UserRow>, CatalogError> {
    let rows = sqlx::query!("SELECT external_id, id FROM users WHERE external_id = ANY($1)", ids);
    Ok(rows.fetch_all(connection).await?.into_iter().map(|row| (row.external_id, UserRow(row.id))).collect())
}
