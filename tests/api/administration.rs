//! What an administrator changes in the database itself, with another program.

use segue::catalog::Catalog;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::database::Database;

/// Adds, renames, deletes and adds again on a connection whose search path lacks the catalog, for a catalog in `schema`.
async fn assert_rows_are_changed_right(database: &Database, schema: &str) {
    let mut plain = PgConnection::connect(database.url()).await.expect("a connection");
    plain.execute("SET search_path TO pg_catalog").await.expect("set");
    let one = async |connection: &mut PgConnection, sql: &str| -> Vec<String> {
        let sql = sql.replace("segue.", &format!("{schema}."));
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await.expect("changed")
    };
    let added = "WITH a AS (INSERT INTO segue.artists (name) VALUES ('Beyoncé') RETURNING id)
                 INSERT INTO segue.tracks (uri, name, artist_id) SELECT 'x', 'Déjà Vu', id FROM a RETURNING search_text";
    // An artist that the same statement adds is not there yet.
    one(&mut plain, added).await;
    let texts = "SELECT search_text FROM segue.tracks WHERE uri = 'x'";
    one(&mut plain, "UPDATE segue.tracks SET name = 'Halo' WHERE uri = 'x' RETURNING uri").await;
    assert_eq!(one(&mut plain, texts).await, ["halo beyonce"]);
    one(&mut plain, "UPDATE segue.artists SET name = 'Ane Brun' WHERE name = 'Beyoncé' RETURNING name").await;
    assert_eq!(one(&mut plain, texts).await, ["halo ane brun"]);
    let renamed = "SELECT uri FROM segue.tracks WHERE renamed_at IS NOT NULL";
    assert_eq!(one(&mut plain, renamed).await, ["x"]);
    one(&mut plain, "DELETE FROM segue.tracks WHERE uri = 'x' RETURNING uri").await;
    assert_eq!(one(&mut plain, "SELECT uri FROM segue.removed_tracks").await, ["x"]);
    let again = "INSERT INTO segue.tracks (uri, name, artist_id) SELECT 'x', 'Do My Thing', id FROM segue.artists
                 WHERE name = 'Ane Brun' RETURNING search_text";
    assert_eq!(one(&mut plain, again).await, ["do my thing ane brun"]);
    assert_eq!(one(&mut plain, "SELECT uri FROM segue.removed_tracks").await, [""; 0]);
    assert_eq!(one(&mut plain, renamed).await, ["x"]);
}

#[tokio::test]
async fn rows_can_be_changed_with_any_search_path() {
    for schema in ["segue", "public", "\"Music & more\""] {
        let database = Database::new().await;
        let named = Some(schema.trim_matches('"'));
        let catalog = Catalog::open(Some(database.url()), named, std::path::Path::new(".")).await.expect("a catalog");
        catalog.close().await;
        assert_rows_are_changed_right(&database, schema).await;
    }
}
