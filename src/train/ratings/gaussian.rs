//! The default model of ratings: for each user a Gaussian process over tracks and sessions, on top of track biases.
//!
//! rating = mean + track bias + x · w + session + noise. The track's features x are a constant (the user's own bias), how
//! well known the track is, its direction in who-rated-what and its genres; what is fitted to users is only the biases
//! of tracks, a user's w and sessions being integrated out by [`fold_in`]. Biases and users are fitted in turn
//! (backfitting; Hastie and Tibshirani 1990), which for shrunken means and Gaussian processes converges to the posterior
//! mean of all of them together.

use crate::bundle::{ImplicitBundle, RatingsBundle, RatingsShape, Vocabulary};
use crate::dataset::{Event, Feedback, by_user};
use crate::math::linear::{dot, gram};
use crate::math::truncated_svd::{Decomposition, decompose};
use crate::math::{Array, Csr};
use crate::recommend::ratings::fold_in::{Prior, Residual, fold_in};
use crate::recommend::ratings::{RatingsModel, TasteEvent};
use crate::train::error::TrainError;
use crate::train::settings::{above_0, from_0};

/// Backfitting ends when no track's bias moves by more than this share of the ratings' deviation.
const TOLERANCE: f32 = 2e-3;
/// The constant, and how well known a track is.
const PLAIN_COLUMNS: usize = 2;
/// Users, and tracks, that a direction of who-rated-what needs: with fewer it is chance.
const PER_DIRECTION: usize = 10;
/// Below this length a direction is noise.
const SHORTEST: f32 = 1e-9;

/// Hyper-parameters of the default model. Variances are multiples of the noise's, so that they hold for any scale.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, clap::Args)]
#[command(next_help_heading = "Gaussian process (--model gp)")]
pub struct GaussianSettings {
    /// Directions of who rated what
    ///
    /// At most a tenth of the number of users or tracks.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=512))]
    pub directions: u32,
    /// Maximum number of genres
    ///
    /// The genres with most tracks count.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=512))]
    pub genres: u32,
    /// Variance of a track's bias
    #[arg(long, default_value_t = 0.17)]
    pub track_variance: f32,
    /// Variance of a user's bias
    #[arg(long, default_value_t = 0.33)]
    pub user_variance: f32,
    /// Variance of a user's taste for popularity
    ///
    /// Per standard deviation of the logarithm of the tracks' counts.
    #[arg(long, default_value_t = 0.05)]
    pub popularity_variance: f32,
    /// Variance of a user's taste for a direction
    #[arg(long, default_value_t = 0.17)]
    pub direction_variance: f32,
    /// Variance of a user's taste for a genre
    #[arg(long, default_value_t = 0.17)]
    pub genre_variance: f32,
    /// Variance of a session's effect; 0: none
    ///
    /// The effect applies to all ratings given in the session.
    #[arg(long, default_value_t = 0.12)]
    pub session_variance: f32,
    /// Pause that ends a session
    #[arg(long, default_value_t = 72, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub session_gap: u32,
    /// Maximum number of passes over the data
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub passes: u32,
    /// Weight of who rated what in rankings
    ///
    /// Its spread over all pairs of users and tracks, in standard deviations of ratings; the predicted rating has weight 1.
    #[arg(long, default_value_t = 0.25)]
    pub affinity: f32,
}

impl GaussianSettings {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        above_0(&[
            ("--track-variance", self.track_variance.into()),
            ("--user-variance", self.user_variance.into()),
            ("--popularity-variance", self.popularity_variance.into()),
            ("--direction-variance", self.direction_variance.into()),
            ("--genre-variance", self.genre_variance.into()),
        ])?;
        from_0(&[("--session-variance", self.session_variance.into()), ("--affinity", self.affinity.into())])
    }
}

/// Mean, deviation and range of ratings; zeros without any.
pub(super) fn moments(ratings: impl Iterator<Item = f32> + Clone) -> (f32, f32, (f32, f32)) {
    let count = ratings.clone().count();
    if count == 0 {
        return (0.0, 0.0, (0.0, 0.0));
    }
    let mean = ratings.clone().map(f64::from).sum::<f64>() / count as f64;
    let variance = ratings.clone().map(|rating| (f64::from(rating) - mean).powi(2)).sum::<f64>() / count as f64;
    let range = ratings.fold((f32::INFINITY, f32::NEG_INFINITY), |(lowest, highest), rating| {
        (lowest.min(rating), highest.max(rating))
    });
    (mean as f32, variance.sqrt() as f32, range)
}

