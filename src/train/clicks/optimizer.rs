//! Adam and RMSprop on plain arrays, by rows: a step touches the rows that a batch looked up, and no others.

use serde::{Deserialize, Serialize};

use crate::math::linear::vectorised;

const ADAM: (f32, f32) = (0.9, 0.999);
const RMSPROP_DECAY: f32 = 0.9;
const EPSILON: f32 = 1e-8;

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma and Ba 2015
    Adam,
    /// Hinton 2012
    Rmsprop,
}

/// The state of one array: moments of the gradient of each value.
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

    /// One step on the rows `rows` (distinct) of `table` (`[_, width]`) along `gradient` (`[rows, width]`) + `l2` · value.
    /// `step` counts from 1.
    #[expect(clippy::too_many_arguments, reason = "each is a number of the formula")]
    pub fn step(
        &mut self,
        table: &mut [f32],
        width: usize,
        rows: &[u32],
        gradient: &[f32],
        l2: f32,
        learning_rate: f32,
        step: u64,
    ) {
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let (rate, correction) = match self.optimizer {
            Optimizer::Adam => {
                (learning_rate / (1.0 - ADAM.0.powi(exponent)), 1.0 / (1.0 - ADAM.1.powi(exponent)).sqrt())
            }
            Optimizer::Rmsprop => (learning_rate, 1.0),
        };
        let optimizer = self.optimizer;
        vectorised(
            #[inline(always)]
            || {
                for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(width)) {
                    let place = row as usize * width..(row as usize + 1) * width;
                    let values = table[place.clone()].iter_mut().zip(gradient);
                    let seconds = self.second[place.clone()].iter_mut();
                    match optimizer {
                        Optimizer::Adam => {
                            for ((second, first), (value, gradient)) in seconds.zip(&mut self.first[place]).zip(values)
                            {
                                let gradient = gradient + l2 * *value;
                                *first = ADAM.0 * *first + (1.0 - ADAM.0) * gradient;
                                *second = ADAM.1 * *second + (1.0 - ADAM.1) * (gradient * gradient);
                                *value -= rate * *first / (second.sqrt() * correction + EPSILON);
                            }
                        }
                        Optimizer::Rmsprop => {
                            for (second, (value, gradient)) in seconds.zip(values) {
                                let gradient = gradient + l2 * *value;
                                *second = RMSPROP_DECAY * *second + (1.0 - RMSPROP_DECAY) * (gradient * gradient);
                                *value -= rate * gradient / (second.sqrt() + EPSILON);
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
    fn touched_rows_move_as_the_formulas_say_and_others_stay() {
        for optimizer in [Optimizer::Adam, Optimizer::Rmsprop] {
            let mut table = vec![1.0f32, 2.0, 3.0];
            let mut state = RowOptimizer::new(optimizer, 3);
            let (mut value, mut first, mut second) = (3.0f64, 0.0f64, 0.0f64);
            for step in 1..=4u64 {
                let gradient = 0.5 * step as f64 - 0.7;
                state.step(&mut table, 1, &[2], &[gradient as f32], 0.1, 0.01, step);
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
