//! The command line: the built program, its exit codes and what it prints.
#![expect(clippy::expect_used, reason = "in a test's helpers a failed expectation is the failure of the test")]

mod backup;
mod clicks;
mod configuration;
mod demo;
mod embedded;
mod evaluate;
mod generate;
mod help;
mod import;
mod keys;
mod models;
mod names;
mod openapi;
mod password;
mod ratings;
mod schema;
mod serve;
mod writers;

#[expect(dead_code, reason = "each test binary uses its own part of it")]
#[path = "../support/mod.rs"]
mod support;
