//! Factorization machine (Rendle 2010): w₀ + Σ wᵢ xᵢ + ½ Σ_f [(Σᵢ v_if xᵢ)² − Σᵢ v_if² xᵢ²], which is the sum over all pairs
//! Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢ xⱼ in time linear in the number of features. Values of fields have x = 1, numbers are as they are.

use tch::Tensor;

use super::logistic_regression;
use super::network::{ClickShape, Forward, Parameter, Plain, weighted_sum};

/// Place of the numbers' vectors among the parameters.
const VECTORS: usize = 2;

/// Those of the first order, and a vector for each number.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    parameters.push(Parameter::new("number_vectors", &[shape.numbers(), shape.dim], 0.05));
    parameters
}

/// Log-odds `[batch]`.
pub fn forward(inputs: &Forward<'_>) -> Tensor {
    let (embeddings, vectors) = (inputs.embeddings(), &inputs.dense[VECTORS]);
    let kind = embeddings.kind();
    let sum = embeddings.sum_dim_intlist(1, false, kind) + inputs.numbers.matmul(vectors);
    let squares =
        embeddings.square().sum_dim_intlist(1, false, kind) + inputs.numbers.square().matmul(&vectors.square());
    inputs.first_order() + (sum.square() - squares).sum_dim_intlist(1, false, kind) * 0.5
}

/// Log-odds of one row.
#[inline(always)]
pub fn score(row: &Plain<'_>) -> f32 {
    let dim = row.shape.dim;
    let (mut sum, mut squares) = (vec![0.0f32; dim], vec![0.0f32; dim]);
    for field in 0..row.shape.fields() {
        for (place, value) in row.embedding(field).iter().enumerate() {
            sum[place] += value;
            squares[place] += value * value;
        }
    }
    weighted_sum(row.numbers, &row.dense[VECTORS], &mut sum);
    for (&number, vector) in row.numbers.iter().zip(row.dense[VECTORS].chunks_exact(dim)) {
        for (place, value) in vector.iter().enumerate() {
            squares[place] += number * number * value * value;
        }
    }
    let pairs: f32 = sum.iter().zip(&squares).map(|(sum, squares)| sum * sum - squares).sum();
    row.first_order() + 0.5 * pairs
}
