//! Deezer's playlists, Yes.com radio and rows of one's own: what of them comes into the catalog.

use std::path::{Path, PathBuf};

use segue::import::deezer::DeezerOptions;
use segue::import::ndjson::NdjsonFiles;
use segue::import::{ImportError, ImportReport, import_deezer, import_ndjson, import_yes_radio};
use segue::progress::Interrupt;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::slices::{bare_playlist, bare_track, gzip, slice, write};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import").join(name)
}

/// A catalog that files are imported into one after another.
struct Imports {
    database: Database,
    folder: tempfile::TempDir,
}

impl Imports {
    async fn new() -> Self {
        Self { database: Database::with_tables().await, folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        write(self.path(), name, content)
    }

    async fn deezer(&self, paths: &[PathBuf]) -> Result<ImportReport, ImportError> {
        let catalog = self.database.catalog().await;
        let rejects = self.path().join("rejects.ndjson");
        let report = import_deezer(&catalog, paths, DeezerOptions::default(), &rejects, &Interrupt::default()).await;
        catalog.close().await;
        report
    }

    async fn ndjson(&self, files: NdjsonFiles) -> ImportReport {
        let catalog = self.database.catalog().await;
        let rejects = self.path().join("rejects.ndjson");
        let report = import_ndjson(&catalog, &files, &rejects, &Interrupt::default()).await.expect("an import");
        catalog.close().await;
        report
    }

    /// Imports one file of each kind that is not empty.
    async fn rows(&self, tracks: &[Value], users: &[Value], playlists: &[Value]) -> ImportReport {
        let file = |name: &str, rows: &[Value]| -> Vec<PathBuf> {
            let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
            if rows.is_empty() { Vec::new() } else { vec![self.write(name, lines)] }
        };
        let files = NdjsonFiles {
            tracks: file("tracks.ndjson", tracks),
            users: file("users.ndjson", users),
            playlists: file("playlists.ndjson", playlists),
        };
        self.ndjson(files).await
    }

    fn rejects(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path().join("rejects.ndjson")).expect("rejects");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    async fn contents(&self) -> Vec<String> {
        self.database.contents().await
    }
}

/// (new, changed, as they were)
fn playlists(report: &ImportReport) -> [u64; 3] {
    let outcome = &report.outcome;
    [outcome.playlists_added, outcome.playlists_changed, outcome.playlists_unchanged]
}

#[tokio::test]
async fn a_numpy_file_of_playlists_fills_the_catalog_and_again_changes_nothing() {
    let imports = Imports::new().await;
    let file = [fixture("lists_numpy_save.npy")];
    let report = imports.deezer(&file).await.expect("an import");
    assert_eq!((playlists(&report), report.outcome.placements, report.rejected), ([3, 0, 0], 6, 0), "{report:?}");
    assert_eq!(
        imports.contents().await,
        [
            r#"["artist", "artist_1", "artist_1"]"#,
            r#"["artist", "artist_2", "artist_2"]"#,
            r#"["placement", "lists_numpy_save:0", 0, "track_1"]"#,
            r#"["placement", "lists_numpy_save:0", 1, "track_2"]"#,
            r#"["placement", "lists_numpy_save:1", 0, "track_3"]"#,
            r#"["placement", "lists_numpy_save:2", 0, "track_1"]"#,
            r#"["placement", "lists_numpy_save:2", 1, "track_3"]"#,
            r#"["placement", "lists_numpy_save:2", 2, "track_2"]"#,
            r#"["playlist", "lists_numpy_save:0", null, null, false, null, null, 2, null, null, null, null]"#,
            r#"["playlist", "lists_numpy_save:1", null, null, false, null, null, 1, null, null, null, null]"#,
            r#"["playlist", "lists_numpy_save:2", null, null, false, null, null, 3, null, null, null, null]"#,
            r#"["track", "track_1", "track_1", "artist_1", "artist_1", null, null, null]"#,
            r#"["track", "track_2", "track_2", "artist_1", "artist_1", null, null, null]"#,
            r#"["track", "track_3", "track_3", "artist_2", "artist_2", null, null, null]"#,
        ]
    );
    let before = imports.database.rows().await;
    assert_eq!(playlists(&imports.deezer(&file).await.expect("an import")), [0, 0, 3]);
    assert_eq!(imports.database.rows().await, before);
}

#[tokio::test]
async fn the_same_playlists_as_text_are_the_same_and_may_be_gzipped() {
    let (from_npy, from_text) = (Imports::new().await, Imports::new().await);
    let npy = from_npy.write("some.npy", std::fs::read(fixture("lists_numpy_save.npy")).expect("a fixture"));
    from_npy.deezer(&[npy]).await.expect("an import");
    let text = from_text.write("some.txt.gz", gzip(&std::fs::read(fixture("playlists.txt")).expect("a fixture")));
    from_text.deezer(&[text]).await.expect("an import");
    assert_eq!(from_npy.contents().await, from_text.contents().await);
}

#[tokio::test]
async fn names_that_another_source_gave_stay_when_a_source_without_names_is_imported() {
    let imports = Imports::new().await;
    let file = [fixture("lists_numpy_save.npy")];
    imports.deezer(&file).await.expect("an import");
    let named = json!({"id": "track_1", "name": "So Which", "artist": "Nobody", "artist_id": "artist_1"});
    let report = imports.rows(&[named], &[], &[]).await;
    assert_eq!((report.outcome.tracks_added, report.outcome.tracks_changed), (0, 1));
    let before = imports.contents().await;
    assert!(before.contains(&r#"["track", "track_1", "So Which", "artist_1", "Nobody", null, null, null]"#.to_owned()));
    assert_eq!(playlists(&imports.deezer(&file).await.expect("an import")), [0, 0, 3]);
    assert_eq!(imports.contents().await, before);
}

#[tokio::test]
async fn a_pickle_that_calls_something_is_refused_and_the_files_around_it_are_imported() {
    let imports = Imports::new().await;
    let files = ["lists_protocol_2.npy", "calls_os_system.npy", "lists_protocol_5.npy"].map(fixture);
    let report = imports.deezer(&files).await.expect("an import");
    assert_eq!((report.files, playlists(&report)), (2, [6, 0, 0]));
    let [failed] = report.failed_files.as_slice() else { panic!("{report:?}") };
    assert_eq!(failed.file, files[1]);
    assert!(failed.reason.contains("posix.system") && failed.reason.contains("(at byte 288)"), "{failed:?}");
}

#[tokio::test]
async fn a_gzip_file_of_lines_that_is_cut_is_imported_as_far_as_it_goes_and_says_so() {
    let imports = Imports::new().await;
    let text: String = (0..200_000).map(|track| format!("track_{track} artist_{}\n", track * 7919 % 1000)).collect();
    let packed = gzip(text.as_bytes());
    let file = imports.write("cut.txt.gz", &packed[..packed.len() / 2]);
    let report = imports.deezer(&[file]).await.expect("an import");
    let reason = &report.failed_files[0].reason;
    assert!(
        reason.contains("gzip file is truncated") && reason.contains("the rows before that are imported"),
        "{reason}"
    );
    let added = report.outcome.playlists_added;
    assert!(added > 10_000 && added < 190_000, "{added}");
    assert_eq!(imports.database.texts("SELECT count(*)::text FROM playlists").await, [added.to_string()]);
}

#[tokio::test]
async fn two_files_of_one_name_are_refused_before_either_is_read() {
    let imports = Imports::new().await;
    let text = std::fs::read(fixture("playlists.txt")).expect("a fixture");
    let files =
        [write(&imports.path().join("a"), "same.txt", &text), write(&imports.path().join("b"), "same.npy", text)];
    let error = imports.deezer(&files).await.expect_err("refused").to_string();
    assert!(error.contains("same:0") && error.contains("a/same.txt") && error.contains("b/same.npy"), "{error}");
    let error = imports.deezer(&[imports.path().to_owned()]).await.expect_err("refused").to_string();
    assert!(error.contains("is a folder"), "{error}");
    assert_eq!(imports.contents().await, Vec::<String>::new());
}

/// A folder of Yes.com playlists.
fn yes_folder(imports: &Imports, name: &str, train: &str, songs: &str) -> PathBuf {
    let folder = imports.path().join(name);
    write(&folder, "train.txt", train);
    write(&folder, "song_hash.txt", songs);
    folder
}

const TRAIN: &str = "900 901 902 \n3 2 1 \n0 1 2 \n0 1 \n0 \n";
const SONGS: &str = "0\tFirst (w\\/ Somebody)\tNobody\n1\tSecond\tThis &amp; That\n2\tThird\tNobody\n";

async fn yes_radio(imports: &Imports, folder: PathBuf) -> Result<ImportReport, ImportError> {
    let catalog = imports.database.catalog().await;
    let rejects = imports.path().join("rejects.ndjson");
    let report = import_yes_radio(&catalog, &[folder], &rejects, &Interrupt::default()).await;
    catalog.close().await;
    report
}

#[tokio::test]
async fn radio_playlists_come_with_titles_and_artists_and_a_track_has_one_id_in_all_sizes() {
    let imports = Imports::new().await;
    yes_folder(&imports, "small", TRAIN, SONGS);
    // Another size numbers the same songs otherwise.
    yes_folder(&imports, "tiny", "902 900 \n1 1 \n1 0 \n", "0\tThird\tNobody\n1\tFirst (w\\/ Somebody)\tNobody\n");
    let report = yes_radio(&imports, imports.path().to_owned()).await.expect("an import");
    assert_eq!((report.files, playlists(&report), report.rejected), (2, [4, 0, 0], 0), "{report:?}");
    let contents = imports.contents().await;
    for line in [
        r#"["artist", null, "This & That"]"#,
        r#"["placement", "small:0", 2, "yes:902"]"#,
        r#"["placement", "small:2", 0, "yes:900"]"#,
        r#"["placement", "tiny:0", 0, "yes:900"]"#,
        r#"["placement", "tiny:0", 1, "yes:902"]"#,
        r#"["track", "yes:900", "First (w/ Somebody)", null, "Nobody", null, null, null]"#,
    ] {
        assert!(contents.contains(&line.to_owned()), "{line}: {contents:#?}");
    }
    let again = yes_radio(&imports, imports.path().to_owned()).await.expect("an import");
    assert_eq!(playlists(&again), [0, 0, 4]);
}

#[tokio::test]
async fn a_bad_line_of_radio_playlists_is_rejected_and_files_that_do_not_fit_are_refused() {
    let imports = Imports::new().await;
    let train = "900 901 902 \n3 2 1 \n0 1 2 \n0 9 \nzero \n1 2 \n";
    let songs = "0\tFirst\tNobody\nthis is no song\n2\tThird\tNobody\n";
    let report = yes_radio(&imports, yes_folder(&imports, "bad", train, songs)).await.expect("an import");
    assert_eq!((playlists(&report), report.rejected), ([0, 0, 0], 4), "{report:?}");
    let rejects = imports.rejects();
    assert_eq!(rejects[0]["item"], "line 3");
    assert!(rejects[0]["reason"].as_str().expect("a reason").contains("song 1 is not described"), "{rejects:?}");
    assert_eq!((&rejects[1]["item"], &rejects[1]["offset"]), (&json!("line 4"), &json!(27)));
    assert!(rejects[1]["reason"].as_str().expect("a reason").contains("\"9\" is not the number"), "{rejects:?}");
    assert!(rejects[2]["reason"].as_str().expect("a reason").contains("\"zero\""), "{rejects:?}");

    for (name, train, songs, words) in [
        ("counts", "900 901 902 \n3 2 \n0 \n", SONGS, "line 2 has 2 numbers, line 1 3 ids"),
        ("songs", "900 901 \n3 2 \n0 \n", SONGS, "line 1 has 2 ids, song_hash.txt 3 songs"),
        ("empty", "", SONGS, "the file is empty"),
        ("short", "900 901 902 \n", SONGS, "line 2"),
        ("titles", TRAIN, "one two three\n", "song_hash.txt: no line has number, title and artist"),
    ] {
        let report = yes_radio(&imports, yes_folder(&imports, name, train, songs)).await.expect("an import");
        let [failed] = report.failed_files.as_slice() else { panic!("{name}: {report:?}") };
        assert!(failed.reason.contains(words) && failed.reason.contains("at byte"), "{name}: {failed:?}");
    }
    for (folder, word) in [("nowhere", "No such file"), ("hollow", "no train.txt")] {
        std::fs::create_dir_all(imports.path().join("hollow")).expect("a folder");
        let error = yes_radio(&imports, imports.path().join(folder)).await.expect_err("refused").to_string();
        assert!(error.contains(folder) && error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn rows_of_every_kind_and_field_fill_the_catalog() {
    let imports = Imports::new().await;
    let report = imports
        .rows(
            &[
                json!({"id": "t1", "name": "One", "artist": "A", "artist_id": "a1", "album": "B", "album_id": "b1", "duration_ms": 1000}),
                json!({"id": 2, "name": "Two", "artist": "A"}),
            ],
            &[json!({"id": "u1"}), json!({"id": 7})],
            &[
                json!({
                    "id": "p1", "user_id": 7, "title": "Full", "description": "said", "collaborative": true,
                    "num_followers": 1, "num_edits": 2, "num_albums": 3, "num_artists": 4, "duration_ms": 5,
                    "modified_at": "2017-07-14T02:40:00Z", "tracks": ["t1", 2, "t1"]
                }),
                json!({"id": 42, "user_id": "u2", "tracks": [{"id": "t3", "name": "Three", "artist": "C"}, "t1"]}),
            ],
        )
        .await;
    assert_eq!((report.files, report.rejected, playlists(&report)), (3, 0, [2, 0, 0]), "{report:?}");
    assert_eq!((report.outcome.tracks_added, report.outcome.users_added), (3, 3));
    assert_eq!(
        imports.contents().await,
        [
            r#"["album", "b1", "B", "a1", "A"]"#,
            r#"["artist", "a1", "A"]"#,
            r#"["artist", null, "C"]"#,
            r#"["placement", "42", 0, "t3"]"#,
            r#"["placement", "42", 1, "t1"]"#,
            r#"["placement", "p1", 0, "t1"]"#,
            r#"["placement", "p1", 1, "2"]"#,
            r#"["placement", "p1", 2, "t1"]"#,
            r#"["playlist", "42", null, null, false, null, null, 2, null, null, null, null]"#,
            r#"["playlist", "p1", "Full", "said", true, 1, 2, 3, 3, 4, 5, "2017-07-14T02:40:00+00:00"]"#,
            r#"["track", "2", "Two", "a1", "A", null, null, null]"#,
            r#"["track", "t1", "One", "a1", "A", "b1", "B", 1000]"#,
            r#"["track", "t3", "Three", null, "C", null, null, null]"#,
        ]
    );
    let owners =
        "SELECT p.external_id || ' ' || u.external_id FROM playlists p JOIN users u ON u.id = p.user_id ORDER BY 1";
    assert_eq!(imports.database.texts(owners).await, ["42 u2", "p1 7"]);
}

#[tokio::test]
async fn a_later_row_of_the_same_id_is_right_and_says_no_less_than_it_says() {
    let imports = Imports::new().await;
    let track = |name: &str| json!({"id": "t1", "name": name, "artist": "A"});
    let report = imports
        .rows(
            &[track("Once"), track("Twice")],
            &[],
            &[
                json!({"id": "p1", "title": "first", "user_id": "u1", "tracks": []}),
                json!({"id": "p1", "tracks": ["t1"]}),
            ],
        )
        .await;
    assert_eq!((report.rejected, playlists(&report)), (0, [1, 1, 0]), "{report:?}");
    let contents = imports.contents().await;
    assert!(contents.contains(&r#"["track", "t1", "Twice", null, "A", null, null, null]"#.to_owned()), "{contents:?}");
    assert!(contents.iter().any(|line| line.starts_with(r#"["playlist", "p1", "first""#)), "{contents:?}");
    assert_eq!(imports.database.texts("SELECT count(user_id)::text FROM playlists").await, ["1"]);
}

#[tokio::test]
async fn bad_lines_are_listed_with_their_numbers_and_fields_and_the_rest_is_imported() {
    let imports = Imports::new().await;
    let lines = [
        r#"{"id": "p1", "tracks": []}"#,
        r#"{"id": "p2", "tracks": [}"#,
        "",
        r#"{"id": "p3", "titel": "typo", "tracks": []}"#,
        r#"{"id": "p4"}"#,
        r#"{"id": "p5", "tracks": ["t1", {"name": "Two"}]}"#,
        r#"{"id": "", "tracks": []}"#,
        r#"{"id": "p7", "tracks": [], "num_followers": -1}"#,
        r#"{"id": "p8", "tracks": [], "modified_at": "yesterday"}"#,
        r#"{"id": "p9", "tracks": []} and more"#,
        r#"["p10"]"#,
        r#"{"id": "p11", "tracks": [true]}"#,
        "{\"id\": \"p12\", \"title\": \"\u{0}\", \"tracks\": []}",
        r#"{"id": "p13", "tracks": []}"#,
    ];
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(b"\n{\"id\": \"p14\xff\", \"tracks\": []}\n");
    let playlists = vec![imports.write("playlists.ndjson", &bytes)];
    let report = imports.ndjson(NdjsonFiles { playlists, ..NdjsonFiles::default() }).await;
    assert_eq!(report.failed_files, []);
    let rejects = imports.rejects();
    assert_eq!((report.rows, report.rejected, report.omitted), (14, 7, 5));
    let expected = [
        (2, "", "column 25"),
        (4, "", "unknown field `titel`"),
        (6, " tracks[1]", "id: must not be empty"),
        (7, "", "id: must not be empty"),
        (8, " num_followers", "num_followers: must not be negative"),
        (9, " modified_at", "modified_at: must be a time"),
        (10, "", "trailing"),
        (11, "", "expected a JSON object"),
        (12, " tracks[0]", "must be a track: its id"),
        (13, "", "control character"),
        (15, "", "not UTF-8 at byte"),
        (6, " tracks[0]", "the catalog has no track \"t1\""),
    ];
    for (reject, (line, field, words)) in rejects.iter().zip(expected) {
        assert_eq!(reject["item"], format!("line {line}{field}"), "{reject}");
        let reason = reject["reason"].as_str().expect("a reason");
        assert!(reason.contains(words), "{words}: {reason}");
        let offset = reject["offset"].as_u64().expect("an offset") as usize;
        let before = bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(before + 1, line, "{reject}");
    }
    assert_eq!(rejects.len(), expected.len());
    let ids = imports.database.texts("SELECT external_id FROM playlists ORDER BY 1").await;
    assert_eq!(ids, ["p1", "p11", "p13", "p4", "p5", "p7", "p8"]);
}

#[tokio::test]
async fn a_playlist_with_tracks_that_are_not_there_is_imported_without_them_and_each_is_listed() {
    let imports = Imports::new().await;
    let track = json!({"id": "t1", "name": "One", "artist": "A"});
    let rows = [json!({"id": "p1", "tracks": ["gone", "t1", "gone too"]}), json!({"id": "p2", "tracks": ["gone"]})];
    let report = imports.rows(&[track], &[], &rows).await;
    assert_eq!((report.omitted, report.outcome.placements, playlists(&report)), (3, 1, [2, 0, 0]), "{report:?}");
    let rejects = imports.rejects();
    let items: Vec<&Value> = rejects.iter().map(|reject| &reject["item"]).collect();
    assert_eq!(items, ["line 1 tracks[0]", "line 1 tracks[2]", "line 2 tracks[0]"]);
    assert!(rejects[1]["reason"].as_str().expect("a reason").contains("no track \"gone too\""), "{rejects:?}");
    let contents = imports.contents().await;
    assert!(contents.contains(&r#"["placement", "p1", 0, "t1"]"#.to_owned()), "{contents:?}");
    assert!(contents.iter().any(|line| line.starts_with(r#"["playlist", "p2", null, null, false, null, null, 0,"#)));
    assert_eq!(playlists(&imports.rows(&[], &[], &rows).await), [0, 0, 2]);
}

#[tokio::test]
async fn tracks_of_a_slice_can_be_named_by_rows_of_playlists() {
    let imports = Imports::new().await;
    let catalog = imports.database.catalog().await;
    let slice = imports.write("slice.json", slice(&[bare_playlist(1, vec![bare_track("t:1", "One", "A")])]));
    crate::import(&catalog, imports.path(), &[slice]).await;
    catalog.close().await;
    let report = imports.rows(&[], &[], &[json!({"id": "mine", "tracks": ["t:1", "t:1"]})]).await;
    assert_eq!((report.rejected, report.outcome.placements), (0, 2), "{report:?}");
}

#[tokio::test]
async fn an_import_of_lines_stops_between_batches_and_the_next_run_does_the_rest() {
    let imports = Imports::new().await;
    let rows: String = (0..30_000).map(|id| format!("{{\"id\": {id}, \"tracks\": []}}\n")).collect();
    let files = NdjsonFiles { playlists: vec![imports.write("playlists.ndjson", rows)], ..NdjsonFiles::default() };
    let catalog = imports.database.catalog().await;
    let interrupt = Interrupt::default();
    interrupt.raise();
    let report = import_ndjson(&catalog, &files, &imports.path().join("rejects"), &interrupt).await.expect("an import");
    assert!(report.interrupted);
    let first = report.outcome.playlists_added;
    assert!(first > 0 && first < 30_000, "{first}");
    catalog.close().await;
    let rest = imports.ndjson(files).await;
    assert_eq!(playlists(&rest), [30_000 - first, 0, first]);
}

#[tokio::test]
async fn rows_that_another_program_wrote_are_read_as_it_meant_them() {
    let imports = Imports::new().await;
    let tracks = imports.write(
        "tracks.ndjson",
        "\u{feff}{\"id\": \" p1 \", \"name\": \" A \", \"artist\": \"X\", \"duration_ms\": 200000.0}\n\
         {\"id\": 3.0, \"name\": \"half \\ud83d\", \"artist\": \"X\", \"duration_ms\": null, \"album\": \"\", \"album_id\": \"\"}\n\
         {\"id\": 9007199254740993, \"name\": null, \"artist\": \"\", \"duration_ms\": 200000.5}\n\
         {\"id\": 18446744073709551616, \"name\": \"A\"}\n",
    );
    let playlists = imports.write(
        "playlists.ndjson",
        "{\"id\": \"q1\", \"title\": \"a\", \"tracks\": [\"p1\", null, \"\"], \"num_followers\": \"1.0\"}\n\
         {\"id\": \"q2\", \"tracks\": [3.0], \"modified_at\": \"2023-11-14 22:13:20\"}\n\
         {\"id\": \"q3\", \"tracks\": [\" p1\"], \"modified_at\": 1700000000000}\n",
    );
    let files = NdjsonFiles { tracks: vec![tracks], playlists: vec![playlists], ..NdjsonFiles::default() };
    let report = imports.ndjson(files).await;
    assert_eq!((report.rows, report.rejected, report.omitted), (7, 1, 3), "{:?}", imports.rejects());
    let rows = "SELECT concat_ws('|', uri, name, duration_ms) FROM tracks ORDER BY 1";
    let expected = ["3|half \u{fffd}", "9007199254740993|9007199254740993", "p1|A|200000"];
    assert_eq!(imports.database.texts(rows).await, expected);
    let rows = "SELECT concat_ws('|', external_id, num_tracks, num_followers, extract(epoch FROM modified_at)::bigint)
                FROM playlists ORDER BY 1";
    assert_eq!(imports.database.texts(rows).await, ["q1|1|1", "q2|1|1700000000", "q3|1|1700000000"]);
    // A row that says nothing of the tracks leaves them.
    let again = imports.write("again.ndjson", "{\"id\": \"q1\", \"title\": \"b\"}\n");
    let report = imports.ndjson(NdjsonFiles { playlists: vec![again], ..NdjsonFiles::default() }).await;
    assert_eq!(report.outcome.playlists_changed, 1);
    let rows =
        "SELECT concat_ws('|', title, num_tracks, (SELECT count(*) FROM playlist_tracks WHERE playlist_id = p.id))
                FROM playlists p WHERE external_id = 'q1'";
    assert_eq!(imports.database.texts(rows).await, ["b|1|1"]);
    // A list of rows is not a row a line.
    let list = imports.write("list.ndjson", "[{\"id\": 1}]\n");
    let report = imports.ndjson(NdjsonFiles { users: vec![list], ..NdjsonFiles::default() }).await;
    assert!(report.failed_files[0].reason.contains("a bare array"), "{report:?}");
}
