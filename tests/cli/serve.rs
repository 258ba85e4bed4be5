//! `segue serve` and `segue healthcheck`.

use crate::support::database::Database;
use crate::support::program::{Home, PATIENCE, Running};
use crate::support::{ClosedPort, wait_for, wait_until};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;

use segue::bundle::{BundleWriter, Kind, NewManifest, SimilarityBundle, Vocabulary};
use segue::dataset::DataFingerprint;
use serde_json::{Value, json};

async fn serve(home: &Home, database: &Database) -> (Running, String) {
    // A shutdown that waited for something would not end before the test.
    let flags = ["--shutdown-seconds", "3600", "--database-url", database.url()];
    let running = home.segue(&[&["serve", "--listen", "127.0.0.1:0"], &flags[..]].concat()).start();
    let url = running.url();
    (running, url)
}

#[tokio::test]
async fn healthcheck_ends_with_0_for_a_live_server_and_with_1_for_one_that_is_not_ready() {
    let (home, database) = (Home::new(), Database::new().await);
    let (_running, url) = serve(&home, &database).await;
    let live = home.segue(&["healthcheck", "--url", &format!("{url}/health/live")]).succeed();
    assert!(live.starts_with("200"), "{live}");
    let from_environment =
        home.segue(&["healthcheck"]).env("SEGUE_HEALTHCHECK_URL", &format!("{url}/health/live")).succeed();
    assert!(from_environment.starts_with("200"), "{from_environment}");
    let ready = home.segue(&["healthcheck", "--url", &format!("{url}/health/ready")]).run();
    assert_eq!(ready.code, Some(1), "{ready:?}");
    assert!(ready.stdout.starts_with("503"), "{ready:?}");
}

#[test]
fn healthcheck_ends_with_1_where_nothing_listens_and_where_nothing_answers() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/health/live", listener.local_addr().expect("an address"));
    let silent = home.segue(&["healthcheck", "--url", &url]).run();
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert!(silent.stderr.contains("did not answer"), "{silent:?}");
    let port = ClosedPort::new();
    let url = format!("http://127.0.0.1:{}/health/live", port.number());
    let closed = home.segue(&["healthcheck", "--url", &url]).run();
    assert_eq!(closed.code, Some(1), "{closed:?}");
    assert!(closed.stderr.contains("no server at"), "{closed:?}");
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_an_idle_server_with_0_long_before_its_grace_is_over() {
    let (home, database) = (Home::new(), Database::new().await);
    for signal in [Running::terminate, Running::interrupt] {
        let (running, _) = serve(&home, &database).await;
        signal(&running);
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stderr.contains("stopped"), "{finished:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_ends_with_1_and_is_named() {
    let (home, database) = (Home::new(), Database::new().await);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let finished = home.segue(&["serve", "--listen", &address, "--database-url", database.url()]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&address), "{finished:?}");
}

#[tokio::test]
async fn logs_are_json_when_asked_for_and_name_the_route_and_no_ids() {
    let (home, database) = (Home::new(), Database::new().await);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-url", database.url(), "--log-format", "json"];
    let running = home.segue(&arguments).start();
    let line = running.wait_for_log("listening on http://");
    let address = line.split('"').next().expect("an address");
    home.segue(&["healthcheck", "--url", &format!("http://{address}/playlists/someones-secret-list")]).run();
    running.wait_for_log("responded");
    running.terminate();
    let finished = running.finish();
    assert!(!finished.stderr.contains("someones-secret-list"), "{finished:?}");
    let lines: Vec<serde_json::Value> =
        finished.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answered = lines.iter().find(|line| line["message"] == "responded").expect("a line of the request");
    assert_eq!(answered["status"], 404);
    assert_eq!(answered["span"]["route"], "/playlists/{id}");
}

