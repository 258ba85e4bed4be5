//! Imports that are killed or stopped in the middle, and imports side by side.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::import::ndjson::NdjsonFiles;
use segue::import::{import_mpd, import_ndjson};
use segue::progress::Interrupt;
use serde_json::{Value, json};
use sqlx::{Executor, Row};

use crate::import;
use crate::support::database::Database;
use crate::support::program::{Home, text};
use crate::support::slices::{bare_playlist, bare_track, generated, write, write_slices};
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

/// What a slice says of a track, chosen from few values, so that slices often say something else of a track, of its artist or
/// its album, or leave it out.
fn some_track(random: &mut Xoshiro256PlusPlus) -> Value {
    let number = random.random_range(0..30);
    let versions = if random.random_bool(0.1) { 2 } else { 1 };
    let mut name = |what: &str, number: i32, count: i32| {
        json!(format!("{what} {}", (number + random.random_range(0..versions)) % count))
    };
    let (title, artist, album) = (name("Title", number, 30), name("Artist", number, 7), name("Album", number, 11));
    let mut track = json!({"track_uri": format!("t:{number}"), "track_name": title});
    for (field, value) in [
        ("artist_name", artist),
        ("artist_uri", json!(format!("a:{}", number % 7))),
        ("album_name", album),
        ("album_uri", json!(format!("b:{}", number % 11))),
        ("duration_ms", json!(random.random_range(1..=versions) * 1_000)),
    ] {
        if random.random_bool(0.7) {
            track[field] = value;
        }
    }
    track
}

#[tokio::test]
async fn files_imported_at_once_end_in_the_catalog_of_those_imported_one_by_one() {
    let rounds: u64 = std::env::var("SEGUE_IMPORT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12);
    let empty = Database::with_tables().await;
    for round in 0..rounds {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(round);
        let folder = tempfile::tempdir().expect("a folder");
        let playlists: Vec<Value> = (0..40)
            .map(|_| {
                let length = random.random_range(1..9);
                bare_playlist(random.random_range(0..30), (0..length).map(|_| some_track(&mut random)).collect())
            })
            .collect();
        let files = write_slices(folder.path(), &playlists, 4);
        let (together, one_by_one) = (empty.copy().await, empty.copy().await);
        let catalog = together.catalog().await;
        import(&catalog, folder.path(), &files).await;
        catalog.close().await;
        let catalog = one_by_one.catalog().await;
        for file in &files {
            import(&catalog, folder.path(), std::slice::from_ref(file)).await;
        }
        catalog.close().await;
        assert_eq!(together.contents().await, one_by_one.contents().await, "round {round}");
    }
}

#[tokio::test]
async fn an_import_learns_what_others_do_to_its_tracks_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let playlist = |id: &str| {
        let tracks = json!([{"id": "t:1", "name": "One", "artist": "A"}, {"id": "t:2", "name": "Two", "artist": "A"}]);
        format!("{}\n", json!({"id": id, "tracks": tracks}))
    };
    let first = write(folder.path(), "first.ndjson", playlist("p:1"));
    let pipe = folder.path().join("second.ndjson");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let rejects = folder.path().join("rejects.ndjson");
    let files = NdjsonFiles { playlists: vec![first, pipe.clone()], ..NdjsonFiles::default() };
    let interrupt = Interrupt::default();
    let meanwhile = async {
        wait_until("the first file to be imported", async || {
            (database.texts("SELECT external_id FROM playlists").await == ["p:1"]).then_some(())
        })
        .await;
        let mut connection = database.connect().await;
        connection
            .execute("UPDATE tracks SET name = 'Other' WHERE uri = 't:1'; DELETE FROM playlist_tracks; DELETE FROM tracks WHERE uri = 't:2'")
            .await
            .expect("changed");
        let text = playlist("p:2");
        tokio::task::spawn_blocking(move || std::fs::write(pipe, text)).await.expect("a thread").expect("written");
    };
    let (report, ()) = tokio::join!(import_ndjson(&catalog, &files, &rejects, &interrupt), meanwhile);
    let report = report.expect("an import");
    assert_eq!((report.outcome.tracks_added, report.outcome.tracks_changed), (3, 1));
    let tracks = database.texts("SELECT uri || ' ' || name FROM tracks ORDER BY uri").await;
    assert_eq!(tracks, ["t:1 One", "t:2 Two"]);
    let of_second = "SELECT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id ORDER BY position";
    assert_eq!(database.texts(of_second).await, ["t:1", "t:2"]);
    catalog.close().await;
}

const INDEXES: &str = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'segue' ORDER BY indexname";

#[tokio::test]
async fn indexes_that_an_import_deferred_are_built_by_the_next_one_if_it_did_not_come_to_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = write_slices(&folder.path().join("slices"), &generated(60, 400, 9), 20);
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let all = database.texts(INDEXES).await;
    let deferred = catalog.defer_indexes().await.expect("a catalog").expect("indexes to defer");
    assert!(catalog.defer_indexes().await.expect("a catalog").is_none(), "one import at a time");
    assert_eq!(catalog.build_deferred_indexes(None).await.expect("a catalog"), 0, "they are left to it");
    import(&catalog, folder.path(), &files).await;
    assert_eq!(database.texts(INDEXES).await.len() + 5, all.len(), "of words in titles, and of placements");
    drop(deferred); // as when it is killed
    wait_until("the lock to be free", async || {
        import(&catalog, folder.path(), &files).await;
        (database.texts(INDEXES).await == all).then_some(())
    })
    .await;
    assert!(catalog.defer_indexes().await.expect("a catalog").is_none(), "there are rows");
    assert_eq!(database.texts(INDEXES).await, all);
    catalog.close().await;
}

#[tokio::test]
async fn an_import_that_meets_somebody_renaming_popular_tracks_gives_way_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let playlists = [bare_playlist(1, vec![bare_track("t:1", "One", "A"), bare_track("t:2", "Two", "A")])];
    let files = write_slices(folder.path(), &playlists, 1);
    let database = Database::new().await;
    let catalog = database.catalog().await;
    import(&catalog, folder.path(), &files).await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    // Both tracks have other numbers of placements for the estimate at an import's end, which comes to the first one first.
    one.execute("DELETE FROM playlist_tracks").await.expect("deleted");
    one.execute("BEGIN; UPDATE tracks SET name = 'Second' WHERE uri = 't:2'").await.expect("renamed");
    let ending = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.analyze().await }
    });
    wait_until("the estimate to wait", async || {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        other.fetch_optional(waiting).await.expect("asked").map(drop)
    })
    .await;
    one.execute("UPDATE tracks SET name = 'First' WHERE uri = 't:1'; COMMIT").await.expect("renamed");
    ending.await.expect("no panic").expect("no deadlock to be told of");
    let texts = database.texts("SELECT search_text FROM popular_tracks ORDER BY track_id").await;
    assert_eq!(texts, ["first a", "second a"]);
    catalog.close().await;
}
