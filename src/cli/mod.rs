//! The command line: one file a subcommand, each thin.

mod export;
mod generate;
mod healthcheck;
mod import;
mod keys;
mod loaded_model;
mod models;
mod openapi;
mod serve;
mod similar;
mod submit;

#[cfg(feature = "train")]
mod clicks;
#[cfg(feature = "train")]
mod demo;
#[cfg(feature = "train")]
mod evaluate;
#[cfg(feature = "train")]
mod ratings;
#[cfg(feature = "train")]
mod similarity;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod tune;
#[cfg(not(feature = "train"))]
mod without_training;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::catalog::Catalog;
use crate::config;
use crate::progress::Interrupt;
use crate::telemetry::{self, LogFormat};

pub use submit::SubmitArguments;
#[cfg(feature = "train")]
pub use {
    evaluate::{CompletionArguments, EvaluateCommand},
    train::{SimilarityArguments, TrainCommand},
};
#[cfg(not(feature = "train"))]
use {without_training as demo, without_training as evaluate, without_training as train, without_training as tune};

/// The file of settings that is read when it is there.
const CONFIG_FILE: &str = "segue.toml";
/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

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

/// What all subcommands take.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Folder of all state: bundles in models/, the private PostgreSQL in data/
    #[arg(long, env = "SEGUE_HOME", default_value = ".", global = true, value_name = "FOLDER")]
    pub home: PathBuf,
    /// PostgreSQL 15 or newer that holds the catalog; without it Segue runs a private one
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        global = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// File of settings [default: segue.toml, if it is there]
    #[arg(long, env = "SEGUE_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How logs are written to standard error
    #[arg(long, env = "SEGUE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
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
    Train(train::TrainArguments),
    /// Measure how good models are
    Evaluate(evaluate::EvaluateArguments),
    /// Look for better settings of a model, on data withheld from training
    Tune(tune::TuneArguments),
    /// Complete a challenge set and write the submission to the RecSys Challenge 2018
    #[command(
        after_help = "Example:\n  segue submit --challenge challenge_set.json --out submission.csv --team us --email us@example.org\n\nEvery playlist gets 500 distinct tracks, none of them a seed; where that can't be, nothing is written."
    )]
    Submit(SubmitArguments),
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
    fn log_filter(&self) -> &'static str {
        match self {
            // Its requests are its own, and what it prints stands between their lines.
            Self::Demo(_) => "info,sqlx=warn,segue::serve=warn",
            _ => "info,sqlx=warn",
        }
    }
}

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// for people
    Table,
    /// for programs
    Json,
}

impl Global {
    fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    async fn catalog(&self) -> anyhow::Result<Catalog> {
        Ok(Catalog::open(self.database_url(), &self.home).await?)
    }

    /// An empty variable, as compose files leave behind, is one that is not set.
    fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }
}

/// Prints a long text. Someone who reads its beginning alone (`segue models show similarity | head`) is right to.
fn print_text(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Runs the command line `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = match command_with_file(&arguments) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let effective = config::effective(&command);
    let matches = command.get_matches_from(arguments);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let telemetry = telemetry::init(cli.global.log_format, cli.command.log_filter());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interrupt = Interrupt::default();
    let outcome = runtime.block_on(async {
        tokio::spawn(raise_on_signals(interrupt.clone()));
        dispatch(cli, &effective, &interrupt).await
    });
    // What still reads or computes in the background has nothing left to say.
    runtime.shutdown_background();
    drop(telemetry);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            if interrupt.is_raised() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// An error with its causes, less those that the text before them already tells.
fn describe(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told {
            told if told.is_empty() => cause,
            told if told.contains(&cause) => told,
            told => format!("{told}: {cause}"),
        }
    })
}

async fn dispatch(cli: Cli, effective: &str, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(arguments) => demo::run(global, arguments, interrupt).await,
        Command::Import { format } => import::run(global, format, interrupt).await,
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Train(arguments) => train::run(global, arguments, interrupt).await,
        Command::Evaluate(arguments) => evaluate::run(global, arguments, interrupt).await,
        Command::Tune(arguments) => tune::run(global, arguments, interrupt).await,
        Command::Submit(arguments) => submit::run(global, arguments, interrupt).await,
        Command::Serve(settings) => serve::run(global, &settings, interrupt).await,
        Command::Keys { command } => keys::run(global, command).await,
        Command::Models(arguments) => models::run(global, &arguments),
        Command::Similar(arguments) => similar::run(global, arguments).await,
        Command::Export { command } => export::run(global, command).await,
        Command::Migrate => global.catalog().await.map(|_| ExitCode::SUCCESS),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments).await,
        Command::Config { command: None | Some(ConfigCommand::Show) } => {
            print!("{effective}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The command line with the defaults of the file of settings, if there is one.
fn command_with_file(arguments: &[OsString]) -> anyhow::Result<clap::Command> {
    let command = Cli::command();
    // The file has to be known before the arguments can be parsed for good, with its defaults.
    let named = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(arguments)
        .ok()
        .and_then(|matches| deepest(&matches).try_get_one::<PathBuf>("config").ok().flatten().cloned());
    let path = match named {
        Some(path) => path,
        None if Path::new(CONFIG_FILE).exists() => PathBuf::from(CONFIG_FILE),
        None => return Ok(command),
    };
    let file = config::read(&path)?;
    Ok(config::with_defaults(command, &path, &file)?)
}

/// Global arguments are known to the innermost subcommand.
fn deepest(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| deepest(matches))
}

/// The first Ctrl-C or SIGTERM asks everyone to stop; the second one does not ask.
///
/// Signals are caught from the call on, not from when the future is first polled.
fn raise_on_signals(interrupt: Interrupt) -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupts), Ok(mut terminations)) = signals else { return };
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if interrupt.is_raised() {
                std::process::exit(INTERRUPTED.into());
            }
            interrupt.raise();
        }
    }
}
