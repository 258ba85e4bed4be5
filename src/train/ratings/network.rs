//! Training of the networks that predict ratings: mini-batches in random order by Adam, at the learning rates of a plan.
//!
//! With a validation part the best epoch's parameters are kept, and training ends when there was none better for a
//! while.

use std::str::FromStr;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::gaussian::{counts, moments};
use crate::bundle::{RatingsBundle, RatingsShape, Vocabulary};
use crate::dataset::{Event, Feedback};
use crate::math::Array;
use crate::scoring::ratings::HiddenLayer;
use crate::train::checkpoint::RunContext;
use crate::train::epochs::{BatchLoss, EarlyStop, Learner, LearnerState, LearningRate, Run, Schedule};
use crate::train::error::TrainError;
use crate::train::optimizer::RowAdam;
use crate::train::sampling::ShuffledExamples;
use crate::train::settings::{below_1, from_0};
use crate::train::torch::rating_network::{RatingArchitecture, RatingBatch, RatingNetwork, RatingShape};

/// What a user's bias is drawn to that of all others by, in ratings: the networks leave it free.
const BIAS_PRECISION: f32 = 1.0;
/// The plan for which the published figures were measured.
const PLAN: &str = "0.001x1,0.01x3,0.001x6";

/// A learning rate and its number of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// of Adam
    pub learning_rate: f64,
    /// epochs
    pub epochs: u32,
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let reject = || format!("{text:?} is no stage: expected a learning rate, x and epochs, such as 0.001x6");
        let (rate, epochs) = text.split_once('x').ok_or_else(reject)?;
        let stage =
            Self { learning_rate: rate.parse().map_err(|_| reject())?, epochs: epochs.parse().map_err(|_| reject())? };
        let makes_sense = stage.learning_rate > 0.0 && stage.learning_rate.is_finite() && stage.epochs <= 10_000;
        if makes_sense { Ok(stage) } else { Err(reject()) }
    }
}

/// Hyper-parameters of the networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
#[command(next_help_heading = "Networks (--model dot, bias, mlp)")]
pub struct NetworkSettings {
    /// Length of an embedding
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub factors: u32,
    /// L2 penalty on the embeddings
    #[arg(long, default_value_t = 1e-4)]
    pub l2: f64,
    /// Learning rates and their epochs
    #[arg(long, value_delimiter = ',', default_value = PLAN, value_name = "RATExEPOCHS")]
    pub plan: Vec<Stage>,
    /// Ratings in a mini-batch
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Units of the hidden layer (mlp)
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub units: u32,
    /// Dropout on the hidden layer's inputs (mlp)
    #[arg(long, default_value_t = 0.3)]
    pub input_dropout: f64,
    /// Dropout on the hidden layer's outputs (mlp)
    #[arg(long, default_value_t = 0.75)]
    pub hidden_dropout: f64,
    /// Epochs without improvement before stopping
    ///
    /// The error on held-out ratings decides, and the best epoch is used; 0 trains all epochs.
    #[arg(long, default_value_t = 0)]
    pub patience: u32,
}

impl NetworkSettings {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        from_0(&[("--l2", self.l2)])?;
        below_1(&[("--input-dropout", self.input_dropout), ("--hidden-dropout", self.hidden_dropout)])
    }

    /// Learning rate of each epoch.
    fn rates(&self) -> Vec<f64> {
        self.plan.iter().flat_map(|stage| std::iter::repeat_n(stage.learning_rate, stage.epochs as usize)).collect()
    }
}

/// A trained network.
#[derive(Debug)]
pub struct TrainedNetwork {
    /// of the best epoch, if there was a validation part
    pub network: RatingNetwork,
    /// epochs behind these parameters
    pub epochs: usize,
    /// mean squared error of a training rating in the last epoch, as it went by
    pub loss: f64,
    /// mean seconds of an epoch
    pub epoch_seconds: f64,
}

/// What to train on.
#[derive(Debug, Clone, Copy)]
pub struct NetworkTask<'a> {
    /// which network
    pub architecture: RatingArchitecture,
    /// rows of users and tracks
    pub rows: (usize, usize),
    /// events, of which the ratings count
    pub events: &'a [Event],
    /// ratings to choose the best epoch by; empty for the last epoch
    pub validation: &'a [Event],
    /// epochs at most; none for the whole plan
    pub epochs: Option<usize>,
    /// random seed
    pub seed: u64,
}

