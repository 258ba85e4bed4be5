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
        r#"{"id": "b:2", "name": 2}"#,
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
    assert!(lines[1]["reason"].as_str().is_some_and(|reason| reason.contains("name")), "{}", lines[1]);
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
    let users = send(&app, "/users", "{\"id\": \"a\"}\n{\"id\": \"b\"}\n{\"id\": \"a\"}\n{\"id\": 5}\n").await;
    let outcomes: Vec<&Value> = users.iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, [&json!("added"), &json!("added"), &json!("unchanged"), &json!("rejected"), &Value::Null]);

    let body = [
        json!({"id": "p1", "title": "One", "user_id": "a", "tracks": ["synthetic:track:1", "nowhere"]}),
        json!({"id": "p/2", "tracks": [{"id": "n:1", "name": "New", "artist": "A"}, "synthetic:track:2"]}),
        json!({"id": "p1", "title": "One", "user_id": "a", "tracks": ["synthetic:track:1"]}),
        json!({"id": "p3"}),
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
