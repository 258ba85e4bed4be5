//! The training of Track2Vec: from playlists to vectors, and from these to a published bundle with the lists of what comes
//! next.

use std::path::Path;

use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;
use tch::Tensor;
use tracing::info;

use super::pair_sampler::{PairSampler, PairSampling};
use super::settings::{NextTracksSettings, SimilaritySettings};
use super::track2vec::{Architecture, PairBatch, Track2Vec};
use crate::bundle::{BundleWriter, Kind, Manifest, NewManifest, NextTracks, SimilarityBundle, Vocabulary};
use crate::dataset::{Corpus, HeldOutSequences, Sequences};
use crate::evaluate::next_track::{Distance, NextTrackMetrics, rank_by_vectors};
use crate::math::{Csr, even_sample};
use crate::progress::Interrupt;
use crate::train::checkpoint::{Checkpoint, RunContext};
use crate::train::epochs::{BatchLoss, Learner, LearnerState, LearningRate, Run, Schedule};
use crate::train::error::TrainError;
use crate::train::next_track::{Placements, learn, measure, rank};
use crate::train::optimizer::{Optimizer, RowOptimizer, StepRates};
use crate::train::sampling::Sampler;

/// Batches that accuracy is measured on.
const ACCURACY_BATCHES: usize = 50;
/// Queries that vectors and lists are measured on, at most: each is compared with all tracks.
const MEASURED: usize = 10_000;
/// With a larger value in a vector, the square of its length is no longer a number.
const LARGEST_VALUE: f32 = 1e15;
/// Names of the network's tables in checkpoints.
const TABLES: [&str; 2] = ["target.weight", "context.weight"];

/// Trains on `corpus` and publishes a bundle below `models`.
///
/// Blocking, for seconds to hours. `interrupt` stops it at the end of a batch.
pub fn train_similarity(
    corpus: &Corpus,
    settings: &SimilaritySettings,
    next: &NextTracksSettings,
    models: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    settings.check()?;
    let sequences = &corpus.sequences;
    let mut held_out = sequences.hold_out_last(settings.min_count);
    held_out.queries = even_sample(&held_out.queries, MEASURED).copied().collect();
    let sampler = sampler(&held_out, settings)?;
    let mut writer = BundleWriter::begin(models, Kind::Similarity)?;
    let checkpoint = Checkpoint::open(models, Kind::Similarity, &(settings, next), &sequences.fingerprint)?;
    let context = RunContext::new(threads, interrupt).kept_in(&checkpoint);

    let (run, fitted) = train(&held_out, settings, &sampler, Some("training"), context, |_| ())?;
    let ranks = rank_by_vectors(&fitted.vectors, &fitted.lengths, Distance::Cosine, &held_out.queries, 10);
    let metrics = ranks.at_10();
    let train_seconds = fitted.seconds;
    info!(
        hit_at_10 = metrics.hit_at_10,
        ndcg_at_10 = metrics.ndcg_at_10,
        queries = metrics.queries,
        train_seconds,
        "trained vectors"
    );
    let lists = match next.next_tracks {
        0 => None,
        _ => next_tracks(corpus, &held_out, settings.seed, next, context)?,
    };
    let (next_lists, next_metrics) = lists.unzip();
    let bundle = SimilarityBundle {
        vocabulary: Vocabulary::new(sequences.track_ids.iter().map(String::as_str))
            .map_err(TrainError::TooLittleData)?,
        vectors: fold_in(fitted.vectors, settings, sequences),
        dimensions: settings.dim as usize,
        counts: sequences.counts.clone(),
        candidates: held_out.vocabulary,
        next: next_lists,
    };
    bundle.write(&mut writer, |path| {
        Tensor::write_safetensors(&run.learner.tensors(), path).map_err(|error| error.to_string())
    })?;
    let record = |metrics| MetricsRecord { protocol: PROTOCOL, metrics };
    let manifest = writer.publish(NewManifest {
        seed: settings.seed,
        parameters: serde_json::json!({ "model": "track2vec", "settings": settings, "next": next }),
        data: sequences.fingerprint.clone(),
        metrics: serde_json::json!({
            "next_track": record(metrics),
            "next_track_lists": next_metrics.map(record),
            "final_loss": fitted.loss,
            "accuracy": fitted.accuracy,
            "epochs": fitted.epochs,
            "train_seconds": train_seconds,
        }),
    })?;
    checkpoint.delete();
    Ok(manifest)
}

