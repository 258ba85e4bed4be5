//! `segue serve` and `segue healthcheck`.

use std::time::{Duration, Instant};

use crate::support::database::Database;
use crate::support::program::{Home, Running};

async fn serve(home: &Home, database: &Database) -> (Running, String) {
    let running = home.segue(&["serve", "--listen", "127.0.0.1:0", "--database-url", database.url()]).start();
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
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/health/live", listener.local_addr().expect("an address"));
    let began = Instant::now();
    let silent = home.segue(&["healthcheck", "--url", &url]).run();
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert!(silent.stderr.contains("did not answer"), "{silent:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    drop(listener);
    let closed = home.segue(&["healthcheck", "--url", &url]).run();
    assert_eq!(closed.code, Some(1), "{closed:?}");
    assert!(closed.stderr.contains("no server at"), "{closed:?}");
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_a_server_with_0_within_seconds() {
    let (home, database) = (Home::new(), Database::new().await);
    for signal in [Running::terminate, Running::interrupt] {
        let (running, _) = serve(&home, &database).await;
        let began = Instant::now();
        signal(&running);
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(finished.stderr.contains("stopped"), "{finished:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_ends_with_1_and_is_named() {
    let (home, database) = (Home::new(), Database::new().await);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
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
    running.wait_for_log("answered");
    running.terminate();
    let finished = running.finish();
    assert!(!finished.stderr.contains("someones-secret-list"), "{finished:?}");
    let lines: Vec<serde_json::Value> =
        finished.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answered = lines.iter().find(|line| line["message"] == "answered").expect("a line of the request");
    assert_eq!(answered["status"], 404);
    assert_eq!(answered["span"]["route"], "/playlists/{id}");
}

#[test]
fn a_server_starts_while_its_database_is_away() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let url = format!("postgres://app:hunter2@127.0.0.1:{port}/music");
    let running = home.segue(&["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", &url).start();
    let server = running.url();
    home.segue(&["healthcheck", "--url", &format!("{server}/health/live")]).succeed();
    running.terminate();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}
