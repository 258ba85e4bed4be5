//! Rows as JSON, one object a line: what a file to import and a bulk request of the HTTP interface share.
//!
//! A row is rejected if it is not an object, has a field that does not exist, or lacks an id that the catalog can hold. Any
//! other field that can't be read, or that the catalog can't hold, is left out and listed; so is a track of a playlist.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use super::columns::{MAX_GENRES, count, name, playlist_length, text};
use super::fields::{Field, Omissions, Omitted, Readable, Scalar, Whole, from_json};
use super::ids::{AlbumId, ArtistId, PlaylistId, TextError, TrackId, UserId, check_id};
use super::names::{stated, stated_list};
use super::playlists::PlaylistRecord;
use super::tracks::{AlbumRecord, ArtistRecord, TrackMention, TrackRecord};

pub use super::fields::LineId;

/// A text that borrows from its line if it can.
type Text<'a> = Cow<'a, str>;

/// A track.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackLine<'a> {
    /// the app's id
    #[serde(borrow)]
    pub id: Field<LineId<'a>>,
    /// title of the track
    #[serde(borrow)]
    pub name: Field<Text<'a>>,
    /// name of its artist
    #[serde(borrow)]
    pub artist: Field<Text<'a>>,
    /// the app's id of the artist; without it the name stands for the artist
    #[serde(borrow)]
    pub artist_id: Field<LineId<'a>>,
    /// name of its album
    #[serde(borrow)]
    pub album: Field<Text<'a>>,
    /// the app's id of the album; without it artist and name stand for the album
    #[serde(borrow)]
    pub album_id: Field<LineId<'a>>,
    /// length in milliseconds
    pub duration_ms: Field<Whole>,
    /// names of its genres
    #[serde(borrow)]
    pub genres: Field<Vec<Text<'a>>>,
    /// whether it must not be recommended
    pub hidden: Field<bool>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserLine<'a> {
    /// the app's id
    #[serde(borrow)]
    pub id: Field<LineId<'a>>,
}

/// A playlist. Fields that are left out stay as they are; tracks that are stated replace those that are there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaylistLine<'a> {
    /// the app's id
    #[serde(borrow)]
    pub id: Field<LineId<'a>>,
    /// the app's id of its owner
    #[serde(borrow)]
    pub user_id: Field<LineId<'a>>,
    /// its title
    #[serde(borrow)]
    pub title: Field<Text<'a>>,
    /// its description
    #[serde(borrow)]
    pub description: Field<Text<'a>>,
    /// whether several people edit it
    pub collaborative: Field<bool>,
    /// followers
    pub num_followers: Field<Whole>,
    /// edits
    pub num_edits: Field<Whole>,
    /// distinct albums
    pub num_albums: Field<Whole>,
    /// distinct artists
    pub num_artists: Field<Whole>,
    /// length in milliseconds
    pub duration_ms: Field<Whole>,
    /// last change by its owner
    #[serde(serialize_with = "as_time")]
    pub modified_at: Field<OffsetDateTime>,
    /// its tracks in order
    #[serde(borrow)]
    pub tracks: Field<Vec<LineTrack<'a>>>,
}

fn as_time<S: serde::Serializer>(time: &Field<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let time = if let Field::Stated(time) = time { Some(*time) } else { None };
    super::times::optional::serialize(&time, serializer)
}

/// A track of a playlist: the id of one that the catalog has, or one described in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LineTrack<'a> {
    /// the app's id
    Id(Field<LineId<'a>>),
    /// the track
    Track(Box<TrackLine<'a>>),
}

/// Reads a value that is an object as `T`, and any other as an id.
struct IdOr<T>(std::marker::PhantomData<T>);

impl<'de: 'a, 'a> Deserialize<'de> for LineTrack<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: serde tries one variant after another, and its error then names no field.
        deserializer.deserialize_any(IdOr::<Self>(std::marker::PhantomData))
    }
}

/// Why a track of a playlist is not one.
const NO_TRACK: &str = "must be a track: its id, or an object with an id";

fn track_id<'a>(value: Scalar<'a>) -> LineTrack<'a> {
    LineTrack::Id(LineId::read(value).map_or_else(|_| Field::Useless(NO_TRACK.to_owned()), Field::Stated))
}

impl<'de: 'a, 'a> Visitor<'de> for IdOr<LineTrack<'a>> {
    type Value = LineTrack<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a track: its id, or an object with an id")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(track_id(Scalar::Text(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(track_id(Scalar::Text(Cow::Owned(text.to_owned()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(track_id(i64::try_from(number).map_or(Scalar::Large(number), Scalar::Whole)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(track_id(Scalar::Whole(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(track_id(Scalar::Float(number)))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(track_id(Scalar::Flag(flag)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(LineTrack::Id(Field::Absent))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LineTrack::Id(Field::Useless(NO_TRACK.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        TrackLine::deserialize(MapAccessDeserializer::new(map)).map(|track| LineTrack::Track(Box::new(track)))
    }
}

