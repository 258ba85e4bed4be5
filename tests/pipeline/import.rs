//! What of good and bad files comes into the catalog, and what is said of the rest.

use std::fs;
use std::path::{Path, PathBuf};

use segue::import::{ImportError, ImportReport};
use serde_json::{Value, json};

use crate::import;
use crate::support::database::Database;
use crate::support::slices::{bare_playlist, bare_track, bare_tracks, generated, gzip, slice, write};

/// A database, a folder for files, and what came of importing them.
struct Imported {
    database: Database,
    folder: tempfile::TempDir,
    report: ImportReport,
}

/// Imports files of these names and contents, in this order.
async fn imported(files: &[(&str, Vec<u8>)]) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = files.iter().map(|(name, bytes)| write(folder.path(), name, bytes)).collect();
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let report = import(&catalog, folder.path(), &paths).await;
    catalog.close().await;
    Imported { database, folder, report }
}

impl Imported {
    async fn playlists(&self) -> Vec<String> {
        self.database.texts(r#"SELECT external_id FROM playlists ORDER BY external_id COLLATE "C""#).await
    }

    /// Uris of a playlist's tracks in order, by the playlist's id.
    async fn placements(&self) -> Vec<String> {
        self.database
            .texts(
                r#"SELECT p.external_id || ' ' || pt.position || ' ' || t.uri
                   FROM playlists p JOIN playlist_tracks pt ON pt.playlist_id = p.id JOIN tracks t ON t.id = pt.track_id
                   ORDER BY p.external_id COLLATE "C", pt.position"#,
            )
            .await
    }

    /// The one file that was refused, and why.
    #[track_caller]
    fn refused(&self) -> (String, String) {
        let [failed] = self.report.failed_files.as_slice() else { panic!("{:?}", self.report) };
        (failed.file.file_name().expect("a name").to_string_lossy().into_owned(), failed.reason.clone())
    }

    fn rejects(&self) -> Vec<Value> {
        let file = self.report.rejects_file.as_ref().expect("a file of rejects");
        assert_eq!(file, &self.folder.path().join("rejects.ndjson"));
        let text = fs::read_to_string(file).expect("rejects");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The number in "… (at byte 17)".
#[track_caller]
fn position(reason: &str) -> usize {
    let (_, rest) = reason.rsplit_once("(at byte ").unwrap_or_else(|| panic!("no position in {reason:?}"));
    rest.trim_end_matches(')').parse().expect("a number")
}

fn good(pid: &str) -> Vec<u8> {
    slice(&[bare_playlist(pid, bare_tracks(pid, 3))]).into_bytes()
}

#[tokio::test]
async fn a_truncated_json_file_is_refused_at_its_end_and_the_good_files_around_it_are_imported() {
    let whole = slice(&generated(3, 400, 1));
    let cut = whole.len() * 2 / 3;
    let imported = imported(&[
        ("before.json", good("before")),
        ("truncated.json", whole.as_bytes()[..cut].to_vec()),
        ("after.json", good("after")),
    ])
    .await;
    let (file, reason) = imported.refused();
    assert_eq!(file, "truncated.json");
    assert!(reason.contains("truncated"), "{reason}");
    assert!(position(&reason).abs_diff(cut) <= 1, "{reason}, cut at {cut}");
    assert_eq!(imported.playlists().await, ["after", "before"]);
    assert_eq!((imported.report.files, imported.report.outcome.playlists_added), (2, 2));
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused_as_truncated() {
    let whole = slice(&[bare_playlist("é", vec![bare_track("t:1", "One \u{1f3b5} \"quoted\"", "A")])]);
    let files: Vec<(String, Vec<u8>)> =
        (1..whole.len()).map(|cut| (format!("{cut}.json"), whole.as_bytes()[..cut].to_vec())).collect();
    let named: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let imported = imported(&named).await;
    assert_eq!(imported.report.failed_files.len(), files.len());
    for (failed, (_, bytes)) in imported.report.failed_files.iter().zip(&files) {
        assert!(position(&failed.reason) <= bytes.len(), "{failed:?}");
        // A cut in the middle of a character is not UTF-8 either, which is as good a reason.
        if std::str::from_utf8(bytes).is_ok() {
            assert!(failed.reason.contains("truncated"), "{failed:?}");
        }
    }
    assert_eq!(imported.playlists().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_truncated_gzip_file_is_refused_with_how_far_it_could_be_read() {
    let whole = slice(&generated(20, 400, 1));
    let packed = gzip(whole.as_bytes());
    let imported = imported(&[
        ("good.json.gz", gzip(&good("good"))),
        ("truncated.json.gz", packed[..packed.len() / 2].to_vec()),
        ("too.json.gz", gzip(&good("too"))),
    ])
    .await;
    let (file, reason) = imported.refused();
    assert_eq!(file, "truncated.json.gz");
    assert!(reason.contains("gzip file is truncated"), "{reason}");
    let position = position(&reason);
    assert!(position > 0 && position < whole.len(), "{reason} of {}", whole.len());
    assert_eq!(imported.playlists().await, ["good", "too"]);
}

#[tokio::test]
async fn a_gzip_file_without_its_last_byte_is_refused() {
    let packed = gzip(&good("whole"));
    let imported = imported(&[("last.json.gz", packed[..packed.len() - 1].to_vec())]).await;
    assert!(imported.refused().1.contains("truncated"));
    assert_eq!(imported.playlists().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_gzip_file_with_a_flipped_byte_is_refused() {
    let mut packed = gzip(slice(&generated(20, 400, 1)).as_bytes());
    let middle = packed.len() / 2;
    packed[middle] ^= 0xff;
    let imported = imported(&[("flipped.json.gz", packed), ("good.json", good("good"))]).await;
    assert_eq!(imported.refused().0, "flipped.json.gz");
    assert_eq!(imported.playlists().await, ["good"]);
}

#[tokio::test]
async fn malformed_json_is_refused_at_the_byte_that_is_wrong() {
    let text = String::from_utf8(good("bad")).expect("text");
    let (head, tail) = text.split_at(text.find("\"tracks\"").expect("tracks"));
    for (name, head) in [("one line", head.to_owned()), ("lines", head.replace(',', ",\n"))] {
        let wrong = format!("{head}oops {tail}");
        let imported = imported(&[("bad.json", wrong.into_bytes()), ("good.json", good("good"))]).await;
        let (file, reason) = imported.refused();
        assert_eq!(file, "bad.json", "{name}");
        assert_eq!(position(&reason), head.len(), "{name}: {reason}");
        assert_eq!(imported.playlists().await, ["good"], "{name}");
    }
}

#[tokio::test]
async fn json_that_is_no_slice_is_refused_saying_what_is_missing() {
    for (text, expected) in [
        (r#"{"info": {}}"#, "playlists"),
        (r#"[{"pid": 1, "tracks": []}]"#, "not a slice"),
        (r#"{"playlists": {"pid": 1}}"#, "not a slice"),
        (r#"{"playlists": []} trailing"#, "trailing"),
    ] {
        let imported = imported(&[("other.json", text.as_bytes().to_vec())]).await;
        let (_, reason) = imported.refused();
        assert!(reason.contains(expected), "{text}: {reason}");
        position(&reason);
    }
}

#[tokio::test]
async fn an_empty_file_is_refused_and_a_slice_without_playlists_is_a_good_one() {
    let imported = imported(&[
        ("zero.json", Vec::new()),
        ("no-playlists.json", br#"{"playlists": []}"#.to_vec()),
        ("good.json", good("good")),
    ])
    .await;
    let (file, reason) = imported.refused();
    assert_eq!((file.as_str(), reason.as_str()), ("zero.json", "the file is empty (at byte 0)"));
    assert_eq!(imported.report.files, 2);
    assert_eq!(imported.playlists().await, ["good"]);
    assert_eq!((imported.report.rejected, &imported.report.rejects_file), (0, &None));
    assert!(!imported.folder.path().join("rejects.ndjson").exists(), "nothing was rejected, so there is no file of it");
}

#[tokio::test]
async fn bad_rows_are_skipped_and_listed_with_file_position_row_and_reason() {
    let playlists = [
        bare_playlist(1, vec![bare_track("t:1", "One", "A"), json!({"track_uri": [], "artist_name": "A"})]),
        json!({"name": "neither pid nor tracks"}),
        bare_playlist(2, vec![bare_track("", "No uri", "A"), bare_track("t:3", "Three", "A"), json!("a text")]),
        json!(["no object"]),
        bare_playlist(1, bare_tracks("again", 1)),
        json!({"pid": 3, "num_followers": -1, "tracks": bare_tracks("negative", 1)}),
        json!({"pid": 4, "tracks": "none"}),
        json!({"pid": 5, "modified_at": i64::MAX, "tracks": bare_tracks("future", 1)}),
        bare_playlist(
            6,
            vec![json!({"track_uri": "t:4", "track_name": "Four", "artist_name": "A", "duration_ms": 5e9})],
        ),
        bare_playlist(7, vec![bare_track("t:\u{7}", "Bell", "A"), bare_track("t:5", "Five", "A")]),
    ];
    let expected: [(&str, &str, &Value, &str); 11] = [
        ("part", "playlists[0].tracks[1]", &playlists[0]["tracks"][1], "track_uri"),
        ("row", "playlists[1]", &playlists[1], "pid: must not be empty"),
        ("part", "playlists[2].tracks[0]", &playlists[2]["tracks"][0], "track_uri: must not be empty"),
        ("part", "playlists[2].tracks[2]", &playlists[2]["tracks"][2], "object"),
        ("row", "playlists[3]", &playlists[3], "object"),
        ("row", "playlists[4]", &playlists[4], "pid \"1\" occurs twice"),
        ("part", "playlists[5].num_followers", &playlists[5], "num_followers: must not be negative"),
        ("row", "playlists[6]", &playlists[6], "none"),
        ("part", "playlists[7].modified_at", &playlists[7], "years 1 to 9999"),
        ("part", "playlists[8].tracks[0].duration_ms", &playlists[8]["tracks"][0], "is too large"),
        ("part", "playlists[9].tracks[0]", &playlists[9]["tracks"][0], "control characters"),
    ];
    let text = slice(&playlists);
    for (name, bytes) in [("slice.json", text.clone().into_bytes()), ("slice.json.gz", gzip(text.as_bytes()))] {
        let imported = imported(&[(name, bytes)]).await;
        assert_eq!(imported.report.failed_files, [], "{name}");
        let rejects = imported.rejects();
        assert_eq!((imported.report.rows, imported.report.rejected, imported.report.omitted), (10, 4, 7));
        assert_eq!(rejects.len(), 11, "{rejects:#?}");
        for (skipped, item, row, reason) in expected {
            let reject = rejects.iter().find(|reject| reject["item"] == item);
            let reject = reject.unwrap_or_else(|| panic!("{item} is not among {rejects:#?}"));
            assert_eq!(reject["skipped"], skipped, "{item}");
            assert_eq!(reject["file"], json!(imported.folder.path().join(name)), "{item}");
            let offset = reject["offset"].as_u64().expect("an offset") as usize;
            // Of the decompressed file: the row as it was written begins there.
            assert!(text[offset..].starts_with(&row.to_string()), "{item}: {}", &text[offset..]);
            let said = reject["reason"].as_str().expect("a reason");
            assert!(!said.is_empty() && said.contains(reason), "{item}: {said}");
        }
        assert_eq!(imported.playlists().await, ["1", "2", "3", "5", "6", "7"], "{name}");
        assert_eq!(
            imported.placements().await,
            ["1 0 t:1", "2 0 t:3", "3 0 negative:0", "5 0 future:0", "6 0 t:4", "7 0 t:5"],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_field_of_no_use_costs_no_more_than_itself_and_is_listed() {
    let playlist = |pid: u32, field: &str, value: Value| {
        let mut playlist = bare_playlist(pid, bare_tracks("t", 1));
        playlist[field] = value;
        playlist
    };
    let track = |pid: u32, field: &str, value: Value| {
        let mut track = bare_track("t:1", "One", "A");
        track[field] = value;
        bare_playlist(pid, vec![track])
    };
    let useless = [
        playlist(1, "pid", json!("")),
        playlist(2, "pid", json!({})),
        playlist(3, "name", json!([])),
        playlist(4, "collaborative", json!("yes")),
        playlist(5, "num_followers", json!(-1)),
        playlist(6, "num_albums", json!(1.5)),
        playlist(7, "duration_ms", json!(1e20)),
        playlist(8, "modified_at", json!("soon")),
        playlist(9, "modified_at", json!(-90_000_000_000_i64)),
        playlist(10, "modified_at", json!(-213_000_000_000_i64)),
        playlist(11, "modified_at", json!("9999-12-31T23:59:59-23:59")),
        track(12, "duration_ms", json!("long")),
        track(13, "artist_name", json!(false)),
        track(14, "pos", json!(0.5)),
    ];
    let imported = imported(&[("slice.json", slice(&useless).into_bytes())]).await;
    let report = &imported.report;
    assert_eq!(
        (report.outcome.playlists_added, report.rejected, report.omitted),
        (14, 0, 14),
        "{:#?}",
        imported.rejects()
    );
    assert_eq!(report.outcome.placements, 14);
    let fields = ["pid", "pid", "name", "collaborative", "num_followers", "num_albums", "duration_ms", "modified_at"];
    for (number, field) in fields.into_iter().enumerate() {
        let reject = &imported.rejects()[number];
        assert_eq!(reject["item"], format!("playlists[{number}].{field}"));
    }
    let ids = imported.playlists().await;
    assert!(ids.contains(&"slice:0".to_owned()) && ids.contains(&"slice:1".to_owned()), "{ids:?}");
}

#[tokio::test]
async fn a_field_is_read_whatever_type_it_was_written_as() {
    let track = json!({"pos": 0.0, "track_uri": "t:1", "track_name": 99, "artist_name": "A", "duration_ms": 200_000.0});
    let full = |pid: Value, modified_at: Value| {
        json!({
            "pid": pid, "name": 123, "collaborative": "False", "num_followers": "1", "num_edits": 2.0, "num_albums": 7.0,
            "num_artists": "", "duration_ms": "3.0", "modified_at": modified_at, "tracks": [track]
        })
    };
    let playlists = [
        full(json!(8.0), json!(1_493_424_000)),
        full(json!(-7), json!(1_493_424_000.0)),
        full(json!("x"), json!(1_493_424_000_000_i64)),
        full(json!(9_007_199_254_740_993_u64), json!("2017-04-29")),
    ];
    let imported = imported(&[("typed.json", slice(&playlists).into_bytes())]).await;
    assert_eq!((imported.report.rejected, imported.report.omitted), (0, 0), "{:?}", imported.rejects());
    assert_eq!(imported.playlists().await, ["-7", "8", "9007199254740993", "x"]);
    let rows = "SELECT DISTINCT concat_ws(' ', title, collaborative, num_followers, num_edits, num_albums, num_artists,
                                          duration_ms, extract(epoch FROM modified_at)::bigint) FROM playlists";
    assert_eq!(imported.database.texts(rows).await, ["123 f 1 2 7 3 1493424000"]);
    assert_eq!(imported.database.texts("SELECT concat_ws(' ', name, duration_ms) FROM tracks").await, ["99 200000"]);
}

#[tokio::test]
async fn every_text_that_is_stored_is_bounded() {
    let (long, longer) = ("x".repeat(1_001), "y".repeat(10_001));
    let titled = json!({"pid": 1, "name": "z".repeat(10_000), "description": longer, "tracks": []});
    let playlists = [
        titled,
        bare_playlist(long.as_str(), Vec::new()),
        bare_playlist(2, vec![bare_track(&long, "Long uri", "A")]),
        bare_playlist(3, vec![bare_track("t:3", &long, &long)]),
        json!({"pid": 4, "name": "w".repeat(10_000_000), "tracks": []}),
    ];
    let imported = imported(&[("long.json", slice(&playlists).into_bytes())]).await;
    let items: Vec<Value> = imported.rejects().into_iter().map(|mut reject| reject["item"].take()).collect();
    let expected = [
        "playlists[0].description",
        "playlists[1].pid",
        "playlists[2].tracks[0]",
        "playlists[3].tracks[0].track_name",
        "playlists[3].tracks[0].artist_name",
        "playlists[4].name",
    ];
    assert_eq!(items, expected);
    assert_eq!(imported.playlists().await, ["1", "2", "3", "4", "long:1"]);
    assert_eq!(
        imported.database.texts("SELECT title FROM playlists WHERE title IS NOT NULL").await,
        ["z".repeat(10_000)]
    );
    assert_eq!(imported.placements().await, ["3 0 t:3"]);
}

#[tokio::test]
async fn what_text_can_not_hold_spoils_no_more_than_itself() {
    let text = r#"{"playlists": [
        {"pid": 1, "name": "nul \u0000 inside", "tracks": [
            {"track_uri": "t:1", "track_name": "One\u0000", "artist_name": "\u0000A"},
            {"track_uri": "t:2", "track_name": "half a pair \ud83c", "artist_name": "A"},
            {"track_uri": "t:3", "track_name": "a whole pair \ud83c\udfb5", "artist_name": "A"}]},
        {"pid": 2, "name": "half a pair \udfb5", "tracks": [null, {"track_uri": "t:4 \ud83c"}]},
        {"pid": 3, "tracks": []}]}"#;
    let imported = imported(&[("odd.json", text.as_bytes().to_vec())]).await;
    let items: Vec<Value> = imported.rejects().into_iter().map(|mut reject| reject["item"].take()).collect();
    // Two ids could both become the same one.
    assert_eq!(items, ["playlists[1].tracks[0]", "playlists[1].tracks[1]"]);
    assert_eq!(imported.playlists().await, ["1", "2", "3"]);
    let names = imported.database.texts("SELECT name FROM tracks ORDER BY uri").await;
    assert_eq!(names, ["One", "half a pair \u{fffd}", "a whole pair \u{1f3b5}"]);
    let titles = imported.database.texts("SELECT title FROM playlists WHERE title <> '' ORDER BY external_id").await;
    assert_eq!(titles, ["nul  inside", "half a pair \u{fffd}"]);
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over_and_what_is_no_text_is_named() {
    let marked = [b"\xef\xbb\xbf".to_vec(), good("marked")].concat();
    let wide: Vec<u8> =
        String::from_utf8(good("wide")).expect("text").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let imported = imported(&[
        ("marked.json", marked.clone()),
        ("marked.json.gz", gzip(&marked)),
        ("wide.json", wide.clone()),
        ("wide.json.gz", gzip(&wide)),
        ("archive.json", b"PK\x03\x04rest".to_vec()),
        ("packed.json", b"\x28\xb5\x2f\xfdrest".to_vec()),
        ("list.json", b"[{\"pid\": 1, \"tracks\": []}]".to_vec()),
    ])
    .await;
    let reasons: Vec<&str> = imported.report.failed_files.iter().map(|failed| failed.reason.as_str()).collect();
    for (reason, word) in reasons.iter().zip(["UTF-16", "UTF-16", "zip", "zstd", "a bare array"]) {
        assert!(reason.contains(word), "{reasons:?}");
    }
    assert_eq!((imported.report.files, imported.playlists().await), (2, vec!["marked".to_owned()]));
}

#[tokio::test]
async fn rejects_of_several_files_are_in_one_list_that_names_each() {
    let bad = |pid: &str| slice(&[bare_playlist(pid, vec![json!({})]), json!({})]).into_bytes();
    let imported = imported(&[("a.json", bad("a")), ("good.json", good("good")), ("b.json", bad("b"))]).await;
    let files: Vec<String> = imported
        .rejects()
        .iter()
        .map(|reject| Path::new(reject["file"].as_str().expect("a path")).file_name().expect("a name").to_owned())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, ["a.json", "a.json", "b.json", "b.json"]);
    assert_eq!((imported.report.rejected, imported.report.omitted), (2, 2));
}

#[tokio::test]
async fn every_column_is_filled_when_every_field_is_there() {
    let playlist = json!({
        "name": "Everything", "description": "all of it", "collaborative": "true", "pid": 42,
        "modified_at": 1_500_000_000, "num_tracks": 1, "num_albums": 1, "num_artists": 1, "num_followers": 7,
        "num_edits": 9, "duration_ms": 3_000_000_000_u64,
        "tracks": [{
            "pos": 0, "artist_name": "Artist", "track_uri": "track:1", "artist_uri": "artist:1", "track_name": "Track",
            "album_uri": "album:1", "album_name": "Album", "duration_ms": 240_000
        }]
    });
    let imported = imported(&[("full.json", slice(&[playlist]).into_bytes())]).await;
    assert_eq!(
        imported.database.contents().await,
        [
            r#"["album", "album:1", "Album", "artist:1", "Artist"]"#,
            r#"["artist", "artist:1", "Artist"]"#,
            r#"["placement", "42", 0, "track:1"]"#,
            r#"["playlist", "42", "Everything", "all of it", true, 7, 9, 1, 1, 1, 3000000000, "2017-07-14T02:40:00+00:00"]"#,
            r#"["track", "track:1", "Track", "artist:1", "Artist", "album:1", "Album", 240000]"#,
        ]
    );
}

#[tokio::test]
async fn what_a_file_leaves_out_is_null() {
    let imported = imported(&[("bare.json", slice(&[bare_playlist(42, bare_tracks("bare", 1))]).into_bytes())]).await;
    assert_eq!(
        imported.database.contents().await,
        [
            r#"["artist", null, "bare"]"#,
            r#"["placement", "42", 0, "bare:0"]"#,
            r#"["playlist", "42", null, null, false, null, null, 1, null, null, null, null]"#,
            r#"["track", "bare:0", "Track 0", null, "bare", null, null, null]"#,
        ]
    );
}

#[tokio::test]
async fn the_order_of_tracks_is_kept_and_a_track_may_be_there_twice() {
    let [one, two] = [bare_track("t:1", "One", "A"), bare_track("t:2", "Two", "A")];
    let tracks = vec![two.clone(), one.clone(), two.clone(), two, one];
    let imported = imported(&[("order.json", slice(&[bare_playlist(1, tracks)]).into_bytes())]).await;
    assert_eq!(imported.placements().await, ["1 0 t:2", "1 1 t:1", "1 2 t:2", "1 3 t:2", "1 4 t:1"]);
    assert_eq!(imported.report.outcome.tracks_added, 2);
    assert_eq!(imported.report.outcome.placements, 5);
}

#[tokio::test]
async fn collaborative_may_be_quoted_as_in_the_data_set_or_plain() {
    let playlists: Vec<Value> = [json!("true"), json!(true), json!("false"), json!(false)]
        .into_iter()
        .enumerate()
        .map(|(pid, collaborative)| json!({"pid": pid, "collaborative": collaborative, "tracks": []}))
        .collect();
    let imported = imported(&[("flags.json", slice(&playlists).into_bytes())]).await;
    let sql = "SELECT collaborative::text FROM playlists ORDER BY external_id";
    assert_eq!(imported.database.texts(sql).await, ["true", "true", "false", "false"]);
}

#[tokio::test]
async fn text_that_looks_like_sql_or_has_odd_characters_is_kept_as_it_is() {
    let name = "Robert'); DROP TABLE tracks;-- \\N \t \u{1f3b6} {\"a\"}";
    let playlist = json!({"pid": "p\\N", "name": name, "tracks": [bare_track("t:\\.", name, name)]});
    let imported = imported(&[("odd.json", slice(&[playlist]).into_bytes())]).await;
    assert_eq!(imported.database.texts("SELECT title FROM playlists").await, [name]);
    assert_eq!(imported.database.texts("SELECT name FROM tracks").await, [name]);
    assert_eq!(imported.database.texts("SELECT name FROM artists").await, [name]);
    assert_eq!(imported.placements().await, ["p\\N 0 t:\\."]);
}

#[tokio::test]
async fn what_one_mention_of_a_track_leaves_out_another_one_in_the_same_file_says() {
    let full = json!({
        "track_uri": "t:1", "track_name": "One", "artist_name": "A", "artist_uri": "a:1", "album_uri": "b:1",
        "album_name": "B", "duration_ms": 1_000
    });
    let playlists = [bare_playlist(1, vec![bare_track("t:1", "One", "A")]), bare_playlist(2, vec![full])];
    let imported = imported(&[("both.json", slice(&playlists).into_bytes())]).await;
    let tracks: Vec<String> =
        imported.database.contents().await.into_iter().filter(|line| line.starts_with("[\"track\"")).collect();
    assert_eq!(tracks, [r#"["track", "t:1", "One", "a:1", "A", "b:1", "B", 1000]"#]);
}

#[tokio::test]
async fn an_artist_named_with_and_without_its_uri_in_one_file_is_one_artist() {
    let with_uri = json!({"track_uri": "t:2", "track_name": "Two", "artist_name": "A", "artist_uri": "a:1"});
    for tracks in
        [vec![bare_track("t:1", "One", "A"), with_uri.clone()], vec![with_uri.clone(), bare_track("t:1", "One", "A")]]
    {
        let imported = imported(&[("both.json", slice(&[bare_playlist(1, tracks)]).into_bytes())]).await;
        let artists = imported.database.texts("SELECT concat(uri, ' ', name) FROM artists").await;
        assert_eq!(artists, ["a:1 A"]);
    }
}

#[tokio::test]
async fn a_folder_gives_its_slices_by_number_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let playlist = |title: &str| slice(&[json!({"pid": 1, "name": title, "tracks": []})]);
    write(folder.path(), "mpd.slice.2000-2999.json", playlist("third"));
    write(folder.path(), "mpd.slice.0-999.json.gz", gzip(playlist("first").as_bytes()));
    write(folder.path(), "mpd.slice.1000-1999.json", playlist("second"));
    write(folder.path(), "README.md", "not a slice");
    write(folder.path(), "challenge.json", "not one either");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let report = import(&catalog, folder.path(), &[folder.path().to_owned()]).await;
    assert_eq!((report.files, report.failed_files.len()), (3, 0), "{report:?}");
    // The last one to say it is right.
    assert_eq!(database.texts("SELECT title FROM playlists").await, ["third"]);
    catalog.close().await;
}

#[tokio::test]
async fn a_folder_without_slices_and_a_path_that_is_not_there_are_refused_before_anything_is_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let good_file = write(folder.path(), "good.json", good("good"));
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let missing = folder.path().join("missing.json");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    for (path, reason) in [(&empty, "no mpd.slice"), (&missing, "No such file")] {
        let error = segue::import::import_mpd(
            &catalog,
            &[good_file.clone(), path.clone()],
            &folder.path().join("rejects"),
            &Default::default(),
        )
        .await
        .expect_err("refused");
        assert!(matches!(&error, ImportError::Path { path: named, .. } if named == path), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(database.contents().await, Vec::<String>::new());
    catalog.close().await;
}

#[tokio::test]
async fn a_file_of_several_gzip_members_is_read_whole() {
    let text = slice(&[bare_playlist(1, bare_tracks("t", 2))]);
    let (head, tail) = text.as_bytes().split_at(text.len() / 2);
    let imported = imported(&[("members.json.gz", [gzip(head), gzip(tail)].concat())]).await;
    assert_eq!(imported.report.failed_files, []);
    assert_eq!(imported.placements().await, ["1 0 t:0", "1 1 t:1"]);
}
