//! What an earlier version wrote: its catalog is migrated and its bundles load, and the answers are the same.
//!
//! `tests/fixtures/<version>/` holds what that version's program wrote: its catalog (`pg_dump --inserts`), its bundles of
//! all four kinds, and its responses to some requests.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use segue::serve::ServeSettings;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::app::{Answer, Setup, TestApp};
use crate::support::database::Database;
use crate::support::training::arguments;
use crate::support::wait_until;

fn fixture(version: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version).join(file)
}

/// A database restored from the dump of `version`.
async fn restored(version: &str) -> Database {
    let database = Database::new().await;
    let dump = std::fs::read_to_string(fixture(version, "catalog.sql")).expect("a dump");
    database.connect().await.execute(AssertSqlSafe(dump)).await.expect("restored");
    database
}

/// Unpacks the bundles of `version` into a models folder.
fn unpack_bundles(version: &str, models: &Path) {
    let folder = models.parent().expect("a folder");
    let archive = fixture(version, "models.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder).status().expect("tar runs");
    assert!(status.success(), "{status}");
}

/// The same, but for what the sums of other processors round differently.
fn assert_same(now: &Value, before: &Value, path: &str) {
    match (now, before) {
        (Value::Number(now), Value::Number(before)) => {
            let (now, before) = (now.as_f64().expect("a number"), before.as_f64().expect("a number"));
            assert!((now - before).abs() <= 1e-4 * before.abs().max(1.0), "{path}: {now}, before {before}");
        }
        (Value::Array(now), Value::Array(before)) => {
            assert_eq!(now.len(), before.len(), "{path}");
            now.iter().zip(before).enumerate().for_each(|(at, (now, before))| {
                assert_same(now, before, &format!("{path}[{at}]"));
            });
        }
        (Value::Object(now), Value::Object(before)) => {
            for (name, before) in before {
                assert_same(now.get(name).unwrap_or(&Value::Null), before, &format!("{path}.{name}"));
            }
        }
        // A track without an artist has none now.
        (Value::Null, Value::String(before)) if before == "Unknown artist" && path.ends_with(".artist") => {}
        _ => assert_eq!(now, before, "{path}"),
    }
}

#[tokio::test]
async fn the_catalog_and_the_bundles_of_0_1_0_answer_as_before() {
    let version = "0.1.0";
    let database = restored(version).await;
    let placements = "SELECT count(*)::text FROM playlist_tracks";
    let before = database.texts(placements).await;
    database.catalog().await.close().await; // applies the migrations since then
    assert_eq!(database.texts(placements).await, before);

    let setup = Setup {
        settings: arguments::<ServeSettings>(&[]),
        catalog: Some(database.url().to_owned()),
        ..Setup::default()
    };
    let app = TestApp::start_on_models(setup, |models| unpack_bundles(version, models)).await;
    let models = app.get("/models").await.ok();
    let loaded: Vec<&str> =
        models["models"].as_array().expect("models").iter().filter_map(|model| model["kind"].as_str()).collect();
    assert_eq!(loaded.len(), 4, "{loaded:?}");

    let responses = std::fs::read_to_string(fixture(version, "responses.json")).expect("responses");
    for recorded in serde_json::from_str::<Vec<Value>>(&responses).expect("JSON") {
        let (method, path) =
            (recorded["method"].as_str().expect("a method"), recorded["path"].as_str().expect("a path"));
        // A response goes out without names when the catalog takes too long, as on a busy machine.
        let unnamed = |response: &str| response.matches("\"name\":null").count();
        let answer = wait_until("names", async || {
            let request = app.request(method.parse::<Method>().expect("a method"), path);
            let request = if recorded["body"].is_null() { request } else { request.json(&recorded["body"]) };
            let answer = Answer::to(request).await;
            (unnamed(&answer.body) <= unnamed(&recorded["response"].to_string())).then_some(answer)
        })
        .await;
        assert_eq!(
            u64::from(answer.status),
            recorded["status"].as_u64().expect("a status"),
            "{method} {path}: {}",
            answer.body
        );
        assert_same(&answer.json(), &recorded["response"], &format!("{method} {path}"));
    }

    // And it goes on from there: the catalog takes writes.
    let track = serde_json::json!({"id": "new:1", "name": "New", "artist": "Someone"});
    assert_eq!(app.post("/tracks", &track).await.status, 201);
    assert_eq!(app.get("/tracks/new%3A1").await.ok()["name"], "New");
}
