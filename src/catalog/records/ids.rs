//! Ids: the app's own are text; rows of PostgreSQL have numbers.

use std::borrow::Borrow;
use std::fmt;

use serde::Serialize;

/// Length of the longest id or indexed name, in bytes; PostgreSQL's indexes take 2,704.
pub const MAX_ID_BYTES: usize = 1_000;

/// Why a text can't be an id or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing in it.
    #[error("must not be empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`].
    #[error("must not be longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// Control characters in an id.
    #[error("must not contain control characters")]
    ControlCharacters,
    /// The mark of a character that could not be read: two ids could both become this one.
    #[error("must not contain U+FFFD, which stands for a character that could not be read")]
    Unreadable,
    /// The one character that PostgreSQL's text can't hold.
    #[error("must not contain NUL")]
    Nul,
}

/// Checks an id that an app chooses: 1 to [`MAX_ID_BYTES`] bytes without control characters, and not only spaces.
pub fn check_id(text: &str) -> Result<(), TextError> {
    match text {
        _ if text.trim().is_empty() => Err(TextError::Empty),
        _ if text.len() > MAX_ID_BYTES => Err(TextError::TooLong),
        _ if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control()) => Ok(()),
        _ if text.chars().any(char::is_control) => Err(TextError::ControlCharacters),
        _ if text.contains(char::REPLACEMENT_CHARACTER) => Err(TextError::Unreadable),
        _ => Ok(()),
    }
}

/// Checks a name that an index holds: at most [`MAX_ID_BYTES`] bytes without NUL.
pub fn check_name(text: &str) -> Result<(), TextError> {
    match text {
        _ if text.len() > MAX_ID_BYTES => Err(TextError::TooLong),
        _ if text.contains('\0') => Err(TextError::Nul),
        _ => Ok(()),
    }
}

macro_rules! text_ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => { $(
        $(#[$doc])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(String);

        impl $name {
            /// An id that a source states, without the spaces around it: 1 to [`MAX_ID_BYTES`] bytes without control
            /// characters.
            pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
                let mut text = text.into();
                let trimmed = text.trim();
                if trimmed.len() < text.len() {
                    text = trimmed.to_owned();
                }
                check_id(&text).map(|()| Self(text))
            }

            /// An id to look up: 1 to [`MAX_ID_BYTES`] bytes without NUL. Older catalogs have ids that would not be accepted
            /// any more, and they can still be read and deleted.
            pub fn storable(text: impl Into<String>) -> Result<Self, TextError> {
                let text = text.into();
                if text.is_empty() {
                    return Err(TextError::Empty);
                }
                check_name(&text).map(|()| Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                self.0 == *text
            }
        }
    )+ };
}

text_ids! {
    /// The app's id of a track.
    TrackId;
    /// The app's id of an artist.
    ArtistId;
    /// The app's id of an album.
    AlbumId;
    /// The app's id of a playlist.
    PlaylistId;
    /// The app's id of a user.
    UserId;
}

macro_rules! row_ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => { $(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(pub i32);

        impl From<i32> for $name {
            fn from(row: i32) -> Self {
                Self(row)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    )+ };
}

row_ids! {
    /// A row of `tracks`.
    TrackRow;
    /// A row of `artists`.
    ArtistRow;
    /// A row of `albums`.
    AlbumRow;
    /// A row of `playlists`.
    PlaylistRow;
    /// A row of `users`.
    UserRow;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_any_that_postgresql_can_hold_is_looked_up() {
        assert_eq!(TrackId::new(""), Err(TextError::Empty));
        assert_eq!(TrackId::new("a\tb"), Err(TextError::ControlCharacters));
        assert_eq!(TrackId::new("é\u{85}b"), Err(TextError::ControlCharacters));
        assert_eq!(TrackId::new("a\u{fffd}"), Err(TextError::Unreadable));
        assert_eq!(TrackId::new(" \t"), Err(TextError::Empty));
        assert_eq!(TrackId::new(" é 1\n").map(String::from), Ok("é 1".to_owned()));
        assert_eq!(TrackId::new("x".repeat(MAX_ID_BYTES + 1)), Err(TextError::TooLong));
        assert_eq!(TrackId::new("x".repeat(MAX_ID_BYTES)).map(|id| id.as_str().len()), Ok(MAX_ID_BYTES));
        assert_eq!(UserId::storable("a\tb").map(String::from), Ok("a\tb".to_owned()));
        assert_eq!(UserId::storable(""), Err(TextError::Empty));
        assert_eq!(UserId::storable("a\0"), Err(TextError::Nul));
        assert_eq!(check_name(""), Ok(()));
    }
}
