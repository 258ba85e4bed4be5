//! `segue train similarity`: Track2Vec from the catalog's playlists to a published bundle.
//!
//! One thread samples batches, this one steps the network. After an epoch the state is written to a file next to the
//! bundles when the last writing is a while ago or the run is asked to stop; the same command on the same data goes on
//! from there, and ends in the same vectors as a run that was never stopped.

pub mod pair_sampler;
pub mod track2vec;
pub mod tuning;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;
use tracing::info;

use super::next_track::{NextTrackSettings, Placements, TREES, learn, measure, rank};
use super::row_adam::PlainRowAdam;
use super::similarity::pair_sampler::{PairSampler, PairSampling};
use super::similarity::track2vec::{Architecture, PairBatch, Track2Vec};
use super::{TrainError, checkpoint};
use crate::bundle::{BundleWriter, Kind, Manifest, NewManifest, NextTracks, SimilarityBundle, Vocabulary};
use crate::dataset::{Corpus, HeldOut, Sequences};
use crate::evaluate::next_track::{Distance, NextTrackMetrics, rank_by_vectors};
use crate::math::Csr;
use crate::progress::{Interrupt, Progress};

const PROGRESS_PER_EPOCH: u64 = 1_000;
/// Pairs to train on when the number of epochs is left open. More of them fit the training playlists better, and what
/// comes next no better (docs/models/track2vec.md).
const WISHED_PAIRS: f64 = 8e6;
/// Batches that accuracy is measured on.
const ACCURACY_BATCHES: usize = 50;
/// No value of a vector is larger than this, or the square of its length is no number any more.
const LARGEST_VALUE: f32 = 1e15;
/// Names of the network's tables in checkpoints.
const TABLES: [&str; 2] = ["target.weight", "context.weight"];
/// How much training a kill may cost.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// Hyper-parameters of Track2Vec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct SimilaritySettings {
    /// Network: cosine with one table and a sigmoid unit, or skip-gram with two tables (sgns)
    #[arg(long, value_enum, default_value_t = Architecture::Cosine)]
    pub architecture: Architecture,
    /// Length of a track's vector
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub dim: u32,
    /// Tracks up to this far apart in a playlist count as neighbours
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub window: u32,
    /// Negatives a pair
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub negatives: u32,
    /// Negatives drawn for 64 pairs and shared by them (weighted so that a pair sees `negatives` of them)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub pool: u32,
    /// Exponent α: negatives are drawn in proportion to (placements of a track)^α; may be negative
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Sub-sampling threshold t: targets more frequent than this are thinned out; 0 keeps all
    #[arg(long, default_value_t = 1e-5)]
    pub subsample: f64,
    /// Tracks with fewer placements get no vector of their own, and are not recommended by this model
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub min_count: u32,
    /// Passes over all playlists; 0: as many as make eight million pairs, but 2 at least and 60 at most
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub epochs: u32,
    /// Pairs in a mini-batch
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Learning rate of Adam at the start; falls linearly to a tenth
    #[arg(long, default_value_t = 0.005)]
    pub learning_rate: f64,
    /// Random seed: the same data, settings and seed give the same vectors on the same machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The lists of what comes next that are published with the vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, clap::Args)]
pub struct NextTracksSettings {
    /// Length of each track's list of what comes next; 0 for no lists
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub next_tracks: u32,
    /// Trees of the ranking that makes these lists
    #[arg(long, default_value_t = TREES, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub next_trees: u32,
}

impl SimilaritySettings {
    /// How often an epoch of so many pairs is gone through.
    fn epochs_of(&self, expected_pairs: f64) -> usize {
        match self.epochs {
            0 => (WISHED_PAIRS / expected_pairs).ceil().clamp(2.0, 60.0) as usize,
            epochs => epochs as usize,
        }
    }

