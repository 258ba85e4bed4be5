//! NeuMF from playlists: the network (He et al. 2017) on interactions with sampled negatives, then k-means on the
//! playlists' MLP embeddings, whose clusters say which tracks are candidates for a playlist.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use tracing::info;

use super::interaction_sampler::{InteractionSampler, InteractionSampling};
use crate::bundle::NeumfBundle;
use crate::math::{Array, Csr};
use crate::scoring::neumf::DenseLayer;
use crate::train::checkpoint::RunContext;
use crate::train::epochs::{BatchLoss, Learner, LearnerState, LearningRate, Run, Schedule};
use crate::train::error::TrainError;
use crate::train::k_means::k_means;
use crate::train::optimizer::RowAdam;
use crate::train::settings::{above_0, check, from_0};
use crate::train::torch::neumf::{InteractionBatch, Neumf, NeumfShape, Penalties};

/// Hyper-parameters of NeuMF and of the clusters of its playlists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
#[command(next_help_heading = "NeuMF")]
pub struct NeumfSettings {
    /// Maximum number of playlists to learn from
    ///
    /// Of more playlists, a random sample is learned from. NeuMF then knows the tracks of these playlists alone, and a playlist
    /// to complete is compared with these.
    #[arg(id = "neumf_playlists", long = "neumf-playlists", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub playlists: u32,
    /// Length of a GMF embedding
    #[arg(id = "neumf_latent", long = "neumf-latent", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub latent: u32,
    /// Sizes of the MLP's dense layers
    ///
    /// Inputs of the first dense layer, half of them the playlist's embedding and half the track's; then the outputs of each
    /// layer.
    #[arg(id = "neumf_dense", long = "neumf-dense", value_delimiter = ',', default_values_t = [256, 128, 128, 64], value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub dense: Vec<u32>,
    /// Negatives for each interaction
    #[arg(id = "neumf_negatives", long = "neumf-negatives", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub negatives: u32,
    /// Popularity exponent of negatives
    ///
    /// Negatives are drawn in proportion to (playlists with the track)^exponent; 0 draws all tracks alike.
    #[arg(id = "neumf_exponent", long = "neumf-exponent", default_value_t = 0.5, allow_negative_numbers = true)]
    pub exponent: f64,
    /// Passes over all interactions
    #[arg(id = "neumf_epochs", long = "neumf-epochs", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: u32,
    /// Interactions in a mini-batch
    ///
    /// Negatives come on top.
    #[arg(id = "neumf_batch", long = "neumf-batch", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Learning rate of Adam
    #[arg(id = "neumf_learning_rate", long = "neumf-learning-rate", default_value_t = 0.005)]
    pub learning_rate: f64,
    /// L2 penalty on the embeddings
    #[arg(id = "neumf_l2", long = "neumf-l2", default_value_t = 0.0)]
    pub l2: f64,
    /// L2 penalty on dense layer outputs
    #[arg(id = "neumf_activation_l2", long = "neumf-activation-l2", default_value_t = 0.0)]
    pub activation_l2: f64,
    /// Clusters of playlists (k-means)
    #[arg(id = "neumf_clusters", long = "neumf-clusters", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clusters: u32,
    /// Random seed
    ///
    /// The same data, settings and seed give the same network on the same machine.
    #[arg(id = "neumf_seed", long = "neumf-seed", default_value_t = 1)]
    pub seed: u64,
}

impl NeumfSettings {
    fn check(&self) -> Result<(), TrainError> {
        if self.dense.len() < 2 || !self.dense[0].is_multiple_of(2) || self.dense.contains(&0) {
            let text = "--neumf-dense must be two sizes or more, the first of them even";
            return Err(TrainError::Settings(text.to_owned()));
        }
        above_0(&[("--neumf-learning-rate", self.learning_rate)])?;
        from_0(&[("--neumf-l2", self.l2), ("--neumf-activation-l2", self.activation_l2)])?;
        check(&[("--neumf-exponent", self.exponent)], |value| (-10.0..=10.0).contains(&value), "from -10 to 10")
    }
}

