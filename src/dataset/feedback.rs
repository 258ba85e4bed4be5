//! Ratings and listens as one list of events, user by user.
//!
//! Tracks are numbered by falling number of users who rated or listened to them: the most popular are the first ones.

use std::collections::HashMap;
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};

use super::DataFingerprint;
use crate::catalog::{Catalog, CatalogError, TrackRow, UserRow};
use crate::math::Csr;

/// A user rated a track, or listened to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// row of the user
    pub user: u32,
    /// row of the track
    pub track: u32,
    /// the rating; none for a listen
    pub rating: Option<f32>,
    /// seconds since 1970
    pub at: i64,
}

/// All ratings and listens of the catalog: once for each user and track, a listen only where there is no rating.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// the app's id of each user's row, rising
    pub user_ids: Vec<String>,
    /// the app's id of each track's row, by falling number of users
    pub track_ids: Vec<String>,
    /// genres of each track, as rows of `genre_names`
    pub genres: Csr,
    /// names of the genres, by falling number of tracks
    pub genre_names: Vec<String>,
    /// user by user; of one user oldest first
    pub events: Vec<Event>,
    /// what this is: for `playlists` read users, for `placements` events
    pub fingerprint: DataFingerprint,
}

/// Events to learn from, and ratings to measure by.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackSplit {
    /// user by user; of one user oldest first
    pub training: Vec<Event>,
    /// ratings, user by user
    pub held_out: Vec<Event>,
}

impl Feedback {
    /// Reads the catalog.
    pub async fn load(catalog: &Catalog) -> Result<Self, CatalogError> {
        let newest_change = catalog.newest_feedback().await?;
        let tracks = catalog.track_feedback().await?;
        let users = catalog.feedback_users().await?;
        let user_rows: HashMap<UserRow, u32> = users.iter().map(|user| user.row).zip(0..).collect();
        let track_rows: HashMap<TrackRow, u32> = tracks.iter().map(|track| track.row).zip(0..).collect();
        let mut reader = catalog.feedback().await?;
        let (mut events, mut rows) = (Vec::new(), Vec::new());
        while reader.next_rows(&mut rows).await? {
            events.extend(rows.drain(..).filter_map(|(user, track, rating, at)| {
                // What came in between the queries has no row yet; the next training run has it.
                Some(Event { user: *user_rows.get(&user)?, track: *track_rows.get(&track)?, rating, at })
            }));
        }
        let newest_change =
            newest_change.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
        let genres: Vec<Vec<String>> = tracks.iter().map(|track| track.genres.clone()).collect();
        let user_ids = users.into_iter().map(|user| user.id.into()).collect();
        let track_ids = tracks.into_iter().map(|track| track.id.into()).collect();
        Ok(Self::new(user_ids, track_ids, &genres, events, newest_change))
    }

    /// From rows that are in order already, and the names of each track's genres.
    pub fn new(
        user_ids: Vec<String>,
        track_ids: Vec<String>,
        genres: &[Vec<String>],
        events: Vec<Event>,
        newest_change: Option<String>,
    ) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        genres.iter().flatten().for_each(|genre| *counts.entry(genre).or_default() += 1);
        let mut names: Vec<&str> = counts.keys().copied().collect();
        names.sort_unstable_by_key(|name| (std::cmp::Reverse(counts[name]), *name));
        let number: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
        let lists = genres.iter().map(|names| {
            let mut rows: Vec<u32> = names.iter().map(|name| number[name.as_str()]).collect();
            rows.sort_unstable();
            rows.dedup();
            rows
        });
        let genres = Csr::from_lists(lists);
        let fingerprint = fingerprint(&user_ids, &track_ids, &genres, &events, newest_change);
        let genre_names = names.into_iter().map(ToOwned::to_owned).collect();
        Self { user_ids, track_ids, genres, genre_names, events, fingerprint }
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.user_ids.len()
    }

    /// Number of tracks.
    pub fn tracks(&self) -> usize {
        self.track_ids.len()
    }

    /// Withholds each rating with the chance `share`; listens stay. The same seed withholds the same ratings.
    pub fn split(&self, share: f64, seed: u64) -> FeedbackSplit {
        split(&self.events, share, seed)
    }
}

/// Withholds each rating among `events` with the chance `share`.
pub fn split(events: &[Event], share: f64, seed: u64) -> FeedbackSplit {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (held_out, training) = events.iter().partition(|event| event.rating.is_some() && rng.random::<f64>() < share);
    FeedbackSplit { training, held_out }
}

/// Where the events of each of `users` are, for events that come user by user.
pub fn by_user(events: &[Event], users: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(users);
    let mut start = 0;
    for user in 0..users as u32 {
        let end = start + events[start..].partition_point(|event| event.user <= user);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

fn fingerprint(
    user_ids: &[String],
    track_ids: &[String],
    genres: &Csr,
    events: &[Event],
    newest_change: Option<String>,
) -> DataFingerprint {
    let mut hash = Sha256::new();
    for id in user_ids.iter().chain(track_ids) {
        hash.update(id.as_bytes());
        hash.update(b"\n");
    }
    hash.update(bytemuck::cast_slice::<u32, u8>(genres.items()));
    for event in events {
        hash.update(event.user.to_le_bytes());
        hash.update(event.track.to_le_bytes());
        hash.update(event.rating.unwrap_or(f32::NAN).to_le_bytes());
        hash.update(event.at.to_le_bytes());
    }
    DataFingerprint {
        playlists: user_ids.len() as u64,
        tracks: track_ids.len() as u64,
        placements: events.len() as u64,
        newest_change,
        sha256: hex::encode(hash.finalize()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback() -> Feedback {
        let event = |user, track| Event { user, track, rating: (track != 3).then_some(3.0), at: 0 };
        let events = (0..50).flat_map(|user| (0..4).map(move |track| event(user, track))).collect();
        let ids = |prefix: &str, count: usize| (0..count).map(|row| format!("{prefix}{row:02}")).collect();
        let genres = [vec!["b", "a"], vec!["a"], vec![], vec!["a", "a"]];
        let genres = genres.map(|names| names.into_iter().map(ToOwned::to_owned).collect());
        Feedback::new(ids("u", 50), ids("t", 4), &genres, events, None)
    }

    #[test]
    fn a_split_withholds_ratings_alone_and_the_same_ones_each_time() {
        let feedback = feedback();
        let split = feedback.split(0.2, 3);
        assert_eq!(split, feedback.split(0.2, 3));
        assert_ne!(split, feedback.split(0.2, 4));
        assert_eq!(split.training.len() + split.held_out.len(), 200);
        assert!((15..=45).contains(&split.held_out.len()), "{}", split.held_out.len());
        assert!(split.held_out.iter().all(|event| event.rating.is_some()));
        let ranges = by_user(&split.training, 50);
        assert!(ranges.iter().zip(0..).all(|(range, user)| {
            split.training[range.clone()].iter().all(|event| event.user == user) && !range.is_empty()
        }));
        assert_eq!(ranges.last().map(|range| range.end), Some(split.training.len()));
    }

    #[test]
    fn genres_are_numbered_by_how_many_tracks_have_them() {
        let feedback = feedback();
        assert_eq!(feedback.genre_names, ["a", "b"]);
        assert_eq!(feedback.genres.iter().collect::<Vec<_>>(), [&[0, 1][..], &[0], &[], &[0]]);
    }
}