    /// Refuses settings that make no sense.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |text: &str| Err(TrainError::Settings(text.to_owned()));
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refuse("--learning-rate must be above 0");
        }
        if !(self.subsample >= 0.0 && self.subsample.is_finite()) {
            return refuse("--subsample must be 0 or more");
        }
        if !(-10.0..=10.0).contains(&self.alpha) {
            return refuse("--alpha must be between -10 and 10");
        }
        Ok(())
    }
}

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
    let held_out = sequences.hold_out_last(settings.min_count);
    let sampler = PairSampler::new(&held_out, sampling(settings)).ok_or_else(|| {
        TrainError::TooLittleData(format!(
            "the catalog has no track with {} or more placements to learn from; import playlists first",
            settings.min_count
        ))
    })?;
    let mut writer = BundleWriter::begin(models, Kind::Similarity)?;
    let resume_file = resume_file(models, settings, sequences);

    let mut run = Run::new(settings, &held_out, sampler.expected_pairs());
    if resume_file.exists() {
        run.load(&resume_file)?;
        info!(epochs_done = run.epochs, "resuming the training that was stopped");
    }
    run.train(settings, &sampler, threads, &resume_file, interrupt)?;
    let fitted = run.finish(settings, &sampler, &held_out);
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
        _ => {
            // Whoever stops what follows does not want to train anew.
            run.save(&resume_file)?;
            next_tracks(corpus, &held_out, settings, next, threads, interrupt)?
        }
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
        Tensor::write_safetensors(&run.parameters(), path).map_err(|error| error.to_string())
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
    let _ = fs::remove_file(&resume_file);
    Ok(manifest)
}

/// Learns from the playlists without their last tracks, measures on these, and makes the lists from whole playlists.
/// `None` when no playlist is long enough to learn from.
fn next_tracks(
    corpus: &Corpus,
    held_out: &HeldOut,
    settings: &SimilaritySettings,
    next: &NextTracksSettings,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Option<(NextTracks, NextTrackMetrics)>, TrainError> {
    let learning = NextTrackSettings { trees: next.next_trees, seed: settings.seed, threads };
    let vocabulary = held_out.vocabulary;
    let trees = match learn(corpus, &held_out.playlists, vocabulary, &learning, &[], interrupt) {
        Err(TrainError::TooLittleData(reason)) => {
            info!(reason, "no lists of what comes next");
            return Ok(None);
        }
        trees => trees?,
    };
    let placements = Placements::new(&held_out.playlists, &corpus.artist_of, &corpus.album_of, vocabulary);
    let metrics = measure(&placements, &trees, &held_out.queries, 10, threads, interrupt)?.at_10();
    info!(hit_at_10 = metrics.hit_at_10, ndcg_at_10 = metrics.ndcg_at_10, "learned what comes next");
    // As in training, tracks that are too rare to be recommended are not there.
    let common = |row: &u32| (*row as usize) < vocabulary;
    let playlists = Csr::from_lists(corpus.sequences.playlists.iter().map(|rows| rows.iter().copied().filter(common)));
    let placements = Placements::new(&playlists, &corpus.artist_of, &corpus.album_of, vocabulary);
    let tracks: Vec<u32> = (0..vocabulary as u32).collect();
    let lists = rank(&placements, &trees, &tracks, next.next_tracks as usize, threads, interrupt)?;
    Ok(Some((NextTracks::new(&lists), metrics)))
}

const PROTOCOL: &str = "last track of each playlist held out, the one before it asked with, every trained track ranked";

#[derive(Serialize)]
struct MetricsRecord {
    protocol: &'static str,
    #[serde(flatten)]
    metrics: NextTrackMetrics,
}

fn sampling(settings: &SimilaritySettings) -> PairSampling {
    PairSampling {
        window: settings.window as usize,
        subsample: settings.subsample,
        exponent: settings.alpha,
        batch: settings.batch as usize,
        pool: settings.pool as usize,
        one_table: settings.architecture == Architecture::Cosine,
        seed: settings.seed,
    }
}

/// What training made of the tracks.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// `[vocabulary, dim]`, each of length 1; zero for tracks that training never saw
    pub vectors: Vec<f32>,
    /// what the vectors' lengths were
    pub lengths: Vec<f32>,
    /// mean loss of a pair in the last epoch
    pub loss: f64,
    /// share of pairs, and of their negatives, that the sigmoid puts on the right side of one half; negatives count as
    /// many times as `negatives` says
    pub accuracy: f64,
    /// passes over the playlists
    pub epochs: usize,
    /// time that took
    pub seconds: f64,
}

