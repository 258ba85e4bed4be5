//! The features of listens by name: categorical fields, and groups of numbers.

use serde::{Deserialize, Serialize};

/// Features of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureGroup {
    /// age, days of registration and expiry, length of the membership
    Member,
    /// a track's length and year
    Track,
    /// listens of the user, and of the track, its artist, composer, lyricist, genre and recording code's parts
    Counts,
    /// how often the user plays from this source, this artist, language, genre, year; how often the track is played so
    Shares,
    /// listens of the user and of the track within windows of 10 to 50,000 listens, and till now
    Windows,
    /// the user's listen before (and after): how long ago, and what is the same
    Neighbours,
    /// shares of tabs, screens and types among the user's listens
    Profile,
    /// how often users came back, for this user, track, artist, source and their combinations
    Targets,
    /// how near the track and its artist lie to what the user plays, and how long the user's tracks are
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
