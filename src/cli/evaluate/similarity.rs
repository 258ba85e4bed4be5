//! `segue evaluate similarity`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;
use tracing::info;

use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::{self, Cell, Output, Table, count, figure};
use crate::dataset::{Corpus, HeldOutSequences};
use crate::evaluate::next_track::{Distance, Parts, Ranks, rank_by_vectors};
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::next_track::{self, Placements};
use crate::train::similarity::{Fitted, SimilaritySettings, fit};

/// What to measure, on what, and how to report.
#[derive(Debug, clap::Args)]
pub struct EvaluateSimilarity {
    /// Protocol
    #[arg(long, value_enum, default_value_t = Protocol::NextTrack)]
    pub protocol: Protocol,
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["next", "co-occurrence", "follows", "cosine", "euclidean"]
    )]
    pub model: Vec<NextTrackModel>,
    /// Also evaluate `next` without each of its parts
    #[arg(long)]
    pub ablation: bool,
    /// Lengths of the lists
    #[arg(long, value_delimiter = ',', default_value = "10", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub k: Vec<u16>,
    /// Trees of the next-track ranking
    #[arg(long, default_value_t = next_track::TREES, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub next_trees: u32,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// of the vectors
    #[command(flatten)]
    pub settings: SimilaritySettings,
}

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// the query is the last track but one of a playlist, the target the last
    NextTrack,
}

/// Models that say what comes after a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextTrackModel {
    /// the published next-track lists: trees over co-occurrences
    Next,
    /// nearby tracks in playlists, weighted by 1 / distance
    CoOccurrence,
    /// tracks that directly follow in playlists
    Follows,
    /// vectors by cosine
    Cosine,
    /// vectors by Euclidean distance, with lengths as trained
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
    /// lengths of the lists that tracks are looked for in
    #[serde(skip)]
    lengths: Vec<u16>,
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
pub(in crate::cli) struct Metrics {
    queries: usize,
    #[serde(flatten)]
    pub(in crate::cli) at: BTreeMap<String, f64>,
}

impl Metrics {
    pub(in crate::cli) fn new(ranks: &Ranks, lengths: &[u16]) -> Self {
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
    let corpus = data::read(global, data::corpus).await?;
    let (interrupt, output) = (interrupt.clone(), arguments.output);
    let report = tokio::task::spawn_blocking(move || measure(&corpus, &arguments, &interrupt)).await??;
    output.print(&report)?;
    Ok(ExitCode::SUCCESS)
}

fn measure(corpus: &Corpus, arguments: &EvaluateSimilarity, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let (settings, context) = (&arguments.settings, RunContext::new(arguments.threads.get(), interrupt));
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
    let (protocol, lengths) = (arguments.protocol, arguments.k.clone());
    Ok(Report { protocol, tracks: held_out.vocabulary, queries: queries.len(), models, lengths })
}

pub(in crate::cli) fn vectors(
    held_out: &HeldOutSequences,
    settings: &SimilaritySettings,
    context: RunContext<'_>,
) -> anyhow::Result<Fitted> {
    Ok(fit(held_out, settings, Some("training"), context, |run| {
        info!(epoch = run.epochs(), loss = run.loss(), "trained");
    })?)
}

impl output::Report for Report {
    fn text(&self) -> String {
        let first = format!("hit_at_{}", self.lengths.first().unwrap_or(&10));
        let lengths = || self.lengths.iter().flat_map(|k| [format!("hit_at_{k}"), format!("ndcg_at_{k}")]);
        let head = |key: String| key.replace("hit_at_", "Hit@").replace("ndcg_at_", "NDCG@");
        let parts = ["validation", "test"].map(|part| format!("{} ({part})", head(first.clone())));
        let heads = ["model".to_owned()].into_iter().chain(lengths().map(head)).chain(parts);
        let mut table = Table::new(heads.chain(["train s".to_owned()]));
        for figures in &self.models {
            let name = name_of(&figures.model);
            let name = figures.without.map_or(name.clone(), |part| format!("{name} without {}", name_of(&part)));
            let value = |metrics: &Metrics, key: &str| figure(metrics.at.get(key).copied().unwrap_or_default(), 4);
            let mut cells = vec![Cell::from(name)];
            cells.extend(lengths().map(|key| value(&figures.all, &key)));
            cells.extend([value(&figures.validation, &first), value(&figures.test, &first)]);
            cells.push(figure(figures.train_seconds, 1));
            table.row(cells);
        }
        format!("{} queries, {} tracks\n\n{table}", count(self.queries), count(self.tracks))
    }
}

fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
