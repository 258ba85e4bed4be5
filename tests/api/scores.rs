//! `POST /scores`: probabilities from the state of all listens so far.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{ClickBundle, Kind};
use segue::dataset::listens::{Inputs, Listening, SourceValues, Variant, replay};
use segue::progress::Interrupt;
use segue::recommend::clicks::{ClickModel, ensemble, probability};
use segue::scoring::clicks::shape::{Architecture, ClickShape, Subject};
use segue::train::RunContext;
use segue::train::clicks::network::{Examples, NetworkTask, train_network};
use segue::train::clicks::{ClickModelName, ClickSettings, Preset};
use serde_json::{Value, json};

use crate::support::app::{Setup, TestApp};
use crate::support::clicks::{LISTENS, import_listens, publish_clicks_again, train_clicks_on};
use crate::support::wait_until;

const MODELS: [ClickModelName; 4] =
    [ClickModelName::Fm, ClickModelName::Deepfm, ClickModelName::FieldNetwork, ClickModelName::Trees];

async fn untrained() -> (TestApp, tempfile::TempDir) {
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    let folder = tempfile::tempdir().expect("a folder");
    import_listens(&app.state.catalog, folder.path()).await;
    (app, folder)
}

/// A server over a catalog with listens, and models trained on them.
async fn app(models: &[ClickModelName]) -> TestApp {
    let (app, _folder) = untrained().await;
    train_clicks_on(&app.state.catalog, models, &app.models).await;
    load(&app).await;
    app
}

async fn load(app: &TestApp) {
    app.state.models.load(Kind::Clicks).expect("loaded");
    let is_ready = async || app.state.models.current::<ClickModel>().filter(|loaded| !loaded.model.is_behind());
    wait_until("the listens since the training", is_ready).await;
}

fn context(kind: &str) -> Value {
    match kind {
        "local-library" => {
            json!({"source_system_tab": "my library", "source_screen_name": "Local playlist more", "source_type": kind})
        }
        other => json!({"source_system_tab": "discover", "source_type": other}),
    }
}

async fn probabilities(app: &TestApp, body: &Value) -> Vec<f64> {
    let answer = app.post("/scores", body).await.ok();
    let scores = answer["scores"].as_array().expect("scores").clone();
    scores.iter().map(|score| score["probability"].as_f64().expect("a probability")).collect()
}

/// Replays held-out listens over HTTP: each is scored before the server is told of it, and the answers are those of the
/// offline evaluator.
#[tokio::test]
async fn scores_over_http_are_those_of_the_offline_evaluator() {
    let (app, _folder) = untrained().await;
    let whole = Listening::load(&app.state.catalog).await.expect("listens");
    // The server's model knows the first listens alone: the others come by POST /listens.
    let cut = LISTENS - 60;
    sqlx::query("DELETE FROM listens WHERE listened_at >= to_timestamp($1)")
        .bind(cut as f64)
        .execute(&mut app.database().connect().await)
        .await
        .expect("deleted");
    train_clicks_on(&app.state.catalog, &MODELS, &app.models).await;
    load(&app).await;

    let bundle = ClickBundle::load_current(&app.models).expect("a bundle").1;
    let (table, _) = replay(&whole, Variant::Causal, cut, 1, |place| place >= cut);
    let rows: Vec<usize> = (0..table.rows()).filter(|&row| table.clicks[row] >= cut).collect();
    assert_eq!(rows.len(), 60);
    let rows = table.select(&rows);
    let expected: Vec<(String, Vec<f32>)> = bundle
        .members
        .iter()
        .map(|member| (member.name.clone(), member.score(&rows.fields, &rows.numbers)))
        .chain([("ensemble".to_owned(), ensemble(&bundle.members, bundle.ensemble, &rows.fields, &rows.numbers))])
        .collect();
    let mut largest = 0.0f64;
    for (number, &place) in rows.clicks.iter().enumerate() {
        let click = whole.clicks[place];
        let (user, track) = (&whole.user_ids[click.user as usize], &whole.track_ids[click.track as usize]);
        let values = [click.source.tab, click.source.screen, click.source.kind];
        let mut source = serde_json::Map::new();
        for (field, value) in values.into_iter().enumerate().filter(|(_, value)| *value > 0) {
            source.insert(
                SourceValues::NAMES[field].to_owned(),
                whole.sources.fields[field][value as usize].clone().into(),
            );
        }
        for (model, scores) in &expected {
            let body = json!({"user_id": user, "tracks": ["s0", track], "context": source, "model": model});
            let found = probabilities(&app, &body).await[1];
            largest = largest.max((found - f64::from(probability(scores[number]))).abs());
        }
        let mut listen = source.clone();
        listen.insert("user_id".to_owned(), user.clone().into());
        listen.insert("track_id".to_owned(), track.clone().into());
        let seconds = place as i64;
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let at = at.format(&time::format_description::well_known::Rfc3339).expect("a text");
        listen.insert("listened_at".to_owned(), at.into());
        assert_eq!(app.post("/listens", &json!({"listens": [listen]})).await.ok()["added"], 1);
    }
    assert!(largest < 1e-6, "{largest}");
}

