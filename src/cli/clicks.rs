//! `segue train clicks`, `segue evaluate clicks`, `segue tune clicks`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use super::evaluate::write_picture;
use super::train::all_processors;
use super::{Global, ReportFormat};
use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::dataset::listens::{ClickTable, FeatureGroup, Listening, Variant};
use crate::evaluate::ClickMetrics;
use crate::evaluate::pictures::reliability;
use crate::progress::Interrupt;
use crate::recommend::clicks::ENSEMBLE;
use crate::train::RunContext;
use crate::train::clicks::tuning::{Trial, TuneTask, tune as search};
use crate::train::clicks::{ClickModelName, ClickSettings, ClickTask, Preset, SplitKind, learn, mark, train_clicks};
use crate::train::optimizer::Optimizer;

/// What of a preset is set otherwise.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Hyper-parameters, of all models named; left out, those of the preset")]
pub struct Overrides {
    /// Where hyper-parameters start from
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    pub preset: Preset,
    /// Length of an embedding
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub dim: Option<u32>,
    /// Units of each hidden layer, such as 64,32; of the field network the width K
    #[arg(long, value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,
    /// Cross layers (dcn-v2)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cross_layers: Option<u32>,
    /// Chance that a unit is dropped in training
    #[arg(long)]
    pub dropout: Option<f64>,
    /// L2 penalty on the embeddings that a batch looks up; of trees on leaves
    #[arg(long)]
    pub l2: Option<f64>,
    /// L2 penalty on dense weights
    #[arg(long)]
    pub dense_l2: Option<f64>,
    /// Learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// What the learning rate is multiplied with after each epoch
    #[arg(long)]
    pub decay: Option<f64>,
    /// Listens in a mini-batch
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: Option<u32>,
    /// Epochs at most; of trees their number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub epochs: Option<u32>,
    /// Epochs without a better AUC on the validation part until the learning rate falls to a tenth, and after the second
    /// time training ends; 0 goes through all epochs
    #[arg(long)]
    pub patience: Option<u32>,
    /// How a gradient becomes a step
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// How often a value must occur to have an embedding of its own
    #[arg(long)]
    pub min_count: Option<u32>,
    /// Networks that differ in their seed, averaged
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: Option<u32>,
    /// Groups of numbers that take part
    #[arg(long, value_enum, value_delimiter = ',')]
    pub groups: Option<Vec<FeatureGroup>>,
    /// Questions of a tree
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub depth: Option<u32>,
}

impl Overrides {
    /// Hyper-parameters of a model.
    fn settings(&self, name: ClickModelName) -> ClickSettings {
        fn set<T: Clone>(value: &mut T, other: Option<&T>) {
            if let Some(other) = other {
                value.clone_from(other);
            }
        }
        let mut settings = ClickSettings::preset(name, self.preset);
        set(&mut settings.dim, self.dim.as_ref());
        set(&mut settings.hidden, self.hidden.as_ref());
        set(&mut settings.cross_layers, self.cross_layers.as_ref());
        set(&mut settings.dropout, self.dropout.as_ref());
        set(&mut settings.l2, self.l2.as_ref());
        set(&mut settings.dense_l2, self.dense_l2.as_ref());
        set(&mut settings.learning_rate, self.learning_rate.as_ref());
        set(&mut settings.decay, self.decay.as_ref());
        set(&mut settings.batch, self.batch.as_ref());
        set(&mut settings.epochs, self.epochs.as_ref());
        set(&mut settings.patience, self.patience.as_ref());
        set(&mut settings.optimizer, self.optimizer.as_ref());
        set(&mut settings.min_count, self.min_count.as_ref());
        set(&mut settings.seeds, self.seeds.as_ref());
        set(&mut settings.groups, self.groups.as_ref());
        set(&mut settings.depth, self.depth.as_ref());
        settings
    }

    fn models(&self, names: &[ClickModelName]) -> Vec<(String, ClickModelName, ClickSettings)> {
        names.iter().map(|&name| (name.as_str().to_owned(), name, self.settings(name))).collect()
    }
}

