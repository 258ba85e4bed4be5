//! Training for completions: the playlists laid out for retrieval, and a ranking learned over what the retrievers say.
//!
//! The ranking must be learned from playlists that the retrievers have not seen, or it would trust them too much. So the
//! playlists are dealt into folds; each fold is masked in the ten ways and asked about in an index of the other folds
//! ([`examples`]). The bundle then gets an index of all playlists.

pub mod examples;
pub mod index;
mod interaction_sampler;
pub mod neumf;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::info;

use self::examples::{Examples, Sampling};
use self::index::build_index;
use super::TrainError;
use super::als::AlsSettings;
use super::checkpoint::{file_error, put_in_place};
use super::completion::neumf::{NeumfSettings, train_neumf};
use super::gradient_boosting::{BoostingData, BoostingSettings, Objective, boost};
use crate::bundle::{
    BundleWriter, CompletionBundle, CompletionIndex, Kind, Manifest, NeumfBundle, NewManifest, Vocabulary,
};
use crate::dataset::{Corpus, Texts};
use crate::progress::{Interrupt, Progress};
use crate::recommend::rank::FEATURES;
use crate::scoring::oblivious_trees::ObliviousTrees;

/// Bins of a feature.
const BINS: usize = 64;
/// Fewer playlists than this make no ranking.
const FEWEST_PLAYLISTS: usize = 20;
/// How often the trees of a run under way are saved.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(20);

/// How to train for completions.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub struct CompletionSettings {
    /// Length of the tracks' factors
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(4..=512))]
    pub factors: u32,
    /// Passes of alternating least squares
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub als_iterations: u32,
    /// Weight of an observed cell of the playlist × track matrix above that of an unobserved one
    #[arg(long, default_value_t = 20.0)]
    pub als_alpha: f32,
    /// L2 penalty on the factors
    #[arg(long, default_value_t = 0.05)]
    pub als_regularization: f32,
    /// Parts that the playlists are dealt into to learn the ranking: each is asked about in an index of the others
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub folds: u32,
    /// Playlists to learn the ranking from, at most
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub ranking_playlists: u32,
    /// How often each of them is masked, each time another way
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub maskings: u32,
    /// Candidates of a playlist that were not in it, to learn the ranking from
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub negatives: u32,
    /// Trees that learn whether a candidate belongs to the playlist
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trees: u32,
    /// Trees that learn the order of candidates, added to the others
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub order_trees: u32,
    /// Questions a tree
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub depth: u32,
    /// Learning rate of the trees
    #[arg(long, default_value_t = 0.1)]
    pub tree_rate: f32,
    /// Random seed: the same data, settings and seed give the same bundle on the same machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Leave out NeuMF, which takes longest and is only asked by requests that name it
    #[arg(long)]
    pub without_neumf: bool,
    /// how to train NeuMF
    #[command(flatten)]
    pub neumf: NeumfSettings,
}

impl CompletionSettings {
    fn check(&self) -> Result<(), TrainError> {
        for (name, value) in [
            ("--als-alpha", self.als_alpha),
            ("--als-regularization", self.als_regularization),
            ("--tree-rate", self.tree_rate),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(TrainError::Settings(format!("{name} must be above 0")));
            }
        }
        Ok(())
    }

    fn als(&self, threads: usize) -> AlsSettings {
        AlsSettings {
            factors: self.factors as usize,
            iterations: self.als_iterations as usize,
            alpha: self.als_alpha,
            regularization: self.als_regularization,
            seed: self.seed,
            threads,
        }
    }

    fn boosting(&self, part: Part, threads: usize) -> BoostingSettings {
        let (trees, objective) = match part {
            Part::Belonging => (self.trees, Objective::Logistic),
            Part::Order => (self.order_trees, Objective::LambdaRank),
        };
        BoostingSettings {
            trees: trees as usize,
            depth: self.depth as usize,
            learning_rate: self.tree_rate,
            regularization: 5.0,
            bins: BINS,
            group_share: 0.5,
            feature_share: 0.4,
            objective,
            seed: self.seed,
            threads,
        }
    }
}

