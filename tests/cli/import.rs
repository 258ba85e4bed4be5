//! `segue import`.

use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::database::Database;
use crate::support::program::{Home, Running, text};
use crate::support::slices::{bare_playlist, bare_tracks, gzip, slice, write};
use crate::support::{ClosedPort, wait_until};

/// The rest of a report's line, with single spaces.
#[track_caller]
fn line(report: &str, name: &str) -> String {
    let rest = report.lines().find_map(|line| line.strip_prefix(name));
    let rest = rest.unwrap_or_else(|| panic!("no {name} in {report}"));
    rest.split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[tokio::test]
async fn a_truncated_file_ends_with_1_and_is_named_and_the_others_are_imported() {
    let home = Home::new();
    let database = Database::new().await;
    let good = slice(&[bare_playlist("good", bare_tracks("t", 3))]);
    write(home.path(), "good.json", &good);
    write(home.path(), "cut.json", &good[..good.len() / 2]);
    let finished = home.segue(&["import", "mpd", "cut.json", "good.json", "--database-url", database.url()]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let refused = finished.stdout.lines().find(|line| line.starts_with("REJECTED")).expect("a line");
    assert!(refused.contains("cut.json") && refused.contains("truncated (at byte "), "{refused}");
    assert_eq!(line(&finished.stdout, "playlists"), "1 0 0");
    assert_eq!(database.texts("SELECT external_id FROM playlists").await, ["good"]);
}

#[tokio::test]
async fn the_report_as_json_says_what_was_written_and_where_the_rejects_are() {
    let home = Home::new();
    let database = Database::new().await;
    let playlists = [bare_playlist(1, bare_tracks("t", 3)), bare_playlist(2, vec![json!({"track_name": "no uri"})])];
    write(home.path(), "slice.json", slice(&playlists));
    write(home.path(), "cut.json", "{\"playlists\": [");
    let arguments = ["import", "mpd", "slice.json", "cut.json", "--database-url", database.url(), "--format", "json"];
    let finished = home.segue(&arguments).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON and nothing else");
    for (field, expected) in [
        ("files", json!(1)),
        ("playlists_added", json!(2)),
        ("placements", json!(3)),
        ("tracks_added", json!(3)),
        ("artists_added", json!(1)),
        ("rows", json!(2)),
        ("rejected", json!(0)),
        ("omitted", json!(1)),
        ("omitted_reasons", json!([{"reason": "tracks[]: track_uri: must not be empty", "count": 1}])),
        ("interrupted", json!(false)),
    ] {
        assert_eq!(report[field], expected, "{field} of {report}");
    }
    assert_eq!(report["failed_files"][0]["file"], "cut.json");
    assert!(report["failed_files"][0]["reason"].as_str().is_some_and(|reason| reason.contains("at byte")), "{report}");
    // By default below the home folder.
    let rejects = report["rejects_file"].as_str().expect("a file");
    assert!(rejects.starts_with(text(&home.path().join("data/rejects"))), "{rejects}");
    let line = std::fs::read_to_string(rejects).expect("rejects");
    let reject: Value = serde_json::from_str(&line).expect("one line");
    assert_eq!(reject["item"], "playlists[1].tracks[0]");
}

#[tokio::test]
async fn rejects_go_where_they_are_told_to() {
    let home = Home::new();
    let database = Database::new().await;
    write(home.path(), "slice.json", slice(&[bare_playlist(1, Vec::new()), json!({})]));
    let arguments =
        ["import", "mpd", "slice.json", "--database-url", database.url(), "--rejects", "a/b/rejects.ndjson"];
    let printed = home.segue(&arguments).succeed();
    assert_eq!(line(&printed, "rejected"), "1 row");
    assert_eq!(line(&printed, "listed in"), "a/b/rejects.ndjson");
    assert!(home.path().join("a/b/rejects.ndjson").is_file());
}

#[tokio::test]
async fn a_path_that_is_not_there_and_a_folder_without_slices_end_with_1_and_are_named() {
    let home = Home::new();
    let database = Database::new().await;
    std::fs::create_dir(home.path().join("hollow")).expect("a folder");
    for (path, word) in [("nowhere.json", "No such file"), ("hollow", "no mpd.slice")] {
        let finished = home.segue(&["import", "mpd", path, "--database-url", database.url()]).run();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(path) && finished.stderr.contains(word), "{finished:?}");
    }
}

#[test]
fn a_database_that_does_not_answer_ends_with_1_soon_and_is_what_the_error_is_about() {
    let home = Home::new();
    write(home.path(), "slice.json", slice(&[]));
    let port = ClosedPort::new();
    let url = format!("postgres://app:hunter2@127.0.0.1:{}/music", port.number());
    let began = std::time::Instant::now();
    let finished = home.segue(&["import", "mpd", "slice.json"]).env("DATABASE_URL", &url).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    // Not after the half minute that a pool would try.
    assert!(began.elapsed().as_secs() < 25, "{:?}", began.elapsed());
    let error = finished.stderr.lines().last().expect("an error");
    assert!(error.starts_with("error: "), "{finished:?}");
    assert!(error.contains(&format!("127.0.0.1:{}", port.number())), "the error does not say which database: {error}");
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}

#[tokio::test]
async fn playlists_without_artists_need_a_flag_which_the_error_names() {
    let home = Home::new();
    let database = Database::new().await;
    write(home.path(), "shop.txt", "85116 x 22375 x\n22492 x\n");
    let url = ["--database-url", database.url()];
    let finished = home.segue(&[&["import", "deezer", "shop.txt"], &url[..]].concat()).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let refused = finished.stdout.lines().find(|line| line.starts_with("REJECTED")).expect("a line");
    assert!(refused.contains("shop.txt") && refused.contains("--placeholder-artists"), "{refused}");
    let printed =
        home.segue(&[&["import", "deezer", "--placeholder-artists", "shop.txt"], &url[..]].concat()).succeed();
    assert_eq!(line(&printed, "playlists"), "2 0 0");
    assert!(printed.contains("3 placements"), "{printed}");
}

#[tokio::test]
async fn rows_of_ones_own_come_in_one_command_whatever_the_order_of_flags() {
    let home = Home::new();
    let database = Database::new().await;
    write(home.path(), "tracks.ndjson", "{\"id\": 1, \"name\": \"One\", \"artist\": \"A\"}\n{\"id\": true}\n");
    write(home.path(), "users.ndjson", "{\"id\": \"u\"}\n");
    write(home.path(), "playlists.ndjson", "{\"id\": 7, \"tracks\": [1, 2]}\n");
    let arguments = [
        "import",
        "ndjson",
        "--playlists",
        "playlists.ndjson",
        "--tracks",
        "tracks.ndjson",
        "--users",
        "users.ndjson",
        "--format",
        "json",
        "--rejects",
        "rejects.ndjson",
        "--database-url",
        database.url(),
    ];
    let report: Value = serde_json::from_str(&home.segue(&arguments).succeed()).expect("JSON");
    for (field, expected) in [
        ("files", 3),
        ("rows", 4),
        ("tracks_added", 1),
        ("users_added", 1),
        ("placements", 1),
        ("rejected", 1),
        ("omitted", 1),
    ] {
        assert_eq!(report[field], expected, "{field} of {report}");
    }
    let rejects = std::fs::read_to_string(home.path().join("rejects.ndjson")).expect("rejects");
    let rejects: Vec<Value> = rejects.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rejects[0]["item"], "line 2");
    assert_eq!(rejects[0]["reason"], "id: must be an id: text or a whole number, not true");
    assert_eq!(rejects[1]["item"], "line 1 tracks[1]");
}

