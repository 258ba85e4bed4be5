//! Locks of transactions that write batches.
//!
//! Tables are locked in one order everywhere, so that concurrent writers don't deadlock: artists, albums, tracks, users,
//! then the others.

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::catalog::error::CatalogError;

/// Begins a transaction that keeps other writers out until it ends, so that rows that were looked up stay as they were.
/// Readers don't wait.
pub(super) async fn begin_bulk(pool: &PgPool) -> Result<Transaction<'static, Postgres>, CatalogError> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("LOCK TABLE artists, albums, tracks, users, playlists, playlist_tracks IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    skip_foreign_key_checks(&mut transaction).await?;
    Ok(transaction)
}

/// Keeps other writers of tracks, artists and albums out until the transaction ends.
pub(in crate::catalog) async fn lock_tracks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query!("LOCK TABLE artists, albums, tracks IN SHARE ROW EXCLUSIVE MODE").execute(connection).await?;
    Ok(())
}

/// Skips the checks of foreign keys, if the role may (a superuser, as in the private PostgreSQL).
///
/// PostgreSQL checks each row with a query of its own, which takes half of the time of an import. The references are
/// known to hold: this transaction read or wrote the rows referred to, and its locks keep others from deleting them.
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