/// An epoch of [`fit`] that is done.
pub struct EpochDone<'a> {
    /// its number, from 1
    pub epoch: usize,
    /// mean loss of its pairs
    pub loss: f64,
    run: &'a Run,
    held_out: &'a HeldOut,
}

impl EpochDone<'_> {
    /// The vectors as they are now, and their lengths.
    pub fn vectors(&self) -> (Vec<f32>, Vec<f32>) {
        trained_vectors(&self.run.model, self.held_out)
    }
}

/// Learns vectors from `data` and publishes nothing. `each_batch` may stop it by answering false. `None` then, and where
/// there is nothing to learn from, or the loss is no longer a number.
pub fn fit(
    data: &HeldOut,
    settings: &SimilaritySettings,
    threads: usize,
    mut each_batch: impl FnMut() -> bool,
    mut each_epoch: impl FnMut(&EpochDone<'_>),
) -> Option<Fitted> {
    let sampler = PairSampler::new(data, sampling(settings))?;
    let mut run = Run::new(settings, data, sampler.expected_pairs());
    let started = Instant::now();
    let mut going_on = true;
    while going_on && run.epochs < run.wanted {
        sampler.epoch(run.epochs, |batch| {
            run.step(&batch, settings, threads);
            going_on = each_batch();
            going_on
        });
        run.end_epoch();
        each_epoch(&EpochDone { epoch: run.epochs, loss: run.loss, run: &run, held_out: data });
        going_on &= run.loss.is_finite();
    }
    run.seconds = started.elapsed().as_secs_f64();
    going_on.then(|| run.finish(settings, &sampler, data))
}

/// A file of its own for each combination of settings and data: a run with other settings does not go on from it.
fn resume_file(models: &Path, settings: &SimilaritySettings, sequences: &Sequences) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(settings).unwrap_or_default());
    hash.update(&sequences.fingerprint.sha256);
    let key = hex::encode(hash.finalize());
    models.join(Kind::Similarity.as_str()).join(format!(".resume-{}.safetensors", &key[..16]))
}

/// The network and its optimiser, and how far they are.
struct Run {
    model: Track2Vec,
    tables: Vec<PlainRowAdam>,
    unit: PlainRowAdam,
    /// epochs done whole
    epochs: usize,
    /// batches done of the epoch under way, their pairs and the sum of those pairs' losses
    batches: usize,
    pairs: u64,
    loss_sum: f64,
    /// batches done in all
    step: u64,
    /// mean loss of a pair in the last whole epoch
    loss: f64,
    /// time spent training, in all its stretches
    seconds: f64,
    /// epochs in all
    wanted: usize,
    /// pairs of an epoch, on average
    expected_pairs: f64,
}

impl Run {
    fn new(settings: &SimilaritySettings, held_out: &HeldOut, expected_pairs: f64) -> Self {
        let expected_pairs = expected_pairs.max(1.0);
        let dimensions = settings.dim as usize;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let spread = 0.5 / (dimensions as f32).sqrt();
        // A finite positive spread is the one condition of Normal, and `dim` is at least 1.
        let initial: Vec<f32> = Normal::new(0.0, spread)
            .map(|law| law.sample_iter(&mut rng).take(held_out.vocabulary * dimensions).collect())
            .unwrap_or_default();
        let model = Track2Vec::new(settings.architecture, held_out.vocabulary, dimensions, initial);
        let tables = model.tables.iter().map(|table| PlainRowAdam::new(table.len())).collect();
        let unit = PlainRowAdam::new(model.unit.len());
        Self {
            model,
            tables,
            unit,
            epochs: 0,
            batches: 0,
            pairs: 0,
            loss_sum: 0.0,
            step: 0,
            loss: f64::NAN,
            seconds: 0.0,
            wanted: settings.epochs_of(expected_pairs),
            expected_pairs,
        }
    }

