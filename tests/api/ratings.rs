//! Ratings and listens over HTTP, and recommendations for a user from them.

use std::collections::HashSet;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use segue::bundle::{BundleWriter, ImplicitBundle, Kind, NewManifest, RatingsBundle, RatingsShape, Vocabulary};
use segue::catalog::{TrackId, TrackRecord, UserId};
use segue::dataset::DataFingerprint;
use segue::math::Array;
use segue::train::ratings::RatingsModelName;
use serde_json::{Value, json};

use crate::support::app::{Answer, Setup, TestApp, encode, ids, named};
use crate::support::ratings::{GENRES, TRACKS, publish_ratings_again, ratings, track, tracks, train_on};
use crate::support::wait_until;

/// A server over a catalog with ratings, and a model trained on them.
async fn app() -> TestApp {
    let app = untrained().await;
    publish(&app, RatingsModelName::Gp, &[]).await;
    app
}

fn me() -> UserId {
    UserId::new("me").expect("an id")
}

async fn untrained() -> TestApp {
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    app.state.catalog.import_ratings(&tracks(), &ratings()).await.expect("imported");
    app
}

/// Trains on the catalog as it is, and has the server load it.
async fn publish(app: &TestApp, model: RatingsModelName, flags: &[&str]) {
    train_on(&app.state.catalog, model, flags, &app.models).await;
    app.state.models.load(Kind::Ratings).expect("loaded");
}

async fn recommended(app: &TestApp, user: &str, parameters: &str) -> Value {
    app.get(&format!("/users/{}/recommendations{parameters}", encode(user))).await.ok()
}

/// How many of the recommended tracks are of a genre.
fn of_genre(answer: &Value, genre: usize) -> usize {
    ids(&answer["items"]).iter().filter(|id| id.starts_with(GENRES[genre])).count()
}

async fn rate(app: &TestApp, user: &str, genre: usize, values: [f32; 3]) {
    let rows: Vec<Value> = (0..)
        .zip(values)
        .map(|(number, rating)| json!({"user_id": user, "track_id": track(genre, number), "rating": rating}))
        .collect();
    let answer = app.post("/ratings", &json!({"ratings": rows})).await.ok();
    assert_eq!((answer["added"].clone(), answer["problems"].clone()), (json!(3), json!([])), "{answer}");
}

#[tokio::test]
async fn ratings_told_twice_are_there_once_and_the_last_one_counts() {
    let app = untrained().await;
    let row = |rating: f32, at: &str| json!({"user_id": "me", "track_id": "dub:1", "rating": rating, "rated_at": at});
    let send = async |rows: Value| {
        let answer = app.post("/ratings", &json!({"ratings": rows})).await.ok();
        [&answer["added"], &answer["changed"], &answer["unchanged"]].map(|count| count.as_u64().expect("a count"))
    };
    assert_eq!(send(json!([row(3.0, "2024-05-01T10:00:00.1234567Z")])).await, [1, 0, 0]);
    assert_eq!(send(json!([row(3.0, "2024-05-01T10:00:00.1234567Z")])).await, [0, 0, 1]);
    assert_eq!(send(json!([row(1.0, "2024-04-01T10:00:00Z")])).await, [0, 0, 1], "an older one");
    assert_eq!(send(json!([row(5.0, "2024-06-01T10:00:00Z"), row(2.0, "2024-05-20T10:00:00Z")])).await, [0, 1, 1]);
    let stored = app.state.catalog.user_feedback(&me()).await.expect("feedback").ratings;
    assert_eq!((stored.len(), stored[0].rating), (1, 5.0));
}

