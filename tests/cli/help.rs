//! Help and wrong usage.

use clap::CommandFactory;
use clap::error::ErrorKind;
use segue::cli::Cli;

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
    let paths = paths(&Cli::command(), &[]);
    assert!(paths.contains(&vec!["train".to_owned(), "similarity".to_owned()]), "{paths:?}");
    for path in paths {
        let words = [&["segue".to_owned()], path.as_slice(), &["--help".to_owned()]].concat();
        let answer = Cli::command().try_get_matches_from(words).expect_err("help ends the program");
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
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix("  segue ")).map(ToOwned::to_owned);
        examples.extend(lines);
    }
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        let words = example.split(" > ").next().expect("a command").split_whitespace();
        let outcome = Cli::command().try_get_matches_from(std::iter::once("segue").chain(words));
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
