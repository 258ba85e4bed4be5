//! `segue train`

pub(super) mod clicks;
pub(super) mod completion;
pub(super) mod ratings;
pub(super) mod similarity;

use std::process::ExitCode;

use clap::Subcommand;

use super::global::Global;
use super::output::{Fields, Report};
use crate::bundle::Manifest;
use crate::progress::Interrupt;

/// What to train.
#[derive(Debug, clap::Args)]
pub struct TrainArguments {
    /// What to train
    #[command(subcommand)]
    pub command: TrainCommand,
}

/// What can be trained.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Train playlist completion: retrievers and a learned ranking
    #[command(
        after_help = "Example:\n  segue train completion\n\nCtrl-C stops the training; the same command resumes it. A running server loads the new bundle by itself."
    )]
    Completion(completion::CompletionArguments),
    /// Train similar tracks (Track2Vec) and next tracks
    #[command(
        after_help = "Example:\n  segue train similarity --dim 100 --epochs 60 --alpha -0.5\n\nCtrl-C stops the training; the same command resumes it. A running server loads the new bundle by itself."
    )]
    Similarity(similarity::SimilarityArguments),
    /// Train predicted ratings, from ratings and listens
    #[command(
        after_help = "Examples:\n  segue train ratings\n  segue train ratings --model mlp --plan 0.001x1,0.01x3,0.001x6 --input-dropout 0.3\n\nA running server loads the new bundle by itself."
    )]
    Ratings(ratings::TrainRatings),
    /// Train click probability, from listens with their sources
    #[command(
        after_help = "Examples:\n  segue train clicks\n  segue train clicks --model deepfm,trees --seeds 1\n\nThe models are published together; POST /scores uses one of them by name, or all as an ensemble. Ctrl-C stops the\ntraining; the same command resumes it. A running server loads the new bundle by itself."
    )]
    Clicks(clicks::TrainClicks),
}

pub(super) async fn run(global: &Global, arguments: TrainArguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let catalog = global.catalog().await?;
    let (output, manifest) = match arguments.command {
        TrainCommand::Completion(arguments) => {
            (arguments.output, completion::train(global, &catalog, arguments, interrupt).await?)
        }
        TrainCommand::Similarity(arguments) => {
            (arguments.output, similarity::train(global, &catalog, arguments, interrupt).await?)
        }
        TrainCommand::Clicks(arguments) => {
            (arguments.output, clicks::train(global, &catalog, arguments, interrupt).await?)
        }
        TrainCommand::Ratings(arguments) => {
            (arguments.output, ratings::train(global, &catalog, arguments, interrupt).await?)
        }
    };
    catalog.close().await;
    output.print(&manifest)?;
    Ok(ExitCode::SUCCESS)
}

impl Report for Manifest {
    fn text(&self) -> String {
        let mut metrics = Fields::default();
        metrics.add_json("", &self.metrics);
        format!("published {} {}\n\n{metrics}", self.kind, self.version)
    }
}
