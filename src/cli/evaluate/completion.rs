//! `segue evaluate completion`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tracing::info;

use crate::bundle::{BundleFolder, Kind, SimilarityBundle, Vocabulary};
use crate::cli::arguments::all_processors;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::loaded_model::LoadedModel;
use crate::cli::output::{self, Cell, Output, Table, count, figure};
use crate::cli::picture::{picture_file, write_picture};
use crate::cli::track_names::track_names;
use crate::dataset::{Corpus, SeedKind};
use crate::evaluate::pictures::bars;
use crate::evaluate::{
    self, Challenge, EvaluateError, Recommender, Report, Split, TestPlaylist, TestSet, evaluate_split,
};
use crate::progress::Interrupt;
use crate::recommend::SimilarityModel;
use crate::recommend::completion::CompletionModel;
use crate::recommend::dispatch::CompletionMethod;
use crate::train::RunContext;
use crate::train::completion::{CompletionSettings, learn};
use crate::train::similarity::{NextTracksSettings, SimilaritySettings, train_similarity};

/// What to measure completion on, and how to report.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("seed", |seed| seed.long_help("Random seed\n\nThe same seed holds out the same playlists, and trains the same model on the others.")),
    // With a challenge set nothing is trained.
    mut_args(trained_only)
)]
pub struct CompletionArguments {
    /// challenge_set.json of the RecSys Challenge 2018
    ///
    /// Plain or gzip.
    #[arg(long, value_name = "FILE", requires = "truth")]
    pub challenge: Option<PathBuf>,
    /// Held-out tracks of the challenge set
    ///
    /// JSON, plain or gzip: {pid: {"category": kind of seeds, "holdouts": [track_uri, …]}}
    #[arg(long, value_name = "FILE", requires = "challenge")]
    pub truth: Option<PathBuf>,
    /// Playlists of the catalog to hold out
    ///
    /// A tenth of them for each kind of seeds.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "challenge")]
    pub playlists: u32,
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["ranking", "playlist-knn", "item-knn", "als", "title", "popularity"]
    )]
    pub model: Vec<CompletionMethod>,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// Also draw the report: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", value_parser = picture_file)]
    pub plot: Option<PathBuf>,
    /// how to train on what is not withheld
    #[command(flatten)]
    pub settings: CompletionSettings,
}

/// How to train and what to hold out has no effect on a challenge set, which the published models complete.
fn trained_only(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "challenge" | "truth" | "model" | "format" | "plot" => argument,
        _ => argument.conflicts_with("challenge"),
    }
}

