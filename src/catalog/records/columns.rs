//! What the catalog's columns can hold, asked of every source alike. The texts of errors follow the name of a field.
//!
//! | field | limit |
//! | --- | --- |
//! | ids of tracks, artists, albums, playlists and users; genres | [`MAX_ID_BYTES`], not empty, without control characters |
//! | names of tracks, artists, albums, composers; languages, codes; cities, genders; where listens come from | [`MAX_NAME_BYTES`] |
//! | titles and descriptions of playlists | [`MAX_TEXT_BYTES`] |
//! | genres of a track | [`MAX_GENRES`] |
//! | composers or lyricists of a track | [`MAX_PEOPLE`] |
//! | tracks of a playlist | [`MAX_PLAYLIST_TRACKS`] |

pub use super::ids::MAX_ID_BYTES;
use super::ids::TextError;

/// The longest name, in bytes; indexes have to hold it.
pub const MAX_NAME_BYTES: usize = MAX_ID_BYTES;
/// The longest title or description of a playlist, in bytes.
pub const MAX_TEXT_BYTES: usize = 10_000;
/// Most genres of a track.
pub const MAX_GENRES: usize = 100;
/// Most composers, or lyricists, of a track; further ones are not stored.
pub const MAX_PEOPLE: usize = 32;
/// The longest playlist, in tracks: ten times what streaming services allow.
pub const MAX_PLAYLIST_TRACKS: usize = 100_000;

/// Returns a name if it is not too long.
///
/// # Errors
///
/// If it is.
pub fn name(text: &str) -> Result<&str, String> {
    at_most(text, MAX_NAME_BYTES)
}

/// Returns a title or description if it is not too long.
///
/// # Errors
///
/// If it is.
pub fn text(text: &str) -> Result<&str, String> {
    at_most(text, MAX_TEXT_BYTES)
}

fn at_most(text: &str, bytes: usize) -> Result<&str, String> {
    match text.len() <= bytes {
        true => Ok(text),
        false => Err(format!("must not be longer than {bytes} bytes")),
    }
}

/// What was made of the text of a field.
///
/// # Errors
///
/// Names `field`.
pub fn in_field<T>(field: &str, made: Result<T, TextError>) -> Result<T, String> {
    made.map_err(|error| format!("{field}: {error}"))
}

/// A count, or a length in milliseconds.
///
/// # Errors
///
/// When it is negative, or the column can't hold it.
pub fn count<Column: TryFrom<i64>>(value: i64) -> Result<Column, String> {
    match value {
        ..0 => Err("must not be negative".to_owned()),
        _ => Column::try_from(value).map_err(|_| "is too large".to_owned()),
    }
}

/// A playlist's number of tracks.
///
/// # Errors
///
/// When it is more than [`MAX_PLAYLIST_TRACKS`].
pub fn playlist_length(tracks: usize) -> Result<(), String> {
    match tracks <= MAX_PLAYLIST_TRACKS {
        true => Ok(()),
        false => Err(format!("{tracks} tracks; no more than {MAX_PLAYLIST_TRACKS} are read of one playlist")),
    }
}
