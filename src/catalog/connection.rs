//! The handle to the catalog: connecting, migrating, closing, and its health.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, migrate::Migrator};

use super::embedded::EmbeddedPostgres;
use super::error::CatalogError;

/// The schema of the catalog's tables in a new database.
pub const SCHEMA: &str = "segue";

/// The migrations of the catalog, in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long closing waits for connections in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for a connection: on a busy machine, opening one takes more than a second.
const REQUEST_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long PostgreSQL waits for a lock on behalf of a request, and how long it works on one statement.
const REQUEST_SESSION: Session = Session { schema: None, lock_timeout: Some("3s"), statement_timeout: Some("9s") };
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

/// Settings of a connection. A statement sets them: poolers reject them among the parameters of a connection.
#[derive(Debug, Clone, Default)]
struct Session {
    schema: Option<Arc<str>>,
    lock_timeout: Option<&'static str>,
    statement_timeout: Option<&'static str>,
}

impl Session {
    /// Returns options of a pool whose connections have these settings.
    fn of(&self, pool: PgPoolOptions) -> PgPoolOptions {
        let session = self.clone();
        pool.after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move { session.prepare(connection).await })
        })
    }

    /// Applies the settings to a connection. An index tells a catalog in `public` from an app's own tables.
    async fn prepare(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query!(
            "SELECT set_config('lock_timeout', COALESCE($2, current_setting('lock_timeout')), false) AS lock_timeout,
                    set_config('statement_timeout', COALESCE($3, current_setting('statement_timeout')), false) AS timeout,
                    set_config('search_path', concat_ws(', ', quote_ident(COALESCE($1, CASE WHEN old.tables = 3 AND NOT EXISTS (
                            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = $4 AND c.relname = '_sqlx_migrations'
                        ) THEN 'public' ELSE $4 END)), 'public', quote_ident((
                            SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                            WHERE e.extname = 'pg_trgm'
                        ))), false) AS search_path
             FROM (SELECT count(*) AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'public'
                     AND c.relname IN ('_sqlx_migrations', 'playlist_tracks', 'playlist_tracks_track_id_idx')) AS old",
            self.schema.as_deref(),
            self.lock_timeout,
            self.statement_timeout,
            SCHEMA
        )
        .fetch_one(connection)
        .await
        .map(drop)
    }
}

/// Returns whether a pooler gives another PostgreSQL session to each transaction of a connection. Prepared statements,
/// settings and LISTEN don't last then.
async fn shares_sessions(connection: &mut PgConnection, options: &PgConnectOptions) -> Result<bool, CatalogError> {
    let first = backend(connection).await?;
    let mut other = options.connect().await?;
    if sqlx::raw_sql("BEGIN").execute(&mut other).await.is_err() {
        return Ok(true); // one that forbids transactions
    }
    let is_shared = backend(&mut other).await? == first
        || match tokio::time::timeout(CONNECT_TIMEOUT, backend(connection)).await {
            Ok(second) => second? != first,
            Err(_) => true,
        };
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await?;
    other.close().await?;
    Ok(is_shared)
}

