//! Tracks, with their artists and albums.

use super::ids::{AlbumId, ArtistId, TrackId};

/// Artist of tracks that a source names without one.
pub const UNKNOWN_ARTIST: &str = "Unknown artist";

/// An artist as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtistRecord {
    /// the app's id; without it the name stands for the artist
    pub id: Option<ArtistId>,
    /// its name
    pub name: String,
}

/// An album as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlbumRecord {
    /// the app's id; without it artist and name stand for the album
    pub id: Option<AlbumId>,
    /// its name
    pub name: String,
}

/// A track as a source describes it. None leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRecord {
    /// the app's id
    pub id: TrackId,
    /// its title
    pub name: String,
    /// its artist
    pub artist: ArtistRecord,
    /// its album
    pub album: Option<AlbumRecord>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
    /// names of its genres
    pub genres: Option<Vec<String>>,
    /// whether it must not be recommended
    pub hidden: Option<bool>,
}

impl TrackRecord {
    /// A track by an artist, and nothing else.
    pub fn by(artist: ArtistRecord, id: TrackId, name: String) -> Self {
        Self { id, name, artist, album: None, duration_ms: None, genres: None, hidden: None }
    }

    /// A track of which only the id is known, which is also its name.
    pub fn unnamed(id: TrackId) -> Self {
        let artist = ArtistRecord { id: None, name: UNKNOWN_ARTIST.to_owned() };
        let name = id.as_str().to_owned();
        Self::by(artist, id, name)
    }

    /// A track of that name by an unknown artist; no genres leave those that are there.
    pub fn named(id: TrackId, name: &str, genres: Vec<String>) -> Self {
        let genres = Some(genres).filter(|genres| !genres.is_empty());
        Self { name: name.to_owned(), genres, ..Self::unnamed(id) }
    }
}

/// A track of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackMention {
    /// with all that the source says of it
    Described(TrackRecord),
    /// by the app's id alone; the catalog has to have it already
    Id(TrackId),
}

impl TrackMention {
    /// The app's id.
    pub fn id(&self) -> &TrackId {
        match self {
            Self::Described(track) => &track.id,
            Self::Id(id) => id,
        }
    }
}

/// A track with what is known beyond its name. None, or no member of a list, leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SongRecord {
    /// the track and its genres
    pub track: TrackRecord,
    /// language, as the app numbers or names it
    pub language: Option<String>,
    /// who wrote the music
    pub composers: Vec<String>,
    /// who wrote the words
    pub lyricists: Vec<String>,
}

/// Name and recording code of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRecord {
    /// the app's id
    pub id: TrackId,
    /// its title
    pub name: String,
    /// International Standard Recording Code
    pub isrc: Option<String>,
}