/// Trains a network.
pub fn train_network(
    task: &NetworkTask<'_>,
    settings: &NetworkSettings,
    context: RunContext<'_>,
) -> Result<TrainedNetwork, TrainError> {
    settings.check()?;
    let ratings: Vec<Event> = task.events.iter().filter(|event| event.rating.is_some()).copied().collect();
    if ratings.is_empty() {
        return Err(TrainError::TooLittleData(
            "there are no ratings to learn from: add some with `segue import ratings` or POST /ratings".to_owned(),
        ));
    }
    let rates = settings.rates();
    let stops_early = !task.validation.is_empty() && settings.patience > 0;
    let schedule = Schedule {
        epochs: task.epochs.unwrap_or(rates.len()).min(rates.len()),
        rate: LearningRate::Listed(rates),
        early_stop: stops_early.then_some(EarlyStop { patience: settings.patience as usize, drops: 1 }),
    };
    let sampler = ShuffledExamples { examples: ratings.len(), batch: settings.batch as usize, seed: task.seed };
    let mut run = Run::new(RatingLearner::new(task, settings, &ratings), schedule);
    run.train(&sampler, Some("training"), context.file("network").as_ref(), context.interrupt, |_| ())?;
    let (loss, epoch_seconds) = (run.loss(), run.seconds() / run.epochs().max(1) as f64);
    let epochs = run.finish()?.len();
    Ok(TrainedNetwork { network: run.learner.network, epochs, loss, epoch_seconds })
}

fn range_of(ratings: &[Event]) -> (f32, f32) {
    moments(ratings.iter().filter_map(|event| event.rating)).2
}

/// Of predictions clamped to the `range` of ratings.
fn mean_squared_error(network: &RatingNetwork, ratings: &[Event], range: (f32, f32)) -> f64 {
    let predicted = predict(network, ratings, range);
    let errors = ratings.iter().zip(predicted);
    errors.map(|(event, predicted)| f64::from(event.rating.unwrap_or_default() - predicted).powi(2)).sum::<f64>()
        / ratings.len().max(1) as f64
}

/// What the network itself, with the embeddings that it learned for users, predicts of `events`.
pub fn predict(network: &RatingNetwork, events: &[Event], range: (f32, f32)) -> Vec<f32> {
    let users: Vec<i64> = events.iter().map(|event| event.user.into()).collect();
    let tracks: Vec<i64> = events.iter().map(|event| event.track.into()).collect();
    let predicted = tch::no_grad(|| network.predict(&users, &tracks));
    let predicted = Vec::<f32>::try_from(predicted).unwrap_or_default();
    predicted.into_iter().map(|rating| rating.clamp(range.0, range.1)).collect()
}

/// A network and its optimizer.
struct RatingLearner<'a> {
    network: RatingNetwork,
    tables: [RowAdam; 2],
    dense: Vec<RowAdam>,
    /// for each user, and each track, the penalty that a rating of its carries
    penalties: [Vec<f32>; 2],
    ratings: &'a [Event],
    validation: &'a [Event],
    /// draws what is dropped
    rng: Xoshiro256PlusPlus,
}

impl<'a> RatingLearner<'a> {
    fn new(task: &NetworkTask<'a>, settings: &NetworkSettings, ratings: &'a [Event]) -> Self {
        let shape = RatingShape {
            architecture: task.architecture,
            users: task.rows.0,
            tracks: task.rows.1,
            factors: settings.factors as usize,
            units: settings.units as usize,
            dropouts: (settings.input_dropout, settings.hidden_dropout),
        };
        let mean = moments(ratings.iter().filter_map(|event| event.rating)).0;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(task.seed);
        let network = RatingNetwork::new(shape, mean, &mut rng);
        let tables = [RowAdam::new(&network.tables[0]), RowAdam::new(&network.tables[1])];
        let dense = network.dense.iter().map(RowAdam::new).collect();
        // The penalty of a whole table at every step, dealt to the ratings of each row.
        let steps = ratings.len().div_ceil(settings.batch as usize) as f64;
        let share =
            |counts: Vec<u32>| counts.into_iter().map(|count| (settings.l2 * steps / f64::from(count.max(1))) as f32);
        let mut of_users = vec![0; task.rows.0];
        ratings.iter().for_each(|event| of_users[event.user as usize] += 1);
        let penalties = [share(of_users).collect(), share(counts(ratings, task.rows.1)).collect()];
        Self { network, tables, dense, penalties, ratings, validation: task.validation, rng }
    }

    fn batch(&self, events: impl Iterator<Item = Event> + Clone) -> RatingBatch {
        let (user_rows, users) = distinct(events.clone().map(|event| event.user));
        let (track_rows, tracks) = distinct(events.clone().map(|event| event.track));
        let penalties = [
            events.clone().map(|event| self.penalties[0][event.user as usize]).collect(),
            events.clone().map(|event| self.penalties[1][event.track as usize]).collect(),
        ];
        let ratings = events.filter_map(|event| event.rating).collect();
        RatingBatch { user_rows, track_rows, users, tracks, ratings, penalties }
    }
}

