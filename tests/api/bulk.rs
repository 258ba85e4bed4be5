//! Bulk requests: rows of JSON, one a line, in and out.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, encode};

async fn send(app: &TestApp, path: &str, body: impl Into<reqwest::Body>) -> Vec<Value> {
    let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson").body(body);
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn every_line_is_answered_and_a_wrong_one_does_not_keep_the_others_from_being_taken() {
    let app = TestApp::spawn().await;
    let body = [
        r#"{"id": "b:1", "name": "One", "artist": "A", "genres": ["x"]}"#,
        "",
        r#"{"id": "b:2", "nam": 2}"#,
        r#"["b:3"]"#,
        "{",
        r#"{"id": "synthetic:track:1", "name": "Other", "artist": "A", "hidden": true}"#,
        r#"{"id": "b:1", "name": "One", "artist": "A"}"#,
        r#"{"id": "b:1", "name": "One", "artist": "A", "genres": []}"#,
    ]
    .join("\n");
    let lines = send(&app, "/tracks", body).await;
    let outcomes: Vec<(u64, &str)> = lines[..7]
        .iter()
        .map(|line| (line["line"].as_u64().expect("a number"), line["outcome"].as_str().expect("an outcome")))
        .collect();
    assert_eq!(
        outcomes,
        [
            (1, "added"),
            (3, "rejected"),
            (4, "rejected"),
            (5, "rejected"),
            (6, "changed"),
            (7, "unchanged"),
            (8, "unchanged")
        ]
    );
    assert!(lines[1]["reason"].as_str().is_some_and(|reason| reason.contains("unknown field `nam`")), "{}", lines[1]);
    assert_eq!(
        lines[7],
        json!({"summary": {"rows": 7, "added": 1, "changed": 1, "unchanged": 2, "rejected": 3, "failed": 0}})
    );
    let track = app.get("/tracks/b:1").await.ok();
    assert_eq!((&track["name"], &track["genres"]), (&json!("One"), &json!(["x"])));
    let similar = app.get("/tracks/synthetic:track:2/similar?limit=500").await.ok();
    assert!(!similar.to_string().contains("\"synthetic:track:1\""), "it is hidden");
    let problems =
        send(&app, "/tracks?report=problems", "{}\n{\"id\": \"b:9\", \"name\": \"N\", \"artist\": \"A\"}").await;
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[tokio::test]
async fn users_and_playlists_come_in_bulk_too() {
    let app = TestApp::spawn().await;
    let users = send(&app, "/users", "{\"id\": \"a\"}\n{\"id\": \"b\"}\n{\"id\": \"a\"}\n{\"id\": true}\n").await;
    let outcomes: Vec<&Value> = users.iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, [&json!("added"), &json!("added"), &json!("unchanged"), &json!("rejected"), &Value::Null]);

    let body = [
        json!({"id": "p1", "title": "One", "user_id": "a", "tracks": ["synthetic:track:1", "nowhere"]}),
        json!({"id": "p/2", "tracks": [{"id": "n:1", "name": "New", "artist": "A"}, "synthetic:track:2"]}),
        json!({"id": "p1", "title": "One", "user_id": "a", "tracks": ["synthetic:track:1"]}),
        json!({"id": "p3", "tracks": 3}),
    ];
    let body = body.map(|row| row.to_string()).join("\n");
    let lines = send(&app, "/playlists", body).await;
    assert_eq!(lines[0], json!({"line": 1, "id": "p1", "outcome": "added", "unknown_tracks": ["nowhere"]}));
    assert_eq!(lines[1], json!({"line": 2, "id": "p/2", "outcome": "added"}));
    assert_eq!(lines[2], json!({"line": 3, "id": "p1", "outcome": "unchanged"}));
    assert_eq!(lines[3]["outcome"], "rejected");
    assert_eq!(app.tracks_of("p/2").await, ["n:1", "synthetic:track:2"]);
    app.post_nothing(&format!("/playlists/{}/complete", encode("p/2"))).await.ok();
}

#[tokio::test]
async fn a_line_is_read_as_a_file_is_and_a_field_of_no_use_is_left_out_and_named() {
    let app = TestApp::spawn().await;
    let body = "\u{feff}{\"id\": \" t 1 \", \"name\": \"half \\ud83d\", \"artist\": null, \"duration_ms\": 2e3}\n\
                {\"id\": 3.0, \"duration_ms\": -1, \"hidden\": \"True\", \"genres\": \"rock\"}\n\
                {\"id\": \"half \\ud83d\"}\n{\"id\": \"a\\tb\"}\n";
    let lines = send(&app, "/tracks?report=problems", body).await;
    let negative = json!({"field": "duration_ms", "reason": "must not be negative"});
    let list = json!({"field": "genres", "reason": "must be a list of texts, not \"rock\""});
    assert_eq!(lines[0]["id"], "3", "{lines:?}");
    assert!(
        lines[0]["omitted"].as_array().is_some_and(|omitted| omitted.contains(&negative) && omitted.contains(&list))
    );
    assert!(lines[1]["reason"].as_str().is_some_and(|reason| reason.contains("U+FFFD")), "{}", lines[1]);
    assert!(lines[2]["reason"].as_str().is_some_and(|reason| reason.contains("control characters")), "{}", lines[2]);
    assert_eq!(lines[3]["summary"]["added"], 2);
    let track = app.get("/tracks/t%201").await.ok();
    assert_eq!((&track["name"], &track["duration_ms"]), (&json!("half \u{fffd}"), &json!(2_000)));
    assert_eq!(app.get("/tracks/3").await.ok()["hidden"], true);

    let long = "x".repeat(10_001);
    let rows = [
        json!({"id": "o1", "title": long, "modified_at": "9999-12-31T23:59:59-23:59", "num_edits": "1.0", "tracks": [null, 3.0]}),
        json!({"id": "o2", "modified_at": -90_000_000_000_i64, "tracks": []}),
        json!({"id": "o3", "modified_at": "2023-11-14 22:13:20", "tracks": []}),
        json!({"id": "o4", "modified_at": 1_700_000_000_000_i64}),
    ];
    let lines = send(&app, "/playlists", rows.map(|row| row.to_string()).join("\n")).await;
    let fields = |line: &Value| -> Vec<String> {
        let omitted = line["omitted"].as_array().map_or(&[][..], Vec::as_slice);
        omitted.iter().map(|one| one["field"].as_str().expect("a field").to_owned()).collect()
    };
    assert_eq!(fields(&lines[0]), ["title", "modified_at", "tracks[0]"], "{lines:?}");
    assert_eq!((fields(&lines[1]), fields(&lines[2])), (vec!["modified_at".to_owned()], Vec::new()));
    assert_eq!(lines[4]["summary"]["added"], 4);
    let playlist = app.get("/playlists/o1").await.ok();
    assert_eq!((&playlist["num_edits"], &playlist["num_tracks"]), (&json!(1), &json!(1)));
    for id in ["o3", "o4"] {
        assert_eq!(app.get(&format!("/playlists/{id}")).await.ok()["modified_at"], "2023-11-14T22:13:20Z", "{id}");
    }
}

#[tokio::test]
async fn a_time_that_no_column_can_hold_is_named_at_every_door_and_one_that_is_stored_spoils_no_page() {
    let app = TestApp::spawn().await;
    for time in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"] {
        let playlist = json!({"id": "late", "modified_at": time});
        let problem = app.post("/playlists", &playlist).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], "modified_at", "{problem}");
        for (path, row) in [
            ("/ratings", json!({"user_id": "u", "track_id": "synthetic:track:1", "rating": 3, "rated_at": time})),
            ("/listens", json!({"user_id": "u", "track_id": "synthetic:track:1", "listened_at": time})),
        ] {
            let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson");
            let answer = Answer::to(request.body(row.to_string())).await.ok();
            assert_eq!(
                (&answer["added"], answer["problems"].as_array().map(Vec::len)),
                (&json!(0), Some(1)),
                "{answer}"
            );
        }
    }
    // Nothing is ordered by a playlist's time, so that it may be in the future; ratings and listens must not.
    let future = "9999-12-31T23:59:59Z";
    app.post("/playlists", &json!({"id": "future:1", "modified_at": future})).await;
    send(&app, "/playlists", json!({"id": "future:2", "modified_at": future}).to_string()).await;
    for id in ["future:1", "future:2"] {
        assert_eq!(app.get(&format!("/playlists/{id}")).await.ok()["modified_at"], future, "{id}");
        send(&app, "/playlists", json!({"id": id, "modified_at": "2023-11-14T22:13:20Z"}).to_string()).await;
        assert_eq!(app.get(&format!("/playlists/{id}")).await.ok()["modified_at"], "2023-11-14T22:13:20Z", "{id}");
    }
    let track = "synthetic:track:1";
    for (path, row) in [
        ("/ratings", json!({"user_id": "u", "track_id": track, "rating": 3, "rated_at": future})),
        ("/listens", json!({"user_id": "u", "track_id": track, "listened_at": future})),
    ] {
        let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson");
        let answer = Answer::to(request.body(row.to_string())).await.ok();
        assert!(answer["problems"].to_string().contains("must not be in the future"), "{answer}");
    }
    app.post("/playlists", &json!({"id": "old", "modified_at": "2023-11-14T22:13:20Z"})).await;
    let set = "UPDATE playlists SET modified_at = '0900-01-01 BC' WHERE external_id = 'old' RETURNING external_id";
    assert_eq!(app.database().texts(set).await, ["old"]);
    assert_eq!(app.get("/playlists/old").await.ok()["modified_at"], Value::Null);
    assert_eq!(app.get("/playlists?limit=500").await.status, 200);
}

