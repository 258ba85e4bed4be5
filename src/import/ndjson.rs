//! Rows of one's own: tracks, users and playlists as JSON, one object a line.
//!
//! The rows are those that a client of the HTTP interface would send in bulk: their fields are named as in its answers.
//! A line is a row that is imported or rejected whole, with one exception: a playlist may name tracks that the catalog
//! does not have, as it happens where tracks are deleted. It is imported without them, and each is listed.

use std::fmt;
use std::io::BufRead;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use super::columns::{clean, count, key, name, playlist_length};
use super::{ReadError, Sink, Source};
use crate::catalog::{AlbumRecord, ArtistRecord, PlaylistRecord, TrackMention, TrackRecord};

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// [`TrackRow`]
    Tracks,
    /// [`UserRow`]
    Users,
    /// [`PlaylistRow`]
    Playlists,
}

/// Files to import.
#[derive(Debug, Clone, Default)]
pub struct NdjsonFiles {
    /// of tracks
    pub tracks: Vec<PathBuf>,
    /// of users
    pub users: Vec<PathBuf>,
    /// of playlists
    pub playlists: Vec<PathBuf>,
}

impl NdjsonFiles {
    /// In an order in which what a row refers to comes before it.
    pub fn in_order(&self) -> impl Iterator<Item = (RowKind, &PathBuf)> {
        let of = |kind: RowKind, files| std::iter::repeat(kind).zip::<&Vec<PathBuf>>(files);
        of(RowKind::Tracks, &self.tracks)
            .chain(of(RowKind::Users, &self.users))
            .chain(of(RowKind::Playlists, &self.playlists))
    }
}

/// An id of the app: text, or a whole number, which is taken as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RowId(pub String);

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = RowId;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an id: text or a whole number")
            }

            fn visit_str<E>(self, text: &str) -> Result<RowId, E> {
                Ok(RowId(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<RowId, E> {
                Ok(RowId(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<RowId, E> {
                Ok(RowId(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<RowId, E> {
                Ok(RowId(number.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// A track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackRow {
    /// the app's id
    pub id: RowId,
    /// title of the track
    pub name: String,
    /// name of its artist
    pub artist: String,
    /// the app's id of the artist; without it the name stands for the artist
    pub artist_id: Option<RowId>,
    /// name of its album
    pub album: Option<String>,
    /// the app's id of the album; without it artist and name stand for the album
    pub album_id: Option<RowId>,
    /// length in milliseconds
    pub duration_ms: Option<u32>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRow {
    /// the app's id
    pub id: RowId,
}

/// A playlist. What is left out stays as it is; the tracks are replaced by the ones given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaylistRow {
    /// the app's id
    pub id: RowId,
    /// the app's id of the user whose it is
    pub user_id: Option<RowId>,
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
    pub tracks: Vec<PlaylistRowTrack>,
}

/// A track of a playlist: the id of one that the catalog has, or one described in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PlaylistRowTrack {
    /// the app's id
    Id(RowId),
    /// the track
    Track(TrackRow),
}

impl<'de> Deserialize<'de> for PlaylistRowTrack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, since serde's own attempts at one variant after another end in errors that name no field.
        struct TrackVisitor;
        impl<'de> Visitor<'de> for TrackVisitor {
            type Value = PlaylistRowTrack;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a track: its id, or an object with id, name and artist")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(PlaylistRowTrack::Id(RowId(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(PlaylistRowTrack::Id(RowId(number.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(PlaylistRowTrack::Id(RowId(number.to_string())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                TrackRow::deserialize(MapAccessDeserializer::new(map)).map(PlaylistRowTrack::Track)
            }
        }
        deserializer.deserialize_any(TrackVisitor)
    }
}

impl TrackRow {
    /// The row as the catalog takes it.
    ///
    /// # Errors
    ///
    /// Names the field that the catalog can't hold.
    pub fn into_record(self) -> Result<TrackRecord, String> {
        let optional = |field: &str, id: Option<RowId>| id.map(|RowId(id)| key(field, &id)).transpose();
        let album_id = optional("album_id", self.album_id)?;
        let album = match (album_id, self.album) {
            (None, None) => None,
            // A name that is the id leaves the name that is there.
            (uri, album) => {
                let text = album.as_deref().or(uri.as_deref()).unwrap_or_default();
                Some(AlbumRecord { name: name("album", text)?, uri })
            }
        };
        Ok(TrackRecord {
            uri: key("id", &self.id.0)?,
            name: clean(&self.name),
            artist: ArtistRecord { uri: optional("artist_id", self.artist_id)?, name: name("artist", &self.artist)? },
            album,
            duration_ms: count("duration_ms", self.duration_ms)?,
        })
    }
}

impl PlaylistRow {
    /// The row as the catalog takes it.
    ///
    /// # Errors
    ///
    /// Names the field that the catalog can't hold.
    pub fn into_record(self) -> Result<PlaylistRecord, String> {
        playlist_length(self.tracks.len())?;
        let tracks = self.tracks.into_iter().enumerate().map(|(place, track)| match track {
            PlaylistRowTrack::Id(RowId(id)) => key(&format!("tracks[{place}]"), &id).map(TrackMention::Id),
            PlaylistRowTrack::Track(track) => {
                track.into_record().map(TrackMention::Described).map_err(|reason| format!("tracks[{place}].{reason}"))
            }
        });
        Ok(PlaylistRecord {
            external_id: key("id", &self.id.0)?,
            user: self.user_id.map(|RowId(id)| key("user_id", &id)).transpose()?,
            title: self.title.as_deref().map(clean),
            description: self.description.as_deref().map(clean),
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

/// Reads lines of one kind into `sink`. Blank lines are passed over.
///
/// # Errors
///
/// When the file can't be read further.
pub fn read<R: BufRead>(mut source: Source<R>, kind: RowKind, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    while let Some(line) = source.line()? {
        let Some((place, text)) = sink.text(line)? else { continue };
        let rejected = match kind {
            RowKind::Tracks => match parse::<TrackRow>(text).and_then(TrackRow::into_record) {
                Ok(track) => sink.track(track).map(|()| None)?,
                Err(reason) => Some(reason),
            },
            RowKind::Users => match parse::<UserRow>(text).and_then(|user| key("id", &user.id.0)) {
                Ok(user) => sink.user(user).map(|()| None)?,
                Err(reason) => Some(reason),
            },
            RowKind::Playlists => match parse::<PlaylistRow>(text).and_then(PlaylistRow::into_record) {
                Ok(playlist) => sink.playlist(place, playlist).map(|()| None)?,
                Err(reason) => Some(reason),
            },
        };
        if let Some(reason) = rejected {
            sink.reject(place, reason)?;
        }
    }
    Ok(())
}

/// Parses a line; the reason for a failure names the field and the column.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // serde would take an array for the fields one after another.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("expected a JSON object".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let row = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = reason(error.inner());
        if path == "." { reason } else { format!("{path}: {reason}") }
    })?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(row)
}

/// The reason with the column alone: serde_json takes every line for the first.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    format!("{reason} (column {})", error.column())
}
