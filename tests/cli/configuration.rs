//! `segue.toml`, the environment, and `segue config`.

use std::fs;

use crate::support::program::Home;

fn with_file(text: &str) -> Home {
    let home = Home::new();
    fs::write(home.path().join("segue.toml"), text).expect("written");
    home
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|other| other == line), "no line {line:?} in {text}");
}

#[test]
fn the_file_and_the_environment_set_what_config_prints() {
    let home = with_file(
        "log_format = \"json\"\n[train.similarity]\ndim = 17\nlearning-rate = 0.25\n[serve]\nengine_threads = 3\n",
    );
    let printed = home.segue(&["config"]).env("SEGUE_ENGINE_QUEUE", "99").env("SEGUE_ENGINE_THREADS", "5").succeed();
    for line in ["log_format = \"json\"", "dim = 17", "learning_rate = 0.25", "engine_queue = 99"] {
        assert_line(&printed, line);
    }
    assert_line(&printed, "engine_threads = 5"); // the environment outweighs the file
    assert_line(&printed, "max_body_bytes = 4194304"); // what neither sets is as it would be
}

#[test]
fn the_order_in_which_config_prints_settings_does_not_depend_on_where_they_come_from() {
    let order = |text: &str| -> Vec<String> {
        let is_line = |line: &&str| line.starts_with('[') || line.contains('=') || line.ends_with(" is not set");
        let name = |line: &str| line.trim_start_matches("# ").split([' ', '=']).next().unwrap_or_default().to_owned();
        text.lines().filter(is_line).map(name).collect()
    };
    let bare = order(&Home::new().segue(&["config"]).succeed());
    assert!(bare.len() > 100, "{bare:?}");
    let file =
        "log_format = \"json\"\nrating_highest = 10\n[train.similarity]\ndim = 17\n[serve]\nengine_threads = 3\n";
    assert_eq!(order(&with_file(file).segue(&["config"]).succeed()), bare);
}

#[test]
fn what_config_prints_is_a_file_that_sets_the_same() {
    let home =
        with_file("[train.similarity]\ndim = 17\narchitecture = \"cosine\"\n[serve]\nlisten = \"127.0.0.1:99\"\n");
    let printed = home.segue(&["config"]).succeed();
    let other = with_file(&printed);
    let again = other.segue(&["config"]).env("SEGUE_HOME", home.path().to_str().expect("UTF-8")).succeed();
    let parsed = |text: &str| text.parse::<toml::Table>().expect("TOML");
    assert_eq!(parsed(&again), parsed(&printed));
}

#[test]
fn a_file_that_is_named_is_read_instead_of_segue_toml() {
    let home = with_file("[train.similarity]\ndim = 17\n");
    fs::write(home.path().join("other.toml"), "[train.similarity]\ndim = 18\n").expect("written");
    assert_line(&home.segue(&["--config", "other.toml", "config"]).succeed(), "dim = 18");
    assert_line(&home.segue(&["config"]).env("SEGUE_CONFIG", "other.toml").succeed(), "dim = 18");
    assert_line(&home.segue(&["config"]).succeed(), "dim = 17");
}

#[test]
fn a_key_that_does_not_exist_ends_with_2_and_is_named() {
    for (text, key) in [
        ("databse_url = \"postgres://x/y\"\n", "databse_url"),
        ("[train.similarity]\ndims = 3\n", "train.similarity.dims"),
        ("[trian]\ndim = 3\n", "trian"),
    ] {
        let finished = with_file(text).segue(&["models"]).run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains("segue.toml") && finished.stderr.contains(key), "{finished:?}");
    }
}

#[test]
fn a_value_of_no_use_ends_with_2_and_the_key_or_the_value_is_named() {
    for (text, word) in [
        ("[train.similarity]\ndim = \"wide\"\n", "wide"),
        ("[train.similarity]\ndim = 0\n", "--dim"),
        ("[train.similarity]\ndim = 1979-05-27\n", "train.similarity.dim"),
        ("not toml at all", "segue.toml"),
    ] {
        let finished = with_file(text).segue(&["train", "similarity"]).run();
        assert_eq!(finished.code, Some(2), "{text:?}: {finished:?}");
        assert!(finished.stderr.contains(word), "{text:?}: {finished:?}");
    }
    let finished = Home::new().segue(&["--config", "missing.toml", "models"]).run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("missing.toml"), "{finished:?}");
}

/// Ways in which a password stands in a URL.
const URLS: [&str; 5] = [
    "postgres://app:hunter2@db.example/music",
    "postgres://app:hunter2@db.example/music?sslmode=require",
    "postgres://app:hun@ter:hunter2@db.example/music",
    "postgres://db.example/music?user=app&password=hunter2",
    "postgres://db.example/music?user=app&password=me@hunter2",
];

#[test]
fn config_does_not_print_the_password_of_the_database() {
    let home = Home::new();
    let commands = URLS.map(|url| home.segue(&["config"]).env("DATABASE_URL", url));
    let file = with_file(&format!("database_url = \"{}\"\n", URLS[0]));
    for command in commands.into_iter().chain([file.segue(&["config"])]) {
        let finished = command.run();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let line = finished.stdout.lines().find(|line| line.contains("database_url = ")).expect("the setting");
        assert!(!finished.stdout.contains("hunter2") && !finished.stderr.contains("hunter2"), "{line}");
    }
}

#[test]
fn help_and_errors_do_not_print_the_password_of_the_database() {
    let file = with_file(&format!("database_url = \"{}\"\n", URLS[0]));
    let bare = Home::new();
    for arguments in [&["--help"][..], &["train", "similarity", "-h"], &["nothing of the kind"]] {
        for command in [file.segue(arguments), bare.segue(arguments).env("DATABASE_URL", URLS[0])] {
            let finished = command.run();
            let lines = finished.stdout.lines().chain(finished.stderr.lines());
            let leaks: Vec<&str> = lines.filter(|line| line.contains("hunter2")).collect();
            assert!(leaks.is_empty(), "{arguments:?}: {leaks:?}");
        }
    }
}

#[test]
fn a_database_url_that_makes_no_sense_is_refused_without_repeating_it() {
    let home = Home::new();
    let finished = home.segue(&["migrate"]).env("DATABASE_URL", "mysql://app:hunter2@db.example/music").run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("postgres://"), "{finished:?}");
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}