    fn train(
        &mut self,
        settings: &SimilaritySettings,
        sampler: &PairSampler<'_>,
        threads: usize,
        resume_file: &Path,
        interrupt: &Interrupt,
    ) -> Result<(), TrainError> {
        let epochs = self.wanted;
        let progress = Progress::start("training", epochs as u64 * PROGRESS_PER_EPOCH);
        let (mut saved, mut clock) = (Instant::now(), Instant::now());
        while self.epochs < epochs {
            let (epoch, skipped) = (self.epochs, self.batches);
            let (started, pairs_before) = (Instant::now(), self.pairs);
            let (sender, receiver) = sync_channel(8);
            std::thread::scope(|scope| {
                scope.spawn(move || sampler.epoch(epoch, |batch| sender.send(batch).is_ok()));
                // Leaving the loop drops the receiver, which ends the sampler.
                for batch in receiver.into_iter().skip(skipped) {
                    if interrupt.is_raised() {
                        self.save(resume_file)?;
                        return Err(TrainError::Interrupted { epoch: epoch + 1, epochs });
                    }
                    let done = self.step(&batch, settings, threads);
                    self.seconds += clock.elapsed().as_secs_f64();
                    clock = Instant::now();
                    if saved.elapsed() >= CHECKPOINT_INTERVAL {
                        self.save(resume_file)?;
                        saved = Instant::now();
                    }
                    progress.at((done * PROGRESS_PER_EPOCH as f64) as u64, || {
                        let speed = (self.pairs - pairs_before) as f64 / started.elapsed().as_secs_f64();
                        let loss = self.loss_sum / self.pairs as f64;
                        format!("epoch {}/{epochs}, loss {loss:.4}, {speed:.0} pairs/s", epoch + 1)
                    });
                }
                Ok(())
            })?;
            self.end_epoch();
            if !self.loss.is_finite() {
                let _ = fs::remove_file(resume_file); // to go on from it would not help
                let learning_rate = settings.learning_rate;
                return Err(TrainError::Diverged { epoch: self.epochs, loss: self.loss, learning_rate });
            }
        }
        Ok(())
    }

    fn end_epoch(&mut self) {
        self.epochs += 1;
        self.loss = self.loss_sum / self.pairs.max(1) as f64;
        // Scores are bounded, so the loss is too: that the network broke is seen by its numbers.
        if self.model.tables.iter().flatten().any(|value| value.is_nan() || value.abs() > LARGEST_VALUE) {
            self.loss = f64::INFINITY;
        }
        (self.batches, self.pairs, self.loss_sum) = (0, 0, 0.0);
    }

    /// Learns from a batch; gives the epochs done, the part of the one under way included.
    fn step(&mut self, batch: &PairBatch, settings: &SimilaritySettings, threads: usize) -> f64 {
        let done = self.epochs as f64 + (self.pairs as f64 / self.expected_pairs).min(1.0);
        let rate = settings.learning_rate * (1.0 - 0.9 * done / self.wanted as f64);
        self.step += 1;
        let gradients = self.model.gradients(batch, settings.negatives as f32, threads);
        let (of_targets, of_contexts) = gradients.slots.split_at(batch.target_rows.len() * gradients.stride);
        let lists = [(&batch.target_rows, of_targets), (&batch.context_rows, of_contexts)];
        let width = self.model.dimensions();
        for ((table, adam), (rows, gradient)) in self.model.tables.iter_mut().zip(&mut self.tables).zip(lists) {
            adam.step(table, width, rows, gradient, rate, self.step);
        }
        if settings.architecture == Architecture::Cosine {
            self.unit.step(&mut self.model.unit, 2, &[0], &gradients.unit, rate, self.step);
        }
        self.batches += 1;
        self.pairs += batch.targets.len() as u64;
        self.loss_sum += gradients.loss * batch.targets.len() as f64;
        done
    }

