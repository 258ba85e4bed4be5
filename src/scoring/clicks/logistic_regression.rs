//! Logistic regression: log-odds = w₀ + Σ wᵢ xᵢ over the values of fields (x = 1) and the numbers.

use super::shape::{ClickShape, Parameter};

/// Returns the numbers' weights and the bias, with which the parameters of every network begin. The fields' weights are
/// the first column of the table.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    vec![Parameter::new("number_weights", &[shape.numbers()], 0.0), Parameter::new("bias", &[1], 0.0)]
}
