//! Playlist completion, measured as in the RecSys Challenge 2018.
//!
//! A playlist is masked, a model ranks 500 tracks for what it still sees of it, and the ranked list R is held against the
//! set G of withheld tracks. Formulas after Zamani, Schedl, Lamere and Chen, "An Analysis of Approaches Taken in the ACM
//! RecSys Challenge 2018 for Automatic Music Playlist Continuation", 2019 (arXiv 1810.01520), section 4:
//!
//! * R-precision: (|G ∩ R₁..|G|| + ¼ · artists) / |G|, where `artists` counts the distinct artists of G that occur among
//!   the first |G| of R, but not by a track of G. Without the artists it is the track R-precision.
//! * NDCG: Σ 1/log₂(rank + 1) over the ranks, from 1, of the tracks of G in R, divided by what the same number of tracks
//!   (|R| at most) gives when they come first.
//! * Clicks: how often a list of ten would have to be refreshed until it shows a track of G; 51 if it never does.

use std::collections::HashSet;
use std::time::Instant;

use serde::Serialize;

use super::TestSet;
use super::test_set::TestQuery;
use super::{CoverageAt10, LatencyMs, ModelReport, Report};
use crate::dataset::NONE;
use crate::progress::{Interrupt, Progress};
use crate::recommend::Completion;

/// Length of a ranked list, in tracks.
pub const LIST_LENGTH: usize = 500;
/// Tracks shown at a time.
pub(super) const PAGE: usize = 10;
/// What an artist is worth where a track is worth 1.
const ARTIST_CREDIT: f64 = 0.25;
/// Clicks charged where no page has a hit: one more than there are.
const NO_HIT: usize = LIST_LENGTH / PAGE + 1;

/// For each playlist up to `limit` distinct rows of tracks, best first, none of the seeds.
pub type Recommend<'a> = dyn Fn(&[Completion]) -> Vec<Vec<u32>> + 'a;

/// Something that completes playlists, by the name it has in reports.
pub struct Recommender<'a> {
    /// its name
    pub name: String,
    /// completes playlists
    pub recommend: Box<Recommend<'a>>,
}

impl<'a> Recommender<'a> {
    /// Names a function that completes playlists.
    pub fn new(name: impl Into<String>, recommend: impl Fn(&[Completion]) -> Vec<Vec<u32>> + 'a) -> Self {
        Self { name: name.into(), recommend: Box::new(recommend) }
    }
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// There is nothing to measure on.
    #[error("there is no playlist to measure on")]
    Empty,
    /// A model's answer breaks the rules; a metric of it would mean nothing.
    #[error("{model} answers playlist {playlist} against the rules: {reason}")]
    Answer {
        /// the model
        model: String,
        /// the playlist
        playlist: String,
        /// what is wrong
        reason: String,
    },
    /// The person asked to stop.
    #[error("stopped before the end; nothing was reported")]
    Interrupted,
}

/// Metrics of one ranked list, or their means over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CompletionMetrics {
    /// number of playlists
    pub playlists: usize,
    /// share of G among the first |G|
    pub track_r_precision: f64,
    /// the same with a quarter of a hit for an artist of G
    pub r_precision: f64,
    /// normalised discounted cumulative gain over the whole list, 0 to 1
    pub ndcg: f64,
    /// refreshes until the first hit, 0 to 51; fewer are better
    pub clicks: f64,
}

