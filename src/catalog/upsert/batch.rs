//! A batch taken apart: distinct tracks, with all that its records say of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::catalog::records::{AlbumRecord, ArtistRecord, PlaylistRecord, TrackId, TrackMention, TrackRecord};

/// A row of `artists` or `albums` as a batch describes it: by uri, by name, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Named<'a> {
    pub(super) uri: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// What two records say of the row of one track: of two uris the first counts, with the name that came with it.
    fn and(self, other: Self) -> Self {
        match (self.uri, other.uri) {
            (None, Some(_)) => Self { uri: other.uri, name: other.name.or(self.name) },
            _ => Self { uri: self.uri, name: self.name.or(other.name) },
        }
    }
}

impl<'a> From<&'a ArtistRecord> for Named<'a> {
    fn from(artist: &'a ArtistRecord) -> Self {
        Self { uri: artist.id.as_ref().map(|id| id.as_str()), name: artist.name.as_deref() }
    }
}

impl<'a> From<&'a AlbumRecord> for Named<'a> {
    fn from(album: &'a AlbumRecord) -> Self {
        Self { uri: album.id.as_ref().map(|id| id.as_str()), name: album.name.as_deref() }
    }
}

/// A track of a batch.
pub(super) struct BatchTrack<'a> {
    pub(super) id: &'a TrackId,
    /// none when it is only named by its id
    pub(super) described: Option<Description<'a>>,
}

/// What the records of one track in a batch say together: the first one that says something counts.
#[derive(Default, Hash)]
pub(super) struct Description<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) artist: Option<Named<'a>>,
    pub(super) album: Option<Named<'a>>,
    pub(super) duration_ms: Option<i32>,
    pub(super) genres: Option<&'a [String]>,
    pub(super) hidden: Option<bool>,
}

impl<'a> BatchTrack<'a> {
    fn add(&mut self, track: &'a TrackRecord) {
        let both = |known: Option<Named<'a>>, said: Option<Named<'a>>| match (known, said) {
            (Some(known), Some(said)) => Some(known.and(said)),
            (known, said) => known.or(said),
        };
        let known = self.described.get_or_insert_default();
        known.name = known.name.or(track.name.as_deref());
        known.artist = both(known.artist, track.artist.as_ref().map(Named::from));
        known.album = both(known.album, track.album.as_ref().map(Named::from));
        known.duration_ms = known.duration_ms.or(track.duration_ms);
        known.genres = known.genres.or(track.genres.as_deref());
        known.hidden = known.hidden.or(track.hidden);
    }
}

/// A batch taken apart.
#[derive(Default)]
pub(super) struct Batch<'a> {
    index: HashMap<&'a TrackId, usize>,
    /// in order of first mention
    pub(super) tracks: Vec<BatchTrack<'a>>,
    /// indices of each playlist's tracks
    pub(super) placements: Vec<Vec<usize>>,
}

impl<'a> Batch<'a> {
    pub(super) fn of_playlists(playlists: &'a [PlaylistRecord]) -> Self {
        let mut batch = Self::default();
        for playlist in playlists {
            let indices = playlist.tracks.iter().map(|track| match track {
                TrackMention::Described(track) => batch.describe(track),
                TrackMention::Id(id) => batch.mention(id),
            });
            let indices = indices.collect();
            batch.placements.push(indices);
        }
        batch
    }

    pub(super) fn of_tracks(records: impl IntoIterator<Item = &'a TrackRecord>) -> Self {
        let mut batch = Self::default();
        for track in records {
            batch.describe(track);
        }
        batch
    }

    fn mention(&mut self, id: &'a TrackId) -> usize {
        match self.index.entry(id) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                self.tracks.push(BatchTrack { id, described: None });
                *entry.insert(self.tracks.len() - 1)
            }
        }
    }

    fn describe(&mut self, track: &'a TrackRecord) -> usize {
        let index = self.mention(&track.id);
        self.tracks[index].add(track);
        index
    }
}
