//! `GET /tracks/{id}` and `GET /tracks/{id}/similar`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use segue::bundle::{Kind, SimilarityBundle, Vocabulary};
use segue::recommend::{VectorIndex, VectorQuery};
use serde_json::{Value, json};

use crate::support::app::{Answer, LATE_TRACK, ODD_TRACK, SPOTIFY_TRACK, Setup, TestApp, encode, ids, named};
use crate::support::training::publish;

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
    let answer = named(async || app.get("/tracks/synthetic:track:1/similar?limit=20").await).await;
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

#[tokio::test]
async fn what_comes_next_is_ranked_from_playlists_and_hidden_tracks_are_not_in_it() {
    let app = TestApp::spawn().await;
    let path = "/tracks/synthetic:track:1/next?limit=10";
    let answer = named(async || app.get(path).await).await;
    assert_eq!((&answer["source"], &answer["track_id"]), (&json!("next"), &json!("synthetic:track:1")));
    let next = ids(&answer["items"]);
    assert_eq!(next.iter().collect::<HashSet<_>>().len(), 10, "{next:?}");
    assert!(!next.contains(&"synthetic:track:1".to_owned()));
    let first = &answer["items"][0];
    assert!(first["name"].as_str().is_some_and(|name| !name.is_empty()), "{first}");

    // Further than the list goes: similar tracks, and popular ones behind them.
    let longer = app.get("/tracks/synthetic:track:1/next?limit=200").await.ok();
    let sources: HashSet<&str> =
        longer["items"].as_array().expect("items").iter().filter_map(|item| item["source"].as_str()).collect();
    assert!(sources.contains("next") && sources.contains("track2vec"), "{sources:?}");
    assert_eq!(ids(&longer["items"])[..10], next);

    let hide = app.request(Method::PATCH, &format!("/tracks/{}", encode(&next[0]))).json(&json!({"hidden": true}));
    Answer::to(hide).await.ok();
    let without = ids(&app.get(path).await.ok()["items"]);
    assert_eq!(without[..9], next[1..], "a hidden track comes next");

    // One that the model does not know gets the popular ones, one that nobody knows nothing.
    assert_eq!(app.get(&format!("/tracks/{LATE_TRACK}/next")).await.ok()["source"], "popularity");
    app.get("/tracks/nobody/next").await.problem(404);
    let problem = app.get("/tracks/synthetic:track:1/next?limit=0").await.problem(422);
    assert_eq!(problem["errors"][0]["field"], "limit", "{problem}");
}

#[tokio::test]
async fn questions_that_wait_together_get_the_answers_that_each_would_get_alone() {
    let app = TestApp::spawn().await;
    let path = |track: usize| format!("/tracks/synthetic:track:{track}/similar?limit={}", 5 + track % 7);
    let mut alone = Vec::new();
    for track in 1..60 {
        alone.push(app.get(&path(track)).await.ok());
    }
    let together = futures_util::future::join_all((1..60).map(|track| {
        let (app, path) = (&app, path(track));
        async move { app.get(&path).await.ok() }
    }));
    assert_eq!(together.await, alone);
}

/// `scripts/with-postgres.sh cargo test --release --test api two_million -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; in a release build"]
async fn two_million_tracks_are_searched_in_milliseconds() {
    const ROWS: usize = 2_262_292;
    const DIMENSIONS: usize = 64;
    const CONNECTIONS: usize = 8;
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    let ids_of: Vec<String> = (0..ROWS).map(|row| format!("big:{row}")).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    // Around two thousand centres, as tracks lie around kinds of music.
    let centres: Vec<f32> = (0..2_000 * DIMENSIONS).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut vectors = Vec::with_capacity(ROWS * DIMENSIONS);
    for _ in 0..ROWS {
        let centre = rng.random_range(0..2_000) * DIMENSIONS;
        let row: Vec<f32> =
            centres[centre..centre + DIMENSIONS].iter().map(|value| value + rng.random_range(-1.0f32..1.0)).collect();
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        vectors.extend(row.iter().map(|value| value / length));
    }
    let bundle = SimilarityBundle {
        vocabulary: Vocabulary::new(ids_of.iter().map(String::as_str)).expect("distinct"),
        vectors,
        dimensions: DIMENSIONS,
        counts: (0..ROWS as u32).map(|row| 2 + 20_000_000 / (row + 10)).collect(),
        candidates: ROWS,
        next: None,
    };
    let like = TestApp::spawn().await;
    publish(&bundle, &like.manifest(), &app.models);
    drop(like);
    let loading = Instant::now();
    app.state.models.load(Kind::Similarity).expect("loaded");
    println!("loaded in {:.1} s", loading.elapsed().as_secs_f64());

    let (mut milliseconds, mut found, mut wanted) = (Vec::new(), 0, 0);
    for number in 0..220usize {
        let row = number * 10_007 % ROWS;
        let started = Instant::now();
        let answer = app.get(&format!("/tracks/big:{row}/similar?limit=100")).await.ok();
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        if number % 10 == 0 {
            let index = VectorIndex::new(&bundle.vectors, DIMENSIONS, ROWS);
            let query =
                VectorQuery { vector: index.vector(row as u32), bias: &[], excluded: &[row as u32], limit: 100 };
            let exact: HashSet<String> =
                index.nearest(&[query]).remove(0).iter().map(|near| ids_of[near.row as usize].clone()).collect();
            wanted += exact.len();
            found += ids(&answer["items"]).iter().filter(|id| exact.contains(*id)).count();
        }
    }
    milliseconds.drain(..20);
    milliseconds.sort_by(f64::total_cmp);
    let (median, p99, recall) = (milliseconds[100], milliseconds[197], found as f64 / wanted as f64);
    println!("{ROWS} tracks, limit 100, one connection: median {median:.2} ms, p99 {p99:.2} ms, recall {recall:.4}");

    let (app, started) = (Arc::new(app), Instant::now());
    let asking: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let app = app.clone();
            tokio::spawn(async move {
                let mut asked = 0;
                while started.elapsed().as_secs() < 10 {
                    let row = (connection * 1_000_003 + asked * 7_919) % ROWS;
                    app.get(&format!("/tracks/big:{row}/similar?limit=100")).await.ok();
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let mut asked = 0;
    for asking in asking {
        asked += asking.await.expect("joined");
    }
    println!("{CONNECTIONS} connections: {:.0} requests/s", asked as f64 / started.elapsed().as_secs_f64());
    assert!(recall >= 0.99, "{recall}");
}
