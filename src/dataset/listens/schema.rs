//! The features of listens by name: categorical fields, and groups of numbers.

use serde::{Deserialize, Serialize};

/// Features of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureGroup {
    /// age, days since registration and until expiry, length of the membership
    Member,
    /// a track's length and year
    Track,
    /// listens of the user, track, artist, composer, lyricist, genre and parts of the recording code
    Counts,
    /// shares of source, artist, language, genre and year in the user's listens, and of sources in the track's
    Shares,
    /// listens of the user and of the track within windows of 10 to 50,000 listens, and so far
    Windows,
    /// the user's previous (and next) listen: time between them, and what they share
    Neighbours,
    /// shares of tabs, screens and types in the user's listens
    Profile,
    /// how often users came back, by user, track, artist, source and combinations
    Targets,
    /// distance of the track and its artist from what the user plays; length of the user's tracks
    Taste,
}

/// The categorical features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// row of the user
    User,
    /// row of the track
    Track,
    /// artist
    Artist,
    /// city
    City,
    /// gender
    Gender,
    /// way of registration
    RegisteredVia,
    /// language
    Language,
    /// country of the recording code
    Country,
    /// first genre
    FirstGenre,
    /// second genre, of the same table
    SecondGenre,
    /// tab
    Tab,
    /// screen
    Screen,
    /// type
    Type,
    /// of the user's listen before
    BeforeScreen,
    /// likewise
    BeforeType,
    /// likewise
    BeforeLanguage,
    /// of the user's listen after; transductive alone
    AfterScreen,
    /// likewise
    AfterType,
    /// likewise
    AfterLanguage,
}

impl Field {
    /// Every field, in the order that tables of listens have them.
    pub const ALL: [Self; 19] = [
        Self::User,
        Self::Track,
        Self::Artist,
        Self::City,
        Self::Gender,
        Self::RegisteredVia,
        Self::Language,
        Self::Country,
        Self::FirstGenre,
        Self::SecondGenre,
        Self::Tab,
        Self::Screen,
        Self::Type,
        Self::BeforeScreen,
        Self::BeforeType,
        Self::BeforeLanguage,
        Self::AfterScreen,
        Self::AfterType,
        Self::AfterLanguage,
    ];

    /// The field in whose table of embeddings it looks.
    pub fn table(self) -> Self {
        match self {
            Self::SecondGenre => Self::FirstGenre,
            other => other,
        }
    }
}

/// Number of fields.
pub const FIELDS: usize = Field::ALL.len();