#[tokio::test]
async fn radio_playlists_are_imported_from_a_folder() {
    let home = Home::new();
    let database = Database::new().await;
    let folder = home.path().join("yes_tiny");
    write(&folder, "train.txt", "900 901 \n2 1 \n0 1 \n0 \n");
    write(&folder, "song_hash.txt", "0\tFirst\tNobody\n1\tSecond\tSomebody\n");
    let printed = home.segue(&["import", "yes-radio", "yes_tiny", "--database-url", database.url()]).succeed();
    assert_eq!(line(&printed, "playlists"), "2 0 0");
    assert!(printed.contains("3 placements"), "{printed}");
}

#[tokio::test]
async fn an_import_in_which_no_row_was_right_ends_with_1_and_says_why_and_which_flag_helps() {
    let home = Home::new();
    let database = Database::new().await;
    let url = ["--database-url", database.url()];
    // A time of the year 5138.
    write(home.path(), "future.csv", "user_id,track_id,rating,rated_at\nu,t,4,99999999999\n");
    write(home.path(), "tracks.ndjson", "{\"name\": \"no id\"}\n");
    write(home.path(), "slice.json", "{\"playlists\": [5, 6]}");
    for (arguments, reason) in [
        (["ratings", "future.csv", "--lowest=0"], "1 × rated_at: must not be in the future"),
        (["ndjson", "--tracks", "tracks.ndjson"], "1 × id: must not be empty"),
        (["mpd", "slice.json", "slice.json"], "4 × must be an object"),
    ] {
        let finished = home.segue(&[&["import"], &arguments[..], &url[..]].concat()).run();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(
            finished.stdout.contains(reason) && finished.stdout.contains("no row could be imported"),
            "{finished:?}"
        );
    }
    let rows: Vec<String> = (0..1_200).map(|row| format!("u{row},t,{}", row % 10 + 1)).collect();
    write(home.path(), "ten.csv", format!("user_id,track_id,rating\n{}\n", rows.join("\n")));
    let printed = home.segue(&[&["import", "ratings", "ten.csv"], &url[..]].concat()).succeed();
    assert!(printed.contains("600 × rating: must be a number from 0.5 to 5"), "{printed}");
    assert!(line(&printed, "hint").contains("--highest 10 accepts them"), "{printed}");
    // One setting at the top of the file is the scale of the import and of the server.
    write(home.path(), "segue.toml", "rating_highest = 10\n");
    let printed = home.segue(&[&["import", "ratings", "ten.csv"], &url[..]].concat()).succeed();
    assert_eq!((line(&printed, "rejected"), line(&printed, "ratings")), ("0 rows".to_owned(), "600 0 600".to_owned()));
    assert!(home.segue(&["config"]).succeed().contains("rating_highest = 10"));
}

