//! Why a track is recommended, in terms that a listener understands.

use super::rank::{WIDTH, column_of};
use super::retrieve::Query;
use crate::bundle::CompletionIndex;
use crate::dataset::NONE;
use crate::math::linear::dot;

/// Seeds named in a reason, at most.
const SEEDS: usize = 3;
/// Seeds whose playlists are compared with a track's: of a longer playlist those nearest to the track. Each comparison
/// reads the postings of both.
const COMPARED: usize = 32;
/// A retriever is a reason for a track if it ranks the track at least this high among the candidates.
const HIGH_RANK: f32 = 100.0;

/// A reason for recommending a track.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Playlists hold it together with these seeds (rows); `playlists` is how many hold it with the first of them.
    Together {
        /// rows of the seeds, the most telling first
        seeds: Vec<u32>,
        /// playlists that hold it and the first of the seeds
        playlists: u32,
    },
    /// These seeds (rows) are by the same artist.
    SameArtist {
        /// rows of the seeds
        seeds: Vec<u32>,
    },
    /// These seeds (rows) are from the same album.
    SameAlbum {
        /// rows of the seeds
        seeds: Vec<u32>,
    },
    /// Playlists with a similar title hold it.
    Title {
        /// the normalized title
        title: String,
    },
    /// The title names its artist.
    ArtistInTitle,
    /// The factorization puts it near these seeds (rows).
    Taste {
        /// rows of the seeds nearest by cosine
        seeds: Vec<u32>,
    },
    /// It is popular.
    Popularity,
}

impl Reason {
    /// The name in responses.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Together { .. } => "together",
            Self::SameArtist { .. } => "same_artist",
            Self::SameAlbum { .. } => "same_album",
            Self::Title { .. } => "title",
            Self::ArtistInTitle => "artist_in_title",
            Self::Taste { .. } => "taste",
            Self::Popularity => "popularity",
        }
    }
}

/// Returns the reasons for recommending the track `row`, with `features` (`[WIDTH]`), in the playlist of `query`.
pub fn explain(index: &CompletionIndex, query: &Query, row: u32, features: &[f32]) -> Vec<Reason> {
    debug_assert_eq!(features.len(), WIDTH);
    let feature = |name: &str| column_of(name).map(|column| features[column]).filter(|value| !value.is_nan());
    let rank = |name: &str| feature(name).map_or(f32::INFINITY, f32::exp_m1);
    let mut reasons: Vec<(f32, Reason)> = Vec::new();

    let cosine = |&seed: &u32| dot(index.factor(row), index.factor(seed)) * index.derived.inverse_norm[seed as usize];
    let is_near = rank("factor_rank") < HIGH_RANK;
    let mut near: Vec<(f32, u32)> = Vec::new();
    if is_near || query.seeds.len() > COMPARED {
        near.extend(query.seeds.iter().map(|seed| (cosine(seed), *seed)));
        near.sort_by(|left, right| right.0.total_cmp(&left.0));
    }
    let compared: Vec<u32> = match query.seeds.len() > COMPARED {
        true => near.iter().take(COMPARED).map(|&(_, seed)| seed).collect(),
        false => query.seeds.to_vec(),
    };
    let mut telling: Vec<(u32, u32)> = compared
        .into_iter()
        .map(|seed| (common(index.postings.row(row as usize), index.postings.row(seed as usize)), seed))
        .filter(|&(playlists, _)| playlists > 0)
        .collect();
    // A seed that is everywhere tells less: weigh by its own popularity, as item-kNN does.
    let weight = |&(playlists, seed): &(u32, u32)| playlists as f32 / (index.popularity(seed) as f32 + 20.0).powf(0.75);
    telling.sort_by(|left, right| weight(right).total_cmp(&weight(left)));
    if let Some(&(playlists, _)) = telling.first() {
        let seeds = telling.iter().take(SEEDS).map(|&(_, seed)| seed).collect();
        reasons.push((rank("item_rank").min(rank("knn_rank")), Reason::Together { seeds, playlists }));
    }
    let of_same = |of: &[u32]| -> Vec<u32> {
        let same = |&&seed: &&u32| of[seed as usize] == of[row as usize] && of[row as usize] != NONE;
        query.seeds.iter().filter(same).take(SEEDS).copied().collect()
    };
    let (album, artist) = (of_same(&index.album_of), of_same(&index.artist_of));
    if !album.is_empty() {
        reasons.push((0.5, Reason::SameAlbum { seeds: album }));
    } else if !artist.is_empty() {
        reasons.push((1.0, Reason::SameArtist { seeds: artist }));
    }
    if feature("title").is_some_and(|title| title > 0.0) && rank("title_rank") < HIGH_RANK {
        reasons.push((rank("title_rank"), Reason::Title { title: query.title.clone() }));
    }
    if feature("artist_named").is_some_and(|similarity| similarity > 0.6) {
        reasons.push((0.2, Reason::ArtistInTitle));
    }
    if is_near {
        let seeds = near.into_iter().take(SEEDS).map(|(_, seed)| seed).collect();
        reasons.push((rank("factor_rank"), Reason::Taste { seeds }));
    }
    if reasons.is_empty() {
        reasons.push((0.0, Reason::Popularity));
    }
    reasons.sort_by(|left, right| left.0.total_cmp(&right.0));
    reasons.into_iter().map(|(_, reason)| reason).collect()
}

/// How many numbers two rising lists have in common.
fn common(left: &[u32], right: &[u32]) -> u32 {
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    short.iter().filter(|&number| long.binary_search(number).is_ok()).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Csr;

    #[test]
    fn tracks_without_an_artist_are_not_by_the_same_one() {
        let index = |artists: [u32; 2]| {
            let mut index = CompletionIndex {
                postings: Csr::from_lists([[0], [1]]),
                artist_of: artists.to_vec().into(),
                album_of: vec![NONE; 2].into(),
                artist_counts: vec![2].into(),
                factors: vec![1.0, 0.0].into(),
                gram: vec![1.0].into(),
                ..CompletionIndex::default()
            };
            index.derive();
            index
        };
        let query = Query { title: String::new(), seeds: vec![0] };
        let reasons = |artists| explain(&index(artists), &query, 1, &[f32::NAN; WIDTH]);
        assert_eq!(reasons([0, 0]), [Reason::SameArtist { seeds: vec![0] }]);
        assert_eq!(reasons([NONE, NONE]), [Reason::Popularity]);
    }
}