/// How to train models of click probability.
#[derive(Debug, clap::Args)]
pub struct TrainClicks {
    /// Models to train and to publish together
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ffm", "deepfm", "dcn-v2", "field-network", "trees"])]
    pub model: Vec<ClickModelName>,
    /// Share of the listens, the last ones, by which models are stopped, calibrated and weighed
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// Random seed: the same data, settings and seed give the same model on the same machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// hyper-parameters
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What to measure models of click probability on, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateClicks {
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["logistic-regression", "fm", "ffm", "deepfm", "dcn-v2", "field-network", "trees"]
    )]
    pub model: Vec<ClickModelName>,
    /// What is withheld: the last listens, or ones drawn at random
    #[arg(long, value_enum, default_value_t = SplitKind::Time)]
    pub split: SplitKind,
    /// Share of the listens that is withheld
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// Share of the others by which models are stopped, calibrated and weighed
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// What is known of a listen: what came before it, or all listens, before and after
    #[arg(long, value_enum, default_value_t = Variant::Causal)]
    pub variant: Variant,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// Also draw how far probabilities can be believed: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", value_parser = super::evaluate::picture_file)]
    pub plot: Option<PathBuf>,
    /// hyper-parameters
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Where to look for settings.
#[derive(Debug, clap::Args)]
pub struct TuneClicks {
    /// Model whose settings are looked for
    #[arg(long, value_enum, default_value_t = ClickModelName::FieldNetwork)]
    pub model: ClickModelName,
    /// Settings to try, drawn at random
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trials: u32,
    /// Best of them that make an ensemble
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub best: u32,
    /// Share of the listens, the last ones, that the search never sees, so that they can be measured on afterwards
    #[arg(long, default_value_t = 0.0)]
    pub without: f64,
    /// Share of the others, the last of them, by which settings are judged
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// what is not searched for
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What was measured of a model.
#[derive(Debug, Serialize)]
struct ModelFigures {
    model: String,
    /// how listens were withheld
    split: SplitKind,
    variant: Variant,
    #[serde(flatten)]
    metrics: ClickMetrics,
    /// on the part by which models are chosen
    validation_auc: f64,
    validation_logloss: f64,
    /// share of the ensemble
    weight: Option<f32>,
    /// epochs or trees
    epochs: Option<usize>,
    rows_per_second: Option<f64>,
}

fn threads(asked: u16) -> usize {
    if asked == 0 { all_processors() } else { asked.into() }
}

fn check_share(flag: &str, share: f64) -> anyhow::Result<()> {
    anyhow::ensure!((0.01..=0.9).contains(&share), "--{flag} must be from 0.01 to 0.9");
    Ok(())
}

async fn load(catalog: &Catalog) -> anyhow::Result<Listening> {
    let listening = Listening::load(catalog).await?;
    let (users, tracks, listens) = (listening.user_ids.len(), listening.track_ids.len(), listening.clicks.len());
    info!(users, tracks, listens, "read the catalog");
    Ok(listening)
}

/// Reads the catalog and trains on a thread of its own.
pub(super) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: TrainClicks,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    check_share("validation", arguments.validation)?;
    let listening = load(catalog).await?;
    let (folder, interrupt) = (global.models(), interrupt.clone());
    let models = arguments.overrides.models(&arguments.model);
    let training = tokio::task::spawn_blocking(move || {
        let threads = threads(arguments.threads);
        train_clicks(&listening, &models, arguments.validation, arguments.seed, &folder, threads, &interrupt)
    });
    Ok(training.await??)
}

