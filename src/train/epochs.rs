//! The training loop of all networks: epochs of mini-batches, the learning rate of each step, early stopping, progress,
//! interruption and checkpoints.
//!
//! One thread samples batches, the caller's steps the network. The state is saved now and then, when the person asks to
//! stop, and at the end; a run with the same settings and data continues from there and ends in the same network bit by
//! bit.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use tch::Tensor;
use tracing::info;

use super::checkpoint::{SAVE_INTERVAL, State, StateFile, Stored};
use super::error::TrainError;
use super::sampling::Sampler;
use crate::progress::{Interrupt, Progress};

const PROGRESS_PER_EPOCH: u64 = 1_000;
/// Factor of the learning rate when the validation score stops rising.
const DROP: f64 = 0.1;

/// A network with its optimizer.
pub trait Learner {
    /// Where its batches come from.
    type Sampler: Sampler;
    /// What its examples are called in progress reports.
    const UNIT: &'static str;
    /// Whether a step depends on nothing but the state and its batch, so that a run may stop within an epoch.
    const STOPS_WITHIN_EPOCHS: bool;

    /// Prepares for the batches of an epoch.
    fn begin_epoch(&mut self, _epoch: usize, _sampler: &Self::Sampler) {}

    /// Learns from a batch; `step` counts from 1.
    fn step(&mut self, batch: &<Self::Sampler as Sampler>::Batch, learning_rate: f64, step: u64) -> BatchLoss;

    /// Whether parameters have become so large that training diverges, though the loss is still a number.
    fn is_broken(&self) -> bool {
        false
    }

    /// The score on the validation part, higher is better. Asked after every epoch where the schedule stops early.
    fn score(&self) -> f64 {
        0.0
    }

    /// The network's parameters and the state of the optimizer.
    fn state(&mut self) -> LearnerState<'_>;
}

/// The arrays of a learner by name.
#[derive(Default)]
pub struct LearnerState<'a> {
    /// of the network
    pub parameters: State<'a>,
    /// of the optimizer
    pub moments: State<'a>,
}

impl<'a> LearnerState<'a> {
    /// Adds a parameter with the moments of its gradient.
    pub fn add(&mut self, name: &str, parameter: &'a mut dyn Stored, moments: [&'a mut dyn Stored; 2]) {
        self.parameters.push((name.to_owned(), parameter));
        for (order, moment) in ["first", "second"].into_iter().zip(moments) {
            self.moments.push((format!("{name}.{order}"), moment));
        }
    }
}

/// The loss of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchLoss {
    /// mean over the examples
    pub mean: f64,
    /// number of examples
    pub examples: usize,
}

/// How long to train, and with what learning rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// epochs at most
    pub epochs: usize,
    /// the learning rate of each step
    pub rate: LearningRate,
    /// with a validation part: when to stop; the parameters of the best epoch are kept
    pub early_stop: Option<EarlyStop>,
}

/// The learning rate over a run.
#[derive(Debug, Clone, PartialEq)]
pub enum LearningRate {
    /// the same throughout
    Constant(f64),
    /// falls linearly to a tenth, step by step
    Linear(f64),
    /// multiplied with a factor after each epoch, and with a tenth whenever the validation score stops rising
    Decaying(f64, f64),
    /// of each epoch
    Listed(Vec<f64>),
}

/// When the validation score is no longer expected to rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStop {
    /// epochs without a better score; 0 goes through all epochs
    pub patience: usize,
    /// how often that may happen: the last time ends training, the others lower the learning rate
    pub drops: usize,
}

/// The best epoch so far.
#[derive(Debug, Default)]
struct Best {
    score: f64,
    /// from 1; 0 before the first
    epoch: usize,
    /// epochs since then or since the last drop of the learning rate
    waited: usize,
    drops: usize,
    parameters: Vec<Tensor>,
}

/// A training run: a learner, and how far it has come.
#[derive(Debug)]
pub struct Run<L> {
    /// what learns
    pub learner: L,
    schedule: Schedule,
    /// learning rate at the start of each epoch that is done
    rates: Vec<f64>,
    /// batches of the epoch under way, their examples and the sum of those examples' losses
    batches: usize,
    examples: u64,
    loss_sum: f64,
    /// batches in all
    steps: u64,
    /// mean loss of an example in the last whole epoch
    loss: f64,
    /// time spent training, in all stretches of the run, without validation
    seconds: f64,
    best: Best,
}

impl<L: Learner> Run<L> {
    /// A run before its first epoch.
    pub fn new(mut learner: L, schedule: Schedule) -> Self {
        let mut best = Best { score: f64::NEG_INFINITY, ..Best::default() };
        if schedule.early_stop.is_some() {
            best.parameters = copies(learner.state());
        }
        Self {
            learner,
            schedule,
            rates: Vec::new(),
            batches: 0,
            examples: 0,
            loss_sum: 0.0,
            steps: 0,
            loss: f64::NAN,
            seconds: 0.0,
            best,
        }
    }

