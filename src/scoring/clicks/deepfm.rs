//! DeepFM (Guo et al. 2017): a factorization machine over the embeddings of fields, and a network of hidden layers over the
//! same embeddings and the numbers, added up. A group of numbers is a field whose embedding is Σ xᵢ vᵢ.

use tch::Tensor;

use super::logistic_regression;
use super::network::{ClickShape, Forward, Parameter, Plain, relu};
use crate::math::linear::{axpy, dot};

/// Place of the numbers' vectors among the parameters, and of the first hidden layer.
const VECTORS: usize = 2;
const LAYERS: usize = 3;

/// Those of the first order, a vector for each number, the hidden layers and the output's weights.
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

/// Log-odds `[batch]`.
pub fn forward(inputs: &Forward<'_>) -> Tensor {
    let shape = inputs.shape;
    let batch = inputs.numbers.size()[0];
    let kind = inputs.looked_up.kind();
    let embeddings = inputs.embeddings();
    let embeddings = match shape.groups() {
        0 => embeddings,
        groups => {
            let mut parts = vec![embeddings];
            for group in 0..groups {
                let members = (0..).zip(&shape.number_groups).filter(|(_, of)| **of == group);
                let places = Tensor::from_slice(&members.map(|(place, _)| place).collect::<Vec<i64>>());
                let vectors = inputs.dense[VECTORS].index_select(0, &places);
                parts.push(inputs.numbers.index_select(1, &places).matmul(&vectors).unsqueeze(1));
            }
            Tensor::cat(&parts, 1)
        }
    };
    let sum = embeddings.sum_dim_intlist(1, false, kind);
    let pairs = sum.square().sum_dim_intlist(1, false, kind)
        - embeddings.square().sum_dim_intlist([1, 2].as_slice(), false, kind);
    let flat = embeddings.reshape([batch, -1]);
    let mut values = if shape.numbers() > 0 { Tensor::cat(&[&flat, inputs.numbers], 1) } else { flat };
    for layer in 0..shape.hidden.len() {
        values = inputs.dropout(inputs.layer(&values, LAYERS + 2 * layer).relu());
    }
    inputs.first_order() + pairs * 0.5 + inputs.layer(&values, LAYERS + 2 * shape.hidden.len()).view(-1)
}

/// Log-odds of one row.
#[inline(always)]
pub fn score(row: &Plain<'_>) -> f32 {
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
