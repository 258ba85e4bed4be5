//! Models: switching and rolling back, versions by request, second versions unseen; metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use segue::bundle::Kind;
use segue::recommend::SimilarityModel;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, flip_byte, ids, publish_damaged};
use crate::support::training::{publish_again, publish_completion_again};
use crate::support::wait_until;

async fn activate(app: &TestApp, kind: &str, version: &str) -> Answer {
    app.post(&format!("/models/{kind}/activate"), &json!({"version": version})).await
}

#[tokio::test]
async fn a_version_is_activated_and_rolled_back_at_once() {
    let app = TestApp::spawn().await;
    let older = app.manifest().version;
    let newer = publish_again(&app.models, &app.models).version;
    for version in [&newer, &older, &newer] {
        assert_eq!(activate(&app, "similarity", version).await.ok(), json!({"kind": "similarity", "version": version}));
        let answer = app.get("/tracks/synthetic:track:1/similar?limit=1").await.ok();
        assert_eq!(answer["model_version"], json!(version));
        assert_eq!(app.manifest().version, *version, "the others will follow");
    }
    let listed = app.get("/models").await.ok();
    assert_eq!(listed["models"][0]["published"], json!([newer, older]));

    for (kind, version, problem) in [
        ("similarity", "20000101T000000.000Z", "unknown-version"),
        ("similarity", "../similarity", "unknown-version"),
        ("completion", newer.as_str(), "unknown-version"),
        ("oracle", newer.as_str(), "unknown-kind"),
    ] {
        let answer = activate(&app, kind, version).await.problem(404);
        assert_eq!(answer["type"], json!(format!("urn:segue:problem:{problem}")));
    }
    let damaged = publish_damaged(Kind::Similarity, &app.models, &app.models, |folder| {
        flip_byte(&folder.join("counts.npy"), 130);
    });
    let rejected = activate(&app, "similarity", &damaged).await.problem(409);
    assert!(!rejected.to_string().contains("counts.npy") && !rejected.to_string().contains('/'), "{rejected}");
    assert_eq!(app.get("/tracks/synthetic:track:1/similar").await.ok()["model_version"], json!(newer));
}

#[tokio::test]
async fn a_request_may_name_the_version_that_answers() {
    let app = TestApp::spawn_with_completion_model().await;
    let older = app.manifest().version;
    let older_completion = app.completion_manifest().version;
    let newer = publish_again(&app.models, &app.models).version;
    let newer_completion = publish_completion_again(&app.models, &app.models).version;
    activate(&app, "similarity", &newer).await.ok();
    activate(&app, "completion", &newer_completion).await.ok();
    for version in [&older, &newer] {
        let similar = app.get(&format!("/tracks/synthetic:track:1/similar?version={version}")).await.ok();
        assert_eq!(similar["model_version"], json!(version));
        let body = json!({"model": "track2vec", "version": version});
        assert_eq!(app.post("/playlists/0/complete", &body).await.ok()["model_version"], json!(version));
    }
    for version in [&older_completion, &newer_completion] {
        let body = json!({"version": version, "playlists": [{"tracks": ["synthetic:track:1"]}]});
        assert_eq!(app.post("/playlists/complete", &body).await.ok()["model_version"], json!(version));
    }
    let unknown = app.post("/playlists/0/complete", &json!({"version": "nowhere"})).await.problem(404);
    assert_eq!(unknown["type"], "urn:segue:problem:unknown-version");
    app.get("/tracks/synthetic:track:1/similar?version=../../x").await.problem(404);
}

