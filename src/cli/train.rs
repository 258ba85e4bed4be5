//! `segue train`

use std::process::ExitCode;

use clap::Subcommand;
use tracing::info;

use super::Global;
use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::dataset::Sequences;
use crate::progress::Interrupt;
use crate::train::similarity::{SimilaritySettings, train_similarity};

/// What can be trained.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Track2Vec: which tracks occur in the same places of playlists
    #[command(
        after_help = "Example:\n  segue train similarity --dim 100 --epochs 60 --alpha -0.5\n\nCtrl-C stops it; the same command goes on from there. A running server loads the new bundle by itself."
    )]
    Similarity(SimilarityArguments),
}

/// How to train Track2Vec.
#[derive(Debug, clap::Args)]
pub struct SimilarityArguments {
    /// hyper-parameters
    #[command(flatten)]
    pub settings: SimilaritySettings,
    /// Threads that LibTorch computes with, beside the one that samples. More than one pays only on an idle machine:
    /// on a busy one LibTorch's threads wait for each other spinning, and training becomes many times slower
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
}

pub(super) async fn run(global: &Global, command: TrainCommand, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let TrainCommand::Similarity(arguments) = command;
    let catalog = global.catalog().await?;
    let manifest = similarity(global, &catalog, arguments, interrupt).await?;
    catalog.close().await;
    println!("published {} {}", manifest.kind, manifest.version);
    println!("{}", serde_json::to_string_pretty(&manifest.metrics)?);
    Ok(ExitCode::SUCCESS)
}

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn similarity(
    global: &Global,
    catalog: &Catalog,
    arguments: SimilarityArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let sequences = Sequences::load(catalog).await?;
    let data = &sequences.fingerprint;
    info!(playlists = data.playlists, tracks = data.tracks, placements = data.placements, "read the catalog");
    let (models, interrupt) = (global.models(), interrupt.clone());
    let training = tokio::task::spawn_blocking(move || {
        train_similarity(&sequences, &arguments.settings, &models, arguments.threads.into(), &interrupt)
    });
    Ok(training.await??)
}
