//! Factorization machine (Rendle 2010): w₀ + Σ wᵢ xᵢ + ½ Σ_f [(Σᵢ v_if xᵢ)² − Σᵢ v_if² xᵢ²], which is the sum over all pairs
//! Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢ xⱼ in time linear in the number of features. Values of fields have x = 1, numbers are taken as they are.

use super::logistic_regression;
use super::row::Row;
use super::shape::{ClickShape, Parameter};
use crate::math::linear::axpy;

/// Index of the numbers' vectors among the parameters.
pub const VECTORS: usize = 2;

/// Returns the parameters of the first order, and a vector for each number.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    parameters.push(Parameter::new("number_vectors", &[shape.numbers(), shape.dim], 0.05));
    parameters
}

/// Returns the log-odds of a row.
#[inline(always)]
pub fn score(row: &Row<'_>) -> f32 {
    let dim = row.shape.dim;
    let (mut sum, mut squares) = (vec![0.0f32; dim], vec![0.0f32; dim]);
    for field in 0..row.shape.fields() {
        for ((sum, square), value) in sum.iter_mut().zip(&mut squares).zip(row.embedding(field)) {
            *sum += value;
            *square += value * value;
        }
    }
    for (&number, vector) in row.numbers.iter().zip(row.dense[VECTORS].chunks_exact(dim)) {
        axpy(number, vector, &mut sum);
        for (square, value) in squares.iter_mut().zip(vector) {
            *square += number * number * value * value;
        }
    }
    let pairs: f32 = sum.iter().zip(&squares).map(|(sum, squares)| sum * sum - squares).sum();
    row.first_order() + 0.5 * pairs
}
