//! `segue evaluate`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use tracing::info;

use super::{Global, ReportFormat};
use crate::bundle::{BundleFolder, Kind, SimilarityBundle, Vocabulary};
use crate::catalog::Catalog;
use crate::dataset::Corpus;
use crate::evaluate::{Challenge, Recommender, Report, Split, TestPlaylist, TestSet, evaluate, evaluate_split, plot};
use crate::progress::Interrupt;
use crate::recommend::{Recommended, SimilarityModel};
use crate::train::similarity::{SimilaritySettings, train_similarity};

/// Tracks whose names are asked for in one query.
const NAMES: usize = 20_000;

/// What can be evaluated.
#[derive(Debug, Subcommand)]
pub enum EvaluateCommand {
    /// Playlist completion by the metrics of the RecSys Challenge 2018: R-precision, NDCG, clicks
    #[command(
        after_help = "Examples:\n  segue evaluate completion --playlists 200 --seed 1 --plot metrics.png\n  segue evaluate completion --challenge challenge_set.json --truth truth.json.gz --format json\n\nOn a challenge set the published models answer. Without one, playlists of the catalog are withheld, and Track2Vec is trained on the rest with the settings of the published bundle; what is published stays as it is. Ctrl-C stops it; the same command goes on from there."
    )]
    Completion(CompletionArguments),
}

/// What to measure completion on, and how to report.
#[derive(Debug, clap::Args)]
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
    /// The same seed withholds the same playlists
    #[arg(long, default_value_t = 1, conflicts_with = "challenge")]
    pub seed: u64,
    /// Models to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["track2vec", "popularity"])]
    pub model: Vec<CompletionModel>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// Also draw the report: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", value_parser = picture_file)]
    pub plot: Option<PathBuf>,
}

/// Models that complete playlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionModel {
    /// track vectors
    Track2vec,
    /// the most popular tracks for everyone
    Popularity,
}

impl CompletionModel {
    /// This model over a similarity bundle.
    pub(super) fn recommender(self, model: &SimilarityModel) -> Recommender<'_> {
        let rows = |list: Vec<Recommended>| list.into_iter().map(|track| track.row).collect();
        match self {
            Self::Track2vec => Recommender::new("track2vec", move |playlists| {
                model.complete(playlists).into_iter().map(rows).collect()
            }),
            Self::Popularity => Recommender::new("popularity", move |playlists| {
                let popular = playlists.iter().map(|playlist| {
                    model.popular(&[playlist.seeds.as_slice(), playlist.excluded.as_slice()].concat(), playlist.limit)
                });
                popular.map(rows).collect()
            }),
        }
    }
}

fn picture_file(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => Ok(path),
        _ => Err("pictures are written as .svg or .png".to_owned()),
    }
}

pub(super) async fn run(global: &Global, command: EvaluateCommand, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let EvaluateCommand::Completion(arguments) = command;
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

async fn on_challenge(
    global: &Global,
    challenge: &Path,
    truth: &Path,
    models: &[CompletionModel],
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let challenge = Challenge::read(challenge)?;
    let playlists = challenge.read_truth(truth)?;
    let (manifest, bundle) = SimilarityBundle::load_current(&global.models())?;
    info!(version = manifest.version, "evaluating the similarity bundle");
    let catalog = global.catalog().await?;
    let mut artists = challenge.artists;
    add_artists(&catalog, &mut artists, &bundle.vocabulary, &playlists).await?;
    catalog.close().await;
    let (models, interrupt) = (models.to_vec(), interrupt.clone());
    let evaluation = tokio::task::spawn_blocking(move || {
        let artists = artists.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        let test = TestSet::new(&playlists, &bundle.vocabulary, &bundle.counts, &artists);
        let model = SimilarityModel::new(bundle);
        evaluate(&test, &recommenders(&models, &model), &interrupt)
    });
    Ok(evaluation.await??)
}

/// Names of the artists of all tracks that can be recommended or are withheld, where the catalog knows them.
async fn add_artists(
    catalog: &Catalog,
    artists: &mut HashMap<String, String>,
    vocabulary: &Vocabulary,
    playlists: &[TestPlaylist],
) -> anyhow::Result<()> {
    let rows = (0..vocabulary.len() as u32).map(|row| vocabulary.id(row).to_owned());
    let ids: Vec<String> = rows.chain(playlists.iter().flat_map(|playlist| playlist.holdouts.clone())).collect();
    for ids in ids.chunks(NAMES) {
        artists.extend(catalog.track_names(ids).await?.into_iter().map(|(id, track)| (id, track.artist)));
    }
    Ok(())
}

async fn on_split(global: &Global, arguments: &CompletionArguments, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let published = BundleFolder::open_current(&global.models(), Kind::Similarity)?;
    let settings: SimilaritySettings = serde_json::from_value(published.manifest().parameters["settings"].clone())
        .with_context(|| format!("the settings in {}", published.path("manifest.json").display()))?;
    let catalog = global.catalog().await?;
    let corpus = Corpus::load(&catalog).await?;
    catalog.close().await;
    let split = Split::new(&corpus, arguments.playlists as usize, arguments.seed).map_err(anyhow::Error::msg)?;
    info!(withheld = split.withheld.len(), remaining = split.remaining.len(), "split the catalog's playlists");
    // Apart from what is published, which has seen all playlists.
    let folder = global.home.join("data/evaluation");
    let (models, interrupt) = (arguments.model.clone(), interrupt.clone());
    let evaluation = tokio::task::spawn_blocking(move || -> anyhow::Result<Report> {
        train_similarity(&corpus.select(&split.remaining).sequences, &settings, &folder, 1, &interrupt)?;
        let (_, bundle) = SimilarityBundle::load_current(&folder)?;
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let counts = bundle.counts.clone();
        let model = SimilarityModel::new(bundle);
        let recommenders = recommenders(&models, &model);
        Ok(evaluate_split(&corpus, &split, model.vocabulary(), &counts, &recommenders, &interrupt)?)
    });
    evaluation.await?
}

fn recommenders<'a>(models: &[CompletionModel], model: &'a SimilarityModel) -> Vec<Recommender<'a>> {
    models.iter().map(|name| name.recommender(model)).collect()
}

fn draw(report: &Report, path: &Path) -> anyhow::Result<()> {
    let svg = plot::svg(report);
    let is_png = path.extension().is_some_and(|extension| extension == "png");
    let picture = if is_png { plot::png(&svg).map_err(anyhow::Error::msg)? } else { svg.into_bytes() };
    Ok(std::fs::write(path, picture)?)
}
