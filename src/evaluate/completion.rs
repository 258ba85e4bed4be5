//! Measures models that complete playlists.

use std::collections::HashSet;
use std::time::Instant;

use super::metrics::{PAGE, completion_metrics, means};
use super::report::{CoverageAt10, LatencyMs, ModelReport, Report};
use super::test_set::{TestQuery, TestSet};
use crate::progress::{Interrupt, Progress};
use crate::recommend::Completion;

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
    /// There are no playlists.
    #[error("there are no playlists to evaluate")]
    Empty,
    /// A model returned an invalid list; its metrics would mean nothing.
    #[error("{model} returned an invalid list for playlist {playlist}: {reason}")]
    Answer {
        /// the model
        model: String,
        /// the playlist
        playlist: String,
        /// what is wrong
        reason: String,
    },
    /// The evaluation was interrupted.
    #[error("interrupted; nothing was reported")]
    Interrupted,
}

/// Has every recommender complete every playlist of `test`, one playlist at a time on this thread, and measures it.
///
/// # Errors
///
/// When there is no playlist, a list is invalid (see [`Recommend`]), or `interrupt` is raised.
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

/// Returns the only list of `answers`, if it is valid.
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
    let ranked =
        answers.pop().filter(|_| answers.is_empty()).ok_or_else(|| refuse("it must be one list".to_owned()))?;
    check_answer(&query.completion, &ranked, rows).map_err(refuse)?;
    Ok(ranked)
}

/// Checks that `ranked` is a valid answer to `completion` over `rows` tracks.
pub(super) fn check_answer(completion: &Completion, ranked: &[u32], rows: usize) -> Result<(), String> {
    if ranked.len() > completion.limit {
        return Err(format!("it has {} tracks, at most {} were requested", ranked.len(), completion.limit));
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
    use crate::dataset::{NONE, SeedKind};

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
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
            (vec![1, 2, 3, 4], "4 tracks, at most 3 were requested"),
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
