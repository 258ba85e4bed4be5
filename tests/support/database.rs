//! A database for each test, on the server of `DATABASE_URL`.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use segue::catalog::Catalog;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::wait_until;

/// PostgreSQL's code for a database that someone is connected to.
const OBJECT_IN_USE: &str = "55006";

/// A database that is dropped with this.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

fn server_url() -> String {
    std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set; `make test` runs the tests with a PostgreSQL of their own")
}

/// `postgres://user@host/name?host=…` with another name.
fn with_name(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = base.rsplit_once('/').expect("a URL with a database");
    let separator = if parameters.is_empty() { "" } else { "?" };
    format!("{server}/{name}{separator}{parameters}")
}

impl Database {
    /// Creates an empty database, without tables.
    pub async fn new() -> Self {
        Self::create("template1").await
    }

    /// Creates a catalog without rows.
    pub async fn with_tables() -> Self {
        let database = Self::new().await;
        database.catalog().await.close().await;
        database
    }

    /// Copies this database, which must have no connections.
    pub async fn copy(&self) -> Self {
        Self::create(&self.name).await
    }

    async fn create(template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("segue_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let server = server_url();
        let mut connection = PgConnection::connect(&server).await.expect("the server of DATABASE_URL");
        // A connection to the template may take a moment to end.
        wait_until("a database", async || {
            let created =
                connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}"))).await;
            let Err(error) = created else { return Some(()) };
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some(OBJECT_IN_USE), "{error}");
            None
        })
        .await;
        connection.close().await.expect("closed");
        Self { url: with_name(&server, &name), name }
    }

    /// Returns its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the catalog in it, with its tables.
    pub async fn catalog(&self) -> Catalog {
        Catalog::open(Some(&self.url), None, Path::new(".")).await.expect("a catalog")
    }

    /// Connects to it, with the catalog's tables in reach.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
        connection.execute("SET search_path TO segue, public").await.expect("set");
        connection
    }

    /// Returns the first column of a query's result.
    pub async fn texts(&self, sql: &'static str) -> Vec<String> {
        let mut connection = self.connect().await;
        let rows = sqlx::query(sql).fetch_all(&mut connection).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Returns all of the catalog by the app's ids, in one order: equal for catalogs of the same content.
    pub async fn contents(&self) -> Vec<String> {
        self.texts(
            r#"SELECT line FROM (
                 SELECT jsonb_build_array('artist', a.uri, a.name)::text AS line FROM artists a
                 UNION ALL
                 SELECT jsonb_build_array('album', b.uri, b.name, a.uri, a.name)::text
                 FROM albums b LEFT JOIN artists a ON a.id = b.artist_id
                 UNION ALL
                 SELECT jsonb_build_array('track', t.uri, t.name, a.uri, a.name, b.uri, b.name, t.duration_ms)::text
                 FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
                 UNION ALL
                 SELECT jsonb_build_array('playlist', p.external_id, p.title, p.description, p.collaborative,
                                          p.num_followers, p.num_edits, p.num_tracks, p.num_albums, p.num_artists,
                                          p.duration_ms, p.modified_at)::text
                 FROM playlists p
                 UNION ALL
                 SELECT jsonb_build_array('placement', p.external_id, pt.position, t.uri)::text
                 FROM playlist_tracks pt JOIN playlists p ON p.id = pt.playlist_id JOIN tracks t ON t.id = pt.track_id
               ) lines ORDER BY line COLLATE "C""#,
        )
        .await
    }

    /// Returns every row as it is stored, with row ids and times of change.
    pub async fn rows(&self) -> Vec<String> {
        self.texts(
            r#"SELECT line FROM (
                 SELECT 'artist ' || a::text AS line FROM artists a
                 UNION ALL SELECT 'album ' || b::text FROM albums b
                 UNION ALL SELECT 'track ' || t::text FROM tracks t
                 UNION ALL SELECT 'playlist ' || p::text FROM playlists p
                 UNION ALL SELECT 'placement ' || pt::text FROM playlist_tracks pt
               ) lines ORDER BY line COLLATE "C""#,
        )
        .await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A runtime of its own: this may run inside one that must not block, or outside of any.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server_url()).await?;
                connection.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
                connection.close().await
            })
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("could not drop the database {}: {error}", self.name),
            Err(_) => eprintln!("could not drop the database {}", self.name),
        }
    }
}