impl<'de: 'a, 'a> Readable<'de> for Vec<LineTrack<'a>> {
    const EXPECTED: &'static str = "a list of tracks";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        Err(format!("must be a list of tracks, not {value}"))
    }

    fn read_list<A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        let mut tracks = Vec::new();
        while let Some(track) = list.next_element()? {
            tracks.push(track);
        }
        Ok(Field::Stated(tracks))
    }
}

/// Reads the line of a track. Returns the fields that were left out, too.
///
/// # Errors
///
/// Says why the line is rejected, and names the field.
pub fn track(line: &[u8]) -> Result<(TrackRecord, Vec<Omitted>), String> {
    let (mut repaired, mut omissions) = (Vec::new(), Omissions::default());
    let record = parse::<TrackLine<'_>>(line, &mut repaired)?.into_record(&mut omissions)?;
    Ok((record, omissions.list))
}

/// Reads the line of a user.
///
/// # Errors
///
/// Says why the line is rejected, and names the field.
pub fn user(line: &[u8]) -> Result<(UserId, Vec<Omitted>), String> {
    let mut repaired = Vec::new();
    let UserLine { id } = parse(line, &mut repaired)?;
    Ok((id.required("id", |LineId(id)| UserId::new(id))?, Vec::new()))
}

/// Reads the line of a playlist. Returns the fields and tracks that were left out, too.
///
/// # Errors
///
/// Says why the line is rejected, and names the field.
pub fn playlist(line: &[u8]) -> Result<(PlaylistRecord, Vec<Omitted>), String> {
    let (mut repaired, mut omissions) = (Vec::new(), Omissions::default());
    let record = parse::<PlaylistLine<'_>>(line, &mut repaired)?.into_record(&mut omissions)?;
    Ok((record, omissions.list))
}

/// Returns a line without a byte order mark: some programs begin every text with one, and some every line.
pub fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

/// Parses a line; the reason for a failure names the field and the column.
fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], repaired: &'a mut Vec<u8>) -> Result<T, String> {
    let line = without_mark(line);
    // serde would take an array for the fields one after another.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("expected a JSON object".to_owned());
    }
    from_json(line, repaired).map_err(|error| format!("{error} (column {})", error.error.column()))
}

/// What a source states of a track, whatever it calls the fields.
pub(crate) struct StatedTrack<'a> {
    pub(crate) name: (&'static str, Field<Text<'a>>),
    pub(crate) artist: (&'static str, Field<Text<'a>>),
    pub(crate) artist_id: (&'static str, Field<LineId<'a>>),
    pub(crate) album: (&'static str, Field<Text<'a>>),
    pub(crate) album_id: (&'static str, Field<LineId<'a>>),
    pub(crate) duration_ms: Field<Whole>,
}

impl StatedTrack<'_> {
    /// Returns the record; fields that the catalog can't hold are added to `omissions`.
    pub(crate) fn into_record(self, id: TrackId, omissions: &mut Omissions) -> TrackRecord {
        fn name_of(omissions: &mut Omissions, (field, text): (&'static str, Field<Text<'_>>)) -> Option<String> {
            omissions.take(field, text, |text| name(&text).map(ToOwned::to_owned))
        }
        fn id_of<T>(
            omissions: &mut Omissions,
            (field, id): (&'static str, Field<LineId<'_>>),
            new: fn(String) -> Result<T, TextError>,
        ) -> Option<T> {
            omissions.take(field, id, |LineId(id)| new(id.into_owned()))
        }
        let title = name_of(omissions, self.name);
        let artist = name_of(omissions, self.artist);
        let artist_id = id_of(omissions, self.artist_id, ArtistId::new);
        let album = name_of(omissions, self.album);
        let album_id = id_of(omissions, self.album_id, AlbumId::new);
        TrackRecord {
            artist: ArtistRecord::stated(artist_id, artist.as_deref()),
            album: AlbumRecord::stated(album_id, album.as_deref()),
            duration_ms: omissions.take("duration_ms", self.duration_ms, |Whole(number)| count(number)),
            ..TrackRecord::named(id, title.as_deref().unwrap_or_default())
        }
    }
}

