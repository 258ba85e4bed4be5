//! The training that all networks of click probability share: mini-batches in random order, steps on the rows that a batch
//! looked up, a learning rate that falls when the validation part is not predicted better, an early stop.
//!
//! The state is written to a file after each epoch; a run with the same arguments goes on from there.

use std::path::Path;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::Tensor;

use super::ClickSettings;
use super::optimizer::RowOptimizer;
use crate::dataset::listens::Inputs;
use crate::evaluate::auc;
use crate::progress::{Interrupt, Progress};
use crate::scoring::clicks::network::ClickNetwork;
use crate::scoring::clicks::shape::ClickShape;
use crate::train::torch::click_networks::{ClickGradients, gradients as compute_gradients};
use crate::train::{TrainError, checkpoint};

/// Rows to learn from, or to be measured on.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// what is known of them
    pub inputs: &'a Inputs,
    /// whether users came back
    pub targets: &'a [bool],
}

/// What to train, and on what.
#[derive(Debug, Clone)]
pub struct NetworkTask<'a> {
    /// how large the network is
    pub shape: ClickShape,
    /// rows to learn from
    pub training: Examples<'a>,
    /// rows to stop by; none goes through `rates`
    pub validation: Option<Examples<'a>>,
    /// learning rate of each epoch, where there is nothing to stop by
    pub rates: Vec<f64>,
    /// random seed
    pub seed: u64,
}

/// A trained network.
#[derive(Debug, Clone)]
pub struct TrainedNetwork {
    /// of the best epoch, if there was a validation part
    pub network: ClickNetwork,
    /// learning rate of each epoch behind it
    pub rates: Vec<f64>,
    /// area under the curve on the validation part
    pub auc: f64,
    /// rows learned from each second
    pub rows_per_second: f64,
}

/// What a learning rate is multiplied with when an epoch brought nothing.
const DROP: f64 = 0.1;
/// Drops of the learning rate before training ends.
const DROPS: usize = 2;

/// Trains a network. `resume_file` is where the state is kept; none keeps none.
pub fn train_network(
    task: &NetworkTask<'_>,
    settings: &ClickSettings,
    resume_file: Option<&Path>,
    interrupt: &Interrupt,
) -> Result<TrainedNetwork, TrainError> {
    let mut run = Run::new(task, settings);
    if let Some(path) = resume_file.filter(|path| path.exists()) {
        run.load(path)?;
    }
    let epochs = if task.validation.is_some() { settings.epochs as usize } else { task.rates.len() };
    let progress = Progress::start("training", epochs as u64);
    let started = (Instant::now(), run.rates.len());
    while run.rates.len() < epochs && !run.is_done(settings) {
        let epoch = run.rates.len() + 1;
        if interrupt.is_raised() {
            return Err(TrainError::Interrupted { epoch, epochs });
        }
        let rate = match &task.validation {
            None => task.rates[run.rates.len()],
            Some(_) => {
                let decay = settings.decay.powi(run.rates.len() as i32);
                settings.learning_rate * decay * DROP.powi(run.drops as i32)
            }
        };
        run.epoch(task, settings, rate);
        if !run.loss.is_finite() {
            return Err(TrainError::Diverged { epoch, loss: run.loss, learning_rate: rate });
        }
        if let Some(validation) = &task.validation {
            let scores = run.network.score(&validation.inputs.fields, &validation.inputs.numbers);
            run.measured(auc(&scores, validation.targets), settings);
        }
        if let Some(path) = resume_file {
            run.save(path)?;
        }
        progress.at(epoch as u64, || format!("epoch {epoch}/{epochs}, loss {:.4}, AUC {:.4}", run.loss, run.best_auc));
    }
    let rows = task.training.targets.len() * (run.rates.len() - started.1);
    let rows_per_second = rows as f64 / started.0.elapsed().as_secs_f64().max(1e-9);
    let rates = match task.validation {
        Some(_) => run.rates[..run.best_epoch].to_vec(),
        None => run.rates,
    };
    let network = if task.validation.is_some() { run.best } else { run.network };
    Ok(TrainedNetwork { network, rates, auc: run.best_auc, rows_per_second })
}