    /// Number of whole epochs.
    pub fn epochs(&self) -> usize {
        self.rates.len()
    }

    /// Mean loss of an example in the last whole epoch.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Seconds spent training, in all stretches of the run.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The best validation score; 0 without a validation part.
    pub fn best_score(&self) -> f64 {
        if self.best.epoch > 0 { self.best.score } else { 0.0 }
    }

    /// Trains until the schedule ends, and keeps the state in `file`. Progress is shown as that of `stage`; `after_epoch`
    /// is called after every epoch.
    ///
    /// # Errors
    ///
    /// [`TrainError::Interrupted`] when the person asked to stop, [`TrainError::Diverged`] when the loss is no longer a
    /// number; those of the file.
    pub fn train(
        &mut self,
        sampler: &L::Sampler,
        stage: Option<&'static str>,
        file: Option<&StateFile>,
        interrupt: &Interrupt,
        mut after_epoch: impl FnMut(&Self),
    ) -> Result<(), TrainError> {
        if let Some(file) = file
            && self.load(file)?
        {
            info!(epochs_done = self.epochs(), "resuming the training that was stopped");
        }
        let epochs = self.schedule.epochs;
        let progress = stage.map(|stage| Progress::start(stage, epochs as u64 * PROGRESS_PER_EPOCH));
        let expected = sampler.examples().max(1.0);
        let (mut saved, mut clock) = (Instant::now(), Instant::now());
        let stop = |run: &mut Self| -> Result<(), TrainError> {
            file.map_or(Ok(()), |file| run.save(file))?;
            Err(TrainError::Interrupted { epoch: run.epochs() + 1, epochs })
        };
        while self.epochs() < epochs && !self.is_exhausted() {
            if interrupt.is_raised() {
                return stop(self);
            }
            let (epoch, skipped) = (self.epochs(), self.batches);
            let (started, examples_before) = (Instant::now(), self.examples);
            let first_rate = self.rate(expected);
            self.learner.begin_epoch(epoch, sampler);
            let (sender, receiver) = sync_channel(8);
            std::thread::scope(|scope| {
                scope.spawn(move || sampler.epoch(epoch, |batch| sender.send(batch).is_ok()));
                // Leaving the loop drops the receiver, which ends the sampler.
                for batch in receiver.into_iter().skip(skipped) {
                    if L::STOPS_WITHIN_EPOCHS && interrupt.is_raised() {
                        return stop(self);
                    }
                    self.step(&batch, expected);
                    self.seconds += clock.elapsed().as_secs_f64();
                    clock = Instant::now();
                    if let Some(file) = file
                        && L::STOPS_WITHIN_EPOCHS
                        && saved.elapsed() >= SAVE_INTERVAL
                    {
                        self.save(file)?;
                        saved = Instant::now();
                    }
                    let Some(progress) = &progress else { continue };
                    progress.at((self.epochs_done(expected) * PROGRESS_PER_EPOCH as f64) as u64, || {
                        let speed = (self.examples - examples_before) as f64 / started.elapsed().as_secs_f64();
                        let loss = self.loss_sum / self.examples as f64;
                        let best = if self.best.epoch > 0 {
                            format!(", best score {:.4}", self.best.score)
                        } else {
                            String::new()
                        };
                        format!("epoch {}/{epochs}, loss {loss:.4}{best}, {speed:.0} {}/s", epoch + 1, L::UNIT)
                    });
                }
                Ok(())
            })?;
            self.end_epoch(first_rate);
            if !self.loss.is_finite() {
                if let Some(file) = file {
                    file.delete(); // to continue from it would not help
                }
                return Err(TrainError::Diverged {
                    epoch: self.epochs(),
                    loss: self.loss,
                    learning_rate: self.schedule.rate.set(first_rate),
                });
            }
            self.validate();
            if let Some(file) = file
                && saved.elapsed() >= SAVE_INTERVAL
            {
                self.save(file)?;
                saved = Instant::now();
            }
            after_epoch(self);
            clock = Instant::now();
        }
        // Whoever stops a later stage does not want to train this one again.
        file.map_or(Ok(()), |file| self.save(file))
    }

    /// Takes the parameters of the best epoch, if the schedule stops early. Returns the learning rates of the epochs
    /// behind the parameters.
    pub fn finish(&mut self) -> Result<Vec<f64>, TrainError> {
        let mut rates = self.rates.clone();
        if self.schedule.early_stop.is_some() {
            for ((_, parameter), best) in self.learner.state().parameters.into_iter().zip(&self.best.parameters) {
                parameter.restore(best)?;
            }
            rates.truncate(self.best.epoch);
        }
        Ok(rates)
    }

