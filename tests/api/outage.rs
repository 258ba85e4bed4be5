//! Responses while PostgreSQL is unavailable.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use segue::catalog::{Catalog, EmbeddedPostgres};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::app::{Answer, LATE_TRACK, Setup, TestApp, ids};
use crate::support::{ClosedPort, postgres_programs, wait_until};

async fn without_catalog(port: u16) -> TestApp {
    let url = format!("postgres://segue@127.0.0.1:{port}/segue?sslmode=disable");
    TestApp::start(Setup { catalog: Some(url), ..Setup::default() }).await
}

#[track_caller]
fn assert_without_names(items: &Value) {
    assert_eq!(ids(items).len(), 5);
    for item in items.as_array().expect("items") {
        assert_eq!((item.get("name"), item.get("artist")), (Some(&Value::Null), Some(&Value::Null)), "{item}");
    }
}

/// Similar tracks and inline completions come without names, the rest says that it can't; all of it soon.
async fn assert_answers_what_it_can(app: &TestApp) {
    let began = Instant::now();
    let similar = app.get("/tracks/synthetic:track:1/similar?limit=5").await.ok();
    assert_eq!(similar["source"], "track2vec");
    assert_without_names(&similar["items"]);
    let body = json!({"playlists": [{"tracks": ["synthetic:track:1", "synthetic:track:2"]}, {}], "limit": 5});
    let inline = app.post("/playlists/complete", &body).await.ok();
    assert_eq!(inline["completions"][0]["source"], "track2vec");
    assert_without_names(&inline["completions"][0]["items"]);
    assert_without_names(&inline["completions"][1]["items"]);

    let version = app.manifest().version;
    let degraded = json!({"status": "degraded", "catalog": "unavailable", "models": {"similarity": version}});
    assert_eq!(app.get("/health/ready").await.ok(), degraded);
    assert_eq!(app.get("/health/live").await.ok()["status"], "ok");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    let unknown_to_the_model = format!("/tracks/{LATE_TRACK}/similar");
    let answers = tokio::join!(
        app.post_nothing("/playlists/0/complete"),
        app.get("/playlists/0"),
        app.get("/tracks/synthetic:track:1"),
        app.get(&unknown_to_the_model),
    );
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        let problem = answer.problem(503); // with Retry-After
        assert_eq!(problem["type"], "urn:segue:problem:catalog-unavailable");
    }
}

#[tokio::test]
async fn while_no_catalog_listens_what_needs_none_is_answered() {
    let port = ClosedPort::new();
    assert_answers_what_it_can(&without_catalog(port.number()).await).await;
}

#[tokio::test]
async fn while_the_catalog_accepts_connections_and_says_nothing_what_needs_none_is_answered() {
    // Connections are taken by the operating system; no one ever reads from them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let app = without_catalog(listener.local_addr().expect("an address").port()).await;
    assert_answers_what_it_can(&app).await;
    drop(listener);
}

/// More requests than the server has connections wait for a table that someone else keeps locked.
#[tokio::test]
async fn a_catalog_that_is_slow_is_not_waited_for_long_and_holds_up_nothing_else() {
    const WAITING: usize = 300;
    let app = Arc::new(TestApp::spawn().await);
    let mut other = app.database().connect().await;
    for statement in ["BEGIN", "LOCK TABLE playlists IN ACCESS EXCLUSIVE MODE"] {
        sqlx::query(statement).execute(&mut other).await.expect("locked");
    }
    let waiting: Vec<_> = (0..WAITING)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.get("/playlists/0").await.problem(503) }) // with Retry-After
        })
        .collect();
    // Some wait by now: the others are rejected because of them.
    wait_until("the first one", async || waiting.iter().any(tokio::task::JoinHandle::is_finished).then_some(())).await;
    // Neither of these may take as long as a request has: that would be a problem too.
    let similar = app.get("/tracks/synthetic:track:1/similar?limit=5").await.ok();
    assert_eq!(ids(&similar["items"]).len(), 5);
    app.post("/playlists/complete", &json!({"playlists": [{"tracks": ["synthetic:track:1"]}], "limit": 5})).await.ok();
    let mut at_once = 0;
    for waiting in waiting {
        match waiting.await.expect("answered")["type"].as_str() {
            Some("urn:segue:problem:overloaded") => at_once += 1,
            // It has waited for a connection, or for the table, and not as long as a request has.
            other => assert_eq!(other, Some("urn:segue:problem:catalog-unavailable")),
        }
    }
    assert!(at_once >= WAITING / 2, "{at_once} of {WAITING}");
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("unlocked");
    let there = async || (app.get("/playlists/0").await.status == 200).then_some(());
    wait_until("the catalog", there).await;
}

