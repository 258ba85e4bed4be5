//! What can go wrong with the catalog.

use super::embedded::EmbeddedError;

/// What can go wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The private PostgreSQL could not be started.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// `DATABASE_URL` is not a PostgreSQL URL.
    #[error("invalid database URL: {0} (expected postgres://user:password@host/database)")]
    Url(String),
    /// No server responds there, or it denies access.
    #[error("could not connect to PostgreSQL at {address}: {reason}")]
    Unreachable {
        /// host and port, or the folder of the socket
        address: String,
        /// why not
        reason: String,
    },
    /// A pooler is in between that gives each transaction another session.
    #[error(
        "{0} is a pooler in transaction mode (PgBouncer: pool_mode = transaction), which keeps neither prepared \
         statements nor LISTEN: connect in its session mode, or to PostgreSQL directly"
    )]
    SharedSessions(String),
    /// The role may not create what a catalog needs.
    #[error(
        "the role {role:?} may not set up a catalog in the database {database:?}; an administrator has to run there:\n  \
         {statements}"
    )]
    Privileges {
        /// the role
        role: String,
        /// the database
        database: String,
        /// SQL to run, a statement a line
        statements: String,
    },
    /// The migrations could not be applied.
    #[error("could not migrate the catalog: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The server rejected a statement, or could not be reached.
    #[error("catalog: {0}")]
    Sql(#[from] sqlx::Error),
    /// Another writer added or deleted a row at the same time.
    #[error("catalog: another writer changed the same rows at the same time")]
    Raced,
    /// The server sent something unexpected.
    #[error("catalog: {0}")]
    Protocol(String),
}

impl CatalogError {
    /// Returns whether PostgreSQL is unavailable, as opposed to a statement being wrong.
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
                // 55P03: timed out waiting for a lock; 57014: statement timed out; 40: gave way to another writer; 25006:
                // read-only; 28 and 3D: wrong password, or no such role or database.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["57P", "53", "08", "55P03", "57014", "40", "25006", "28", "3D"]
                        .iter()
                        .any(|class| code.starts_with(class))
                }),
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns whether the catalog can't be used until someone changes how it is set up.
    pub fn needs_setup(&self) -> bool {
        matches!(self, Self::SharedSessions(_) | Self::Privileges { .. })
    }

    /// Returns whether another writer deleted what a row refers to, or added the same row.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Raced => true,
            Self::Sql(sqlx::Error::Database(error)) => error.is_foreign_key_violation() || error.is_unique_violation(),
            _ => false,
        }
    }
}
