//! New bundles while the server runs, and damaged ones.

use std::fs;
use std::path::Path;

use segue::bundle::{Kind, encode_array};
use serde_json::{Value, json};

use crate::support::app::{Setup, TestApp, change_manifest, flip_byte, publish_damaged, replace_file};
use crate::support::training::{publish_again, publish_completion_again};
use crate::support::wait_until;

async fn served_version(app: &TestApp) -> Value {
    app.get("/health/ready").await.ok()["models"]["similarity"].clone()
}

async fn wait_for_version(app: &TestApp, version: &str) {
    wait_until(version, async || (served_version(app).await == version).then_some(())).await;
}

/// Waits until the server has looked at a damaged bundle by itself.
async fn wait_for_rejection(app: &TestApp) {
    let rejected = async || (app.metric("segue_model_refused_total").await >= 1.0).then_some(());
    wait_until("the rejection", rejected).await;
}

#[tokio::test]
async fn a_new_bundle_takes_over_while_the_server_runs() {
    let app = TestApp::spawn().await;
    let before = app.manifest().version;
    assert_eq!(served_version(&app).await, json!(before));
    let after = publish_again(&app.models, &app.models).version;
    assert_ne!(before, after);
    wait_for_version(&app, &after).await;
    let answer = app.post_nothing("/playlists/0/complete").await.ok();
    assert_eq!(answer["model_version"], json!(after));
}

#[tokio::test]
async fn a_server_without_a_model_answers_from_the_first_one_that_is_published() {
    let with_model = TestApp::spawn().await;
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    app.get("/health/ready").await.problem(503);
    let version = publish_again(&with_model.models, &app.models).version;
    wait_until("an answer", async || (app.get("/health/ready").await.status == 200).then_some(())).await;
    assert_eq!(served_version(&app).await, json!(version));
}

#[tokio::test]
async fn a_damaged_new_bundle_is_rejected_the_old_one_keeps_serving_and_the_next_whole_one_takes_over() {
    let app = TestApp::spawn().await;
    let old = app.manifest().version;
    let good = TestApp::spawn().await;
    let damaged = publish_damaged(Kind::Similarity, &good.models, &app.models, |folder| {
        flip_byte(&folder.join("vectors.npy"), 200)
    });
    assert_ne!(damaged, old);
    let rejection = app.state.models.load(Kind::Similarity).expect_err("it is damaged").to_string();
    assert!(rejection.contains("vectors.npy"), "{rejection}");
    wait_for_rejection(&app).await;
    assert_eq!(served_version(&app).await, json!(old));
    assert_eq!(app.get("/tracks/synthetic:track:1/similar").await.ok()["model_version"], json!(old));

    let next = publish_again(&good.models, &app.models).version;
    wait_for_version(&app, &next).await;
}

#[tokio::test]
async fn a_server_that_starts_on_a_damaged_bundle_answers_from_the_newest_whole_one_before_it() {
    let mut older = String::new();
    let app = TestApp::start_with_models(Setup::default(), |models| {
        older = publish_again(models, models).version;
        let copy = tempfile::tempdir().expect("a folder");
        crate::support::copy_folder(models, copy.path());
        publish_damaged(Kind::Similarity, copy.path(), models, |folder| flip_byte(&folder.join("counts.npy"), 130));
    })
    .await;
    assert_eq!(served_version(&app).await, json!(older));
}

#[tokio::test]
async fn a_server_with_nothing_but_a_damaged_bundle_starts_and_says_that_it_has_none() {
    let app = TestApp::start_with_models(Setup::default(), |models| {
        fs::remove_file(models.join("similarity/current/vectors.npy")).expect("removed");
    })
    .await;
    app.get("/health/ready").await.problem(503);
    assert_eq!(app.get("/playlists/0").await.ok()["id"], "0");
}

#[tokio::test]
async fn a_roll_back_to_an_older_version_takes_over_too() {
    let app = TestApp::spawn().await;
    let older = app.manifest().version;
    let newer = publish_again(&app.models, &app.models).version;
    wait_for_version(&app, &newer).await;
    crate::support::app::point_current_at(Kind::Similarity, &app.models, &older);
    wait_for_version(&app, &older).await;
}

