//! What the catalog's columns can hold, asked of every source alike.

/// The longest id or indexed name, in bytes; PostgreSQL's indexes take 2,704.
pub const MAX_KEY_BYTES: usize = 1_000;
/// The longest playlist that is read, in tracks: ten times what streaming services allow.
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
    if text.len() > MAX_KEY_BYTES {
        return Err(format!("{field} is longer than {MAX_KEY_BYTES} bytes"));
    }
    Ok(clean(text))
}

/// An id.
///
/// # Errors
///
/// Names `field` when the text is empty, too long, or has control characters.
pub fn key(field: &str, text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(format!("{field} is empty"));
    }
    if text.len() > MAX_KEY_BYTES {
        return Err(format!("{field} is longer than {MAX_KEY_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{field} has control characters"));
    }
    Ok(text.to_owned())
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