/// The ranking is the sum of two ensembles, each divided by the spread of its scores. They err in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Does a candidate belong to the playlist? One candidate by itself.
    Belonging,
    /// Which of two candidates comes first? Weighted by what NDCG it makes.
    Order,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Belonging => "belonging",
            Self::Order => "order",
        }
    }
}

/// What is learned from a corpus for completions.
#[derive(Debug)]
pub struct TrainedCompletion {
    /// the playlists laid out for retrieval
    pub index: CompletionIndex,
    /// the ranking
    pub trees: ObliviousTrees,
    /// NeuMF, unless the settings leave it out
    pub neumf: Option<NeumfBundle>,
    /// what was measured on the way
    pub metrics: serde_json::Value,
}

impl TrainedCompletion {
    /// With the names of `corpus`, which it was learned from.
    pub fn into_bundle(self, corpus: &Corpus) -> Result<CompletionBundle, TrainError> {
        Ok(CompletionBundle {
            vocabulary: Vocabulary::new(corpus.sequences.track_ids.iter().map(String::as_str))
                .map_err(TrainError::TooLittleData)?,
            track_names: Texts::new(corpus.track_names.iter().map(String::as_str)),
            artist_names: Texts::new(corpus.artist_names.iter().map(String::as_str)),
            index: self.index,
            trees: self.trees,
            neumf: self.neumf,
        })
    }
}

/// Trains on `corpus` and publishes a bundle below `models`.
///
/// Blocking, for minutes to hours. `interrupt` stops it; the same call goes on from there.
pub fn train_completion(
    corpus: &Corpus,
    settings: &CompletionSettings,
    models: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    check(settings, corpus.sequences.playlists.rows())?;
    let mut writer = BundleWriter::begin(models, Kind::Completion)?;
    let stages = Stages::open(models, settings, corpus)?;
    let members: Vec<u32> = (0..corpus.sequences.playlists.rows() as u32).collect();
    let trained = learn(corpus, &members, settings, threads, Some(&stages), interrupt)?;
    let metrics = trained.metrics.clone();
    let bundle = trained.into_bundle(corpus)?;
    bundle.write(&mut writer)?;
    let manifest = writer.publish(NewManifest {
        seed: settings.seed,
        parameters: serde_json::json!({ "model": "completion", "settings": settings, "features": FEATURES.as_slice() }),
        data: corpus.sequences.fingerprint.clone(),
        metrics,
    })?;
    stages.clear();
    Ok(manifest)
}

/// Learns from those of the corpus' playlists that `members` names. With `stages`, what is done is kept there, and a
/// run that was stopped goes on from it.
pub fn learn(
    corpus: &Corpus,
    members: &[u32],
    settings: &CompletionSettings,
    threads: usize,
    stages: Option<&Stages>,
    interrupt: &Interrupt,
) -> Result<TrainedCompletion, TrainError> {
    check(settings, members.len())?;
    let started = Instant::now();
    let trees = match stages.and_then(|stages| stages.trees("ranking")) {
        Some(trees) => trees,
        None => {
            let examples = collect(corpus, members, settings, threads, stages, interrupt)?;
            info!(playlists = examples.groups.len() - 1, candidates = examples.labels.len(), "learning the ranking");
            rank(examples, settings, threads, stages, interrupt)?
        }
    };
    let ranked = started.elapsed();
    let index = indexed(corpus, members, settings, threads, "index", interrupt)?;
    let mut metrics = serde_json::json!({
        "ranking_seconds": ranked.as_secs_f64().round(),
        "index_seconds": (started.elapsed() - ranked).as_secs_f64().round(),
    });
    let mut neumf = None;
    if !settings.without_neumf {
        // LibTorch's threads wait for each other spinning: on a busy machine more of them are slower.
        tch::set_num_threads(1);
        let resume_file = stages.map(|stages| stages.folder.join("neumf.safetensors"));
        let tracks = index.tracks();
        let trained = train_neumf(&index.playlists, tracks, &settings.neumf, resume_file.as_deref(), interrupt)?;
        metrics["neumf"] = serde_json::json!({ "loss": trained.loss, "train_seconds": trained.seconds.round() });
        neumf = Some(trained.bundle);
    }
    Ok(TrainedCompletion { index, trees, neumf, metrics })
}

