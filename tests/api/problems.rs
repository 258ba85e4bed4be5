//! Rejected requests and their error messages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, Setup, TestApp, encode};
use crate::support::training::arguments;

/// The one field that a problem names.
#[track_caller]
fn field(problem: &Value) -> &str {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
    assert_eq!(errors.len(), 1, "{problem}");
    assert!(errors[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{problem}");
    errors[0]["field"].as_str().expect("a field")
}

#[tokio::test]
async fn an_id_that_no_one_has_is_not_found_and_named() {
    let app = TestApp::spawn().await;
    let id = "what's this/é";
    let cases = [
        (Method::GET, format!("/tracks/{}", encode(id)), "unknown-track"),
        (Method::GET, format!("/tracks/{}/similar", encode(id)), "unknown-track"),
        (Method::GET, format!("/playlists/{}", encode(id)), "unknown-playlist"),
        (Method::POST, format!("/playlists/{}/complete", encode(id)), "unknown-playlist"),
    ];
    for (method, path, kind) in cases {
        let problem = Answer::to(app.request(method, &path)).await.problem(404);
        assert_eq!(problem["type"], json!(format!("urn:segue:problem:{kind}")), "{path}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(id)), "{problem}");
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_not_found() {
    let app = TestApp::spawn().await;
    for path in ["/", "/nothing", "/tracks/a/b", "/playlists/1/complete/2", "/docs/nothing.js"] {
        app.get(path).await.problem(404);
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_allow_is_rejected_with_the_allowed_ones() {
    let app = TestApp::spawn().await;
    let cases = [
        (Method::DELETE, "/tracks", "GET,HEAD,POST"),
        (Method::POST, "/tracks/a/similar", "GET,HEAD"),
        (Method::PUT, "/playlists/1/complete", "POST"),
        (Method::DELETE, "/playlists/1/complete", "POST"),
        (Method::POST, "/health/live", "GET,HEAD"),
        (Method::POST, "/models", "GET,HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = Answer::to(app.request(method.clone(), path)).await;
        answer.problem(405);
        let mut methods: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_rejected_with_the_position() {
    let app = TestApp::spawn().await;
    for path in ["/playlists/0/complete", "/playlists/complete"] {
        for body in ["{", "{\"limit\": 5,}", "limit=5", "\u{feff}{}"] {
            assert_malformed(&app, path, body).await;
        }
    }
    assert_malformed(&app, "/playlists/0/complete", "{} and more").await;
    assert_malformed(&app, "/playlists/complete", "{\"playlists\": [{}]} and more").await;
}

async fn assert_malformed(app: &TestApp, path: &str, body: &'static str) {
    let request = app.request(Method::POST, path).header("content-type", "application/json").body(body);
    let problem = Answer::to(request).await.problem(400);
    assert_eq!(problem["type"], "urn:segue:problem:malformed-json", "{path} {body}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("column")), "{problem}");
}

#[tokio::test]
async fn an_inline_completion_needs_a_body() {
    let app = TestApp::spawn().await;
    let request = app.request(Method::POST, "/playlists/complete").header("content-type", "application/json");
    Answer::to(request).await.problem(400);
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_rejected_naming_the_field() {
    let app = TestApp::spawn().await;
    let inline = "/playlists/complete";
    let stored = "/playlists/0/complete";
    let cases = [
        (stored, json!({"limit": "ten"}), "limit"),
        (stored, json!({"limit": 2.5}), "limit"),
        (stored, json!({"limit": 0}), "limit"),
        (stored, json!({"limit": 501}), "limit"),
        (stored, json!({"limit": -1}), "limit"),
        (stored, json!({"exclude": "one"}), "exclude"),
        (stored, json!({"exclude": ["a", 5]}), "exclude[1]"),
        (stored, json!({"model": "oracle"}), "model"),
        (stored, json!({"exclude": vec!["a"; 10_001]}), "exclude"),
        (inline, json!({"playlists": {}}), "playlists"),
        (inline, json!({"playlists": [5]}), "playlists[0]"),
        (inline, json!({"playlists": [{}, {"tracks": "a"}]}), "playlists[1].tracks"),
        (inline, json!({"playlists": [{}, {"tracks": ["a", null]}]}), "playlists[1].tracks[1]"),
        (inline, json!({"playlists": [{"title": 5}]}), "playlists[0].title"),
        (inline, json!({"playlists": [{"tracks": vec!["a"; 10_001]}]}), "playlists[0].tracks"),
        (inline, json!({"playlists": [{}], "limit": 0}), "limit"),
    ];
    for (path, body, expected) in cases {
        let answer = app.post(path, &body).await;
        let text: String = body.to_string().chars().take(100).collect();
        assert_eq!(answer.status, 422, "{path} {text}: {answer:?}");
        assert_eq!(field(&answer.problem(422)), expected, "{path} {text}");
    }
}

#[tokio::test]
async fn a_whole_number_may_be_written_with_a_point() {
    let app = TestApp::spawn().await;
    let answer = app.post("/playlists/0/complete", &json!({"limit": 7.0})).await.ok();
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(7));
    let body = json!({"id": "p", "num_followers": 3.0, "duration_ms": 1e12});
    let created = app.post("/playlists", &body).await.json();
    let endless = json!({"id": "q", "duration_ms": 1e300});
    assert_eq!(field(&app.post("/playlists", &endless).await.problem(422)), "duration_ms");
    assert_eq!((&created["num_followers"], &created["duration_ms"]), (&json!(3), &json!(1_000_000_000_000_i64)));
    for (value, name) in [(json!(2.5), "num_followers"), (json!(1e300), "num_followers"), (json!("3"), "num_followers")]
    {
        let body = json!({"id": "q", "num_followers": value});
        assert_eq!(field(&app.post("/playlists", &body).await.problem(422)), name, "{value}");
    }
}

#[tokio::test]
async fn a_field_that_is_needed_and_missing_is_named() {
    let app = TestApp::spawn().await;
    let problem = app.post("/playlists/complete", &json!({"limit": 5})).await.problem(422);
    assert!(problem["errors"][0].to_string().contains("playlists"), "{problem}");
}

#[tokio::test]
async fn a_body_that_is_no_object_is_rejected_as_a_whole() {
    let app = TestApp::spawn().await;
    for body in [json!(5), json!("limit"), json!(null), json!([[{}], 5])] {
        assert_eq!(field(&app.post("/playlists/complete", &body).await.problem(422)), "body", "{body}");
    }
    let within = json!({"playlists": [["late night jazz", []]]});
    assert_eq!(field(&app.post("/playlists/complete", &within).await.problem(422)), "playlists[0]");
    let within = json!({"user_id": "u", "tracks": [], "context": ["my library"]});
    assert_eq!(field(&app.post("/scores", &within).await.problem(422)), "context");
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_rejected_by_its_name() {
    let app = TestApp::spawn().await;
    let cases = [
        ("/playlists/0/complete", json!({"limits": 5}), "limits"),
        ("/playlists/complete", json!({"playlists": [{}], "explode": true}), "explode"),
        ("/playlists/complete", json!({"playlists": [{"track": []}]}), "playlists[0].track"),
    ];
    for (path, body, name) in cases {
        let problem = app.post(path, &body).await.problem(422);
        assert_eq!(field(&problem), name, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("unknown field")), "{problem}");
    }
}

#[tokio::test]
async fn a_parameter_out_of_range_or_of_the_wrong_type_is_rejected_by_its_name() {
    let app = TestApp::spawn().await;
    for path in ["/tracks/synthetic:track:1/similar", "/playlists/0"] {
        for limit in ["0", "501", "-1", "x", "", "1.5", "99999999999999999999"] {
            let problem = app.get(&format!("{path}?limit={limit}")).await.problem(422);
            assert_eq!(field(&problem), "limit", "{path}?limit={limit}");
        }
    }
    for from in ["-1", "x", "100001"] {
        assert_eq!(field(&app.get(&format!("/playlists/0?from={from}")).await.problem(422)), "from", "{from}");
    }
}

#[tokio::test]
async fn a_parameter_that_does_not_exist_is_rejected_by_its_name() {
    let app = TestApp::spawn().await;
    for path in ["/tracks/synthetic:track:1/similar?limt=3", "/playlists/0?limt=3"] {
        let problem = app.get(path).await.problem(422);
        assert_eq!(field(&problem), "limt", "{problem}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_rejected() {
    let app = TestApp::spawn().await;
    for path in ["/playlists/0/complete", "/playlists/complete"] {
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let mut request = app.request(Method::POST, path).body("{\"playlists\": [{}]}");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            Answer::to(request).await.problem(415);
        }
    }
    let body = "{\"playlists\": [{}]}";
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.segue+json"] {
        let request = app.request(Method::POST, "/playlists/complete").header("content-type", content_type);
        assert_eq!(Answer::to(request.body(body)).await.status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_larger_than_the_limit_is_rejected_with_the_limit() {
    let settings = arguments(&["--max-body-bytes", "1000"]);
    let app = TestApp::start(Setup { settings, ..Setup::default() }).await;
    let body_of = |length: usize| {
        let empty = json!({"playlists": [{"title": ""}]}).to_string().len();
        json!({"playlists": [{"title": "x".repeat(length - empty)}]})
    };
    app.post("/playlists/complete", &body_of(1_000)).await.ok();
    let problem = app.post("/playlists/complete", &body_of(1_001)).await.problem(413);
    assert_eq!(problem["type"], "urn:segue:problem:body-too-large");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000")), "{problem}");
}

#[tokio::test]
async fn an_id_that_is_not_utf8_is_a_client_error() {
    let app = TestApp::spawn().await;
    app.get("/tracks/%FF%FE").await.problem(400);
}

#[tokio::test]
async fn an_id_with_a_nul_is_not_found_rather_than_a_server_error() {
    let app = TestApp::spawn().await;
    for (method, path) in [
        (Method::GET, "/tracks/a%00b"),
        (Method::GET, "/tracks/a%00b/similar"),
        (Method::GET, "/playlists/a%00b"),
        (Method::POST, "/playlists/a%00b/complete"),
    ] {
        let answer = Answer::to(app.request(method, path)).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        answer.problem(404);
    }
}