#[tokio::test]
async fn an_import_from_a_pipe_that_never_ends_stops_when_it_is_asked_to() {
    let home = Home::new();
    let database = Database::new().await;
    let arguments = ["import", "ndjson", "--tracks", "pipe", "--database-url", database.url()];
    let (running, mut writer) = start_from_pipe(&home, &arguments);
    std::io::Write::write_all(&mut writer, b"{\"id\": 1}\n").expect("written");
    running.terminate();
    let finished = running.finish();
    assert_eq!(finished.code, Some(130), "{finished:?}");
    drop(writer);
}

#[tokio::test]
async fn playlists_that_the_source_no_longer_has_are_removed_if_that_is_asked_for_and_all_of_it_was_right() {
    let home = Home::new();
    let database = Database::new().await;
    let import = |playlists: &[Value], flags: &[&str]| {
        write(home.path(), "slice.json", slice(playlists));
        let arguments = [&["import", "mpd", "slice.json", "--database-url", database.url()], flags].concat();
        home.segue(&arguments).succeed()
    };
    let [one, two, three] = [1, 2, 3].map(|pid| bare_playlist(pid, bare_tracks("t", 2)));
    import(&[one.clone(), two.clone(), three], &[]);
    let printed = import(&[one.clone(), json!(5)], &["--prune"]);
    assert!(line(&printed, "hint").contains("nothing was removed"), "{printed}");
    let ids = "SELECT external_id FROM playlists ORDER BY 1";
    assert_eq!(database.texts(ids).await, ["1", "2", "3"]);
    let printed = import(&[one, two], &["--prune"]);
    assert_eq!(line(&printed, "removed"), "1 playlist that the source does not have");
    assert_eq!(database.texts(ids).await, ["1", "2"]);
    assert_eq!(database.texts("SELECT count(*)::text FROM playlist_tracks").await, ["4"]);
}

/// Starts an import whose first file is `pipe`, and returns it with the pipe once it reads, so that it has begun.
fn start_from_pipe(home: &Home, arguments: &[&str]) -> (Running, std::fs::File) {
    let pipe = home.path().join("pipe");
    let _ = std::fs::remove_file(&pipe);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let running = home.segue(arguments).start();
    // Opening waits for the reader.
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).expect("a reader");
    (running, writer)
}

const RATINGS: &str = "SELECT u.external_id || ' ' || t.uri FROM ratings r JOIN users u ON u.id = r.user_id
                       JOIN tracks t ON t.id = r.track_id ORDER BY 1";

