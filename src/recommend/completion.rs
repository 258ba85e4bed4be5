//! Playlist completion: candidates from several retrievers, ranked by trees, diversified and explained.

use std::sync::Mutex;

use super::NeumfModel;
use super::diversify::{diversify, likeness, pool_for};
use super::explain::{Reason, explain};
use super::rank::{Candidates, WIDTH, candidates, candidates_for, column_of, finalists_for};
use super::retrieve::playlists::{add_by_artists, neighbours};
use super::retrieve::{Neighbour, Query, Workspace};
use super::{Completion, Recommended, Source};
use crate::bundle::{CompletionBundle, Vocabulary};
use crate::math::top_k::sort_best;

/// A recommended row with the reasons for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// the row
    pub recommended: Recommended,
    /// the reasons, strongest first; empty unless requested
    pub reasons: Vec<Reason>,
}

/// One of the retrievers that the ranking learns from, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retriever {
    /// tracks of the playlists most like the query
    PlaylistKnn,
    /// tracks that playlists hold together with the seeds
    ItemKnn,
    /// factors by alternating least squares
    Als,
    /// tracks of playlists with similar titles
    Title,
}

impl Retriever {
    /// The feature with its score of a track; positive if it proposes the track.
    fn feature(self) -> &'static str {
        match self {
            Self::PlaylistKnn => "knn",
            Self::ItemKnn => "item_share",
            Self::Als => "factor",
            Self::Title => "title",
        }
    }
}

/// A loaded completion bundle.
#[derive(Debug)]
pub struct CompletionModel {
    bundle: CompletionBundle,
    neumf: Option<NeumfModel>,
    placements: f32,
    /// one for each thread at work; a request takes one and returns it
    workspaces: Mutex<Vec<Workspace>>,
}

impl CompletionModel {
    /// Takes over a bundle.
    pub fn new(mut bundle: CompletionBundle) -> Self {
        let neumf = bundle.neumf.take().map(|neumf| NeumfModel::new(neumf, &bundle.index.playlists));
        let placements = bundle.index.playlists.items().len().max(1) as f32;
        Self { bundle, neumf, placements, workspaces: Mutex::default() }
    }

