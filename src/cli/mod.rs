//! The command line: a file for each command, a folder for each verb of several.

mod arguments;
mod command;
mod data;
mod demo;
mod evaluate;
mod export;
mod generate;
mod global;
mod healthcheck;
mod import;
mod keys;
mod loaded_model;
mod models;
mod openapi;
mod output;
mod picture;
mod serve;
mod similar;
mod submit;
mod train;
mod tune;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::config;
use crate::progress::Interrupt;
use crate::telemetry;

pub use command::{Cli, Command, ConfigCommand};
use global::INTERRUPTED;
use output::{print, warn};

/// The file of settings that is read when it is there.
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
    let matches = command.get_matches_from(arguments);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let telemetry = telemetry::init(cli.global.log_format, cli.command.log_filter());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn(&format!("error: no threads can be started: {error}"));
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
            warn(&format!("error: {}", describe(&error)));
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
        Command::Train { command } => train::run(global, command, interrupt).await,
        Command::Evaluate { command } => evaluate::run(global, command, interrupt).await,
        Command::Tune { command } => tune::run(global, command, interrupt).await,
        Command::Submit(arguments) => submit::run(global, arguments, interrupt).await,
        Command::Serve(settings) => serve::run(global, &settings, interrupt).await,
        Command::Keys { command } => keys::run(global, command).await,
        Command::Models(arguments) => models::run(global, &arguments),
        Command::Similar(arguments) => similar::run(global, arguments).await,
        Command::Export { command } => export::run(global, command).await,
        Command::Migrate => Ok(global.catalog().await.map(|_| ExitCode::SUCCESS)?),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments).await,
        Command::Config { command: None | Some(ConfigCommand::Show) } => {
            print(effective)?;
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
async fn raise_on_signals(interrupt: Interrupt) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupts), Ok(mut terminations)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
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