/// Returns the number of the process that serves a connection, without a prepared statement.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Creates the first schema of the search path if it is missing, after checking that the role may set up a catalog.
async fn create_schema(connection: &mut PgConnection) -> Result<(), CatalogError> {
    let found = sqlx::query!(
        r#"SELECT path.schema AS "schema!", quote_ident(path.schema) AS "quoted_schema!", n.oid IS NOT NULL AS "has_schema!",
                  COALESCE(has_schema_privilege(n.oid, 'CREATE'), false) AS "may_create_tables!",
                  EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = '_sqlx_migrations') AS "has_catalog!",
                  has_database_privilege(current_database(), 'CREATE') AS "may_create!",
                  EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') AS "has_trigrams!",
                  current_user::text AS "role!", quote_ident(current_user) AS "quoted_role!",
                  current_database()::text AS "database!"
           FROM (SELECT (parse_ident(split_part(current_setting('search_path'), ', public', 1)))[1] AS schema) AS path
           LEFT JOIN pg_namespace n ON n.nspname = path.schema"#
    )
    .fetch_one(&mut *connection)
    .await?;
    if found.has_catalog {
        return Ok(());
    }
    let mut statements = Vec::new();
    if !found.has_trigrams && !found.may_create {
        statements.push("CREATE EXTENSION pg_trgm;".to_owned());
    }
    match found.has_schema {
        false if !found.may_create => {
            statements.push(format!("CREATE SCHEMA {} AUTHORIZATION {};", found.quoted_schema, found.quoted_role));
        }
        true if !found.may_create_tables => {
            statements.push(format!("GRANT USAGE, CREATE ON SCHEMA {} TO {};", found.quoted_schema, found.quoted_role))
        }
        _ => {}
    }
    if !statements.is_empty() {
        return Err(CatalogError::Privileges {
            role: found.role,
            database: found.database,
            statements: statements.join("\n  "),
        });
    }
    if !found.has_schema {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", found.quoted_schema);
        match sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await {
            // Another process was faster.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// A handle to the catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) pool: PgPool,
    /// Schema of the tables, if it was named.
    schema: Option<Arc<str>>,
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
    pub async fn open(database_url: Option<&str>, schema: Option<&str>, home: &Path) -> Result<Self, CatalogError> {
        let catalog = Self::connect(database_url, schema, home).await?;
        catalog.migrate().await?;
        Ok(catalog)
    }

    /// Connects without migrating, and without waiting for the server: queries fail until it is available.
    ///
    /// The tables are in `schema`. Without it, they are in [`SCHEMA`], or in `public` if a catalog is there already and none
    /// in [`SCHEMA`].
    pub async fn connect(database_url: Option<&str>, schema: Option<&str>, home: &Path) -> Result<Self, CatalogError> {
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
            // Poolers reject parameters that they don't know; since version 12, PostgreSQL writes all digits anyway.
            .extra_float_digits(None)
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(5));
        let schema: Option<Arc<str>> = schema.map(Arc::from);
        let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(3));
        let pool = Session { schema: schema.clone(), ..Session::default() }.of(pool).connect_lazy_with(options);
        Ok(Self { pool, schema, embedded })
    }

    /// Returns a handle for requests with a pool of its own of at most `connections`, and with short timeouts for
    /// connections, locks and statements.
    pub fn for_requests(&self, connections: u32) -> Self {
        let options = PgConnectOptions::clone(&self.pool.connect_options());
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(REQUEST_ACQUIRE_TIMEOUT);
        let session = Session { schema: self.schema.clone(), ..REQUEST_SESSION };
        Self { pool: session.of(pool).connect_lazy_with(options), ..self.clone() }
    }

    /// Applies the migrations that are missing. Safe to call from several processes at once.
    ///
    /// Fails within a bounded time when the server is unavailable, or another process holds the lock on migrations.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        // A plain connection first: a pool would retry, and in the end only report that time ran out.
        let options = self.pool.connect_options();
        let refuse = |reason: String| CatalogError::Unreachable { address: address(&options), reason };
        let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refuse(error.to_string())),
            Err(_) => return Err(refuse(format!("no response within {CONNECT_TIMEOUT:?}"))),
        };
        if self.embedded.is_none() && shares_sessions(&mut connection, &options).await? {
            return Err(CatalogError::SharedSessions(address(&options)));
        }
        let session = Session { schema: self.schema.clone(), lock_timeout: Some("30s"), statement_timeout: None };
        session.prepare(&mut connection).await?;
        create_schema(&mut connection).await?;
        connection.close().await?;
        // A pool of its own, closed at the end: after a failed migration, its connection still holds the migration lock.
        let pool =
            session.of(PgPoolOptions::new().max_connections(1)).connect_lazy_with(PgConnectOptions::clone(&options));
        let migrated = async {
            self.build_indexes_to_migrate().await?;
            Ok(MIGRATOR.run(&pool).await?)
        };
        let migrated = migrated.await;
        pool.close().await;
        migrated
    }

    /// Builds what an import deferred, if there are migrations to apply: they may be about these indexes.
    async fn build_indexes_to_migrate(&self) -> Result<(), CatalogError> {
        // In the catalog's schema: an app may have a table of that name too.
        let has_table = sqlx::query_scalar!(
            r#"SELECT to_regclass(quote_ident(current_schema()) || '.deferred_indexes') IS NOT NULL AS "has!""#
        );
        if !has_table.fetch_one(&self.pool).await? {
            return Ok(());
        }
        // Not checked when this is compiled: sqlx makes the table.
        let applied: i64 =
            sqlx::query_scalar("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations").fetch_one(&self.pool).await?;
        if applied < MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0) {
            self.build_deferred_indexes(None).await?;
        }
        Ok(())
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

    /// Starts the private PostgreSQL again if it died. Returns false if there is none.
    pub async fn revive(&self) -> Result<bool, CatalogError> {
        let Some(embedded) = self.embedded.clone() else { return Ok(false) };
        let revived = tokio::task::spawn_blocking(move || embedded.revive()).await;
        revived.map_err(|error| CatalogError::Protocol(error.to_string()))??;
        Ok(true)
    }

    /// Returns how many connections are open, and how many of them are idle.
    pub fn connections(&self) -> (usize, usize) {
        (self.pool.size() as usize, self.pool.num_idle())
    }

    /// Checks that PostgreSQL is up, beside the pool, which waits and tries again where connecting fails at once.
    pub async fn probe(&self) -> Result<(), CatalogError> {
        match PgConnection::connect_with(&self.pool.connect_options()).await {
            Ok(connection) => Ok(connection.close().await?),
            // It is up and rejects this connection, since others use all that it allows, say; class 57P is starting up or
            // shutting down.
            Err(sqlx::Error::Database(error)) if error.code().is_none_or(|code| !code.starts_with("57P")) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks that the server responds.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        sqlx::query!("SELECT 1 AS one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Returns whether the server only reads, as a standby does.
    pub async fn is_read_only(&self) -> Result<bool, CatalogError> {
        let is = sqlx::query_scalar!(r#"SELECT current_setting('transaction_read_only')::bool AS "is!""#);
        Ok(is.fetch_one(&self.pool).await?)
    }

    /// Updates PostgreSQL's statistics of the tables. After a large import, until then, it plans queries for small tables,
    /// and a completion takes twenty times as long.
    pub async fn analyze(&self) -> Result<(), CatalogError> {
        sqlx::query!("ANALYZE artists, albums, tracks, playlists, playlist_tracks, users, ratings, listens")
            .execute(&self.pool)
            .await?;
        self.estimate_popular_tracks().await
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
