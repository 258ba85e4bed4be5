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
