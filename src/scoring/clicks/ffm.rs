//! Field-aware factorization machine (Juan, Zhuang, Chin and Lin 2016): w₀ + Σ wᵢ xᵢ + Σ_{i<j} ⟨v_{i,field(j)}, v_{j,field(i)}⟩ xᵢ xⱼ.
//! A feature has a vector for each field. A group of numbers is a field; its members' products among themselves count, too.
//!
//! With S_{a,b} = Σ_{i in field a} v_{i,b} xᵢ the sum over pairs of different fields is Σ_{a<b} ⟨S_{a,b}, S_{b,a}⟩, and that
//! within one is ½ (|S_{a,a}|² − Σ |v_{i,a}|² xᵢ²): the cost is that of the features, not of their pairs.

use tch::Tensor;

use super::logistic_regression;
use super::network::{ClickShape, Forward, Parameter, Plain};
use crate::math::linear::{axpy, dot};

/// Place of the numbers' vectors among the parameters.
const VECTORS: usize = 2;

/// Those of the first order, and for each number a vector for each field.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    let length = (shape.fields() + shape.groups()) * shape.dim;
    parameters.push(Parameter::new("number_vectors", &[shape.numbers(), length], 0.02));
    parameters
}

/// Log-odds `[batch]`.
pub fn forward(inputs: &Forward<'_>) -> Tensor {
    let shape = inputs.shape;
    let (fields, dim) = (shape.fields(), shape.dim as i64);
    let all = (fields + shape.groups()) as i64;
    let batch = inputs.numbers.size()[0];
    let kind = inputs.looked_up.kind();
    let mut parts = vec![inputs.embeddings().view([batch, fields as i64, all, dim])];
    let mut within = Vec::new();
    for group in 0..shape.groups() {
        let places = places(shape, group);
        let numbers = inputs.numbers.index_select(1, &places);
        let vectors = inputs.dense[VECTORS].index_select(0, &places);
        parts.push(numbers.matmul(&vectors).view([batch, 1, all, dim]));
        let own = vectors.narrow(1, (fields + group) as i64 * dim, dim).square().sum_dim_intlist(1, false, kind);
        within.push(numbers.square().mv(&own));
    }
    let sums = Tensor::cat(&parts, 1);
    let pairs = (&sums * sums.transpose(1, 2)).sum_dim_intlist([1, 2, 3].as_slice(), false, kind);
    let diagonal = sums.diagonal(0, 1, 2).square();
    // A field of one value has no pairs within itself.
    let alone = diagonal.narrow(2, 0, fields as i64).sum_dim_intlist([1, 2].as_slice(), false, kind);
    let squares = within.into_iter().fold(alone, |sum, one| sum + one);
    inputs.first_order() + (pairs - squares) * 0.5
}

fn places(shape: &ClickShape, group: usize) -> Tensor {
    let members = (0..).zip(&shape.number_groups).filter(|(_, of)| **of == group);
    Tensor::from_slice(&members.map(|(place, _)| place).collect::<Vec<i64>>())
}

/// Log-odds of one row.
#[inline(always)]
pub fn score(row: &Plain<'_>) -> f32 {
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