/// A trained network, and what there is to say about its training.
#[derive(Debug)]
pub struct TrainedNeumf {
    /// network and clusters
    pub bundle: NeumfBundle,
    /// mean binary cross-entropy of the last epoch
    pub loss: f64,
    /// seconds spent training, in all its stretches
    pub seconds: f64,
}

/// Trains on `playlists`, whose rows are below `tracks`.
///
/// Blocking, for minutes to hours, with as many threads as LibTorch is set to. The interrupt stops it at the end of a
/// batch.
///
/// # Errors
///
/// [`TrainError::TooLittleData`] without a single interaction.
pub fn train_neumf(
    playlists: &Csr,
    tracks: usize,
    settings: &NeumfSettings,
    context: RunContext<'_>,
) -> Result<TrainedNeumf, TrainError> {
    settings.check()?;
    let Sample { playlist_rows, track_rows, playlists } = Sample::new(playlists, tracks, settings);
    let (playlists, tracks) = (&playlists, track_rows.len());
    let sampling = InteractionSampling {
        batch: settings.batch as usize,
        negatives: settings.negatives as usize,
        exponent: settings.exponent,
        seed: settings.seed,
    };
    let sampler = InteractionSampler::new(playlists, tracks, sampling)
        .ok_or_else(|| TrainError::TooLittleData("there is no playlist with a track to learn from".to_owned()))?;
    let mut run = new_run(settings, playlists.rows(), tracks);
    run.train(&sampler, Some("NeuMF"), context.file("neumf").as_ref(), context.interrupt, |_| ())?;
    let (loss, seconds, model) = (run.loss(), run.seconds(), run.learner.model);
    info!(loss, train_seconds = seconds, "trained NeuMF");
    // What sets playlists apart is the direction in which training moved them off the centre. How far it moved them says
    // how many tracks they have.
    let centre = model.tables[2].mean_dim([0i64].as_slice(), false, Kind::Float);
    let off_centre = &model.tables[2] - &centre;
    let directions = &off_centre / off_centre.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12);
    let clustering = k_means(&directions, settings.clusters as usize, settings.seed)?;
    info!(clusters = clustering.centroids.size()[0], inertia = clustering.inertia, "clustered the playlists");

    let dense = &model.dense;
    let (layers, output) = dense.split_at(dense.len() - 2);
    let [gmf_playlists, gmf_tracks, mlp_playlists, mlp_tracks] = &model.tables;
    let bundle = NeumfBundle {
        playlist_rows,
        track_rows,
        gmf_playlists: array(gmf_playlists)?,
        gmf_tracks: array(gmf_tracks)?,
        mlp_playlists: array(mlp_playlists)?,
        mlp_tracks: array(mlp_tracks)?,
        dense: layers
            .chunks_exact(2)
            .map(|layer| Ok(DenseLayer { weights: array(&layer[0])?, biases: array(&layer[1])? }))
            .collect::<Result<_, TrainError>>()?,
        output_weights: array(&output[0])?,
        output_bias: array(&output[1])?,
        centre: array(&centre)?,
        centroids: array(&clustering.centroids)?,
        clusters: Array { shape: vec![clustering.cluster_of.len()], values: clustering.cluster_of },
    };
    Ok(TrainedNeumf { bundle, loss, seconds })
}

/// The playlists that NeuMF learns from, and their tracks.
struct Sample {
    /// which playlists, rising
    playlist_rows: Vec<u32>,
    /// which tracks, rising
    track_rows: Vec<u32>,
    /// places in `track_rows` of each playlist's tracks
    playlists: Csr,
}

