//! Requests: each passes the server's own router, as its listener would hand it over.
//!
//! An input is a request as text: a line with method and path, header fields, a blank line, and the body. The server has the
//! bundles of an earlier version, and a catalog that is unavailable: what a request needs of the catalog ends in a 503, and
//! all that is checked before it, or needs none, is checked. Bodies that say that they are gzip are packed first.

use std::io::Write;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use clap::{Args, FromArgMatches};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Limited};
use segue::catalog::Catalog;
use segue::serve::access::rate_limit::Peer;
use segue::serve::{AppState, ServeSettings, router};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Largest response: a page of 500 items, or what is unknown of 4 MiB of ids.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// Longest time of a request.
const LONGEST: Duration = Duration::from_secs(10);

struct Server {
    runtime: Runtime,
    open: Router,
    /// requests need keys, and there are none
    closed: Router,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let folder = crate::folder().keep();
    let models = crate::bundles::unpack(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let (open, closed) = runtime.block_on(async {
        let url = format!("postgres://nobody@localhost/nothing?host={}", folder.display());
        let catalog = Catalog::connect(Some(&url), None, &folder).await.expect("an address");
        let settings = |flags: &[&str]| -> ServeSettings {
            let command = ServeSettings::augment_args(clap::Command::new("serve").no_binary_name(true));
            let matches = command.get_matches_from(flags.iter().chain(&["--engine-threads", "1"]));
            ServeSettings::from_arg_matches(&matches).expect("settings")
        };
        let start = |flags: &[&str]| {
            let settings = settings(flags);
            let state = AppState::new(catalog.clone(), &models, &settings).expect("threads");
            (router(state.clone(), &settings), state)
        };
        let (open, state) = start(&["--auth", "off", "--proxies", "1", "--rate-limit-per-address", "1000000"]);
        let models = state.models.clone();
        tokio::task::spawn_blocking(move || models.load_at_start()).await.expect("loaded");
        (open, start(&["--auth", "required", "--cors-origins", "https://app.example"]).0)
    });
    Server { runtime, open, closed }
});

/// Sends a request.
pub fn run(bytes: &[u8]) {
    let split = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..split], bytes.get(split + 2..).unwrap_or_default());
    let server = &*SERVER;
    let Some(first) = request(head, body) else { return };
    let has_key = first.headers().contains_key("authorization");
    let router = if has_key { &server.closed } else { &server.open };
    let answer = server.runtime.block_on(send(router, first));
    let Some(again) = request(head, body).filter(|request| bytes.len().is_multiple_of(4) && !changes_models(request))
    else {
        return;
    };
    let again = server.runtime.block_on(send(router, again));
    assert_eq!(answer.0, again.0, "the same request is answered otherwise");
}

fn changes_models(request: &Request<Body>) -> bool {
    request.uri().path().starts_with("/models")
}

/// Returns the request that the text describes, if it is one.
fn request(head: &[u8], body: &[u8]) -> Option<Request<Body>> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let mut first = lines.next()?.splitn(2, |&byte| byte == b' ');
    let (method, path) = (Method::from_bytes(first.next()?).ok()?, first.next()?);
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).ok()?;
    for line in lines {
        let at = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..at]).ok()?, line[at + 1..].trim_ascii());
        request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    request.extensions_mut().insert(Peer(([192, 0, 2, 1], 4_711).into()));
    let is_packed = request.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let body = match is_packed && !body.starts_with(&[0x1f, 0x8b]) {
        true => packed(body),
        false => body.to_vec(),
    };
    Some(request.map(|_| Body::from(body)))
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("it is memory")
}

/// Sends a request, and asserts that the response is one of the contract.
async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let (is_head, path) = (request.method() == Method::HEAD, request.uri().path().to_owned());
    let asks_for_packed = request.headers().contains_key("accept-encoding");
    let response = tokio::time::timeout(LONGEST, router.clone().oneshot(request)).await.expect("no answer in time");
    let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
    let (status, is_problem) = (head.status, head.status.is_client_error() || head.status.is_server_error());
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    assert!(head.headers.contains_key("x-request-id"), "{path}");
    let collected = tokio::time::timeout(LONGEST, Limited::new(body, MAX_RESPONSE_BYTES).collect()).await;
    let bytes = collected.expect("no end in time").expect("a response within bounds").to_bytes();
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_head || asks_for_packed {
        return (status, Vec::new());
    }
    if is_problem {
        assert_eq!(content_type, "application/problem+json", "{path}: {status}");
    }
    if content_type.ends_with("json") {
        let parse =
            |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        match content_type {
            "application/x-ndjson" => {
                let lines: Vec<Value> =
                    bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(parse).collect();
                let summary = lines.last().map(|line| &line["summary"]);
                assert!(summary.is_some_and(Value::is_object), "{path}: no summary");
            }
            _ => {
                let answer = parse(&bytes);
                if is_problem {
                    assert_eq!(answer["status"], status.as_u16(), "{path}");
                    assert!(answer["detail"].is_string() || answer["title"].is_string(), "{path}: {answer}");
                }
            }
        }
    }
    (status, bytes.to_vec())
}