/// Metrics of the list `ranked`, best first, of distinct rows.
///
/// `holdouts` are the distinct rows of G, one or more; `artist_of` has the artist of each row, or [`NONE`] where that is
/// not known.
pub fn completion_metrics(ranked: &[u32], holdouts: &[u32], artist_of: &[u32]) -> CompletionMetrics {
    let withheld: HashSet<u32> = holdouts.iter().copied().collect();
    let artists = |rows: &mut dyn Iterator<Item = u32>| -> HashSet<u32> {
        rows.map(|row| artist_of[row as usize]).filter(|&artist| artist != NONE).collect()
    };
    let (hits, misses): (Vec<u32>, Vec<u32>) =
        ranked.iter().take(holdouts.len()).partition(|&row| withheld.contains(row));
    let wanted = artists(&mut holdouts.iter().copied());
    let hit = artists(&mut hits.iter().copied());
    let credited = artists(&mut misses.into_iter())
        .iter()
        .filter(|&artist| wanted.contains(artist) && !hit.contains(artist))
        .count();

    let gain = |index: usize| 1.0 / ((index + 2) as f64).log2();
    let hit_indices = || ranked.iter().enumerate().filter(|(_, row)| withheld.contains(row)).map(|(index, _)| index);
    let ideal: f64 = (0..holdouts.len().min(ranked.len())).map(gain).sum();
    let size = holdouts.len() as f64;
    CompletionMetrics {
        playlists: 1,
        track_r_precision: hits.len() as f64 / size,
        r_precision: (hits.len() as f64 + ARTIST_CREDIT * credited as f64) / size,
        ndcg: if ideal > 0.0 { hit_indices().map(gain).sum::<f64>() / ideal } else { 0.0 },
        clicks: hit_indices().next().map_or(NO_HIT, |index| index / PAGE) as f64,
    }
}

/// Means over playlists; `None` of none.
fn means<'a>(metrics: impl Iterator<Item = &'a CompletionMetrics>) -> Option<CompletionMetrics> {
    let mut sums = CompletionMetrics::default();
    for one in metrics {
        sums.playlists += one.playlists;
        sums.track_r_precision += one.track_r_precision;
        sums.r_precision += one.r_precision;
        sums.ndcg += one.ndcg;
        sums.clicks += one.clicks;
    }
    let count = sums.playlists as f64;
    (sums.playlists > 0).then(|| CompletionMetrics {
        playlists: sums.playlists,
        track_r_precision: sums.track_r_precision / count,
        r_precision: sums.r_precision / count,
        ndcg: sums.ndcg / count,
        clicks: sums.clicks / count,
    })
}