impl Learner for RatingLearner<'_> {
    type Sampler = ShuffledExamples;
    const UNIT: &'static str = "ratings";
    /// What a step drops depends on the steps before it.
    const STOPS_WITHIN_EPOCHS: bool = false;

    /// The generator that shuffled the ratings draws what is dropped.
    fn begin_epoch(&mut self, epoch: usize, sampler: &ShuffledExamples) {
        self.rng = sampler.shuffled(epoch).1;
    }

    fn step(&mut self, batch: &Vec<u32>, learning_rate: f64, step: u64) -> BatchLoss {
        let batch = self.batch(batch.iter().map(|&place| self.ratings[place as usize]));
        let gradients = self.network.gradients(&batch, &mut self.rng);
        for table in 0..2 {
            let (rows, gradient) = (&gradients.rows[table], &gradients.tables[table]);
            self.tables[table].step(&mut self.network.tables[table], rows, gradient, learning_rate, step);
        }
        let parameters = self.network.dense.iter_mut().zip(&mut self.dense);
        for ((tensor, adam), gradient) in parameters.zip(&gradients.dense) {
            adam.step_whole(tensor, gradient, learning_rate, step);
        }
        BatchLoss { mean: gradients.loss, examples: batch.ratings.len() }
    }

    fn score(&self) -> f64 {
        -mean_squared_error(&self.network, self.validation, range_of(self.ratings))
    }

    fn state(&mut self) -> LearnerState<'_> {
        let mut state = LearnerState::default();
        for ((name, table), adam) in ["users", "tracks"].iter().zip(&mut self.network.tables).zip(&mut self.tables) {
            state.add(name, table, [&mut adam.first, &mut adam.second]);
        }
        for (number, (tensor, adam)) in self.network.dense.iter_mut().zip(&mut self.dense).enumerate() {
            state.add(&format!("dense.{number}"), tensor, [&mut adam.first, &mut adam.second]);
        }
        state
    }
}

/// Distinct rows, rising, and the place of each of `rows` among them.
fn distinct(rows: impl Iterator<Item = u32> + Clone) -> (Vec<i64>, Vec<i64>) {
    let mut distinct: Vec<u32> = rows.clone().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let places = rows.map(|row| distinct.partition_point(|&other| other < row) as i64).collect();
    (distinct.into_iter().map(i64::from).collect(), places)
}