#[tokio::test]
async fn answers_begin_while_lines_are_still_being_sent() {
    let app = TestApp::spawn().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(4);
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let request = app
        .request(Method::POST, "/users")
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(stream));
    let answering = tokio::spawn(request.send());
    let lines = |from: u32, to: u32| (from..to).map(|user| format!("{{\"id\": \"s:{user}\"}}\n")).collect::<String>();
    sender.send(Ok(lines(0, 6_000))).await.expect("taken");
    let mut response = answering.await.expect("joined").expect("an answer");
    let mut received = 0;
    while received < 5_000 {
        let chunk = response.chunk().await.expect("a chunk").expect("more");
        received += chunk.iter().filter(|&&byte| byte == b'\n').count();
    }
    sender.send(Ok(lines(6_000, 6_001))).await.expect("taken");
    drop(sender);
    let rest = response.text().await.expect("the rest");
    assert!(rest.trim_end().ends_with("\"failed\":0}}") && rest.contains("\"rows\":6001"), "{rest}");
}

#[tokio::test]
async fn a_line_without_an_end_is_not_held_in_memory() {
    let app = TestApp::spawn().await;
    let body = format!("{{\"id\": \"{}\"}}\n{{\"id\": \"after\"}}\n", "x".repeat(9 << 20));
    let lines = send(&app, "/users", body).await;
    assert_eq!((&lines[0]["outcome"], &lines[1]["outcome"]), (&json!("rejected"), &json!("added")));
    assert!(lines[0]["reason"].as_str().is_some_and(|reason| reason.contains("longer")), "{}", lines[0]);
}

