//! Field-aware factorization machine (Juan, Zhuang, Chin and Lin 2016): w₀ + Σ wᵢ xᵢ + Σ_{i<j} ⟨v_{i,field(j)}, v_{j,field(i)}⟩ xᵢ xⱼ.
//! A feature has a vector for each field. A group of numbers is a field; products among its members count, too.
//!
//! With S_{a,b} = Σ_{i in field a} v_{i,b} xᵢ the sum over pairs of different fields is Σ_{a<b} ⟨S_{a,b}, S_{b,a}⟩, and the sum
//! within one is ½ (|S_{a,a}|² − Σ |v_{i,a}|² xᵢ²): the cost grows with the number of features, not of their pairs.

use super::logistic_regression;
use super::row::Row;
use super::shape::{ClickShape, Parameter};
use crate::math::linear::{axpy, dot};

/// Index of the numbers' vectors among the parameters.
pub const VECTORS: usize = 2;

/// Returns the parameters of the first order, and for each number a vector for each field.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    let length = (shape.fields() + shape.groups()) * shape.dim;
    parameters.push(Parameter::new("number_vectors", &[shape.numbers(), length], 0.02));
    parameters
}

/// Returns the log-odds of a row.
#[inline(always)]
pub fn score(row: &Row<'_>) -> f32 {
    let shape = row.shape;
    let (fields, dim) = (shape.fields(), shape.dim);
    let all = fields + shape.groups();
    let mut sums = vec![0.0f32; shape.groups() * all * dim];
    let mut squares = 0.0;
    let vectors = row.dense[VECTORS].chunks_exact(all * dim);
    for ((&number, &group), vectors) in row.numbers.iter().zip(&shape.number_groups).zip(vectors) {
        axpy(number, vectors, &mut sums[group * all * dim..(group + 1) * all * dim]);
        let own = &vectors[(fields + group) * dim..(fields + group + 1) * dim];
        squares += number * number * dot(own, own);
    }
    let of = |field: usize, other: usize| -> &[f32] {
        let vectors = match field.checked_sub(fields) {
            None => row.embedding(field),
            Some(group) => &sums[group * all * dim..(group + 1) * all * dim],
        };
        &vectors[other * dim..(other + 1) * dim]
    };
    let mut pairs = 0.0;
    for field in 0..all {
        for other in 0..field {
            pairs += dot(of(field, other), of(other, field));
        }
    }
    let within: f32 = (fields..all).map(|field| dot(of(field, field), of(field, field))).sum();
    row.first_order() + pairs + 0.5 * (within - squares)
}
