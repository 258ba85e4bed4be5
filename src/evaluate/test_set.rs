//! Masked playlists in the rows of a model's vocabulary.

use std::collections::{HashMap, HashSet};

use super::LIST_LENGTH;
use crate::bundle::Vocabulary;
use crate::dataset::{NONE, SeedKind};
use crate::recommend::Completion;

/// What is seen of a playlist, by the app's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialPlaylist {
    /// its own id, to name it by
    pub id: String,
    /// its title, if that is seen
    pub title: Option<String>,
    /// ids of its tracks that are seen, in order
    pub seeds: Vec<String>,
}

impl PartialPlaylist {
    /// The question for 500 tracks; seeds that are not in `vocabulary` are left out.
    pub fn completion(&self, vocabulary: &Vocabulary) -> Completion {
        Completion {
            title: self.title.clone(),
            seeds: self.seeds.iter().filter_map(|id| vocabulary.row(id)).collect(),
            limit: LIST_LENGTH,
            ..Completion::default()
        }
    }
}

/// A playlist to measure on, by the app's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestPlaylist {
    /// what is seen of it
    pub seen: PartialPlaylist,
    /// in which way it is masked
    pub kind: SeedKind,
    /// ids of the distinct tracks withheld, one or more
    pub holdouts: Vec<String>,
}

/// Playlists to measure on, with what the metrics need to know of tracks.
#[derive(Debug)]
pub struct TestSet {
    pub(super) queries: Vec<TestQuery>,
    /// the vocabulary's rows, then those of withheld tracks that it lacks: artists by name, or [`NONE`]
    pub(super) artist_of: Vec<u32>,
    /// placements of the vocabulary's rows
    pub(super) counts: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct TestQuery {
    pub(super) playlist: String,
    pub(super) kind: SeedKind,
    pub(super) completion: Completion,
    /// withheld tracks that the model does not know have rows too: they count in |G|, though it can't find them
    pub(super) holdouts: Vec<u32>,
}

impl TestSet {
    /// Playlists in rows of `vocabulary`. `counts` are the placements of its rows; `artists` the names of artists by id
    /// of track, as far as they are known.
    pub fn new(
        playlists: &[TestPlaylist],
        vocabulary: &Vocabulary,
        counts: &[u32],
        artists: &HashMap<&str, &str>,
    ) -> Self {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        // By name, not by the artist's own id: the challenge's files have only names.
        let mut artist = |id: &str| {
            artists.get(id).map_or(NONE, |&name| {
                let next = numbers.len() as u32;
                *numbers.entry(name).or_insert(next)
            })
        };
        let mut artist_of: Vec<u32> = (0..vocabulary.len() as u32).map(|row| artist(vocabulary.id(row))).collect();
        let mut unknown: HashMap<&str, u32> = HashMap::new();
        let mut queries = Vec::with_capacity(playlists.len());
        for playlist in playlists {
            let rows = playlist.holdouts.iter().map(|id| {
                vocabulary.row(id).unwrap_or_else(|| {
                    *unknown.entry(id).or_insert_with(|| {
                        artist_of.push(artist(id));
                        artist_of.len() as u32 - 1
                    })
                })
            });
            queries.push(TestQuery {
                playlist: playlist.seen.id.clone(),
                kind: playlist.kind,
                holdouts: rows.collect(),
                completion: playlist.seen.completion(vocabulary),
            });
        }
        Self { queries, artist_of, counts: counts.to_vec() }
    }

    /// Number of tracks that can be recommended.
    pub(super) fn catalog_tracks(&self) -> usize {
        self.counts.len()
    }

    /// Placements of a row; none of a track that the vocabulary lacks.
    pub(super) fn placements(&self, row: u32) -> f64 {
        f64::from(self.counts.get(row as usize).copied().unwrap_or(0))
    }

    /// Distinct artists of `rows`; a track whose artist is not known is by one of its own.
    pub(super) fn distinct_artists(&self, rows: &[u32]) -> usize {
        let (known, unknown): (Vec<u32>, Vec<u32>) =
            rows.iter().map(|&row| self.artist_of[row as usize]).partition(|&artist| artist != NONE);
        known.into_iter().collect::<HashSet<u32>>().len() + unknown.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_that_the_model_does_not_know_have_rows_of_their_own_and_artists_go_by_name() {
        let vocabulary = Vocabulary::new(["a", "b", "c"].into_iter()).expect("distinct");
        let playlist = |id: &str, seeds: &[&str], holdouts: &[&str]| TestPlaylist {
            seen: PartialPlaylist {
                id: id.to_owned(),
                title: Some("t".to_owned()),
                seeds: seeds.iter().map(|&id| id.to_owned()).collect(),
            },
            kind: SeedKind::TitleFirst5,
            holdouts: holdouts.iter().map(|&id| id.to_owned()).collect(),
        };
        let playlists = [playlist("1", &["x", "b", "b"], &["a", "y", "z"]), playlist("2", &[], &["z", "c"])];
        let artists = HashMap::from([("a", "Abba"), ("c", "Abba"), ("y", "Abba"), ("z", "Beck")]);
        let test = TestSet::new(&playlists, &vocabulary, &[3, 2, 1], &artists);
        assert_eq!(test.queries[0].completion.seeds, [1, 1]);
        assert_eq!(test.queries[0].completion.limit, 500);
        assert_eq!(test.queries[0].holdouts, [0, 3, 4]);
        assert_eq!(test.queries[1].holdouts, [4, 2]);
        assert_eq!(test.artist_of, [0, NONE, 0, 0, 1]);
        assert_eq!((test.catalog_tracks(), test.placements(1), test.placements(4)), (3, 2.0, 0.0));
        assert_eq!(test.distinct_artists(&[0, 2, 1, 4]), 3);
    }
}
