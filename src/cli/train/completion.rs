//! `segue train completion`

use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::progress::{Interrupt, Stage, in_stages};
use crate::train::completion::{CompletionSettings, train_completion};

/// How to train for completions.
#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// hyper-parameters
    #[command(flatten)]
    pub settings: CompletionSettings,
}

/// Reads the catalog and trains on a thread of its own.
pub(in crate::cli) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: CompletionArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let corpus = data::corpus(catalog).await?;
    let (models, interrupt, threads) = (global.models(), interrupt.clone(), arguments.threads.get());
    let training = tokio::task::spawn_blocking(move || {
        let settings = &arguments.settings;
        in_stages(stages(settings, corpus.sequences.playlists.rows()), || {
            train_completion(&corpus, settings, &models, threads, &interrupt)
        })
    });
    Ok(training.await??)
}

/// Weights are rough: how long each stage takes depends on settings and data.
fn stages(settings: &CompletionSettings, playlists: usize) -> Vec<Stage> {
    let folds = if settings.holds_out(playlists) { 1 } else { settings.folds as usize };
    let mut stages = vec![
        Stage::new("fold", &["fold", "examples"]).repeated(folds).weighing(2.0 * folds as f64),
        Stage::new("ranking", &["ranking"]).repeated(2).weighing(8.0),
        Stage::new("index", &["index"]).weighing(2.0),
    ];
    if !settings.without_neumf {
        stages.push(Stage::new("NeuMF", &["NeuMF"]).weighing(60.0));
    }
    stages
}