#[tokio::test]
async fn every_response_that_is_the_servers_fault_is_logged_under_its_id() {
    let (home, database) = (Home::new(), Database::with_tables().await);
    database.texts("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''cursed''; END'").await;
    database.texts("CREATE TRIGGER fail BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION fail()").await;
    let (port, client) = (ClosedPort::new(), reqwest::Client::new());
    let closed = format!("postgres://app@127.0.0.1:{}/music", port.number());
    let flags = ["--max-requests", "1", "--max-connections", "3", "--request-timeout-seconds", "3600"];
    for (url, requests) in [
        (
            database.url(),
            vec![
                ("PUT", "/users/u", 500, "cursed"),
                ("GET", "/tracks/t/similar", 503, "no model is loaded"),
                ("GET", "/health/ready", 503, "no model is loaded"),
            ],
        ),
        (&closed, vec![("GET", "/playlists/0", 503, "the catalog is unavailable")]),
    ] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", url];
        let server = home.segue(&[&serve, &flags[..]].concat()).start();
        let address = server.url();
        let send = async |method: &str, path: &str, status: u16| {
            let id = format!("{method} {path}").replace(['/', ' '], "-");
            let request = client.request(method.parse().expect("a method"), format!("{address}{path}"));
            let response = request.header("x-request-id", &id).header("connection", "close").send().await;
            assert_eq!(response.expect("a response").status(), status, "{method} {path}");
            wait_for("its line", PATIENCE, || {
                let log = server.log();
                log.lines().find(|line| line.contains(&format!("status={status}")) && line.contains(&id)).map(drop)
            });
        };
        for (method, path, status, reason) in requests {
            send(method, path, status).await;
            assert!(server.log().contains(reason), "{method} {path}: {}", server.log());
        }
        // One request whose body does not come takes the only place.
        let head = "POST /playlists/complete HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        let connect = || TcpStream::connect(address.trim_start_matches("http://")).expect("a connection");
        let hold = || {
            let mut held = connect();
            held.write_all(format!("{head}content-length: 9\r\n\r\n").as_bytes()).expect("sent");
            held.set_nonblocking(true).expect("set");
            held
        };
        let held = RefCell::new(hold());
        wait_until("the only place to be taken", async || {
            // The place may not have been free yet: then it was rejected, and tries again.
            let is_answered = held.borrow_mut().read(&mut [0]).is_ok();
            if is_answered {
                held.replace(hold());
            }
            let response = client.get(format!("{address}/tracks")).header("connection", "close").send().await;
            (response.expect("a response").status() == 503).then_some(())
        })
        .await;
        send("GET", "/tracks?q=overloaded", 503).await;
        drop(held);
    }
}

#[test]
fn a_connection_that_is_rejected_is_logged() {
    let home = Home::new();
    let port = ClosedPort::new();
    let url = format!("postgres://app@127.0.0.1:{}/music", port.number());
    let flags = ["--database-url", &url, "--max-connections", "1"];
    let server = home.segue(&[&["serve", "--listen", "127.0.0.1:0"], &flags[..]].concat()).start();
    let address = server.url().trim_start_matches("http://").to_owned();
    let connect = || TcpStream::connect(&address).expect("a connection");
    let mut held = connect();
    held.write_all(b"POST /playlists/complete HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n").expect("sent");
    // It has its place once another has none.
    wait_for("a rejection", PATIENCE, || {
        let mut other = connect();
        other.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut response = String::new();
        let _ = other.read_to_string(&mut response);
        response.starts_with("HTTP/1.1 503").then_some(())
    });
    server.wait_for_log("rejected a connection: too many are open");
}

#[test]
fn a_server_starts_while_its_database_is_away() {
    let home = Home::new();
    let port = ClosedPort::new();
    let url = format!("postgres://app:hunter2@127.0.0.1:{}/music", port.number());
    let running = home.segue(&["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", &url).start();
    let server = running.url();
    home.segue(&["healthcheck", "--url", &format!("{server}/health/live")]).succeed();
    running.terminate();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}

/// The bodies of the requests that a collector of traces gets, which answers each with 200 and nothing.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            let Ok(1..) = reader.read_line(&mut line) else { continue };
            let (request, mut length) = (line.trim().to_owned(), 0);
            loop {
                line.clear();
                let Ok(1..) = reader.read_line(&mut line) else { break };
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() && sender.send((request, body)).is_ok() {
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = reader.into_inner().write_all(answer.as_bytes());
            }
        }
    });
    (url, receiver)
}

