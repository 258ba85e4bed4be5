//! Similar tracks and playlist completion from track vectors.
//!
//! A playlist is the weighted mean of its tracks' vectors, the last ones weighing most. What comes next is what is near
//! to it, not yet in it, and liked: of two tracks as near, the one in more playlists is the better guess. If vectors are not enough (no
//! known track, or fewer candidates than requested), the most popular tracks fill the list, and their `source` says so.

use std::sync::Arc;

use crate::bundle::{SimilarityBundle, Vocabulary};

use super::{ScoredRow, VectorIndex, VectorQuery};
use crate::math::ByteTable;
use crate::math::linear::{dot, vectorised};

/// A track this many places further from the end weighs half.
const HALF_LIFE: f32 = 25.0;
/// What a completion adds to the cosine, times ln(placements). Nearly doubles the R-precision of plain cosine on real
/// playlists; twice as much is worse (docs/models/track2vec.md).
const POPULARITY_WEIGHT: f32 = 0.03;

/// With at least this many candidates a rough pass over bytes comes first. With fewer, floats are as fast.
const ROUGH_FROM: usize = 20_000;

/// Where a recommendation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// several retrievers and a learned ranking
    Ranking,
    /// NeuMF with clustered neighbors
    Neumf,
    /// track vectors
    Track2Vec,
    /// what comes after a track, learned from playlists
    Next,
    /// one of the ranking's retrievers by itself; in evaluations only
    Retriever,
    /// number of placements
    Popularity,
}

impl Source {
    /// The name in responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ranking => "ranking",
            Self::Neumf => "neumf",
            Self::Track2Vec => "track2vec",
            Self::Next => "next",
            Self::Retriever => "retriever",
            Self::Popularity => "popularity",
        }
    }
}

/// A recommended row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommended {
    /// row of the track
    pub row: u32,
    /// for `Ranking` and `Neumf` between 0 and 1; for `Track2Vec` the cosine, in completions plus 0.03 · ln(placements); for
    /// `Next` what the ranking gives and for `Retriever` its feature, which only order; for `Popularity` the share of all
    /// placements
    pub score: f32,
    /// what recommends it
    pub source: Source,
}

/// Tracks similar to one.
pub type Similar = Vec<Recommended>;

/// A playlist to complete, in rows of the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// its title, if it has one
    pub title: Option<String>,
    /// its tracks in order, those that the model knows
    pub seeds: Vec<u32>,
    /// further tracks that must not be recommended
    pub excluded: Vec<u32>,
    /// tracks that must not be recommended to anyone, rising
    pub withheld: Arc<[u32]>,
    /// number of tracks to recommend
    pub limit: usize,
    /// 0 for the most relevant tracks, towards 1 for ones less and less like each other
    pub diversity: f32,
    /// whether to return reasons
    pub explain: bool,
}

impl Completion {
    /// Returns what must not be recommended, rising.
    pub fn forbidden(&self) -> Vec<u32> {
        let mut rows = [self.seeds.as_slice(), self.excluded.as_slice(), &self.withheld].concat();
        rows.sort(); // finds the long run that is sorted
        rows.dedup();
        rows
    }
}

/// A loaded similarity bundle.
#[derive(Debug)]
pub struct SimilarityModel {
    bundle: SimilarityBundle,
    placements: u64,
    /// `[candidates]`: what completions add to the cosine
    popularity: Vec<f32>,
    /// the candidates' vectors as bytes, where there are many
    rough: Option<ByteTable>,
}

impl SimilarityModel {
    /// Takes over a bundle.
    pub fn new(bundle: SimilarityBundle) -> Self {
        let placements = bundle.counts.iter().map(|&count| u64::from(count)).sum();
        let counts = &bundle.counts[..bundle.candidates];
        let popularity = counts.iter().map(|&count| POPULARITY_WEIGHT * (count.max(1) as f32).ln()).collect();
        let vectors = &bundle.vectors[..bundle.candidates * bundle.dimensions];
        let rough = (bundle.candidates >= ROUGH_FROM).then(|| ByteTable::new(vectors, bundle.dimensions));
        Self { bundle, placements, popularity, rough }
    }

