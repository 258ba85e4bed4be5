//! The commands and their arguments.

use std::any::TypeId;

use clap::{Arg, CommandFactory, Parser, Subcommand};

use super::global::Global;
use super::{completions, export, generate, healthcheck, import, keys, man, models, openapi, similar, submit};
#[cfg(feature = "train")]
use super::{demo, evaluate, train, tune};
#[cfg(not(feature = "train"))]
use super::{
    without_training as demo, without_training as evaluate, without_training as train, without_training as tune,
};

/// A music recommendation service: completes playlists, finds similar tracks, predicts ratings and clicks.
#[derive(Debug, Parser)]
#[command(
    name = "segue",
    version,
    propagate_version = true,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "\
Settings come from flags, then environment variables, then segue.toml, then defaults; `segue config` prints them.
SEGUE_LOG filters logs: error, warn, info (default) or debug; or by module, such as segue::serve=debug.
Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted."
)]
pub struct Cli {
    /// Options that all commands take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try Segue: import or generate playlists, train, serve, and show two responses
    #[command(after_help = "Examples:\n  segue demo\n  segue demo --data path/to/mpd/slices")]
    Demo(demo::DemoArguments),
    /// Import files of other systems into the catalog
    Import {
        /// Format of the files
        #[command(subcommand)]
        format: import::ImportFormat,
    },
    /// Generate synthetic playlists in the format of the Million Playlist Dataset
    #[command(after_help = "Example:\n  segue generate --playlists 5000 --tracks 8000 --seed 7 --out data/synthetic")]
    Generate(generate::GenerateArguments),
    /// Train a model on the catalog and publish it
    Train(train::TrainArguments),
    /// Measure the quality of models on held-out data
    Evaluate(evaluate::EvaluateArguments),
    /// Search for better settings of a model on held-out data
    Tune(tune::TuneArguments),
    /// Complete a challenge set and write a submission to the RecSys Challenge 2018
    #[command(
        after_help = "Example:\n  segue submit --challenge challenge_set.json --out submission.csv --team us --email us@example.org\n\nEvery playlist gets 500 distinct tracks, none of them a seed. If a playlist cannot be completed, nothing is written."
    )]
    Submit(submit::SubmitArguments),
    /// Serve recommendations over HTTP
    #[command(after_help = "Example:\n  segue serve --listen 0.0.0.0:8080")]
    Serve(crate::serve::ServeSettings),
    /// Create, list and revoke API keys
    Keys {
        /// What to do
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// List published bundles, or show one
    #[command(after_help = "Examples:\n  segue models\n  segue models --format json\n  segue models show similarity")]
    Models(models::ModelsArguments),
    /// Find tracks similar to a track, given its name or id
    #[command(
        after_help = "Examples:\n  segue similar naima\n  segue similar --limit 20 spotify:track:5Wj1rJnCLpMHdLaxsFtJLs\n  segue similar \"miles davis – so what\"\n\nCase, punctuation, and the order of artist and title do not matter. If several tracks have the name, or none, Segue\nlists them, or the nearest names, with their ids and exits with 1."
    )]
    Similar(similar::SimilarArguments),
    /// Export what was learned to files for other programs
    Export {
        /// What to export
        #[command(subcommand)]
        command: export::ExportCommand,
    },
    /// Create the catalog's tables, or upgrade them
    #[command(after_help = "Example:\n  segue migrate --database-url postgres://segue@localhost/segue")]
    Migrate,
    /// Print the OpenAPI document as YAML, or check a file against it
    #[command(after_help = "Examples:\n  segue openapi > openapi.yaml\n  segue openapi --check openapi.yaml")]
    Openapi(openapi::OpenapiArguments),
    /// Check that a server is alive; for containers without curl
    #[command(after_help = "Example:\n  segue healthcheck --url http://127.0.0.1:8080/health/ready")]
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Print the settings in effect as a settings file, without secrets
    #[command(
        after_help = "Example:\n  segue config show > settings.toml        # not over the segue.toml that it reads"
    )]
    Config {
        /// What to do with them
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// Print a shell's completion script
    #[command(
        after_help = "Examples:\n  segue completions bash > ~/.local/share/bash-completion/completions/segue\n  segue completions zsh > ~/.zfunc/_segue\n  segue completions fish > ~/.config/fish/completions/segue.fish"
    )]
    Completions(completions::CompletionsArguments),
    /// Write man pages, one for each command
    #[command(after_help = "Example:\n  segue man --out ~/.local/share/man/man1")]
    Man(man::ManArguments),
}

/// What to do with settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Print them; also the default
    #[command(after_help = "Example:\n  segue config show")]
    Show,
}

impl Command {
    /// What is logged if `SEGUE_LOG` is not set.
    pub(super) fn log_filter(&self) -> &'static str {
        match self {
            // Its requests are its own, and what it prints stands between their lines.
            Self::Demo(_) => "info,sqlx=warn,segue::serve=warn",
            _ => "info,sqlx=warn",
        }
    }
}

/// All commands and arguments, as help, completions, man pages and the settings file know them.
pub fn command() -> clap::Command {
    for_each_argument(Cli::command(), name_number)
}

/// For `-h`: what does not fit on an option's line is left to `--help`.
pub(super) fn summarized(command: clap::Command) -> clap::Command {
    /// Letters of a list that fits.
    const SHORT: usize = 17;
    for_each_argument(command, |argument| {
        let letters = |values: &mut dyn Iterator<Item = usize>| values.map(|length| length + 2).sum::<usize>();
        let possible = argument.get_possible_values();
        let hide_possible = letters(&mut possible.iter().map(|value| value.get_name().len())) > SHORT;
        let hide_default = letters(&mut argument.get_default_values().iter().map(|value| value.len())) > SHORT;
        let hide_default = hide_default || argument.is_hide_default_value_set();
        argument.hide_env(true).hide_possible_values(hide_possible).hide_default_value(hide_default)
    })
}

fn for_each_argument(command: clap::Command, change: impl Fn(Arg) -> Arg + Copy) -> clap::Command {
    command.mut_args(change).mut_subcommands(|subcommand| for_each_argument(subcommand, change))
}

/// Calls the value `N` if it is a whole number, `NUMBER` if it is another, and has no name of its own.
fn name_number(argument: Arg) -> Arg {
    let is_of = |types: &[TypeId]| types.iter().any(|of_type| argument.get_value_parser().type_id() == *of_type);
    let names = argument.get_value_names().unwrap_or_default();
    let is_named = names.iter().any(|name| !name.eq_ignore_ascii_case(argument.get_id().as_str()));
    let is_flag = !argument.get_action().takes_values();
    if is_named || is_flag {
        argument
    } else if is_of(&[TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()]) {
        argument.value_name("N")
    } else if is_of(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
        argument.value_name("NUMBER")
    } else {
        argument
    }
}
