//! A network with one hidden layer that predicts a rating from a user's numbers u and a track's numbers v:
//! f(u, v) = o · relu(U u + V v + b) + c.
//!
//! A track's half V v + b of the hidden layer is computed once, when the bundle is loaded.

use crate::math::Array;
use crate::math::linear::{axpy, dot};

/// The weights of a hidden layer of H units on a user's and a track's D numbers, and of its one output.
#[derive(Debug, Clone, PartialEq)]
pub struct HiddenLayer {
    /// U, `[H, D]`: weights of the user's numbers
    pub users: Array<f32>,
    /// V, `[H, D]`: weights of the track's numbers
    pub tracks: Array<f32>,
    /// b, `[H]`
    pub biases: Vec<f32>,
    /// o, `[H]`: weights of the output
    pub output: Vec<f32>,
}

/// The network, with the tracks' halves.
#[derive(Debug)]
pub struct HiddenNetwork {
    layer: HiddenLayer,
    /// c
    output_bias: f32,
    /// `[T, H]`: V v + b of each track
    halves: Vec<f32>,
}

impl HiddenNetwork {
    /// Computes the tracks' halves; `features` are the tracks' numbers, `[T, D]`.
    pub fn new(layer: HiddenLayer, output_bias: f32, features: &[f32]) -> Self {
        let columns = layer.tracks.shape[1];
        let mut halves = Vec::with_capacity(features.len() / columns.max(1) * layer.biases.len());
        for feature in features.chunks_exact(columns) {
            let units = layer.tracks.values.chunks_exact(columns).zip(&layer.biases);
            halves.extend(units.map(|(weights, bias)| dot(weights, feature) + bias));
        }
        Self { layer, output_bias, halves }
    }

    /// Returns U u, `[H]`.
    pub fn user_half(&self, numbers: &[f32]) -> Vec<f32> {
        self.layer.users.values.chunks_exact(numbers.len()).map(|weights| dot(weights, numbers)).collect()
    }

    /// Returns V v + b of a track, `[H]`.
    fn track_half(&self, row: u32) -> &[f32] {
        let units = self.layer.biases.len();
        &self.halves[row as usize * units..(row as usize + 1) * units]
    }

    /// Returns f for a user's half of the hidden layer and a track.
    pub fn predict(&self, user_half: &[f32], row: u32) -> f32 {
        let sum: f32 = user_half
            .iter()
            .zip(self.track_half(row))
            .zip(&self.layer.output)
            .map(|((user, track), output)| (user + track).max(0.0) * output)
            .sum();
        sum + self.output_bias
    }

    /// Returns ∂f/∂u, `[D]`.
    pub fn gradient(&self, user_half: &[f32], row: u32) -> Vec<f32> {
        let columns = self.layer.users.shape[1];
        let mut gradient = vec![0.0; columns];
        let units = self.layer.users.values.chunks_exact(columns).zip(&self.layer.output);
        for ((user, track), (weights, output)) in user_half.iter().zip(self.track_half(row)).zip(units) {
            if user + track > 0.0 {
                axpy(*output, weights, &mut gradient);
            }
        }
        gradient
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn network() -> HiddenNetwork {
        let array = |values: &[f32]| Array { shape: vec![2, 2], values: values.to_vec() };
        let layer = HiddenLayer {
            users: array(&[1.0, 0.0, 0.5, -1.0]),
            tracks: array(&[0.0, 1.0, 1.0, 0.0]),
            biases: vec![0.5, -0.5],
            output: vec![2.0, -1.0],
        };
        HiddenNetwork::new(layer, 3.0, &[1.0, 2.0, 0.0, -1.0])
    }

    /// Track 0: V v + b = (2.5, .5); U u = (.2, .1 − .4) = (.2, −.3): 3 + 2 · 2.7 − .2 = 8.2.
    #[test]
    fn a_prediction_is_the_one_computed_by_hand() {
        let network = network();
        let half = network.user_half(&[0.2, 0.4]);
        assert!((network.predict(&half, 0) - 8.2).abs() < 1e-5, "{}", network.predict(&half, 0));
        // Track 1: (−.5, −.5) + (.2, −.3): both units are off.
        assert_eq!(network.predict(&half, 1), 3.0);
    }
}