/// The network and its optimiser, and how far they are.
struct Run {
    network: ClickNetwork,
    best: ClickNetwork,
    table: RowOptimizer,
    dense: Vec<RowOptimizer>,
    seed: u64,
    /// batches done
    step: u64,
    /// learning rate of each epoch done
    rates: Vec<f64>,
    best_auc: f64,
    best_epoch: usize,
    /// epochs since the best one or the last drop of the learning rate
    waited: usize,
    drops: usize,
    loss: f64,
    /// for each row of the table its place among those that a batch touched, and in which batch
    touched: Vec<(u32, u64)>,
    buffers: Buffers,
}

/// What a batch works in, and the next one again.
#[derive(Default)]
struct Buffers {
    gradients: ClickGradients,
    /// rows that the batch touched
    rows: Vec<u32>,
    /// `[rows, width]`: sums of their gradients
    sums: Vec<f32>,
}

impl Run {
    fn new(task: &NetworkTask<'_>, settings: &ClickSettings) -> Self {
        let network = ClickNetwork::new(task.shape.clone(), &mut Xoshiro256PlusPlus::seed_from_u64(task.seed));
        let optimizer = |values: &Vec<f32>| RowOptimizer::new(settings.optimizer, values.len());
        Self {
            best: network.clone(),
            table: optimizer(&network.table),
            dense: network.dense.iter().map(optimizer).collect(),
            touched: vec![(0, 0); task.shape.rows],
            network,
            seed: task.seed,
            step: 0,
            rates: Vec::new(),
            best_auc: 0.0,
            best_epoch: 0,
            waited: 0,
            drops: 0,
            loss: f64::NAN,
            buffers: Buffers::default(),
        }
    }

    fn is_done(&self, settings: &ClickSettings) -> bool {
        settings.patience > 0 && self.drops >= DROPS
    }

    /// Notes what an epoch brought. When it was nothing for a while, the learning rate falls.
    fn measured(&mut self, auc: f64, settings: &ClickSettings) {
        self.waited += 1;
        if auc > self.best_auc {
            (self.best_auc, self.best_epoch, self.waited) = (auc, self.rates.len(), 0);
            self.best.clone_from(&self.network);
        } else if settings.patience > 0 && self.waited >= settings.patience as usize {
            self.drops += 1;
            self.waited = 0;
        }
    }