/// Learns from the playlists without their last tracks, measures on these, and makes the lists from whole playlists.
/// `None` when no playlist is long enough to learn from.
fn next_tracks(
    corpus: &Corpus,
    held_out: &HeldOutSequences,
    seed: u64,
    next: &NextTracksSettings,
    context: RunContext<'_>,
) -> Result<Option<(NextTracks, NextTrackMetrics)>, TrainError> {
    let vocabulary = held_out.vocabulary;
    let trees = match learn(corpus, &held_out.playlists, vocabulary, next.next_trees, seed, &[], context) {
        Err(TrainError::TooLittleData(reason)) => {
            info!(reason, "no lists of what comes next");
            return Ok(None);
        }
        trees => trees?,
    };
    let placements = Placements::new(&held_out.playlists, &corpus.artist_of, &corpus.album_of, vocabulary);
    let metrics = measure(&placements, &trees, &held_out.queries, 10, context)?.at_10();
    info!(hit_at_10 = metrics.hit_at_10, ndcg_at_10 = metrics.ndcg_at_10, "learned what comes next");
    // As in training, without the tracks that are too rare to be recommended.
    let common = |row: &u32| (*row as usize) < vocabulary;
    let playlists = Csr::from_lists(corpus.sequences.playlists.iter().map(|rows| rows.iter().copied().filter(common)));
    let placements = Placements::new(&playlists, &corpus.artist_of, &corpus.album_of, vocabulary);
    let tracks: Vec<u32> = (0..vocabulary as u32).collect();
    let lists = rank(&placements, &trees, &tracks, next.next_tracks as usize, "next", context)?;
    Ok(Some((NextTracks::new(&lists), metrics)))
}

const PROTOCOL: &str = "last track of each playlist held out, queried with the one before it, ten thousand of them at most, \
                        every trained track ranked";

#[derive(Serialize)]
struct MetricsRecord {
    protocol: &'static str,
    #[serde(flatten)]
    metrics: NextTrackMetrics,
}

fn sampler<'a>(data: &'a HeldOutSequences, settings: &SimilaritySettings) -> Result<PairSampler<'a>, TrainError> {
    let sampling = PairSampling {
        window: settings.window as usize,
        subsample: settings.subsample,
        exponent: settings.alpha,
        batch: settings.batch as usize,
        pool: settings.pool as usize,
        one_table: settings.architecture == Architecture::Cosine,
        seed: settings.seed,
    };
    PairSampler::new(data, sampling).ok_or_else(|| {
        TrainError::TooLittleData(format!(
            "the catalog has no track with {} or more placements to learn from; import playlists first",
            settings.min_count
        ))
    })
}

/// What training made of the tracks.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// `[vocabulary, dim]`, each of length 1; zero for tracks that training never saw
    pub vectors: Vec<f32>,
    /// the vectors' lengths before they were normalized
    pub lengths: Vec<f32>,
    /// mean loss of a pair in the last epoch
    pub loss: f64,
    /// share of pairs, and of their negatives, that the sigmoid puts on the right side of one half; negatives count as
    /// many times as `negatives` says
    pub accuracy: f64,
    /// passes over the playlists
    pub epochs: usize,
    /// seconds spent training
    pub seconds: f64,
}

