//! Keys, rate limits, limits on what a request may be, and what web pages may ask.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use reqwest::Method;
use segue::catalog::{Catalog, Scope};
use segue::serve::access::keys::NewKey;
use serde_json::json;

use crate::support::app::{Answer, Setup, TestApp};
use crate::support::training::arguments;
use crate::support::{PATIENCE, wait_until};

async fn with(flags: &[&str]) -> TestApp {
    TestApp::start(Setup { settings: arguments(flags), ..Setup::default() }).await
}

async fn key(catalog: &Catalog, name: &str, scope: Scope) -> String {
    let new = NewKey::generate().expect("random bytes");
    assert!(catalog.add_api_key(&new.id, name, scope, &new.hash).await.expect("stored"));
    new.key
}

async fn ask(app: &TestApp, method: Method, path: &str, key: &str) -> Answer {
    let request = app.request(method, path).header("authorization", format!("Bearer {key}"));
    Answer::to(request.header("content-type", "application/json").body("{}")).await
}

#[tokio::test]
async fn a_key_may_do_what_its_scope_says_and_a_revoked_one_nothing() {
    let app = with(&["--auth", "required"]).await;
    let catalog = &app.state.catalog;
    let reader = key(catalog, "reader", Scope::Read).await;
    let writer = key(catalog, "writer", Scope::Write).await;
    let known = async || (ask(&app, Method::GET, "/tracks", &writer).await.status == 200).then_some(());
    wait_until("the key", known).await;

    ask(&app, Method::GET, "/playlists/0", &reader).await.ok();
    ask(&app, Method::POST, "/playlists/0/complete", &reader).await.ok();
    let problem = ask(&app, Method::DELETE, "/playlists/0", &reader).await.problem(403);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("write")), "{problem}");
    assert_eq!(ask(&app, Method::DELETE, "/playlists/0", &writer).await.status, 204);

    // The response is the same whatever is wrong with a key.
    let missing = app.get("/tracks").await;
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    let told = |answer: &Answer| answer.problem(401)["detail"].clone();
    let mut wrong = writer.clone();
    wrong.pop();
    for key in ["", "segue_0_0", wrong.as_str()] {
        assert_eq!(told(&ask(&app, Method::GET, "/tracks", key).await), told(&missing));
    }
    app.get("/health/live").await.ok();
    app.get("/health/ready").await.ok();

    assert!(catalog.revoke_api_key("writer").await.expect("revoked"));
    let gone = async || (ask(&app, Method::GET, "/tracks", &writer).await.status == 401).then_some(());
    wait_until("the end of the key", gone).await;
    ask(&app, Method::GET, "/tracks", &reader).await.ok();
}

#[tokio::test]
async fn without_a_word_about_keys_a_loopback_address_needs_none_and_any_other_does() {
    with(&[]).await.get("/tracks").await.ok();
    with(&["--listen", "0.0.0.0:0"]).await.get("/tracks").await.problem(401);
    with(&["--listen", "0.0.0.0:0", "--auth", "off"]).await.get("/tracks").await.ok();
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    const RATE: f64 = 0.5;
    let app = with(&["--rate-limit-per-address", &RATE.to_string()]).await;
    let began = Instant::now();
    let mut left: Vec<u32> = Vec::new();
    let rejected = loop {
        let answer = app.get("/tracks/synthetic:track:1").await;
        if answer.status != 200 {
            break answer;
        }
        assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=5;w=10");
        let rest = answer.header("ratelimit").strip_prefix("\"address\";r=").expect("what is left");
        left.push(rest.split(';').next().expect("a part").parse().expect("a number"));
        assert!(left.len() < 50, "all of {left:?} are allowed");
    };
    // Five at once, and on a slow machine those that come with the time.
    let came = began.elapsed().as_secs_f64() * RATE;
    assert!(left.len() >= 5 && left.len() as f64 <= 5.0 + came, "{left:?}, {came}");
    assert!(left.starts_with(&[4]) && (came >= 1.0 || left == [4, 3, 2, 1, 0]), "{left:?}, {came}");
    let wait = rejected.header("retry-after");
    assert!(rejected.status == 429 && (wait == "2" || wait == "1" && came >= 0.5), "{rejected:?}");
    assert_eq!(rejected.json()["type"], "urn:segue:problem:too-many-requests");
    app.get("/health/live").await.ok();
}

