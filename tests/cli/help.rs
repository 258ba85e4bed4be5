//! Help and wrong usage.

use std::process::{Command, Stdio};

use clap::error::ErrorKind;
use segue::cli::command;

use crate::support::program::Home;

/// Every path of subcommands: `[]`, `["train"]`, `["train", "similarity"]` and so on.
fn paths(command: &clap::Command, prefix: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![prefix.to_vec()];
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        found.extend(paths(subcommand, &[prefix, &[subcommand.get_name().to_owned()]].concat()));
    }
    found
}

#[test]
fn every_subcommand_has_help_and_those_that_do_something_an_example() {
    let paths = paths(&command(), &[]);
    assert!(paths.contains(&vec!["train".to_owned(), "similarity".to_owned()]), "{paths:?}");
    for path in paths {
        let words = [&["segue".to_owned()], path.as_slice(), &["--help".to_owned()]].concat();
        let answer = command().try_get_matches_from(words).expect_err("help ends the program");
        assert_eq!((answer.kind(), answer.exit_code()), (ErrorKind::DisplayHelp, 0), "{path:?}: {answer}");
        let help = answer.to_string();
        assert!(help.contains("Usage: segue"), "{path:?}: {help}");
        // Where a subcommand is to be chosen, or there is nothing to choose, the list is help enough.
        let chooses = ["", "evaluate", "export", "import", "keys", "models part", "train", "tune"]
            .contains(&path.join(" ").as_str());
        if !chooses {
            assert!(help.contains("Example"), "{path:?}: {help}");
            let command = format!("segue {}", path.join(" "));
            assert!(help.contains(&format!("  {command}")), "no example that begins with {command:?}: {help}");
        }
    }
}

/// Sections of options in a help text.
fn options(help: &str) -> impl Iterator<Item = &str> {
    let heads = |line: &&str| !line.starts_with(' ') && line.ends_with(':');
    let mut lines = help.lines().filter(|line| !line.is_empty()).peekable();
    std::iter::from_fn(move || {
        let line = lines.next()?;
        Some((line, heads(&line)))
    })
    .scan(false, |is_option, (line, is_head)| {
        if is_head || !line.starts_with(' ') {
            *is_option = is_head && !["Commands:", "Example:", "Examples:"].contains(&line);
            return Some(None);
        }
        Some(is_option.then_some(line))
    })
    .flatten()
}

#[test]
fn a_summary_has_one_line_for_each_option_and_global_options_come_last() {
    let home = Home::new();
    for path in paths(&command(), &[]) {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["-h"]).collect();
        let summary = home.segue(&words).succeed();
        for line in options(&summary) {
            let is_whole = line.trim_start().starts_with(['-', '<', '[']) && line.trim().contains("  ");
            assert!(is_whole && line.chars().count() <= 100, "{path:?}: {line:?} in {summary}");
        }
        for text in [summary, home.segue(&[&words[..path.len()], &["--help"]].concat()).succeed()] {
            let (own, global) = text.split_once("Global options:\n").unwrap_or_else(|| panic!("{path:?}: {text}"));
            assert!(!own.contains("--home") && global.contains("--home") && global.contains("--version"), "{text}");
            let own_option = global.lines().find(|line| !line.starts_with(' ') && line.ends_with(':'));
            assert!(own_option.is_none_or(|line| line.starts_with("Example")), "{path:?}: {text}");
        }
    }
}

#[test]
fn completion_scripts_are_printed_and_bash_understands_its_own() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.segue(&["completions", shell]).succeed();
        assert!(script.contains("als-iterations") && script.contains("healthcheck"), "{shell}: {script}");
    }
    std::fs::write(home.path().join("segue.bash"), home.segue(&["completions", "bash"]).succeed()).expect("written");
    let checked = Command::new("bash").args(["-n", "segue.bash"]).current_dir(home.path()).output().expect("bash");
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn man_pages_are_written_for_every_command_and_can_be_rendered() {
    let home = Home::new();
    home.segue(&["man", "--out", "man1"]).succeed();
    for path in paths(&command(), &[]) {
        let name = ["segue"].into_iter().chain(path.iter().map(String::as_str)).collect::<Vec<&str>>().join("-");
        let page = std::fs::read_to_string(home.path().join(format!("man1/{name}.1"))).expect("a page");
        assert!(page.contains(".TH") && page.contains("OPTIONS"), "{name}: {page}");
    }
    let groff = ["-man", "-Kutf8", "-Tutf8", "-P-cbou", "-ww", "man1/segue-train-completion.1"];
    let Ok(rendered) = Command::new("groff").args(groff).current_dir(home.path()).output() else { return };
    assert!(rendered.status.success() && rendered.stderr.is_empty(), "{rendered:?}");
    assert!(String::from_utf8_lossy(&rendered.stdout).contains("als-iterations"), "{rendered:?}");
}

