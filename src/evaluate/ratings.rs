//! Ratings: how far predictions are off, and whether what people came to like is ranked first.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::dataset::{Event, by_user};

/// Length of the ranked list.
const K: usize = 10;

/// Predicts ratings and ranks tracks for the users that it learned from, in rows.
pub trait Rater {
    /// The rating of each of `asked`, events of one user, who in training had the events `known`.
    fn predict(&self, known: &[Event], asked: &[Event]) -> Vec<f32>;

    /// The `limit` tracks that come first for the user who in training had the events `known`, none of them among these.
    fn rank(&self, known: &[Event], limit: usize) -> Vec<u32>;
}

/// How good a model of ratings is. Lower errors are better, and a higher NDCG.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RatingMetrics {
    /// mean squared error
    pub mse: f64,
    /// its root
    pub rmse: f64,
    /// mean absolute error
    pub mae: f64,
    /// mean over users of Σ 1 / log₂(rank + 1), over the ten first of all tracks that the user has not in training, of
    /// those withheld that the user rated at or above the mean, divided by the highest that can be (Järvelin and
    /// Kekäläinen 2002)
    pub ndcg_at_10: f64,
    /// ratings predicted
    pub ratings: usize,
    /// users with a withheld rating at or above the mean
    pub users: usize,
    /// seconds that all of this took
    pub seconds: f64,
}

/// Measures on `held_out` what learned from `training`; both come user by user.
pub fn measure_ratings(rater: &dyn Rater, training: &[Event], held_out: &[Event], users: usize) -> RatingMetrics {
    let started = Instant::now();
    let rated = training.iter().filter_map(|event| event.rating).map(f64::from);
    let mean = rated.clone().sum::<f64>() / rated.count().max(1) as f64;
    let mut metrics = RatingMetrics::default();
    let (mut squares, mut absolutes, mut gains) = (0.0, 0.0, 0.0);
    for (known, asked) in by_user(training, users).into_iter().zip(by_user(held_out, users)) {
        let (known, asked) = (&training[known], &held_out[asked]);
        if asked.is_empty() {
            continue;
        }
        for (event, predicted) in asked.iter().zip(rater.predict(known, asked)) {
            let error = f64::from(event.rating.unwrap_or_default()) - f64::from(predicted);
            squares += error * error;
            absolutes += error.abs();
        }
        metrics.ratings += asked.len();
        let liked: Vec<u32> = asked
            .iter()
            .filter(|event| event.rating.is_some_and(|rating| f64::from(rating) >= mean))
            .map(|event| event.track)
            .collect();
        if !liked.is_empty() {
            gains += ndcg(&rater.rank(known, K), &liked);
            metrics.users += 1;
        }
    }
    metrics.mse = squares / metrics.ratings.max(1) as f64;
    metrics.rmse = metrics.mse.sqrt();
    metrics.mae = absolutes / metrics.ratings.max(1) as f64;
    metrics.ndcg_at_10 = gains / metrics.users.max(1) as f64;
    metrics.seconds = started.elapsed().as_secs_f64();
    metrics
}

fn ndcg(ranked: &[u32], liked: &[u32]) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let found = ranked.iter().take(K).enumerate().filter(|(_, track)| liked.contains(track));
    let gain: f64 = found.map(|(rank, _)| discount(rank)).sum();
    gain / (0..liked.len().min(K)).map(discount).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predicts 3 for everything and ranks tracks by number.
    struct Constant;

    impl Rater for Constant {
        fn predict(&self, _: &[Event], asked: &[Event]) -> Vec<f32> {
            vec![3.0; asked.len()]
        }

        fn rank(&self, known: &[Event], limit: usize) -> Vec<u32> {
            (0..20).filter(|track| known.iter().all(|event| event.track != *track)).take(limit).collect()
        }
    }

    #[test]
    fn the_metrics_are_those_computed_by_hand() {
        let event = |user, track, rating| Event { user, track, rating: Some(rating), at: 0 };
        let training = [event(0, 0, 3.0), event(1, 5, 3.0)];
        let held_out = [event(0, 2, 4.0), event(0, 15, 5.0), event(1, 0, 1.0), event(2, 1, 2.0)];
        let metrics = measure_ratings(&Constant, &training, &held_out, 3);
        // Errors 1, 2, −2, −1.
        assert!((metrics.mse - 10.0 / 4.0).abs() < 1e-9 && (metrics.mae - 1.5).abs() < 1e-9, "{metrics:?}");
        assert!((metrics.rmse - 2.5f64.sqrt()).abs() < 1e-9);
        // User 0 alone liked something: track 2 comes second of 1, 2, …, track 15 not among the first ten.
        let (first, second) = (1.0, 1.0 / 3f64.log2());
        assert!((metrics.ndcg_at_10 - second / (first + second)).abs() < 1e-9, "{metrics:?}");
        assert_eq!((metrics.ratings, metrics.users), (4, 1));
    }
}
