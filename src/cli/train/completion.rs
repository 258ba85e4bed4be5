//! `segue train completion`

use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::progress::Interrupt;
use crate::train::completion::{CompletionSettings, train_completion};

/// How to train for completions.
#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// hyper-parameters
    #[command(flatten)]
    pub settings: CompletionSettings,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
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
        train_completion(&corpus, &arguments.settings, &models, threads, &interrupt)
    });
    Ok(training.await??)
}
