//! `segue evaluate similarity`, `segue tune similarity`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use tracing::info;

use super::evaluate::write_picture;
use super::train::threads;
use super::{Global, ReportFormat};
use crate::dataset::{Corpus, HeldOutSequences};
use crate::evaluate::next_track::{Distance, Parts, Ranks, rank_by_vectors};
use crate::evaluate::pictures::bars;
use crate::evaluate::pictures::bars::LineChart;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::next_track::{self, Placements};
use crate::train::similarity::tuning::{CurvePoint, Metric, Trial, all_grids, parse_grid, tuner};
use crate::train::similarity::{Fitted, SimilaritySettings, fit};
use crate::train::tuning::{Grid, sort_best, write_best};

/// What to measure, on what, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateSimilarity {
    /// What is asked
    #[arg(long, value_enum, default_value_t = Protocol::NextTrack)]
    pub protocol: Protocol,
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["next", "co-occurrence", "follows", "cosine", "euclidean"]
    )]
    pub model: Vec<NextTrackModel>,
    /// Also `next` without each part of what it looks at
    #[arg(long)]
    pub ablation: bool,
    /// Lengths of lists to look for the track in
    #[arg(long, value_delimiter = ',', default_value = "10", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub k: Vec<u16>,
    /// Trees of `next`
    #[arg(long, default_value_t = next_track::TREES, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub next_trees: u32,
    /// of the vectors
    #[command(flatten)]
    pub settings: SimilaritySettings,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// the last track but one of each playlist asks for the last
    NextTrack,
}

/// Models that say what comes after a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextTrackModel {
    /// the lists that are published with the vectors: trees over what playlists say of two tracks
    Next,
    /// what stands near the track in playlists, weighted by 1 / distance
    CoOccurrence,
    /// what stands behind it
    Follows,
    /// vectors by the angle between them
    Cosine,
    /// vectors by the distance between them, lengths as training left them
    Euclidean,
}

/// All models on the same queries.
#[derive(Debug, Serialize)]
struct Report {
    protocol: Protocol,
    /// tracks that are ranked
    tracks: usize,
    queries: usize,
    models: Vec<ModelFigures>,
}

#[derive(Debug, Serialize)]
struct ModelFigures {
    model: NextTrackModel,
    /// the part of what `next` looks at that it did without
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<next_track::Part>,
    #[serde(flatten)]
    all: Metrics,
    validation: Metrics,
    test: Metrics,
    train_seconds: f64,
}

/// `hit_at_10`, `ndcg_at_10`, and so on, and the number of queries.
#[derive(Debug, Serialize)]
struct Metrics {
    queries: usize,
    #[serde(flatten)]
    at: BTreeMap<String, f64>,
}

impl Metrics {
    fn new(ranks: &Ranks, lengths: &[u16]) -> Self {
        let at = lengths.iter().flat_map(|&k| {
            [(format!("hit_at_{k}"), ranks.hit(k.into())), (format!("ndcg_at_{k}"), ranks.ndcg(k.into()))]
        });
        Self { queries: ranks.0.len(), at: at.collect() }
    }
}

