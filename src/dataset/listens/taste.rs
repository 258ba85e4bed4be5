//! How near a track lies to what a user plays, and its artist to the artists that the user plays.

use super::history::{Listening, UNKNOWN};
use crate::math::Csr;
use crate::math::linear::dot;
use crate::math::truncated_svd::decompose;

/// Directions of who plays which tracks, and which artists; as in the winning features of the WSDM Cup 2018.
const DIRECTIONS: [usize; 2] = [48, 16];
/// Any; the same listens have the same tastes.
const SEED: u64 = 1;

/// Users and items (tracks, or artists) as vectors whose product says how near they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taste {
    /// rows of users, rising
    pub users: Vec<u32>,
    /// `[users, length]`
    pub user_vectors: Vec<f32>,
    /// rows of items, rising
    pub items: Vec<u32>,
    /// `[items, length]`
    pub item_vectors: Vec<f32>,
}

impl Taste {
    /// From files.
    ///
    /// # Errors
    ///
    /// Says what does not fit together.
    pub fn from_parts(
        users: Vec<u32>,
        user_vectors: Vec<f32>,
        items: Vec<u32>,
        item_vectors: Vec<f32>,
    ) -> Result<Self, &'static str> {
        let length = item_vectors.len().checked_div(items.len()).unwrap_or(0);
        match () {
            () if item_vectors.len() != items.len() * length || user_vectors.len() != users.len() * length => {
                Err("the vectors are not of one length")
            }
            () if !users.is_sorted_by(|left, right| left < right)
                || !items.is_sorted_by(|left, right| left < right) =>
            {
                Err("the rows do not rise")
            }
            () if !user_vectors.iter().chain(&item_vectors).all(|value| value.is_finite()) => {
                Err("it has values that are not finite")
            }
            () => Ok(Self { users, user_vectors, items, item_vectors }),
        }
    }

    /// By who had to do with what how often.
    fn learn(mut pairs: Vec<(u32, u32)>, value: Option<fn(usize) -> f32>, directions: usize, threads: usize) -> Self {
        if pairs.is_empty() {
            return Self::default();
        }
        pairs.sort_unstable();
        let mut items: Vec<u32> = pairs.iter().map(|&(_, item)| item).collect();
        items.sort_unstable();
        items.dedup();
        let (mut users, mut lists, mut values): (Vec<u32>, Vec<Vec<u32>>, Vec<f32>) = Default::default();
        for of_user in pairs.chunk_by(|left, right| left.0 == right.0) {
            users.push(of_user[0].0);
            let mut list = Vec::new();
            for same in of_user.chunk_by(|left, right| left == right) {
                list.push(items.partition_point(|&item| item < same[0].1) as u32);
                values.extend(value.map(|value| value(same.len())));
            }
            lists.push(list);
        }
        let values = value.map(|_| values.as_slice());
        let found = decompose(&Csr::from_lists(lists), values, items.len(), directions, SEED, threads);
        Self { users, user_vectors: found.users, items, item_vectors: found.vectors }
    }

    /// How near an item lies to what a user had to do with; none where nothing is known of one of them.
    pub fn of(&self, user: u32, item: u32) -> Option<f32> {
        let (user, item) = (self.users.binary_search(&user).ok()?, self.items.binary_search(&item).ok()?);
        let length = self.item_vectors.len() / self.items.len();
        let user = &self.user_vectors[user * length..(user + 1) * length];
        Some(dot(user, &self.item_vectors[item * length..(item + 1) * length]))
    }
}

/// Tastes in tracks and in artists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tastes {
    /// by who plays which track
    pub tracks: Taste,
    /// by who plays which artist, counting 1 + 0.3 · ln(1 + listens)
    pub artists: Taste,
}

impl Tastes {
    /// By the first `listens` of all.
    pub fn learn(listening: &Listening, listens: usize, threads: usize) -> Self {
        let clicks = &listening.clicks[..listens];
        let of_tracks = clicks.iter().map(|click| (click.user, click.track)).collect();
        let artist_of = |track: u32| listening.tracks.get(track as usize).map_or(UNKNOWN, |fields| fields.artist);
        let of_artists = clicks.iter().map(|click| (click.user, artist_of(click.track)));
        let of_artists = of_artists.filter(|&(_, artist)| artist != UNKNOWN).collect();
        Self {
            tracks: Taste::learn(of_tracks, None, DIRECTIONS[0], threads),
            artists: Taste::learn(
                of_artists,
                Some(|listens| 1.0 + 0.3 * (listens as f32).ln_1p()),
                DIRECTIONS[1],
                threads,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users 3 and 5 play tracks 10 and 20, user 9 track 30.
    #[test]
    fn who_plays_the_same_is_near_and_who_is_not_known_is_nowhere() {
        let pairs = vec![(3, 10), (5, 20), (3, 20), (9, 30), (5, 10), (5, 10)];
        let taste = Taste::learn(pairs, None, 4, 1);
        // The matrix itself: each of the two tracks of a user 1 / (√2 · 2^¼).
        let expected = 1.0 / (2f32.sqrt() * 2f32.powf(0.25));
        assert!(taste.of(3, 10).is_some_and(|near| (near - expected).abs() < 1e-4), "{:?}", taste.of(3, 10));
        assert!(taste.of(3, 30).is_some_and(|near| near.abs() < 1e-4), "{:?}", taste.of(3, 30));
        assert_eq!((taste.of(4, 10), taste.of(3, 11)), (None, None));
        let Taste { users, user_vectors, items, item_vectors } = taste.clone();
        assert_eq!(
            Taste::from_parts(users.clone(), user_vectors.clone(), items.clone(), item_vectors.clone()),
            Ok(taste)
        );
        assert!(Taste::from_parts(users, user_vectors[1..].to_vec(), items, item_vectors).is_err());
        assert_eq!(Taste::default().of(1, 1), None);
    }
}