/// That it makes sense to begin.
fn check(settings: &CompletionSettings, playlists: usize) -> Result<(), TrainError> {
    settings.check()?;
    if playlists < FEWEST_PLAYLISTS {
        return Err(TrainError::TooLittleData(format!(
            "completions are learned from {FEWEST_PLAYLISTS} or more playlists with tracks, the catalog has {playlists}; \
             import playlists first"
        )));
    }
    Ok(())
}

/// An index with progress, unless interrupted.
fn indexed(
    corpus: &Corpus,
    members: &[u32],
    settings: &CompletionSettings,
    threads: usize,
    what: &'static str,
    interrupt: &Interrupt,
) -> Result<CompletionIndex, TrainError> {
    let iterations = settings.als_iterations.into();
    let progress = Progress::start(what, iterations + 1);
    let index = build_index(corpus, members, &settings.als(threads), |done| {
        progress.at(done as u64, || match done as u64 {
            done if done < iterations => format!("least squares {done}/{iterations}"),
            _ => "vectors".to_owned(),
        });
        !interrupt.is_raised()
    });
    index.ok_or(TrainError::Stopped)
}

/// Examples of every fold.
fn collect(
    corpus: &Corpus,
    members: &[u32],
    settings: &CompletionSettings,
    threads: usize,
    stages: Option<&Stages>,
    interrupt: &Interrupt,
) -> Result<Examples, TrainError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut dealt = members.to_vec();
    dealt.shuffle(&mut rng);
    let folds = settings.folds as usize;
    let a_fold = (settings.ranking_playlists as usize).div_ceil(folds);
    let sampling = Sampling {
        maskings: settings.maskings as usize,
        negatives: settings.negatives as usize,
        threads,
        seed: settings.seed,
    };
    let mut all = Examples::default();
    for fold in 0..folds {
        if let Some(examples) = stages.and_then(|stages| stages.examples(fold)) {
            all.append(examples);
            continue;
        }
        let of_fold = |place: usize| place % folds == fold;
        let mut others: Vec<u32> =
            (0..dealt.len()).filter(|&place| !of_fold(place)).map(|place| dealt[place]).collect();
        others.sort_unstable();
        let own: Vec<u32> = (fold..dealt.len()).step_by(folds).take(a_fold).map(|place| dealt[place]).collect();
        let index = indexed(corpus, &others, settings, threads, "fold", interrupt)?;
        let examples = examples::collect(corpus, &index, &own, &sampling, interrupt).ok_or(TrainError::Stopped)?;
        info!(fold = fold + 1, of = folds, candidates = examples.labels.len(), "collected examples");
        if let Some(stages) = stages {
            stages.save_examples(fold, &examples)?;
        }
        all.append(examples);
    }
    if all.labels.iter().any(|&label| label) && all.labels.iter().any(|&label| !label) {
        Ok(all)
    } else {
        Err(TrainError::TooLittleData("the playlists have too few tracks in common to learn a ranking".to_owned()))
    }
}

