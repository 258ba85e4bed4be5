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
    /// Playlist completion by the metrics of the RecSys Challenge 2018: R-precision, NDCG, clicks
    #[command(
        after_help = "Examples:\n  segue evaluate completion --playlists 200 --seed 1 --plot metrics.png\n  segue evaluate completion --challenge challenge_set.json --truth truth.json.gz --format json\n\nOn a challenge set the published models answer. Without one, playlists of the catalog are withheld and models are trained on the rest: for completion with the settings given here, Track2Vec (where it is named) with those of the published bundle. What is published stays as it is."
    )]
    Completion(completion::CompletionArguments),
    /// Models of ratings: errors on withheld ratings, and how high what users liked is ranked
    #[command(
        after_help = "Examples:\n  segue evaluate ratings\n  segue evaluate ratings --seed 0,1,2 --model gp,bias --format json\n\nRatings of the catalog are withheld at random and models are trained on the rest; what is published stays as it is."
    )]
    Ratings(ratings::EvaluateRatings),
    /// Models of click probability: how well they order listens, and how far their probabilities can be believed
    #[command(
        after_help = "Examples:\n  segue evaluate clicks --split time --format json\n  segue evaluate clicks --model deepfm,trees --variant transductive --plot reliability.png\n\nThe last listens, or ones drawn at random, are withheld and models are trained on the rest; what is published stays as\nit is. Nothing is chosen by what is withheld: models are stopped, calibrated and weighed by a part of the rest."
    )]
    Clicks(clicks::EvaluateClicks),
    /// Similar tracks: which track came next
    #[command(
        after_help = "Examples:\n  segue evaluate similarity --protocol next-track --format json\n  segue evaluate similarity --model next --ablation\n  segue evaluate similarity --model cosine,euclidean --dim 100 --epochs 3\n\nThe last track of every playlist with four or more is held out and the one before it asks. Models are trained on the\nrest; what is published stays as it is."
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
