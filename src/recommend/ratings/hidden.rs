//! A network with one hidden layer that predicts a rating from a user's numbers u and a track's numbers v:
//! f(u, v) = o · relu(U u + V v + b) + c.
//!
//! A track's half V v + b of the hidden layer is computed once, when the bundle is loaded. The numbers of a user who was
//! not there in training are fitted to the user's ratings, the network held: Σ (rating − f)² + Σ λ u² is minimised by
//! the Levenberg-Marquardt method (Marquardt 1963), whose steps are small linear solves.

use super::fold_in::Residual;
use crate::bundle::HiddenLayer;
use crate::math::linear::{add_outer, axpy, dot, solve};

/// Steps of the fit; it rarely needs five.
const STEPS: usize = 12;

/// The network, with the tracks' halves.
#[derive(Debug)]
pub struct HiddenModel {
    layer: HiddenLayer,
    /// c
    output_bias: f32,
    /// `[T, H]`: V v + b of each track
    halves: Vec<f32>,
}

impl HiddenModel {
    /// `features` are the tracks' numbers, `[T, D]`.
    pub fn new(layer: HiddenLayer, output_bias: f32, features: &[f32]) -> Self {
        let columns = layer.tracks.shape[1];
        let mut halves = Vec::with_capacity(features.len() / columns.max(1) * layer.biases.len());
        for feature in features.chunks_exact(columns) {
            let units = layer.tracks.values.chunks_exact(columns).zip(&layer.biases);
            halves.extend(units.map(|(weights, bias)| dot(weights, feature) + bias));
        }
        Self { layer, output_bias, halves }
    }

    fn units(&self) -> usize {
        self.layer.biases.len()
    }

    /// `[H]`: U u.
    pub fn user_half(&self, numbers: &[f32]) -> Vec<f32> {
        self.layer.users.values.chunks_exact(numbers.len()).map(|weights| dot(weights, numbers)).collect()
    }

    /// f of a track for the user whose half of the hidden layer that is.
    pub fn predict(&self, user_half: &[f32], row: u32) -> f32 {
        let half = &self.halves[row as usize * self.units()..(row as usize + 1) * self.units()];
        let sum: f32 = user_half
            .iter()
            .zip(half)
            .zip(&self.layer.output)
            .map(|((user, track), output)| (user + track).max(0.0) * output)
            .sum();
        sum + self.output_bias
    }

    /// The numbers `[D]` of the user who gave these ratings; `precisions` are λ.
    pub fn fit(&self, ratings: &[Residual], precisions: &[f32]) -> Vec<f32> {
        let columns = precisions.len();
        let mut numbers = vec![0.0; columns];
        let mut loss = self.loss(ratings, precisions, &numbers);
        let mut damping = 1.0;
        for _ in 0..STEPS {
            let half = self.user_half(&numbers);
            let (mut matrix, mut step) = (vec![0.0; columns * columns], vec![0.0; columns]);
            for (column, &precision) in precisions.iter().enumerate() {
                matrix[column * columns + column] = precision + damping;
                step[column] = -precision * numbers[column];
            }
            for rating in ratings {
                let gradient = self.gradient(&half, rating.row, columns);
                add_outer(1.0, &gradient, &mut matrix);
                axpy(rating.value - self.predict(&half, rating.row), &gradient, &mut step);
            }
            if !solve(&mut matrix, &mut step) {
                break;
            }
            let next: Vec<f32> = numbers.iter().zip(&step).map(|(value, step)| value + step).collect();
            let next_loss = self.loss(ratings, precisions, &next);
            if next_loss < loss {
                (numbers, loss, damping) = (next, next_loss, damping / 4.0);
            } else {
                damping *= 8.0;
            }
        }
        numbers
    }

    /// `[D]`: ∂f/∂u.
    fn gradient(&self, user_half: &[f32], row: u32, columns: usize) -> Vec<f32> {
        let mut gradient = vec![0.0; columns];
        let half = &self.halves[row as usize * self.units()..(row as usize + 1) * self.units()];
        for (unit, weights) in self.layer.users.values.chunks_exact(columns).enumerate() {
            if user_half[unit] + half[unit] > 0.0 {
                axpy(self.layer.output[unit], weights, &mut gradient);
            }
        }
        gradient
    }

    fn loss(&self, ratings: &[Residual], precisions: &[f32], numbers: &[f32]) -> f32 {
        let half = self.user_half(numbers);
        let errors = ratings.iter().map(|rating| (rating.value - self.predict(&half, rating.row)).powi(2));
        let penalties = numbers.iter().zip(precisions).map(|(value, precision)| precision * value * value);
        errors.sum::<f32>() + penalties.sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Array;

    fn model() -> HiddenModel {
        let array = |values: &[f32]| Array { shape: vec![2, 2], values: values.to_vec() };
        let layer = HiddenLayer {
            users: array(&[1.0, 0.0, 0.5, -1.0]),
            tracks: array(&[0.0, 1.0, 1.0, 0.0]),
            biases: vec![0.5, -0.5],
            output: vec![2.0, -1.0],
        };
        HiddenModel::new(layer, 3.0, &[1.0, 2.0, 0.0, -1.0])
    }

    /// Track 0: V v + b = (2.5, .5); U u = (.2, .1 − .4) = (.2, −.3): 3 + 2 · 2.7 − .2 = 8.2.
    #[test]
    fn a_prediction_is_the_one_computed_by_hand() {
        let model = model();
        let half = model.user_half(&[0.2, 0.4]);
        assert!((model.predict(&half, 0) - 8.2).abs() < 1e-5, "{}", model.predict(&half, 0));
        // Track 1: (−.5, −.5) + (.2, −.3): both units are off.
        assert_eq!(model.predict(&half, 1), 3.0);
    }

    #[test]
    fn a_fit_comes_near_the_ratings_that_it_is_made_from() {
        let model = model();
        let ratings = [Residual { row: 0, value: 7.0, at: 0 }, Residual { row: 1, value: 3.0, at: 0 }];
        let half = model.user_half(&model.fit(&ratings, &[1e-3, 1e-3]));
        let errors: f32 = ratings.iter().map(|one| (one.value - model.predict(&half, one.row)).abs()).sum();
        let before: f32 = ratings.iter().map(|one| (one.value - model.predict(&[0.0, 0.0], one.row)).abs()).sum();
        assert!(errors < before / 2.0, "{errors} {before}");
        assert_eq!(model.fit(&[], &[1.0, 1.0]), [0.0, 0.0]);
    }
}