#[tokio::test]
async fn each_key_has_a_rate_of_its_own() {
    let app = with(&["--auth", "required", "--rate-limit-per-key", "0.2"]).await;
    let (one, other) =
        (key(&app.state.catalog, "one", Scope::Read).await, key(&app.state.catalog, "other", Scope::Read).await);
    let known = async || (ask(&app, Method::GET, "/tracks", &other).await.status == 200).then_some(());
    wait_until("the key", known).await;
    ask(&app, Method::GET, "/tracks", &one).await.ok();
    ask(&app, Method::GET, "/tracks", &one).await.ok();
    // On a slow machine another one may be allowed by now.
    let rejected = async || (ask(&app, Method::GET, "/tracks", &one).await.status == 429).then_some(());
    wait_until("a rejection", rejected).await;
    ask(&app, Method::GET, "/tracks", &other).await.ok();
}

#[tokio::test]
async fn web_pages_of_other_origins_may_ask_only_if_named() {
    let preflight = async |app: &TestApp| {
        let request = app.request(Method::OPTIONS, "/tracks/a").header("origin", "https://app.example");
        Answer::to(request.header("access-control-request-method", "GET")).await
    };
    assert_eq!(preflight(&with(&[]).await).await.header("access-control-allow-origin"), "");
    let open = with(&["--cors-origins", "https://app.example,https://two.example", "--auth", "required"]).await;
    assert_eq!(preflight(&open).await.header("access-control-allow-origin"), "https://app.example");
}

#[tokio::test]
async fn a_head_that_is_too_large_and_a_connection_too_many_are_rejected() {
    let app = with(&["--max-connections", "2"]).await;
    let answer = Answer::to(app.request(Method::GET, "/health/live").header("x-long", "x".repeat(900_000))).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let address = app.address;
    let text = tokio::task::spawn_blocking(move || {
        let connect = || TcpStream::connect(address).expect("connected");
        let (mut first, mut second, mut third) = (connect(), connect(), connect());
        let mut text = String::new();
        for stream in [&mut first, &mut second, &mut third] {
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        }
        third.read_to_string(&mut text).expect("an answer");
        text
    });
    let text = text.await.expect("joined");
    assert!(text.starts_with("HTTP/1.1 503") || text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn no_more_bulk_requests_than_allowed_are_under_way() {
    let app = with(&["--max-bulk-requests", "1"]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let bulk = |body: reqwest::Body| {
        app.request(Method::POST, "/users").header("content-type", "application/x-ndjson").body(body)
    };
    let first = tokio::spawn(bulk(reqwest::Body::wrap_stream(stream)).send());
    sender.send(Ok("{\"id\": \"a\"}\n".to_owned())).await.expect("taken");
    let first = first.await.expect("joined").expect("an answer");
    Answer::to(bulk("".into())).await.problem(503);
    drop(sender);
    let summary = first.text().await.expect("a body");
    assert!(summary.contains("\"added\":1"), "{summary}");
    let free = async || (Answer::to(bulk("".into())).await.status == 200).then_some(());
    wait_until("a free connection", free).await;
}

#[tokio::test]
async fn a_key_that_is_rejected_is_not_in_the_answer() {
    let app = with(&["--auth", "required"]).await;
    let answer = ask(&app, Method::GET, "/tracks", "segue_abc_secretsecret").await;
    answer.problem(401);
    assert!(!format!("{answer:?}").contains("secretsecret"), "{}", json!(answer.body));
}