#[tokio::test]
async fn a_packed_body_that_is_damaged_ends_with_the_line_to_send_again_and_a_summary() {
    let app = TestApp::spawn().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, b"{\"id\": \"damaged:1\"}\n{\"id\": \"damaged:2\"}\n{\"id\"")
        .expect("memory");
    std::io::Write::flush(&mut encoder).expect("memory");
    let cut = encoder.get_ref().clone();
    for (body, stored) in [(cut, 2), (b"no gzip at all".to_vec(), 0)] {
        let request = app.request(Method::POST, "/users").header("content-type", "application/x-ndjson");
        let answer = Answer::to(request.header("content-encoding", "gzip").body(body)).await;
        let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), stored + 2, "{lines:?}");
        let failed = &lines[stored];
        assert_eq!((&failed["line"], &failed["outcome"]), (&json!(stored + 1), &json!("failed")), "{failed}");
        assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("can't be read")), "{failed}");
        assert_eq!(lines[stored + 1]["summary"]["failed"], 1);
    }
    app.get("/users/damaged:2").await.ok();
}

#[tokio::test]
async fn a_row_is_not_stored_after_an_earlier_one_of_its_id_failed() {
    let app = TestApp::spawn().await;
    let setup = [
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''cursed''; END'",
        "CREATE TRIGGER fail BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.external_id = 'cursed')
         EXECUTE FUNCTION fail()",
    ];
    for sql in setup {
        app.database().texts(sql).await;
    }
    let ids = ["a", "cursed", "a", "b", "b", "a", "cursed"];
    let body = ids.map(|id| json!({"id": id}).to_string()).join("\n");
    let lines = send(&app, "/users", body).await;
    let found: Vec<(&str, &str, bool)> = lines[..ids.len()]
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or_default();
            (text("id"), text("outcome"), text("reason").starts_with("an earlier line with this id failed"))
        })
        .collect();
    let failed_with = |id, is_later| (id, "failed", is_later);
    assert_eq!(
        found,
        [
            failed_with("a", false),
            failed_with("cursed", false),
            failed_with("a", true),
            ("b", "added", false),
            ("b", "unchanged", false),
            failed_with("a", true),
            failed_with("cursed", true),
        ]
    );
    let summary = &lines[ids.len()]["summary"];
    assert_eq!((&summary["failed"], &summary["added"], &summary["unchanged"]), (&json!(5), &json!(1), &json!(1)));
    app.get("/users/a").await.problem(404);
}