/// Users of each track among `events`.
pub(super) fn counts(events: &[Event], tracks: usize) -> Vec<u32> {
    let mut counts = vec![0; tracks];
    events.iter().for_each(|event| counts[event.track as usize] += 1);
    counts
}

/// Which tracks the events of each user are about.
fn tracks_of(events: &[Event], users: usize) -> Csr {
    Csr::from_lists(by_user(events, users).into_iter().map(|range| events[range].iter().map(|event| event.track)))
}

/// Fits the model to `events` of `feedback`, which come user by user, oldest first.
pub fn fit(
    feedback: &Feedback,
    events: &[Event],
    settings: &GaussianSettings,
    seed: u64,
    threads: usize,
) -> Result<RatingsBundle, TrainError> {
    settings.check()?;
    let (users, tracks) = (feedback.users(), feedback.tracks());
    let ratings = events.iter().filter_map(|event| event.rating);
    let (mean, deviation, range) = moments(ratings.clone());
    let counts = counts(events, tracks);
    let directions = (settings.directions as usize).min(users.min(tracks) / PER_DIRECTION);
    let found = decompose(&tracks_of(events, users), None, tracks, directions, seed, threads);
    let (features, precisions, norms) = describe(feedback, events, &counts, &found, settings);
    let session_gap_seconds = i64::from(settings.session_gap) * 60;
    let prior = Prior { precisions: &precisions, session_ratio: settings.session_variance, session_gap_seconds };
    let base = backfit(events, users, &features.values, prior, mean, deviation, tracks, settings, threads);
    let shape = RatingsShape {
        model: "gp".to_owned(),
        ratings: ratings.count() as u64,
        mean,
        deviation,
        range,
        plain_columns: PLAIN_COLUMNS,
        session_ratio: settings.session_variance,
        session_gap_seconds,
        affinity: 0.0,
        output_bias: 0.0,
    };
    let vocabulary =
        Vocabulary::new(feedback.track_ids.iter().map(String::as_str)).map_err(TrainError::TooLittleData)?;
    let implicit = (!found.singular.is_empty()).then_some(ImplicitBundle { norms, singular: found.singular });
    let bundle = RatingsBundle { shape, vocabulary, base, counts, features, precisions, implicit, hidden: None };
    Ok(with_affinity(bundle, events, users, settings.affinity))
}

/// Features `[T, D]`, precisions `[D]` and the lengths of the rows of the scaled singular vectors `[T]`.
fn describe(
    feedback: &Feedback,
    events: &[Event],
    counts: &[u32],
    found: &Decomposition,
    settings: &GaussianSettings,
) -> (Array<f32>, Vec<f32>, Vec<f32>) {
    let rank = found.singular.len();
    let genres = feedback.genre_names.len().min(settings.genres as usize);
    let columns = PLAIN_COLUMNS + rank + genres;
    let mut precisions = vec![1.0 / settings.user_variance, 1.0 / settings.popularity_variance];
    precisions.resize(PLAIN_COLUMNS + rank, 1.0 / settings.direction_variance);
    precisions.resize(columns, 1.0 / settings.genre_variance);

    let fame = |track: u32| (counts[track as usize] as f32).ln_1p();
    let (fame_mean, fame_deviation, _) = moments(events.iter().map(|event| fame(event.track)));
    let (mut values, mut norms) = (vec![0.0; counts.len() * columns], Vec::with_capacity(counts.len()));
    for (track, row) in values.chunks_exact_mut(columns).enumerate() {
        row[0] = 1.0;
        row[1] = (fame(track as u32) - fame_mean) / fame_deviation.max(1e-3);
        let vector = &found.vectors[track * rank..(track + 1) * rank];
        let scaled: Vec<f32> = vector.iter().zip(&found.singular).map(|(value, singular)| value * singular).collect();
        let norm = dot(&scaled, &scaled).sqrt();
        if norm > SHORTEST {
            row[PLAIN_COLUMNS..].iter_mut().zip(&scaled).for_each(|(target, value)| *target = value / norm);
        }
        norms.push(norm);
        let own = feedback.genres.row(track);
        for &genre in own.iter().filter(|&&genre| (genre as usize) < genres) {
            row[PLAIN_COLUMNS + rank + genre as usize] = (own.len() as f32).powf(-0.5);
        }
    }
    (Array { shape: vec![counts.len(), columns], values }, precisions, norms)
}

