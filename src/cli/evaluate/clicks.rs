//! `segue evaluate clicks`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use crate::cli::arguments::{Threads, check_share};
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::{Output, Report, Table, count, figure, or_dash};
use crate::cli::picture::{picture_file, write_picture};
use crate::cli::train::clicks::Overrides;
use crate::dataset::listens::{ClickTable, Listening, Variant};
use crate::evaluate::ClickMetrics;
use crate::evaluate::pictures::reliability;
use crate::progress::Interrupt;
use crate::recommend::clicks::ENSEMBLE;
use crate::train::RunContext;
use crate::train::clicks::{ClickModelName, ClickTask, SplitKind, learn, mark};

/// What to measure models of click probability on, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateClicks {
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["logistic-regression", "fm", "ffm", "deepfm", "dcn-v2", "field-network", "trees"]
    )]
    pub model: Vec<ClickModelName>,
    /// Listens to hold out
    #[arg(long, value_enum, default_value_t = SplitKind::Time)]
    pub split: SplitKind,
    /// Share of listens to hold out
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// Share of the other listens for validation
    ///
    /// The validation part decides when models stop, how they are calibrated, and their weights in the ensemble.
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// What a model knows about a listen
    #[arg(long, value_enum, default_value_t = Variant::Causal)]
    pub variant: Variant,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// Also draw the calibration: FILE.svg or FILE.png
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
    let (output, plot) = (arguments.output, arguments.plot.clone());
    let interrupt = interrupt.clone();
    let figures = tokio::task::spawn_blocking(move || measure(&listening, &arguments, &interrupt)).await??;
    if let Some(path) = plot {
        let curves: Vec<(&str, &ClickMetrics)> = figures.iter().map(|one| (one.model.as_str(), &one.metrics)).collect();
        write_picture(&path, &reliability::svg(&curves))?;
    }
    output.print(&figures)?;
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
    let context = RunContext::new(arguments.threads.get(), interrupt);
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

impl Report for Vec<ModelFigures> {
    fn text(&self) -> String {
        let heads = ["model", "AUC", "logloss", "ECE", "user AUC", "val. AUC", "val. logloss", "weight", "epochs"];
        let mut table = Table::new(heads);
        for one in self {
            let metrics = &one.metrics;
            let figures = [metrics.auc, metrics.logloss, metrics.calibration_error, metrics.user_auc];
            let figures = figures.into_iter().chain([one.validation_auc, one.validation_logloss]);
            let cells = std::iter::once(one.model.as_str().into()).chain(figures.map(|value| figure(value, 4)));
            let weight = one.weight.map(|weight| figure(weight.into(), 2));
            table.row(cells.chain([or_dash(weight), or_dash(one.epochs.map(count))]));
        }
        let (listens, split) = self.first().map_or((0, SplitKind::Time), |one| (one.metrics.listens, one.split));
        let which = match split {
            SplitKind::Time => "the last ones",
            SplitKind::Random => "random ones",
        };
        let mut text = format!("{listens} listens held out: {which}\n\n{table}");
        if let Some(ensemble) = self.iter().find(|one| one.model == ENSEMBLE) {
            let mut table = Table::new(["probability", "listens", "predicted", "observed"]);
            let bins = ensemble.metrics.reliability.iter().enumerate();
            for (tenth, bin) in bins.filter(|(_, bin)| bin.listens > 0) {
                let range = format!(".{tenth}–{:.1}", (tenth + 1) as f64 / 10.0);
                table.row([range.into(), count(bin.listens), figure(bin.predicted, 3), figure(bin.observed, 3)]);
            }
            text.push_str(&format!("\nreliability of the {ENSEMBLE}\n{table}"));
        }
        text
    }
}
