//! Rows as JSON, one object a line: what a file to import and a bulk request of the HTTP interface share.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use super::columns::{count, in_field, name, playlist_length};
use super::ids::{AlbumId, ArtistId, PlaylistId, TextError, TrackId, UserId};
use super::names::stated;
use super::playlists::PlaylistRecord;
use super::tracks::{AlbumRecord, ArtistRecord, TrackMention, TrackRecord};

/// An id of the app: text, or a whole number, which is taken as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LineId(pub String);

impl<'de> Deserialize<'de> for LineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = LineId;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an id: text or a whole number")
            }

            fn visit_str<E>(self, text: &str) -> Result<LineId, E> {
                Ok(LineId(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<LineId, E> {
                Ok(LineId(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<LineId, E> {
                Ok(LineId(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<LineId, E> {
                Ok(LineId(number.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// A track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackLine {
    /// the app's id
    pub id: LineId,
    /// title of the track
    pub name: Option<String>,
    /// name of its artist
    pub artist: Option<String>,
    /// the app's id of the artist; without it the name stands for the artist
    pub artist_id: Option<LineId>,
    /// name of its album
    pub album: Option<String>,
    /// the app's id of the album; without it artist and name stand for the album
    pub album_id: Option<LineId>,
    /// length in milliseconds
    pub duration_ms: Option<u32>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLine {
    /// the app's id
    pub id: LineId,
}

/// A playlist. Fields that are left out stay as they are; the tracks are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaylistLine {
    /// the app's id
    pub id: LineId,
    /// the app's id of its owner
    pub user_id: Option<LineId>,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: Option<bool>,
    /// followers
    pub num_followers: Option<u32>,
    /// edits
    pub num_edits: Option<u32>,
    /// distinct albums
    pub num_albums: Option<u32>,
    /// distinct artists
    pub num_artists: Option<u32>,
    /// length in milliseconds
    pub duration_ms: Option<u64>,
    /// last change by its owner (RFC 3339)
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub modified_at: Option<OffsetDateTime>,
    /// its tracks in order
    pub tracks: Vec<LineTrack>,
}

/// A track of a playlist: the id of one that the catalog has, or one described in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LineTrack {
    /// the app's id
    Id(LineId),
    /// the track
    Track(TrackLine),
}

impl<'de> Deserialize<'de> for LineTrack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: serde tries one variant after another, and its error then names no field.
        struct TrackVisitor;
        impl<'de> Visitor<'de> for TrackVisitor {
            type Value = LineTrack;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a track: its id, or an object with id, name and artist")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(LineTrack::Id(LineId(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(LineTrack::Id(LineId(number.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(LineTrack::Id(LineId(number.to_string())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                TrackLine::deserialize(MapAccessDeserializer::new(map)).map(LineTrack::Track)
            }
        }
        deserializer.deserialize_any(TrackVisitor)
    }
}

impl LineId {
    /// Returns the id as `check` makes it.
    fn checked<T>(self, field: &str, check: impl FnOnce(String) -> Result<T, TextError>) -> Result<T, String> {
        in_field(field, check(self.0))
    }
}

impl TrackLine {
    /// Returns the record.
    ///
    /// # Errors
    ///
    /// Names the field that the catalog can't hold.
    pub fn into_record(self) -> Result<TrackRecord, String> {
        let id = self.id.checked("id", TrackId::new)?;
        let artist_id = self.artist_id.map(|id| id.checked("artist_id", ArtistId::new)).transpose()?;
        let album_id = self.album_id.map(|id| id.checked("album_id", AlbumId::new)).transpose()?;
        let artist = self.artist.as_deref().map(|text| name("artist", text)).transpose()?;
        let album = self.album.as_deref().map(|text| name("album", text)).transpose()?;
        Ok(TrackRecord {
            artist: ArtistRecord::stated(artist_id, artist.as_deref()),
            album: AlbumRecord::stated(album_id, album.as_deref()),
            duration_ms: count("duration_ms", self.duration_ms)?,
            ..TrackRecord::named(id, self.name.as_deref().unwrap_or_default())
        })
    }
}

impl UserLine {
    /// Returns the id.
    ///
    /// # Errors
    ///
    /// When the catalog can't hold it.
    pub fn into_id(self) -> Result<UserId, String> {
        self.id.checked("id", UserId::new)
    }
}

impl PlaylistLine {
    /// Returns the record.
    ///
    /// # Errors
    ///
    /// Names the field that the catalog can't hold.
    pub fn into_record(self) -> Result<PlaylistRecord, String> {
        playlist_length(self.tracks.len())?;
        let tracks = self.tracks.into_iter().enumerate().map(|(place, track)| match track {
            LineTrack::Id(id) => id.checked(&format!("tracks[{place}]"), TrackId::new).map(TrackMention::Id),
            LineTrack::Track(track) => {
                track.into_record().map(TrackMention::Described).map_err(|reason| format!("tracks[{place}].{reason}"))
            }
        });
        Ok(PlaylistRecord {
            id: self.id.checked("id", PlaylistId::new)?,
            user: self.user_id.map(|id| id.checked("user_id", UserId::new)).transpose()?,
            title: self.title.as_deref().and_then(stated),
            description: self.description.as_deref().and_then(stated),
            collaborative: self.collaborative,
            num_followers: count("num_followers", self.num_followers)?,
            num_edits: count("num_edits", self.num_edits)?,
            num_albums: count("num_albums", self.num_albums)?,
            num_artists: count("num_artists", self.num_artists)?,
            duration_ms: count("duration_ms", self.duration_ms)?,
            modified_at: self.modified_at,
            tracks: tracks.collect::<Result<Vec<TrackMention>, String>>()?,
        })
    }
}