#[tokio::test]
async fn a_model_tells_by_the_users_history_and_moves_with_it() {
    let app = app(&[ClickModelName::Deepfm]).await;
    let body = |user: &str, kind: &str| json!({"user_id": user, "tracks": ["s1", "s2"], "context": context(kind)});
    let library = probabilities(&app, &body("u1", "local-library")).await;
    let online = probabilities(&app, &body("u1", "online-playlist")).await;
    assert!(library[0] > online[0] && library.iter().all(|one| (0.0..=1.0).contains(one)), "{library:?} {online:?}");

    // A new user, of whom nothing is known, comes back to nothing again and again.
    let before = app.post("/scores", &body("newcomer", "local-library")).await.ok();
    assert_eq!((before["unknown_user"].clone(), before["unknown_tracks"].clone()), (json!(true), json!([])));
    let listen = |number: usize| {
        let mut listen = context("local-library");
        listen["user_id"] = json!("newcomer");
        listen["track_id"] = json!(format!("s{number}"));
        listen["listened_at"] = json!(format!("2024-05-01T10:00:{number:02}Z"));
        listen
    };
    let listens: Vec<Value> = (3..33).map(listen).collect();
    assert_eq!(app.post("/listens", &json!({"listens": listens})).await.ok()["added"], 30);
    let counted = app.post("/scores", &body("newcomer", "local-library")).await.ok();
    assert_eq!(counted["unknown_user"], false);
    // The targets are sent later, and twice: they count once.
    let told: Vec<Value> = listens
        .into_iter()
        .map(|mut listen| {
            listen["target"] = json!(false);
            listen
        })
        .collect();
    assert_eq!(app.post("/listens", &json!({"listens": told})).await.ok()["changed"], 30);
    let after = probabilities(&app, &body("newcomer", "local-library")).await;
    assert_eq!(app.post("/listens", &json!({"listens": told})).await.ok()["unchanged"], 30);
    assert_eq!(probabilities(&app, &body("newcomer", "local-library")).await, after);
    let first = before["scores"][0]["probability"].as_f64().expect("a number");
    assert!(after[0] < first - 0.1, "{first} {after:?}");

    // A restarted server reads the listens that it missed: it responds like this one.
    app.state.models.load(Kind::Clicks).expect("loaded");
    load(&app).await;
    let again = probabilities(&app, &body("newcomer", "local-library")).await;
    assert!((again[0] - after[0]).abs() < 1e-6, "{again:?} {after:?}");
}

#[tokio::test]
async fn a_second_version_hears_of_listens_too_and_answers_unseen_or_by_name() {
    let app = app(&[ClickModelName::Fm]).await;
    let active = app.get("/models").await.ok()["models"][0]["version"].clone();
    let second = publish_clicks_again(&app.models, &app.models).version;
    app.post("/models/clicks/activate", &json!({"version": active})).await.ok();
    load(&app).await;
    app.post("/models/clicks/shadow", &json!({"version": second, "every": 1})).await.ok();
    let body = json!({"user_id": "newcomer", "tracks": ["s1", "s2"], "context": context("local-library")});
    let by_second = json!({"user_id": "newcomer", "tracks": ["s1", "s2"], "context": context("local-library"),
                           "version": second});
    assert_eq!(app.post("/scores", &by_second).await.ok()["model_version"], json!(second));
    let caught_up =
        async || app.state.models.all::<ClickModel>().iter().all(|one| !one.model.is_behind()).then_some(());
    wait_until("the listens since the training", caught_up).await;
    let listens: Vec<Value> = (3..33)
        .map(|number| {
            json!({"user_id": "newcomer", "track_id": format!("s{number}"), "target": false,
                   "listened_at": format!("2024-05-01T10:00:{number:02}Z")})
        })
        .collect();
    let answers = async |count: f64| {
        let measured = async || (app.metric("segue_shadow_agreement_count").await == count).then_some(());
        wait_until("its answers", measured).await;
    };
    let before = probabilities(&app, &body).await;
    answers(1.0).await; // before it hears of more
    assert_eq!(app.post("/listens", &json!({"listens": listens})).await.ok()["added"], 30);
    let after = probabilities(&app, &body).await;
    assert!(after[0] < before[0] - 0.01, "{before:?} {after:?}");
    assert_eq!(probabilities(&app, &by_second).await, after);
    answers(2.0).await;
    assert!((app.metric("segue_shadow_agreement_sum").await - 2.0).abs() < 1e-6, "the same model");
    let unknown = json!({"user_id": "u1", "tracks": ["s1"], "version": "20000101T000000.000Z"});
    app.post("/scores", &unknown).await.problem(404);
}