#[test]
fn a_reader_that_stops_early_gets_no_error() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["config"], &["openapi"], &["models"], &["completions", "zsh"], &["sing"]] {
        let mut program = home.segue(arguments).command();
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        program.stdout(writer);
        let finished = program.output().expect("it runs");
        let expected = if arguments == ["sing"] { Some(2) } else { Some(0) };
        assert_eq!(finished.status.code(), expected, "{arguments:?}: {finished:?}");
        assert!(arguments == ["sing"] || finished.stderr.is_empty(), "{arguments:?}: {finished:?}");
    }
    // Nor does a log that nobody reads stop the program.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut program = home.segue(&["models", "show", "similarity"]).command();
    let finished = program.env("SEGUE_LOG", "trace").stderr(writer).output().expect("it runs");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
}

#[test]
fn help_ends_with_0_whatever_the_settings_are() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["train", "similarity", "--help"], &["help", "import", "mpd"]] {
        let help = home.segue(arguments).env("DATABASE_URL", "postgres://nowhere/at/all").succeed();
        assert!(help.contains("Usage: segue"), "{arguments:?}: {help}");
    }
}

#[test]
fn an_example_of_the_help_is_a_command_that_is_understood() {
    let mut examples = Vec::new();
    let mut commands = vec![command()];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix("  segue ")).map(ToOwned::to_owned);
        examples.extend(lines);
    }
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        let words = example.split(" > ").next().expect("a command").split_whitespace();
        let outcome = command().try_get_matches_from(std::iter::once("segue").chain(words));
        assert!(outcome.is_ok(), "segue {example}: {}", outcome.expect_err("checked"));
    }
}

#[test]
fn the_version_is_printed() {
    let version = Home::new().segue(&["--version"]).succeed();
    assert_eq!(version.trim(), format!("segue {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let home = Home::new();
    for (arguments, word) in [
        (vec!["sing"], "sing"),
        (vec!["import", "mpd"], "PATH"),
        (vec!["import", "ndjson"], "--tracks"),
        (vec!["similar"], "TRACK"),
        (vec!["export", "embeddings", "--out", "vectors"], "--format"),
        (vec!["models", "show", "songs"], "songs"),
        (vec!["train", "completion", "--folds", "1"], "--folds"),
        (vec!["train", "similarity", "--dim", "0"], "--dim"),
        (vec!["train", "similarity", "--epochs", "many"], "--epochs"),
        (vec!["evaluate", "completion", "--challenge", "set.json"], "--truth"),
        (vec!["evaluate", "completion", "--challenge", "a", "--truth", "b", "--trees", "9"], "cannot be used with"),
        (vec!["evaluate", "completion", "--challenge", "a", "--truth", "b", "--seed", "9"], "cannot be used with"),
        (vec!["evaluate", "completion", "--trees", "0"], "--trees"),
        (vec!["evaluate", "completion", "--plot", "metrics.jpg"], ".svg or .png"),
        (vec!["evaluate", "completion", "--model", "track2vec,oracle"], "oracle"),
        (vec!["evaluate", "completion", "--playlists", "0"], "--playlists"),
        (vec!["submit", "--challenge", "set.json"], "--out"),
        (vec!["serve", "--listen", "nowhere"], "--listen"),
        (vec!["serve", "--request-timeout-seconds", "0"], "--request-timeout-seconds"),
    ] {
        let finished = home.segue(&arguments).run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(word), "{arguments:?}: {finished:?}");
    }
}