impl TrackLine<'_> {
    /// Returns the record; fields that were left out are added to `omissions`.
    ///
    /// # Errors
    ///
    /// When the id is none.
    pub fn into_record(self, omissions: &mut Omissions) -> Result<TrackRecord, String> {
        let id = self.id.required("id", |LineId(id)| TrackId::new(id))?;
        let genres = omissions.take("genres", self.genres, |genres| genres_of(&genres));
        let hidden = omissions.take("hidden", self.hidden, Ok::<_, String>);
        let stated = StatedTrack {
            name: ("name", self.name),
            artist: ("artist", self.artist),
            artist_id: ("artist_id", self.artist_id),
            album: ("album", self.album),
            album_id: ("album_id", self.album_id),
            duration_ms: self.duration_ms,
        };
        Ok(TrackRecord { genres: genres.flatten(), hidden, ..stated.into_record(id, omissions) })
    }
}

/// Genres that are stated; none if there are none.
///
/// # Errors
///
/// If there are too many, or one can't be stored.
pub fn genres_of(genres: &[impl AsRef<str>]) -> Result<Option<Vec<String>>, String> {
    let genres = stated_list(genres);
    if let Some(genres) = &genres {
        if genres.len() > MAX_GENRES {
            return Err(format!("has {} values; the maximum is {MAX_GENRES}", genres.len()));
        }
        genres.iter().try_for_each(|genre| check_id(genre)).map_err(|error| error.to_string())?;
    }
    Ok(genres)
}

/// What a source states of a playlist, whatever it calls the fields.
pub(crate) struct StatedPlaylist<'a> {
    pub(crate) title: (&'static str, Field<Text<'a>>),
    pub(crate) description: Field<Text<'a>>,
    pub(crate) collaborative: Field<bool>,
    pub(crate) num_followers: Field<Whole>,
    pub(crate) num_edits: Field<Whole>,
    pub(crate) num_albums: Field<Whole>,
    pub(crate) num_artists: Field<Whole>,
    pub(crate) duration_ms: Field<Whole>,
    pub(crate) modified_at: Field<OffsetDateTime>,
}

impl StatedPlaylist<'_> {
    /// Returns the record without tracks; fields that the catalog can't hold are added to `omissions`.
    pub(crate) fn into_record(self, id: PlaylistId, omissions: &mut Omissions) -> PlaylistRecord {
        let mut text_of =
            |field, value| omissions.take(field, value, |value: Text<'_>| text(&value).map(stated)).flatten();
        let title = text_of(self.title.0, self.title.1);
        let description = text_of("description", self.description);
        let mut count_of = |field, value| omissions.take(field, value, |Whole(number)| count::<i32>(number));
        let num_followers = count_of("num_followers", self.num_followers);
        let num_edits = count_of("num_edits", self.num_edits);
        let num_albums = count_of("num_albums", self.num_albums);
        let num_artists = count_of("num_artists", self.num_artists);
        PlaylistRecord {
            title,
            description,
            collaborative: omissions.take("collaborative", self.collaborative, Ok::<_, String>),
            num_followers,
            num_edits,
            num_albums,
            num_artists,
            duration_ms: omissions.take("duration_ms", self.duration_ms, |Whole(number)| count(number)),
            modified_at: omissions.take("modified_at", self.modified_at, Ok::<_, String>),
            ..PlaylistRecord::bare(id, Vec::new())
        }
    }
}

impl PlaylistLine<'_> {
    /// Returns the record; fields and tracks that were left out are added to `omissions`.
    ///
    /// # Errors
    ///
    /// When the id is none, or there are too many tracks.
    pub fn into_record(self, omissions: &mut Omissions) -> Result<PlaylistRecord, String> {
        let id = self.id.required("id", |LineId(id)| PlaylistId::new(id))?;
        let user = omissions.take("user_id", self.user_id, |LineId(id)| UserId::new(id));
        let stated = StatedPlaylist {
            title: ("title", self.title),
            description: self.description,
            collaborative: self.collaborative,
            num_followers: self.num_followers,
            num_edits: self.num_edits,
            num_albums: self.num_albums,
            num_artists: self.num_artists,
            duration_ms: self.duration_ms,
            modified_at: self.modified_at,
        };
        let record = stated.into_record(id, omissions);
        let lines = match self.tracks {
            Field::Absent => return Ok(PlaylistRecord { user, keeps_tracks: true, ..record }),
            Field::Stated(lines) => lines,
            Field::Useless(reason) => return Err(format!("tracks: {reason}")),
        };
        playlist_length(lines.len())?;
        let mut tracks = Vec::with_capacity(lines.len());
        for (index, track) in lines.into_iter().enumerate() {
            omissions.in_track(index);
            let mention = match track {
                LineTrack::Id(id) => id.required("", |LineId(id)| TrackId::new(id)).map(TrackMention::Id),
                LineTrack::Track(track) => track.into_record(omissions).map(TrackMention::Described),
            };
            match mention {
                Ok(mention) => tracks.push(mention),
                Err(reason) => omissions.add("", reason.trim_start_matches(": ").to_owned()),
            }
        }
        omissions.in_row();
        Ok(PlaylistRecord { user, tracks, ..record })
    }
}
