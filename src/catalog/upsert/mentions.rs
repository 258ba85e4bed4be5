//! Users and tracks that feedback mentions.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;

use super::users::upsert_users;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{FeedbackOutcome, TrackId, TrackRow, UserId, UserRow};

/// Rows of the users and tracks that a batch of feedback mentions.
pub(in crate::catalog) struct Mentions {
    users: HashMap<String, UserRow>,
    tracks: HashMap<String, TrackRow>,
    /// indices of feedback about tracks that are missing
    unknown_tracks: Vec<usize>,
    count: usize,
}

impl Mentions {
    /// Looks up tracks and users. Users are added if they are mentioned with a track that is there.
    pub(in crate::catalog) async fn resolve<'a>(
        connection: &mut PgConnection,
        mentions: impl Iterator<Item = (&'a UserId, &'a TrackId)> + Clone,
    ) -> Result<Self, CatalogError> {
        let ids = distinct(mentions.clone().map(|(_, track)| track));
        let tracks =
            sqlx::query!("SELECT uri, id FROM tracks WHERE uri = ANY($1)", &ids).fetch_all(&mut *connection).await?;
        let tracks: HashMap<String, TrackRow> = tracks.into_iter().map(|row| (row.uri, TrackRow(row.id))).collect();
        let is_known = |track: &TrackId| tracks.contains_key(track.as_str());
        let unknown_tracks = (0..).zip(mentions.clone()).filter(|(_, (_, track))| !is_known(track));
        let unknown_tracks: Vec<usize> = unknown_tracks.map(|(index, _)| index).collect();
        let known = mentions.clone().filter(|(_, track)| is_known(track)).map(|(user, _)| user);
        let (users, _) = upsert_users(connection, known).await?;
        let users = users.into_iter().map(|(user, row)| (user.to_string(), row)).collect();
        Ok(Self { users, tracks, unknown_tracks, count: mentions.count() })
    }

    /// Rows of a user and a track; none if the catalog does not have the track.
    pub(in crate::catalog) fn rows(&self, user: &UserId, track: &TrackId) -> Option<(UserRow, TrackRow)> {
        Some((*self.users.get(user.as_str())?, *self.tracks.get(track.as_str())?))
    }

    /// What became of the feedback, if of the rows that were written these are new.
    pub(in crate::catalog) fn outcome(self, written: &[bool]) -> FeedbackOutcome {
        let added = written.iter().filter(|&&is_new| is_new).count();
        FeedbackOutcome {
            added: added as u64,
            changed: (written.len() - added) as u64,
            unchanged: (self.count - self.unknown_tracks.len() - written.len()) as u64,
            unknown_tracks: self.unknown_tracks,
        }
    }
}

fn distinct<Id: Ord + ToString>(ids: impl Iterator<Item = Id>) -> Vec<String> {
    ids.collect::<BTreeSet<Id>>().iter().map(ToString::to_string).collect()
}