    /// What was learned, with the accuracy over batches that no epoch saw.
    fn finish(&self, settings: &SimilaritySettings, sampler: &PairSampler<'_>, held_out: &HeldOut) -> Fitted {
        let (mut batches, mut correct, mut all) = (0, 0.0, 0.0);
        sampler.epoch(self.wanted, |batch| {
            let (batch_correct, batch_all) = self.model.accuracy(&batch, f64::from(settings.negatives));
            (correct, all) = (correct + batch_correct, all + batch_all);
            batches += 1;
            batches < ACCURACY_BATCHES
        });
        let (vectors, lengths) = trained_vectors(&self.model, held_out);
        let accuracy = correct / all;
        Fitted { vectors, lengths, loss: self.loss, accuracy, epochs: self.epochs, seconds: self.seconds }
    }

    /// The network's own tensors by name.
    fn parameters(&self) -> Vec<(String, Tensor)> {
        let shape = [-1, self.model.dimensions() as i64];
        let tables = TABLES.iter().zip(&self.model.tables);
        let mut parameters: Vec<(String, Tensor)> =
            tables.map(|(name, table)| ((*name).to_owned(), Tensor::from_slice(table).reshape(shape))).collect();
        parameters.push(("unit".to_owned(), Tensor::from_slice(&self.model.unit)));
        parameters
    }

    /// All tensors of the state by name, progress excepted; in the order of [`Run::values`].
    fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = self.parameters();
        for (number, adam) in self.tables.iter().chain([&self.unit]).enumerate() {
            tensors.push((format!("adam.{number}.first"), Tensor::from_slice(&adam.first)));
            tensors.push((format!("adam.{number}.second"), Tensor::from_slice(&adam.second)));
        }
        tensors
    }

    /// What [`Run::tensors`] are copies of.
    fn values(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let parameters = self.model.tables.iter_mut().map(Vec::as_mut_slice).chain([self.model.unit.as_mut_slice()]);
        let adams = self.tables.iter_mut().chain([&mut self.unit]);
        parameters.chain(adams.flat_map(|adam| [adam.first.as_mut_slice(), adam.second.as_mut_slice()]))
    }

    fn save(&self, path: &Path) -> Result<(), TrainError> {
        let progress = [
            self.epochs as f64,
            self.batches as f64,
            self.pairs as f64,
            self.loss_sum,
            self.step as f64,
            self.loss,
            self.seconds,
        ];
        checkpoint::save(path, self.tensors(), &progress)
    }

    fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut tensors = self.tensors();
        let places = tensors.iter_mut().map(|(name, tensor)| (name.clone(), tensor)).collect();
        let [epochs, batches, pairs, loss_sum, step, loss, seconds] = checkpoint::load(path, places)?;
        for (values, (_, tensor)) in self.values().zip(&tensors) {
            tensor.f_copy_data(values, values.len())?;
        }
        (self.epochs, self.batches, self.pairs) = (epochs as usize, batches as usize, pairs as u64);
        (self.loss_sum, self.step, self.loss, self.seconds) = (loss_sum, step as u64, loss, seconds);
        Ok(())
    }
}

/// `[vocabulary * dimensions]` values, rows of length 1, and what their lengths were; zero for tracks that training never
/// saw.
fn trained_vectors(model: &Track2Vec, held_out: &HeldOut) -> (Vec<f32>, Vec<f32>) {
    let (mut vectors, mut lengths) = model.normalised_vectors();
    let rows = vectors.chunks_exact_mut(model.dimensions()).zip(&mut lengths);
    for ((vector, length), &count) in rows.zip(&held_out.counts) {
        if count == 0 {
            vector.fill(0.0);
            *length = 0.0;
        }
    }
    (vectors, lengths)
}

/// Gives every other track of the catalog the mean of its neighbours' vectors, so that it can be asked with.
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
