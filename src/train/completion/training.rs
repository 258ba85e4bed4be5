//! The training for completions: the playlists laid out for retrieval, and a ranking learned over what the retrievers
//! find.
//!
//! The ranking must be learned from playlists that the retrievers have not seen, or it would trust them too much. So the
//! playlists are dealt into folds; each fold is masked in the ten ways and is queried in an index of the other folds
//! ([`super::examples`]). The bundle then gets an index of all playlists. Of a large catalog, a few of the playlists are
//! enough for the ranking: they are held out of one index, and the bundle's index takes over the embeddings of that one.

use std::path::Path;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use tracing::info;

use super::examples::{collect_examples, mask_all};
use super::index::{Embeddings, build_index, forget_embeddings};
use super::neumf::train_neumf;
use super::settings::{BINS, CompletionSettings, Ensemble};
use crate::bundle::{
    BundleWriter, CompletionBundle, CompletionIndex, Kind, Manifest, NeumfBundle, NewManifest, Vocabulary,
};
use crate::dataset::{Corpus, Texts};
use crate::progress::{Interrupt, Progress};
use crate::recommend::rank::FEATURES;
use crate::scoring::oblivious_trees::ObliviousTrees;
use crate::train::checkpoint::{Checkpoint, RunContext, SAVE_INTERVAL, StateFile};
use crate::train::error::TrainError;
use crate::train::gradient_boosting::{BoostingData, Examples, boost_kept};
use crate::train::parallel::load_collected;

/// Fewer playlists than this make no ranking.
const FEWEST_PLAYLISTS: usize = 20;

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
/// Blocking, for minutes to hours. `interrupt` stops it; the same call continues from there.
pub fn train_completion(
    corpus: &Corpus,
    settings: &CompletionSettings,
    models: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    check(settings, corpus.sequences.playlists.rows())?;
    let mut writer = BundleWriter::begin(models, Kind::Completion)?;
    let checkpoint =
        Checkpoint::open(models, Kind::Completion, &(settings, FEATURES.as_slice()), &corpus.sequences.fingerprint)?;
    let members: Vec<u32> = (0..corpus.sequences.playlists.rows() as u32).collect();
    let context = RunContext::new(threads, interrupt).kept_in(&checkpoint);
    let trained = learn(corpus, &members, settings, context)?;
    let metrics = trained.metrics.clone();
    let bundle = trained.into_bundle(corpus)?;
    bundle.write(&mut writer)?;
    let manifest = writer.publish(NewManifest {
        seed: settings.seed,
        parameters: serde_json::json!({ "model": "completion", "settings": settings, "features": FEATURES.as_slice() }),
        data: corpus.sequences.fingerprint.clone(),
        metrics,
    })?;
    checkpoint.delete();
    Ok(manifest)
}