#[tokio::test]
async fn ratings_that_the_source_no_longer_has_are_removed_but_those_that_others_wrote_meanwhile() {
    let (home, database) = (Home::new(), Database::new().await);
    let table = |rows: &str| format!("user_id,track_id,rating\n{rows}");
    write(home.path(), "all.csv", table("u1,a,1\nu1,b,2\nu2,a,3\nu2,c,4\nu3,c,5\n"));
    let url = ["--database-url", database.url()];
    home.segue(&[&["import", "ratings", "all.csv"], &url[..]].concat()).succeed();
    let all = database.texts(RATINGS).await;
    assert_eq!(all, ["u1 a", "u1 b", "u2 a", "u2 c", "u3 c"]);

    // A rejected row, a damaged file, an interrupt and a file without rows remove nothing.
    let packed = gzip(table(&"u1,a,1\n".repeat(5_000)).as_bytes());
    write(home.path(), "rejected.csv", table("u1,a,1\nu2,c,none\n"));
    write(home.path(), "cut.csv.gz", &packed[..packed.len() - 12]);
    write(home.path(), "empty.csv", table(""));
    for (file, hint) in [
        ("rejected.csv", "nothing was removed, because the source was not imported as a whole"),
        ("cut.csv.gz", "nothing was removed, because the source was not imported as a whole"),
        ("empty.csv", "no ratings were removed, because the source has none at all"),
    ] {
        let finished = home.segue(&[&["import", "ratings", file, "--prune"], &url[..]].concat()).run();
        assert_eq!(line(&finished.stdout, "hint"), hint, "{file}");
        assert_eq!(database.texts(RATINGS).await, all, "{file}");
    }
    let prune = [&["import", "ratings", "pipe", "--prune"], &url[..]].concat();
    let (running, mut pipe) = start_from_pipe(&home, &prune);
    std::io::Write::write_all(&mut pipe, table("u1,a,1\n").as_bytes()).expect("written");
    running.terminate();
    assert_eq!(running.finish().code, Some(130));
    assert_eq!(database.texts(RATINGS).await, all);

    let (running, mut pipe) = start_from_pipe(&home, &prune);
    let mut other = database.connect().await;
    let meanwhile = "UPDATE ratings SET rating = 5, updated_at = now() WHERE rating = 2;
                     INSERT INTO ratings SELECT u.id, t.id, 1, now() FROM users u, tracks t WHERE (external_id, uri) = ('u3', 'b')";
    sqlx::raw_sql(meanwhile).execute(&mut other).await.expect("written");
    std::io::Write::write_all(&mut pipe, table("u1,a,1\nu2,c,4\n").as_bytes()).expect("written");
    drop(pipe);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(line(&finished.stdout, "removed"), "2 ratings that the source does not have");
    assert_eq!(
        line(&finished.stdout, "kept"),
        "2 ratings that it does not have either: written since the import began"
    );
    assert_eq!(database.texts(RATINGS).await, ["u1 a", "u1 b", "u2 c", "u3 b"]);
}