/// Learns vectors from `data` and publishes nothing. Shows progress as that of `stage`, and calls `after_epoch` after
/// every epoch.
///
/// # Errors
///
/// [`TrainError::TooLittleData`] without a track to learn from, [`TrainError::Diverged`], and
/// [`TrainError::Interrupted`] when the person asked to stop.
pub fn fit(
    data: &HeldOutSequences,
    settings: &SimilaritySettings,
    stage: Option<&'static str>,
    context: RunContext<'_>,
    after_epoch: impl FnMut(&Run<VectorLearner<'_>>),
) -> Result<Fitted, TrainError> {
    Ok(train(data, settings, &sampler(data, settings)?, stage, context, after_epoch)?.1)
}

/// The stage of Track2Vec, of which a run keeps the state.
pub const VECTORS: &str = "vectors";

/// How many pairs an epoch has.
pub fn expected_pairs(data: &HeldOutSequences, settings: &SimilaritySettings) -> Result<f64, TrainError> {
    Ok(sampler(data, settings)?.examples())
}

fn train<'a>(
    data: &'a HeldOutSequences,
    settings: &'a SimilaritySettings,
    sampler: &PairSampler<'a>,
    stage: Option<&'static str>,
    context: RunContext<'_>,
    after_epoch: impl FnMut(&Run<VectorLearner<'_>>),
) -> Result<(Run<VectorLearner<'a>>, Fitted), TrainError> {
    let epochs = settings.epochs_of(sampler.examples().max(1.0));
    let schedule = Schedule { epochs, rate: LearningRate::Linear(settings.learning_rate), early_stop: None };
    let mut run = Run::new(VectorLearner::new(settings, data, context.threads), schedule);
    run.train(sampler, stage, context.file(VECTORS).as_ref(), context.interrupt, after_epoch)?;
    let (vectors, lengths) = run.learner.vectors();
    let accuracy = run.learner.accuracy(sampler, epochs);
    let fitted = Fitted { vectors, lengths, loss: run.loss(), accuracy, epochs, seconds: run.seconds() };
    Ok((run, fitted))
}

/// Track2Vec and its optimizer.
#[derive(Debug)]
pub struct VectorLearner<'a> {
    settings: &'a SimilaritySettings,
    data: &'a HeldOutSequences,
    threads: usize,
    model: Track2Vec,
    tables: Vec<RowOptimizer>,
    unit: RowOptimizer,
}

impl<'a> VectorLearner<'a> {
    fn new(settings: &'a SimilaritySettings, data: &'a HeldOutSequences, threads: usize) -> Self {
        let dimensions = settings.dim as usize;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let spread = 0.5 / (dimensions as f32).sqrt();
        // A finite positive spread is the one condition of Normal, and `dim` is at least 1.
        let initial: Vec<f32> = Normal::new(0.0, spread)
            .map(|law| law.sample_iter(&mut rng).take(data.vocabulary * dimensions).collect())
            .unwrap_or_default();
        let model = Track2Vec::new(settings.architecture, data.vocabulary, dimensions, initial);
        let adam = |values: usize| RowOptimizer::new(Optimizer::Adam, values);
        let tables = model.tables.iter().map(|table| adam(table.len())).collect();
        let unit = adam(model.unit.len());
        Self { settings, data, threads, model, tables, unit }
    }

    /// `[vocabulary * dimensions]` values, rows of length 1, and their lengths before that; zero for tracks that training
    /// never saw.
    pub fn vectors(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut vectors, mut lengths) = self.model.normalized_vectors();
        let rows = vectors.chunks_exact_mut(self.model.dimensions()).zip(&mut lengths);
        for ((vector, length), &count) in rows.zip(&self.data.counts) {
            if count == 0 {
                vector.fill(0.0);
                *length = 0.0;
            }
        }
        (vectors, lengths)
    }

    /// The accuracy over batches of `epoch`, which training never saw.
    fn accuracy(&self, sampler: &PairSampler<'_>, epoch: usize) -> f64 {
        let (mut batches, mut correct, mut all) = (0, 0.0, 0.0);
        sampler.epoch(epoch, |batch| {
            let (batch_correct, batch_all) = self.model.accuracy(&batch, f64::from(self.settings.negatives));
            (correct, all) = (correct + batch_correct, all + batch_all);
            batches += 1;
            batches < ACCURACY_BATCHES
        });
        correct / all
    }

    /// The network's tensors by name, tables as `[tracks, dimensions]`.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        let shape = [-1, self.model.dimensions() as i64];
        let tables = TABLES.iter().zip(&self.model.tables);
        let mut tensors: Vec<(String, Tensor)> =
            tables.map(|(name, table)| ((*name).to_owned(), Tensor::from_slice(table).reshape(shape))).collect();
        tensors.push(("unit".to_owned(), Tensor::from_slice(&self.model.unit)));
        tensors
    }
}

