//! `segue evaluate clicks`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use crate::cli::arguments::{Threads, check_share};
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::ReportFormat;
use crate::cli::picture::{picture_file, write_picture};
use crate::cli::train::clicks::Overrides;
use crate::dataset::listens::history::Listening;
use crate::dataset::listens::table::{ClickTable, Variant};
use crate::evaluate::ClickMetrics;
use crate::evaluate::pictures::reliability;
use crate::progress::Interrupt;
use crate::recommend::clicks::ENSEMBLE;
use crate::train::clicks::{ClickModelName, ClickTask, Running, SplitKind, learn, mark};

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
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// Also draw how far probabilities can be believed: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", value_parser = picture_file)]
    pub plot: Option<PathBuf>,
    /// hyper-parameters
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

pub(super) async fn evaluate(
    global: &Global,
    arguments: EvaluateClicks,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    check_share("withheld", arguments.withheld)?;
    check_share("validation", arguments.validation)?;
    let listening = data::read(global, data::listening).await?;
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
    let running = Running { threads: arguments.threads.get(), resume: None, interrupt };
    let learned = learn(&task, &arguments.overrides.models(&arguments.model), running)?;
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
