//! `segue train`

use std::process::ExitCode;

use clap::Subcommand;
use tracing::info;

use super::Global;
use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::dataset::{Corpus, DataFingerprint};
use crate::progress::Interrupt;
use crate::train::completion::{CompletionSettings, train_completion};
use crate::train::similarity::{NextTracksSettings, SimilaritySettings, train_similarity};

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
    /// Playlist completion: retrievers and a learned ranking
    #[command(
        after_help = "Example:\n  segue train completion\n\nCtrl-C stops it; the same command goes on from there. A running server loads the new bundle by itself."
    )]
    Completion(CompletionArguments),
    /// Track2Vec: which tracks occur in the same places of playlists
    #[command(
        after_help = "Example:\n  segue train similarity --dim 100 --epochs 60 --alpha -0.5\n\nCtrl-C stops it; the same command goes on from there. A running server loads the new bundle by itself."
    )]
    Similarity(SimilarityArguments),
    /// What a user will think of tracks, from ratings and listens
    #[command(
        after_help = "Examples:\n  segue train ratings\n  segue train ratings --model mlp --plan 0.001x1,0.01x3,0.001x6 --input-dropout 0.3\n\nA running server loads the new bundle by itself."
    )]
    Ratings(super::ratings::TrainRatings),
    /// Whether a user will come back to a track, from listens with their sources
    #[command(
        after_help = "Examples:\n  segue train clicks\n  segue train clicks --model deepfm,trees --seeds 1\n\nThe models are published together, and answer POST /scores each by its name or all as an ensemble. Ctrl-C stops it;\nthe same command goes on from there. A running server loads the new bundle by itself."
    )]
    Clicks(super::clicks::TrainClicks),
}

/// How to train for completions.
#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// hyper-parameters
    #[command(flatten)]
    pub settings: CompletionSettings,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

/// A thread for each processor.
pub(super) fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What `--threads` says.
pub(super) fn threads(asked: u16) -> usize {
    match asked {
        0 => all_processors(),
        threads => threads.into(),
    }
}

/// How to train Track2Vec.
#[derive(Debug, clap::Args)]
pub struct SimilarityArguments {
    /// hyper-parameters
    #[command(flatten)]
    pub settings: SimilaritySettings,
    /// what else is published
    #[command(flatten)]
    pub next: NextTracksSettings,
    /// Threads that compute, beside the one that samples; more than two change nothing. 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

pub(super) async fn run(global: &Global, arguments: TrainArguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let catalog = global.catalog().await?;
    let manifest = match arguments.command {
        TrainCommand::Completion(arguments) => completion(global, &catalog, arguments, interrupt).await?,
        TrainCommand::Similarity(arguments) => similarity(global, &catalog, arguments, interrupt).await?,
        TrainCommand::Clicks(arguments) => super::clicks::train(global, &catalog, arguments, interrupt).await?,
        TrainCommand::Ratings(arguments) => super::ratings::train(global, &catalog, arguments, interrupt).await?,
    };
    catalog.close().await;
    println!("published {} {}", manifest.kind, manifest.version);
    println!("{}", serde_json::to_string_pretty(&manifest.metrics)?);
    Ok(ExitCode::SUCCESS)
}

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn completion(
    global: &Global,
    catalog: &Catalog,
    arguments: CompletionArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let corpus = Corpus::load(catalog).await?;
    tell(&corpus.sequences.fingerprint);
    let (models, interrupt, threads) = (global.models(), interrupt.clone(), threads(arguments.threads));
    let training = tokio::task::spawn_blocking(move || {
        train_completion(&corpus, &arguments.settings, &models, threads, &interrupt)
    });
    Ok(training.await??)
}

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn similarity(
    global: &Global,
    catalog: &Catalog,
    arguments: SimilarityArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let corpus = Corpus::load(catalog).await?;
    tell(&corpus.sequences.fingerprint);
    let (models, interrupt, threads) = (global.models(), interrupt.clone(), threads(arguments.threads));
    let training = tokio::task::spawn_blocking(move || {
        train_similarity(&corpus, &arguments.settings, &arguments.next, &models, threads, &interrupt)
    });
    Ok(training.await??)
}

fn tell(data: &DataFingerprint) {
    info!(playlists = data.playlists, tracks = data.tracks, placements = data.placements, "read the catalog");
}
