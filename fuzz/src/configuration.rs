//! `segue.toml`.

use std::path::Path;

use segue::config;
use toml::Table;

use crate::rows::assert_reason;

/// Applies a settings file to the commands, prints the settings in effect, and applies these: they are the same.
pub fn run(bytes: &[u8]) {
    let Some(file) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Table>().ok()) else { return };
    let path = Path::new("segue.toml");
    let command = match config::with_defaults(segue::cli::command(), path, &file) {
        Ok(command) => command,
        Err(error) => return assert_reason(&error.to_string()),
    };
    let shown = config::effective(&command);
    let again: Table = shown.parse().unwrap_or_else(|error| panic!("{error}: {shown}"));
    let again = config::with_defaults(segue::cli::command(), path, &again);
    let again = again.unwrap_or_else(|error| panic!("{error}: {shown}"));
    // In whichever order.
    let table = |shown: &str| shown.parse::<Table>().ok();
    assert_eq!(table(&config::effective(&again)), table(&shown));
    // Values are checked when a command that has them runs.
    for arguments in [&["segue", "serve"][..], &["segue", "import", "ratings", "x.csv"], &["segue", "config"]] {
        if let Err(error) = command.clone().try_get_matches_from(arguments) {
            assert!(!error.to_string().is_empty());
        }
    }
}