    /// The app's ids of the rows.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.bundle.vocabulary
    }

    /// The bundle.
    pub fn bundle(&self) -> &CompletionBundle {
        &self.bundle
    }

    /// Title of a track and name of its artist, if it has one.
    pub fn names(&self, row: u32) -> (&str, Option<&str>) {
        let artist = self.bundle.index.artist(row).map(|artist| self.bundle.artist_names.get(artist));
        (self.bundle.track_names.get(row), artist)
    }

    /// Returns what comes next in a playlist: up to `limit` distinct tracks, none of the seeds, none excluded.
    pub fn complete(&self, playlist: &Completion) -> Vec<Completed> {
        let index = &self.bundle.index;
        let query = Query::new(index, playlist.title.as_deref(), &playlist.seeds);
        let excluded = playlist.forbidden();
        if query.seeds.is_empty() && !self.says_something(&query.title) {
            return self.popular(&excluded, playlist.limit).into_iter().map(Completed::from).collect();
        }
        let found = self.candidates(&query, &excluded, playlist.limit);
        self.rank(&query, &found, &excluded, playlist)
    }

    /// Returns what one retriever by itself recommends: up to `limit` distinct tracks, none of the seeds, none excluded. It
    /// orders the same candidates that the ranking does; of equal ones the more popular comes first, and
    /// popular tracks follow where it has nothing more to say.
    pub fn retrieve(&self, playlist: &Completion, retriever: Retriever) -> Vec<Recommended> {
        let query = Query::new(&self.bundle.index, playlist.title.as_deref(), &playlist.seeds);
        let excluded = playlist.forbidden();
        let found = self.candidates(&query, &excluded, playlist.limit);
        let column = column_of(retriever.feature());
        let value = |place: usize| column.map_or(f32::NAN, |column| found.features[place * WIDTH + column]);
        // Not a number where the playlist has no seeds, or no title, to go by.
        let mut said: Vec<usize> = (0..found.rows.len()).filter(|&place| value(place) > 0.0).collect();
        // Rows of a small number are popular.
        said.sort_unstable_by(|&left, &right| {
            value(right).total_cmp(&value(left)).then(found.rows[left].cmp(&found.rows[right]))
        });
        let best = said.into_iter().take(playlist.limit);
        let mut recommended: Vec<Recommended> = best
            .map(|place| Recommended { row: found.rows[place], score: value(place), source: Source::Retriever })
            .collect();
        let rows: Vec<u32> = recommended.iter().map(|track| track.row).collect();
        recommended.extend(self.popular_behind(&rows, &excluded, playlist.limit));
        recommended
    }

    fn candidates(&self, query: &Query, excluded: &[u32], limit: usize) -> Candidates {
        let index = &self.bundle.index;
        self.with_workspace(|workspace| candidates(index, query, excluded, candidates_for(limit), workspace))
    }

    fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let mut workspace = self.workspaces.lock().ok().and_then(|mut free| free.pop()).unwrap_or_default();
        let answer = work(&mut workspace);
        if let Ok(mut free) = self.workspaces.lock() {
            free.push(workspace);
        }
        answer
    }

    /// Whether the bundle has NeuMF.
    pub fn has_neumf(&self) -> bool {
        self.neumf.is_some()
    }

    /// Like [`CompletionModel::complete`], by NeuMF with clustered neighbors; popular tracks if the bundle has no NeuMF.
    pub fn complete_by_neumf(&self, playlist: &Completion) -> Vec<Completed> {
        let index = &self.bundle.index;
        let query = Query::new(index, playlist.title.as_deref(), &playlist.seeds);
        let excluded = playlist.forbidden();
        let items = self.neumf.as_ref().and_then(|neumf| {
            let embedding = self.with_workspace(|workspace| {
                workspace.reserve(index);
                let (mut found, _) = neighbours(index, &query, workspace);
                let by_seeds = !query.seeds.is_empty();
                let like = |near: &Neighbour| (near.playlist, if by_seeds { near.gives.knn } else { near.gives.title });
                let embedding = neumf.fold_in(&found.iter().map(like).collect::<Vec<(u32, f32)>>()).or_else(|| {
                    // NeuMF may know none of the few playlists that hold rare tracks.
                    add_by_artists(index, &query, &mut found, workspace);
                    let like = found.iter().map(|near| (near.playlist, near.gives.artist_knn));
                    neumf.fold_in(&like.collect::<Vec<(u32, f32)>>())
                });
                workspace.clear();
                embedding
            })?;
            Some(neumf.recommend(&embedding, &excluded, playlist.limit))
        });
        let items = items.unwrap_or_default().into_iter().map(|(row, logit)| {
            let score = 1.0 / (1.0 + (-logit).exp());
            Completed::from(Recommended { row, score, source: Source::Neumf })
        });
        self.filled_up(items.collect(), &excluded, playlist.limit)
    }

    /// With popular tracks behind, where there are fewer than `limit`.
    fn filled_up(&self, mut completed: Vec<Completed>, excluded: &[u32], limit: usize) -> Vec<Completed> {
        let rows: Vec<u32> = completed.iter().map(|item| item.recommended.row).collect();
        completed.extend(self.popular_behind(&rows, excluded, limit).into_iter().map(Completed::from));
        completed
    }

    /// The popular tracks that `rows` lack to be `limit`.
    fn popular_behind(&self, rows: &[u32], excluded: &[u32], limit: usize) -> Vec<Recommended> {
        if rows.len() >= limit {
            return Vec::new();
        }
        let mut taken = [excluded, rows].concat();
        taken.sort_unstable();
        self.popular(&taken, limit - rows.len())
    }

    /// Whether a normalized title has anything in common with the titles and names that the index knows.
    fn says_something(&self, title: &str) -> bool {
        let index = &self.bundle.index;
        !index.titles.search(title, 1).is_empty() || !index.artist_names.search(title, 1).is_empty()
    }

    fn rank(&self, query: &Query, found: &Candidates, excluded: &[u32], playlist: &Completion) -> Vec<Completed> {
        let index = &self.bundle.index;
        let pool = if playlist.diversity > 0.0 { pool_for(playlist.limit) } else { playlist.limit };
        let scores = self.bundle.trees.score_best(&found.features, finalists_for(pool));
        // Places of rows, which rise: of equal scores the row of the smaller number, which is popular, comes first.
        let mut best: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
        sort_best(&mut best, pool);
        let mut order: Vec<u32> = best.into_iter().map(|(place, _)| place).collect();
        if playlist.diversity > 0.0 {
            let rows: Vec<u32> = order.iter().map(|&place| found.rows[place as usize]).collect();
            let relevance: Vec<f32> = order.iter().map(|&place| scores[place as usize]).collect();
            let chosen = diversify(
                |left, right| likeness(index, left, right),
                &rows,
                &relevance,
                playlist.diversity,
                playlist.limit,
            );
            order = chosen.into_iter().map(|place| order[place]).collect();
        }
        let completed = order.into_iter().map(|place| {
            let place = place as usize;
            let score = 1.0 / (1.0 + (-scores[place]).exp());
            let recommended = Recommended { row: found.rows[place], score, source: Source::Ranking };
            let features = &found.features[place * WIDTH..(place + 1) * WIDTH];
            let reasons = if playlist.explain { explain(index, query, recommended.row, features) } else { Vec::new() };
            Completed { recommended, reasons }
        });
        self.filled_up(completed.collect(), excluded, playlist.limit)
    }

    /// The `limit` most popular tracks that are not among `excluded` (rising); the score is the share of all placements.
    pub fn popular(&self, excluded: &[u32], limit: usize) -> Vec<Recommended> {
        let index = &self.bundle.index;
        let rows = index.popular.iter().copied().filter(|row| excluded.binary_search(row).is_err()).take(limit);
        rows.map(|row| {
            let score = index.popularity(row) as f32 / self.placements;
            Recommended { row, score, source: Source::Popularity }
        })
        .collect()
    }
}

impl From<Recommended> for Completed {
    fn from(recommended: Recommended) -> Self {
        let reason = match recommended.source {
            Source::Popularity => Reason::Popularity,
            _ => Reason::Taste { seeds: Vec::new() },
        };
        Self { recommended, reasons: vec![reason] }
    }
}
