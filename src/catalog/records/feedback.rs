//! Ratings and listens.

use time::OffsetDateTime;

use super::ids::{TrackId, UserId};

/// The scale that an app rates on, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatingScale {
    /// the lowest rating
    pub lowest: f32,
    /// the highest rating
    pub highest: f32,
}

impl RatingScale {
    /// Returns the rating if it lies on the scale, else what is wrong with it.
    pub fn check(self, rating: f32) -> Result<f32, String> {
        match rating {
            rating if (self.lowest..=self.highest).contains(&rating) => Ok(rating),
            _ => Err(format!("must be a number from {} to {}", self.lowest, self.highest)),
        }
    }
}

/// Rounds a time down to what PostgreSQL stores, so that a time compares equal to itself once it is stored.
pub fn whole_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
}

/// A rating as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct RatingRecord {
    /// who rated
    pub user: UserId,
    /// what
    pub track: TrackId,
    /// on the app's own scale
    pub rating: f32,
    /// when the user gave it
    pub rated_at: OffsetDateTime,
}

/// A listen as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRecord {
    /// who listened
    pub user: UserId,
    /// to what
    pub track: TrackId,
    /// when it began
    pub listened_at: OffsetDateTime,
    /// the tab of the app that it was played from
    pub source_system_tab: Option<String>,
    /// the screen that it was played from
    pub source_screen_name: Option<String>,
    /// what it was played from: an album, a playlist, a search
    pub source_type: Option<String>,
    /// whether the user listened to it again within a month
    pub target: Option<bool>,
}
