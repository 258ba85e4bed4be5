//! The numbers of a user who was not there in training, for a network with a hidden layer: they are fitted to the user's
//! ratings while the network stays as it is. Σ (rating − f)² + Σ λ u² is minimized by the Levenberg-Marquardt method
//! (Marquardt 1963), whose steps are small linear solves.

use super::fold_in::Residual;
use crate::math::linear::{add_outer, axpy, solve};
use crate::scoring::ratings::HiddenNetwork;

/// Steps of the fit; it rarely needs five.
const STEPS: usize = 12;

/// Returns the numbers `[D]` of the user who gave these ratings; `precisions` are λ.
pub fn fit(network: &HiddenNetwork, ratings: &[Residual], precisions: &[f32]) -> Vec<f32> {
    let columns = precisions.len();
    let mut numbers = vec![0.0; columns];
    let mut least = loss(network, ratings, precisions, &numbers);
    let mut damping = 1.0;
    for _ in 0..STEPS {
        let half = network.user_half(&numbers);
        let (mut matrix, mut step) = (vec![0.0; columns * columns], vec![0.0; columns]);
        for (column, &precision) in precisions.iter().enumerate() {
            matrix[column * columns + column] = precision + damping;
            step[column] = -precision * numbers[column];
        }
        for rating in ratings {
            let gradient = network.gradient(&half, rating.row);
            add_outer(1.0, &gradient, &mut matrix);
            axpy(rating.value - network.predict(&half, rating.row), &gradient, &mut step);
        }
        if !solve(&mut matrix, &mut step) {
            break;
        }
        let next: Vec<f32> = numbers.iter().zip(&step).map(|(value, step)| value + step).collect();
        let loss = loss(network, ratings, precisions, &next);
        if loss < least {
            (numbers, least, damping) = (next, loss, damping / 4.0);
        } else {
            damping *= 8.0;
        }
    }
    numbers
}

fn loss(network: &HiddenNetwork, ratings: &[Residual], precisions: &[f32], numbers: &[f32]) -> f32 {
    let half = network.user_half(numbers);
    let errors = ratings.iter().map(|rating| (rating.value - network.predict(&half, rating.row)).powi(2));
    let penalties = numbers.iter().zip(precisions).map(|(value, precision)| precision * value * value);
    errors.sum::<f32>() + penalties.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::ratings::tests::network;

    #[test]
    fn a_fit_comes_near_the_ratings_that_it_is_made_from() {
        let network = network();
        let ratings = [Residual { row: 0, value: 7.0, at: 0 }, Residual { row: 1, value: 3.0, at: 0 }];
        let half = network.user_half(&fit(&network, &ratings, &[1e-3, 1e-3]));
        let errors: f32 = ratings.iter().map(|one| (one.value - network.predict(&half, one.row)).abs()).sum();
        let before: f32 = ratings.iter().map(|one| (one.value - network.predict(&[0.0, 0.0], one.row)).abs()).sum();
        assert!(errors < before / 2.0, "{errors} {before}");
        assert_eq!(fit(&network, &[], &[1.0, 1.0]), [0.0, 0.0]);
    }
}
