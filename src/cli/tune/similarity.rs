//! `segue tune similarity`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use tracing::info;

use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::evaluate::similarity::{Metrics, vectors};
use crate::cli::global::Global;
use crate::cli::output::{Output, Report};
use crate::cli::picture::write_picture;
use crate::dataset::Corpus;
use crate::evaluate::next_track::{Distance, Parts, rank_by_vectors};
use crate::evaluate::pictures::bars;
use crate::evaluate::pictures::bars::LineChart;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::similarity::SimilaritySettings;
use crate::train::similarity::tuning::{CurvePoint, Metric, Trial, all_grids, parse_grid, tuner};
use crate::train::tuning::{Grid, sort_best, write_best};

/// What to tune, and where to write.
#[derive(Debug, clap::Args)]
pub struct TuneSimilarity {
    /// Setting to vary, such as alpha=-1,-0.5,0
    ///
    /// The other settings stay as given. Without values: a default grid. May be repeated. Without --grid and --search: every
    /// setting in turn.
    #[arg(long, value_name = "SETTING[=VALUES]", value_parser = parse_grid)]
    pub grid: Vec<Grid>,
    /// Draw N settings, and train the better ones longer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub search: Option<u16>,
    /// Epochs of the last round of a search
    ///
    /// The first round takes a ninth of them.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub search_epochs: u32,
    /// Metric to compare
    #[arg(long, value_enum, default_value_t = Metric::Hit)]
    pub metric: Metric,
    /// Folder for trials, pictures and the best settings
    ///
    /// By default data/tuning/similarity below the home folder.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// where to begin
    #[command(flatten)]
    pub settings: SimilaritySettings,
}

/// What came of a search.
#[derive(Debug, Serialize)]
struct Tuned {
    metric: Metric,
    /// the best of all trials on this data
    best: Trial,
    /// its figures on the test part, which no choice was made on
    test: Metrics,
    /// number of trials on this data, those of earlier runs included
    trials: usize,
    /// what was written
    files: Vec<PathBuf>,
}

pub(super) async fn tune(
    global: &Global,
    arguments: TuneSimilarity,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let corpus = data::read(global, data::corpus).await?;
    let folder = arguments.out.clone().unwrap_or_else(|| global.home.join("data/tuning/similarity"));
    let (interrupt, output) = (interrupt.clone(), arguments.output);
    let tuned = tokio::task::spawn_blocking(move || search(&corpus, &arguments, &folder, &interrupt)).await??;
    output.print(&tuned)?;
    Ok(ExitCode::SUCCESS)
}

impl Report for Tuned {
    fn text(&self) -> String {
        let at = |key: &str| self.test.at.get(key).copied().unwrap_or_default();
        let (best, hit, ndcg) = (trial_line(&self.best), at("hit_at_10"), at("ndcg_at_10"));
        let files: String = self.files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
        format!("\nbest of {} trials: {best}\ntest part: Hit@10 {hit:.4}, NDCG@10 {ndcg:.4}\n\n{files}", self.trials)
    }
}

fn trial_line(trial: &Trial) -> String {
    let settings = &trial.settings;
    let loss = trial.loss.map_or("diverged".to_owned(), |loss| format!("{loss:.4}"));
    format!(
        "Hit@10 {:.4}  NDCG@10 {:.4}  accuracy {:.3}  loss {loss}  {:>6.1} s  dim {} window {} negatives {} alpha {} subsample {} epochs {} learning-rate {} batch {} pool {}",
        trial.hit_at_10,
        trial.ndcg_at_10,
        trial.accuracy,
        trial.seconds,
        settings.dim,
        settings.window,
        settings.negatives,
        settings.alpha,
        settings.subsample,
        settings.epochs,
        settings.learning_rate,
        settings.batch,
        settings.pool
    )
}