impl Sample {
    /// All of `playlists` and of the tracks if there are no more than the settings allow.
    fn new(playlists: &Csr, tracks: usize, settings: &NeumfSettings) -> Self {
        let (all, most) = (playlists.rows(), settings.playlists as usize);
        if all <= most {
            let (playlist_rows, track_rows) = ((0..all as u32).collect(), (0..tracks as u32).collect());
            return Self { playlist_rows, track_rows, playlists: playlists.clone() };
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let mut playlist_rows: Vec<u32> =
            rand::seq::index::sample(&mut rng, all, most).into_iter().map(|row| row as u32).collect();
        playlist_rows.sort_unstable();
        let held = || playlist_rows.iter().map(|&row| playlists.row(row as usize));
        let mut track_rows: Vec<u32> = held().flatten().copied().collect();
        track_rows.sort_unstable();
        track_rows.dedup();
        let mut number = vec![0; tracks];
        for (place, &row) in (0..).zip(&track_rows) {
            number[row as usize] = place;
        }
        let playlists = Csr::from_lists(held().map(|rows| rows.iter().map(|&row| number[row as usize])));
        Self { playlist_rows, track_rows, playlists }
    }
}

fn array(tensor: &Tensor) -> Result<Array<f32>, TrainError> {
    let shape = tensor.size().into_iter().map(|length| length as usize).collect();
    Ok(Array { shape, values: Vec::<f32>::try_from(tensor.to_kind(Kind::Float).contiguous().view(-1))? })
}

/// NeuMF and its optimizer.
#[derive(Debug)]
struct NeumfLearner {
    model: Neumf,
    tables: Vec<RowAdam>,
    dense: Vec<RowAdam>,
    penalties: Penalties,
}

fn new_run(settings: &NeumfSettings, playlists: usize, tracks: usize) -> Run<NeumfLearner> {
    let shape = NeumfShape {
        playlists,
        tracks,
        latent: settings.latent as usize,
        dense: settings.dense.iter().map(|&size| size as usize).collect(),
    };
    let model = Neumf::new(&shape, &mut Xoshiro256PlusPlus::seed_from_u64(settings.seed));
    let tables = model.tables.iter().map(RowAdam::new).collect();
    let dense = model.dense.iter().map(RowAdam::new).collect();
    let penalties = Penalties { embeddings: settings.l2, activations: settings.activation_l2 };
    let rate = LearningRate::Constant(settings.learning_rate);
    let schedule = Schedule { epochs: settings.epochs as usize, rate, early_stop: None };
    Run::new(NeumfLearner { model, tables, dense, penalties }, schedule)
}

impl Learner for NeumfLearner {
    type Sampler = InteractionSampler;
    const UNIT: &'static str = "interactions";
    const STOPS_WITHIN_EPOCHS: bool = true;

    fn step(&mut self, batch: &InteractionBatch, learning_rate: f64, step: u64) -> BatchLoss {
        let gradients = self.model.gradients(batch, self.penalties);
        for (table, adam) in self.tables.iter_mut().enumerate() {
            let (rows, gradient) = (&gradients.rows[table], &gradients.tables[table]);
            adam.step(&mut self.model.tables[table], rows, gradient, learning_rate, step);
        }
        for (tensor, (adam, gradient)) in self.model.dense.iter_mut().zip(self.dense.iter_mut().zip(&gradients.dense)) {
            adam.step_whole(tensor, gradient, learning_rate, step);
        }
        BatchLoss { mean: gradients.loss, examples: batch.playlists.len() }
    }

