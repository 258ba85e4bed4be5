//! DeepFM (Guo et al. 2017): a factorization machine over the embeddings of fields, and a network of hidden layers over the
//! same embeddings and the numbers; the two are added up. A group of numbers is a field whose embedding is Σ xᵢ vᵢ.

use super::logistic_regression;
use super::row::{Row, relu};
use super::shape::{ClickShape, Parameter};
use crate::math::linear::{axpy, dot};

/// Index of the numbers' vectors among the parameters.
pub const VECTORS: usize = 2;
/// Index of the first hidden layer among the parameters.
pub const LAYERS: usize = 3;

/// Returns the parameters of the first order, a vector for each number, the hidden layers and the output.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    parameters.push(Parameter::new("number_vectors", &[shape.numbers(), shape.dim], 0.05));
    let mut inputs = (shape.fields() + shape.groups()) * shape.dim + shape.numbers();
    for (number, &units) in shape.hidden.iter().enumerate() {
        parameters.extend(Parameter::layer(&format!("hidden_{number}"), inputs, units));
        inputs = units;
    }
    parameters.extend(Parameter::layer("output", inputs, 1));
    parameters
}

/// Returns the log-odds of a row.
#[inline(always)]
pub fn score(row: &Row<'_>) -> f32 {
    let shape = row.shape;
    let (dim, fields) = (shape.dim, shape.fields());
    let length = (fields + shape.groups()) * dim;
    let mut values = vec![0.0f32; length + shape.numbers()];
    for field in 0..fields {
        values[field * dim..(field + 1) * dim].copy_from_slice(row.embedding(field));
    }
    let vectors = row.dense[VECTORS].chunks_exact(dim);
    for ((&number, &group), vector) in row.numbers.iter().zip(&shape.number_groups).zip(vectors) {
        axpy(number, vector, &mut values[(fields + group) * dim..(fields + group + 1) * dim]);
    }
    values[length..].copy_from_slice(row.numbers);
    let mut sum = vec![0.0f32; dim];
    values[..length].chunks_exact(dim).for_each(|embedding| axpy(1.0, embedding, &mut sum));
    let pairs = 0.5 * (dot(&sum, &sum) - dot(&values[..length], &values[..length]));
    for layer in 0..shape.hidden.len() {
        values = row.layer(&values, LAYERS + 2 * layer);
        relu(&mut values);
    }
    row.first_order() + pairs + row.layer(&values, LAYERS + 2 * shape.hidden.len())[0]
}
