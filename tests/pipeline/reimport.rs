//! Importing again: the same, a changed playlist, a source that says less or more.

use segue::catalog::RatingScale;
use segue::import::ndjson::NdjsonFiles;
use segue::import::{ImportReport, RatingsFile, import_ndjson, import_ratings};
use segue::progress::Interrupt;
use serde_json::{Value, json};

use crate::import;
use crate::support::database::Database;
use crate::support::slices::{bare_playlist, bare_track, bare_tracks, generated, slice, write};

/// A catalog that files are imported into one after another.
struct Imports {
    database: Database,
    folder: tempfile::TempDir,
}

impl Imports {
    async fn new() -> Self {
        Self { database: Database::with_tables().await, folder: tempfile::tempdir().expect("a folder") }
    }

    async fn import(&self, playlists: &[Value]) -> ImportReport {
        let file = write(self.folder.path(), "slice.json", slice(playlists));
        let catalog = self.database.catalog().await;
        let report = import(&catalog, self.folder.path(), &[file]).await;
        catalog.close().await;
        assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
        report
    }
}

/// What became of the playlists: new, changed, as they were.
fn counts(report: &ImportReport) -> [u64; 3] {
    let outcome = &report.outcome;
    [outcome.playlists_added, outcome.playlists_changed, outcome.playlists_unchanged]
}

fn full_playlist() -> Value {
    json!({
        "pid": 1, "name": "Full", "description": "said", "collaborative": "true", "modified_at": 1_500_000_000,
        "num_albums": 1, "num_artists": 1, "num_followers": 7, "num_edits": 9, "duration_ms": 1_000,
        "tracks": [{
            "pos": 0, "artist_name": "A", "track_uri": "t:1", "artist_uri": "a:1", "track_name": "One",
            "album_uri": "b:1", "album_name": "B", "duration_ms": 1_000
        }]
    })
}

#[tokio::test]
async fn importing_the_same_again_changes_nothing() {
    let imports = Imports::new().await;
    let playlists = generated(40, 400, 3);
    assert_eq!(counts(&imports.import(&playlists).await), [40, 0, 0]);
    let before = imports.database.rows().await;
    assert!(before.len() > 1_000, "{}", before.len());
    let again = imports.import(&playlists).await;
    assert_eq!(counts(&again), [0, 0, 40]);
    assert_eq!([again.outcome.tracks_added, again.outcome.artists_added, again.outcome.albums_added], [0, 0, 0]);
    // Row ids and times of change included.
    assert_eq!(imports.database.rows().await, before);
}

#[tokio::test]
async fn importing_the_same_again_uses_up_no_numbers_of_rows() {
    let imports = Imports::new().await;
    let (folder, interrupt) = (imports.folder.path(), Interrupt::default());
    let rejects = folder.join("rejects");
    let track = json!({"id": "n:1", "name": "N", "artist": "A", "artist_id": "a:n", "album": "B", "album_id": "b:n"});
    let files = NdjsonFiles {
        tracks: vec![write(folder, "tracks", track.to_string())],
        users: vec![write(folder, "users", "{\"id\": \"u\"}")],
        playlists: vec![write(folder, "playlists", json!({"id": "p", "user_id": "v", "tracks": ["n:1"]}).to_string())],
    };
    let table = write(folder, "ratings", "user_id,track_id,rating,track_name,artist_name\nw,r:1,3,R,A\n");
    let scale = RatingScale { lowest: 1.0, highest: 5.0 };
    let numbers = "SELECT sequencename || ' ' || COALESCE(last_value, 0) FROM pg_sequences
                   WHERE schemaname NOT LIKE 'pg%' ORDER BY sequencename";
    let mut first: Option<Vec<String>> = None;
    for _ in 0..3 {
        // Artists and albums with ids, and with names alone.
        imports.import(&[full_playlist(), bare_playlist(2, bare_tracks("t", 3))]).await;
        let catalog = imports.database.catalog().await;
        import_ndjson(&catalog, &files, &rejects, &interrupt).await.expect("an import");
        let ratings = vec![RatingsFile::Table(table.clone())];
        import_ratings(&catalog, ratings, scale, &rejects, &interrupt).await.expect("an import");
        catalog.close().await;
        let now = imports.database.texts(numbers).await;
        assert!(now.len() >= 5, "{now:?}");
        assert_eq!(first.get_or_insert_with(|| now.clone()), &now);
    }
}

