//! Tracks for a user, from what the user rated and played.
//!
//! A user's taste is computed from the ratings and listens that the caller passes, never from what training stored of
//! the user: a rating of a second ago counts like one of last year. With a taste every track gets a score in two stages:
//! roughly, all of them ([`scan`]); exactly, the best few hundred. A score is the predicted rating, and beside it how
//! well the track goes with what the user rated well or played: people rate what they chose to hear, and by predicted
//! ratings alone the first place would go to what hardly anyone knows.

pub mod fold_in;
mod hidden;
mod scan;

use crate::bundle::{RatingsBundle, Vocabulary};
use crate::math::linear::{axpy, dot};
use crate::scoring::ratings::HiddenNetwork;
use fold_in::{FoldedIn, Prior, Residual, fold_in};
use scan::{Scan, ScanQuery};

/// Ratings that a taste is made from at most, the latest ones: what keeps a request short.
pub const MOST_RATINGS: usize = 1_000;
/// How many more tracks than requested are scored exactly.
const SPARE: usize = 200;
/// A track's count to this power divides what it says of a user, and multiplies what the user's taste says of it: the
/// factorization behind is of 1 / (√(events of the user) · count^¼).
const COUNT_EXPONENT: f32 = 0.25;

/// A track that the user rated or played, in rows of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TasteEvent {
    /// row of the track
    pub row: u32,
    /// the rating; none if it was only played
    pub rating: Option<f32>,
    /// seconds since 1970
    pub at: i64,
}

/// What recommendations for a user rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// the user's ratings, and listens if there are any
    Ratings,
    /// listens alone
    Listens,
    /// nothing is known of the user: what most people rated or played
    Popularity,
}

impl Basis {
    /// The name in responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ratings => "ratings",
            Self::Listens => "listens",
            Self::Popularity => "popularity",
        }
    }
}

/// A track for a user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForUser {
    /// row of the track
    pub row: u32,
    /// what they are ordered by: about a rating, comparable within one response
    pub score: f32,
    /// the rating that the user would give; none from a model that has seen no ratings
    pub predicted: Option<f32>,
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Taste {
    /// what it rests on
    pub basis: Basis,
    folded: FoldedIn,
    /// U u, where a network predicts
    user_half: Vec<f32>,
    /// `[K]`: what the user's choices say, to be multiplied with a track's direction; empty without any
    choices: Vec<f32>,
}

/// A loaded ratings bundle.
#[derive(Debug)]
pub struct RatingsModel {
    bundle: RatingsBundle,
    scan: Scan,
    hidden: Option<HiddenNetwork>,
    /// `[T]`: how much a track's direction counts for choices; empty where they don't take part
    choice_factors: Vec<f32>,
    /// events in all
    events: u64,
    /// mark and row of each track, rising
    marks: Vec<(u32, u32)>,
}

impl RatingsModel {
    /// Takes over a bundle.
    pub fn new(bundle: RatingsBundle) -> Self {
        let scan = Scan::new(&bundle.features.values, bundle.columns(), bundle.shape.plain_columns);
        let hidden = bundle
            .hidden
            .clone()
            .map(|layer| HiddenNetwork::new(layer, bundle.shape.output_bias, &bundle.features.values));
        let choice_factors = match &bundle.implicit {
            Some(implicit) => {
                let lengths = implicit.norms.iter().zip(&bundle.counts);
                lengths.map(|(norm, &count)| norm * (count as f32).powf(COUNT_EXPONENT)).collect()
            }
            None => Vec::new(),
        };
        let events = bundle.counts.iter().map(|&count| u64::from(count)).sum();
        let rows = 0..bundle.vocabulary.len() as u32;
        let mut marks: Vec<(u32, u32)> = rows.map(|row| (mark_of(bundle.vocabulary.id(row)), row)).collect();
        marks.sort_unstable();
        Self { bundle, scan, hidden, choice_factors, events, marks }
    }

