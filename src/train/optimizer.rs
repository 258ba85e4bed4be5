//! Adam and RMSprop for tables of which a batch touches few rows, as tensors and in plain memory.
//!
//! Only the rows touched are read and written, so that a step's cost follows the batch and not the catalog. The moments
//! of the other rows rest until those rows are touched again; bias is corrected by the number of steps of the table.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::math::linear::vectorised;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const RMSPROP_DECAY: f32 = 0.9;

/// Adam's state of a table in a tensor: first and second moment of each value.
#[derive(Debug)]
pub struct RowAdam {
    /// mean of the gradients
    pub first: Tensor,
    /// mean of their squares
    pub second: Tensor,
}

impl RowAdam {
    /// For a table of that shape.
    pub fn new(table: &Tensor) -> Self {
        Self { first: table.zeros_like(), second: table.zeros_like() }
    }

    /// One step on the rows `rows` (distinct) of `table` along `gradient` (`[rows, …]`). `step` counts from 1.
    pub fn step(&mut self, table: &mut Tensor, rows: &Tensor, gradient: &Tensor, learning_rate: f64, step: u64) {
        tch::no_grad(|| {
            let first = self.first.index_select(0, rows) * BETA1 + gradient * (1.0 - BETA1);
            let second = self.second.index_select(0, rows) * BETA2 + gradient.square() * (1.0 - BETA2);
            let _ = self.first.index_copy_(0, rows, &first);
            let _ = self.second.index_copy_(0, rows, &second);
            let exponent = i32::try_from(step).unwrap_or(i32::MAX);
            let rate = learning_rate / (1.0 - BETA1.powi(exponent));
            let correction = (1.0 - BETA2.powi(exponent)).sqrt();
            let change = first * -rate / (second.sqrt() / correction + EPSILON);
            let _ = table.index_add_(0, rows, &change);
        });
    }

    /// One step on a whole tensor, as if it were a table of one row.
    pub fn step_whole(&mut self, tensor: &mut Tensor, gradient: &Tensor, learning_rate: f64, step: u64) {
        let rows = Tensor::arange(tensor.size()[0], (Kind::Int64, tch::Device::Cpu));
        self.step(tensor, &rows, gradient, learning_rate, step);
    }
}

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma and Ba 2015
    Adam,
    /// Hinton 2012
    Rmsprop,
}

/// What the gradients' means are multiplied with in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRates {
    /// learning rate, corrected for the bias of the first moment
    rate: f32,
    /// corrects the root of the second moment
    correction: f32,
}

impl StepRates {
    /// Of Adam, computed in double precision. `step` counts from 1.
    pub fn adam(learning_rate: f64, step: u64) -> Self {
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let rate = (learning_rate / (1.0 - BETA1.powi(exponent))) as f32;
        Self { rate, correction: (1.0 / (1.0 - BETA2.powi(exponent)).sqrt()) as f32 }
    }

    /// Computed in single precision. `step` counts from 1.
    pub fn single(optimizer: Optimizer, learning_rate: f32, step: u64) -> Self {
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        match optimizer {
            Optimizer::Adam => Self {
                rate: learning_rate / (1.0 - (BETA1 as f32).powi(exponent)),
                correction: 1.0 / (1.0 - (BETA2 as f32).powi(exponent)).sqrt(),
            },
            Optimizer::Rmsprop => Self { rate: learning_rate, correction: 1.0 },
        }
    }
}

/// The state of an array in plain memory: moments of the gradient of each value.
#[derive(Debug, Clone, PartialEq)]
pub struct RowOptimizer {
    optimizer: Optimizer,
    /// mean of the gradients; empty for RMSprop
    pub first: Vec<f32>,
    /// mean of their squares
    pub second: Vec<f32>,
}

impl RowOptimizer {
    /// For an array of so many values.
    pub fn new(optimizer: Optimizer, values: usize) -> Self {
        let first = if optimizer == Optimizer::Adam { vec![0.0; values] } else { Vec::new() };
        Self { optimizer, first, second: vec![0.0; values] }
    }

