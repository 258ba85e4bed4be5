//! Who may send requests, and how many.

pub mod hosts;
pub mod keys;
pub mod rate_limit;
pub mod scope;
