//! Who may ask, and how often.

pub mod keys;
pub mod rate_limit;