#[tokio::test]
async fn a_catalog_that_goes_away_and_comes_back_is_used_again() {
    let home = tempfile::tempdir().expect("a folder");
    let start = || {
        let home = home.path().to_owned();
        tokio::task::spawn_blocking(move || EmbeddedPostgres::start(&home).expect("a PostgreSQL"))
    };
    let stop = |postgres| tokio::task::spawn_blocking(move || drop::<EmbeddedPostgres>(postgres));
    let postgres = start().await.expect("started");
    let socket = home.path().join("data/postgres");
    let url = format!("postgres://segue@localhost/segue?host={}", socket.display());
    let app = TestApp::start(Setup { catalog: Some(url), ..Setup::default() }).await;
    app.state.catalog.migrate().await.expect("tables");
    let ready = async || (app.get("/health/ready").await.ok()["status"] == "ok").then_some(());
    wait_until("the catalog", ready).await;
    app.get("/playlists/0").await.problem(404);

    stop(postgres).await.expect("stopped");
    app.state.catalog.probe().await.expect_err("gone");
    assert_answers_what_it_can(&app).await;

    let postgres = start().await.expect("started");
    wait_until("the catalog", ready).await;
    app.get("/playlists/0").await.problem(404);
    stop(postgres).await.expect("stopped");
}

#[tokio::test]
async fn a_catalog_without_a_connection_to_spare_is_not_taken_for_gone() {
    let app = TestApp::spawn().await;
    let mut administrator = app.database().connect().await;
    app.state.catalog.probe().await.expect("up");
    let reject = "UPDATE pg_database SET datallowconn = false WHERE datname = current_database()";
    administrator.execute(reject).await.expect("changed");
    app.state.catalog.probe().await.expect("still up");
    let accept = "UPDATE pg_database SET datallowconn = true WHERE datname = current_database()";
    administrator.execute(accept).await.expect("changed");
}