#[tokio::test]
async fn twenty_swaps_under_load_fail_no_request() {
    let app = Arc::new(TestApp::spawn_with_completion_model().await);
    let versions = [app.manifest().version, publish_again(&app.models, &app.models).version];
    let completions = [app.completion_manifest().version, publish_completion_again(&app.models, &app.models).version];
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (app, stop, answered) = (app.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = match client % 2 {
                        0 => app.get("/tracks/synthetic:track:1/similar?limit=5").await,
                        _ => app.post("/playlists/0/complete", &json!({"limit": 5})).await,
                    };
                    let items = &answer.ok()["items"];
                    assert_eq!(ids(items).len(), 5);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for swap in 1..=20 {
        let before = answered.load(Ordering::Relaxed);
        activate(&app, "similarity", &versions[swap % 2]).await.ok();
        activate(&app, "completion", &completions[swap % 2]).await.ok();
        let enough = async || (answered.load(Ordering::Relaxed) >= before + 50).then_some(());
        wait_until("requests", enough).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    assert!(answered.load(Ordering::Relaxed) >= 1_000);
    assert!(app.metric("segue_model_swaps_total").await >= 40.0);
}

#[tokio::test]
async fn a_second_version_answers_unseen_and_its_agreement_is_a_metric() {
    let app = TestApp::spawn_with_completion_model().await;
    let active = app.completion_manifest().version;
    let second = publish_completion_again(&app.models, &app.models).version;
    activate(&app, "completion", &active).await.ok();
    app.post("/models/completion/shadow", &json!({"version": second, "every": 1})).await.ok();
    let answer = app.post_nothing("/playlists/0/complete").await.ok();
    assert_eq!(answer["model_version"], json!(active));
    let measured = async || (app.metric("segue_shadow_agreement_count").await >= 1.0).then_some(());
    wait_until("its answer", measured).await;
    let agreement = app.metric("segue_shadow_agreement_sum").await / app.metric("segue_shadow_agreement_count").await;
    assert!((agreement - 1.0).abs() < 1e-9, "the same model by another version: {agreement}");

    app.post("/models/completion/shadow", &json!({"version": null})).await.ok();
    let before = app.metric("segue_shadow_agreement_count").await;
    app.post_nothing("/playlists/0/complete").await.ok();
    // Second versions answer one after another: once the next one has answered, this one would have.
    app.post("/models/completion/shadow", &json!({"version": second, "every": 1})).await.ok();
    app.post_nothing("/playlists/0/complete").await.ok();
    let measured = async || (app.metric("segue_shadow_agreement_count").await > before).then_some(());
    wait_until("its answer", measured).await;
    assert_eq!(app.metric("segue_shadow_agreement_count").await, before + 1.0);
    app.post("/models/completion/shadow", &json!({"version": null})).await.ok();

    // For similar tracks too, but not if the request names a version.
    let active = app.manifest().version;
    let second = publish_again(&app.models, &app.models).version;
    activate(&app, "similarity", &active).await.ok();
    app.post("/models/similarity/shadow", &json!({"version": second, "every": 1})).await.ok();
    for route in ["similar", "next"] {
        let before = app.metric("segue_shadow_agreement_sum").await;
        app.get(&format!("/tracks/synthetic:track:1/{route}?version={active}")).await.ok();
        app.get(&format!("/tracks/synthetic:track:1/{route}")).await.ok();
        let measured = async || (app.metric("segue_shadow_agreement_sum").await >= before + 1.0 - 1e-9).then_some(());
        wait_until("its answer", measured).await;
        assert!((app.metric("segue_shadow_agreement_sum").await - before - 1.0).abs() < 1e-9);
    }
    app.post("/models/oracle/shadow", &json!({"version": null})).await.problem(404);
}

#[tokio::test]
async fn a_model_that_was_replaced_goes_with_the_last_request_that_holds_it() {
    let app = TestApp::spawn().await;
    activate(&app, "similarity", &app.manifest().version).await.ok();
    let held = app.state.models.current::<SimilarityModel>().expect("a model");
    let gone = Arc::downgrade(&held);
    activate(&app, "similarity", &publish_again(&app.models, &app.models).version).await.ok();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!held.model.similar(0, 5).is_empty(), "whoever holds it can still use it");
    drop(held);
    let is_gone = async || gone.upgrade().is_none().then_some(());
    wait_until("the end of the old model", is_gone).await;
}

#[tokio::test]
async fn a_models_folder_that_cannot_be_written_is_said_to_be_so() {
    let app = TestApp::spawn().await;
    let older = app.manifest().version;
    publish_again(&app.models, &app.models);
    app.get("/tracks/synthetic:track:1/similar").await.ok();
    // A folder instead of the link can't be replaced, as any user.
    let current = app.models.join("similarity/current");
    std::fs::remove_file(&current).expect("removed");
    std::fs::create_dir(&current).expect("a folder");
    let problem = activate(&app, "similarity", &older).await.problem(409);
    assert_eq!(problem["type"], "urn:segue:problem:models-read-only");
    app.get("/tracks/synthetic:track:1/similar").await.ok();
}

#[tokio::test]
async fn metrics_tell_requests_by_route_and_what_is_loaded() {
    let app = TestApp::spawn().await;
    app.get("/tracks/synthetic:track:1").await.ok();
    app.get("/tracks/nowhere").await.problem(404);
    app.get("/nothing/of/the/kind").await.problem(404);
    app.get("/tracks/synthetic:track:1/similar").await.ok();
    app.post("/playlists/complete", &json!({"playlists": [{}, {"tracks": ["synthetic:track:1"]}]})).await.ok();
    let answer = app.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{answer:?}");
    let text = &answer.body;
    let version = app.manifest().version;
    for line in [
        "segue_http_requests_total{method=\"GET\",route=\"/tracks/{id}\",status=\"200\"} 1",
        "segue_http_requests_total{method=\"GET\",route=\"/tracks/{id}\",status=\"404\"} 1",
        "segue_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "segue_http_request_duration_seconds_count{method=\"GET\",route=\"/tracks/{id}\"} 2",
        "segue_engine_work_seconds_count{lane=\"quick\"} 1",
        "segue_completion_playlists_sum 2.0",
        "segue_fallbacks_total{reason=\"popularity\"} 1",
        "segue_model_swaps_total{kind=\"similarity\"} 1",
        "segue_database_up 1",
        "segue_http_faults_total 0",
        "segue_model_refused_total{kind=\"clicks\"} 0",
        &format!("segue_model_age_seconds{{kind=\"similarity\",version=\"{version}\"}}"),
        "segue_database_connections{state=\"idle\"}",
        "process_resident_memory_bytes",
        "# EOF",
    ] {
        assert!(text.lines().any(|other| other.starts_with(line)), "no line {line} in\n{text}");
    }
    assert!(!text.contains("nowhere") && !text.contains("/nothing/of"), "ids are no labels");
    Answer::to(app.request(Method::POST, "/metrics")).await.problem(405);
    assert_eq!(app.get("/health/ready").await.ok()["status"], Value::from("ok"));
}

#[tokio::test]
async fn any_number_of_requests_for_a_version_load_it_once() {
    let app = Arc::new(TestApp::spawn().await);
    let older = app.manifest().version;
    let newer = publish_again(&app.models, &app.models).version;
    activate(&app, "similarity", &newer).await.ok();
    let loads = async || app.metric("segue_model_load_seconds_count").await;
    let before = loads().await;
    let path = format!("/tracks/synthetic:track:1/similar?version={older}");
    for _ in 0..16 {
        // It hangs up while the version is loaded, or before.
        let request = app.request(Method::GET, &path).timeout(Duration::from_micros(300));
        let _ = request.send().await;
    }
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let (app, path) = (app.clone(), path.clone());
            tokio::spawn(async move { app.get(&path).await.ok() })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.expect("an answer")["model_version"], json!(older));
    }
    assert_eq!(loads().await, before + 1.0);
    // It is loaded: neither a switch to it nor a shadow of it reads it again.
    app.post("/models/similarity/shadow", &json!({"version": older, "every": 1})).await.ok();
    activate(&app, "similarity", &older).await.ok();
    assert_eq!(loads().await, before + 1.0);
    app.post("/models/similarity/shadow", &json!({"version": null})).await.ok();

    let switches: Vec<_> = (0..8)
        .map(|_| {
            let (app, newer) = (app.clone(), newer.clone());
            tokio::spawn(async move { activate(&app, "similarity", &newer).await.ok() })
        })
        .collect();
    for switch in switches {
        switch.await.expect("switched");
    }
    assert!(loads().await <= before + 2.0);
}

#[tokio::test]
async fn no_more_than_two_versions_that_requests_named_stay_loaded() {
    let app = TestApp::spawn().await;
    let mut versions = vec![app.manifest().version];
    for _ in 0..4 {
        versions.push(publish_again(&app.models, &app.models).version);
    }
    for version in &versions {
        let path = format!("/tracks/synthetic:track:1/similar?version={version}");
        assert_eq!(app.get(&path).await.ok()["model_version"], json!(version));
        assert!(app.state.models.all::<SimilarityModel>().len() <= 3, "and the current one");
    }
}
