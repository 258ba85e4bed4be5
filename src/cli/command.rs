//! The commands and their arguments.

use clap::{Parser, Subcommand};

use super::global::Global;
use super::{
    demo, evaluate, export, generate, healthcheck, import, keys, models, openapi, similar, submit, train, tune,
};

/// Segue recommends music over HTTP: what comes next in a playlist, and what sounds like a track.
#[derive(Debug, Parser)]
#[command(
    name = "segue",
    version,
    propagate_version = true,
    after_help = "\
Settings come from flags, then environment variables, then segue.toml, then defaults; `segue config` prints them.
SEGUE_LOG says what is logged: error, warn, info (default), debug, or by module, such as segue::serve=debug.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
)]
pub struct Cli {
    /// What all subcommands take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try it: make or read playlists, train, serve, and show two answers
    #[command(after_help = "Examples:\n  segue demo\n  segue demo --data path/to/mpd/slices")]
    Demo(demo::DemoArguments),
    /// Read files of other systems into the catalog
    Import {
        /// Format of the files
        #[command(subcommand)]
        format: import::ImportFormat,
    },
    /// Write synthetic playlists in the format of the Million Playlist Dataset
    #[command(after_help = "Example:\n  segue generate --playlists 5000 --tracks 8000 --seed 7 --out data/synthetic")]
    Generate(generate::GenerateArguments),
    /// Train a model on the catalog and publish it
    Train {
        /// What to train
        #[command(subcommand)]
        command: train::TrainCommand,
    },
    /// Measure how good models are
    Evaluate {
        /// What to measure
        #[command(subcommand)]
        command: evaluate::EvaluateCommand,
    },
    /// Look for better settings of a model, on data withheld from training
    Tune {
        /// What to tune
        #[command(subcommand)]
        command: tune::TuneCommand,
    },
    /// Complete a challenge set and write the submission to the RecSys Challenge 2018
    #[command(
        after_help = "Example:\n  segue submit --challenge challenge_set.json --out submission.csv --team us --email us@example.org\n\nEvery playlist gets 500 distinct tracks, none of them a seed; where that can't be, nothing is written."
    )]
    Submit(submit::SubmitArguments),
    /// Answer over HTTP
    #[command(after_help = "Example:\n  segue serve --listen 0.0.0.0:8080")]
    Serve(crate::serve::ServeSettings),
    /// Make, list and revoke keys of the HTTP interface
    Keys {
        /// What to do
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// List the published bundles, or show one
    #[command(after_help = "Examples:\n  segue models\n  segue models --format json\n  segue models show similarity")]
    Models(models::ModelsArguments),
    /// Ask which tracks are like one, by its name or id
    #[command(
        after_help = "Examples:\n  segue similar naima\n  segue similar --limit 20 spotify:track:5Wj1rJnCLpMHdLaxsFtJLs\n  segue similar \"miles davis – so what\"\n\nUpper and lower case and punctuation make no difference, nor does the order of artist and title. Where several tracks\nare called so, or none, the answer lists them or the nearest names with their ids, and the exit code is 1."
    )]
    Similar(similar::SimilarArguments),
    /// Write what was learned into files that other programs read
    Export {
        /// What to write
        #[command(subcommand)]
        command: export::ExportCommand,
    },
    /// Create the catalog's tables, or bring them up to date
    #[command(after_help = "Example:\n  segue migrate --database-url postgres://segue@localhost/segue")]
    Migrate,
    /// Print the HTTP contract as YAML, or check that a file still says the same
    #[command(after_help = "Examples:\n  segue openapi > openapi.yaml\n  segue openapi --check openapi.yaml")]
    Openapi(openapi::OpenapiArguments),
    /// Ask a running server whether it is alive; for containers that have no curl
    #[command(after_help = "Example:\n  segue healthcheck --url http://127.0.0.1:8080/health/ready")]
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Print the settings in force, as a file that would set them so, without secrets
    #[command(
        after_help = "Example:\n  segue config show > settings.toml        # not over the segue.toml that it reads"
    )]
    Config {
        /// What to do with them
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
}

/// What to do with settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Print them; the same without a word
    #[command(after_help = "Example:\n  segue config show")]
    Show,
}

impl Command {
    /// What is logged when `SEGUE_LOG` does not say.
    pub(super) fn log_filter(&self) -> &'static str {
        match self {
            // Its requests are its own, and what it prints stands between their lines.
            Self::Demo(_) => "info,sqlx=warn,segue::serve=warn",
            _ => "info,sqlx=warn",
        }
    }
}
