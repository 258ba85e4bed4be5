//! Many requests at once.

use reqwest::Method;
use serde_json::json;

use crate::support::PATIENCE;
use crate::support::app::{Answer, Setup, TestApp, ids};
use crate::support::training::arguments;

/// For requests that would not be given up before the test.
const PATIENT: [&str; 2] = ["--request-timeout-seconds", "3600"];

/// Answers to 200 inline completions of 8 playlists each, sent together.
async fn two_hundred(app: &TestApp) -> Vec<Answer> {
    let mut playlists = Vec::new();
    for number in 0..8 {
        playlists.push(json!({"tracks": app.tracks_of(&number.to_string()).await}));
    }
    let body = json!({"playlists": playlists, "limit": 20});
    let sent: Vec<_> = (0..200)
        .map(|_| tokio::spawn(Answer::to(app.request(Method::POST, "/playlists/complete").json(&body))))
        .collect();
    let mut answers = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        for answer in sent {
            answers.push(answer.await.expect("an answer"));
        }
    })
    .await
    .expect("no request hangs");
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_completions_at_once_get_the_same_good_answer() {
    let app = TestApp::start(Setup { settings: arguments(&PATIENT), ..Setup::default() }).await;
    let answers = two_hundred(&app).await;
    let first = answers.iter().find(|answer| answer.status == 200).expect("some are answered").ok();
    assert_eq!(ids(&first["completions"][7]["items"]).len(), 20);
    for answer in &answers {
        match answer.status {
            200 => {
                // Names come from the catalog when it has the time; all else is the model's.
                let strip = |answer: &serde_json::Value| -> Vec<Vec<String>> {
                    answer["completions"].as_array().expect("a list").iter().map(|one| ids(&one["items"])).collect()
                };
                assert_eq!(strip(&answer.json()), strip(&first));
            }
            _ => drop(answer.problem(503)), // with Retry-After
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_completions_at_once_through_a_narrow_queue_are_answered_or_rejected_and_none_hangs() {
    let settings = arguments(&[&["--engine-threads", "1", "--engine-queue", "1"], &PATIENT[..]].concat());
    let app = TestApp::start(Setup { settings, ..Setup::default() }).await;
    let answers = two_hundred(&app).await;
    let answered = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(answered > 0);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.problem(503)["type"], "urn:segue:problem:overloaded");
    }
    // And afterwards all is well.
    app.post("/playlists/complete", &json!({"playlists": [{}]})).await.ok();
}

/// Twenty clients move tracks of one long playlist; what others read does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_that_many_edit_does_not_hold_up_what_others_read() {
    const TRACKS: usize = 20_000;
    let app = TestApp::spawn().await;
    let tracks: Vec<String> = (0..TRACKS).map(|place| format!("synthetic:track:{}", place % 3)).collect();
    Answer::to(app.request(Method::PUT, "/playlists/hot").json(&json!({"tracks": tracks}))).await;
    let moving: Vec<_> = (0..20_usize)
        .map(|number| {
            let body = json!({"from": number * 997, "count": 3, "to": (number * 7_919) % (TRACKS - 3)});
            let request = app.request(Method::POST, "/playlists/hot/tracks/move").json(&body);
            tokio::spawn(Answer::to(request))
        })
        .collect();
    let mut read = 0;
    while moving.iter().any(|moved| !moved.is_finished()) || read < 10 {
        app.get("/tracks/synthetic:track:1").await.ok();
        read += 1;
    }
    for moved in moving {
        let moved = moved.await.expect("joined");
        assert!(moved.status == 200 || moved.problem(503)["type"] == "urn:segue:problem:overloaded", "{moved:?}");
    }
    let playlist = app.get("/playlists/hot?limit=1&from=19999").await.ok();
    assert_eq!((&playlist["num_tracks"], playlist["tracks"][0]["position"].as_u64()), (&json!(TRACKS), Some(19_999)));
}
