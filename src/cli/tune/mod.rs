//! `segue tune`

mod clicks;
mod ratings;
mod similarity;

use std::process::ExitCode;

use clap::Subcommand;

use super::global::Global;
use crate::progress::Interrupt;

/// What to tune.
#[derive(Debug, clap::Args)]
pub struct TuneArguments {
    /// What to tune
    #[command(subcommand)]
    pub command: TuneCommand,
}

/// What can be tuned.
#[derive(Debug, Subcommand)]
pub enum TuneCommand {
    /// Tune the default ratings model, one setting after another
    #[command(
        after_help = "Example:\n  segue tune ratings --rounds 2 --without 0.2 --seed 0\n\nThe search makes each setting in turn smaller and larger and keeps the value with the least error on held-out ratings.\nAt the end it prints the flags for `segue train ratings`. With --without it first sets aside that share of the ratings,\nthe same that `segue evaluate ratings --withheld` holds out with the same seed."
    )]
    Ratings(ratings::TuneRatings),
    /// Tune a click model by random search
    #[command(
        after_help = "Example:\n  segue tune clicks --model field-network --trials 30 --without 0.2\n\nThe first trial has the given settings, the others are drawn at random. They are compared on the last part of the\nlistens; with --without the search first sets aside that share of the last ones, and measures on it once at the end.\nAt the end it prints the flags of the best trial."
    )]
    Clicks(clicks::TuneClicks),
    /// Tune Track2Vec, by which track came next
    #[command(
        after_help = "Examples:\n  segue tune similarity --grid alpha --dim 100 --epochs 3\n  segue tune similarity --search 27 --search-epochs 9\n  segue --config data/tuning/similarity/best.toml train similarity\n\nSettings are compared on the validation part; the test part is used once, for the best ones. Every trial is stored in\ntrials.jsonl: Ctrl-C stops the search, and the same command resumes it."
    )]
    Similarity(similarity::TuneSimilarity),
}

pub(super) async fn run(global: &Global, arguments: TuneArguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    match arguments.command {
        TuneCommand::Ratings(arguments) => ratings::tune(global, arguments, interrupt).await,
        TuneCommand::Clicks(arguments) => clicks::tune(global, arguments, interrupt).await,
        TuneCommand::Similarity(arguments) => similarity::tune(global, arguments, interrupt).await,
    }
}
