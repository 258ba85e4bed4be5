//! `segue train ratings`

use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::progress::{Interrupt, Stage, in_stages};
use crate::train::ratings::{RatingsModelName, RatingsSettings, train_ratings};

/// How to train a model of ratings.
#[derive(Debug, clap::Args)]
pub struct TrainRatings {
    /// Model
    #[arg(long, value_enum, default_value_t = RatingsModelName::Gp)]
    pub model: RatingsModelName,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// hyper-parameters
    #[command(flatten)]
    pub settings: RatingsSettings,
}

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: TrainRatings,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let feedback = data::feedback(catalog).await?;
    let (models, interrupt, threads) =
        (global.models(), interrupt.clone(), threads(&arguments.threads, arguments.model));
    let training = tokio::task::spawn_blocking(move || {
        let (model, settings) = (arguments.model, &arguments.settings);
        in_stages(stages(model, settings), || train_ratings(&feedback, model, settings, &models, threads, &interrupt))
    });
    Ok(training.await??)
}

/// The number of threads; by default one for each processor, and one for a network, whose steps are too small to share.
pub(in crate::cli) fn threads(threads: &Threads, model: RatingsModelName) -> usize {
    match model {
        RatingsModelName::Gp | RatingsModelName::Baseline => threads.get(),
        RatingsModelName::Dot | RatingsModelName::Bias | RatingsModelName::Mlp => threads.get_or(1),
    }
}

/// A network is trained twice: to be measured on held-out ratings, and on all ratings. Other models take seconds.
fn stages(model: RatingsModelName, settings: &RatingsSettings) -> Vec<Stage> {
    if matches!(model, RatingsModelName::Gp | RatingsModelName::Baseline) {
        return Vec::new();
    }
    let held_out = (settings.withheld > 0.0).then(|| Stage::new("measuring", &["training"]));
    held_out.into_iter().chain([Stage::new("all ratings", &["training"])]).collect()
}