    /// Learns from a batch of an epoch of about `expected` examples.
    pub(super) fn step(&mut self, batch: &<L::Sampler as Sampler>::Batch, expected: f64) {
        let rate = self.rate(expected);
        self.steps += 1;
        let loss = self.learner.step(batch, rate, self.steps);
        self.batches += 1;
        self.examples += loss.examples as u64;
        self.loss_sum += loss.mean * loss.examples as f64;
    }

    fn end_epoch(&mut self, rate: f64) {
        self.rates.push(rate);
        self.loss = if self.learner.is_broken() { f64::INFINITY } else { self.loss_sum / self.examples.max(1) as f64 };
        (self.batches, self.examples, self.loss_sum) = (0, 0, 0.0);
    }

    /// Epochs done, the part of the one under way included.
    fn epochs_done(&self, expected: f64) -> f64 {
        self.epochs() as f64 + (self.examples as f64 / expected).min(1.0)
    }

    fn rate(&self, expected: f64) -> f64 {
        let epoch = self.epochs();
        match &self.schedule.rate {
            LearningRate::Constant(rate) => *rate,
            LearningRate::Linear(rate) => rate * (1.0 - 0.9 * self.epochs_done(expected) / self.schedule.epochs as f64),
            LearningRate::Decaying(rate, decay) => rate * decay.powi(epoch as i32) * DROP.powi(self.best.drops as i32),
            LearningRate::Listed(rates) => rates.get(epoch).copied().unwrap_or_default(),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.schedule.early_stop.is_some_and(|stop| stop.patience > 0 && self.best.drops >= stop.drops)
    }

    /// Notes what an epoch gained. Without a gain for a while, the learning rate drops.
    fn validate(&mut self) {
        let Some(early_stop) = self.schedule.early_stop else { return };
        let score = self.learner.score();
        self.best.waited += 1;
        if score > self.best.score {
            (self.best.score, self.best.epoch, self.best.waited) = (score, self.epochs(), 0);
            self.best.parameters = copies(self.learner.state());
        } else if early_stop.patience > 0 && self.best.waited >= early_stop.patience {
            self.best.drops += 1;
            self.best.waited = 0;
        }
    }

    /// Writes the whole state.
    pub(super) fn save(&mut self, file: &StateFile) -> Result<(), TrainError> {
        let mut counters = self.counters();
        file.save(self.state(&mut counters))
    }

    /// Reads what [`Run::save`] wrote; false without it.
    pub(super) fn load(&mut self, file: &StateFile) -> Result<bool, TrainError> {
        let mut counters = self.counters();
        self.rates.clear();
        let loaded = file.load(self.state(&mut counters))?;
        if loaded {
            let [batches, examples, loss_sum, steps, loss, seconds, score, epoch, waited, drops] = counters;
            (self.batches, self.examples, self.loss_sum) = (batches as usize, examples as u64, loss_sum);
            (self.steps, self.loss, self.seconds) = (steps as u64, loss, seconds);
            (self.best.score, self.best.epoch) = (score, epoch as usize);
            (self.best.waited, self.best.drops) = (waited as usize, drops as usize);
        }
        Ok(loaded)
    }

    /// Counters are whole numbers far below 2⁵³, which a double holds exactly, or measurements.
    fn counters(&self) -> [f64; 10] {
        [
            self.batches as f64,
            self.examples as f64,
            self.loss_sum,
            self.steps as f64,
            self.loss,
            self.seconds,
            self.best.score,
            self.best.epoch as f64,
            self.best.waited as f64,
            self.best.drops as f64,
        ]
    }

    fn state<'a>(&'a mut self, counters: &'a mut [f64; 10]) -> State<'a> {
        let LearnerState { parameters: mut state, moments } = self.learner.state();
        state.extend(moments);
        let best = self.best.parameters.iter_mut().enumerate();
        state.extend(best.map(|(number, tensor)| (format!("best.{number}"), tensor as &mut dyn Stored)));
        state.push(("rates".to_owned(), &mut self.rates));
        state.push(("counters".to_owned(), counters));
        state
    }
}

impl LearningRate {
    /// The rate that was set, where the one of a step follows from it.
    fn set(&self, of_step: f64) -> f64 {
        match self {
            Self::Linear(rate) => *rate,
            _ => of_step,
        }
    }
}

fn copies(state: LearnerState<'_>) -> Vec<Tensor> {
    state.parameters.iter().map(|(_, parameter)| parameter.to_tensor().copy()).collect()
}