    fn epoch(&mut self, task: &NetworkTask<'_>, settings: &ClickSettings, rate: f64) {
        // A generator for each epoch: a resumed run sees what an uninterrupted one would.
        let seed = self.seed.wrapping_add((self.rates.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        tch::manual_seed(seed as i64);
        let mut order: Vec<u32> = (0..task.training.targets.len() as u32).collect();
        order.shuffle(&mut rng);
        let (fields, numbers) = (task.shape.fields(), task.shape.numbers());
        let (mut batch_fields, mut batch_numbers, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut loss = 0.0;
        for places in order.chunks(settings.batch as usize) {
            batch_fields.clear();
            batch_numbers.clear();
            targets.clear();
            for &place in places {
                let place = place as usize;
                let inputs = task.training.inputs;
                batch_fields.extend_from_slice(&inputs.fields[place * fields..(place + 1) * fields]);
                batch_numbers.extend_from_slice(&inputs.numbers[place * numbers..(place + 1) * numbers]);
                targets.push(f32::from(u8::from(task.training.targets[place])));
            }
            loss += self.batch(&batch_fields, &batch_numbers, &targets, settings, rate as f32) * places.len() as f64;
        }
        self.loss = loss / order.len().max(1) as f64;
        self.rates.push(rate);
    }

    /// One step; gives the loss before it.
    fn batch(&mut self, fields: &[u32], numbers: &[f32], targets: &[f32], settings: &ClickSettings, rate: f32) -> f64 {
        let Buffers { gradients, rows, sums } = &mut self.buffers;
        compute_gradients(&self.network, fields, numbers, targets, gradients);
        self.step += 1;
        let width = self.network.shape.width();
        rows.clear();
        sums.clear();
        for (&row, gradient) in fields.iter().zip(gradients.looked_up.chunks_exact(width)) {
            let (place, step) = &mut self.touched[row as usize];
            if *step != self.step {
                (*place, *step) = (rows.len() as u32, self.step);
                rows.push(row);
                sums.extend_from_slice(gradient);
                continue;
            }
            let sum = &mut sums[*place as usize * width..(*place as usize + 1) * width];
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
        self.table.step(&mut self.network.table, width, rows, sums, settings.l2 as f32, rate, self.step);
        for ((values, state), gradient) in self.network.dense.iter_mut().zip(&mut self.dense).zip(&gradients.dense) {
            let width = values.len();
            // Biases and the one weight of the whole are free.
            let l2 = if width == 1 { 0.0 } else { settings.dense_l2 as f32 };
            if !gradient.is_empty() {
                state.step(values, width, &[0], gradient, l2, rate, self.step);
            }
        }
        gradients.loss
    }

    /// All arrays by name.
    fn arrays(&self) -> Vec<(String, &Vec<f32>)> {
        let mut arrays = vec![
            ("table".to_owned(), &self.network.table),
            ("best.table".to_owned(), &self.best.table),
            ("table.first".to_owned(), &self.table.first),
            ("table.second".to_owned(), &self.table.second),
        ];
        let of = |network: &str, number: usize| format!("{network}.{number}");
        for number in 0..self.dense.len() {
            arrays.push((of("dense", number), &self.network.dense[number]));
            arrays.push((of("best.dense", number), &self.best.dense[number]));
            arrays.push((of("first", number), &self.dense[number].first));
            arrays.push((of("second", number), &self.dense[number].second));
        }
        arrays
    }

    fn save(&self, path: &Path) -> Result<(), TrainError> {
        let mut tensors: Vec<(String, Tensor)> =
            self.arrays().into_iter().map(|(name, values)| (name, Tensor::from_slice(values))).collect();
        let mut rates = self.rates.clone();
        rates.resize(RATES, 0.0);
        tensors.push(("rates".to_owned(), Tensor::from_slice(&rates)));
        let progress = [
            self.step as f64,
            self.rates.len() as f64,
            self.best_auc,
            self.best_epoch as f64,
            self.waited as f64,
            self.drops as f64,
            self.loss,
        ];
        checkpoint::save(path, tensors, &progress)
    }

    fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut tensors: Vec<(String, Tensor)> =
            self.arrays().into_iter().map(|(name, values)| (name, Tensor::from_slice(values))).collect();
        tensors.push(("rates".to_owned(), Tensor::from_slice(&[0.0f64; RATES])));
        let places = tensors.iter_mut().map(|(name, tensor)| (name.clone(), tensor)).collect();
        let [step, epochs, best_auc, best_epoch, waited, drops, loss] = checkpoint::load::<7>(path, places)?;
        let mut values = tensors.into_iter().map(|(_, tensor)| tensor);
        let mut next = || -> Result<Vec<f32>, TrainError> {
            Ok(values.next().map(Vec::<f32>::try_from).transpose()?.unwrap_or_default())
        };
        self.network.table = next()?;
        self.best.table = next()?;
        self.table.first = next()?;
        self.table.second = next()?;
        for number in 0..self.dense.len() {
            self.network.dense[number] = next()?;
            self.best.dense[number] = next()?;
            self.dense[number].first = next()?;
            self.dense[number].second = next()?;
        }
        self.rates = values.next().map(Vec::<f64>::try_from).transpose()?.unwrap_or_default();
        self.rates.truncate(epochs as usize);
        (self.step, self.best_auc, self.best_epoch) = (step as u64, best_auc, best_epoch as usize);
        (self.waited, self.drops, self.loss) = (waited as usize, drops as usize, loss);
        Ok(())
    }
}

/// Epochs whose learning rates a file of a run holds.
const RATES: usize = 1_000;
