//! Tracks, with their artists and albums.

use super::ids::{AlbumId, ArtistId, TrackId};
use super::names::{means_no_album, means_no_artist, stated, stated_list};

/// An artist as a source describes it: by id, by name, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtistRecord {
    /// the app's id; without it the name stands for the artist
    pub id: Option<ArtistId>,
    /// its name; without it the id is shown
    pub name: Option<String>,
}

/// An album as a source describes it: by id, by name, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlbumRecord {
    /// the app's id; without it artist and name stand for the album
    pub id: Option<AlbumId>,
    /// its name; without it the id is shown
    pub name: Option<String>,
}

macro_rules! stated_records {
    ($($record:ident, $id:ident, $means_none:ident;)+) => { $(
        impl $record {
            /// What a source states with an id and a name; none if it states neither. A name that is empty, stands for none,
            /// or is the id, states nothing.
            pub fn stated(id: Option<$id>, name: Option<&str>) -> Option<Self> {
                let is_id = |name: &String| id.as_ref().is_some_and(|id| id.as_str() == name);
                let name = name.and_then(stated).filter(|name| !$means_none(name) && !is_id(name));
                (id.is_some() || name.is_some()).then_some(Self { id, name })
            }
        }
    )+ };
}

stated_records! {
    ArtistRecord, ArtistId, means_no_artist;
    AlbumRecord, AlbumId, means_no_album;
}

/// A track as a source describes it. None leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRecord {
    /// the app's id
    pub id: TrackId,
    /// its title; the id is shown until a source states one
    pub name: Option<String>,
    /// its artist
    pub artist: Option<ArtistRecord>,
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
    /// A track of which only the id is known.
    pub fn bare(id: TrackId) -> Self {
        Self { id, name: None, artist: None, album: None, duration_ms: None, genres: None, hidden: None }
    }

    /// A track with a title; one that is empty, or the id, states nothing.
    pub fn named(id: TrackId, name: &str) -> Self {
        let name = stated(name).filter(|name| id.as_str() != name);
        Self { name, ..Self::bare(id) }
    }

    /// The same with an artist.
    pub fn by(self, artist: Option<ArtistRecord>) -> Self {
        Self { artist, ..self }
    }

    /// The same with genres; a list without any states nothing.
    pub fn of_genres(self, genres: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { genres: stated_list(genres), ..self }
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

/// A track with its recording code. None leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRecord {
    /// the track
    pub track: TrackRecord,
    /// International Standard Recording Code
    pub isrc: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artist_is_stated_by_an_id_or_by_a_name_that_says_something() {
        let id = || ArtistId::new("a1").expect("an id");
        assert_eq!(ArtistRecord::stated(None, None), None);
        assert_eq!(ArtistRecord::stated(None, Some(" unknown artist ")), None);
        let unnamed = Some(ArtistRecord { id: Some(id()), name: None });
        assert_eq!(ArtistRecord::stated(Some(id()), Some("")), unnamed);
        assert_eq!(ArtistRecord::stated(Some(id()), Some("a1")), unnamed);
        assert_eq!(ArtistRecord::stated(None, Some("Miles ")).and_then(|artist| artist.name).as_deref(), Some("Miles"));
        assert_eq!(AlbumRecord::stated(None, Some("Unknown album")), None);
        let track = TrackRecord::named(TrackId::new("t1").expect("an id"), "t1").of_genres([" "]);
        assert_eq!(track, TrackRecord::bare(TrackId::new("t1").expect("an id")));
    }
}