    /// One step on the rows `rows` (distinct) of `table` (`[_, width]`) along `gradient` (`[rows, stride]`, of which the
    /// first `width` count) + `l2` · value.
    pub fn step(
        &mut self,
        table: &mut [f32],
        width: usize,
        rows: &[u32],
        gradient: &[f32],
        l2: f32,
        StepRates { rate, correction }: StepRates,
    ) {
        let stride = (gradient.len() / rows.len().max(1)).max(1);
        let (beta1, beta2, epsilon, optimizer) = (BETA1 as f32, BETA2 as f32, EPSILON as f32, self.optimizer);
        vectorised(
            #[inline(always)]
            || {
                for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(stride)) {
                    let place = row as usize * width..(row as usize + 1) * width;
                    let values = table[place.clone()].iter_mut().zip(gradient);
                    let seconds = self.second[place.clone()].iter_mut();
                    match optimizer {
                        Optimizer::Adam => {
                            for ((second, first), (value, gradient)) in seconds.zip(&mut self.first[place]).zip(values)
                            {
                                let gradient = gradient + l2 * *value;
                                *first = beta1 * *first + (1.0 - beta1) * gradient;
                                *second = beta2 * *second + (1.0 - beta2) * (gradient * gradient);
                                *value -= rate * *first / (second.sqrt() * correction + epsilon);
                            }
                        }
                        Optimizer::Rmsprop => {
                            for (second, (value, gradient)) in seconds.zip(values) {
                                let gradient = gradient + l2 * *value;
                                *second = RMSPROP_DECAY * *second + (1.0 - RMSPROP_DECAY) * (gradient * gradient);
                                *value -= rate * gradient / (second.sqrt() * correction + epsilon);
                            }
                        }
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_plain_memory_moves_as_the_tensor_does() {
        let start: Vec<f32> = (0..12).map(|value| value as f32 / 10.0).collect();
        let (mut tensor, mut plain) = (Tensor::from_slice(&start).reshape([4, 3]), start);
        let (mut of_tensor, mut of_plain) = (RowAdam::new(&tensor), RowOptimizer::new(Optimizer::Adam, 12));
        for step in 1..=4u64 {
            let gradient = [0.3f32, -0.2, 0.1 * step as f32, 9.0, 0.4, -1.0, 2.0, 9.0];
            let narrow = Tensor::from_slice(&gradient).reshape([2, 4]).narrow(1, 0, 3);
            of_tensor.step(&mut tensor, &Tensor::from_slice(&[3i64, 1]), &narrow, 0.01, step);
            of_plain.step(&mut plain, 3, &[3, 1], &gradient, 0.0, StepRates::adam(0.01, step));
        }
        let expected = Vec::<f32>::try_from(tensor.reshape([12])).expect("twelve values");
        for (found, expected) in plain.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    /// Against Adam written out for a single number.
    #[test]
    fn touched_rows_move_as_adam_says_and_others_stay() {
        let mut table = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).reshape([3, 1]);
        let mut adam = RowAdam::new(&table);
        let rows = Tensor::from_slice(&[2i64]);
        let (mut value, mut first, mut second) = (3.0f64, 0.0f64, 0.0f64);
        for step in 1..=5u64 {
            let gradient = 0.7 * step as f64;
            adam.step(&mut table, &rows, &Tensor::from_slice(&[gradient as f32]).reshape([1, 1]), 0.01, step);
            first = 0.9 * first + 0.1 * gradient;
            second = 0.999 * second + 0.001 * gradient * gradient;
            let steps = step as i32;
            value -=
                0.01 * (first / (1.0 - 0.9f64.powi(steps))) / ((second / (1.0 - 0.999f64.powi(steps))).sqrt() + 1e-8);
        }
        assert!((table.double_value(&[2, 0]) - value).abs() < 1e-5);
        assert_eq!((table.double_value(&[0, 0]), table.double_value(&[1, 0])), (1.0, 2.0));
    }

    #[test]
    fn touched_rows_of_an_array_move_as_the_formulas_say_and_others_stay() {
        for optimizer in [Optimizer::Adam, Optimizer::Rmsprop] {
            let mut table = vec![1.0f32, 2.0, 3.0];
            let mut state = RowOptimizer::new(optimizer, 3);
            let (mut value, mut first, mut second) = (3.0f64, 0.0f64, 0.0f64);
            for step in 1..=4u64 {
                let gradient = 0.5 * step as f64 - 0.7;
                let rates = StepRates::single(optimizer, 0.01, step);
                state.step(&mut table, 1, &[2], &[gradient as f32], 0.1, rates);
                let gradient = gradient + 0.1 * value;
                let steps = step as i32;
                match optimizer {
                    Optimizer::Adam => {
                        first = 0.9 * first + 0.1 * gradient;
                        second = 0.999 * second + 0.001 * gradient * gradient;
                        let (first, second) =
                            (first / (1.0 - 0.9f64.powi(steps)), second / (1.0 - 0.999f64.powi(steps)));
                        value -= 0.01 * first / (second.sqrt() + 1e-8);
                    }
                    Optimizer::Rmsprop => {
                        second = 0.9 * second + 0.1 * gradient * gradient;
                        value -= 0.01 * gradient / (second.sqrt() + 1e-8);
                    }
                }
            }
            assert!((f64::from(table[2]) - value).abs() < 1e-4, "{optimizer:?}: {} {value}", table[2]);
            assert_eq!(table[..2], [1.0, 2.0]);
        }
    }
}
