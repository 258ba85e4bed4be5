//! Which model completes playlists, and how: shared by HTTP, `segue evaluate completion` and `segue submit`.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::completion::{Completed, CompletionModel, Retriever};
use super::diversify::{diversify, likeness, pool_for};
use super::{Completion, Recommended, SimilarityModel};
use crate::bundle::{Kind, Vocabulary};

/// What recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CompletionMethod {
    /// several retrievers and a learned ranking
    Ranking,
    /// retriever: tracks of the most similar playlists
    #[serde(skip)]
    PlaylistKnn,
    /// retriever: tracks that share playlists with the seeds
    #[serde(skip)]
    ItemKnn,
    /// retriever: factors by alternating least squares
    #[serde(skip)]
    Als,
    /// retriever: tracks of playlists with similar titles
    #[serde(skip)]
    Title,
    /// NeuMF with clustered neighbors
    Neumf,
    /// track vectors
    Track2vec,
    /// the most popular tracks for everyone
    Popularity,
}

impl CompletionMethod {
    /// The name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The kind of bundle that it needs. `Popularity` also works with a similarity bundle.
    pub fn kind(self) -> Kind {
        match self {
            Self::Track2vec => Kind::Similarity,
            _ => Kind::Completion,
        }
    }
}

/// A loaded model that completes playlists.
#[derive(Debug, Clone, Copy)]
pub enum Completer<'a> {
    /// over a completion bundle
    Completion(&'a CompletionModel),
    /// over a similarity bundle
    Similarity(&'a SimilarityModel),
}

impl<'a> Completer<'a> {
    /// The app's ids of the rows.
    pub fn vocabulary(self) -> &'a Vocabulary {
        match self {
            Self::Completion(model) => model.vocabulary(),
            Self::Similarity(model) => model.vocabulary(),
        }
    }

    /// `[rows]`: placements of each track.
    pub fn placements(self) -> Vec<u32> {
        match self {
            Self::Completion(model) => {
                let index = &model.bundle().index;
                (0..index.tracks() as u32).map(|row| index.popularity(row) as u32).collect()
            }
            Self::Similarity(model) => model.counts().to_vec(),
        }
    }

    /// Whether the bundle contains what `method` needs.
    pub fn supports(self, method: CompletionMethod) -> bool {
        match (self, method) {
            (_, CompletionMethod::Popularity) => true,
            (Self::Completion(model), CompletionMethod::Neumf) => model.has_neumf(),
            (Self::Completion(_), _) => method.kind() == Kind::Completion,
            (Self::Similarity(_), _) => method.kind() == Kind::Similarity,
        }
    }

    /// Returns what comes next in each of `playlists`, by a method that the bundle supports: up to `limit` distinct
    /// tracks each, best first, none of the seeds, none excluded; diversified where the playlist asks for it.
    pub fn complete(self, method: CompletionMethod, playlists: &[Completion]) -> Vec<Vec<Completed>> {
        // The ranking diversifies by itself, before it computes reasons.
        if method == CompletionMethod::Ranking || playlists.iter().all(|playlist| playlist.diversity == 0.0) {
            return self.most_relevant(method, playlists);
        }
        let with_pool = |playlist: &Completion| Completion { limit: pool_for(playlist.limit), ..playlist.clone() };
        let pools = self.most_relevant(method, &playlists.iter().map(with_pool).collect::<Vec<_>>());
        let alike = |left, right| match self {
            Self::Completion(model) => likeness(&model.bundle().index, left, right),
            Self::Similarity(model) => model.likeness(left, right),
        };
        let choose = |(pool, playlist): (Vec<Completed>, &Completion)| -> Vec<Completed> {
            let rows: Vec<u32> = pool.iter().map(|item| item.recommended.row).collect();
            let relevance: Vec<f32> = pool.iter().map(|item| item.recommended.score).collect();
            let chosen = diversify(alike, &rows, &relevance, playlist.diversity, playlist.limit);
            chosen.into_iter().map(|place| pool[place].clone()).collect()
        };
        pools.into_iter().zip(playlists).map(choose).collect()
    }

    fn most_relevant(self, method: CompletionMethod, playlists: &[Completion]) -> Vec<Vec<Completed>> {
        let plain = |items: Vec<Recommended>| items.into_iter().map(Completed::from).collect();
        let complete_one = |model: &CompletionModel, playlist: &Completion| match method {
            CompletionMethod::Neumf => model.complete_by_neumf(playlist),
            CompletionMethod::Popularity => plain(model.popular(&playlist.forbidden(), playlist.limit)),
            CompletionMethod::PlaylistKnn => plain(model.retrieve(playlist, Retriever::PlaylistKnn)),
            CompletionMethod::ItemKnn => plain(model.retrieve(playlist, Retriever::ItemKnn)),
            CompletionMethod::Als => plain(model.retrieve(playlist, Retriever::Als)),
            CompletionMethod::Title => plain(model.retrieve(playlist, Retriever::Title)),
            CompletionMethod::Ranking | CompletionMethod::Track2vec => model.complete(playlist),
        };
        match self {
            Self::Completion(model) => playlists.iter().map(|playlist| complete_one(model, playlist)).collect(),
            Self::Similarity(model) if method == CompletionMethod::Popularity => {
                let popular = |playlist: &Completion| plain(model.popular(&playlist.forbidden(), playlist.limit));
                playlists.iter().map(popular).collect()
            }
            Self::Similarity(model) => model.complete(playlists).into_iter().map(plain).collect(),
        }
    }
}