#[tokio::test]
async fn rows_that_are_wrong_are_named_and_the_others_stored() {
    let app = untrained().await;
    let good = json!({"user_id": "me", "track_id": "dub:1", "rating": 4});
    let lines = [
        good.clone(),
        json!({"user_id": "me", "track_id": "dub:2", "rating": 5.5}),
        json!({"user_id": "me", "track_id": "nobody's", "rating": 3}),
        json!({"user_id": "", "track_id": "dub:2", "rating": 3}),
        json!({"user_id": "me", "track_id": "dub:2"}),
        json!({"user_id": "me", "track_id": "dub:2", "rating": 3, "stars": 3}),
        json!({"user_id": "me", "track_id": "dub:2", "rating": 3, "rated_at": "2999-01-01T00:00:00Z"}),
        json!(17),
    ];
    let off_scale = ("ratings[1].rating", "from 0.5 to 5");
    let unknown = ("ratings[2].track_id", "no track");
    let nobody = ("ratings[3].user_id", "empty");
    let missing = ("ratings[4]", "missing field `rating`");
    let stars = ("ratings[5].stars", "unknown field");
    let future = ("ratings[6].rated_at", "future");
    let number = ("ratings[7]", "invalid type");
    let are = |problems: &Value, expected: &[(&str, &str)]| {
        let problems: Vec<String> = problems.as_array().expect("problems").iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (field, reason)) in problems.iter().zip(expected) {
            assert!(problem.contains(&format!("\"{field}\"")) && problem.contains(reason), "{problem}");
        }
    };
    // Rows that are no ratings at all: the list is rejected whole.
    let problem = app.post("/ratings", &json!({"ratings": lines})).await.problem(422);
    are(&problem["errors"], &[missing, stars, number]);
    assert_eq!(app.state.catalog.user_feedback(&me()).await.expect("feedback").ratings.len(), 0);
    let well_formed = [&lines[..4], &lines[6..7]].concat();
    let answer = app.post("/ratings", &json!({"ratings": well_formed})).await.ok();
    assert_eq!(answer["added"], 1, "{answer}");
    are(&answer["problems"], &[off_scale, unknown, nobody, ("ratings[4].rated_at", "future")]);
    // A line each: every line by itself.
    let text = lines.map(|line| line.to_string()).join("\n");
    let request = app.request(Method::POST, "/ratings").header("content-type", "application/x-ndjson").body(text);
    let answer = Answer::to(request).await.ok();
    assert_eq!(answer["unchanged"].as_u64().unwrap_or(0) + answer["changed"].as_u64().unwrap_or(0), 1, "{answer}");
    are(&answer["problems"], &[off_scale, unknown, nobody, missing, stars, future, number]);
    let users = app.state.catalog.users_after("", 500).await.expect("users");
    assert!(users.iter().all(|user| !user.id.as_str().is_empty()), "{users:?}");

    for (body, field) in [(json!({"rating": []}), "rating"), (json!({"ratings": 3}), "ratings"), (json!({}), "ratings")]
    {
        let problem = app.post("/ratings", &body).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let too_many = json!({"ratings": vec![good; 10_001]});
    assert!(app.post("/ratings", &too_many).await.problem(422)["detail"].as_str().expect("text").contains("10000"));
}

#[tokio::test]
async fn ratings_and_listens_come_a_line_each_too() {
    let app = untrained().await;
    let send = async |path: &str, lines: String| {
        let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson").body(lines);
        Answer::to(request).await.ok()
    };
    let lines = "{\"user_id\":\"me\",\"track_id\":\"dub:1\",\"rating\":4}\n\nnonsense\n{\"user_id\":\"me\",\"track_id\":\"dub:2\",\"rating\":2}";
    let answer = send("/ratings", lines.to_owned()).await;
    assert_eq!(
        (&answer["added"], answer["problems"][0]["field"].as_str()),
        (&json!(2), Some("ratings[1]")),
        "{answer}"
    );
    let listen = json!({"user_id": "me", "track_id": "folk:1", "listened_at": "2024-05-01T10:00:00Z"});
    assert_eq!(send("/listens", listen.to_string()).await["added"], 1);
    assert_eq!(send("/listens", listen.to_string()).await["unchanged"], 1);
    let more = json!({"user_id": "me", "track_id": "folk:1", "listened_at": "2024-05-01T10:00:00Z", "target": true});
    let answer = app.post("/listens", &json!({"listens": [more]})).await.ok();
    assert_eq!((&answer["added"], &answer["changed"]), (&json!(0), &json!(1)), "{answer}");
}

