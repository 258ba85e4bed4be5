//! Users of a batch.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;

use super::transaction::begin_bulk;
use crate::catalog::connection::Catalog;
use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{BatchOutcome, UserId, UserRow};

impl Catalog {
    /// Adds users that are missing, in one transaction.
    pub async fn upsert_users(&self, users: &[UserId]) -> Result<BatchOutcome, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let (_, users_added) = upsert_users(&mut transaction, users).await?;
        transaction.commit().await?;
        Ok(BatchOutcome { users_added, ..BatchOutcome::default() })
    }
}

/// Adds users that are missing, under a lock on their table. Returns the row of each, and how many were missing.
pub(in crate::catalog) async fn upsert_users<'a>(
    connection: &mut PgConnection,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(HashMap<&'a UserId, UserRow>, u64), CatalogError> {
    let distinct: Vec<&UserId> = users.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    if distinct.is_empty() {
        return Ok((HashMap::new(), 0));
    }
    let ids: Vec<String> = distinct.iter().map(ToString::to_string).collect();
    let stored = sqlx::query!("SELECT external_id, id FROM users WHERE external_id = ANY($1)", &ids);
    let stored: HashMap<String, i32> =
        stored.fetch_all(&mut *connection).await?.into_iter().map(|row| (row.external_id, row.id)).collect();
    let missing = distinct.len() - stored.len();
    let fresh = sqlx::query_scalar!(
        r#"SELECT nextval('users_id_seq')::int AS "id!" FROM generate_series(1, $1::int)"#,
        missing as i32
    );
    let mut fresh = fresh.fetch_all(&mut *connection).await?.into_iter();
    let mut rows = HashMap::with_capacity(distinct.len());
    let mut copy = CopyRows::default();
    for user in distinct {
        let row = match stored.get(user.as_str()) {
            Some(row) => *row,
            None => {
                let Some(row) = fresh.next() else { continue };
                copy.field(row).text(user.as_str()).end_row();
                row
            }
        };
        rows.insert(user, UserRow(row));
    }
    let added = copy.send(connection, "COPY users (id, external_id) FROM STDIN").await?;
    Ok((rows, added))
}
