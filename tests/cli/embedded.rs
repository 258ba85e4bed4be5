//! The private PostgreSQL: without `DATABASE_URL` the program runs one of its own below its home folder.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::program::{Home, PATIENCE};
use crate::support::slices::{bare_playlist, bare_tracks, slice, write};
use crate::support::wait_for;

fn report(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What became of the playlists: new, as they were.
fn counts(report: &Value) -> [u64; 2] {
    ["playlists_added", "playlists_unchanged"].map(|field| report[field].as_u64().expect("a number"))
}

#[test]
fn data_survive_from_run_to_run_and_nothing_is_left_running() {
    let home = Home::new();
    let mode = fs::metadata(home.path()).expect("the home folder").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "no other user may enter");
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    home.segue(&["migrate"]).succeed();
    home.assert_postgres_has_stopped();
    let import = ["import", "mpd", "slice.json", "--format", "json"];
    assert_eq!(counts(&report(&home.segue(&import).succeed())), [1, 0]);
    home.assert_postgres_has_stopped();
    assert_eq!(counts(&report(&home.segue(&import).succeed())), [0, 1]);
    home.assert_postgres_has_stopped();
    let mode = fs::metadata(home.path().join("data/postgres")).expect("the cluster").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "the socket in it is open to all who may enter");
}