/// Sets or resets a setting of the database, ends the connections that have another value, and waits until the server has
/// noticed: it listens on a new one.
async fn change_setting(administrator: &mut PgConnection, change: &str) {
    let database = "SELECT quote_ident(current_database())";
    let name: String = sqlx::query_scalar(database).fetch_one(&mut *administrator).await.expect("the database");
    administrator.execute(AssertSqlSafe(format!("ALTER DATABASE {name} {change}"))).await.expect("changed");
    let now = "SELECT clock_timestamp()::text";
    let time: String = sqlx::query_scalar(now).fetch_one(&mut *administrator).await.expect("the time");
    wait_until("a new listener", async || {
        // Again and again: a connection that begins has the old value, and is not in the table yet.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_start <= $1::timestamptz";
        sqlx::query(end).bind(&time).execute(&mut *administrator).await.expect("ended");
        let listens = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'
                       AND backend_start > $1::timestamptz";
        sqlx::query(listens).bind(&time).fetch_optional(&mut *administrator).await.expect("asked").map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_catalog_that_turns_read_only_is_read_and_writes_wait_until_it_is_writable_again() {
    let app = TestApp::spawn().await;
    let mut administrator = app.database().connect().await;
    administrator.execute("SET default_transaction_read_only = off").await.expect("set");
    let is = async |status: &str, catalog: &str| {
        let ready = app.get("/health/ready").await.ok();
        (ready["status"] == status && ready["catalog"] == catalog).then_some(())
    };
    wait_until("the catalog", async || is("ok", "ok").await).await;

    change_setting(&mut administrator, "SET default_transaction_read_only = on").await;
    wait_until("a read-only catalog", async || is("degraded", "read-only").await).await;
    let playlist = app.get("/playlists/0").await.ok();
    app.get("/tracks?q=track").await.ok();
    app.get("/users").await.ok();
    let (title, track) = (json!({"title": "Other"}), json!({"tracks": ["synthetic:track:1"]}));
    let writes = [
        (Method::PATCH, "/playlists/0", Some(&title)),
        (Method::PUT, "/playlists/new", Some(&title)),
        (Method::POST, "/playlists/0/tracks", Some(&track)),
        (Method::PUT, "/playlists/0/tracks", Some(&track)),
        (Method::DELETE, "/playlists/0", None),
        (Method::DELETE, "/tracks/synthetic:track:1", None),
        (Method::PUT, "/users/new", None),
    ];
    for (method, path, body) in &writes {
        let request = app.request(method.clone(), path);
        let answer = Answer::to(body.map_or(request.try_clone().expect("no stream"), |body| request.json(body))).await;
        assert_eq!(answer.problem(503)["type"], "urn:segue:problem:catalog-unavailable", "{method} {path}");
    }
    let rating =
        json!({"user_id": "u", "track_id": "synthetic:track:1", "rating": 5, "rated_at": "2020-01-01T00:00:00Z"});
    app.post("/ratings", &json!({"ratings": [rating]})).await.problem(503);
    assert_eq!(app.get("/playlists/0").await.ok(), playlist);

    change_setting(&mut administrator, "RESET default_transaction_read_only").await;
    wait_until("the catalog", async || is("ok", "ok").await).await;
    for (method, path, body) in &writes {
        let request = app.request(method.clone(), path);
        let answer = Answer::to(body.map_or(request.try_clone().expect("no stream"), |body| request.json(body))).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
}

/// Runs a program that must succeed.
fn run(command: &mut Command) {
    let output = command.output().expect("the program");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Starts a PostgreSQL in `home` that follows the one in `primary`.
fn start_standby(primary: &Path, home: &Path) -> EmbeddedPostgres {
    let (from, to) = (primary.join("data/postgres"), home.join("data/postgres"));
    std::fs::create_dir(home.join("data")).expect("a folder");
    let mut copy = Command::new(postgres_programs().join("pg_basebackup"));
    run(copy
        .args(["--username=segue", "--write-recovery-conf", "--checkpoint=fast"])
        .arg("-h")
        .arg(&from)
        .arg("-D")
        .arg(&to));
    // The lock of a socket is copied too.
    std::fs::remove_file(to.join(".s.PGSQL.5432.lock")).expect("removed");
    run(Command::new("chown").arg("--recursive").arg(format!("--reference={}", from.display())).arg(&to));
    EmbeddedPostgres::start(home).expect("a standby")
}

#[tokio::test]
async fn a_standby_is_read_and_once_promoted_written() {
    let (primary, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let url = |home: &Path| format!("postgres://segue@localhost/segue?host={}", home.join("data/postgres").display());
    let folders = (primary.path().to_owned(), home.path().to_owned());
    let start = move || {
        let postgres = EmbeddedPostgres::start(&folders.0).expect("a PostgreSQL");
        let standby = start_standby(&folders.0, &folders.1);
        (postgres, standby)
    };
    let servers = tokio::task::spawn_blocking(start).await.expect("started");
    Catalog::open(Some(&url(primary.path())), None, primary.path()).await.expect("a catalog").close().await;
    let app = TestApp::start(Setup { catalog: Some(url(home.path())), ..Setup::default() }).await;
    let is = async |status: &str, catalog: &str| {
        let ready = app.get("/health/ready").await.ok();
        (ready["status"] == status && ready["catalog"] == catalog).then_some(())
    };
    wait_until("the standby", async || is("degraded", "read-only").await).await;
    // What the primary has arrives here.
    wait_until("the tables", async || (app.get("/playlists/0").await.status == 404).then_some(())).await;
    let put = async || Answer::to(app.request(Method::PUT, "/users/new")).await;
    put().await.problem(503);

    let mut administrator = PgConnection::connect(&url(home.path())).await.expect("a connection");
    administrator.execute("SELECT pg_promote()").await.expect("promoted");
    wait_until("a primary", async || is("ok", "ok").await).await;
    assert_eq!(put().await.status, 201);
    drop(administrator);
    tokio::task::spawn_blocking(move || drop(servers)).await.expect("stopped");
}