fn search(corpus: &Corpus, arguments: &TuneSimilarity, folder: &Path, interrupt: &Interrupt) -> anyhow::Result<Tuned> {
    let (base, context) = (&arguments.settings, RunContext::new(arguments.threads.get(), interrupt));
    base.check()?;
    let held_out = corpus.sequences.hold_out_last(base.min_count);
    let parts = Parts::new(held_out.queries.len(), base.seed);
    let data = &corpus.sequences.fingerprint.sha256;
    let mut tuning = tuner(&held_out, &parts, data, &folder.join("trials.jsonl"), context)?;
    info!(trials = tuning.trials.len(), validation = parts.validation.len(), "read what was tried before");
    let tell = |trial: &Trial| arguments.output.print_line(|| trial_line(trial));
    let grids = match (arguments.grid.as_slice(), arguments.search) {
        ([], None) => all_grids(),
        (grids, _) => grids.to_vec(),
    };
    let (mut files, mut trials) = (Vec::new(), Vec::new());
    for grid in &grids {
        let along = tuning.along(base, grid, tell)?;
        files.extend(draw(&chart_of_grid(grid, &along), &folder.join(&grid.name))?);
        trials.extend(along);
    }
    if let Some(count) = arguments.search {
        let (epochs, metric) = (arguments.search_epochs, arguments.metric);
        trials.extend(tuning.halve(base, count.into(), base.seed, epochs, |trial| metric.of(trial), tell)?);
    }
    let metric = arguments.metric;
    sort_best(&mut trials, |trial| metric.of(trial));
    let best = trials.first().cloned().context("nothing was tried")?;
    files.extend(draw(&chart_of_curves(&trials), &folder.join("curves"))?);
    let path = folder.join("best.toml");
    write_best(&path, "similarity", &best.settings)?;
    files.extend([path, folder.join("trials.jsonl")]);

    let fitted = vectors(&held_out, &best.settings, context)?;
    let queries: Vec<_> = parts.test.iter().map(|&query| held_out.queries[query]).collect();
    let ranks = rank_by_vectors(&fitted.vectors, &fitted.lengths, Distance::Cosine, &queries, 10);
    Ok(Tuned { metric, best, test: Metrics::new(&ranks, &[10]), trials: tuning.trials.len(), files })
}

fn chart_of_grid(grid: &Grid, trials: &[Trial]) -> LineChart {
    let line = |name: &str, of: &dyn Fn(&Trial) -> Option<f64>| {
        (name.to_owned(), vec![(name.to_owned(), trials.iter().map(of).collect())])
    };
    LineChart {
        title: format!("The last track of a playlist by the one before it, by {}", grid.name),
        axis: grid.name.clone(),
        places: grid.values.iter().map(f64::to_string).collect(),
        panels: vec![
            line("Hit@10 (validation)", &|trial| Some(trial.hit_at_10)),
            line("NDCG@10 (validation)", &|trial| Some(trial.ndcg_at_10)),
            line("seconds of training", &|trial| Some(trial.seconds)),
        ],
    }
}

/// Of the best trials that were trained for more than one epoch; `trials` are in falling order.
fn chart_of_curves(trials: &[Trial]) -> LineChart {
    const CURVES: usize = 8;
    let mut shown: Vec<&Trial> = Vec::new();
    for trial in trials.iter().filter(|trial| trial.curve.len() > 1) {
        if shown.len() < CURVES && !shown.iter().any(|other| other.settings == trial.settings) {
            shown.push(trial);
        }
    }
    let longest = shown.iter().map(|trial| trial.curve.len()).max().unwrap_or(1);
    let panel = |title: &str, of: &dyn Fn(&CurvePoint) -> f64| {
        let line = |(number, trial): (usize, &&Trial)| {
            let settings = &trial.settings;
            let name = format!(
                "{}: dim {}, window {}, α {}, rate {}",
                number + 1,
                settings.dim,
                settings.window,
                settings.alpha,
                settings.learning_rate
            );
            (name, (0..longest).map(|epoch| trial.curve.get(epoch).map(of)).collect())
        };
        (title.to_owned(), shown.iter().enumerate().map(line).collect())
    };
    LineChart {
        title: "Learning curves of the best trials".to_owned(),
        axis: "epoch".to_owned(),
        places: (1..=longest).map(|epoch| epoch.to_string()).collect(),
        panels: vec![
            panel("Hit@10 (some of validation)", &|point| point.hit_at_10),
            panel("loss", &|point| point.loss),
        ],
    }
}

/// As `PATH.svg` and `PATH.png`.
fn draw(chart: &LineChart, path: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let svg = bars::lines(chart);
    let files = [path.with_extension("svg"), path.with_extension("png")];
    for file in &files {
        write_picture(file, &svg).with_context(|| file.display().to_string())?;
    }
    Ok(files)
}