/// Learns from those of the corpus' playlists that `members` names.
pub fn learn(
    corpus: &Corpus,
    members: &[u32],
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<TrainedCompletion, TrainError> {
    check(settings, members.len())?;
    let started = Instant::now();
    let ranking: Option<ObliviousTrees> = context.load_kept("ranking")?;
    let (examples, embeddings) = if settings.holds_out(members.len()) {
        let dealt = deal(members, settings);
        let (own, others) = dealt.split_at(settings.ranking_playlists as usize);
        let (embeddings, examples) = hold_out(corpus, own, others.to_vec(), true, settings, context.part("held-out"))?;
        (examples, Some(embeddings))
    } else if ranking.is_some() {
        (Examples::default(), None)
    } else {
        (collect(corpus, members, settings, context)?, None)
    };
    let trees = match ranking {
        Some(trees) => trees,
        None => {
            check_examples(&examples)?;
            info!(playlists = examples.groups.len() - 1, candidates = examples.labels.len(), "learning the ranking");
            rank(examples, settings, context)?
        }
    };
    let ranked = started.elapsed();
    let als = settings.als(context.threads);
    let index = build_index(corpus, members, &als, "index", embeddings, context.part("index"))?;
    let mut metrics = serde_json::json!({
        "ranking_seconds": ranked.as_secs_f64().round(),
        "index_seconds": (started.elapsed() - ranked).as_secs_f64().round(),
    });
    let mut neumf = None;
    if !settings.without_neumf {
        // LibTorch's threads wait for each other spinning: on a busy machine more of them are slower.
        tch::set_num_threads(1);
        let trained = train_neumf(&index.playlists, index.tracks(), &settings.neumf, context)?;
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

/// The members in random order.
fn deal(members: &[u32], settings: &CompletionSettings) -> Vec<u32> {
    let mut dealt = members.to_vec();
    dealt.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(settings.seed));
    dealt
}

/// Learns embeddings from the playlists `others`, and collects examples of `own`, which they do not know.
///
/// The embeddings are empty unless they are `wanted`.
fn hold_out(
    corpus: &Corpus,
    own: &[u32],
    mut others: Vec<u32>,
    wanted: bool,
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<(Embeddings, Examples), TrainError> {
    let started = Instant::now();
    let masked = mask_all(corpus, own, settings);
    let file = context.file("embeddings");
    let mut embeddings = Embeddings::default();
    let are_there = file.as_ref().map_or(Ok(false), |file| file.load(embeddings.state()))?;
    if (are_there || !wanted)
        && let Some(examples) = load_collected("examples", masked.len(), &["fold", "examples"], context)?
    {
        return Ok((embeddings, examples));
    }
    others.sort_unstable();
    let given = are_there.then_some(embeddings);
    let index = build_index(corpus, &others, &settings.als(context.threads), "fold", given, context)?;
    if let Some(file) = file.filter(|_| !are_there && started.elapsed() > SAVE_INTERVAL) {
        file.save(Embeddings::of(&index).state())?;
    }
    let examples = collect_examples(&index, &masked, settings, context)?;
    forget_embeddings(context);
    Ok((if wanted { Embeddings::of(&index) } else { Embeddings::default() }, examples))
}

/// Examples of every fold.
fn collect(
    corpus: &Corpus,
    members: &[u32],
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<Examples, TrainError> {
    let dealt = deal(members, settings);
    let folds = settings.folds as usize;
    let a_fold = (settings.ranking_playlists as usize).div_ceil(folds);
    let mut all = Examples::default();
    for fold in 0..folds {
        let part = format!("fold-{fold}");
        let own: Vec<u32> = (fold..dealt.len()).step_by(folds).take(a_fold).map(|place| dealt[place]).collect();
        let others = (0..dealt.len()).filter(|place| place % folds != fold).map(|place| dealt[place]).collect();
        let context = context.part(&part);
        let (_, examples) = hold_out(corpus, &own, others, false, settings, context)?;
        context.file("embeddings").inspect(StateFile::delete);
        info!(fold = fold + 1, of = folds, candidates = examples.labels.len(), "collected examples");
        all.append(examples);
    }
    Ok(all)
}

/// That there is something to tell apart.
fn check_examples(examples: &Examples) -> Result<(), TrainError> {
    if examples.labels.iter().any(|&label| label) && examples.labels.iter().any(|&label| !label) {
        Ok(())
    } else {
        Err(TrainError::TooLittleData("the playlists have too few tracks in common to learn a ranking".to_owned()))
    }
}

fn rank(
    examples: Examples,
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<ObliviousTrees, TrainError> {
    /// Examples that the spread of scores is taken from.
    const SPREAD_SAMPLE: usize = 100_000;
    let width = FEATURES.len();
    let stride = (examples.labels.len() / SPREAD_SAMPLE).max(1);
    let sample: Vec<f32> = examples.features.chunks_exact(width).step_by(stride).flatten().copied().collect();
    let data = BoostingData::new(examples, width, BINS);
    let mut ranking: Option<ObliviousTrees> = None;
    for ensemble in [Ensemble::Belonging, Ensemble::Order] {
        let trees = boost_ensemble(&data, ensemble, settings, context)?;
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
    context.keep("ranking", &ranking)?;
    Ok(ranking)
}

fn boost_ensemble(
    data: &BoostingData,
    ensemble: Ensemble,
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<ObliviousTrees, TrainError> {
    let (name, boosting) = (ensemble.name(), settings.boosting(ensemble, context.threads));
    let progress = Progress::start("ranking", boosting.trees as u64);
    boost_kept(data, &boosting, name, context, |trees| {
        progress.at(trees as u64, || format!("{name}: tree {trees}/{}", boosting.trees));
    })
}
