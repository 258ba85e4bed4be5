//! `POST /playlists/{id}/complete` and `POST /playlists/complete`.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::app::{EMPTY, HANDMADE, LATE, ODD_TRACK, TestApp, encode, ids, named};

/// Distinct, and none of `unwanted`.
#[track_caller]
fn assert_distinct_and_new(recommended: &[String], unwanted: &[String]) {
    let distinct: HashSet<&String> = recommended.iter().collect();
    assert_eq!(distinct.len(), recommended.len(), "{recommended:?}");
    let unwelcome: Vec<&String> = unwanted.iter().filter(|id| distinct.contains(id)).collect();
    assert!(unwelcome.is_empty(), "{unwelcome:?} should not have been recommended");
}

/// Ids by falling number of placements at the time of the training, and the share of each.
async fn by_popularity(app: &TestApp) -> Vec<(String, f64)> {
    let rows = app
        .database()
        .texts(
            r#"SELECT t.uri || ' = ' || count(*) FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
               WHERE t.uri NOT LIKE 'late:%' GROUP BY t.uri ORDER BY count(*) DESC, t.uri COLLATE "C""#,
        )
        .await;
    let counts: Vec<(String, f64)> = rows
        .iter()
        .map(|row| row.rsplit_once(" = ").expect("a count"))
        .map(|(id, count)| (id.to_owned(), count.parse().expect("a number")))
        .collect();
    let total: f64 = counts.iter().map(|(_, count)| count).sum();
    counts.into_iter().map(|(id, count)| (id, count / total)).collect()
}

#[tokio::test]
async fn a_stored_playlist_is_completed_without_a_body() {
    let app = TestApp::spawn().await;
    let answer = named(async || app.post_nothing("/playlists/0/complete").await).await;
    assert_eq!(answer["playlist_id"], "0");
    assert_eq!(answer["model_version"], json!(app.manifest().version));
    assert_eq!(answer["source"], "track2vec");
    assert_eq!(answer["unknown_tracks"], json!([]));
    let recommended = ids(&answer["items"]);
    assert_eq!(recommended.len(), 50);
    assert_distinct_and_new(&recommended, &app.tracks_of("0").await);
    for item in answer["items"].as_array().expect("items") {
        assert!(item["name"].is_string() && item["artist"].is_string() && item["score"].is_number(), "{item}");
    }
    let of_an_object = named(async || app.post("/playlists/0/complete", &json!({})).await).await;
    assert_eq!(of_an_object, answer, "an empty object is no body");
}

#[tokio::test]
async fn limit_and_exclude_are_respected() {
    let app = TestApp::spawn().await;
    let first = ids(&app.post("/playlists/0/complete", &json!({"limit": 10})).await.ok()["items"]);
    assert_eq!(first.len(), 10);
    let body = json!({"limit": 10, "exclude": first});
    let second = ids(&app.post("/playlists/0/complete", &body).await.ok()["items"]);
    assert_eq!(second.len(), 10);
    let unwanted = [app.tracks_of("0").await, first.clone()].concat();
    assert_distinct_and_new(&second, &unwanted);
    let twenty = ids(&app.post("/playlists/0/complete", &json!({"limit": 20})).await.ok()["items"]);
    assert_eq!([first, second].concat(), twenty, "without the first ten, the next ten come");
}

#[tokio::test]
async fn popularity_recommends_what_is_placed_most_often_and_not_there_yet() {
    let app = TestApp::spawn().await;
    let seeds = app.tracks_of("0").await;
    let body = json!({"limit": 12, "model": "popularity"});
    let answer = app.post("/playlists/0/complete", &body).await.ok();
    assert_eq!(answer["source"], "popularity");
    let expected: Vec<(String, f64)> =
        by_popularity(&app).await.into_iter().filter(|(id, _)| !seeds.contains(id)).take(12).collect();
    let items = answer["items"].as_array().expect("items");
    assert_eq!(items.len(), 12);
    for (item, (id, share)) in items.iter().zip(&expected) {
        assert_eq!(item["track_id"], json!(id));
        assert_eq!(item["source"], "popularity");
        // A share in single precision.
        assert!((item["score"].as_f64().expect("a score") - share).abs() < 1e-6, "{item}, expected {share}");
    }
}

#[tokio::test]
async fn a_playlist_with_an_odd_id_and_repeated_tracks_is_completed() {
    let app = TestApp::spawn().await;
    let answer = app.post(&format!("/playlists/{}/complete", encode(HANDMADE)), &json!({"limit": 30})).await.ok();
    assert_eq!(answer["playlist_id"], HANDMADE);
    assert_eq!(ids(&answer["items"]).len(), 30);
    assert_distinct_and_new(&ids(&answer["items"]), &app.tracks_of(HANDMADE).await);
}

#[tokio::test]
async fn an_empty_playlist_gets_the_popular_tracks_and_is_told_so() {
    let app = TestApp::spawn().await;
    let popular: Vec<String> = by_popularity(&app).await.into_iter().take(5).map(|(id, _)| id).collect();
    let stored = app.post(&format!("/playlists/{EMPTY}/complete"), &json!({"limit": 5})).await.ok();
    let body = json!({"playlists": [{"title": "nothing yet"}, {"tracks": []}], "limit": 5});
    let inline = app.post("/playlists/complete", &body).await.ok();
    for completion in [&stored, &inline["completions"][0], &inline["completions"][1]] {
        assert_eq!(completion["source"], "popularity");
        assert_eq!(ids(&completion["items"]), popular);
    }
}