#[tokio::test]
async fn traces_go_to_the_collector_and_one_that_is_away_is_told_of_and_harms_nothing() {
    let (home, database) = (Home::new(), Database::new().await);
    let start = |endpoint: &str| {
        home.segue(&["serve", "--listen", "127.0.0.1:0", "--database-url", database.url()])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_SERVICE_NAME", "music-recommendations")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .start()
    };
    let (endpoint, received) = collector();
    let running = start(&endpoint);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let client = reqwest::Client::new();
    let request = client.get(format!("{}/tracks/nothing", running.url()));
    let answer = request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-01")).send().await.expect("sent");
    assert_eq!(answer.status(), 404);
    let (request, body) = received.recv_timeout(PATIENCE).expect("a span");
    assert_eq!(request, "POST /v1/traces HTTP/1.1");
    let holds = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    assert!(holds(&hex::decode(trace).expect("hex")), "the caller's trace");
    assert!(holds(b"music-recommendations") && holds(b"GET /tracks/{id}") && !holds(b"nothing"));
    running.terminate();
    assert_eq!(running.finish().code, Some(0));

    let nobody = ClosedPort::new();
    let running = start(&format!("http://127.0.0.1:{}", nobody.number()));
    assert_eq!(reqwest::get(format!("{}/tracks/nothing", running.url())).await.expect("sent").status(), 404);
    running.wait_for_log("BatchSpanProcessor.ExportError");
    running.terminate();
    assert_eq!(running.finish().code, Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_use_up_the_open_files() {
    let (home, database) = (Home::new(), Database::new().await);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-url", database.url()];
    let running = home.segue_with_files(256, &arguments).start();
    let url = running.url();
    let address = url.strip_prefix("http://").expect("an address");
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    wait_until("an answer", async || {
        let answer = reqwest::get(format!("{url}/health/live")).await;
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
    drop(idle);
    running.terminate();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("can't accept"), "{finished:?}");
}

#[tokio::test]
async fn a_server_that_everyone_can_reach_without_a_key_says_so() {
    let (home, database) = (Home::new(), Database::new().await);
    for (flags, is_warned) in [
        (&["--listen", "0.0.0.0:0", "--auth", "off"][..], true),
        (&["--listen", "127.0.0.1:0", "--auth", "off", "--proxies", "1"], true),
        (&["--listen", "127.0.0.1:0", "--auth", "off"], false),
        (&["--listen", "127.0.0.1:0", "--proxies", "1"], false),
    ] {
        let running = home.segue(&[&["serve", "--database-url", database.url()], flags].concat()).start();
        running.wait_for_log("listening on");
        running.terminate();
        let finished = running.finish();
        assert_eq!(finished.stderr.contains("requests need no API key"), is_warned, "{flags:?} {finished:?}");
    }
}

/// Publishes a similarity bundle of `tracks` tracks, with vectors that are of no use.
fn publish_some_model(models: &Path, tracks: usize) {
    let ids: Vec<String> = (0..tracks).map(|track| format!("track:{track:030}")).collect();
    let vectors = (0..tracks).flat_map(|track| (0..8).map(move |place| f32::from(u8::from(track % 8 == place))));
    let bundle = SimilarityBundle {
        vocabulary: Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct ids"),
        vectors: vectors.collect(),
        dimensions: 8,
        counts: (0..tracks as u32).rev().collect(),
        candidates: tracks,
        next: None,
    };
    let mut writer = BundleWriter::begin(models, Kind::Similarity).expect("a writer");
    let checkpoint = |path: &Path| std::fs::write(path, "no tensors").map_err(|error| error.to_string());
    bundle.write(&mut writer, checkpoint).expect("written");
    let data = DataFingerprint {
        playlists: 1,
        tracks: tracks as u64,
        placements: 1,
        newest_change: None,
        sha256: String::new(),
    };
    writer.publish(NewManifest { seed: 1, parameters: Value::Null, data, metrics: Value::Null }).expect("published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_under_load_stays_within_a_gigabyte() {
    let (home, database) = (Home::new(), Database::new().await);
    publish_some_model(&home.models(), 2_000);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-url", database.url()];
    let Some((segue, _group)) = home.segue_with_memory(1_000_000_000, &arguments) else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let mut running = segue.start();
    let url = running.url();
    let playlist = json!({"tracks": (0..500).map(|track| format!("track:{track:030}")).collect::<Vec<String>>()});
    let body = json!({"playlists": vec![playlist; 64], "limit": 500, "model": "track2vec"}).to_string();
    let request = format!(
        "POST /playlists/complete HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Clients that never read, and others.
    let address = url.strip_prefix("http://").expect("an address").to_owned();
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let (address, request) = (address.clone(), request.clone());
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).expect("a connection");
                stream.write_all(request.as_bytes()).map(|()| stream)
            })
        })
        .collect();
    let client = reqwest::Client::new();
    let clients = (0..8).map(|_| async {
        let mut answered = 0;
        for _ in 0..5 {
            let request = client.post(format!("{url}/playlists/complete")).header("content-type", "application/json");
            let answer = request.body(body.clone()).send().await.expect("a response");
            answered += usize::from(answer.status() == 200);
            answer.bytes().await.expect("a body");
        }
        answered
    });
    let answered: usize = futures_util::future::join_all(clients).await.into_iter().sum();
    drop(silent);
    assert!(answered > 0, "some are answered, and the others rejected");
    assert!(running.is_running(), "not killed for its memory");
    wait_until("health", async || {
        reqwest::get(format!("{url}/health/ready")).await.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
    running.terminate();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}