#[tokio::test]
async fn a_completion_bundle_takes_over_while_the_server_runs_and_a_damaged_one_is_rejected_by_name() {
    let app = TestApp::spawn().await;
    let good = TestApp::spawn_with_completion_model().await;
    let complete = async || app.post_nothing("/playlists/0/complete").await.ok();
    assert_eq!(complete().await["source"], "track2vec");

    let first = publish_completion_again(&good.models, &app.models).version;
    wait_until(&first, async || (complete().await["model_version"] == first).then_some(())).await;
    assert_eq!(complete().await["source"], "ranking");
    assert_eq!(served_version(&app).await, json!(app.manifest().version), "the other kind is as it was");

    let second = publish_completion_again(&good.models, &app.models).version;
    wait_until(&second, async || (complete().await["model_version"] == second).then_some(())).await;

    for file in ["trees.leaves.npy", "postings.items.npy", "track_names.utf8"] {
        publish_damaged(Kind::Completion, &good.models, &app.models, |folder| {
            let path = folder.join(file);
            let length = fs::metadata(&path).expect("a file").len() as usize;
            flip_byte(&path, length - 1);
        });
        let rejection = app.state.models.load(Kind::Completion).expect_err("it is damaged").to_string();
        assert!(rejection.contains(file), "{rejection}");
    }
    wait_for_rejection(&app).await;
    assert_eq!(complete().await["model_version"], json!(second));
}

/// Damages the bundle in a folder.
type Damage = fn(&Path);

#[tokio::test]
async fn a_bundle_that_does_not_fit_the_program_is_rejected_and_the_newest_whole_one_before_it_serves() {
    let good = TestApp::spawn_with_completion_model().await;
    let mut older = String::new();
    let damages: [(&str, Damage); 4] = [
        ("trees.border_counts.npy", |folder| {
            // Trees of another release, of fewer features.
            let borders = fs::read(folder.join("trees.borders.npy")).expect("a file");
            let borders = segue::bundle::decode_array::<f32>(&borders).expect("borders").values.len() as u32;
            replace_file(folder, "trees.border_counts.npy", encode_array(&[1], &[borders]));
            let features = fs::read(folder.join("trees.features.npy")).expect("a file");
            let shape = segue::bundle::decode_array::<u8>(&features).expect("features").shape;
            let features = encode_array(&shape, &vec![0u8; shape.iter().product()]);
            replace_file(folder, "trees.features.npy", features);
        }),
        ("trees.leaves.npy", |folder| {
            let leaves = fs::read(folder.join("trees.leaves.npy")).expect("a file");
            let mut leaves = segue::bundle::decode_array::<f32>(&leaves).expect("leaves");
            leaves.values[3] = f32::NAN;
            replace_file(folder, "trees.leaves.npy", encode_array(&leaves.shape, &leaves.values));
        }),
        ("popular.npy", |folder| {
            let popular = fs::read(folder.join("popular.npy")).expect("a file");
            let mut popular = segue::bundle::decode_array::<u32>(&popular).expect("rows");
            popular.values[1] = popular.values[0];
            replace_file(folder, "popular.npy", encode_array(&popular.shape, &popular.values));
        }),
        ("not the name of its folder", |folder| {
            change_manifest(folder, |manifest| manifest["version"] = json!("20260101T000000.000Z"));
        }),
    ];
    for (reason, damage) in damages {
        let app = TestApp::start_on_models(Setup { with_model: false, ..Setup::default() }, |models| {
            older = publish_completion_again(&good.models, models).version;
            publish_damaged(Kind::Completion, &good.models, models, damage);
        })
        .await;
        let served = app.get("/models").await.ok();
        assert_eq!(served["models"][0]["version"], json!(older), "{reason}");
        let rejection = app.state.models.load(Kind::Completion).expect_err(reason).to_string();
        assert!(rejection.contains(reason), "{rejection}");
        app.post("/playlists/complete", &json!({"playlists": [{"tracks": ["synthetic:track:1"]}]})).await.ok();
    }
}