#[test]
fn nothing_is_left_running_after_an_error_either() {
    let home = Home::new();
    let finished = home.segue(&["import", "mpd", "nowhere.json"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    home.assert_postgres_has_stopped();
    let finished = home.segue(&["train", "similarity"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("import playlists first"), "{finished:?}");
    home.assert_postgres_has_stopped();
}

#[test]
fn two_commands_at_once_on_a_fresh_home_both_work() {
    let home = Home::new();
    let commands: Vec<_> = ["one", "other"]
        .into_iter()
        .map(|name| {
            let file = format!("{name}.json");
            let playlists: Vec<Value> =
                (0..20).map(|pid| bare_playlist(format!("{name} {pid}"), bare_tracks("t", 30))).collect();
            write(home.path(), &file, slice(&playlists));
            home.segue(&["import", "mpd", &file, "--format", "json"]).start()
        })
        .collect();
    for command in commands {
        let finished = command.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(counts(&report(&finished.stdout)), [20, 0]);
    }
    home.assert_postgres_has_stopped();
}

#[test]
fn a_home_with_a_path_too_long_for_a_socket_works() {
    let home = Home::with_long_path();
    assert!(home.path().as_os_str().len() > 107, "{}", home.path().display());
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    let import = ["import", "mpd", "slice.json", "--format", "json"];
    assert_eq!(counts(&report(&home.segue(&import).succeed())), [1, 0]);
    assert_eq!(counts(&report(&home.segue(&import).succeed())), [0, 1]);
    home.assert_postgres_has_stopped();
}

#[test]
fn a_home_with_spaces_commas_and_accents_in_its_path_works() {
    let home = Home::with_odd_path();
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    let import = ["import", "mpd", "slice.json", "--format", "json"];
    assert_eq!(counts(&report(&home.segue(&import).succeed())), [1, 0]);
    home.assert_postgres_has_stopped();
}

#[test]
fn what_a_killed_server_leaves_running_is_used_by_the_next_command_and_stopped_after_it() {
    let home = Home::new();
    let serving = home.segue(&["serve", "--listen", "127.0.0.1:0"]).start();
    serving.url();
    assert_eq!(serving.kill().signal, Some(9));
    assert!(home.path().join("data/postgres/postmaster.pid").exists(), "a kill gives no time to stop anything");
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    assert_eq!(counts(&report(&home.segue(&["import", "mpd", "slice.json", "--format", "json"]).succeed())), [1, 0]);
    home.assert_postgres_has_stopped();
}

#[test]
fn an_import_beside_a_server_uses_the_servers_postgres_and_leaves_it_running() {
    let home = Home::new();
    let serving = home.segue(&["serve", "--listen", "127.0.0.1:0"]).start();
    let url = serving.url();
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    home.segue(&["import", "mpd", "slice.json"]).succeed();
    let playlist = format!("{url}/playlists/1");
    assert!(home.segue(&["healthcheck", "--url", &playlist]).succeed().starts_with("200"));
    serving.terminate();
    assert_eq!(serving.finish().code, Some(0));
    home.assert_postgres_has_stopped();
}

#[test]
fn a_server_that_gives_up_on_a_slow_client_still_stops_its_postgres() {
    use std::io::Write;
    let home = Home::new();
    // The request itself would not be given up before the test.
    let flags = ["--shutdown-seconds", "0.5", "--request-timeout-seconds", "3600"];
    let serving = home.segue(&[&["serve", "--listen", "127.0.0.1:0"], &flags[..]].concat()).start();
    let url = serving.url();
    let address = url.strip_prefix("http://").expect("a URL");
    let mut client = std::net::TcpStream::connect(address).expect("a connection");
    let head =
        "POST /playlists/complete HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    client.write_all(head.as_bytes()).expect("written");
    // It has begun to read the request once it answers one that came later.
    home.segue(&["healthcheck", "--url", &format!("{url}/health/live")]).succeed();
    serving.terminate();
    let finished = serving.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    home.assert_postgres_has_stopped();
    drop(client);
}

#[test]
fn ctrl_c_during_an_import_ends_with_130_and_leaves_nothing_running() {
    let home = Home::new();
    let folder = home.path().join("slices");
    for number in 0..60 {
        let playlists: Vec<Value> =
            (0..100).map(|pid| bare_playlist(number * 100 + pid, bare_tracks(&format!("t{}", pid % 7), 60))).collect();
        write(&folder, &format!("mpd.slice.{number}.json"), slice(&playlists));
    }
    let import = ["import", "mpd", "slices", "--format", "json"];
    let running = home.segue(&import).start();
    wait_for("the private PostgreSQL", PATIENCE, || {
        home.path().join("data/postgres/postmaster.pid").exists().then_some(())
    });
    running.wait_for_log("creating the private PostgreSQL");
    std::thread::sleep(Duration::from_millis(300));
    running.interrupt();
    let stopped = running.finish();
    assert_eq!(stopped.code, Some(130), "{stopped:?}");
    home.assert_postgres_has_stopped();
    let rest = report(&home.segue(&import).succeed());
    let [added, unchanged] = counts(&rest);
    assert_eq!(added + unchanged, 6_000);
    assert!(added > 0, "all was there when it was stopped: {rest}");
    home.assert_postgres_has_stopped();
}

/// The number of the process in `postmaster.pid`.
fn postmaster(home: &Home) -> Pid {
    let text = fs::read_to_string(home.path().join("data/postgres/postmaster.pid")).expect("it runs");
    text.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).expect("a number")
}

#[test]
fn the_postgres_of_another_home_is_not_taken_for_its_own() {
    let (home, other) = (Home::new(), Home::new());
    other.segue(&["migrate"]).succeed();
    let serving = home.segue(&["serve", "--listen", "127.0.0.1:0"]).start();
    let url = serving.url();
    // As a crash leaves it behind, with a number that belongs to the first home's PostgreSQL by now.
    let cluster = other.path().join("data/postgres");
    let text = fs::read_to_string(home.path().join("data/postgres/postmaster.pid")).expect("it runs");
    let text = text.replace(&*home.path().to_string_lossy(), &other.path().to_string_lossy());
    let stale = write(&cluster, "postmaster.pid", text);
    let owner = fs::metadata(&cluster).expect("the cluster");
    chown(&stale, Some(owner.uid()), Some(owner.gid())).expect("its owner");

    let running = postmaster(&home);
    write(other.path(), "slice.json", slice(&[bare_playlist("other", bare_tracks("t", 3))]));
    assert_eq!(counts(&report(&other.segue(&["import", "mpd", "slice.json", "--format", "json"]).succeed())), [1, 0]);
    other.assert_postgres_has_stopped();
    assert_eq!(postmaster(&home), running);
    let playlists = home.segue(&["healthcheck", "--url", &format!("{url}/playlists")]).succeed();
    assert!(playlists.starts_with("200"), "{playlists}");
    let missing = home.segue(&["healthcheck", "--url", &format!("{url}/playlists/other")]).run();
    assert!(missing.stdout.starts_with("404"), "{missing:?}");
    serving.terminate();
    assert_eq!(serving.finish().code, Some(0));
    home.assert_postgres_has_stopped();
}

#[test]
fn a_postgres_that_dies_under_a_server_is_started_again() {
    let home = Home::new();
    let serving = home.segue(&["serve", "--listen", "127.0.0.1:0"]).start();
    let playlists = format!("{}/playlists", serving.url());
    let ask = || home.segue(&["healthcheck", "--url", &playlists]).run().stdout;
    for signal in [Signal::KILL, Signal::QUIT] {
        let died = postmaster(&home);
        kill_process(died, signal).expect("it runs");
        wait_for("another PostgreSQL", PATIENCE, || {
            let text = fs::read_to_string(home.path().join("data/postgres/postmaster.pid")).unwrap_or_default();
            let is_new = text.contains("ready") && !text.starts_with(&died.as_raw_nonzero().to_string());
            (is_new && ask().starts_with("200")).then_some(())
        });
    }
    serving.terminate();
    assert_eq!(serving.finish().code, Some(0));
    home.assert_postgres_has_stopped();
}

#[test]
fn its_programs_can_be_chosen() {
    let home = Home::new();
    let migrate = |programs: &str| home.segue(&["migrate"]).env("SEGUE_POSTGRES_BIN", programs).run();
    let finished = migrate("/nowhere");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("initdb and pg_ctl in /nowhere"), "{finished:?}");
    let programs = tempfile::tempdir().expect("a folder");
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).expect("open to all");
    for name in ["initdb", "pg_ctl"] {
        let path = write(programs.path(), name, "#!/bin/sh\necho the chosen one; exit 1\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let finished = migrate(&programs.path().to_string_lossy());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("the chosen one"), "{finished:?}");
}