    /// Four bytes that stand for a track, made of its id: the same in every model.
    pub fn mark(&self, row: u32) -> u32 {
        mark_of(self.bundle.vocabulary.id(row))
    }

    /// Rows of tracks with these marks. Seldom there is another track of the same mark among them.
    pub fn rows_marked(&self, marks: &[u32]) -> Vec<u32> {
        let mut rows = Vec::new();
        for mark in marks {
            let first = self.marks.partition_point(|(other, _)| other < mark);
            rows.extend(self.marks[first..].iter().take_while(|(other, _)| other == mark).map(|(_, row)| *row));
        }
        rows
    }

    /// What is expected of a track above the mean rating before anything is known of the user; none from a model without
    /// biases.
    pub fn bias(&self, row: u32) -> Option<f32> {
        let has_biases = self.bundle.shape.plain_columns > 0 && self.bundle.shape.ratings > 0;
        has_biases.then(|| self.bundle.base[row as usize] - self.bundle.shape.mean)
    }

    /// The bundle.
    pub fn bundle(&self) -> &RatingsBundle {
        &self.bundle
    }

    /// The app's ids of the rows.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.bundle.vocabulary
    }

    fn prior(&self) -> Prior<'_> {
        Prior {
            precisions: &self.bundle.precisions,
            session_ratio: self.bundle.shape.session_ratio,
            session_gap_seconds: self.bundle.shape.session_gap_seconds,
        }
    }

    /// The taste behind what a user heard, oldest first, each track once.
    pub fn taste(&self, heard: &[TasteEvent]) -> Taste {
        let rated: Vec<Residual> = heard
            .iter()
            .filter_map(|heard| {
                let value = heard.rating? - self.bundle.base[heard.row as usize];
                Some(Residual { row: heard.row, value, at: heard.at })
            })
            .collect();
        let rated = &rated[rated.len().saturating_sub(MOST_RATINGS)..];
        let mut user_half = Vec::new();
        let folded = match &self.hidden {
            Some(hidden) => {
                let weights = hidden::fit(hidden, rated, &self.bundle.precisions);
                user_half = hidden.user_half(&weights);
                FoldedIn { weights, sessions: Vec::new() }
            }
            None => fold_in(rated, &self.bundle.features.values, self.prior()),
        };
        let choices = self.choices(heard);
        let basis = match () {
            () if !rated.is_empty() => Basis::Ratings,
            () if !choices.is_empty() => Basis::Listens,
            () => Basis::Popularity,
        };
        Taste { basis, folded, user_half, choices }
    }

    /// What the user's choices say: the mean of the tracks' rows of the singular vectors, brought back from popularity.
    /// A rating counts more the better it is, from 0 for one a standard deviation below the mean; a listen counts 1.
    pub fn choices(&self, heard: &[TasteEvent]) -> Vec<f32> {
        let Some(implicit) = self.bundle.implicit.as_ref().filter(|_| self.bundle.shape.affinity > 0.0) else {
            return Vec::new();
        };
        let plain = self.bundle.shape.plain_columns;
        let mut sum = vec![0.0; implicit.singular.len()];
        let mut total = 0.0;
        for heard in heard {
            let weight = choice_weight(heard.rating, self.bundle.shape.mean, self.bundle.shape.deviation);
            let row = heard.row as usize;
            let length = implicit.norms[row] * (self.bundle.counts[row] as f32).max(1.0).powf(-COUNT_EXPONENT);
            axpy(weight * length, &self.bundle.feature(heard.row)[plain..plain + sum.len()], &mut sum);
            total += weight;
        }
        if total == 0.0 {
            return Vec::new();
        }
        let factor = self.bundle.shape.affinity / total.max(1.0).sqrt();
        for (sum, singular) in sum.iter_mut().zip(&implicit.singular) {
            *sum *= factor / (singular * singular);
        }
        sum
    }

    /// `[T, K]`: what [`RatingsModel::choices`] are multiplied with.
    pub fn choice_vectors(&self) -> Vec<f32> {
        let rank = self.bundle.implicit.as_ref().map_or(0, |implicit| implicit.singular.len());
        let plain = self.bundle.shape.plain_columns;
        let rows = (0..).zip(&self.choice_factors);
        rows.flat_map(|(row, factor)| {
            self.bundle.feature(row)[plain..plain + rank].iter().map(move |value| factor * value)
        })
        .collect()
    }

    /// Gives the bundle back.
    pub fn into_bundle(self) -> RatingsBundle {
        self.bundle
    }

    /// The rating that a user of that taste would give a track, at `at` (seconds since 1970) or at no known time.
    pub fn predict(&self, taste: &Taste, row: u32, at: Option<i64>) -> f32 {
        let shape = &self.bundle.shape;
        let rating = self.unbounded(taste, row)
            + at.map_or(0.0, |at| taste.folded.session_effect(at, shape.session_gap_seconds));
        rating.clamp(shape.range.0, shape.range.1)
    }

    fn unbounded(&self, taste: &Taste, row: u32) -> f32 {
        let base = self.bundle.base[row as usize];
        match &self.hidden {
            Some(hidden) => base + hidden.predict(&taste.user_half, row),
            None => base + dot(self.bundle.feature(row), &taste.folded.weights),
        }
    }

    fn score(&self, taste: &Taste, row: u32) -> f32 {
        let plain = self.bundle.shape.plain_columns;
        let direction = &self.bundle.feature(row)[plain..plain + taste.choices.len()];
        let choices =
            self.choice_factors.get(row as usize).map_or(0.0, |factor| factor * dot(direction, &taste.choices));
        self.unbounded(taste, row) + choices
    }

    /// Up to `limit` tracks for a user of that taste, best first; none of the rows `excluded`, which rise.
    pub fn recommend(&self, taste: &Taste, excluded: &[u32], limit: usize) -> Vec<ForUser> {
        if taste.basis == Basis::Popularity {
            return self.popular(excluded, limit);
        }
        let mut rows: Vec<u32> = match &self.hidden {
            Some(_) => (0..self.bundle.base.len() as u32).filter(|row| excluded.binary_search(row).is_err()).collect(),
            None => {
                let (plain, first) = taste.folded.weights.split_at(self.bundle.shape.plain_columns);
                let query = ScanQuery {
                    base: &self.bundle.base,
                    plain,
                    first,
                    second: &taste.choices,
                    factors: if taste.choices.is_empty() { &[] } else { &self.choice_factors },
                    excluded,
                    limit: limit + SPARE,
                };
                self.scan.best(&query).into_iter().map(|near| near.row).collect()
            }
        };
        let mut scored: Vec<(f32, u32)> = rows.drain(..).map(|row| (self.score(taste, row), row)).collect();
        scored.sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        scored.truncate(limit);
        let has_ratings = self.bundle.shape.ratings > 0;
        let for_user =
            |(score, row)| ForUser { row, score, predicted: has_ratings.then(|| self.predict(taste, row, None)) };
        scored.into_iter().map(for_user).collect()
    }

    /// The tracks that most users rated or played; the score is a track's share of all events.
    fn popular(&self, excluded: &[u32], limit: usize) -> Vec<ForUser> {
        // Rows are in order of popularity.
        let rows = (0..self.bundle.counts.len() as u32).filter(|row| excluded.binary_search(row).is_err());
        let for_user = |row| ForUser {
            row,
            score: (f64::from(self.bundle.counts[row as usize]) / self.events.max(1) as f64) as f32,
            predicted: None,
        };
        rows.take(limit).map(for_user).collect()
    }
}

/// FNV-1a of the id's bytes, 32 bits.
fn mark_of(id: &str) -> u32 {
    id.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// How much a track that was rated so, or only played, counts among a user's choices.
pub fn choice_weight(rating: Option<f32>, mean: f32, deviation: f32) -> f32 {
    rating.map_or(1.0, |rating| (1.0 + (rating - mean) / deviation.max(1e-6)).max(0.0))
}