#[tokio::test]
async fn a_playlist_of_tracks_that_the_model_does_not_know_is_completed_by_popularity() {
    let app = TestApp::spawn().await;
    let answer = app.post(&format!("/playlists/{LATE}/complete"), &json!({"limit": 5})).await.ok();
    assert_eq!(answer["source"], "popularity");
    assert_eq!(answer["unknown_tracks"], json!(["late:0", "late:1", "late:2"]));
    assert_eq!(ids(&answer["items"]).len(), 5);
}

#[tokio::test]
async fn unknown_ids_are_passed_over_and_listed() {
    let app = TestApp::spawn().await;
    let body = json!({"limit": 5, "exclude": ["no such", "synthetic:track:2", "nor this", "no such"]});
    let stored = app.post("/playlists/0/complete", &body).await.ok();
    assert_eq!(stored["unknown_tracks"], json!([]));
    assert_eq!(stored["unknown_exclusions"], json!(["no such", "nor this"]));
    assert_eq!(stored["source"], "track2vec");

    let body = json!({
        "playlists": [{"tracks": ["what", "synthetic:track:1"]}, {"tracks": ["synthetic:track:1"]}],
        "exclude": ["no such"]
    });
    let inline = app.post("/playlists/complete", &body).await.ok();
    assert_eq!(inline["completions"][0]["unknown_tracks"], json!(["what"]));
    assert_eq!(inline["completions"][1]["unknown_tracks"], json!([]));
    assert_eq!(inline["unknown_exclusions"], json!(["no such"]));
    assert_eq!(inline["completions"][0]["items"], inline["completions"][1]["items"]);
}

#[tokio::test]
async fn a_playlist_given_inline_is_completed_as_if_it_were_stored() {
    let app = TestApp::spawn().await;
    let tracks = app.tracks_of("3").await;
    let inline = app.post("/playlists/complete", &json!({"playlists": [{"tracks": tracks}], "limit": 15})).await.ok();
    let stored = app.post("/playlists/3/complete", &json!({"limit": 15})).await.ok();
    assert_eq!(inline["model_version"], stored["model_version"]);
    assert_eq!(inline["completions"].as_array().map(Vec::len), Some(1));
    for field in ["source", "items", "unknown_tracks"] {
        assert_eq!(inline["completions"][0][field], stored[field], "{field}");
    }
}

#[tokio::test]
async fn sixty_four_playlists_at_once_get_the_answers_that_each_gets_alone() {
    let app = TestApp::spawn().await;
    let mut playlists: Vec<Value> = Vec::new();
    for number in 0..64 {
        // Every eighth is empty, so that they don't all take the same way.
        let tracks = if number % 8 == 7 { Vec::new() } else { app.tracks_of(&number.to_string()).await };
        playlists.push(json!({"title": format!("number {number}"), "tracks": tracks}));
    }
    let exclude = json!(["synthetic:track:0", ODD_TRACK]);
    let body = json!({"playlists": playlists, "limit": 9, "exclude": exclude});
    let together = app.post("/playlists/complete", &body).await.ok();
    let completions = together["completions"].as_array().expect("completions");
    assert_eq!(completions.len(), 64);
    for (playlist, completion) in playlists.iter().zip(completions) {
        let body = json!({"playlists": [playlist], "limit": 9, "exclude": exclude});
        assert_eq!(&app.post("/playlists/complete", &body).await.ok()["completions"][0], completion);
        let seeds: Vec<String> = serde_json::from_value(playlist["tracks"].clone()).expect("ids");
        assert_distinct_and_new(&ids(&completion["items"]), &[seeds, vec![ODD_TRACK.to_owned()]].concat());
    }
}

#[tokio::test]
async fn sixty_five_playlists_and_none_are_rejected_naming_the_field() {
    let app = TestApp::spawn().await;
    for playlists in [vec![json!({}); 65], Vec::new()] {
        let answer = app.post("/playlists/complete", &json!({"playlists": playlists})).await;
        let problem = answer.problem(422);
        assert_eq!(problem["type"], "urn:segue:problem:invalid-field");
        assert_eq!(problem["errors"][0]["field"], "playlists", "{problem}");
        assert!(problem["errors"][0]["reason"].as_str().is_some_and(|reason| reason.contains("64")), "{problem}");
    }
}

#[tokio::test]
async fn when_nothing_is_left_to_recommend_the_answer_is_empty_and_no_error() {
    let app = TestApp::spawn().await;
    let everything: Vec<String> = by_popularity(&app).await.into_iter().map(|(id, _)| id).collect();
    for model in ["track2vec", "popularity"] {
        let answer = app.post("/playlists/0/complete", &json!({"exclude": everything, "model": model})).await.ok();
        assert_eq!(answer["items"], json!([]), "{model}");
    }
}