/// `[T]`: what is expected of each track, by fitting tracks and users in turn.
#[expect(clippy::too_many_arguments, reason = "the parts of one model, none of which is made without the others")]
fn backfit(
    events: &[Event],
    users: usize,
    features: &[f32],
    prior: Prior<'_>,
    mean: f32,
    deviation: f32,
    tracks: usize,
    settings: &GaussianSettings,
    threads: usize,
) -> Vec<f32> {
    let ranges = by_user(events, users);
    let mut of_users = vec![0.0f32; events.len()];
    let mut base = vec![mean; tracks];
    for _ in 0..settings.passes {
        let (mut sums, mut ratings) = (vec![0.0f64; tracks], vec![0u32; tracks]);
        for (event, of_user) in events.iter().zip(&of_users) {
            if let Some(rating) = event.rating {
                sums[event.track as usize] += f64::from(rating - mean - of_user);
                ratings[event.track as usize] += 1;
            }
        }
        let mut moved = 0.0f32;
        for ((base, sum), count) in base.iter_mut().zip(sums).zip(ratings) {
            let next = mean + sum as f32 / (count as f32 + 1.0 / settings.track_variance);
            moved = moved.max((next - *base).abs());
            *base = next;
        }
        if moved <= TOLERANCE * deviation {
            break;
        }
        let base = &base;
        std::thread::scope(|scope| {
            let share = users.div_ceil(threads.max(1)).max(1);
            let mut rest = of_users.as_mut_slice();
            for ranges in ranges.chunks(share) {
                let length = ranges.last().map_or(0, |last| last.end) - ranges.first().map_or(0, |first| first.start);
                let (own, others) = rest.split_at_mut(length);
                rest = others;
                scope.spawn(move || {
                    let mut own = own;
                    for range in ranges {
                        let (of_user, others) = own.split_at_mut(range.len());
                        own = others;
                        predict_own(&events[range.clone()], base, features, prior, of_user);
                    }
                });
            }
        });
    }
    base
}

/// What the user's taste and sessions say of the user's own ratings.
fn predict_own(events: &[Event], base: &[f32], features: &[f32], prior: Prior<'_>, of_user: &mut [f32]) {
    let residual = |event: &Event| {
        let value = event.rating? - base[event.track as usize];
        Some(Residual { row: event.track, value, at: event.at })
    };
    let residuals: Vec<Residual> = events.iter().filter_map(residual).collect();
    let folded = fold_in(&residuals, features, prior);
    let columns = prior.precisions.len();
    for (event, of_user) in events.iter().zip(of_user) {
        let row = event.track as usize;
        *of_user = dot(&features[row * columns..(row + 1) * columns], &folded.weights)
            + folded.session_effect(event.at, prior.session_gap_seconds);
    }
}

/// Sets how much who-rated-what counts in rankings: `spread` deviations of ratings over all pairs of users and tracks.
fn with_affinity(mut bundle: RatingsBundle, events: &[Event], users: usize, spread: f32) -> RatingsBundle {
    let Some(rank) = bundle.implicit.as_ref().map(|implicit| implicit.singular.len()) else { return bundle };
    if spread == 0.0 {
        return bundle;
    }
    bundle.shape.affinity = 1.0;
    let model = RatingsModel::new(bundle);
    let mut of_users: Vec<f32> = Vec::with_capacity(users * rank);
    for range in by_user(events, users) {
        let choices = model.choices(&taste_events(&events[range]));
        of_users.extend(&choices);
        of_users.resize(of_users.len().next_multiple_of(rank), 0.0);
    }
    let of_tracks = model.choice_vectors();
    let tracks = (of_tracks.len() / rank).max(1);
    // The mean of (z · v)² over all pairs is the product of both tables' Gram matrices, element by element.
    let (of_users, of_tracks) = (gram(&of_users, rank, 1), gram(&of_tracks, rank, 1));
    let mean_square = dot(&of_users, &of_tracks) / users.max(1) as f32 / tracks as f32;
    let mut bundle = model.into_bundle();
    // Without ratings there is nothing to weigh it against.
    let deviation = if bundle.shape.ratings > 0 { bundle.shape.deviation } else { 1.0 };
    bundle.shape.affinity = if mean_square > 0.0 { spread * deviation / mean_square.sqrt() } else { 0.0 };
    bundle
}

/// Events of one user as the model takes them.
pub fn taste_events(events: &[Event]) -> Vec<TasteEvent> {
    events.iter().map(|event| TasteEvent { row: event.track, rating: event.rating, at: event.at }).collect()
}
