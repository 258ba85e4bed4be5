//! The end of the server, and requests that take too long.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::app::{Answer, Setup, TestApp};
use crate::support::training::arguments;
use crate::support::{PATIENCE, wait_until};

const INLINE: &str = "/playlists/complete";

/// Keeps the only engine thread busy until the sender is dropped.
async fn occupy_engine(app: &TestApp) -> std::sync::mpsc::Sender<()> {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let engine = app.state.engine.clone();
    tokio::spawn(async move {
        engine
            .run(segue::serve::capacity::lane::Lane::Completion, move || {
                let _ = started.send(());
                let _ = wait.recv();
            })
            .await
    });
    has_started.await.expect("it runs");
    release
}

/// Two inline completions at once, of which the queue of one takes one. The other is rejected, which proves that the
/// first one is in progress.
async fn request_in_progress(app: &TestApp) -> tokio::task::JoinHandle<Answer> {
    let send = || {
        let request = app.request(reqwest::Method::POST, INLINE).json(&json!({"playlists": [{}], "limit": 3}));
        tokio::spawn(Answer::to(request))
    };
    let (mut one, mut other) = (send(), send());
    let (rejected, waiting) = tokio::select! {
        rejected = &mut one => (rejected, other),
        rejected = &mut other => (rejected, one),
    };
    let problem = rejected.expect("an answer").problem(503); // with Retry-After
    assert_eq!(problem["type"], "urn:segue:problem:overloaded");
    waiting
}

/// For requests that would not be given up before the test.
const PATIENT: [&str; 2] = ["--request-timeout-seconds", "3600"];

async fn app(flags: &[&str]) -> TestApp {
    let flags = [&["--engine-threads", "1", "--engine-queue", "1"], flags].concat();
    TestApp::start(Setup { settings: arguments(&flags), ..Setup::default() }).await
}

#[tokio::test]
async fn a_full_queue_rejects_at_once_and_says_when_to_retry() {
    let app = app(&PATIENT).await;
    let release = occupy_engine(&app).await;
    let waiting = request_in_progress(&app).await;
    // Requests that need no engine still work.
    assert_eq!(app.get("/health/ready").await.ok()["status"], "ok");
    assert_eq!(app.get("/playlists/0").await.ok()["id"], "0");
    drop(release);
    assert_eq!(waiting.await.expect("an answer").status, 200);
    app.post(INLINE, &json!({"playlists": [{}]})).await.ok();
}

#[tokio::test]
async fn a_request_that_is_under_way_when_the_server_is_stopped_is_answered() {
    let mut app = app(&PATIENT).await;
    let release = occupy_engine(&app).await;
    let waiting = request_in_progress(&app).await;
    app.interrupt.raise();
    let address = app.address;
    wait_until("the port to be closed", async || TcpStream::connect(address).await.err()).await;
    assert!(!waiting.is_finished());
    drop(release);
    let answer = waiting.await.expect("an answer").ok();
    assert_eq!(answer["completions"][0]["items"].as_array().map(Vec::len), Some(3));
    let serving = app.serving.take().expect("it ran");
    let ended = tokio::time::timeout(PATIENCE, serving).await.expect("it ends");
    ended.expect("no panic").expect("no error");
}

#[tokio::test]
async fn an_idle_server_ends_at_once_even_with_connections_open() {
    // If it waited for anything, it would not end before the test.
    let mut app = app(&["--shutdown-seconds", "3600"]).await;
    app.get("/health/live").await.ok(); // the client keeps its connection
    let idle = TcpStream::connect(app.address).await.expect("a connection");
    app.interrupt.raise();
    let serving = app.serving.take().expect("it ran");
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").expect("no panic").expect("no error");
    drop(idle);
}

#[tokio::test]
async fn a_request_that_does_not_end_holds_the_shutdown_up_no_longer_than_was_set() {
    let mut app = app(&[&["--shutdown-seconds", "0.3"], &PATIENT[..]].concat()).await;
    let release = occupy_engine(&app).await;
    let waiting = request_in_progress(&app).await;
    let began = Instant::now();
    app.interrupt.raise();
    let serving = app.serving.take().expect("it ran");
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").expect("no panic").expect("no error");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    // The request's work is still held up: it was not waited for.
    waiting.abort();
    drop(release);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_with_a_problem_document() {
    let app = app(&["--request-timeout-seconds", "0.3"]).await;
    let release = occupy_engine(&app).await;
    let began = Instant::now();
    let problem = app.post(INLINE, &json!({"playlists": [{}]})).await.problem(503);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("timed out")), "{problem}");
    // Its work is still held up: it was not waited for.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    drop(release);
}
