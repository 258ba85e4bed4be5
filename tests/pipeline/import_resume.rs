//! Imports that are killed or stopped in the middle, and imports side by side.

use segue::import::import_mpd;
use segue::progress::Interrupt;
use serde_json::Value;
use sqlx::{Executor, Row};

use crate::import;
use crate::support::database::Database;
use crate::support::program::{Home, text};
use crate::support::slices::{bare_playlist, bare_track, generated, write_slices};
use crate::support::wait_until;

const PLAYLISTS: usize = 800;
const SLICE: usize = 100;

/// Has an import stand still in its fourth file, for as long as someone else holds the lock.
const STAND_STILL: &str = "
    CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM playlists) > 300 THEN PERFORM pg_advisory_xact_lock(1); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER stand_still BEFORE INSERT ON playlist_tracks FOR EACH STATEMENT EXECUTE FUNCTION stand_still();
    ALTER TABLE playlist_tracks ENABLE ALWAYS TRIGGER stand_still;
    SELECT pg_advisory_lock(1)";
const STANDS_STILL: &str = "
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND objid = 1 AND NOT granted AND datname = current_database()";

#[tokio::test]
async fn an_import_that_is_killed_and_run_again_ends_in_the_catalog_of_one_that_ran_through() {
    let home = Home::new();
    let files = write_slices(&home.path().join("slices"), &generated(PLAYLISTS, 600, 9), SLICE);
    let straight = Database::new().await;
    let catalog = straight.catalog().await;
    import(&catalog, home.path(), &files).await;
    catalog.close().await;

    let database = Database::new().await;
    database.catalog().await.close().await;
    let folder = home.path().join("slices");
    let arguments = ["import", "mpd", text(&folder), "--database-url", database.url(), "--format", "json"];
    let mut connection = database.connect().await;
    connection.execute(STAND_STILL).await.expect("a lock");
    let mut running = home.segue(&arguments).start();
    wait_until("the import to be in the middle", async || {
        let row = connection.fetch_one(STANDS_STILL).await.expect("a count");
        (row.get::<i64, _>(0) > 0).then_some(())
    })
    .await;
    assert!(running.is_running());
    assert_eq!(running.kill().signal, Some(9));
    let row = connection.fetch_one("SELECT count(*) FROM playlists").await.expect("a count");
    let imported = row.get::<i64, _>(0) as usize;
    assert!(0 < imported && imported < PLAYLISTS, "{imported} playlists were there when it was killed");
    // Waits until PostgreSQL has undone what was not finished.
    connection.execute("SELECT pg_advisory_unlock(1); DROP FUNCTION stand_still CASCADE").await.expect("dropped");

    let report: Value = serde_json::from_str(&home.segue(&arguments).succeed()).expect("JSON");
    assert_eq!(database.contents().await, straight.contents().await);
    assert_eq!(imported % SLICE, 0, "a file is imported whole or not at all");
    assert_eq!(report["playlists_unchanged"], imported);
    assert_eq!(report["playlists_added"], PLAYLISTS - imported);
    assert_eq!(report["playlists_changed"], 0);
}

#[tokio::test]
async fn an_import_that_is_asked_to_stop_finishes_its_file_and_the_next_run_does_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = write_slices(&folder.path().join("slices"), &generated(60, 400, 9), 20);
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let interrupt = Interrupt::default();
    interrupt.raise();
    let rejects = folder.path().join("rejects.ndjson");
    let report = import_mpd(&catalog, &files, &rejects, &interrupt).await.expect("an import");
    assert!(report.interrupted);
    assert_eq!((report.files, report.outcome.playlists_added), (1, 20));
    let rest = import(&catalog, folder.path(), &files).await;
    assert!(!rest.interrupted);
    assert_eq!((rest.outcome.playlists_unchanged, rest.outcome.playlists_added), (20, 40));
    catalog.close().await;
}

#[tokio::test]
async fn two_imports_of_overlapping_files_at_once_end_in_one_catalog() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = write_slices(&folder.path().join("slices"), &generated(120, 400, 9), 30);
    let backwards: Vec<_> = files.iter().rev().cloned().collect();
    let database = Database::new().await;
    let (one, other) = (database.catalog().await, database.catalog().await);
    let reports = tokio::join!(import(&one, folder.path(), &files), import(&other, folder.path(), &backwards));
    let added = reports.0.outcome.playlists_added + reports.1.outcome.playlists_added;
    assert_eq!(added, 120, "each playlist is added by one of the two");
    one.close().await;
    other.close().await;

    let straight = Database::new().await;
    let catalog = straight.catalog().await;
    import(&catalog, folder.path(), &files).await;
    catalog.close().await;
    assert_eq!(database.contents().await, straight.contents().await);
}

#[tokio::test]
async fn a_batch_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let playlists = [bare_playlist(1, vec![bare_track("t:1", "One", "A")])];
    let files = write_slices(folder.path(), &playlists, 1);
    let database = Database::new().await;
    let catalog = database.catalog().await;
    // The last thing that is written in a batch is what fails here.
    let mut connection = database.connect().await;
    connection
        .execute("ALTER TABLE playlist_tracks ADD CONSTRAINT none_for_now CHECK (position < 0) NOT VALID")
        .await
        .expect("a constraint");
    import_mpd(&catalog, &files, &folder.path().join("rejects"), &Interrupt::default()).await.expect_err("refused");
    assert_eq!(database.contents().await, Vec::<String>::new());
    connection.execute("ALTER TABLE playlist_tracks DROP CONSTRAINT none_for_now").await.expect("dropped");
    import(&catalog, folder.path(), &files).await;
    assert_eq!(database.contents().await.len(), 4);
    catalog.close().await;
}