impl<'a> Learner for VectorLearner<'a> {
    type Sampler = PairSampler<'a>;
    const UNIT: &'static str = "pairs";
    const STOPS_WITHIN_EPOCHS: bool = true;

    fn step(&mut self, batch: &PairBatch, learning_rate: f64, step: u64) -> BatchLoss {
        let gradients = self.model.gradients(batch, self.settings.negatives as f32, self.threads);
        let (of_targets, of_contexts) = gradients.slots.split_at(batch.target_rows.len() * gradients.stride);
        let lists = [(&batch.target_rows, of_targets), (&batch.context_rows, of_contexts)];
        let (width, rates) = (self.model.dimensions(), StepRates::adam(learning_rate, step));
        for ((table, adam), (rows, gradient)) in self.model.tables.iter_mut().zip(&mut self.tables).zip(lists) {
            adam.step(table, width, rows, gradient, 0.0, rates);
        }
        if self.settings.architecture == Architecture::Cosine {
            self.unit.step(&mut self.model.unit, 2, &[0], &gradients.unit, 0.0, rates);
        }
        BatchLoss { mean: gradients.loss, examples: batch.targets.len() }
    }

    /// Scores are bounded, so the loss is too.
    fn is_broken(&self) -> bool {
        self.model.tables.iter().flatten().any(|value| value.is_nan() || value.abs() > LARGEST_VALUE)
    }

    fn state(&mut self) -> LearnerState<'_> {
        let mut state = LearnerState::default();
        for ((name, table), adam) in TABLES.iter().zip(&mut self.model.tables).zip(&mut self.tables) {
            state.add(name, table, [&mut adam.first, &mut adam.second]);
        }
        state.add("unit", &mut self.model.unit, [&mut self.unit.first, &mut self.unit.second]);
        state
    }
}

/// Gives every other track of the catalog the mean of its neighbours' vectors, so that it can be a query.
fn fold_in(trained: Vec<f32>, settings: &SimilaritySettings, sequences: &Sequences) -> Vec<f32> {
    let (dimensions, window) = (settings.dim as usize, settings.window as usize);
    let mut vectors = trained;
    let is_trained: Vec<bool> =
        vectors.chunks_exact(dimensions).map(|row| row.iter().any(|&value| value != 0.0)).collect();
    let known = |row: u32| is_trained.get(row as usize).copied().unwrap_or(false);
    vectors.resize(sequences.track_ids.len() * dimensions, 0.0);
    for tracks in sequences.playlists.iter() {
        for (position, &row) in tracks.iter().enumerate().filter(|&(_, &row)| !known(row)) {
            let near = &tracks[position.saturating_sub(window)..(position + window + 1).min(tracks.len())];
            // Where no neighbour has a vector, the playlist as a whole stands in.
            let neighbours = if near.iter().any(|&other| known(other)) { near } else { tracks };
            for &neighbour in neighbours.iter().filter(|&&other| known(other)) {
                let (from, to) = (neighbour as usize * dimensions, row as usize * dimensions);
                for offset in 0..dimensions {
                    vectors[to + offset] += vectors[from + offset];
                }
            }
        }
    }
    for (row, vector) in vectors.chunks_exact_mut(dimensions).enumerate() {
        if !known(row as u32) {
            let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            if norm > 0.0 {
                vector.iter_mut().for_each(|value| *value /= norm);
            }
        }
    }
    vectors
}