    fn state(&mut self) -> LearnerState<'_> {
        let mut state = LearnerState::default();
        for ((name, table), adam) in Neumf::TABLES.iter().zip(&mut self.model.tables).zip(&mut self.tables) {
            state.add(name, table, [&mut adam.first, &mut adam.second]);
        }
        for (number, (tensor, adam)) in self.model.dense.iter_mut().zip(&mut self.dense).enumerate() {
            state.add(&format!("dense.{number}"), tensor, [&mut adam.first, &mut adam.second]);
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::progress::Interrupt;
    use crate::recommend::NeumfModel;
    use crate::train::checkpoint::Checkpoint;
    use crate::train::sampling::Sampler;

    /// Forty playlists in two halves, each of eight of the twenty tracks of its half.
    fn playlists() -> Csr {
        let tracks = |playlist: u32| {
            let half = playlist % 2 * 20;
            (0..8).map(move |place| half + (playlist * 7 + place * 3) % 20)
        };
        Csr::from_lists((0..40).map(tracks))
    }

    fn settings(epochs: u32) -> NeumfSettings {
        NeumfSettings {
            playlists: 1_000,
            latent: 4,
            dense: vec![12, 10, 6],
            negatives: 3,
            exponent: 0.5,
            epochs,
            batch: 32,
            learning_rate: 0.02,
            l2: 1e-4,
            activation_l2: 1e-4,
            clusters: 2,
            seed: 5,
        }
    }

    fn sampler(settings: &NeumfSettings) -> InteractionSampler {
        let sampling = InteractionSampling {
            batch: settings.batch as usize,
            negatives: settings.negatives as usize,
            exponent: settings.exponent,
            seed: settings.seed,
        };
        InteractionSampler::new(&playlists(), 45, sampling).expect("interactions")
    }

    /// Trains with the state in a folder.
    fn train_in(folder: &Path, settings: &NeumfSettings, interrupt: &Interrupt) -> Result<TrainedNeumf, TrainError> {
        let checkpoint = Checkpoint::in_folder(folder.to_owned())?;
        let context = RunContext::new(1, interrupt).kept_in(&checkpoint);
        train_neumf(&playlists(), 45, settings, context)
    }

    #[test]
    fn a_stopped_run_continues_to_the_same_bits() {
        let folder = tempfile::tempdir().expect("a folder");
        let train = |settings: &NeumfSettings, name: &str| {
            train_in(&folder.path().join(name), settings, &Interrupt::default()).expect("trains")
        };
        let whole = train(&settings(4), "whole");
        // Stopped three batches into the second epoch.
        let (mut run, sampler) = (new_run(&settings(1), 40, 45), sampler(&settings(4)));
        run.train(&sampler, None, None, &Interrupt::default(), |_| ()).expect("trains");
        let mut left = 3;
        sampler.epoch(1, |batch| {
            run.step(&batch, sampler.examples());
            left -= 1;
            left > 0
        });
        let stopped = Checkpoint::in_folder(folder.path().join("stopped")).expect("a folder");
        run.save(&stopped.file("neumf")).expect("saves");
        let resumed = train(&settings(4), "stopped");
        assert_eq!(resumed.bundle, whole.bundle);
        assert_eq!(resumed.loss, whole.loss);
        assert_ne!(train(&NeumfSettings { seed: 6, ..settings(4) }, "other").bundle, whole.bundle);
    }

    #[test]
    fn an_interrupted_run_says_so_and_keeps_its_state() {
        let folder = tempfile::tempdir().expect("a folder");
        let interrupt = Interrupt::default();
        interrupt.raise();
        let stopped = train_in(folder.path(), &settings(2), &interrupt).expect_err("stopped");
        assert!(matches!(stopped, TrainError::Interrupted { epoch: 1, epochs: 2 }), "{stopped}");
        assert!(folder.path().join("neumf.safetensors").exists());
        let other = NeumfSettings { latent: 5, ..settings(2) };
        let error = train_in(folder.path(), &other, &Interrupt::default()).expect_err("other size");
        assert!(error.to_string().contains("delete the file to start over"), "{error}");
    }

    #[test]
    fn a_step_moves_the_rows_of_its_batch_and_no_others() {
        let settings = NeumfSettings { batch: 4, ..settings(1) };
        let mut run = new_run(&settings, 40, 45);
        let before: Vec<Tensor> = run.learner.model.tables.iter().map(Tensor::copy).collect();
        let mut touched = [Vec::new(), Vec::new()];
        sampler(&settings).epoch(0, |batch| {
            run.step(&batch, 1.0);
            touched = [batch.playlist_rows, batch.track_rows];
            false
        });
        for (table, (before, after)) in before.iter().zip(&run.learner.model.tables).enumerate() {
            let moved = after.ne_tensor(before).any_dim(1, false).nonzero().view(-1);
            let mut rows = touched[table % 2].clone();
            rows.sort_unstable();
            assert_eq!(Vec::<i64>::try_from(moved).expect("rows"), rows, "{}", Neumf::TABLES[table]);
        }
    }

    #[test]
    fn a_new_playlist_gets_the_tracks_of_those_like_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = NeumfSettings { dense: vec![64, 16, 8], learning_rate: 0.005, ..settings(15) };
        let trained = train_in(folder.path(), &settings, &Interrupt::default()).expect("trains");
        assert!(trained.loss < 0.4, "{}", trained.loss);
        let clusters = trained.bundle.clusters.values.clone();
        assert!((0..40).all(|playlist| clusters[playlist] == clusters[playlist % 2]) && clusters[0] != clusters[1]);
        let model = NeumfModel::new(trained.bundle, &playlists());
        for half in [0u32, 1] {
            let embedding = model.fold_in(&[(half + 2, 1.0), (half + 8, 0.5), (half + 20, 0.0)]).expect("neighbours");
            assert_eq!(model.nearest_clusters(&embedding)[0], clusters[half as usize]);
            let recommended = model.recommend(&embedding, &[half * 20], 15);
            assert_eq!(recommended.len(), 15);
            assert!(recommended.iter().all(|&(track, _)| track / 20 == half), "{recommended:?}");
        }
    }