#[tokio::test]
async fn importing_bare_playlists_again_changes_nothing() {
    let imports = Imports::new().await;
    let playlists: Vec<Value> =
        (0..5).map(|pid| bare_playlist(pid, bare_tracks(&format!("artist {}", pid % 2), 4))).collect();
    imports.import(&playlists).await;
    let before = imports.database.rows().await;
    assert_eq!(counts(&imports.import(&playlists).await), [0, 0, 5]);
    assert_eq!(imports.database.rows().await, before);
}

#[tokio::test]
async fn a_changed_playlist_is_replaced_and_the_others_are_left_alone() {
    let imports = Imports::new().await;
    let mut playlists: Vec<Value> =
        (0..4).map(|pid| bare_playlist(pid, bare_tracks(&format!("artist {pid}"), 4))).collect();
    imports.import(&playlists).await;
    let untouched = "SELECT p::text FROM playlists p WHERE external_id IN ('0', '3') ORDER BY external_id";
    let times = "SELECT updated_at::text FROM playlists WHERE external_id IN ('1', '2') ORDER BY external_id";
    let ids = "SELECT id::text FROM playlists ORDER BY external_id";
    let before = [imports.database.texts(untouched).await, imports.database.texts(ids).await];
    let times_before = imports.database.texts(times).await;

    playlists[1]["name"] = json!("a title now");
    playlists[2]["tracks"] =
        json!([bare_track("new:1", "New", "artist 9"), bare_track("artist 2:3", "Track 3", "artist 2")]);
    let report = imports.import(&playlists).await;
    assert_eq!(counts(&report), [0, 2, 2]);
    assert_eq!((report.outcome.tracks_added, report.outcome.artists_added), (1, 1));
    assert_eq!([imports.database.texts(untouched).await, imports.database.texts(ids).await], before);
    for (now, then) in imports.database.texts(times).await.iter().zip(&times_before) {
        assert_ne!(now, then, "a changed playlist says when");
    }
    let contents = imports.database.contents().await;
    let of_two: Vec<&String> = contents.iter().filter(|line| line.starts_with(r#"["placement", "2""#)).collect();
    assert_eq!(of_two, [r#"["placement", "2", 0, "new:1"]"#, r#"["placement", "2", 1, "artist 2:3"]"#]);
    assert!(contents.iter().any(|line| line.contains(r#""playlist", "1", "a title now""#)), "{contents:?}");
    assert!(contents.iter().any(|line| line.starts_with(r#"["playlist", "2", null, null, false, null, null, 2,"#)));
}

#[tokio::test]
async fn a_playlist_in_another_order_or_without_its_tracks_is_a_changed_one() {
    let imports = Imports::new().await;
    let tracks = bare_tracks("a", 3);
    imports.import(&[bare_playlist(1, tracks.clone()), bare_playlist(2, tracks.clone())]).await;
    let reversed: Vec<Value> = tracks.into_iter().rev().collect();
    let report = imports.import(&[bare_playlist(1, reversed), bare_playlist(2, Vec::new())]).await;
    assert_eq!(counts(&report), [0, 2, 0]);
    let placements: Vec<String> =
        imports.database.contents().await.into_iter().filter(|line| line.contains("placement")).collect();
    assert_eq!(
        placements,
        [r#"["placement", "1", 0, "a:2"]"#, r#"["placement", "1", 1, "a:1"]"#, r#"["placement", "1", 2, "a:0"]"#]
    );
}

#[tokio::test]
async fn a_source_that_says_less_does_not_erase_what_is_there() {
    let imports = Imports::new().await;
    imports.import(&[full_playlist()]).await;
    let before = imports.database.rows().await;
    let mut said_less = bare_playlist(1, vec![bare_track("t:1", "One", "A")]);
    said_less["collaborative"] = json!("true");
    assert_eq!(counts(&imports.import(&[said_less]).await), [0, 0, 1]);
    assert_eq!(imports.database.rows().await, before);
}

#[tokio::test]
async fn a_source_that_does_not_say_whether_a_playlist_is_collaborative_does_not_change_it() {
    let imports = Imports::new().await;
    imports.import(&[full_playlist()]).await;
    let report = imports.import(&[bare_playlist(1, vec![bare_track("t:1", "One", "A")])]).await;
    assert_eq!(imports.database.texts("SELECT collaborative::text FROM playlists").await, ["true"]);
    assert_eq!(counts(&report), [0, 0, 1]);
}

#[tokio::test]
async fn a_source_that_says_more_adds_it() {
    let imports = Imports::new().await;
    imports.import(&[bare_playlist(1, vec![bare_track("t:1", "One", "A")])]).await;
    assert_eq!(counts(&imports.import(&[full_playlist()]).await), [0, 1, 0]);
    let straight = Imports::new().await;
    straight.import(&[full_playlist()]).await;
    assert_eq!(imports.database.contents().await, straight.database.contents().await);
}

#[tokio::test]
async fn an_artist_known_by_name_gets_its_uri_later_and_stays_one() {
    let imports = Imports::new().await;
    let with_uri = |track: &str| json!({"track_uri": track, "track_name": "T", "artist_name": "A", "artist_uri": "a:1", "album_name": "B"});
    let artists = "SELECT concat_ws(' ', id, uri, name) FROM artists ORDER BY id";
    imports.import(&[bare_playlist(1, vec![bare_track("t:1", "T", "A")])]).await;
    let id = imports.database.texts("SELECT id::text FROM artists").await.pop().expect("an artist");
    assert_eq!(imports.database.texts(artists).await, [format!("{id} A")]);

    imports.import(&[bare_playlist(2, vec![with_uri("t:2")])]).await;
    assert_eq!(imports.database.texts(artists).await, [format!("{id} a:1 A")]);

    // A source that knows the name alone means the same artist.
    imports.import(&[bare_playlist(3, vec![bare_track("t:3", "T", "A")])]).await;
    assert_eq!(imports.database.texts(artists).await, [format!("{id} a:1 A")]);
    let of_artist = "SELECT count(*)::text FROM tracks t JOIN artists a ON a.id = t.artist_id WHERE a.uri = 'a:1'";
    assert_eq!(imports.database.texts(of_artist).await, ["3"]);
}

#[tokio::test]
async fn two_artists_of_one_name_with_uris_of_their_own_stay_two() {
    let imports = Imports::new().await;
    let of = |track: &str, artist: &str| json!({"track_uri": track, "track_name": "T", "artist_name": "A", "artist_uri": artist});
    let playlists = [bare_playlist(1, vec![of("t:1", "a:1"), of("t:2", "a:2")])];
    imports.import(&playlists).await;
    let before = imports.database.rows().await;
    imports.import(&playlists).await;
    assert_eq!(imports.database.rows().await, before);
    assert_eq!(imports.database.texts("SELECT uri FROM artists ORDER BY uri").await, ["a:1", "a:2"]);
}

#[tokio::test]
async fn a_renamed_track_artist_and_album_keep_their_rows() {
    let imports = Imports::new().await;
    imports.import(&[full_playlist()]).await;
    let ids = "SELECT concat_ws(' ', t.id, t.artist_id, t.album_id) FROM tracks t";
    let before = imports.database.texts(ids).await;
    let mut renamed = full_playlist();
    renamed["tracks"][0]["track_name"] = json!("One, Remastered");
    renamed["tracks"][0]["artist_name"] = json!("A & Friends");
    renamed["tracks"][0]["album_name"] = json!("B, Deluxe");
    imports.import(&[renamed]).await;
    assert_eq!(imports.database.texts(ids).await, before);
    let contents = imports.database.contents().await;
    let track = r#"["track", "t:1", "One, Remastered", "a:1", "A & Friends", "b:1", "B, Deluxe", 1000]"#;
    assert!(contents.iter().any(|line| line == track), "{contents:?}");
    assert_eq!(contents.len(), 5, "{contents:?}");
}
