//! Locks of transactions that write batches.
//!
//! Tables are locked in one order everywhere, so that writers side by side don't wait for each other in a circle:
//! artists, albums, tracks, users, then the others.

use sqlx::{Acquire, PgConnection, Postgres, Transaction};

use crate::catalog::error::CatalogError;

/// Begins a transaction with no other writer until its end: what is looked up stays as it was, and what is missing stays
/// missing. Readers don't wait.
pub(super) async fn begin_bulk(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, CatalogError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("LOCK TABLE artists, albums, tracks, users, playlists, playlist_tracks IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    skip_foreign_key_checks(&mut transaction).await?;
    Ok(transaction)
}

/// Keeps other writers from tracks and what they refer to, until the transaction ends.
pub(in crate::catalog) async fn lock_tracks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query!("LOCK TABLE artists, albums, tracks IN SHARE ROW EXCLUSIVE MODE").execute(connection).await?;
    Ok(())
}

/// The foreign keys check each row with a query of its own, half of the time of an import. All of them are known to
/// hold here: the rows that are referred to were read or written in this very transaction, whose locks keep others from
/// deleting them. Only a privileged role may skip the checks, as in the private PostgreSQL; elsewhere they are made.
pub(in crate::catalog) async fn skip_foreign_key_checks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    let is_privileged =
        sqlx::query_scalar!(r#"SELECT rolsuper AS "rolsuper!" FROM pg_roles WHERE rolname = current_user"#)
            .fetch_optional(&mut *connection)
            .await?
            .unwrap_or(false);
    if is_privileged {
        sqlx::query!("SET LOCAL session_replication_role = replica").execute(connection).await?;
    }
    Ok(())
}