fn rank(
    examples: Examples,
    settings: &CompletionSettings,
    threads: usize,
    stages: Option<&Stages>,
    interrupt: &Interrupt,
) -> Result<ObliviousTrees, TrainError> {
    /// Examples that the spread of scores is taken from.
    const SPREAD_SAMPLE: usize = 100_000;
    let width = FEATURES.len();
    let stride = (examples.labels.len() / SPREAD_SAMPLE).max(1);
    let sample: Vec<f32> = examples.features.chunks_exact(width).step_by(stride).flatten().copied().collect();
    let data = BoostingData::new(&examples.features, width, examples.labels, examples.groups, BINS);
    drop(examples.features);
    let mut ranking: Option<ObliviousTrees> = None;
    for part in [Part::Belonging, Part::Order] {
        let trees = boost_part(&data, part, settings, threads, stages, interrupt)?;
        let scores = trees.score(&sample);
        let mean = scores.iter().sum::<f32>() / scores.len() as f32;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / scores.len() as f32;
        let factor = 1.0 / variance.sqrt().max(1e-6);
        let ranking = ranking.get_or_insert_with(|| ObliviousTrees {
            binning: trees.binning.clone(),
            depth: trees.depth,
            ..ObliviousTrees::default()
        });
        ranking.append(&trees, factor);
    }
    let ranking = ranking.unwrap_or_default();
    if let Some(stages) = stages {
        stages.save_trees("ranking", &ranking)?;
    }
    Ok(ranking)
}

fn boost_part(
    data: &BoostingData,
    part: Part,
    settings: &CompletionSettings,
    threads: usize,
    stages: Option<&Stages>,
    interrupt: &Interrupt,
) -> Result<ObliviousTrees, TrainError> {
    let boosting = settings.boosting(part, threads);
    let begun = stages.and_then(|stages| stages.trees(part.name()));
    let progress = Progress::start("ranking", boosting.trees as u64);
    let (mut saved, mut failure) = (Instant::now(), None);
    let trees = boost(data, &boosting, begun, |trees| {
        progress.at(trees.trees() as u64, || format!("{}: tree {}/{}", part.name(), trees.trees(), boosting.trees));
        let stop = interrupt.is_raised();
        if let Some(stages) = stages
            && (stop || saved.elapsed() > CHECKPOINT_INTERVAL || trees.trees() == boosting.trees)
        {
            saved = Instant::now();
            failure = stages.save_trees(part.name(), trees).err();
        }
        !stop && failure.is_none()
    });
    match failure {
        Some(error) => Err(error),
        None if interrupt.is_raised() => Err(TrainError::Stopped),
        None => Ok(trees),
    }
}

/// What a run has done so far, in a hidden folder that belongs to these settings and these data.
#[derive(Debug)]
pub struct Stages {
    folder: PathBuf,
}

impl Stages {
    fn open(models: &Path, settings: &CompletionSettings, corpus: &Corpus) -> Result<Self, TrainError> {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(settings).unwrap_or_default());
        hash.update(&corpus.sequences.fingerprint.sha256);
        hash.update(FEATURES.concat());
        let key = hex::encode(hash.finalize());
        let folder = models.join(Kind::Completion.as_str()).join(format!(".resume-{}", &key[..16]));
        if folder.exists() {
            info!("going on with the training that was stopped");
        }
        fs::create_dir_all(&folder).map_err(|error| file_error(&folder, &error))?;
        Ok(Self { folder })
    }

    fn examples(&self, fold: usize) -> Option<Examples> {
        Examples::read(&fs::read(self.folder.join(format!("fold-{fold}"))).ok()?)
    }

    fn save_examples(&self, fold: usize, examples: &Examples) -> Result<(), TrainError> {
        self.save(&format!("fold-{fold}"), &examples.write())
    }

    fn trees(&self, name: &str) -> Option<ObliviousTrees> {
        serde_json::from_slice(&fs::read(self.folder.join(format!("{name}.json"))).ok()?).ok()
    }

    fn save_trees(&self, name: &str, trees: &ObliviousTrees) -> Result<(), TrainError> {
        let json = serde_json::to_vec(trees).map_err(|error| TrainError::Settings(error.to_string()))?;
        self.save(&format!("{name}.json"), &json)
    }

    /// Whole or not at all.
    fn save(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let (unfinished, path) = (self.folder.join(format!("{name}.unfinished")), self.folder.join(name));
        fs::write(&unfinished, bytes).map_err(|error| file_error(&path, &error))?;
        put_in_place(&unfinished, &path)
    }

    /// Once there is a bundle, what led to it is of no use.
    fn clear(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
