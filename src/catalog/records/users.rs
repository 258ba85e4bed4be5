//! Users.

use time::Date;

use super::ids::UserId;

/// What is known of a user. None leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// the app's id
    pub id: UserId,
    /// city, as the app numbers or names it
    pub city: Option<String>,
    /// age in years
    pub age: Option<i16>,
    /// gender, as the app has it
    pub gender: Option<String>,
    /// way of registration
    pub registered_via: Option<String>,
    /// day of registration
    pub registered_on: Option<Date>,
    /// day on which the subscription ends
    pub expires_on: Option<Date>,
}
