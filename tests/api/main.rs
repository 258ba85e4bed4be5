//! The HTTP interface: a real server on a free port, a real PostgreSQL, a real client.
#![expect(clippy::expect_used, reason = "in a test's helpers a failed expectation is the failure of the test")]

mod administration;
mod bounds;
mod bulk;
mod catalog;
mod completion;
mod concurrency;
mod contract;
mod keys;
mod models;
mod operations;
mod outage;
mod playlists;
mod problems;
mod ranking;
mod ratings;
mod reload;
mod scores;
mod shutdown;
mod tracks;
mod upgrade;

#[expect(dead_code, reason = "each test binary uses its own part of it")]
#[path = "../support/mod.rs"]
mod support;