pub(super) async fn evaluate(
    global: &Global,
    arguments: CompletionArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let report = match (&arguments.challenge, &arguments.truth) {
        (Some(challenge), Some(truth)) => on_challenge(global, challenge, truth, &arguments.model, interrupt).await?,
        _ => on_split(global, &arguments, interrupt).await?,
    };
    arguments.output.print(&report)?;
    if let Some(path) = &arguments.plot {
        write_picture(path, &bars::svg(&report)).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One name for each kind of bundle that `models` need.
fn kinds(models: &[CompletionMethod]) -> Vec<CompletionMethod> {
    Kind::ALL.iter().filter_map(|&kind| models.iter().copied().find(|model| model.kind() == kind)).collect()
}

async fn on_challenge(
    global: &Global,
    challenge: &Path,
    truth: &Path,
    models: &[CompletionMethod],
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let challenge = Challenge::read(challenge)?;
    let playlists = challenge.read_truth(truth)?;
    let mut answering = Vec::new();
    for name in kinds(models) {
        let (manifest, bundle) = LoadedModel::load(&global.models(), name)?;
        info!(version = manifest.version, "evaluating the {} bundle", manifest.kind);
        bundle.check(models)?;
        answering.push(bundle);
    }
    let artists = artists(global, challenge.artists, &answering, &playlists).await?;
    let (models, interrupt) = (models.to_vec(), interrupt.clone());
    let evaluation = tokio::task::spawn_blocking(move || {
        let artists = artists.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        measure(&models, &answering, |vocabulary, counts, recommenders| {
            evaluate::evaluate(&TestSet::new(&playlists, vocabulary, counts, &artists), recommenders, &interrupt)
        })
    });
    Ok(evaluation.await??)
}

/// Returns the artists of all tracks that can be recommended or are held out, by track id: from the challenge set
/// (`known`), a completion bundle, or the catalog.
async fn artists(
    global: &Global,
    known: HashMap<String, String>,
    answering: &[LoadedModel],
    playlists: &[TestPlaylist],
) -> anyhow::Result<HashMap<String, String>> {
    let mut artists = known;
    let mut ids: Vec<String> = playlists.iter().flat_map(|playlist| playlist.holdouts.clone()).collect();
    for answering in answering {
        let vocabulary = answering.completer().vocabulary();
        for row in 0..vocabulary.len() as u32 {
            let id = vocabulary.id(row).to_owned();
            match answering {
                LoadedModel::Completion(model) => artists.extend(model.names(row).1.map(|name| (id, name.to_owned()))),
                LoadedModel::Similarity(_) => ids.push(id),
            }
        }
    }
    ids.retain(|id| !artists.contains_key(id));
    if !ids.is_empty() {
        let catalog = global.catalog().await?;
        let names = track_names(&catalog, &ids).await?;
        artists.extend(names.into_iter().filter_map(|(id, track)| Some((id, track.artist?))));
        catalog.close().await;
    }
    Ok(artists)
}

async fn on_split(global: &Global, arguments: &CompletionArguments, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let similarity = match arguments.model.contains(&CompletionMethod::Track2vec) {
        true => Some(published_settings(&global.models())?),
        false => None,
    };
    let corpus = data::read(global, data::corpus).await?;
    let mut settings = arguments.settings.clone();
    settings.without_neumf |= !arguments.model.contains(&CompletionMethod::Neumf);
    let split = Split::new(&corpus, arguments.playlists as usize, settings.seed).map_err(anyhow::Error::msg)?;
    info!(held_out = split.held_out.len(), remaining = split.remaining.len(), "split the catalog's playlists");
    // Apart from the published bundles, which have seen all playlists.
    let folder = global.home.join("data/evaluation");
    let (models, interrupt) = (arguments.model.clone(), interrupt.clone());
    let evaluation = tokio::task::spawn_blocking(move || -> anyhow::Result<Report> {
        let rest = corpus.select(&split.remaining);
        let mut answering = Vec::new();
        for name in kinds(&models) {
            answering.push(match (name.kind(), &similarity) {
                (Kind::Similarity, Some(settings)) => {
                    let no_lists = NextTracksSettings { next_tracks: 0, next_trees: 1 };
                    train_similarity(&rest, settings, &no_lists, &folder, 1, &interrupt)?;
                    let (_, bundle) = SimilarityBundle::load_current(&folder)?;
                    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
                    LoadedModel::Similarity(Box::new(SimilarityModel::new(bundle)))
                }
                _ => LoadedModel::Completion(Box::new(learn_completion(&rest, &settings, &interrupt)?)),
            });
        }
        Ok(measure(&models, &answering, |vocabulary, counts, recommenders| {
            evaluate_split(&corpus, &split, vocabulary, counts, recommenders, &interrupt)
        })?)
    });
    evaluation.await?
}

/// The settings that the published similarity bundle was trained with.
fn published_settings(models: &Path) -> anyhow::Result<SimilaritySettings> {
    let published = BundleFolder::open_current(models, Kind::Similarity)?;
    serde_json::from_value(published.manifest().parameters["settings"].clone())
        .with_context(|| format!("the settings in {}", published.path("manifest.json").display()))
}

/// Trains in memory.
fn learn_completion(
    corpus: &Corpus,
    settings: &CompletionSettings,
    interrupt: &Interrupt,
) -> anyhow::Result<CompletionModel> {
    let members: Vec<u32> = (0..corpus.sequences.playlists.rows() as u32).collect();
    let trained = learn(corpus, &members, settings, RunContext::new(all_processors(), interrupt))?;
    Ok(CompletionModel::new(trained.into_bundle(corpus)?))
}

/// Measures `models`, each in the rows of the bundle that it answers from, and reports them in the order of `models`.
fn measure(
    models: &[CompletionMethod],
    answering: &[LoadedModel],
    evaluate: impl Fn(&Vocabulary, &[u32], &[Recommender<'_>]) -> Result<Report, EvaluateError>,
) -> Result<Report, EvaluateError> {
    let mut merged: Option<Report> = None;
    for answering in answering {
        let own = models.iter().filter(|name| name.kind() == answering.kind());
        let recommenders: Vec<Recommender<'_>> = own.map(|&name| answering.recommender(name)).collect();
        let report = evaluate(answering.completer().vocabulary(), &answering.completer().placements(), &recommenders)?;
        match &mut merged {
            None => merged = Some(report),
            Some(merged) => merged.models.extend(report.models),
        }
    }
    let mut merged = merged.ok_or(EvaluateError::Empty)?;
    merged.models.sort_by_key(|report| models.iter().position(|name| name.name() == report.name));
    Ok(merged)
}

impl output::Report for Report {
    fn text(&self) -> String {
        let mut metrics = Table::new(["seeds", "playlists", "model", "track R-prec", "R-prec", "NDCG", "clicks"]);
        for kind in self.kinds().map(Some).chain([None]) {
            for (number, model) in self.models.iter().enumerate() {
                let Some(of_kind) = kind.map_or(Some(&model.all), |kind| model.kinds.get(&kind)) else { continue };
                // The first model's line names the kind for the ones below it.
                let (seeds, playlists) = match number {
                    0 => (kind.map_or("all", SeedKind::as_str), count(of_kind.playlists)),
                    _ => ("", Cell::Number(String::new())),
                };
                let figures =
                    [of_kind.track_r_precision, of_kind.r_precision, of_kind.ndcg].map(|value| figure(value, 4));
                let cells = [seeds.into(), playlists, model.name.as_str().into()];
                metrics.row(cells.into_iter().chain(figures).chain([figure(of_kind.clicks, 3)]));
            }
        }
        let mut lists = Table::new([
            "model",
            "tracks in top 10",
            "of catalog %",
            "their placements",
            "artists in top 10 %",
            "median ms",
            "p95 ms",
            "p99 ms",
        ]);
        for model in &self.models {
            let (coverage, latency) = (&model.coverage_at_10, &model.latency_ms);
            lists.row([
                model.name.as_str().into(),
                count(coverage.tracks),
                figure(coverage.share * 100.0, 2),
                figure(model.mean_placements_at_10, 1),
                figure(model.distinct_artists_at_10 * 100.0, 1),
                figure(latency.median, 2),
                figure(latency.p95, 2),
                figure(latency.p99, 2),
            ]);
        }
        let (playlists, tracks) = (count(self.playlists), count(self.catalog_tracks));
        format!(
            "{playlists} playlists, {tracks} tracks to recommend\n\n{metrics}\n{lists}\nplacements of the held-out tracks: {:.1}",
            self.holdout_mean_placements
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::output::Report;
    use crate::evaluate::example_report;

    #[test]
    fn the_table_has_a_line_a_kind_and_model_in_the_challenges_order() {
        let table = example_report().text();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        let seeds: Vec<&str> =
            rows.iter().filter(|row| row.len() == 7 && row[1].parse::<usize>().is_ok()).map(|row| row[0]).collect();
        assert_eq!(seeds[..4], ["title", "first5", "title_random100", "all"], "{table}");
        assert!(rows.contains(&vec!["title", "50", "track2vec", "0.1000", "0.1200", "0.2123", "7.500"]), "{table}");
        assert!(rows.contains(&vec!["a&b", "0.0500", "0.0600", "0.1062", "15.000"]), "{table}");
        assert!(rows.contains(&vec!["track2vec", "900", "9.00", "120.0", "80.0", "1.50", "2.50", "9.00"]), "{table}");
    }
}
