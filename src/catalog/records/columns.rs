//! What the catalog's columns can hold, asked of every source alike.

use super::ids::{MAX_ID_BYTES, TextError};

/// The longest playlist, in tracks: ten times what streaming services allow.
pub const MAX_PLAYLIST_TRACKS: usize = 100_000;

/// Text as PostgreSQL can hold it: without NUL.
pub fn clean(text: &str) -> String {
    text.replace('\0', "")
}

/// A name that an index has to hold.
///
/// # Errors
///
/// Names `field` when the text is too long.
pub fn name(field: &str, text: &str) -> Result<String, String> {
    match text.len() > MAX_ID_BYTES {
        true => in_field(field, Err(TextError::TooLong)),
        false => Ok(clean(text)),
    }
}

/// What was made of the text of a field.
///
/// # Errors
///
/// Names `field`.
pub fn in_field<T>(field: &str, made: Result<T, TextError>) -> Result<T, String> {
    made.map_err(|error| format!("{field} {error}"))
}

/// A count, or a length in milliseconds.
///
/// # Errors
///
/// Names `field` when the number is too large.
pub fn count<T, Column: TryFrom<T>>(field: &str, value: Option<T>) -> Result<Option<Column>, String> {
    value.map(Column::try_from).transpose().map_err(|_| format!("{field} is too large"))
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