#[tokio::test]
async fn a_line_of_feedback_is_read_as_lines_of_other_kinds_are() {
    let app = untrained().await;
    assert_eq!(Answer::to(app.request(Method::PUT, "/tracks/3").json(&json!({}))).await.status, 201);
    let send = async |path: &str, rows: &[Value]| {
        let lines = rows.iter().map(|row| format!("\u{feff}{row}\n")).collect::<String>();
        let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson").body(lines);
        Answer::to(request).await.ok()
    };
    let rating = json!({"user_id": 17, "track_id": 3.0, "rating": "4.5", "rated_at": 1_700_000_000});
    let the_same = json!({"user_id": "17", "track_id": " 3 ", "rating": 4.5, "rated_at": "2023-11-14T22:13:20Z"});
    assert_eq!(send("/ratings", &[rating.clone(), the_same.clone()]).await["problems"], json!([]));
    assert_eq!(send("/ratings", &[the_same]).await["unchanged"], 1);
    let listen = json!({"user_id": 17, "track_id": 3, "listened_at": 1_700_000_000_000_i64, "target": "True",
                        "source_type": 7, "source_system_tab": ""});
    let the_same = json!({"user_id": "17", "track_id": "3", "listened_at": "2023-11-14 22:13:20", "target": true,
                          "source_type": "7"});
    assert_eq!(send("/listens", &[listen]).await["added"], 1);
    assert_eq!(send("/listens", &[the_same]).await["unchanged"], 1);

    let of = |field: &str, value: Value| {
        let mut row = json!({"user_id": "u", "track_id": "3", "rating": 4});
        row[field] = value;
        row
    };
    let wrong = [
        of("user_id", json!(true)),
        of("user_id", json!("")),
        of("track_id", json!(1.5)),
        of("track_id", json!(["3"])),
        of("rating", json!("many")),
        of("rating", json!("NaN")),
        of("rating", Value::Null),
        of("rated_at", json!("soon")),
        of("rated_at", json!(-90_000_000_000_i64)),
        of("rated_at", json!(4_000_000_000_i64)),
    ];
    let answer = send("/ratings", &wrong).await;
    assert_eq!(answer["added"], 0, "{answer}");
    let fields: Vec<&str> = answer["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .map(|problem| problem["field"].as_str().expect("text"))
        .collect();
    let expected = ["user_id", "user_id", "track_id", "track_id", "rating", "rating", "rating"];
    let expected = expected.into_iter().chain(["rated_at"; 3]).enumerate();
    assert_eq!(fields, expected.map(|(row, field)| format!("ratings[{row}].{field}")).collect::<Vec<_>>());
    // In a list of JSON, the contract's types hold.
    let problem = app.post("/ratings", &json!({"ratings": [rating]})).await.problem(422);
    assert_eq!(problem["errors"][0]["field"], "ratings[0].rated_at", "{problem}");
}

#[tokio::test]
async fn three_ratings_after_training_move_what_is_recommended() {
    let app = app().await;
    for genre in 0..GENRES.len() {
        let user = format!("new/{genre}");
        let before = recommended(&app, &user, "?limit=10").await;
        assert_eq!(before["source"], "popularity");
        rate(&app, &user, genre, [5.0, 4.5, 5.0]).await;
        let path = format!("/users/{}/recommendations?limit=10", encode(&user));
        let after = named(async || app.get(&path).await).await;
        assert_eq!(after["source"], "ratings");
        assert!(of_genre(&after, genre) >= 8 && of_genre(&before, genre) < 6, "{before} {after}");
        assert_eq!(after["items"][0]["name"].as_str().expect("a name"), format!("Song {}", ids(&after["items"])[0]));
        let predicted = after["items"][0]["predicted_rating"].as_f64().expect("a rating");
        assert!((3.0..=5.0).contains(&predicted), "{after}");
        // To dislike a genre moves the answer away from it.
        rate(&app, &format!("other/{genre}"), genre, [1.0, 1.5, 1.0]).await;
        let away = recommended(&app, &format!("other/{genre}"), "?limit=10").await;
        assert!(of_genre(&away, genre) <= 1, "{away}");
    }
}

#[tokio::test]
async fn pages_go_on_without_repeats_whatever_comes_between() {
    let app = app().await;
    rate(&app, "me", 0, [5.0, 4.5, 5.0]).await;
    let (mut cursor, mut shown) = (String::new(), Vec::new());
    for page in 0..20 {
        let answer = recommended(&app, "me", &format!("?limit=7{cursor}")).await;
        shown.extend(ids(&answer["items"]));
        match page {
            1 => rate(&app, "me", 2, [5.0, 5.0, 5.0]).await,
            2 => publish(&app, RatingsModelName::Gp, &["--seed", "9"]).await,
            _ => {}
        }
        match answer["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let distinct: HashSet<&String> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "{shown:?}");
    // Three were rated before the first page, and three more after the second, some of which may have been shown.
    let all = GENRES.len() * TRACKS;
    assert!((all - 6..=all - 3).contains(&shown.len()), "{}", shown.len());
}

#[tokio::test]
async fn seen_tracks_come_only_if_asked_for() {
    let app = app().await;
    rate(&app, "me", 0, [5.0, 4.5, 5.0]).await;
    let seen: Vec<String> = (0..3).map(|number| track(0, number)).collect();
    let unseen = ids(&recommended(&app, "me", "?limit=500").await["items"]);
    assert_eq!(unseen.len(), GENRES.len() * TRACKS - 3);
    assert!(seen.iter().all(|id| !unseen.contains(id)));
    let all = ids(&recommended(&app, "me", "?limit=500&exclude_seen=false").await["items"]);
    assert_eq!(all.len(), GENRES.len() * TRACKS);
    assert!(seen.iter().all(|id| all[..25].contains(id)), "{all:?}");
}

#[tokio::test]
async fn listens_count_where_there_are_no_ratings() {
    let app = app().await;
    let listens: Vec<Value> =
        (0..4).map(|number| json!({"user_id": "listener", "track_id": track(2, number)})).collect();
    app.post("/listens", &json!({"listens": listens})).await.ok();
    let answer = recommended(&app, "listener", "?limit=10").await;
    assert_eq!(answer["source"], "listens");
    assert!(of_genre(&answer, 2) >= 7, "{answer}");
    assert!(ids(&answer["items"]).iter().all(|id| !["metal:0", "metal:3"].contains(&id.as_str())));

    // An app where nobody rates.
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    app.state.catalog.import_ratings(&tracks(), &[]).await.expect("imported");
    let liked = ratings().into_iter().filter(|rating| rating.rating > 3.0);
    let listens: Vec<Value> = liked.map(|one| json!({"user_id": one.user, "track_id": one.track})).collect();
    app.post("/listens", &json!({"listens": listens})).await.ok();
    publish(&app, RatingsModelName::Gp, &[]).await;
    let answer = recommended(&app, "u1", "?limit=4").await;
    assert_eq!((answer["source"].as_str(), &answer["items"][0]["predicted_rating"]), (Some("listens"), &Value::Null));
    assert_eq!(of_genre(&answer, 1), 4, "{answer}");
}

#[tokio::test]
async fn a_user_of_whom_nothing_is_known_gets_popular_tracks_and_is_told() {
    let app = app().await;
    for user in ["never seen", "a\0b"] {
        let answer = recommended(&app, user, "?limit=5").await;
        assert_eq!(answer["source"], "popularity");
        assert_eq!(ids(&answer["items"]).len(), 5);
        assert_eq!(answer["items"][0]["predicted_rating"], Value::Null);
    }
}

#[tokio::test]
async fn every_model_recommends_what_its_users_like() {
    let app = untrained().await;
    app.get("/users/u1/recommendations").await.problem(503);
    app.get("/tracks/dub:1/bias").await.problem(503);
    for (model, name) in
        [(RatingsModelName::Dot, "dot"), (RatingsModelName::Bias, "bias"), (RatingsModelName::Mlp, "mlp")]
    {
        let flags = ["--plan", "0.02x60", "--batch", "16", "--factors", "8", "--l2", "1e-6", "--input-dropout", "0"];
        publish(&app, model, &flags).await;
        for genre in 0..GENRES.len() {
            let answer = recommended(&app, &format!("u{genre}"), "?limit=5").await;
            assert!(of_genre(&answer, genre) >= 4, "{name}: {answer}");
        }
        let embedding = app.get("/tracks/dub:1/embedding").await.ok();
        assert_eq!(embedding["model"], name);
        assert_eq!(embedding["embedding"].as_array().expect("numbers").len(), 8 + usize::from(name == "bias"));
        let bias = app.get("/tracks/dub:1/bias").await;
        match name {
            "bias" => assert!(bias.ok()["bias"].is_number()),
            _ => assert_eq!(bias.problem(404)["type"], "urn:segue:problem:no-such-part"),
        }
    }
}

#[tokio::test]
async fn a_second_version_recommends_unseen_and_its_agreement_is_a_metric() {
    let app = app().await;
    let active = recommended(&app, "u1", "").await["model_version"].clone();
    let second = publish_ratings_again(&app.models, &app.models).version;
    app.post("/models/ratings/activate", &json!({"version": active})).await.ok();
    app.post("/models/ratings/shadow", &json!({"version": second, "every": 1})).await.ok();
    rate(&app, "me", 0, [5.0, 4.0, 5.0]).await;
    assert_eq!(recommended(&app, "me", "").await["model_version"], active);
    let measured = async || (app.metric("segue_shadow_agreement_count").await == 1.0).then_some(());
    wait_until("its answer", measured).await;
    assert!((app.metric("segue_shadow_agreement_sum").await - 1.0).abs() < 1e-9, "the same model");
}

#[tokio::test]
async fn parts_of_the_model_are_to_be_had_by_themselves() {
    let app = app().await;
    let bias = app.get("/tracks/folk:3/bias").await.ok();
    assert!(
        bias["bias"].as_f64().expect("a bias").abs() < 2.0 && bias["mean"].as_f64().expect("a mean") > 2.0,
        "{bias}"
    );
    let embedding = app.get("/tracks/folk:3/embedding").await.ok();
    assert_eq!(embedding["model_version"], bias["model_version"]);
    let unknown = app.get("/tracks/nobody's/embedding").await.problem(404);
    assert_eq!(unknown["type"], "urn:segue:problem:track-not-in-model");
    let listed = app.get("/models").await.ok();
    assert_eq!(
        (listed["models"][0]["kind"].as_str(), listed["models"][0]["tracks"].as_u64()),
        (Some("ratings"), Some(60))
    );
    assert!(listed["models"][0]["metrics"]["withheld"]["mse"].as_f64().expect("a number") < 1.0, "{listed}");
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_named() {
    let app = app().await;
    app.get("/users/u1/recommendations?cursor=x").await.problem(404);
    for (parameters, field) in [("?limit=0", "limit"), ("?exclude_seen=maybe", "exclude_seen")] {
        let problem = app.get(&format!("/users/u1/recommendations{parameters}")).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

/// `scripts/with-postgres.sh cargo test --release --test api two_hundred_thousand -- --ignored --nocapture`
#[tokio::test]
#[ignore = "measures; in a release build"]
async fn two_hundred_thousand_tracks_are_ranked_in_milliseconds() {
    const ITEMS: usize = 200_000;
    const PLAIN: usize = 2;
    const RANK: usize = 32;
    const GENRES: usize = 20;
    let app = TestApp::start(Setup { with_model: false, ..Setup::default() }).await;
    let ids: Vec<String> = (0..ITEMS).map(|number| format!("big:track:{number}")).collect();
    let unnamed = |id: &String| TrackRecord::bare(TrackId::new(id.as_str()).expect("an id"));
    let named: Vec<TrackRecord> = ids.iter().map(unnamed).collect();
    for batch in named.chunks(20_000) {
        app.state.catalog.import_ratings(batch, &[]).await.expect("imported");
    }
    app.state.catalog.analyze().await.expect("analysed");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let columns = PLAIN + RANK + GENRES;
    let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-0.3..0.3)).collect() };
    let bundle = RatingsBundle {
        shape: RatingsShape {
            model: "gp".to_owned(),
            ratings: 10_000_000,
            mean: 3.5,
            deviation: 1.0,
            range: (0.5, 5.0),
            plain_columns: PLAIN,
            session_ratio: 0.1,
            session_gap_seconds: 4_320,
            affinity: 1.0,
            output_bias: 0.0,
        },
        vocabulary: Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct"),
        base: draw(ITEMS),
        counts: (0..ITEMS as u32).map(|row| 2_000_000 / (row + 10)).collect(),
        features: Array { shape: vec![ITEMS, columns], values: draw(ITEMS * columns) },
        precisions: vec![5.0; columns],
        implicit: Some(ImplicitBundle { norms: vec![0.01; ITEMS], singular: vec![1.0; RANK] }),
        hidden: None,
    };
    let mut writer = BundleWriter::begin(&app.models, Kind::Ratings).expect("a writer");
    bundle.write(&mut writer).expect("written");
    let data = DataFingerprint { playlists: 1, tracks: 1, placements: 1, newest_change: None, sha256: String::new() };
    let new = NewManifest { seed: 1, parameters: Value::Null, data, metrics: Value::Null };
    writer.publish(new).expect("published");
    app.state.models.load(Kind::Ratings).expect("loaded");
    for rated in [3usize, 50, 500] {
        let rows: Vec<Value> = (0..rated)
            .map(|number| json!({"user_id": format!("user:{rated}"), "track_id": ids[number * 37], "rating": 1.0 + (number % 5) as f32 * 0.9}))
            .collect();
        assert_eq!(app.post("/ratings", &json!({"ratings": rows})).await.ok()["added"], rated);
        let mut milliseconds = Vec::new();
        for _ in 0..330 {
            let started = Instant::now();
            recommended(&app, &format!("user:{rated}"), "?limit=50").await;
            milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        }
        milliseconds.drain(..30);
        milliseconds.sort_by(f64::total_cmp);
        let (median, p95) = (milliseconds[150], milliseconds[285]);
        println!("{ITEMS} tracks, {rated} ratings, limit 50: median {median:.2} ms, p95 {p95:.2} ms");
        assert!(median < 5.0 || rated > 50 || cfg!(debug_assertions), "{median}");
    }
}