    /// The app's ids of the rows.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.bundle.vocabulary
    }

    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        self.bundle.dimensions
    }

    /// Placements of each row.
    pub fn counts(&self) -> &[u32] {
        &self.bundle.counts
    }

    /// Rows that may be recommended.
    pub fn candidates(&self) -> usize {
        self.bundle.candidates
    }

    fn index(&self) -> VectorIndex<'_> {
        VectorIndex::new(&self.bundle.vectors, self.bundle.dimensions, self.bundle.candidates)
    }

    /// The `limit` nearest tracks to that of `row`, itself excepted; the most popular ones if it has no vector.
    pub fn similar(&self, row: u32, limit: usize) -> Similar {
        let question = Completion { seeds: vec![row], limit, ..Completion::default() };
        self.nearest_to_each(&[question]).pop().unwrap_or_default()
    }

    /// The tracks nearest to a playlist, however popular.
    pub fn nearest_to_each(&self, playlists: &[Completion]) -> Vec<Similar> {
        self.search(playlists, &[])
    }

    /// Returns what comes right after the track of `row` when it is played or placed: from the list that was made for it, then
    /// by vectors. None of `excluded`, which rise.
    pub fn next(&self, row: u32, excluded: &[u32], limit: usize) -> Vec<Recommended> {
        let listed = self.bundle.next.iter().flat_map(|next| next.after(row));
        let mut recommended: Vec<Recommended> = listed
            .filter(|(row, _)| excluded.binary_search(row).is_err())
            .take(limit)
            .map(|(row, score)| Recommended { row, score, source: Source::Next })
            .collect();
        if recommended.len() < limit {
            let there = recommended.iter().map(|item| item.row);
            let excluded = excluded.iter().copied().chain(there).collect();
            let rest = limit - recommended.len();
            let completion = Completion { seeds: vec![row], excluded, limit: rest, ..Completion::default() };
            recommended.extend(self.search(std::slice::from_ref(&completion), &[]).pop().unwrap_or_default());
        }
        recommended
    }

    /// How alike two tracks are, 0..1: the cosine of their vectors.
    pub fn likeness(&self, left: u32, right: u32) -> f32 {
        dot(self.index().vector(left), self.index().vector(right)).max(0.0)
    }

    /// What comes next in each of `playlists`: up to `limit` distinct tracks each, none of the seeds, none excluded.
    pub fn complete(&self, playlists: &[Completion]) -> Vec<Vec<Recommended>> {
        self.search(playlists, &self.popularity)
    }

    fn search(&self, playlists: &[Completion], bias: &[f32]) -> Vec<Vec<Recommended>> {
        let vectors: Vec<Option<Vec<f32>>> =
            playlists.iter().map(|playlist| self.playlist_vector(&playlist.seeds)).collect();
        let excluded: Vec<Vec<u32>> = playlists.iter().map(Completion::forbidden).collect();
        // Playlists without a vector don't take part in the search.
        let queries: Vec<VectorQuery<'_>> = playlists
            .iter()
            .zip(&vectors)
            .zip(&excluded)
            .filter_map(|((playlist, vector), excluded)| {
                Some(VectorQuery { vector: vector.as_deref()?, bias, excluded, limit: playlist.limit })
            })
            .collect();
        let mut answers = match &self.rough {
            Some(rough) => self.nearest_by_bytes(rough, &queries).into_iter(),
            None => self.index().nearest(&queries).into_iter(),
        };
        playlists
            .iter()
            .zip(&vectors)
            .zip(&excluded)
            .map(|((playlist, vector), excluded)| {
                let nearest = vector.as_ref().and_then(|_| answers.next()).unwrap_or_default();
                let mut recommended: Vec<Recommended> = nearest
                    .into_iter()
                    .map(|near| Recommended { row: near.row, score: near.score, source: Source::Track2Vec })
                    .collect();
                self.fill_up(&mut recommended, excluded, playlist.limit);
                recommended
            })
            .collect()
    }

    /// Like [`VectorIndex::nearest`]: the best by bytes are scored again by floats. Twice as many as requested leave room
    /// for the rounding (docs/benchmarks.md).
    fn nearest_by_bytes(&self, rough: &ByteTable, queries: &[VectorQuery<'_>]) -> Vec<Vec<ScoredRow>> {
        let wished = queries.iter().map(|query| 2 * query.limit + query.excluded.len()).max().unwrap_or(0) + 100;
        let vectors: Vec<&[f32]> = queries.iter().map(|query| query.vector).collect();
        let bias = queries.first().map_or(&[][..], |query| query.bias);
        let found = rough.best(&vectors, bias, wished);
        let index = self.index();
        let exact = |(query, rows): (&VectorQuery<'_>, Vec<(u32, f32)>)| {
            let rows = rows.into_iter().map(|(row, _)| row).filter(|row| query.excluded.binary_search(row).is_err());
            let mut near: Vec<ScoredRow> = vectorised(
                #[inline(always)]
                || {
                    rows.map(|row| {
                        let bias = query.bias.get(row as usize).copied().unwrap_or(0.0);
                        ScoredRow { row, score: dot(query.vector, index.vector(row)) + bias }
                    })
                    .collect()
                },
            );
            near.sort_unstable();
            near.truncate(query.limit);
            near
        };
        queries.iter().zip(found).map(exact).collect()
    }

    /// The `limit` most popular tracks that are not among `excluded`.
    pub fn popular(&self, excluded: &[u32], limit: usize) -> Vec<Recommended> {
        let mut excluded = excluded.to_vec();
        excluded.sort_unstable();
        let mut recommended = Vec::new();
        self.fill_up(&mut recommended, &excluded, limit);
        recommended
    }

    /// Weighted mean of the seeds' vectors, of length 1; `None` without seeds that have vectors.
    fn playlist_vector(&self, seeds: &[u32]) -> Option<Vec<f32>> {
        let mut mean = vec![0.0; self.bundle.dimensions];
        for (distance, &row) in seeds.iter().rev().enumerate() {
            let weight = 0.5f32.powf(distance as f32 / HALF_LIFE);
            for (sum, value) in mean.iter_mut().zip(self.index().vector(row)) {
                *sum += weight * value;
            }
        }
        let norm = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
        (norm > 1e-6).then(|| mean.iter().map(|value| value / norm).collect())
    }

    /// Rows are in order of popularity, so the most popular tracks are the first ones.
    fn fill_up(&self, recommended: &mut Vec<Recommended>, excluded: &[u32], limit: usize) {
        let missing = limit - recommended.len();
        if missing == 0 {
            return;
        }
        let mut there: Vec<u32> = recommended.iter().map(|item| item.row).collect();
        there.sort_unstable();
        let absent = |row: &u32| there.binary_search(row).is_err() && excluded.binary_search(row).is_err();
        let fill = (0..self.bundle.counts.len() as u32).filter(absent).take(missing).map(|row| Recommended {
            row,
            score: (f64::from(self.bundle.counts[row as usize]) / self.placements.max(1) as f64) as f32,
            source: Source::Popularity,
        });
        recommended.extend(fill.collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::bundle::NextTracks;

    /// Six rows on the unit circle, far enough apart for popularity not to matter; the last may only be asked with.
    fn model() -> SimilarityModel {
        let angles = [0.0f32, 90.0, 10.0, 100.0, 20.0, 5.0];
        let ids = ["a", "b", "c", "d", "e", "f"];
        SimilarityModel::new(SimilarityBundle {
            vocabulary: Vocabulary::new(ids.into_iter()).expect("distinct"),
            vectors: angles.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]).collect(),
            dimensions: 2,
            counts: vec![40, 30, 15, 10, 4, 1],
            candidates: 5,
            next: Some(NextTracks::new(&[vec![(3, 2.5), (1, -1.0)], vec![]])),
        })
    }

    #[test]
    fn what_comes_next_is_the_list_then_neighbours_then_popular_tracks() {
        use Source::{Next, Popularity, Track2Vec};
        let next = |row, excluded: &[u32], limit| -> Vec<(u32, Source)> {
            model().next(row, excluded, limit).iter().map(|item| (item.row, item.source)).collect()
        };
        assert_eq!(next(0, &[], 1), [(3, Next)]);
        assert_eq!(next(0, &[3], 2), [(1, Next), (2, Track2Vec)]);
        assert_eq!(next(0, &[], 5)[2..], [(2, Track2Vec), (4, Track2Vec), (5, Popularity)]);
        assert_eq!(next(1, &[], 1), [(3, Track2Vec)]);
        assert_eq!(next(5, &[], 1), [(0, Track2Vec)], "a track too rare for a list");
    }

    fn complete(seeds: &[u32], excluded: &[u32], limit: usize) -> Vec<(u32, Source)> {
        let completion =
            Completion { seeds: seeds.to_vec(), excluded: excluded.to_vec(), limit, ..Completion::default() };
        model().complete(&[completion])[0].iter().map(|item| (item.row, item.source)).collect()
    }

    #[test]
    fn neighbours_come_first_and_popular_tracks_fill_up() {
        use Source::{Popularity, Track2Vec};
        assert_eq!(complete(&[0], &[], 2), [(2, Track2Vec), (4, Track2Vec)]);
        assert_eq!(complete(&[0], &[2], 2), [(4, Track2Vec), (1, Track2Vec)]);
        let all = complete(&[0, 2], &[], 10);
        assert_eq!(all, [(4, Track2Vec), (1, Track2Vec), (3, Track2Vec), (5, Popularity)]);
    }

    #[test]
    fn many_candidates_are_searched_by_bytes_and_answered_as_if_by_floats() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let (rows, dimensions) = (ROUGH_FROM + 7, 16);
        let mut vectors: Vec<f32> = (0..rows * dimensions).map(|_| rng.random_range(-1.0..1.0)).collect();
        for vector in vectors.chunks_exact_mut(dimensions) {
            let length = dot(vector, vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= length);
        }
        let ids: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
        let by_bytes = SimilarityModel::new(SimilarityBundle {
            vocabulary: Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct"),
            vectors,
            dimensions,
            counts: (1..=rows as u32).rev().collect(),
            candidates: rows - 3,
            next: None,
        });
        let playlist = |seeds: &[u32]| Completion {
            seeds: seeds.to_vec(),
            excluded: vec![11, 12],
            limit: 50,
            ..Completion::default()
        };
        let playlists: Vec<Completion> =
            [&[5][..], &[9_000, 20_001], &[1, 2, 3], &[], &[77], &[78]].map(playlist).into();
        let found = by_bytes.complete(&playlists);
        let by_floats = SimilarityModel { rough: None, ..by_bytes };
        assert_eq!(found, by_floats.complete(&playlists));
        let similar = by_floats.similar(20_006, 30);
        assert!(similar.len() == 30 && similar.iter().all(|item| item.source == Source::Track2Vec));
    }

    #[test]
    fn an_empty_playlist_gets_the_most_popular() {
        assert_eq!(complete(&[], &[1], 2), [(0, Source::Popularity), (2, Source::Popularity)]);
        let score = model().complete(&[Completion { limit: 1, ..Completion::default() }])[0][0].score;
        assert!((score - 0.4).abs() < 1e-6);
    }

    #[test]
    fn of_two_tracks_as_near_the_more_popular_one_comes_next_but_is_not_more_similar() {
        // Row 5 lies at 5°, row 0 at 0° and row 2 at 10°: as near, but row 0 has more placements.
        assert_eq!(complete(&[5], &[], 1), [(0, Source::Track2Vec)]);
        let similar = model().similar(5, 2);
        assert!((similar[0].score - similar[1].score).abs() < 1e-6);
    }

    #[test]
    fn later_tracks_weigh_more() {
        // Row 3 is a neighbor of row 1, and row 4 one of row 0.
        let score = |seeds: [u32; 2], row: u32| {
            let completion = Completion { seeds: seeds.to_vec(), limit: 10, ..Completion::default() };
            let items = model().complete(&[completion]).remove(0);
            items.iter().find(|item| item.row == row).expect("it is a candidate").score
        };
        assert!(score([0, 1], 3) > score([1, 0], 3) + 0.005);
        assert!(score([0, 1], 4) < score([1, 0], 4) - 0.005);
    }
}
