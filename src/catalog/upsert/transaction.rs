//! Locks of transactions that write.
//!
//! All writers take locks in one order, so that they don't deadlock:
//!
//! 1. the lock on names ([`lock_names`]), by whoever adds, changes or deletes artists, albums or tracks, or deletes users
//! 2. playlists, by row id
//! 3. missing users, by the app's id
//! 4. ratings or listens, by row ids
//! 5. rows that are deleted, and what foreign keys refer to
//!
//! No one locks a table: readers never wait, edits of a playlist wait only for a batch that has the same playlist, and
//! feedback waits only for the same rows. Where two writers add the same row at the same time, the order does not help;
//! one of them gives way, and is repeated ([`Attempts`](crate::catalog::attempts::Attempts)).

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::catalog::error::CatalogError;

/// The advisory lock on names, which every catalog in a database shares.
const NAMES: i64 = 0x5e_67_7e_01;

/// Begins a transaction that writes a batch: what it looks up of artists, albums and tracks stays as it is until its end.
pub(in crate::catalog) async fn begin_bulk(pool: &PgPool) -> Result<Transaction<'static, Postgres>, CatalogError> {
    let mut transaction = pool.begin().await?;
    lock_names(&mut transaction).await?;
    skip_foreign_key_checks(&mut transaction).await?;
    Ok(transaction)
}

/// Keeps others from adding, changing or deleting artists, albums and tracks, and from deleting users, until the
/// transaction ends. They wait in the order in which they come.
pub(in crate::catalog) async fn lock_names(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", NAMES).execute(connection).await?;
    Ok(())
}

/// Skips the checks of foreign keys, if the role may (a superuser, as in the private PostgreSQL, or by
/// `GRANT SET ON PARAMETER session_replication_role`).
///
/// PostgreSQL checks each row with a query of its own, which takes half of the time of an import. The references are
/// known to hold: this transaction read or wrote the rows referred to, and holds the lock on names, or on the playlist
/// that has the tracks already, which keeps others from deleting them.
pub(in crate::catalog) async fn skip_foreign_key_checks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    let may = sqlx::query_scalar!(r#"SELECT has_parameter_privilege('session_replication_role', 'SET') AS "may!""#)
        .fetch_one(&mut *connection)
        .await?;
    if may {
        sqlx::query!("SET LOCAL session_replication_role = replica").execute(connection).await?;
    }
    Ok(())
}
