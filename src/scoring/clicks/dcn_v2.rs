//! Deep & cross network, version 2 (Wang et al. 2021), the parallel form: cross layers x_{l+1} = x₀ ⊙ (W x_l + b) + x_l run
//! beside hidden layers. Both read all embeddings and numbers, and one output reads both.

use super::logistic_regression;
use super::row::{Row, relu};
use super::shape::{ClickShape, Parameter};

/// Index of the first cross layer among the parameters.
pub const CROSS: usize = 2;

fn inputs(shape: &ClickShape) -> usize {
    shape.fields() * shape.dim + shape.numbers()
}

/// Returns the index of the first hidden layer among the parameters.
pub fn hidden(shape: &ClickShape) -> usize {
    CROSS + 2 * shape.cross_layers
}

/// Returns the parameters of the first order, the cross layers, the hidden layers and the output.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    let mut width = inputs(shape);
    for number in 0..shape.cross_layers {
        parameters.extend(Parameter::layer(&format!("cross_{number}"), width, width));
    }
    for (number, &units) in shape.hidden.iter().enumerate() {
        parameters.extend(Parameter::layer(&format!("hidden_{number}"), width, units));
        width = units;
    }
    parameters.extend(Parameter::layer("output", width + inputs(shape), 1));
    parameters
}

/// Returns the log-odds of a row.
#[inline(always)]
pub fn score(row: &Row<'_>) -> f32 {
    let shape = row.shape;
    let mut first: Vec<f32> = Vec::with_capacity(inputs(shape));
    (0..shape.fields()).for_each(|field| first.extend_from_slice(row.embedding(field)));
    first.extend_from_slice(row.numbers);
    let mut crossed = first.clone();
    for layer in 0..shape.cross_layers {
        let product = row.layer(&crossed, CROSS + 2 * layer);
        for ((value, first), product) in crossed.iter_mut().zip(&first).zip(product) {
            *value += first * product;
        }
    }
    let mut values = first;
    for layer in 0..shape.hidden.len() {
        values = row.layer(&values, hidden(shape) + 2 * layer);
        relu(&mut values);
    }
    crossed.extend(values);
    row.first_order() + row.layer(&crossed, hidden(shape) + 2 * shape.hidden.len())[0]
}
