//! The command line: a file for each command, a folder for each verb of several.

mod command;
mod completions;
mod export;
mod generate;
mod global;
mod healthcheck;
mod import;
mod keys;
mod loaded_model;
mod man;
mod models;
mod openapi;
mod output;
mod serve;
mod similar;
mod submit;
mod track_names;

#[cfg(feature = "train")]
mod arguments;
#[cfg(feature = "train")]
mod data;
#[cfg(feature = "train")]
mod demo;
#[cfg(feature = "train")]
mod evaluate;
#[cfg(feature = "train")]
mod picture;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod tune;
#[cfg(not(feature = "train"))]
mod without_training;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::config;
use crate::progress::Interrupt;
use crate::telemetry;

pub use command::{Cli, Command, ConfigCommand, command};
#[cfg(not(feature = "train"))]
use {without_training as demo, without_training as evaluate, without_training as train, without_training as tune};

use command::summarized;
use global::INTERRUPTED;
use output::{Log, print, warn};

/// The settings file that is read if it exists.
const CONFIG_FILE: &str = "segue.toml";

/// Runs the command line `arguments`, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = match command_with_file(&arguments) {
        Ok(command) => command,
        Err(error) => {
            warn(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let effective = config::effective(&command);
    let asks_for_summary = arguments.iter().any(|argument| argument == "-h");
    let command = if asks_for_summary { summarized(command) } else { command };
    let matches = command.get_matches_from(arguments);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let telemetry = telemetry::init(cli.global.log_format, cli.command.log_filter(), Log::default);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn(&format!("error: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let interrupt = Interrupt::default();
    let outcome = runtime.block_on(async {
        tokio::spawn(raise_on_signals(interrupt.clone()));
        dispatch(cli, &effective, &interrupt).await
    });
    // Nobody waits for what still reads or computes in the background.
    runtime.shutdown_background();
    drop(telemetry);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            warn(&format!("error: {}", describe(&error)));
            if interrupt.is_raised() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// Returns an error with its causes, without those that the text before them includes.
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
        Command::Migrate => Ok(global.catalog().await.map(|_| ExitCode::SUCCESS)?),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Completions(arguments) => completions::run(command(), &arguments),
        Command::Man(arguments) => man::run(command(), &arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments).await,
        Command::Config { command: None | Some(ConfigCommand::Show) } => {
            print(effective)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Returns the command line with the defaults of the settings file, if there is one.
fn command_with_file(arguments: &[OsString]) -> anyhow::Result<clap::Command> {
    let command = command();
    // Its path is an argument, and the defaults of the other arguments are in it.
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

/// Returns the matches of the innermost subcommand, which has the global arguments.
fn deepest(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| deepest(matches))
}

/// Stops the command at the first Ctrl-C or SIGTERM, and the program at the second.
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
