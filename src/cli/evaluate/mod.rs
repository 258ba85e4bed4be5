//! `segue evaluate`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use tracing::info;

use super::loaded_model::LoadedModel;
use super::train::all_processors;
use super::{Global, ReportFormat};
use crate::bundle::{BundleFolder, Kind, SimilarityBundle, Vocabulary};
use crate::dataset::Corpus;
use crate::evaluate::pictures::bars;
use crate::evaluate::{
    Challenge, EvaluateError, Recommender, Report, Split, TestPlaylist, TestSet, evaluate, evaluate_split,
};
use crate::progress::Interrupt;
use crate::recommend::SimilarityModel;
use crate::recommend::completion::CompletionModel;
use crate::recommend::dispatch::CompletionMethod;
use crate::train::RunContext;
use crate::train::completion::{CompletionSettings, learn};
use crate::train::similarity::{NextTracksSettings, SimilaritySettings, train_similarity};

/// Tracks whose names are asked for in one query.
const NAMES: usize = 20_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct EvaluateArguments {
    /// What to measure
    #[command(subcommand)]
    pub command: EvaluateCommand,
}

/// What can be evaluated.
#[derive(Debug, Subcommand)]
pub enum EvaluateCommand {
    /// Playlist completion by the metrics of the RecSys Challenge 2018: R-precision, NDCG, clicks
    #[command(
        after_help = "Examples:\n  segue evaluate completion --playlists 200 --seed 1 --plot metrics.png\n  segue evaluate completion --challenge challenge_set.json --truth truth.json.gz --format json\n\nOn a challenge set the published models answer. Without one, playlists of the catalog are withheld and models are trained on the rest: for completion with the settings given here, Track2Vec (where it is named) with those of the published bundle. What is published stays as it is."
    )]
    Completion(CompletionArguments),
    /// Models of ratings: errors on withheld ratings, and how high what users liked is ranked
    #[command(
        after_help = "Examples:\n  segue evaluate ratings\n  segue evaluate ratings --seed 0,1,2 --model gp,bias --format json\n\nRatings of the catalog are withheld at random and models are trained on the rest; what is published stays as it is."
    )]
    Ratings(super::ratings::EvaluateRatings),
    /// Models of click probability: how well they order listens, and how far their probabilities can be believed
    #[command(
        after_help = "Examples:\n  segue evaluate clicks --split time --format json\n  segue evaluate clicks --model deepfm,trees --variant transductive --plot reliability.png\n\nThe last listens, or ones drawn at random, are withheld and models are trained on the rest; what is published stays as\nit is. Nothing is chosen by what is withheld: models are stopped, calibrated and weighed by a part of the rest."
    )]
    Clicks(super::clicks::EvaluateClicks),
    /// Similar tracks: which track came next
    #[command(
        after_help = "Examples:\n  segue evaluate similarity --protocol next-track --format json\n  segue evaluate similarity --model next --ablation\n  segue evaluate similarity --model cosine,euclidean --dim 100 --epochs 3\n\nThe last track of every playlist with four or more is held out and the one before it asks. Models are trained on the\nrest; what is published stays as it is."
    )]
    Similarity(super::similarity::EvaluateSimilarity),
}

/// What to measure completion on, and how to report.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("seed", |seed| seed.help("The same seed withholds the same playlists, and trains the same model on the others")),
    // On a challenge set nothing is trained.
    mut_args(trained_only)
)]
pub struct CompletionArguments {
    /// Challenge set in the form of challenge_set.json of the RecSys Challenge 2018; may be gzip
    #[arg(long, value_name = "FILE", requires = "truth")]
    pub challenge: Option<PathBuf>,
    /// What it withholds: {pid: {"category": kind of seeds, "holdouts": [track_uri, …]}}
    #[arg(long, value_name = "FILE", requires = "challenge")]
    pub truth: Option<PathBuf>,
    /// Number of the catalog's playlists to withhold, a tenth for each kind of seeds
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "challenge")]
    pub playlists: u32,
    /// Models to compare
    #[arg(
        long, value_enum, value_delimiter = ',',
        default_values = ["ranking", "playlist-knn", "item-knn", "als", "title", "popularity"]
    )]
    pub model: Vec<CompletionMethod>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// Also draw the report: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", value_parser = picture_file)]
    pub plot: Option<PathBuf>,
    /// how to train on what is not withheld
    #[command(flatten)]
    pub settings: CompletionSettings,
}