/// Has every recommender complete every playlist of `test`, one playlist at a time on this thread, and measures it.
///
/// # Errors
///
/// When there is no playlist, an answer breaks the rules (see [`Recommend`]), or `interrupt` is raised.
pub fn evaluate(
    test: &TestSet,
    recommenders: &[Recommender<'_>],
    interrupt: &Interrupt,
) -> Result<Report, EvaluateError> {
    let progress = Progress::start("evaluating", (recommenders.len() * test.queries.len()) as u64);
    let mut models = Vec::with_capacity(recommenders.len());
    for (number, recommender) in recommenders.iter().enumerate() {
        let done = (number * test.queries.len()) as u64;
        let at = |query: usize| progress.at(done + query as u64, || recommender.name.clone());
        models.push(measure(test, recommender, at, interrupt)?);
    }
    let placements = test.queries.iter().flat_map(|query| &query.holdouts).map(|&row| test.placements(row));
    Ok(Report {
        playlists: test.queries.len(),
        catalog_tracks: test.catalog_tracks(),
        holdout_mean_placements: mean(placements),
        models,
    })
}

fn measure(
    test: &TestSet,
    recommender: &Recommender<'_>,
    progress: impl Fn(usize),
    interrupt: &Interrupt,
) -> Result<ModelReport, EvaluateError> {
    // The first answer pays for memory that nothing has touched yet.
    if let Some(first) = test.queries.first() {
        (recommender.recommend)(std::slice::from_ref(&first.completion));
    }
    let (mut metrics, mut seconds) = (Vec::new(), Vec::new());
    let mut recommended = HashSet::new();
    let (mut placements, mut artists) = (Vec::new(), Vec::new());
    for (number, query) in test.queries.iter().enumerate() {
        if interrupt.is_raised() {
            return Err(EvaluateError::Interrupted);
        }
        progress(number);
        let started = Instant::now();
        let answers = (recommender.recommend)(std::slice::from_ref(&query.completion));
        seconds.push(started.elapsed().as_secs_f64());
        let ranked = checked(recommender, query, answers, test.catalog_tracks())?;
        metrics.push((query.kind, completion_metrics(&ranked, &query.holdouts, &test.artist_of)));
        let page = &ranked[..ranked.len().min(PAGE)];
        recommended.extend(page.iter().copied());
        placements.extend(page.iter().map(|&row| test.placements(row)));
        if !page.is_empty() {
            artists.push(test.distinct_artists(page) as f64 / page.len() as f64);
        }
    }
    let mut kinds = std::collections::BTreeMap::new();
    for &(kind, _) in &metrics {
        let of_kind = || metrics.iter().filter(|one| one.0 == kind).map(|one| &one.1);
        kinds.entry(kind).or_insert_with(|| means(of_kind()).unwrap_or_default());
    }
    Ok(ModelReport {
        name: recommender.name.clone(),
        all: means(metrics.iter().map(|one| &one.1)).ok_or(EvaluateError::Empty)?,
        kinds,
        coverage_at_10: CoverageAt10 {
            tracks: recommended.len(),
            share: recommended.len() as f64 / test.catalog_tracks().max(1) as f64,
        },
        mean_placements_at_10: mean(placements.into_iter()),
        distinct_artists_at_10: mean(artists.into_iter()),
        latency_ms: LatencyMs::of(seconds),
    })
}

/// The one list of `answers`, if it keeps to the rules.
fn checked(
    recommender: &Recommender<'_>,
    query: &TestQuery,
    mut answers: Vec<Vec<u32>>,
    rows: usize,
) -> Result<Vec<u32>, EvaluateError> {
    let refuse = |reason: String| EvaluateError::Answer {
        model: recommender.name.clone(),
        playlist: query.playlist.clone(),
        reason,
    };
    let ranked = answers.pop().filter(|_| answers.is_empty()).ok_or_else(|| refuse("not one list".to_owned()))?;
    check_answer(&query.completion, &ranked, rows).map_err(refuse)?;
    Ok(ranked)
}

/// Says how `ranked` is no answer to `completion` over `rows` tracks.
pub(super) fn check_answer(completion: &Completion, ranked: &[u32], rows: usize) -> Result<(), String> {
    if ranked.len() > completion.limit {
        return Err(format!("{} tracks, {} were asked for", ranked.len(), completion.limit));
    }
    let mut taken: HashSet<u32> = completion.seeds.iter().chain(&completion.excluded).copied().collect();
    match ranked.iter().find(|&&row| row as usize >= rows || !taken.insert(row)) {
        Some(row) if *row as usize >= rows => Err(format!("there is no row {row}")),
        Some(row) if completion.seeds.contains(row) => Err(format!("row {row} is a seed")),
        Some(row) if completion.excluded.contains(row) => Err(format!("row {row} is excluded")),
        Some(row) => Err(format!("row {row} occurs twice")),
        None => Ok(()),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SeedKind;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    #[test]
    fn artists_count_a_quarter_once_each_and_only_where_no_track_of_theirs_was_hit() {
        // Rows 0 to 9; artists A (0, 1, 5), B (2, 6, 7), C (3, 8); of row 4 and 9 none is known.
        let artist_of = [0, 0, 1, 2, NONE, 0, 1, 1, 2, NONE];
        let holdouts = [0, 2, 3, 4];
        // First four: row 0 is a hit; 5 is by A, which row 0 has hit already; 6 and 7 are by B: one credit.
        let metrics = completion_metrics(&[0, 5, 6, 7, 8, 3, 9], &holdouts, &artist_of);
        assert!(close(metrics.track_r_precision, 0.25), "{metrics:?}");
        assert!(close(metrics.r_precision, (1.0 + 0.25) / 4.0), "{metrics:?}");
        // Hits at ranks 1 and 6; the ideal has ranks 1 to 4.
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        assert!(close(metrics.ndcg, (1.0 + 1.0 / 7f64.log2()) / ideal), "{metrics:?}");
        assert!(close(metrics.clicks, 0.0), "{metrics:?}");
        // A track without a known artist earns nothing, though one without is withheld.
        assert!(close(completion_metrics(&[9, 8, 1], &[4], &artist_of).r_precision, 0.0));
        // Behind the first |G|, tracks and artists count for nothing.
        let late = completion_metrics(&[9, 1, 0], &[0], &artist_of);
        assert!(close(late.r_precision, 0.0) && close(late.ndcg, 0.5), "{late:?}");
    }

    #[test]
    fn the_ideal_is_no_longer_than_the_list() {
        let holdouts: Vec<u32> = (0..20).collect();
        let metrics = completion_metrics(&[4, 2, 9], &holdouts, &[NONE; 20]);
        assert!(close(metrics.ndcg, 1.0) && close(metrics.track_r_precision, 3.0 / 20.0), "{metrics:?}");
        let none = completion_metrics(&[], &holdouts, &[NONE; 20]);
        assert_eq!((none.ndcg, none.clicks), (0.0, 51.0));
    }

    #[test]
    fn clicks_are_pages_before_that_of_the_first_hit() {
        let ranked: Vec<u32> = (0..500).collect();
        let clicks = |target: u32| completion_metrics(&ranked, &[target, 600], &vec![NONE; 601]).clicks;
        assert_eq!([0, 9, 10, 499, 550].map(clicks), [0.0, 0.0, 1.0, 49.0, 51.0]);
    }

    /// Rows 0 to 5 by placements 60, 50, …, 10, all by one artist but row 5; a playlist of two kinds each.
    fn test_set() -> TestSet {
        let query = |playlist: &str, kind, seeds: &[u32], holdouts: &[u32]| TestQuery {
            playlist: playlist.to_owned(),
            kind,
            completion: Completion { seeds: seeds.to_vec(), limit: 3, ..Completion::default() },
            holdouts: holdouts.to_vec(),
        };
        TestSet {
            queries: vec![
                query("one", SeedKind::TitleFirst1, &[0], &[1, 2]),
                query("two", SeedKind::TitleFirst1, &[1], &[0, 6]),
                query("three", SeedKind::Title, &[], &[5]),
            ],
            artist_of: vec![0, 0, 0, 0, 0, 1, NONE],
            counts: vec![60, 50, 40, 30, 20, 10],
        }
    }

    fn popular(completions: &[Completion]) -> Vec<Vec<u32>> {
        let answer = |one: &Completion| (0..6).filter(|row| !one.seeds.contains(row)).take(one.limit).collect();
        completions.iter().map(answer).collect()
    }

    #[test]
    fn a_report_has_means_by_kind_and_what_kind_of_tracks_were_recommended() {
        let report = evaluate(&test_set(), &[Recommender::new("popularity", popular)], &Interrupt::default());
        let report = report.expect("a report");
        assert_eq!((report.playlists, report.catalog_tracks), (3, 6));
        // Withheld: 50, 40, 60, one the model has never seen, 10.
        assert!(close(report.holdout_mean_placements, 160.0 / 5.0));
        let model = &report.models[0];
        // "one": 1, 2 of [1, 2, 3]; "two": 0 of [0, 2, 3], and the track that the model does not know counts in |G|.
        let first = model.kinds[&SeedKind::TitleFirst1];
        assert_eq!(first.playlists, 2);
        assert!(close(first.track_r_precision, (1.0 + 0.5) / 2.0), "{first:?}");
        assert!(close(model.all.track_r_precision, (1.0 + 0.5 + 0.0) / 3.0), "{model:?}");
        assert!(close(model.all.clicks, 51.0 / 3.0), "{model:?}");
        assert_eq!(model.coverage_at_10, CoverageAt10 { tracks: 4, share: 4.0 / 6.0 });
        // [1, 2, 3], [0, 2, 3] and [0, 1, 2].
        assert!(close(model.mean_placements_at_10, (120.0 + 130.0 + 150.0) / 9.0));
        assert!(close(model.distinct_artists_at_10, 1.0 / 3.0));
    }

    #[test]
    fn answers_against_the_rules_are_errors_that_name_model_and_playlist() {
        for (answer, reason) in [
            (vec![1, 0], "row 0 is a seed"),
            (vec![1, 1], "row 1 occurs twice"),
            (vec![1, 2, 3, 4], "4 tracks, 3 were asked for"),
            (vec![6], "no row 6"),
        ] {
            let recommender = Recommender::new("broken", move |_: &[Completion]| vec![answer.clone()]);
            let error = evaluate(&test_set(), &[recommender], &Interrupt::default()).expect_err("refused").to_string();
            assert!(error.contains("broken") && error.contains("one") && error.contains(reason), "{error}");
        }
        let stopped = Interrupt::default();
        stopped.raise();
        let outcome = evaluate(&test_set(), &[Recommender::new("popularity", popular)], &stopped);
        assert!(matches!(outcome, Err(EvaluateError::Interrupted)));
    }
}