/// The tracks' half of a network as a bundle: users are folded in, with the penalties that training had.
pub fn into_bundle(
    network: &RatingNetwork,
    feedback: &Feedback,
    events: &[Event],
    l2: f64,
) -> Result<RatingsBundle, TrainError> {
    let shape = network.shape();
    let ratings = events.iter().filter_map(|event| event.rating);
    let (mean, deviation, range) = moments(ratings.clone());
    let count = ratings.count();
    // Σ over steps of the mean squared error of a batch and the penalty, times the size of a batch.
    let precision = ((l2 * count as f64) as f32).max(1e-3);
    let (factors, tracks) = (shape.factors, shape.tracks);
    let values = |tensor: &Tensor| -> Result<Vec<f32>, TrainError> {
        Ok(Vec::<f32>::try_from(tensor.to_kind(Kind::Float).contiguous().view(-1))?)
    };
    let table = values(&network.tables[1])?;
    let (model, plain_columns, columns) = match shape.architecture {
        RatingArchitecture::Dot => ("dot", 0, factors),
        RatingArchitecture::Bias => ("bias", 1, factors + 1),
        RatingArchitecture::Mlp => ("mlp", 0, factors),
    };
    let mut precisions = vec![precision; columns];
    let (mut features, mut base) = (table.clone(), vec![0.0; tracks]);
    if shape.architecture == RatingArchitecture::Bias {
        precisions[0] = BIAS_PRECISION;
        let of_users = values(&network.tables[0].select(1, factors as i64))?;
        let of_users = of_users.iter().sum::<f32>() / of_users.len().max(1) as f32;
        features.clear();
        for (row, base) in table.chunks_exact(factors + 1).zip(&mut base) {
            features.push(1.0);
            features.extend(&row[..factors]);
            *base = of_users + row[factors];
        }
    }
    let (mut hidden, mut output_bias) = (None, 0.0);
    if let [weights, biases, output, bias] = network.dense.as_slice() {
        let half = |start: usize| -> Result<Array<f32>, TrainError> {
            let values = values(&weights.narrow(1, start as i64, factors as i64))?;
            Ok(Array { shape: vec![shape.units, factors], values })
        };
        let (users, tracks) = (half(0)?, half(factors)?);
        hidden = Some(HiddenLayer { users, tracks, biases: values(biases)?, output: values(output)? });
        output_bias = values(bias)?.first().copied().unwrap_or_default();
    }
    Ok(RatingsBundle {
        shape: RatingsShape {
            model: model.to_owned(),
            ratings: count as u64,
            mean,
            deviation,
            range,
            plain_columns,
            session_ratio: 0.0,
            session_gap_seconds: 0,
            affinity: 0.0,
            output_bias,
        },
        vocabulary: Vocabulary::new(feedback.track_ids.iter().map(String::as_str))
            .map_err(TrainError::TooLittleData)?,
        base,
        counts: counts(events, tracks),
        features: Array { shape: vec![tracks, columns], values: features },
        precisions,
        implicit: None,
        hidden,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Interrupt;
    use crate::train::checkpoint::Checkpoint;

    /// Forty users of two tastes: each likes the ten tracks of one half and not the other's.
    fn events() -> Vec<Event> {
        let event = |user: u32, track: u32| {
            let rating = if user % 2 == track / 10 { 5.0 } else { 1.0 };
            Event { user, track, rating: Some(rating), at: i64::from(track) }
        };
        (0..40)
            .flat_map(|user| (0..20).filter(move |track| (user + track) % 3 > 0).map(move |track| event(user, track)))
            .collect()
    }

    fn settings(plan: &str) -> NetworkSettings {
        NetworkSettings {
            factors: 4,
            l2: 1e-5,
            plan: plan.split(',').map(|stage| stage.parse().expect("a stage")).collect(),
            batch: 16,
            units: 12,
            input_dropout: 0.0,
            hidden_dropout: 0.1,
            patience: 0,
        }
    }

    fn task(architecture: RatingArchitecture, events: &[Event]) -> NetworkTask<'_> {
        NetworkTask { architecture, rows: (40, 20), events, validation: &[], epochs: None, seed: 1 }
    }

    #[test]
    fn each_network_learns_two_tastes_and_early_stop_keeps_the_best_epoch() {
        use RatingArchitecture::{Bias, Dot, Mlp};
        let events = events();
        let (validation, training): (Vec<Event>, Vec<Event>) =
            events.iter().partition(|event| (event.user + event.track) % 7 == 0);
        for architecture in [Dot, Bias, Mlp] {
            let settings = NetworkSettings { patience: 4, ..settings("0.02x60") };
            let task = NetworkTask { validation: &validation, ..task(architecture, &training) };
            let trained = train_network(&task, &settings, RunContext::new(1, &Interrupt::default())).expect("trains");
            let error = mean_squared_error(&trained.network, &validation, (1.0, 5.0));
            assert!(error < 1.0, "{architecture:?}: {error} after {}", trained.epochs);
            let again = train_network(&task, &settings, RunContext::new(1, &Interrupt::default())).expect("trains");
            assert_eq!(mean_squared_error(&again.network, &validation, (1.0, 5.0)), error, "the seed decides");
        }
    }

    #[test]
    fn a_stopped_run_continues_to_the_same_bits() {
        let (events, folder) = (events(), tempfile::tempdir().expect("a folder"));
        let checkpoint = Checkpoint::in_folder(folder.path().to_owned()).expect("a folder");
        let task = task(RatingArchitecture::Mlp, &events);
        let interrupt = Interrupt::default();
        let kept = RunContext::new(1, &interrupt).kept_in(&checkpoint);
        let train = |task: &NetworkTask<'_>, context: RunContext<'_>| {
            train_network(task, &settings("0.01x2,0.001x2"), context).expect("trains")
        };
        let whole = train(&task, RunContext::new(1, &interrupt));
        train(&NetworkTask { epochs: Some(3), ..task }, kept);
        let resumed = train(&task, kept);
        assert_eq!(resumed.network.tables, whole.network.tables);
        assert_eq!(resumed.network.dense, whole.network.dense);
        interrupt.raise();
        let error = train_network(&task, &settings("0.01x9"), kept).expect_err("stopped");
        assert!(matches!(error, TrainError::Interrupted { epoch: 5, epochs: 9 }), "{error}");
    }

    #[test]
    fn a_plan_is_read_and_gives_each_epoch_its_rate() {
        assert_eq!(settings(PLAN).rates(), [0.001, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001]);
        assert!("0.001".parse::<Stage>().is_err() && "-1x3".parse::<Stage>().is_err());
    }

    #[test]
    fn without_ratings_there_is_nothing_to_train() {
        let listens = [Event { user: 0, track: 0, rating: None, at: 0 }];
        let interrupt = Interrupt::default();
        let context = RunContext::new(1, &interrupt);
        let error = train_network(&task(RatingArchitecture::Dot, &listens), &settings(PLAN), context);
        assert!(error.expect_err("rejected").to_string().contains("no ratings"));
    }
}
