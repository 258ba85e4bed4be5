//! What can go wrong with the catalog.

use super::embedded::EmbeddedError;

/// What can go wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The private PostgreSQL could not be started.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// `DATABASE_URL` is not a PostgreSQL URL.
    #[error("the database URL can't be used (expected postgres://user:password@host/database): {0}")]
    Url(String),
    /// No server answers there, or it does not let us in.
    #[error("PostgreSQL at {place}: {reason}")]
    Unreachable {
        /// host and port, or the folder of the socket
        place: String,
        /// why not
        reason: String,
    },
    /// The migrations could not be applied.
    #[error("the catalog's tables could not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The server said no, or could not be reached.
    #[error("catalog: {0}")]
    Sql(#[from] sqlx::Error),
    /// What the server sent is not what was asked for.
    #[error("catalog: {0}")]
    Protocol(String),
}

impl CatalogError {
    /// True when PostgreSQL is away, not when it was asked something wrong.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Embedded(_) | Self::Unreachable { .. } => true,
            Self::Sql(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                // Class 57P: shutting down or starting up; class 53: out of connections, memory or disk; 08: connection;
                // 55P03: a lock was not to be had in time; 57014: nor an answer; 40: gave way to another writer.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["57P", "53", "08", "55P03", "57014", "40"].iter().any(|class| code.starts_with(class))
                }),
                _ => false,
            },
            _ => false,
        }
    }

    /// True when another writer took away, or put there, what a row refers to or is.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_foreign_key_violation() || error.is_unique_violation())
    }
}
