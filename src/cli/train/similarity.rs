//! `segue train similarity`

use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::progress::{Interrupt, Stage, in_stages};
use crate::train::similarity::{NextTracksSettings, SimilaritySettings, train_similarity};

/// How to train Track2Vec.
#[derive(Debug, clap::Args)]
pub struct SimilarityArguments {
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// hyper-parameters
    #[command(flatten)]
    pub settings: SimilaritySettings,
    /// what else is published
    #[command(flatten)]
    pub next: NextTracksSettings,
}

/// Reads the catalog and trains on a thread of its own.
pub(in crate::cli) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: SimilarityArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let corpus = data::corpus(catalog).await?;
    let (models, interrupt, threads) = (global.models(), interrupt.clone(), arguments.threads.get());
    let training = tokio::task::spawn_blocking(move || {
        let (settings, next) = (&arguments.settings, &arguments.next);
        in_stages(stages(next), || train_similarity(&corpus, settings, next, &models, threads, &interrupt))
    });
    Ok(training.await??)
}

/// Weights are rough: how long each stage takes depends on settings and data.
fn stages(next: &NextTracksSettings) -> Vec<Stage> {
    let vectors = Stage::new("vectors", &["training"]).weighing(5.0);
    match next.next_tracks {
        0 => vec![vectors],
        _ => vec![
            vectors,
            Stage::new("examples", &["examples"]).repeated(3),
            Stage::new("ranking", &["trees"]).weighing(2.0),
            Stage::new("measuring", &["next tracks"]),
            Stage::new("lists", &["next tracks"]),
        ],
    }
}
