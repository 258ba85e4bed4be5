//! `GET /tracks/{id}` and `GET /tracks/{id}/similar`.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::app::{LATE_TRACK, ODD_TRACK, SPOTIFY_TRACK, TestApp, encode, ids};

/// Scores can be compared within one source, and the popular tracks come after the similar ones.
fn assert_best_first(items: &Value) {
    let items = items.as_array().expect("items");
    for pair in items.windows(2) {
        let [source, next_source] = [&pair[0]["source"], &pair[1]["source"]];
        let [score, next_score] = [&pair[0]["score"], &pair[1]["score"]].map(|score| score.as_f64().expect("a score"));
        if source == next_source {
            assert!(score >= next_score, "{score} before {next_score}");
        } else {
            assert_eq!((source, next_source), (&json!("track2vec"), &json!("popularity")));
        }
    }
}

#[tokio::test]
async fn a_track_is_shown_with_its_artist_album_and_duration() {
    let app = TestApp::spawn().await;
    assert_eq!(
        app.get(&format!("/tracks/{}", encode(ODD_TRACK))).await.ok(),
        json!({
            "id": ODD_TRACK, "name": "Odd", "artist": "Handmade", "artist_id": "handmade:artist",
            "album": "By Hand", "album_id": "handmade:album", "duration_ms": 123_456, "genres": [], "hidden": false
        })
    );
}

#[tokio::test]
async fn what_a_source_did_not_say_of_a_track_is_null() {
    let app = TestApp::spawn().await;
    let track = app.get(&format!("/tracks/{LATE_TRACK}")).await.ok();
    assert_eq!(track["name"], "Track 0");
    for field in ["artist_id", "album", "album_id", "duration_ms"] {
        assert_eq!(track.get(field), Some(&Value::Null), "{field}");
    }
}

#[tokio::test]
async fn colons_in_ids_may_be_encoded_and_need_not_be() {
    let app = TestApp::spawn().await;
    for path in [format!("/tracks/{SPOTIFY_TRACK}"), format!("/tracks/{}", encode(SPOTIFY_TRACK))] {
        assert_eq!(app.get(&path).await.ok()["id"], SPOTIFY_TRACK, "{path}");
        assert_eq!(app.get(&format!("{path}/similar")).await.ok()["track_id"], SPOTIFY_TRACK, "{path}");
    }
}

#[tokio::test]
async fn an_id_with_slashes_spaces_and_accents_is_found_when_encoded() {
    let app = TestApp::spawn().await;
    let answer = app.get(&format!("/tracks/{}/similar?limit=3", encode(ODD_TRACK))).await.ok();
    assert_eq!(answer["track_id"], ODD_TRACK);
    assert_eq!(ids(&answer["items"]).len(), 3);
}

#[tokio::test]
async fn similar_tracks_are_distinct_named_and_nearest_first() {
    let app = TestApp::spawn().await;
    let answer = app.get("/tracks/synthetic:track:1/similar?limit=20").await.ok();
    assert_eq!(answer["track_id"], "synthetic:track:1");
    assert_eq!(answer["source"], "track2vec");
    assert_eq!(answer["model_version"], json!(app.manifest().version));
    let similar = ids(&answer["items"]);
    assert_eq!(similar.len(), 20);
    assert_eq!(similar.iter().collect::<HashSet<_>>().len(), 20, "{similar:?}");
    assert!(!similar.contains(&"synthetic:track:1".to_owned()));
    assert_best_first(&answer["items"]);
    for item in answer["items"].as_array().expect("items") {
        let id = item["track_id"].as_str().expect("an id");
        let track = app.get(&format!("/tracks/{}", encode(id))).await.ok();
        assert_eq!((&item["name"], &item["artist"]), (&track["name"], &track["artist"]), "{id}");
        assert!(item["name"].as_str().is_some_and(|name| !name.is_empty()), "{item}");
        // A cosine, with room for rounding.
        assert!(item["score"].as_f64().is_some_and(|score| score.abs() <= 1.0 + 1e-5), "{item}");
    }
}

#[tokio::test]
async fn as_many_similar_tracks_come_as_were_asked_for() {
    let app = TestApp::spawn().await;
    for (query, expected) in [("?limit=1", 1), ("?limit=7", 7), ("", 50)] {
        let answer = app.get(&format!("/tracks/synthetic:track:1/similar{query}")).await.ok();
        assert_eq!(ids(&answer["items"]).len(), expected, "{query}");
    }
    let ten = ids(&app.get("/tracks/synthetic:track:1/similar?limit=10").await.ok()["items"]);
    let two = ids(&app.get("/tracks/synthetic:track:1/similar?limit=2").await.ok()["items"]);
    assert_eq!(two, ten[..2], "a shorter list is the head of a longer one");
}

#[tokio::test]
async fn when_more_is_asked_for_than_there_is_every_other_track_comes_once() {
    let app = TestApp::spawn().await;
    let model = app.get("/models").await.ok()["models"][0].clone();
    let (tracks, candidates) = (model["tracks"].as_u64().expect("tracks"), model["candidates"].as_u64().expect("some"));
    assert!(candidates < tracks && tracks <= 500, "the fixture has rare tracks: {model}");
    let answer = app.get("/tracks/synthetic:track:1/similar?limit=500").await.ok();
    let similar = ids(&answer["items"]);
    assert_eq!(similar.iter().collect::<HashSet<_>>().len() as u64, tracks - 1);
    assert_eq!(similar.len() as u64, tracks - 1);
    assert!(!similar.contains(&"synthetic:track:1".to_owned()));
    assert_best_first(&answer["items"]);
    let by_vectors = answer["items"].as_array().expect("items").iter().filter(|item| item["source"] == "track2vec");
    assert_eq!(by_vectors.count() as u64, candidates - 1, "tracks that occur too rarely are not called similar");
}

#[tokio::test]
async fn a_track_that_the_model_does_not_know_gets_popular_tracks() {
    let app = TestApp::spawn().await;
    let answer = app.get(&format!("/tracks/{LATE_TRACK}/similar?limit=5")).await.ok();
    assert_eq!(answer["source"], "popularity");
    assert_eq!(ids(&answer["items"]).len(), 5);
    assert_best_first(&answer["items"]);
    let popular = app.post("/playlists/complete", &json!({"playlists": [{}], "limit": 5})).await.ok();
    assert_eq!(ids(&answer["items"]), ids(&popular["completions"][0]["items"]));
}