#[tokio::test]
async fn what_is_not_known_is_listed_and_scored_as_new() {
    let app = app(&[ClickModelName::Fm, ClickModelName::Trees]).await;
    let body = json!({"user_id": "nobody", "tracks": ["s1", "never:heard", "s2"],
                      "context": {"source_type": "hologram", "source_system_tab": "discover"}});
    let answer = app.post("/scores", &body).await.ok();
    assert_eq!(answer["unknown_user"], true);
    assert_eq!(answer["unknown_tracks"], json!(["never:heard"]));
    assert_eq!(answer["unknown_context"], json!(["source_type"]));
    assert_eq!((answer["model"].as_str(), answer["scores"].as_array().map(Vec::len)), (Some("ensemble"), Some(3)));
    assert_eq!(answer["scores"][1]["track_id"], "never:heard");
    let version = app.get("/models").await.ok()["models"][0]["version"].clone();
    assert_eq!(answer["model_version"], version);

    let rejected = [
        (json!({"user_id": "u1"}), "body", "tracks"),
        (json!({"user_id": "u1", "tracks": vec!["s1"; 1_001]}), "tracks", "1000"),
        (json!({"user_id": "u1", "tracks": [], "context": {"screen": "x"}}), "context.screen", "unknown field"),
    ];
    let oracle = json!({"user_id": "u1", "tracks": ["s1"], "model": "oracle"});
    let problem = app.post("/scores", &oracle).await.problem(404);
    assert!(problem["detail"].as_str().expect("text").contains("fm, trees, ensemble"), "{problem}");
    for (body, field, reason) in rejected {
        let problem = app.post("/scores", &body).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert!(problem["detail"].as_str().expect("text").contains(reason), "{problem}");
    }
    let none = json!({"user_id": "u1", "tracks": []});
    assert_eq!(app.post("/scores", &none).await.ok()["scores"], json!([]));
    let one = json!({"user_id": "u1", "tracks": ["s1"], "model": "trees"});
    assert_eq!(app.post("/scores", &one).await.ok()["model"], "trees");
}

#[tokio::test]
async fn without_a_model_it_is_said_how_to_make_one() {
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    let problem = app.post("/scores", &json!({"user_id": "u", "tracks": ["t"]})).await.problem(503);
    assert!(problem["detail"].as_str().expect("text").contains("segue train clicks"), "{problem}");
}

/// Prints how long scores take. Ignored: it is a measurement, and wants a release build.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_hundred_tracks_are_scored_in_milliseconds() {
    let app = app(&[ClickModelName::Deepfm]).await;
    let tracks: Vec<String> = (0..100).map(|number| format!("s{}", number % 50)).collect();
    let body = |user: usize| json!({"user_id": format!("u{}", user % 40), "tracks": tracks, "context": context("local-library")});
    let mut milliseconds = Vec::new();
    for request in 0..2_200 {
        let started = Instant::now();
        assert_eq!(app.post("/scores", &body(request)).await.status, 200);
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.drain(..200);
    milliseconds.sort_by(f64::total_cmp);
    println!("100 tracks, one connection: median {:.2} ms, p99 {:.2} ms", milliseconds[1_000], milliseconds[1_980]);
    let app = std::sync::Arc::new(app);
    let bodies: std::sync::Arc<Vec<Value>> = std::sync::Arc::new((0..40).map(body).collect());
    let started = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (app, bodies) = (app.clone(), bodies.clone());
            tokio::spawn(async move {
                for request in 0..500 {
                    assert_eq!(app.post("/scores", &bodies[(request * 8 + client) % 40]).await.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    println!("100 tracks, 8 connections: {:.0} requests/s", 4_000.0 / started.elapsed().as_secs_f64());
}

/// Prints how many rows are learned from each second. Ignored: it is a measurement, and wants a release build.
#[test]
#[ignore = "a measurement"]
fn two_million_rows_of_thirteen_fields() {
    const ROWS: usize = 2_000_000;
    // Values of the fields of the competition's data.
    const CARDINALITIES: [u32; 13] = [30_755, 359_966, 40_582, 21, 2, 5, 10, 192, 9, 20, 12, 76, 3_862];
    let mut offsets = vec![0u32];
    CARDINALITIES.iter().for_each(|count| offsets.push(offsets.last().copied().unwrap_or_default() + count));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut inputs = Inputs::default();
    for _ in 0..ROWS {
        for (count, offset) in CARDINALITIES.iter().zip(&offsets) {
            // Some values are far more frequent than others.
            let place = rng.random::<f64>().powi(2);
            inputs.fields.push(offset + (place * f64::from(*count)) as u32);
        }
    }
    let targets: Vec<bool> = (0..ROWS).map(|_| rng.random()).collect();
    let shape = ClickShape {
        architecture: Architecture::Deepfm,
        rows: offsets[13] as usize,
        field_subjects: vec![Subject::Context; 13],
        number_subjects: Vec::new(),
        number_groups: Vec::new(),
        dim: 16,
        hidden: vec![64, 32],
        cross_layers: 0,
        dropout: 0.2,
    };
    let settings =
        ClickSettings { batch: 8_192, epochs: 1, ..ClickSettings::preset(ClickModelName::Deepfm, Preset::Published) };
    let training = Examples { inputs: &inputs, targets: &targets };
    let task = NetworkTask { shape, training, validation: None, rates: vec![1e-3; 2], seed: 1 };
    let trained =
        train_network(&task, &settings, "network", RunContext::new(1, &Interrupt::default())).expect("trained");
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no word of memory");
    println!("{:.0} rows/s; {peak}", trained.rows_per_second);
}
