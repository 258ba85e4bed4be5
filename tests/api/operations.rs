//! Health, the list of models, ids of requests.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{Answer, HANDMADE, Setup, TestApp};

#[tokio::test]
async fn a_server_with_a_model_and_a_catalog_is_ready() {
    let app = TestApp::spawn().await;
    assert_eq!(app.get("/health/live").await.ok(), json!({"status": "ok"}));
    let version = app.manifest().version;
    let expected = json!({"status": "ok", "catalog": "ok", "models": {"similarity": version}});
    assert_eq!(app.get("/health/ready").await.ok(), expected);
}

#[tokio::test]
async fn without_a_model_the_server_lives_shows_the_catalog_and_says_what_is_missing() {
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    assert_eq!(app.get("/health/live").await.ok()["status"], "ok");
    assert_eq!(app.get("/models").await.ok(), json!({"models": []}));
    assert_eq!(app.get("/playlists/0").await.ok()["id"], "0");
    assert_eq!(app.get("/tracks/synthetic:track:1").await.ok()["id"], "synthetic:track:1");
    let inline = json!({"playlists": [{}]});
    for answer in [
        app.get("/health/ready").await,
        app.get("/tracks/synthetic:track:1/similar").await,
        app.post_nothing("/playlists/0/complete").await,
        app.post("/playlists/complete", &inline).await,
    ] {
        let problem = answer.problem(503); // with Retry-After
        assert_eq!(problem["type"], "urn:segue:problem:no-model");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("segue train")), "{problem}");
    }
}

#[tokio::test]
async fn the_list_of_models_says_what_was_trained_and_measured() {
    let app = TestApp::spawn().await;
    let manifest = app.manifest();
    let list = app.get("/models").await.ok();
    assert_eq!(list["models"].as_array().map(Vec::len), Some(1));
    let model = &list["models"][0];
    assert_eq!(model["kind"], "similarity");
    assert_eq!(model["version"], json!(manifest.version));
    assert_eq!(model["created_at"], json!(manifest.created_at));
    assert_eq!(model["dimensions"], 8);
    assert_eq!(model["parameters"], manifest.parameters);
    assert_eq!(model["metrics"], manifest.metrics);
    assert_eq!(model["data"]["sha256"], json!(manifest.data.sha256));
    // 120 generated ones and the one made by hand; the empty one teaches nothing.
    assert_eq!(model["data"]["playlists"], 121, "{HANDMADE}");
    assert_eq!(model["tracks"], json!(manifest.data.tracks));
}

#[tokio::test]
async fn the_id_of_a_request_is_the_callers_own_or_a_new_one() {
    let app = TestApp::spawn().await;
    for path in ["/health/live", "/tracks/nothing", "/nothing"] {
        let request = app.request(Method::GET, path).header("x-request-id", "checkout-42");
        let answer = Answer::to(request).await;
        assert_eq!(answer.header("x-request-id"), "checkout-42", "{path}");
        if answer.status != 200 {
            assert_eq!(answer.json()["request_id"], "checkout-42", "{path}");
        }
    }
    let mut made = HashSet::new();
    for _ in 0..3 {
        let answer = app.get("/health/live").await;
        assert!(answer.header("x-request-id").len() >= 16, "{answer:?}");
        assert!(made.insert(answer.header("x-request-id").to_owned()), "{answer:?}");
    }
}
