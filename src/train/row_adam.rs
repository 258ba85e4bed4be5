//! Adam (Kingma and Ba 2015) for tables of which a batch touches few rows.
//!
//! Only the rows touched are read and written, so that a step's cost follows the batch and not the catalog. The moments
//! of the other rows rest until those rows are touched again; bias is corrected by the number of steps of the table.

use tch::{Kind, Tensor};

use crate::math::linear::vectorised;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The state of one table: first and second moment of each value.
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

/// As [`RowAdam`], for a table in plain memory.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainRowAdam {
    /// mean of the gradients
    pub first: Vec<f32>,
    /// mean of their squares
    pub second: Vec<f32>,
}

impl PlainRowAdam {
    /// For a table of so many values.
    pub fn new(values: usize) -> Self {
        Self { first: vec![0.0; values], second: vec![0.0; values] }
    }

    /// One step on the rows `rows` (distinct) of `table` (`[_, width]`) along `gradient` (`[rows, stride]`, of which the
    /// first `width` count). `step` counts from 1.
    pub fn step(
        &mut self,
        table: &mut [f32],
        width: usize,
        rows: &[u32],
        gradient: &[f32],
        learning_rate: f64,
        step: u64,
    ) {
        let stride = gradient.len() / rows.len().max(1);
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let rate = (learning_rate / (1.0 - BETA1.powi(exponent))) as f32;
        let correction = (1.0 / (1.0 - BETA2.powi(exponent)).sqrt()) as f32;
        let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
        vectorised(
            #[inline(always)]
            || {
                for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(stride)) {
                    let place = row as usize * width..(row as usize + 1) * width;
                    let moments = self.first[place.clone()].iter_mut().zip(&mut self.second[place.clone()]);
                    for ((value, (first, second)), gradient) in table[place].iter_mut().zip(moments).zip(gradient) {
                        *first = beta1 * *first + (1.0 - beta1) * gradient;
                        *second = beta2 * *second + (1.0 - beta2) * (gradient * gradient);
                        *value -= rate * *first / (second.sqrt() * correction + epsilon);
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
        let (mut of_tensor, mut of_plain) = (RowAdam::new(&tensor), PlainRowAdam::new(12));
        for step in 1..=4u64 {
            let gradient = [0.3f32, -0.2, 0.1 * step as f32, 9.0, 0.4, -1.0, 2.0, 9.0];
            let narrow = Tensor::from_slice(&gradient).reshape([2, 4]).narrow(1, 0, 3);
            of_tensor.step(&mut tensor, &Tensor::from_slice(&[3i64, 1]), &narrow, 0.01, step);
            of_plain.step(&mut plain, 3, &[3, 1], &gradient, 0.01, step);
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
}
