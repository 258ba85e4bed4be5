//! What a network reads to score one listen, and the steps that the architectures share.

use super::shape::ClickShape;
use crate::math::linear::dot;

/// The inputs of one listen beside the network's dense parameters.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// size of the network
    pub shape: &'a ClickShape,
    /// `[fields, width]`: rows of the table
    pub looked_up: &'a [f32],
    /// `[numbers]`
    pub numbers: &'a [f32],
    /// dense parameters
    pub dense: &'a [Vec<f32>],
}

impl Row<'_> {
    /// Returns bias and weights of the first order, summed up.
    #[inline(always)]
    pub fn first_order(&self) -> f32 {
        let fields: f32 = self.looked_up.chunks_exact(self.shape.width()).map(|row| row[0]).sum();
        fields + dot(self.numbers, &self.dense[0]) + self.dense[1][0]
    }

    /// Returns the embedding of a field.
    #[inline(always)]
    pub fn embedding(&self, field: usize) -> &[f32] {
        let width = self.shape.width();
        &self.looked_up[field * width + 1..(field + 1) * width]
    }

    /// Applies the dense layer whose weights are parameter `index` and whose biases are the next one.
    #[inline(always)]
    pub fn layer(&self, values: &[f32], index: usize) -> Vec<f32> {
        let rows = self.dense[index].chunks_exact(values.len().max(1));
        rows.zip(&self.dense[index + 1]).map(|(weights, bias)| dot(weights, values) + bias).collect()
    }
}

/// Sets values below 0 to 0, in place.
#[inline(always)]
pub fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}

/// Applies the exponential linear unit, in place.
#[inline(always)]
pub fn elu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = if *value > 0.0 { *value } else { value.exp() - 1.0 });
}
