//! Ratings and listens.

use time::{Duration, OffsetDateTime};

use super::ids::{TrackId, UserId};
use super::times::in_years;

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

/// How far the clock of a phone may be ahead.
const CLOCK_SKEW: Duration = Duration::days(1);

/// Returns the time of a rating or a listen if it can be one; `now` is the time at which it comes in.
///
/// # Errors
///
/// If it is in the future, since it would outweigh everything that comes later, or before 1900.
pub fn feedback_time(time: OffsetDateTime, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    let time = in_years(time)?;
    match time {
        _ if time - now > CLOCK_SKEW => Err("must not be in the future".to_owned()),
        _ if time.year() < 1900 => Err("must not be before 1900".to_owned()),
        _ => Ok(time),
    }
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