    #[test]
    fn of_many_playlists_a_sample_is_learned_from() {
        let interrupt = Interrupt::default();
        let settings = NeumfSettings { playlists: 6, ..settings(1) };
        let trained = train_neumf(&playlists(), 45, &settings, RunContext::new(1, &interrupt)).expect("trains").bundle;
        assert_eq!((trained.playlist_rows.len(), trained.clusters.values.len()), (6, 6));
        let mut held: Vec<u32> =
            trained.playlist_rows.iter().flat_map(|&row| playlists().row(row as usize).to_vec()).collect();
        held.sort_unstable();
        held.dedup();
        assert_eq!(trained.track_rows, held);
        let (known, rows) = (trained.playlist_rows.clone(), held);
        let model = NeumfModel::new(trained, &playlists());
        let unknown = (0..40).find(|row| !known.contains(row)).expect("a playlist that is not in the sample");
        assert_eq!(model.fold_in(&[(unknown, 1.0)]), None);
        let embedding = model.fold_in(&[(unknown, 5.0), (known[3], 0.1)]).expect("a neighbour");
        assert_eq!(Some(&embedding), model.fold_in(&[(known[3], 1.0)]).as_ref());
        let recommended = model.recommend(&embedding, &[0, rows[2], rows[5]], 40);
        let mut found: Vec<u32> = recommended.iter().map(|next| next.0).collect();
        found.sort_unstable();
        let expected: Vec<u32> = rows.iter().copied().filter(|row| ![0, rows[2], rows[5]].contains(row)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_server_computes_what_the_trainer_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(5);
        let bundle = train_in(folder.path(), &settings, &Interrupt::default()).expect("trains").bundle;
        let mut run = new_run(&settings, 40, 45);
        let checkpoint = Checkpoint::in_folder(folder.path().to_owned()).expect("a folder");
        assert!(run.load(&checkpoint.file("neumf")).expect("the state of the end"));
        let batch = InteractionBatch {
            playlist_rows: vec![3],
            track_rows: (0..45).collect(),
            playlists: vec![0],
            tracks: (0..45).collect(),
        };
        let expected = Vec::<f32>::try_from(run.learner.model.logits(&batch).view(-1)).expect("logits");
        let model = NeumfModel::new(bundle, &playlists());
        let embedding = model.fold_in(&[(3, 0.7)]).expect("a neighbour");
        let rows: Vec<u32> = (0..45).collect();
        for (expected, actual) in expected.iter().zip(model.logits(&embedding, &rows)) {
            assert!((expected - actual).abs() < 1e-4 * (1.0 + expected.abs()), "{expected} {actual}");
        }
    }

    #[test]
    fn settings_and_data_that_are_out_of_range_are_rejected() {
        let interrupt = Interrupt::default();
        let rejected = |playlists: &Csr, settings: &NeumfSettings| {
            let error = train_neumf(playlists, 45, settings, RunContext::new(1, &interrupt));
            error.expect_err("rejected").to_string()
        };
        assert!(rejected(&playlists(), &NeumfSettings { dense: vec![7, 4], ..settings(1) }).contains("--neumf-dense"));
        assert!(rejected(&playlists(), &NeumfSettings { l2: -1.0, ..settings(1) }).contains("--neumf-l2"));
        assert!(rejected(&Csr::from_lists([vec![], vec![]]), &settings(1)).contains("no playlist with a track"));
    }
}