/// How to train and what to withhold says nothing about a challenge set, which the published models answer.
fn trained_only(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "challenge" | "truth" | "model" | "format" | "plot" => argument,
        _ => argument.conflicts_with("challenge"),
    }
}

pub(super) fn picture_file(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => Ok(path),
        _ => Err("pictures are written as .svg or .png".to_owned()),
    }
}

pub(super) async fn run(
    global: &Global,
    arguments: EvaluateArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let arguments = match arguments.command {
        EvaluateCommand::Completion(arguments) => arguments,
        EvaluateCommand::Clicks(arguments) => return super::clicks::evaluate(global, arguments, interrupt).await,
        EvaluateCommand::Ratings(arguments) => return super::ratings::evaluate(global, arguments, interrupt).await,
        EvaluateCommand::Similarity(arguments) => {
            return super::similarity::evaluate(global, arguments, interrupt).await;
        }
    };
    let report = match (&arguments.challenge, &arguments.truth) {
        (Some(challenge), Some(truth)) => on_challenge(global, challenge, truth, &arguments.model, interrupt).await?,
        _ => on_split(global, &arguments, interrupt).await?,
    };
    match arguments.format {
        ReportFormat::Table => println!("{report}"),
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    if let Some(path) = &arguments.plot {
        draw(&report, path).with_context(|| path.display().to_string())?;
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
            evaluate(&TestSet::new(&playlists, vocabulary, counts, &artists), recommenders, &interrupt)
        })
    });
    Ok(evaluation.await??)
}

/// Names of the artists of all tracks that can be recommended or are withheld, by id of track: what the challenge set
/// says (`known`), then what a completion bundle says, then what the catalog says.
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
                LoadedModel::Completion(model) => drop(artists.insert(id, model.names(row).1.to_owned())),
                LoadedModel::Similarity(_) => ids.push(id),
            }
        }
    }
    ids.retain(|id| !artists.contains_key(id));
    if !ids.is_empty() {
        let catalog = global.catalog().await?;
        for ids in ids.chunks(NAMES) {
            artists.extend(catalog.track_names(ids).await?.into_iter().map(|(id, track)| (id, track.artist)));
        }
        catalog.close().await;
    }
    Ok(artists)
}

async fn on_split(global: &Global, arguments: &CompletionArguments, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let similarity = match arguments.model.contains(&CompletionMethod::Track2vec) {
        true => Some(published_settings(&global.models())?),
        false => None,
    };
    let catalog = global.catalog().await?;
    let corpus = Corpus::load(&catalog).await?;
    catalog.close().await;
    let mut settings = arguments.settings.clone();
    settings.without_neumf |= !arguments.model.contains(&CompletionMethod::Neumf);
    let split = Split::new(&corpus, arguments.playlists as usize, settings.seed).map_err(anyhow::Error::msg)?;
    info!(held_out = split.held_out.len(), remaining = split.remaining.len(), "split the catalog's playlists");
    // Apart from what is published, which has seen all playlists.
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

/// In memory: nothing of it is to stay.
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

fn draw(report: &Report, path: &Path) -> anyhow::Result<()> {
    write_picture(path, &bars::svg(report))
}

/// Writes a picture made as SVG, as the file's name says.
pub(super) fn write_picture(path: &Path, svg: &str) -> anyhow::Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension == "png");
    let picture = if is_png { bars::png(svg).map_err(anyhow::Error::msg)? } else { svg.as_bytes().to_vec() };
    Ok(std::fs::write(path, picture)?)
}
