//! Completions from a completion bundle: `ranking`, with titles, reasons and diversity.

use std::collections::HashSet;

use segue::catalog::{TrackId, TrackRecord};
use serde_json::{Value, json};

use crate::support::app::{Answer, EMPTY, HANDMADE, LATE, Setup, TestApp, encode, ids};
use crate::support::wait_until;

/// The one completion of an inline request.
async fn inline(app: &TestApp, body: &Value) -> Value {
    let answer = app.post("/playlists/complete", body).await.ok();
    assert_eq!(answer["completions"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["completions"][0].clone()
}

fn distinct(ids: &[String]) -> HashSet<&String> {
    ids.iter().collect()
}

/// Every track of the playlists that the models were trained on.
async fn all_tracks(app: &TestApp) -> Vec<String> {
    let sql = "SELECT DISTINCT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
               WHERE t.uri NOT LIKE 'late:%' ORDER BY t.uri";
    app.database().texts(sql).await
}

/// The `detail` and the field of a 422.
async fn rejected_field(app: &TestApp, body: &Value) -> String {
    let problem = app.post("/playlists/0/complete", body).await.problem(422);
    assert!(problem["errors"][0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{problem}");
    problem["errors"][0]["field"].as_str().expect("a field").to_owned()
}

#[tokio::test]
async fn the_ranking_answers_with_new_distinct_tracks_and_keeps_limit_and_exclusions() {
    let app = TestApp::spawn_with_completion_model().await;
    let version = app.completion_manifest().version;
    for playlist in ["0", "7", HANDMADE] {
        let path = format!("/playlists/{}/complete", encode(playlist));
        let seeds = app.tracks_of(playlist).await;
        let first = app.post(&path, &json!({"limit": 10})).await.ok();
        assert_eq!((&first["source"], &first["model_version"]), (&json!("ranking"), &json!(version)));
        let excluded = ids(&first["items"]);
        assert_eq!(excluded.len(), 10);
        let second = app.post(&path, &json!({"limit": 40, "exclude": excluded, "model": "ranking"})).await.ok();
        let items = ids(&second["items"]);
        assert_eq!((items.len(), distinct(&items).len()), (40, 40), "{playlist}: {items:?}");
        for unwanted in seeds.iter().chain(&excluded) {
            assert!(!items.contains(unwanted), "{playlist}: {unwanted} should not have been recommended");
        }
        let scores = second["items"].as_array().expect("items").iter().map(|item| item["score"].as_f64());
        let scores: Vec<f64> = scores.map(|score| score.expect("a score")).collect();
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
        assert!(scores.is_sorted_by(|left, right| left >= right), "{scores:?}");
        assert!(second["items"].as_array().expect("items").iter().all(|item| item.get("reasons").is_none()));
    }
}

#[tokio::test]
async fn a_title_alone_finds_tracks_of_playlists_with_such_titles() {
    let app = TestApp::spawn_with_completion_model().await;
    // The title that most playlists have.
    let sql = "SELECT title FROM playlists WHERE title <> '' GROUP BY title ORDER BY count(*) DESC, title LIMIT 1";
    let title = app.database().texts(sql).await.remove(0);
    let sql = "SELECT DISTINCT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
               JOIN playlists p ON p.id = pt.playlist_id
               WHERE p.title = (SELECT title FROM playlists WHERE title <> ''
                                GROUP BY title ORDER BY count(*) DESC, title LIMIT 1)";
    let of_title: HashSet<String> = app.database().texts(sql).await.into_iter().collect();
    let by_title = inline(&app, &json!({"playlists": [{"title": title}], "limit": 20})).await;
    let popular = inline(&app, &json!({"playlists": [{}], "limit": 20, "model": "popularity"})).await;
    assert_eq!((&by_title["source"], &popular["source"]), (&json!("ranking"), &json!("popularity")));
    let share = |completion: &Value| ids(&completion["items"]).iter().filter(|&id| of_title.contains(id)).count();
    assert_ne!(ids(&by_title["items"]), ids(&popular["items"]));
    assert!(share(&by_title) > share(&popular), "{title}: {} and {}", share(&by_title), share(&popular));
    assert!(share(&by_title) >= 15, "{title}: {by_title}");
}

#[tokio::test]
async fn reasons_refer_to_tracks_of_the_playlist() {
    let app = TestApp::spawn_with_completion_model().await;
    let seeds = app.tracks_of("0").await;
    let answer = app.post("/playlists/0/complete", &json!({"limit": 30, "explain": true})).await.ok();
    let mut kinds: HashSet<String> = HashSet::new();
    for item in answer["items"].as_array().expect("items") {
        let reasons = item["reasons"].as_array().unwrap_or_else(|| panic!("no reasons in {item}"));
        assert!(!reasons.is_empty(), "{item}");
        for reason in reasons {
            let kind = reason["kind"].as_str().expect("a kind");
            kinds.insert(kind.to_owned());
            let tracks: Vec<&str> =
                reason["tracks"].as_array().map_or(Vec::new(), |ids| ids.iter().filter_map(Value::as_str).collect());
            assert!(tracks.iter().all(|id| seeds.iter().any(|seed| seed == id)), "{reason}");
            match kind {
                "together" => assert!(!tracks.is_empty() && reason["playlists"].as_u64() > Some(0), "{reason}"),
                "same_artist" | "same_album" | "taste" => assert!(!tracks.is_empty(), "{reason}"),
                "title" => assert!(reason["title"].as_str().is_some_and(|title| !title.is_empty()), "{reason}"),
                "artist_in_title" | "popularity" => assert_eq!(tracks, Vec::<&str>::new(), "{reason}"),
                _ => panic!("the contract has no reason {reason}"),
            }
        }
    }
    assert!(kinds.contains("together"), "{kinds:?}");
    // The order does not depend on whether reasons are given.
    let plain = app.post("/playlists/0/complete", &json!({"limit": 30})).await.ok();
    assert_eq!(ids(&plain["items"]), ids(&answer["items"]));
}

#[tokio::test]
async fn diversity_brings_other_tracks_and_keeps_the_rules() {
    let app = TestApp::spawn_with_completion_model().await;
    let playlists = ["0", "1", "2", "3"].map(|playlist| (playlist, "ranking"));
    for (playlist, model) in playlists.into_iter().chain(["neumf", "track2vec", "popularity"].map(|model| ("3", model)))
    {
        let path = format!("/playlists/{playlist}/complete");
        let seeds = app.tracks_of(playlist).await;
        let plain = app.post(&path, &json!({"limit": 20, "model": model})).await.ok();
        let zero = app.post(&path, &json!({"limit": 20, "model": model, "diversity": 0})).await.ok();
        assert_eq!(plain, zero);
        let diverse = app.post(&path, &json!({"limit": 20, "model": model, "diversity": 0.6})).await.ok();
        let items = ids(&diverse["items"]);
        assert_eq!((items.len(), distinct(&items).len()), (20, 20), "{items:?}");
        assert!(!items.iter().any(|id| seeds.contains(id)), "{items:?}");
        assert_ne!(items, ids(&plain["items"]));
        assert_eq!(items[0], ids(&plain["items"])[0], "the most relevant one stays first");
    }
}

#[tokio::test]
async fn diversity_that_can_not_be_had_is_rejected_naming_the_field() {
    let app = TestApp::spawn_with_completion_model().await;
    for diversity in [json!(1.01), json!(-0.1), json!("much"), json!(null)] {
        assert_eq!(rejected_field(&app, &json!({"diversity": diversity})).await, "diversity", "{diversity}");
    }
    assert_eq!(rejected_field(&app, &json!({"model": "oracle"})).await, "model");
    app.post("/playlists/0/complete", &json!({"diversity": 1})).await.ok();
}

#[tokio::test]
async fn with_nothing_to_go_by_the_popular_tracks_come_and_the_answer_says_so() {
    let app = TestApp::spawn_with_completion_model().await;
    let popular = inline(&app, &json!({"playlists": [{}], "limit": 5, "model": "popularity"})).await;
    let stored = app.post(&format!("/playlists/{EMPTY}/complete"), &json!({"limit": 5})).await.ok();
    let nothing = inline(&app, &json!({"playlists": [{"tracks": []}], "limit": 5, "explain": true})).await;
    let late = app.post(&format!("/playlists/{LATE}/complete"), &json!({"limit": 5})).await.ok();
    for completion in [&stored, &nothing, &late] {
        assert_eq!(completion["source"], "popularity", "{completion}");
        assert_eq!(ids(&completion["items"]), ids(&popular["items"]));
    }
    assert_eq!(late["unknown_tracks"], json!(["late:0", "late:1", "late:2"]));
    for item in nothing["items"].as_array().expect("items") {
        assert_eq!(item["reasons"], json!([{"kind": "popularity"}]));
    }
}

#[tokio::test]
async fn very_long_playlists_and_titles_are_answered() {
    let app = TestApp::spawn_with_completion_model().await;
    let all = all_tracks(&app).await;
    let known: Vec<String> = all.iter().take(all.len() - 30).cycle().take(9_000).cloned().collect();
    let answer = inline(&app, &json!({"playlists": [{"tracks": known}], "limit": 500})).await;
    let (items, rest) = (ids(&answer["items"]), &all[all.len() - 30..]);
    // What is left of the catalog, all of it and nothing else.
    assert_eq!(distinct(&items), rest.iter().collect::<HashSet<&String>>());
    assert_eq!(items.len(), 30);
    let everything: Vec<String> = all.iter().cycle().take(9_000).cloned().collect();
    let answer = inline(&app, &json!({"playlists": [{"tracks": everything}]})).await;
    assert_eq!((&answer["items"], &answer["unknown_tracks"]), (&json!([]), &json!([])));

    let emoji = "🎉".repeat(10_000);
    let answer = inline(&app, &json!({"playlists": [{"title": emoji}], "limit": 10})).await;
    assert_eq!(distinct(&ids(&answer["items"])).len(), 10);
    let tracks = app.tracks_of("0").await;
    let answer = inline(&app, &json!({"playlists": [{"title": emoji, "tracks": tracks}], "limit": 10})).await;
    assert_eq!(answer["source"], "ranking");
}

#[tokio::test]
async fn where_there_is_no_completion_bundle_the_similarity_bundle_answers_and_without_any_the_command_is_named() {
    let app = TestApp::spawn().await;
    let answer = app.post_nothing("/playlists/0/complete").await.ok();
    assert_eq!((&answer["source"], &answer["model_version"]), (&json!("track2vec"), &json!(app.manifest().version)));
    let problem = app.post("/playlists/0/complete", &json!({"model": "ranking"})).await.problem(503);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("segue train completion")), "{problem}");

    let only_completion = Setup { with_model: false, with_completion_model: true, ..Setup::default() };
    let app = TestApp::start(only_completion).await;
    assert_eq!(app.post_nothing("/playlists/0/complete").await.ok()["source"], "ranking");
    let problem = app.post("/playlists/0/complete", &json!({"model": "track2vec"})).await.problem(503);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("segue train similarity")), "{problem}");

    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    for model in [None, Some("ranking"), Some("track2vec"), Some("popularity")] {
        let problem = app.post("/playlists/0/complete", &json!({"model": model})).await.problem(503);
        assert_eq!(problem["type"], "urn:segue:problem:no-model", "{model:?}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("segue train ")), "{problem}");
    }
}

#[tokio::test]
async fn neumf_answers_when_asked_for_by_name() {
    let app = TestApp::spawn_with_completion_model().await;
    let seeds = app.tracks_of("3").await;
    let answer = app.post("/playlists/3/complete", &json!({"model": "neumf", "limit": 60, "explain": true})).await.ok();
    assert_eq!(
        (&answer["source"], &answer["model_version"]),
        (&json!("neumf"), &json!(app.completion_manifest().version))
    );
    let items = ids(&answer["items"]);
    assert_eq!((items.len(), distinct(&items).len()), (60, 60));
    assert!(items.iter().all(|item| !seeds.contains(item)));
    let title_alone = inline(&app, &json!({"model": "neumf", "limit": 5, "playlists": [{"title": "jazz"}]})).await;
    assert_eq!(title_alone["items"].as_array().map(Vec::len), Some(5), "{title_alone}");
    let nothing = inline(&app, &json!({"model": "neumf", "limit": 5, "playlists": [{}]})).await;
    assert_eq!(nothing["source"], "popularity");
}

#[tokio::test]
async fn a_name_that_changes_shows_at_once_whoever_changes_it() {
    let app = TestApp::spawn_with_completion_model().await;
    let items = async || app.post("/playlists/0/complete", &json!({"limit": 50})).await.ok()["items"].clone();
    let item_of = async |id: &str| {
        let items = items().await;
        items.as_array().expect("items").iter().find(|item| item["track_id"] == id).cloned().expect("the track")
    };
    let first = items().await;
    let [id, other] = [0, 1].map(|place| first[place]["track_id"].as_str().expect("an id").to_owned());
    // By this server, by an artist's new name on another track, by another program.
    let changed = json!({"name": "Another title", "artist": "Another artist", "artist_id": "another:artist"});
    assert_eq!(patch(&app, &id, &changed).await, 200);
    wait_until("the new names", async || {
        let item = item_of(&id).await;
        (item["name"] == "Another title" && item["artist"] == "Another artist").then_some(())
    })
    .await;
    let same = json!({"id": "same artist", "artist": "Renamed artist", "artist_id": "another:artist"});
    assert_eq!(app.post("/tracks", &same).await.status, 201);
    wait_until("the artist's new name", async || (item_of(&id).await["artist"] == "Renamed artist").then_some(()))
        .await;
    let catalog = app.database().catalog().await;
    let record = TrackRecord::named(TrackId::new(other.as_str()).expect("an id"), "By an import");
    let outcome = catalog.upsert_tracks(&[record]).await.expect("imported");
    catalog.close().await;
    assert_eq!(outcome.tracks_changed, 1);
    wait_until("the imported name", async || (item_of(&other).await["name"] == "By an import").then_some(())).await;
    assert_eq!(patch(&app, &id, &json!({"artist": null, "artist_id": null})).await, 200);
    wait_until("no artist", async || item_of(&id).await["artist"].is_null().then_some(())).await;
}

async fn patch(app: &TestApp, track: &str, changes: &Value) -> u16 {
    let path = format!("/tracks/{}", encode(track));
    Answer::to(app.request(reqwest::Method::PATCH, &path).json(changes)).await.status
}
