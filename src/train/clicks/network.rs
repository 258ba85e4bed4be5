//! The training that all networks of click probability share: mini-batches in random order, steps on the rows that a batch
//! looked up, a learning rate that falls when the validation part is not predicted better, an early stop.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::settings::ClickSettings;
use crate::dataset::listens::Inputs;
use crate::evaluate::auc;
use crate::scoring::clicks::network::ClickNetwork;
use crate::scoring::clicks::shape::ClickShape;
use crate::train::checkpoint::RunContext;
use crate::train::epochs::{BatchLoss, EarlyStop, Learner, LearnerState, LearningRate, Run, Schedule};
use crate::train::error::TrainError;
use crate::train::optimizer::{RowOptimizer, StepRates};
use crate::train::sampling::ShuffledExamples;
use crate::train::torch::click_networks::{ClickGradients, gradients as compute_gradients};

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

/// How often the learning rate may drop before training ends.
const DROPS: usize = 2;

/// Trains a network, with its state in the file of `stage`.
pub fn train_network(
    task: &NetworkTask<'_>,
    settings: &ClickSettings,
    stage: &str,
    context: RunContext<'_>,
) -> Result<TrainedNetwork, TrainError> {
    let schedule = if task.validation.is_some() {
        Schedule {
            epochs: settings.epochs as usize,
            rate: LearningRate::Decaying(settings.learning_rate, settings.decay),
            early_stop: Some(EarlyStop { patience: settings.patience as usize, drops: DROPS }),
        }
    } else {
        Schedule { epochs: task.rates.len(), rate: LearningRate::Listed(task.rates.clone()), early_stop: None }
    };
    let examples = task.training.targets.len();
    let sampler = ShuffledExamples { examples, batch: settings.batch as usize, seed: task.seed };
    let mut run = Run::new(ClickLearner::new(task, settings), schedule);
    run.train(&sampler, Some("training"), context.file(stage).as_ref(), context.interrupt, |_| ())?;
    let rows_per_second = (examples * run.epochs()) as f64 / run.seconds().max(1e-9);
    let rates = run.finish()?;
    Ok(TrainedNetwork { rates, auc: run.best_score(), rows_per_second, network: run.learner.network })
}

/// A network and its optimizer.
struct ClickLearner<'a> {
    task: &'a NetworkTask<'a>,
    settings: &'a ClickSettings,
    network: ClickNetwork,
    table: RowOptimizer,
    dense: Vec<RowOptimizer>,
    /// for each row of the table its place among those that a batch touched, and in which step
    touched: Vec<(u32, u64)>,
    buffers: Buffers,
}

/// Arrays that a batch works in, reused by the next one.
#[derive(Default)]
struct Buffers {
    fields: Vec<u32>,
    numbers: Vec<f32>,
    targets: Vec<f32>,
    gradients: ClickGradients,
    /// rows that the batch touched
    rows: Vec<u32>,
    /// `[rows, width]`: sums of their gradients
    sums: Vec<f32>,
}

impl<'a> ClickLearner<'a> {
    fn new(task: &'a NetworkTask<'a>, settings: &'a ClickSettings) -> Self {
        let network = ClickNetwork::new(task.shape.clone(), &mut Xoshiro256PlusPlus::seed_from_u64(task.seed));
        let optimizer = |values: &Vec<f32>| RowOptimizer::new(settings.optimizer, values.len());
        Self {
            task,
            settings,
            table: optimizer(&network.table),
            dense: network.dense.iter().map(optimizer).collect(),
            touched: vec![(0, 0); task.shape.rows],
            network,
            buffers: Buffers::default(),
        }
    }
}

impl Learner for ClickLearner<'_> {
    type Sampler = ShuffledExamples;
    const UNIT: &'static str = "listens";
    /// What a step drops depends on the steps before it.
    const STOPS_WITHIN_EPOCHS: bool = false;

    fn begin_epoch(&mut self, epoch: usize, sampler: &ShuffledExamples) {
        tch::manual_seed(sampler.seed_of(epoch) as i64);
    }

    fn step(&mut self, batch: &Vec<u32>, learning_rate: f64, step: u64) -> BatchLoss {
        let Buffers { fields, numbers, targets, gradients, rows, sums } = &mut self.buffers;
        let (of_fields, of_numbers, training) =
            (self.task.shape.fields(), self.task.shape.numbers(), self.task.training);
        fields.clear();
        numbers.clear();
        targets.clear();
        for &place in batch {
            let place = place as usize;
            fields.extend_from_slice(&training.inputs.fields[place * of_fields..(place + 1) * of_fields]);
            numbers.extend_from_slice(&training.inputs.numbers[place * of_numbers..(place + 1) * of_numbers]);
            targets.push(f32::from(u8::from(training.targets[place])));
        }
        compute_gradients(&self.network, fields, numbers, targets, gradients);
        let rates = StepRates::single(self.settings.optimizer, learning_rate as f32, step);
        let width = self.network.shape.width();
        rows.clear();
        sums.clear();
        for (&row, gradient) in fields.iter().zip(gradients.looked_up.chunks_exact(width)) {
            let (place, last) = &mut self.touched[row as usize];
            if *last != step {
                (*place, *last) = (rows.len() as u32, step);
                rows.push(row);
                sums.extend_from_slice(gradient);
                continue;
            }
            let sum = &mut sums[*place as usize * width..(*place as usize + 1) * width];
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
        self.table.step(&mut self.network.table, width, rows, sums, self.settings.l2 as f32, rates);
        for ((values, state), gradient) in self.network.dense.iter_mut().zip(&mut self.dense).zip(&gradients.dense) {
            let width = values.len();
            // Biases and the one weight of the whole are free.
            let l2 = if width == 1 { 0.0 } else { self.settings.dense_l2 as f32 };
            if !gradient.is_empty() {
                state.step(values, width, &[0], gradient, l2, rates);
            }
        }
        BatchLoss { mean: gradients.loss, examples: batch.len() }
    }

    fn score(&self) -> f64 {
        let Some(validation) = &self.task.validation else { return 0.0 };
        let scores = self.network.score(&validation.inputs.fields, &validation.inputs.numbers);
        auc(&scores, validation.targets)
    }

    fn state(&mut self) -> LearnerState<'_> {
        let mut state = LearnerState::default();
        state.add("table", &mut self.network.table, [&mut self.table.first, &mut self.table.second]);
        for (number, (values, optimizer)) in self.network.dense.iter_mut().zip(&mut self.dense).enumerate() {
            state.add(&format!("dense.{number}"), values, [&mut optimizer.first, &mut optimizer.second]);
        }
        state
    }
}
