//! Playlists of a catalog held out to measure on, masked in the ten ways of the challenge.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use tracing::warn;

use super::Report;
use super::{EvaluateError, Recommender, evaluate};
use super::{PartialPlaylist, TestPlaylist, TestSet};
use crate::bundle::Vocabulary;
use crate::dataset::{Corpus, SeedKind, mask};
use crate::progress::Interrupt;

/// A playlist that is held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOutPlaylist {
    /// its row in the corpus
    pub playlist: u32,
    /// in which way it is masked
    pub kind: SeedKind,
    /// its title, if that is seen
    pub title: Option<String>,
    /// rows of the corpus that are seen, in order
    pub seeds: Vec<u32>,
    /// rows of the distinct tracks to find, none of them a seed
    pub holdouts: Vec<u32>,
}

/// A corpus in two: what is measured on, and what may be learned from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// the playlists held out, in order of kinds
    pub held_out: Vec<HeldOutPlaylist>,
    /// rows of all other playlists, rising; [`Corpus::select`] makes a corpus of them
    pub remaining: Vec<u32>,
}

impl Split {
    /// Holds out `playlists` playlists, a tenth for each kind of seeds, drawn at random by `seed` from those that are
    /// long enough for the kind; fewer of a kind where the corpus has too few of them, which is logged.
    ///
    /// # Errors
    ///
    /// When that would be more than half of all, or no playlist is long enough for any kind.
    pub fn new(corpus: &Corpus, playlists: usize, seed: u64) -> Result<Self, String> {
        let all = corpus.sequences.playlists.rows();
        if playlists > all / 2 {
            return Err(format!(
                "{playlists} of {all} playlists can't be held out: at least half must remain to train on"
            ));
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut candidates: Vec<u32> = (0..all as u32).collect();
        candidates.shuffle(&mut rng);
        let mut held_out: Vec<HeldOutPlaylist> = Vec::with_capacity(playlists);
        // The most demanding kinds first: the others find enough in what these leave.
        for (number, kind) in SeedKind::ALL.into_iter().enumerate().rev() {
            let wanted = playlists / SeedKind::ALL.len() + usize::from(number < playlists % SeedKind::ALL.len());
            let mut found = 0;
            candidates.retain(|&playlist| {
                if found == wanted {
                    return true;
                }
                let rows = corpus.sequences.playlists.row(playlist as usize);
                let Some(masked) = mask(rows, &corpus.titles[playlist as usize], kind, &mut rng) else { return true };
                let title = masked.title.map(ToOwned::to_owned);
                held_out.push(HeldOutPlaylist {
                    playlist,
                    kind,
                    title,
                    seeds: masked.seeds,
                    holdouts: masked.holdouts,
                });
                found += 1;
                false
            });
            if found < wanted {
                warn!("only {found} playlists instead of {wanted} are long enough for {kind}");
            }
        }
        if held_out.is_empty() {
            return Err("no playlist is long enough to hold out a part of it".to_owned());
        }
        held_out.sort_by_key(|one| one.kind);
        candidates.sort_unstable();
        Ok(Self { held_out, remaining: candidates })
    }

    /// Returns what is held out by the app's ids, so that any model can be measured, whatever its rows are.
    pub fn test_playlists(&self, corpus: &Corpus) -> Vec<TestPlaylist> {
        let ids = |rows: &[u32]| rows.iter().map(|&row| corpus.sequences.track_ids[row as usize].clone()).collect();
        let test_playlist = |one: &HeldOutPlaylist| TestPlaylist {
            seen: PartialPlaylist {
                id: format!("#{}", one.playlist),
                title: one.title.clone(),
                seeds: ids(&one.seeds),
            },
            kind: one.kind,
            holdouts: ids(&one.holdouts),
        };
        self.held_out.iter().map(test_playlist).collect()
    }
}

/// Measures models on what `split` holds out of `corpus`, in rows of `vocabulary` with their placements `counts`.
///
/// The models must have learned from no more than [`Split::remaining`]; otherwise they have seen what they are tested on.
///
/// # Errors
///
/// As [`evaluate`].
pub fn evaluate_split(
    corpus: &Corpus,
    split: &Split,
    vocabulary: &Vocabulary,
    counts: &[u32],
    recommenders: &[Recommender<'_>],
    interrupt: &Interrupt,
) -> Result<Report, EvaluateError> {
    let artists: HashMap<&str, &str> = (corpus.sequences.track_ids.iter().zip(&corpus.artist_of))
        .filter_map(|(id, &artist)| Some((id.as_str(), corpus.artist_names.get(artist as usize)?.as_str())))
        .collect();
    let test = TestSet::new(&split.test_playlists(corpus), vocabulary, counts, &artists);
    evaluate(&test, recommenders, interrupt)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::recommend::Completion;

    /// 60 playlists of 5, 10, 15, …, 150 tracks out of 200, every third without a title.
    fn corpus() -> Corpus {
        let rows: Vec<Vec<u32>> = (0..60u32)
            .map(|playlist| (0..(playlist % 30 + 1) * 5).map(|at| (playlist * 37 + at) % 200).collect())
            .collect();
        let title = |number: usize| if number.is_multiple_of(3) { String::new() } else { format!("mix {number}") };
        let titles: Vec<String> = (0..60).map(title).collect();
        let playlists: Vec<(&str, &[u32])> =
            titles.iter().map(String::as_str).zip(rows.iter().map(Vec::as_slice)).collect();
        // Tracks 10 apart are by artists of one name.
        let artists: Vec<String> = (0..200).map(|row| format!("artist {}", row % 10)).collect();
        Corpus::by_hand(&playlists, &artists.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn every_playlist_is_withheld_or_remains_and_what_is_seen_is_not_to_be_found() {
        let corpus = corpus();
        let split = Split::new(&corpus, 23, 1).expect("a split");
        for (number, kind) in SeedKind::ALL.into_iter().enumerate() {
            let count = split.held_out.iter().filter(|one| one.kind == kind).count();
            assert_eq!(count, 2 + usize::from(number < 3), "{kind}");
        }
        let mut all: Vec<u32> = split.held_out.iter().map(|one| one.playlist).chain(split.remaining.clone()).collect();
        assert!(split.remaining.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<u32>>());
        for one in &split.held_out {
            let rows = corpus.sequences.playlists.row(one.playlist as usize);
            let title = one.kind.has_title().then(|| format!("mix {}", one.playlist));
            assert_eq!(one.title, title, "{one:?}");
            assert_eq!(one.seeds.len(), one.kind.seeds());
            assert!(one.holdouts.len() >= 5 && one.holdouts.iter().all(|row| rows.contains(row)), "{one:?}");
            let seeds: HashSet<&u32> = one.seeds.iter().collect();
            assert!(!one.holdouts.iter().any(|row| seeds.contains(row)), "{one:?}");
        }
        assert_eq!(split, Split::new(&corpus, 23, 1).expect("a split"));
        assert_ne!(split, Split::new(&corpus, 23, 2).expect("a split"));
    }

    #[test]
    fn kinds_that_few_playlists_do_for_get_fewer_and_too_much_is_refused() {
        let short =
            Corpus::by_hand(&[("a", &[0, 1, 2, 3, 4, 5]), ("b", &[0, 1]), ("", &[0, 1]), ("", &[1])], &["A"; 6]);
        let split = Split::new(&short, 2, 1).expect("a split");
        let kinds: Vec<SeedKind> = split.held_out.iter().map(|one| one.kind).collect();
        assert_eq!((kinds, split.remaining), (vec![SeedKind::TitleFirst1], vec![1, 2, 3]));
        assert!(Split::new(&short, 3, 1).expect_err("refused").contains("3 of 4 playlists can't be held out"));
        let tiny = Corpus::by_hand(&[("a", &[0, 1]), ("b", &[0, 1])], &["A"; 2]);
        assert!(Split::new(&tiny, 1, 1).expect_err("refused").contains("no playlist is long enough"));
    }

    #[test]
    fn models_trained_on_the_rest_are_measured_in_their_own_rows() {
        let corpus = corpus();
        let split = Split::new(&corpus, 20, 3).expect("a split");
        let rest = corpus.select(&split.remaining);
        let ids = &rest.sequences.track_ids;
        let vocabulary = Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct");
        let withheld = split.test_playlists(&corpus);
        // One that knows the answers, and one that never finds any.
        let oracle = |completions: &[Completion]| {
            let answer = |completion: &Completion| {
                let question = withheld.iter().find(|one| one.seen.completion(&vocabulary) == *completion);
                question.expect("asked for").holdouts.iter().filter_map(|id| vocabulary.row(id)).collect()
            };
            completions.iter().map(answer).collect()
        };
        let nothing = |completions: &[Completion]| vec![Vec::new(); completions.len()];
        let recommenders = [Recommender::new("oracle", oracle), Recommender::new("nothing", nothing)];
        let counts = &rest.sequences.counts;
        let report = evaluate_split(&corpus, &split, &vocabulary, counts, &recommenders, &Interrupt::default());
        let report = report.expect("a report");
        assert_eq!((report.playlists, report.models[0].kinds.len()), (20, 10));
        assert!(report.models[0].all.ndcg > 0.999, "{report:?}");
        assert!(report.models[0].all.track_r_precision > 0.99, "{report:?}");
        assert_eq!((report.models[1].all.r_precision, report.models[1].all.clicks), (0.0, 51.0));
    }
}
