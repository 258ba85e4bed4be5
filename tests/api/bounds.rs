//! What a client can do to the server at most: sizes, times, places, names.

use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::app::{Answer, Setup, TestApp};
use crate::support::training::arguments;
use crate::support::wait_until;

async fn start(flags: &[&str]) -> TestApp {
    TestApp::start(Setup { settings: arguments(flags), ..Setup::default() }).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// Sends text over a connection of its own.
async fn raw(app: &TestApp, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    stream
}

/// Reads until there is `part`.
async fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(part) {
        let mut bytes = [0; 4_096];
        let length = stream.read(&mut bytes).await.expect("bytes");
        assert_ne!(length, 0, "no {part} in {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn unknown_exclusions_are_reported_once_however_many_playlists_there_are() {
    let app = TestApp::spawn().await;
    let exclude: Vec<String> = (0..2_000).map(|number| format!("nowhere:{number:060}")).collect();
    let playlists: Vec<Value> = (0..64).map(|_| json!({"tracks": ["synthetic:track:1", "x", "x"]})).collect();
    let body = json!({"playlists": playlists, "limit": 1, "exclude": exclude});
    let answer = app.post("/playlists/complete", &body).await;
    assert!(answer.body.len() < 2 * body.to_string().len(), "{}", answer.body.len());
    let answer = answer.ok();
    assert_eq!(answer["unknown_exclusions"], json!(exclude));
    for completion in answer["completions"].as_array().expect("completions") {
        assert_eq!(completion["unknown_tracks"], json!(["x"]));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_its_place_and_is_cut_off() {
    let app = start(&["--max-requests", "1", "--idle-seconds", "0.5"]).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(app.address).await.expect("a connection");
    let body = json!({"playlists": vec![json!({}); 64], "limit": 500}).to_string();
    let head = "POST /playlists/complete HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.expect("sent");
    // The response has begun, and most of it is still to come.
    stream.readable().await.expect("a response");
    let problem = app.get("/playlists/0").await.problem(503);
    assert_eq!(problem["type"], "urn:segue:problem:overloaded");
    assert_eq!(app.get("/health/live").await.status, 200);
    wait_until("its place", async || (app.get("/playlists/0").await.status == 200).then_some(())).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    let text = String::from_utf8_lossy(&rest);
    assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("]}"), "it was cut off");
}

#[tokio::test]
async fn a_bulk_request_that_trickles_does_not_keep_others_out() {
    let app = start(&["--max-bulk-requests", "1", "--idle-seconds", "0.5"]).await;
    let head = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/ndjson\r\n";
    let mut stream = raw(&app, &format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
    let send = async || {
        let request = app.request(Method::POST, "/users").header("content-type", "application/x-ndjson");
        Answer::to(request.body("{\"id\": \"bulk\"}\n")).await.status
    };
    wait_until("the only place to be taken", async || (send().await == 503).then_some(())).await;
    let trickle = async {
        while stream.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let other = wait_until("a place", async || (send().await == 200).then_some(()));
    tokio::select! {
        () = trickle => other_after_the_end(&app).await,
        () = other => {}
    }
}

/// The slow one has gone: its place is free.
async fn other_after_the_end(app: &TestApp) {
    let request = app.request(Method::POST, "/users").header("content-type", "application/x-ndjson");
    assert_eq!(Answer::to(request.body("{\"id\": \"bulk\"}\n")).await.status, 200);
}

#[tokio::test]
async fn a_bulk_request_that_arrives_too_slowly_is_told_so_in_its_last_lines() {
    let app = start(&["--idle-seconds", "0.2"]).await;
    let head = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/ndjson\r\n";
    let mut stream = raw(&app, &format!("{head}content-length: 1000\r\n\r\n{{\"id\": \"in time\"}}\n{{\"id\"")).await;
    let answer = read_until(&mut stream, "\"summary\"").await;
    let lines =
        [r#"{"line":1,"id":"in time","outcome":"added"}"#, r#"{"line":2,"outcome":"failed","reason":"the request "#];
    assert!(lines.iter().all(|line| answer.contains(line)), "{answer}");
    assert!(answer.contains("arrives too slowly"), "{answer}");
    app.get("/users/in%20time").await.ok();
}

#[tokio::test]
async fn idle_connections_make_way_for_new_ones_and_end() {
    let app = start(&["--max-connections", "4", "--idle-seconds", "3600"]).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(TcpStream::connect(app.address).await.expect("a connection"));
    }
    let answers = async || (app.get("/health/live").await.status == 200).then_some(());
    wait_until("an answer", answers).await;
    assert_eq!(idle[0].read(&mut [0; 8]).await.expect("an end"), 0, "the oldest one went");

    let app = start(&["--idle-seconds", "0.2"]).await;
    let mut idle = raw(&app, "GET /health/live HTTP/1.1\r\n").await;
    idle.read_to_end(&mut Vec::new()).await.expect("an end");
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_before_the_connection_ends() {
    let app = start(&["--max-body-bytes", "100000"]).await;
    let head = |more: &str, length: usize| {
        format!(
            "POST /playlists/complete HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\
             content-length: {length}\r\n\r\n"
        )
    };
    let length = 20 << 20;
    let mut stream = raw(&app, &head("", length)).await;
    stream.write_all(&vec![b' '; length]).await.expect("all of it is read");
    let answer = read_until(&mut stream, "body-too-large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    assert!(read_until(&mut stream, "\"ok\"").await.contains("HTTP/1.1 200"), "the connection goes on");

    let mut stream = raw(&app, &head("expect: 100-continue\r\n", length)).await;
    let answer = read_until(&mut stream, "body-too-large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut stream = raw(&app, &head("expect: 100-continue\r\n", 2)).await;
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"), "a body that fits is asked for");

    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 100_000]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let request = app.request(Method::POST, "/playlists/complete").header("content-type", "application/json");
    let problem = Answer::to(request.body(body)).await.problem(413);
    assert_eq!(problem["detail"], "the body is larger than 100000 bytes");
}

#[tokio::test]
async fn without_keys_only_loopback_names_and_configured_ones_are_answered() {
    let app = start(&["--hosts", "music.internal", "--cors-origins", "https://app.example"]).await;
    let get = async |path: &str, host: &str, origin: Option<&str>| {
        let request = app.request(Method::GET, path).header("host", host);
        Answer::to(origin.into_iter().fold(request, |request, origin| request.header("origin", origin))).await
    };
    for path in ["/playlists/0", "/openapi.json", "/docs/"] {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:80", "music.internal"] {
            assert_eq!(get(path, host, None).await.status, 200, "{host}");
        }
        let problem = get(path, "evil.example:8080", None).await.problem(421);
        assert_eq!(problem["type"], "urn:segue:problem:unknown-host");
        for origin in ["http://localhost:3000", "https://app.example"] {
            assert_eq!(get(path, "localhost", Some(origin)).await.status, 200, "{origin}");
        }
        for origin in ["http://evil.example", "null"] {
            let problem = get(path, "localhost", Some(origin)).await.problem(403);
            assert_eq!(problem["type"], "urn:segue:problem:foreign-origin");
        }
    }
    let rebound = app.request(Method::POST, "/playlists").header("host", "evil.example").json(&json!({"id": "new"}));
    Answer::to(rebound).await.problem(421);
    app.get("/playlists/new").await.problem(404);
    assert_eq!(get("/health/live", "10.0.0.7", None).await.status, 200, "probes use addresses");

    // With keys a page of another name can do nothing.
    let app = start(&["--proxies", "1"]).await;
    app.get("/playlists/0").await.problem(401);
    Answer::to(app.request(Method::GET, "/playlists/0").header("host", "api.example")).await.problem(401);
}

#[tokio::test]
async fn the_contract_and_unknown_paths_are_within_the_limits_too() {
    for path in ["/openapi.json", "/docs/", "/nowhere"] {
        let app = start(&["--rate-limit-per-address", "0.1"]).await;
        assert_ne!(app.get(path).await.status, 429, "{path}");
        assert_eq!(app.get(path).await.status, 429, "{path}");
    }
}

#[tokio::test]
async fn an_id_that_is_too_long_for_the_log_is_replaced() {
    let app = TestApp::spawn().await;
    for (id, is_kept) in [("x".repeat(128), true), ("x".repeat(129), false), ("x".repeat(10_000), false)] {
        let answer = Answer::to(app.request(Method::GET, "/health/live").header("x-request-id", &id)).await;
        assert_eq!(answer.header("x-request-id") == id, is_kept, "{}", id.len());
        assert!((16..=128).contains(&answer.header("x-request-id").len()), "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let app = TestApp::spawn().await;
    for path in ["/tracks/synthetic:track:1", "/playlists/0"] {
        let first = app.get(path).await;
        let tag = first.header("etag").to_owned();
        let again = async |known: &str| Answer::to(app.request(Method::GET, path).header("if-none-match", known)).await;
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let answer = again(&known).await;
            assert_eq!(
                (answer.status, answer.body.as_str(), answer.header("etag")),
                (304, "", tag.as_str()),
                "{known}"
            );
            assert_eq!(answer.header("content-type"), "");
        }
        assert_eq!(again("\"other\"").await.body, first.body);
        assert_eq!(
            app.request(Method::HEAD, path).header("if-none-match", &tag).send().await.expect("sent").status(),
            304
        );
    }
    let track = json!({"name": "Another", "artist": "Somebody"});
    let tag = app.get("/tracks/synthetic:track:1").await.header("etag").to_owned();
    let put = async |known: &str| {
        let request = app.request(Method::PUT, "/tracks/synthetic:track:1").header("if-none-match", known);
        Answer::to(request.json(&track)).await
    };
    put(&tag).await.problem(412);
    put(&format!("\"other\", {tag}")).await.problem(412);
    assert_eq!(put("\"other\"").await.status, 200, "it is not in that state");
    assert_eq!(app.get("/tracks/synthetic:track:1").await.ok()["name"], "Another");
}

#[tokio::test]
async fn every_write_heeds_what_the_state_must_not_be() {
    let app = TestApp::spawn().await;
    let send = async |method: &Method, path: &str, header: &str, tag: &str, body: &Value| {
        let request = app.request(method.clone(), path).header(header, tag);
        Answer::to(if body.is_null() { request } else { request.json(body) }).await
    };
    let tracks = json!({"tracks": ["synthetic:track:1"]});
    let whole = json!({"title": "Other", "tracks": ["synthetic:track:1", "synthetic:track:2"]});
    let writes = [
        (Method::POST, "/playlists/0/tracks", &tracks),
        (Method::POST, "/playlists/0/tracks/move", &json!({"from": 0, "count": 1, "to": 1})),
        (Method::DELETE, "/playlists/0/tracks?position=0", &Value::Null),
        (Method::PUT, "/playlists/0/tracks", &tracks),
        (Method::PATCH, "/playlists/0", &json!({"title": "Other"})),
        (Method::PUT, "/playlists/0", &whole),
        (Method::DELETE, "/playlists/0", &Value::Null),
    ];
    for (method, path, body) in &writes {
        let before = app.get("/playlists/0").await;
        for tag in ["*", before.header("etag")] {
            send(method, path, "if-none-match", tag, body).await.problem(412);
        }
        assert_eq!(app.get("/playlists/0").await.body, before.body, "{method} {path}");
        let answer = send(method, path, "if-none-match", "\"other\"", body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
    send(&Method::POST, "/playlists/0/tracks", "if-none-match", "*", &tracks).await.problem(404);

    send(&Method::PUT, "/users/u", "if-match", "*", &Value::Null).await.problem(412);
    app.get("/users/u").await.problem(404);
    assert_eq!(send(&Method::PUT, "/users/u", "if-none-match", "*", &Value::Null).await.status, 201);
    for (header, tag) in [("if-none-match", "*"), ("if-match", "\"1\"")] {
        for method in [Method::PUT, Method::DELETE] {
            send(&method, "/users/u", header, tag, &Value::Null).await.problem(412);
        }
    }
    assert_eq!(send(&Method::PUT, "/users/u", "if-match", "*", &Value::Null).await.status, 200);
    assert_eq!(send(&Method::DELETE, "/users/u", "if-match", "*", &Value::Null).await.status, 204);
    send(&Method::DELETE, "/users/u", "if-match", "*", &Value::Null).await.problem(404);
}

#[tokio::test]
async fn answers_are_compressed_if_requested_and_worth_it() {
    let app = TestApp::spawn().await;
    let get = async |path: &str, encoding: &str| {
        let request = app.request(Method::GET, path).header("accept-encoding", encoding);
        let response = request.send().await.expect("a response");
        let (headers, status) = (response.headers().clone(), response.status());
        assert_eq!(status, 200);
        let header = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        (header("content-encoding"), header("content-length"), response.bytes().await.expect("a body"))
    };
    let (encoding, length, plain) = get("/tracks?limit=100", "identity").await;
    assert_eq!((encoding, length), (None, Some(plain.len().to_string())));
    let (encoding, _, packed) = get("/tracks?limit=100", "gzip").await;
    assert_eq!(encoding.as_deref(), Some("gzip"));
    assert!(packed.len() < plain.len() / 2);
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain);
    assert_eq!(get("/health/live", "gzip").await.0, None, "too short");
}

#[tokio::test]
async fn compressed_bodies_are_unpacked_within_the_limit() {
    let app = start(&["--max-body-bytes", "100000"]).await;
    let post = async |path: &str, kind: &str, encoding: &str, body: Vec<u8>| {
        let request = app.request(Method::POST, path).header("content-type", kind).header("content-encoding", encoding);
        Answer::to(request.body(body)).await
    };
    let complete =
        async |encoding: &str, body: Vec<u8>| post("/playlists/complete", "application/json", encoding, body).await;
    let body = json!({"playlists": [{"tracks": ["synthetic:track:1"]}], "limit": 3}).to_string();
    let answer = complete("gzip", gzip(body.as_bytes())).await.ok();
    assert!(answer["completions"][0]["items"][2]["track_id"].is_string(), "{answer}");
    let problem = complete("gzip", gzip(&vec![b' '; 50 << 20])).await.problem(413);
    assert_eq!(problem["detail"], "the body is larger than 100000 bytes");
    let mut cut = gzip(body.as_bytes());
    cut.truncate(cut.len() - 4);
    complete("gzip", cut).await.problem(400);
    complete("gzip", body.clone().into_bytes()).await.problem(400);
    let problem = complete("zip", body.into_bytes()).await.problem(415);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("gzip")), "{problem}");
    let lines: String = (0..10_000).map(|number| format!("{{\"id\": \"packed:{number}\"}}\n")).collect();
    let answer = post("/users?report=problems", "application/ndjson", "gzip", gzip(lines.as_bytes())).await;
    assert!(answer.body.contains("\"added\":10000"), "{answer:?}");
}

#[tokio::test]
async fn lines_of_json_are_accepted_by_their_other_names_and_the_right_names_are_said() {
    let app = TestApp::spawn().await;
    let rate = async |kind: &str| {
        let line = json!({"user_id": "u", "track_id": "synthetic:track:1", "rating": 4}).to_string();
        Answer::to(app.request(Method::POST, "/ratings").header("content-type", kind).body(line)).await
    };
    for kind in ["application/x-ndjson", "application/ndjson; charset=utf-8", "application/jsonl"] {
        rate(kind).await.ok();
    }
    let problem = rate("text/plain").await.problem(415);
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("application/json") && detail.contains("application/x-ndjson"), "{detail}");
}

#[tokio::test]
async fn a_request_that_would_take_long_is_rejected_before_the_work_begins() {
    let app = TestApp::spawn().await;
    let send = async |playlists: usize, tracks: usize, more: Value| {
        let playlist = json!({"tracks": vec!["x"; tracks]});
        let mut body = json!({"playlists": vec![playlist; playlists], "limit": 500});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        app.post("/playlists/complete", &body).await
    };
    assert_eq!(send(5, 10_000, json!({})).await.status, 200);
    let problem = send(64, 1_000, json!({})).await.problem(422);
    assert_eq!(problem["errors"][0]["field"], "playlists");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("50000")), "{problem}");
    assert_eq!(send(20, 1, json!({"explain": true})).await.status, 200);
    for more in [json!({"explain": true}), json!({"diversity": 0.5})] {
        let problem = send(21, 1, more).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], "limit");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("10000")), "{problem}");
    }
}
