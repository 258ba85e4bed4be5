//! The handle to the catalog: connecting, migrating, closing, and its health.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres, Transaction, migrate::Migrator};

use super::embedded::EmbeddedPostgres;
use super::error::CatalogError;

/// The migrations of the catalog, in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long closing waits for connections in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for a connection.
const REQUEST_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long PostgreSQL waits for a lock on behalf of a request, and how long it works on one statement.
const REQUEST_TIMEOUTS: [(&str, &str); 2] = [("lock_timeout", "3s"), ("statement_timeout", "9s")];
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// sqlx itself accepts any scheme, as if it were PostgreSQL's.
fn parse_url(url: &str) -> Result<PgConnectOptions, CatalogError> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(CatalogError::Url("unknown scheme".to_owned()));
    }
    PgConnectOptions::from_str(url).map_err(|error| CatalogError::Url(error.to_string()))
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// A handle to the catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) pool: PgPool,
    /// Stops the private PostgreSQL when the last handle goes. After `pool`, so that connections are closed first.
    embedded: Option<Arc<EmbeddedPostgres>>,
}

/// Row counts of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CatalogCounts {
    /// artists
    pub artists: i64,
    /// albums
    pub albums: i64,
    /// tracks
    pub tracks: i64,
    /// playlists
    pub playlists: i64,
    /// placements: tracks in playlists, repeats counted
    pub placements: i64,
}

impl Catalog {
    /// Connects to `database_url`, or to the private PostgreSQL below `home` without one, and applies the migrations.
    pub async fn open(database_url: Option<&str>, home: &Path) -> Result<Self, CatalogError> {
        let catalog = Self::connect(database_url, home).await?;
        catalog.migrate().await?;
        Ok(catalog)
    }

    /// Connects without migrating, and without waiting for the server: queries fail until it is available.
    pub async fn connect(database_url: Option<&str>, home: &Path) -> Result<Self, CatalogError> {
        let (options, embedded) = match database_url {
            Some(url) => (parse_url(url)?, None),
            None => {
                let home = home.to_owned();
                let embedded = tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&home))
                    .await
                    .map_err(|error| CatalogError::Protocol(error.to_string()))??;
                (embedded.connect_options(), Some(Arc::new(embedded)))
            }
        };
        let options = options
            .application_name("segue")
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(5));
        let pool =
            PgPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(3)).connect_lazy_with(options);
        Ok(Self { pool, embedded })
    }

    /// Returns a handle for requests with a pool of its own of at most `connections`, and with short timeouts for
    /// connections, locks and statements.
    pub fn for_requests(&self, connections: u32) -> Self {
        let options = PgConnectOptions::clone(&self.pool.connect_options()).options(REQUEST_TIMEOUTS);
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(REQUEST_ACQUIRE_TIMEOUT);
        Self { pool: pool.connect_lazy_with(options), embedded: self.embedded.clone() }
    }

    /// Applies the migrations that are missing. Safe to call from several processes at once.
    ///
    /// Fails within a bounded time when the server is unavailable, or another process holds the lock on migrations.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        // A plain connection first: a pool would retry, and in the end only report that time ran out.
        let options = self.pool.connect_options();
        let refuse = |reason: String| CatalogError::Unreachable { address: address(&options), reason };
        match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => connection.close().await?,
            Ok(Err(error)) => return Err(refuse(error.to_string())),
            Err(_) => return Err(refuse(format!("no response within {CONNECT_TIMEOUT:?}"))),
        }
        // A pool of its own, closed at the end: after a failed migration, its connection still holds the migration lock.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(PgConnectOptions::clone(&options).options([("lock_timeout", "30s")]));
        let migrated = MIGRATOR.run(&pool).await;
        pool.close().await;
        Ok(migrated?)
    }

    /// Closes the connections and releases the private PostgreSQL, even while other handles exist: a program that ends
    /// while requests are in flight stops its PostgreSQL too.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.pool.close()).await;
        if let Some(embedded) = self.embedded.clone() {
            let released = tokio::task::spawn_blocking(move || embedded.release()).await;
            if let Ok(Err(error)) = released {
                tracing::warn!("could not stop the private PostgreSQL: {error}");
            }
        }
    }

    /// Begins a transaction for a search, with its threshold of similarity and its time limit.
    pub(super) async fn begin_search(&self) -> Result<Transaction<'static, Postgres>, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            "SELECT set_config('pg_trgm.word_similarity_threshold', '0.45', true) AS threshold,
                    set_config('statement_timeout', '3s', true) AS timeout"
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// Returns how many connections are open, and how many of them are idle.
    pub fn connections(&self) -> (usize, usize) {
        (self.pool.size() as usize, self.pool.num_idle())
    }

    /// Checks that the server responds.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        sqlx::query!("SELECT 1 AS one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Updates PostgreSQL's statistics of the tables. After a large import, until then, it plans queries for small tables,
    /// and a completion takes twenty times as long.
    pub async fn analyze(&self) -> Result<(), CatalogError> {
        sqlx::query!("ANALYZE artists, albums, tracks, playlists, playlist_tracks, users, ratings, listens")
            .execute(&self.pool)
            .await?;
        self.estimate_popularity().await
    }

    /// Counts the rows of every table, by scanning them.
    pub async fn counts(&self) -> Result<CatalogCounts, CatalogError> {
        let counts = sqlx::query_as!(
            CatalogCounts,
            r#"SELECT (SELECT count(*) FROM artists) AS "artists!",
                      (SELECT count(*) FROM albums) AS "albums!",
                      (SELECT count(*) FROM tracks) AS "tracks!",
                      (SELECT count(*) FROM playlists) AS "playlists!",
                      (SELECT count(*) FROM playlist_tracks) AS "placements!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(counts)
    }
}
