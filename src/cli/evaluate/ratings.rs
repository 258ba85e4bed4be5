//! `segue evaluate ratings`

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::{Output, Report, Table, figure, or_dash};
use crate::cli::train::ratings::threads;
use crate::dataset::Feedback;
use crate::evaluate::RatingMetrics;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::ratings::gaussian::GaussianSettings;
use crate::train::ratings::network::NetworkSettings;
use crate::train::ratings::{RatingsModelName, RatingsSettings, learn};

/// Share of the training ratings that a network which stops early withholds for that.
const EARLY_STOP_SHARE: f64 = 0.1;

/// What to measure models of ratings on, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateRatings {
    /// Models to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["baseline", "dot", "bias", "mlp", "gp"])]
    pub model: Vec<RatingsModelName>,
    /// Random seeds
    ///
    /// Each seed holds out other ratings; reported are the means.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub seed: Vec<u64>,
    /// Share of ratings to hold out
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// of the default model
    #[command(flatten)]
    pub gaussian: GaussianSettings,
    /// of the networks
    #[command(flatten)]
    pub network: NetworkSettings,
}

/// A model's figures over all seeds.
#[derive(Debug, Serialize)]
struct ModelFigures {
    /// its name
    model: RatingsModelName,
    /// means over the seeds
    mse: f64,
    /// see `mse`
    rmse: f64,
    /// see `mse`
    mae: f64,
    /// see `mse`
    ndcg_at_10: f64,
    /// mean seconds that training took
    train_seconds: f64,
    /// mean seconds of an epoch, for a model that goes by epochs
    epoch_seconds: Option<f64>,
    /// by seed
    splits: Vec<SplitFigures>,
}

impl Report for Vec<ModelFigures> {
    fn text(&self) -> String {
        let mut table = Table::new(["model", "MSE", "RMSE", "MAE", "NDCG@10", "train s", "epoch s"]);
        for one in self {
            let figures = [one.mse, one.rmse, one.mae, one.ndcg_at_10].map(|value| figure(value, 4));
            let seconds = [figure(one.train_seconds, 2), or_dash(one.epoch_seconds.map(|value| figure(value, 2)))];
            table.row(std::iter::once(one.model.as_str().into()).chain(figures).chain(seconds));
        }
        table.to_string()
    }
}

/// A model's figures on one split.
#[derive(Debug, Serialize)]
struct SplitFigures {
    seed: u64,
    train_seconds: f64,
    epoch_seconds: Option<f64>,
    epochs: Option<usize>,
    #[serde(flatten)]
    metrics: RatingMetrics,
}

pub(super) async fn evaluate(
    global: &Global,
    arguments: EvaluateRatings,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.withheld), "--withheld must be from 0 to 0.9");
    let feedback = data::read(global, data::feedback).await?;
    let (output, interrupt) = (arguments.output, interrupt.clone());
    let figures = tokio::task::spawn_blocking(move || measure(&feedback, &arguments, &interrupt)).await??;
    output.print(&figures)?;
    Ok(ExitCode::SUCCESS)
}

fn measure(
    feedback: &Feedback,
    arguments: &EvaluateRatings,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<ModelFigures>> {
    let mut figures = Vec::new();
    for &model in &arguments.model {
        let mut splits = Vec::new();
        for &seed in &arguments.seed {
            let parts = feedback.split(arguments.withheld, seed);
            anyhow::ensure!(!parts.held_out.is_empty(), "the catalog has too few ratings to withhold any");
            let settings = RatingsSettings {
                withheld: EARLY_STOP_SHARE,
                seed,
                gaussian: arguments.gaussian.clone(),
                network: arguments.network.clone(),
            };
            let context = RunContext::new(threads(&arguments.threads, model), interrupt);
            let started = Instant::now();
            let trained = learn(feedback, &parts.training, model, &settings, context)?;
            let train_seconds = started.elapsed().as_secs_f64();
            let metrics = trained.measure(&parts.training, &parts.held_out, feedback.users());
            info!(model = model.as_str(), seed, mse = metrics.mse, ndcg_at_10 = metrics.ndcg_at_10, "measured");
            let (epochs, epoch_seconds) = (trained.epochs, trained.epoch_seconds);
            splits.push(SplitFigures { seed, train_seconds, epoch_seconds, epochs, metrics });
            anyhow::ensure!(!interrupt.is_raised(), "stopped");
        }
        let mean = |of: &dyn Fn(&SplitFigures) -> f64| splits.iter().map(of).sum::<f64>() / splits.len().max(1) as f64;
        figures.push(ModelFigures {
            model,
            mse: mean(&|split| split.metrics.mse),
            rmse: mean(&|split| split.metrics.rmse),
            mae: mean(&|split| split.metrics.mae),
            ndcg_at_10: mean(&|split| split.metrics.ndcg_at_10),
            train_seconds: mean(&|split| split.train_seconds),
            epoch_seconds: splits
                .iter()
                .all(|split| split.epoch_seconds.is_some())
                .then(|| mean(&|split| split.epoch_seconds.unwrap_or_default())),
            splits,
        });
    }
    Ok(figures)
}
