//! A batch taken apart: distinct artists, albums and tracks that refer to one another by index.

use std::collections::HashMap;
use std::hash::Hash;

use crate::catalog::records::{AlbumRecord, ArtistRecord, PlaylistRecord, TrackId, TrackMention, TrackRecord};

/// Distinct values in order of first sight, and the index of each.
struct Interner<K, V> {
    index: HashMap<K, usize>,
    values: Vec<V>,
}

impl<K: Hash + Eq, V> Interner<K, V> {
    fn new() -> Self {
        Self { index: HashMap::new(), values: Vec::new() }
    }

    fn intern(&mut self, key: K, value: impl FnOnce() -> V) -> usize {
        *self.index.entry(key).or_insert_with(|| {
            self.values.push(value());
            self.values.len() - 1
        })
    }
}

/// A track of a batch.
pub(super) struct BatchTrack<'a> {
    pub(super) id: &'a TrackId,
    /// none when it is only named by its id
    pub(super) described: Option<Description<'a>>,
}

/// What the records of one track in a batch say together: the first one that says something counts, and artists and
/// albums with an id come before those without.
pub(super) struct Description<'a> {
    pub(super) name: &'a str,
    artist: &'a ArtistRecord,
    album: Option<&'a AlbumRecord>,
    pub(super) duration_ms: Option<i32>,
    pub(super) genres: Option<&'a [String]>,
    pub(super) hidden: Option<bool>,
    /// indices in the batch
    pub(super) artist_index: usize,
    pub(super) album_index: Option<usize>,
}

impl<'a> BatchTrack<'a> {
    fn add(&mut self, track: &'a TrackRecord) {
        let known = self.described.get_or_insert_with(|| Description {
            name: &track.name,
            artist: &track.artist,
            album: None,
            duration_ms: None,
            genres: None,
            hidden: None,
            artist_index: 0,
            album_index: None,
        });
        if known.artist.id.is_none() && track.artist.id.is_some() {
            known.artist = &track.artist;
        }
        if let Some(album) = &track.album
            && known.album.is_none_or(|known| known.id.is_none() && album.id.is_some())
        {
            known.album = Some(album);
        }
        known.duration_ms = known.duration_ms.or(track.duration_ms);
        known.genres = known.genres.or(track.genres.as_deref());
        known.hidden = known.hidden.or(track.hidden);
    }
}

/// A batch taken apart.
pub(super) struct Batch<'a> {
    pub(super) artists: Vec<&'a ArtistRecord>,
    /// (index of the artist, album)
    pub(super) albums: Vec<(usize, &'a AlbumRecord)>,
    pub(super) tracks: Vec<BatchTrack<'a>>,
    /// indices of each playlist's tracks
    pub(super) placements: Vec<Vec<usize>>,
}

impl<'a> Batch<'a> {
    pub(super) fn of_playlists(playlists: &'a [PlaylistRecord]) -> Self {
        let mut tracks: Interner<&TrackId, BatchTrack<'_>> = Interner::new();
        let mut placements = Vec::with_capacity(playlists.len());
        for playlist in playlists {
            let indices = playlist.tracks.iter().map(|track| {
                let id = track.id();
                let index = tracks.intern(id, || BatchTrack { id, described: None });
                if let TrackMention::Described(track) = track {
                    tracks.values[index].add(track);
                }
                index
            });
            placements.push(indices.collect());
        }
        Self::new(tracks.values, placements)
    }

    pub(super) fn of_tracks(records: impl IntoIterator<Item = &'a TrackRecord>) -> Self {
        let mut tracks: Interner<&TrackId, BatchTrack<'_>> = Interner::new();
        for track in records {
            let index = tracks.intern(&track.id, || BatchTrack { id: &track.id, described: None });
            tracks.values[index].add(track);
        }
        Self::new(tracks.values, Vec::new())
    }

    fn new(mut tracks: Vec<BatchTrack<'a>>, placements: Vec<Vec<usize>>) -> Self {
        // With an id, that alone is the key; without one the name is.
        let mut artists: Interner<(Option<&str>, &str), &ArtistRecord> = Interner::new();
        let mut albums: Interner<(Option<&str>, usize, &str), (usize, &AlbumRecord)> = Interner::new();
        for track in tracks.iter_mut().filter_map(|track| track.described.as_mut()) {
            let artist = track.artist;
            let key = artist.id.as_ref().map_or((None, artist.name.as_str()), |id| (Some(id.as_str()), ""));
            track.artist_index = artists.intern(key, || artist);
            track.album_index = track.album.map(|album| {
                let key = match &album.id {
                    Some(id) => (Some(id.as_str()), 0, ""),
                    None => (None, track.artist_index, album.name.as_str()),
                };
                albums.intern(key, || (track.artist_index, album))
            });
        }
        Self { artists: artists.values, albums: albums.values, tracks, placements }
    }
}