pub(super) async fn evaluate(
    global: &Global,
    arguments: EvaluateClicks,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    check_share("withheld", arguments.withheld)?;
    check_share("validation", arguments.validation)?;
    let catalog = global.catalog().await?;
    let listening = load(&catalog).await?;
    catalog.close().await;
    let (format, plot, split) = (arguments.format, arguments.plot.clone(), arguments.split);
    let interrupt = interrupt.clone();
    let figures = tokio::task::spawn_blocking(move || measure(&listening, &arguments, &interrupt)).await??;
    if let Some(path) = plot {
        let curves: Vec<(&str, &ClickMetrics)> = figures.iter().map(|one| (one.model.as_str(), &one.metrics)).collect();
        write_picture(&path, &reliability::svg(&curves))?;
    }
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
        ReportFormat::Table => print(&figures, split),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    listening: &Listening,
    arguments: &EvaluateClicks,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<ModelFigures>> {
    let started = Instant::now();
    let (split, seed) = (arguments.split, arguments.seed);
    let set_aside = mark(listening.clicks.len(), &listening.labelled(), arguments.withheld, split, seed);
    let task = ClickTask {
        listening,
        variant: arguments.variant,
        set_aside: &set_aside,
        validation: arguments.validation,
        split,
        seed,
    };
    let context = RunContext::new(threads(arguments.threads), interrupt);
    let learned = learn(&task, &arguments.overrides.models(&arguments.model), context)?;
    let table: &ClickTable = &learned.table;
    let rows: Vec<usize> = (0..table.rows()).filter(|&row| set_aside[table.clicks[row]]).collect();
    let measured = learned.measure(&table.select(&rows));
    info!(seconds = started.elapsed().as_secs_f64(), listens = rows.len(), "measured");
    let figures = measured.into_iter().zip(&learned.validation).enumerate();
    Ok(figures
        .map(|(place, ((model, metrics), (_, validation)))| ModelFigures {
            model,
            split,
            variant: arguments.variant,
            metrics,
            validation_auc: validation.auc,
            validation_logloss: validation.logloss,
            weight: learned.members.get(place).map(|member| member.weight),
            epochs: learned.epochs.get(place).copied(),
            rows_per_second: learned.rows_per_second.get(place).copied().filter(|rate| *rate > 0.0),
        })
        .collect())
}

fn print(figures: &[ModelFigures], split: SplitKind) {
    let listens = figures.first().map_or(0, |one| one.metrics.listens);
    let how = match split {
        SplitKind::Time => "the last",
        SplitKind::Random => "random",
    };
    println!("{listens} listens, {how} ones");
    println!(
        "{:<20} {:>7} {:>8} {:>8} {:>9} {:>9} {:>10} {:>7} {:>7}",
        "", "AUC", "logloss", "ECE", "user AUC", "val. AUC", "val. loss", "weight", "epochs"
    );
    for one in figures {
        println!(
            "{:<20} {:>7.4} {:>8.4} {:>8.4} {:>9.4} {:>9.4} {:>10.4} {:>7} {:>7}",
            one.model,
            one.metrics.auc,
            one.metrics.logloss,
            one.metrics.calibration_error,
            one.metrics.user_auc,
            one.validation_auc,
            one.validation_logloss,
            one.weight.map_or("-".to_owned(), |weight| format!("{weight:.2}")),
            one.epochs.map_or("-".to_owned(), |epochs| epochs.to_string()),
        );
    }
    if let Some(ensemble) = figures.iter().find(|one| one.model == ENSEMBLE) {
        println!("\nreliability of the {ENSEMBLE}");
        println!("{:>12} {:>8} {:>10} {:>9}", "probability", "listens", "predicted", "observed");
        for (tenth, bin) in ensemble.metrics.reliability.iter().enumerate().filter(|(_, bin)| bin.listens > 0) {
            let range = format!(".{tenth}–{:.1}", (tenth + 1) as f64 / 10.0);
            println!("{range:>12} {:>8} {:>10.3} {:>9.3}", bin.listens, bin.predicted, bin.observed);
        }
    }
}

pub(super) async fn tune(global: &Global, arguments: TuneClicks, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.without), "--without must be from 0 to 0.9");
    check_share("validation", arguments.validation)?;
    let catalog = global.catalog().await?;
    let listening = load(&catalog).await?;
    catalog.close().await;
    let (format, interrupt) = (arguments.format, interrupt.clone());
    let searching = move || {
        let labelled = listening.labelled();
        let set_aside = mark(listening.clicks.len(), &labelled, arguments.without, SplitKind::Time, arguments.seed);
        let task = TuneTask {
            task: ClickTask {
                listening: &listening,
                variant: Variant::Causal,
                set_aside: &set_aside,
                validation: arguments.validation,
                split: SplitKind::Time,
                seed: arguments.seed,
            },
            model: arguments.model,
            start: arguments.overrides.settings(arguments.model),
            trials: arguments.trials as usize,
            best: arguments.best as usize,
        };
        let context = RunContext::new(threads(arguments.threads), &interrupt);
        let tell = |trial: &Trial| {
            if format == ReportFormat::Table {
                println!("AUC {:.4}  logloss {:.4}  {}", trial.auc, trial.logloss, trial.flags);
            }
        };
        search(&task, context, tell)
    };
    let tuned = tokio::task::spawn_blocking(searching).await??;
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&tuned)?),
        ReportFormat::Table => {
            println!("ensemble of the best: AUC {:.4}, logloss {:.4}", tuned.ensemble.auc, tuned.ensemble.logloss);
            if let Some(best) = tuned.trials.first() {
                println!("segue train clicks --model {} {}", tuned.model.as_str(), best.flags);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