pub(super) async fn evaluate(
    global: &Global,
    arguments: EvaluateSimilarity,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let corpus = load(global).await?;
    let interrupt = interrupt.clone();
    let measuring =
        tokio::task::spawn_blocking(move || measure(&corpus, &arguments, &interrupt).map(|report| (report, arguments)));
    let (report, arguments) = measuring.await??;
    match arguments.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        ReportFormat::Table => print_table(&report, &arguments.k),
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(global: &Global) -> anyhow::Result<Corpus> {
    let catalog = global.catalog().await?;
    let corpus = Corpus::load(&catalog).await?;
    catalog.close().await;
    Ok(corpus)
}

fn measure(corpus: &Corpus, arguments: &EvaluateSimilarity, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (settings, context) = (&arguments.settings, RunContext::new(threads(arguments.threads), interrupt));
    settings.check()?;
    let held_out = corpus.sequences.hold_out_last(settings.min_count);
    anyhow::ensure!(!held_out.queries.is_empty(), "the catalog has no playlist of four or more tracks to ask of");
    let parts = Parts::new(held_out.queries.len(), settings.seed);
    let limit = arguments.k.iter().copied().max().unwrap_or(10).into();
    let queries = &held_out.queries;
    let placements = Placements::new(&held_out.playlists, &corpus.artist_of, &corpus.album_of, held_out.vocabulary);
    let mut fitted: Option<Fitted> = None;
    let mut models = Vec::new();
    let mut add = |model, without, ranks: Ranks, train_seconds| {
        info!(?model, hit_at_10 = ranks.hit(10), ndcg_at_10 = ranks.ndcg(10), "measured");
        let metrics = |ranks: &Ranks| Metrics::new(ranks, &arguments.k);
        models.push(ModelFigures {
            model,
            without,
            all: metrics(&ranks),
            validation: metrics(&ranks.of(&parts.validation)),
            test: metrics(&ranks.of(&parts.test)),
            train_seconds,
        });
    };
    for &model in &arguments.model {
        match model {
            NextTrackModel::Next => {
                let ablated = next_track::Part::ALL.into_iter().filter(|_| arguments.ablation).map(Some);
                for without in std::iter::once(None).chain(ablated) {
                    let left_out: Vec<next_track::Part> = without.into_iter().collect();
                    let started = Instant::now();
                    let (playlists, vocabulary) = (&held_out.playlists, held_out.vocabulary);
                    let (trees, seed) = (arguments.next_trees, settings.seed);
                    let trees = next_track::learn(corpus, playlists, vocabulary, trees, seed, &left_out, context)?;
                    let seconds = started.elapsed().as_secs_f64();
                    let ranks = next_track::measure(&placements, &trees, queries, limit, context)?;
                    add(model, without, ranks, seconds);
                }
            }
            NextTrackModel::CoOccurrence | NextTrackModel::Follows => {
                let both_sides = model == NextTrackModel::CoOccurrence;
                let ranks = next_track::measure_co_occurrence(&placements, both_sides, queries, limit, context)?;
                add(model, None, ranks, 0.0);
            }
            NextTrackModel::Cosine | NextTrackModel::Euclidean => {
                let distance = if model == NextTrackModel::Cosine { Distance::Cosine } else { Distance::Euclidean };
                let fitted = match &fitted {
                    Some(fitted) => fitted,
                    None => fitted.insert(vectors(&held_out, settings, context)?),
                };
                let ranks = rank_by_vectors(&fitted.vectors, &fitted.lengths, distance, queries, limit);
                add(model, None, ranks, fitted.seconds);
            }
        }
        anyhow::ensure!(!interrupt.is_raised(), "stopped");
    }
    Ok(Report { protocol: arguments.protocol, tracks: held_out.vocabulary, queries: queries.len(), models })
}

fn vectors(
    held_out: &HeldOutSequences,
    settings: &SimilaritySettings,
    context: RunContext<'_>,
) -> anyhow::Result<Fitted> {
    Ok(fit(held_out, settings, Some("training"), context, |run| {
        info!(epoch = run.epochs(), loss = run.loss(), "trained");
    })?)
}

fn print_table(report: &Report, lengths: &[u16]) {
    println!("{} queries, {} tracks", report.queries, report.tracks);
    let columns: Vec<String> = lengths.iter().flat_map(|k| [format!("Hit@{k}"), format!("NDCG@{k}")]).collect();
    let heads: String = columns.iter().map(|column| format!(" {column:>9}")).collect();
    println!("{:<36}{heads}   {:>10} {:>7}", "", "validation", "test");
    println!("{:<36}{:<width$}   {:>10} {:>7} {:>9}", "", "", columns[0], columns[0], "train s", width = heads.len());
    for figures in &report.models {
        let name = figures.model.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let without = figures.without.and_then(|part| part.to_possible_value());
        let name = without.map_or(name.clone(), |part| format!("{name} without {}", part.get_name()));
        let value = |metrics: &Metrics, key: String| metrics.at.get(&key).copied().unwrap_or_default();
        let first = format!("hit_at_{}", lengths[0]);
        let values: String = lengths
            .iter()
            .flat_map(|k| [format!("hit_at_{k}"), format!("ndcg_at_{k}")])
            .map(|key| format!(" {:>9.4}", value(&figures.all, key)))
            .collect();
        println!(
            "{name:<36}{values}   {:>10.4} {:>7.4} {:>9.1}",
            value(&figures.validation, first.clone()),
            value(&figures.test, first),
            figures.train_seconds
        );
    }
}

/// What to tune, and where to write.
#[derive(Debug, clap::Args)]
pub struct TuneSimilarity {
    /// One setting over several values, the others as given: alpha, or alpha=-1,-0.5,0; may be repeated. Without --grid
    /// and --search: every setting in turn
    #[arg(long, value_name = "SETTING[=VALUES]", value_parser = parse_grid)]
    pub grid: Vec<Grid>,
    /// Draw so many settings by chance, and train the better ones longer
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub search: Option<u16>,
    /// Epochs of the last round of a search; the first takes a ninth of them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub search_epochs: u32,
    /// What counts
    #[arg(long, value_enum, default_value_t = Metric::Hit)]
    pub metric: Metric,
    /// Folder for trials, pictures and the best settings [default: data/tuning/similarity below the home]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// where to begin
    #[command(flatten)]
    pub settings: SimilaritySettings,
    /// Threads that compute; 0 takes one for each processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
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
    let corpus = load(global).await?;
    let folder = arguments.out.clone().unwrap_or_else(|| global.home.join("data/tuning/similarity"));
    let (interrupt, format) = (interrupt.clone(), arguments.format);
    let tuned = tokio::task::spawn_blocking(move || search(&corpus, &arguments, &folder, &interrupt)).await??;
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&tuned)?),
        ReportFormat::Table => {
            let at = |key: &str| tuned.test.at.get(key).copied().unwrap_or_default();
            println!("\nbest of {} trials: {}", tuned.trials, trial_line(&tuned.best));
            println!("on the test part: Hit@10 {:.4}, NDCG@10 {:.4}", at("hit_at_10"), at("ndcg_at_10"));
            tuned.files.iter().for_each(|file| println!("wrote {}", file.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
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
    let (base, context) = (&arguments.settings, RunContext::new(threads(arguments.threads), interrupt));
    base.check()?;
    let held_out = corpus.sequences.hold_out_last(base.min_count);
    let parts = Parts::new(held_out.queries.len(), base.seed);
    let data = &corpus.sequences.fingerprint.sha256;
    let mut tuning = tuner(&held_out, &parts, data, &folder.join("trials.jsonl"), context)?;
    info!(trials = tuning.trials.len(), validation = parts.validation.len(), "read what was tried before");
    let tell = |trial: &Trial| {
        if arguments.format == ReportFormat::Table {
            println!("{}", trial_line(trial));
        }
    };
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
