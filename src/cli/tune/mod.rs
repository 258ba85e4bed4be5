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
    /// The default model of ratings, one setting after another
    #[command(
        after_help = "Example:\n  segue tune ratings --rounds 2 --without 0.2 --seed 0\n\nEach setting in turn is made smaller and larger, and stays where the error on withheld ratings is least. The flags\nfor `segue train ratings` are printed at the end. With --without, that share of the ratings is set aside first, as\n`segue evaluate ratings --withheld` does with the same seed: settings that are to be evaluated have not seen it."
    )]
    Ratings(ratings::TuneRatings),
    /// A model of click probability, by random search
    #[command(
        after_help = "Example:\n  segue tune clicks --model field-network --trials 30 --without 0.2\n\nThe first trial has the settings given, the others are drawn at random. They are judged on the last part of the\nlistens; with --without that share of the last ones is set aside first, and only at the end measured on. The flags of\nthe best are printed at the end."
    )]
    Clicks(clicks::TuneClicks),
    /// Track2Vec, by which track came next
    #[command(
        after_help = "Examples:\n  segue tune similarity --grid alpha --dim 100 --epochs 3\n  segue tune similarity --search 27 --search-epochs 9\n  segue --config data/tuning/similarity/best.toml train similarity\n\nSettings are compared on the validation part; the test part is looked at once, with the best ones. Every trial is kept\nin trials.jsonl: Ctrl-C stops the search, and the same command goes on from there."
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