#[tokio::test]
async fn tracks_and_users_that_the_source_no_longer_has_are_removed_unless_something_refers_to_them() {
    let (home, database) = (Home::new(), Database::new().await);
    let lines = |ids: &[&str]| ids.iter().map(|id| format!("{{\"id\": \"{id}\"}}\n")).collect::<String>();
    let ids = async || {
        let all = "SELECT uri FROM tracks UNION ALL SELECT external_id FROM users ORDER BY 1";
        database.texts(all).await
    };
    write(home.path(), "tracks", lines(&["t:placed", "t:rated", "t:played", "t:changed", "t:gone", "t:there"]));
    write(home.path(), "users", lines(&["u:owner", "u:rater", "u:listener", "u:gone", "u:late", "u:there"]));
    write(home.path(), "playlists", "{\"id\": 1, \"user_id\": \"u:owner\", \"tracks\": [\"t:placed\"]}\n");
    let import = ["import", "ndjson", "--database-url", database.url()];
    let all = ["--tracks", "tracks", "--users", "users", "--playlists", "playlists"];
    home.segue(&[&import[..], &all].concat()).succeed();
    let mut other = database.connect().await;
    let feedback = "INSERT INTO ratings SELECT u.id, t.id, 1, now() FROM users u, tracks t
                    WHERE (external_id, uri) = ('u:rater', 't:rated');
                    INSERT INTO listens SELECT u.id, t.id, now() FROM users u, tracks t
                    WHERE (external_id, uri) = ('u:listener', 't:played')";
    sqlx::raw_sql(feedback).execute(&mut other).await.expect("written");

    // Kinds without a file, or without a row, stay.
    write(home.path(), "some-tracks", lines(&["t:there"]));
    write(home.path(), "some-users", lines(&["u:there"]));
    write(home.path(), "none", "");
    let (running, mut pipe) =
        start_from_pipe(&home, &[&import[..], &["--tracks", "pipe", "--users", "none", "--prune"]].concat());
    let meanwhile =
        "UPDATE tracks SET name = 'new' WHERE uri = 't:changed'; INSERT INTO tracks (uri, name) VALUES ('t:new', 'n')";
    sqlx::raw_sql(meanwhile).execute(&mut other).await.expect("written");
    std::io::Write::write_all(&mut pipe, lines(&["t:there"]).as_bytes()).expect("written");
    drop(pipe);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let printed = finished.stdout;
    assert_eq!(line(&printed, "removed"), "1 track that the source does not have");
    assert!(line(&printed, "kept").starts_with("4 tracks that it does not have either"), "{printed}");
    assert_eq!(line(&printed, "hint"), "no users were removed, because the source has none at all");
    let tracks = ["t:changed", "t:new", "t:placed", "t:played", "t:rated", "t:there"];
    let users = ["u:gone", "u:late", "u:listener", "u:owner", "u:rater", "u:there"];
    assert_eq!(ids().await, [tracks, users].concat());
    assert_eq!(database.texts("SELECT uri FROM removed_tracks").await, ["t:gone"]);

    // A rating that is being written keeps its user.
    let mut transaction = other.begin().await.expect("begun");
    let late = "INSERT INTO ratings SELECT u.id, t.id, 1, now() FROM users u, tracks t
                WHERE (external_id, uri) = ('u:late', 't:rated')";
    sqlx::raw_sql(late).execute(&mut *transaction).await.expect("written");
    let running =
        home.segue(&[&import[..], &["--users", "some-users", "--prune", "--format", "json"]].concat()).start();
    wait_until("a wait for the user", async || {
        let waiting = "SELECT '' FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'
                       AND datname = current_database()";
        database.texts(waiting).await.first().map(drop)
    })
    .await;
    transaction.commit().await.expect("committed");
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON and nothing else");
    assert_eq!(report["pruned"], json!({"users": {"removed": 1, "kept": 4}}));
    assert_eq!(ids().await, [&tracks[..], &["u:late", "u:listener", "u:owner", "u:rater", "u:there"]].concat());
    let rated = database.texts(RATINGS).await;
    assert_eq!(rated, ["u:late t:rated", "u:rater t:rated"]);

    // What is removed first no longer refers to the rest.
    write(home.path(), "some-playlists", "{\"id\": 2, \"tracks\": [\"t:rated\"]}\n");
    let all = ["--tracks", "some-tracks", "--users", "some-users", "--playlists", "some-playlists", "--prune"];
    home.segue(&[&import[..], &all].concat()).succeed();
    assert_eq!(ids().await, ["t:played", "t:rated", "t:there", "u:late", "u:listener", "u:rater", "u:there"]);
}

#[tokio::test]
async fn a_small_file_that_unpacks_to_hundreds_of_megabytes_takes_little_memory() {
    let (home, database) = (Home::new(), Database::new().await);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, b"{\"playlists\": [{\"pid\": 1, \"tracks\": [], \"name\": \"")
        .expect("memory");
    let letters = vec![b'a'; 1 << 20];
    for _ in 0..300 {
        std::io::Write::write_all(&mut encoder, &letters).expect("memory");
    }
    std::io::Write::write_all(&mut encoder, b"\"}, {\"pid\": 2, \"tracks\": []}]}").expect("memory");
    std::fs::write(home.path().join("bomb.json.gz"), encoder.finish().expect("memory")).expect("written");
    let arguments = ["import", "mpd", "bomb.json.gz", "--database-url", database.url()];
    let Some((segue, _group)) = home.segue_with_memory(200 << 20, &arguments) else {
        eprintln!("skipped: this needs cgroups of one's own");
        return;
    };
    let finished = segue.run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("bomb.json.gz"), "{finished:?}");
}
