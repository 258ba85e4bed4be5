//! Logistic regression: log-odds = w₀ + Σ wᵢ xᵢ over the values of fields (x = 1) and the numbers.

use super::network::{ClickShape, Parameter};

/// The numbers' weights and the bias; fields' weights are the first column of the table. Every network begins so.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    vec![Parameter::new("number_weights", &[shape.numbers()], 0.0), Parameter::new("bias", &[1], 0.0)]
}
