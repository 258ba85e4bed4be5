//! A database that rejects the server's password.

use std::fs;

use segue::catalog::EmbeddedPostgres;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::program::{Home, PATIENCE};
use crate::support::wait_for;

/// What PostgreSQL and the server say about it.
const REJECTED: &str = "password authentication failed";

#[test]
fn a_password_that_is_wrong_is_reported_once_and_the_right_one_works_without_a_restart() {
    let home = Home::new();
    let postgres = EmbeddedPostgres::start(home.path()).expect("a PostgreSQL");
    let data = home.path().join("data/postgres");
    let url = |user: &str| format!("postgres://{user}@localhost/segue?host={}", data.display());
    let rules = fs::read_to_string(data.join("pg_hba.conf")).expect("rules");
    fs::write(data.join("pg_hba.conf"), format!("local all app scram-sha-256\n{rules}")).expect("written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let administrate = |statements: &[&'static str]| {
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url("segue")).await.expect("a connection");
            for statement in statements {
                connection.execute(*statement).await.expect("done");
            }
        });
    };
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    administrate(&[
        "SELECT pg_reload_conf()",
        "CREATE ROLE app LOGIN PASSWORD 'right'",
        "GRANT CREATE ON DATABASE segue TO app",
    ]);
    // The server reads its rules a moment after it was told to.
    let refused = || runtime.block_on(async { PgConnection::connect(&url("app:wrong")).await.is_err() }).then_some(());
    wait_for("the rules", PATIENCE, refused);

    let flags = ["serve", "--listen", "127.0.0.1:0", "--database-url", &url("app:right")];
    let server = home.segue(&flags).start();
    let address = server.url();
    let status = |path: &str| {
        runtime
            .block_on(async { reqwest::get(format!("{address}{path}")).await.expect("a response").status().as_u16() })
    };
    wait_for("the catalog", PATIENCE, || (status("/playlists/0") == 404).then_some(()));

    let rejections = || fs::read_to_string(data.join("server.log")).expect("a log").matches(REJECTED).count();
    let before = rejections();
    administrate(&["ALTER ROLE app PASSWORD 'other'", end]);
    // From then on, requests are rejected without another attempt, which they would report too.
    server.wait_for_log("requests that need it get 503");
    wait_for("several attempts", PATIENCE, || {
        assert_eq!(status("/playlists/0"), 503);
        (rejections() >= before + 4).then_some(())
    });
    administrate(&["ALTER ROLE app PASSWORD 'right'"]);
    wait_for("the catalog", PATIENCE, || (status("/playlists/0") == 404).then_some(()));

    server.terminate();
    let log = server.finish().stderr;
    let reported: Vec<&str> = log.lines().filter(|line| line.contains(REJECTED)).collect();
    assert!(matches!(reported[..], [line] if line.contains("WARN")), "{log}");
    // Connections that were just being made were ended above.
    let is_error = |line: &&str| line.contains("ERROR") && !line.contains("administrator command");
    assert_eq!(log.lines().find(is_error), None, "{log}");
    drop(postgres);
}
