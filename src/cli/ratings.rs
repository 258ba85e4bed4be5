//! `segue train ratings`, `segue evaluate ratings`, `segue tune ratings`

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use super::train::all_processors;
use super::{Global, ReportFormat};
use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::dataset::{Feedback, split};
use crate::evaluate::RatingMetrics;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::ratings::gaussian::GaussianSettings;
use crate::train::ratings::network::NetworkSettings;
use crate::train::ratings::tuning::{Trial, tune as search};
use crate::train::ratings::{RatingsModelName, RatingsSettings, learn, train_ratings};

/// Share of the training ratings that a network which stops early withholds for that.
const EARLY_STOP_SHARE: f64 = 0.1;

/// How to train a model of ratings.
#[derive(Debug, clap::Args)]
pub struct TrainRatings {
    /// Which model
    #[arg(long, value_enum, default_value_t = RatingsModelName::Gp)]
    pub model: RatingsModelName,
    /// hyper-parameters
    #[command(flatten)]
    pub settings: RatingsSettings,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
}

/// Threads that compute.
#[derive(Debug, clap::Args)]
pub struct Threads {
    /// Threads that compute; 0 takes one for each processor, and one for a network, whose steps are too small to share
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

impl Threads {
    fn get(&self, model: RatingsModelName) -> usize {
        match (self.threads, model) {
            (0, RatingsModelName::Gp | RatingsModelName::Baseline) => all_processors(),
            (0, _) => 1,
            (threads, _) => threads.into(),
        }
    }
}

/// What to measure models of ratings on, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateRatings {
    /// Models to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["baseline", "dot", "bias", "mlp", "gp"])]
    pub model: Vec<RatingsModelName>,
    /// Each seed withholds other ratings, and trains on the rest
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub seed: Vec<u64>,
    /// Share of the ratings that is withheld
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// of the default model
    #[command(flatten)]
    pub gaussian: GaussianSettings,
    /// of the networks
    #[command(flatten)]
    pub network: NetworkSettings,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// How to tune, and how to report.
#[derive(Debug, clap::Args)]
pub struct TuneRatings {
    /// Times that each setting is tried
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Share of the ratings that is set aside first and not looked at
    #[arg(long, default_value_t = 0.0)]
    pub without: f64,
    /// Share of the other ratings that settings are compared on
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// Random seed of what is set aside and withheld
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// where to begin
    #[command(flatten)]
    pub gaussian: GaussianSettings,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
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

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: TrainRatings,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    let feedback = load(catalog).await?;
    let (models, interrupt, threads) = (global.models(), interrupt.clone(), arguments.threads.get(arguments.model));
    let training = tokio::task::spawn_blocking(move || {
        train_ratings(&feedback, arguments.model, &arguments.settings, &models, threads, &interrupt)
    });
    Ok(training.await??)
}

async fn load(catalog: &Catalog) -> anyhow::Result<Feedback> {
    let feedback = Feedback::load(catalog).await?;
    let ratings = feedback.events.iter().filter(|event| event.rating.is_some()).count();
    let listens = feedback.events.len() - ratings;
    info!(users = feedback.users(), tracks = feedback.tracks(), ratings, listens, "read the catalog");
    Ok(feedback)
}

pub(super) async fn evaluate(
    global: &Global,
    arguments: EvaluateRatings,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.withheld), "--withheld must be from 0 to 0.9");
    let catalog = global.catalog().await?;
    let feedback = load(&catalog).await?;
    catalog.close().await;
    let (format, interrupt) = (arguments.format, interrupt.clone());
    let figures = tokio::task::spawn_blocking(move || measure(&feedback, &arguments, &interrupt)).await??;
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
        ReportFormat::Table => {
            println!(
                "{:<10} {:>7} {:>7} {:>7} {:>8} {:>9} {:>9}",
                "", "MSE", "RMSE", "MAE", "NDCG@10", "train s", "epoch s"
            );
            for one in figures {
                let epoch = one.epoch_seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.2}"));
                println!(
                    "{:<10} {:>7.4} {:>7.4} {:>7.4} {:>8.4} {:>9.2} {:>9}",
                    one.model.as_str(),
                    one.mse,
                    one.rmse,
                    one.mae,
                    one.ndcg_at_10,
                    one.train_seconds,
                    epoch
                );
            }
        }
    }
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
            let context = RunContext::new(arguments.threads.get(model), interrupt);
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

pub(super) async fn tune(global: &Global, arguments: TuneRatings, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.without), "--without must be from 0 to 0.9");
    let catalog = global.catalog().await?;
    let feedback = load(&catalog).await?;
    catalog.close().await;
    let (format, interrupt) = (arguments.format, interrupt.clone());
    let tuning = move || {
        let events = feedback.split(arguments.without, arguments.seed).training;
        let parts = split(&events, arguments.withheld, arguments.seed.wrapping_add(1));
        let threads = arguments.threads.get(RatingsModelName::Gp);
        let tell = |trial: &Trial| {
            if format == ReportFormat::Table {
                println!(
                    "{:<24} {:>10.4}  MSE {:.4}  NDCG@10 {:.4}",
                    trial.setting, trial.value, trial.mse, trial.ndcg_at_10
                );
            }
        };
        let context = RunContext::new(threads, &interrupt);
        search(&feedback, &parts, &arguments.gaussian, arguments.rounds as usize, arguments.seed, context, tell)
    };
    let tuned = tokio::task::spawn_blocking(tuning).await??;
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&tuned)?),
        ReportFormat::Table => {
            println!("MSE {:.4}, NDCG@10 {:.4} with", tuned.mse, tuned.ndcg_at_10);
            println!("segue train ratings {}", tuned.flags);
        }
    }
    Ok(ExitCode::SUCCESS)
}