#[tokio::test]
async fn what_is_there_already_uses_up_no_numbers_of_rows() {
    let app = TestApp::spawn().await;
    let track = "synthetic:track:1";
    let described = json!({"id": "n", "name": "N", "artist": "A", "artist_id": "a", "album": "B"});
    let playlist = json!({"id": "p", "user_id": "u", "title": "P", "tracks": [track, described]});
    let rating = json!({"user_id": "u", "track_id": track, "rating": 4});
    let listen = json!({"user_id": "u", "track_id": track, "listened_at": "2023-11-14T22:13:20Z"});
    let replaced = json!({"title": "Q", "user_id": "u", "tracks": [track]});
    let numbers = "SELECT sequencename || ' ' || COALESCE(last_value, 0) FROM pg_sequences
                   WHERE schemaname NOT LIKE 'pg%' ORDER BY sequencename";
    let mut first: Option<Vec<String>> = None;
    for _ in 0..3 {
        app.post("/ratings", &json!({"ratings": [rating]})).await.ok();
        app.post("/listens", &json!({"listens": [listen]})).await.ok();
        // These are conflicts the second time.
        app.post("/tracks", &described).await;
        app.post("/playlists", &playlist).await;
        for (path, body) in [("/users/u", None), ("/playlists/q", Some(&replaced))] {
            let request = app.request(Method::PUT, path);
            let answer =
                Answer::to(body.map_or(request.try_clone().expect("no stream"), |body| request.json(body))).await;
            assert!(answer.status < 300, "{answer:?}");
        }
        for (path, row) in [("/users", &json!({"id": "u"})), ("/tracks", &described), ("/playlists", &playlist)] {
            let lines = send(&app, path, row.to_string()).await;
            assert_eq!(lines[1]["summary"]["failed"], 0, "{lines:?}");
        }
        let now = app.database().texts(numbers).await;
        assert!(now.len() >= 4, "{now:?}");
        assert_eq!(first.get_or_insert_with(|| now.clone()), &now);
    }
}
