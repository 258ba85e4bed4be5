//! `segue evaluate`

mod clicks;
mod completion;
mod ratings;
pub(super) mod similarity;

use std::process::ExitCode;

use clap::Subcommand;

use super::global::Global;
use crate::progress::Interrupt;

/// What to evaluate.
#[derive(Debug, clap::Args)]
pub struct EvaluateArguments {
    /// What to evaluate
    #[command(subcommand)]
    pub command: EvaluateCommand,
}

/// What can be evaluated.
#[derive(Debug, Subcommand)]
pub enum EvaluateCommand {
    /// Evaluate playlist completion: R-precision, NDCG, clicks
    #[command(
        after_help = "Examples:\n  segue evaluate completion --playlists 200 --seed 1 --plot metrics.png\n  segue evaluate completion --challenge challenge_set.json --truth truth.json.gz --format json\n\nThe metrics are those of the RecSys Challenge 2018. With --challenge, Segue evaluates the published models. Without it,\nSegue holds out playlists of the catalog and trains models on the rest: completion with the settings given here,\nTrack2Vec (if named) with those of the published bundle. Published bundles do not change."
    )]
    Completion(completion::CompletionArguments),
    /// Evaluate predicted ratings: errors and rankings
    #[command(
        after_help = "Examples:\n  segue evaluate ratings\n  segue evaluate ratings --seed 0,1,2 --model gp,bias --format json\n\nSegue holds out ratings at random and trains models on the rest. Published bundles do not change."
    )]
    Ratings(ratings::EvaluateRatings),
    /// Evaluate click probability: order and calibration
    #[command(
        after_help = "Examples:\n  segue evaluate clicks --split time --format json\n  segue evaluate clicks --model deepfm,trees --variant transductive --plot reliability.png\n\nSegue holds out the last listens, or listens drawn at random, and trains models on the rest; a validation part of the\nrest decides when models stop, how they are calibrated, and their weights. Published bundles do not change."
    )]
    Clicks(clicks::EvaluateClicks),
    /// Evaluate similar tracks by which track came next
    #[command(
        after_help = "Examples:\n  segue evaluate similarity --protocol next-track --format json\n  segue evaluate similarity --model next --ablation\n  segue evaluate similarity --model cosine,euclidean --dim 100 --epochs 3\n\nSegue holds out the last track of every playlist with four or more tracks and trains models on the rest; the query is\nthe track before it. Published bundles do not change."
    )]
    Similarity(similarity::EvaluateSimilarity),
}

pub(super) async fn run(
    global: &Global,
    arguments: EvaluateArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    match arguments.command {
        EvaluateCommand::Completion(arguments) => completion::evaluate(global, arguments, interrupt).await,
        EvaluateCommand::Clicks(arguments) => clicks::evaluate(global, arguments, interrupt).await,
        EvaluateCommand::Ratings(arguments) => ratings::evaluate(global, arguments, interrupt).await,
        EvaluateCommand::Similarity(arguments) => similarity::evaluate(global, arguments, interrupt).await,
    }
}
