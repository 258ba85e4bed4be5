//! Segue, an HTTP recommendation service for music apps.
//!
//! # Layout
//!
//! In the order that data flows through it:
//!
//! * [`generate`] makes synthetic files, [`import`] reads those and other systems' files into catalog rows;
//! * [`catalog`] keeps them in PostgreSQL and is the only place with SQL;
//! * [`dataset`] turns the catalog into compact arrays to learn from;
//! * [`scoring`] is what the trained networks and trees compute, on plain arrays;
//! * [`bundle`] holds what a training run publishes and a server loads, and is all that both know;
//! * [`recommend`] answers questions from a loaded bundle, and knows neither HTTP nor SQL nor files;
//! * [`evaluate`] measures models, [`train`] fits them with LibTorch;
//! * [`serve`] is the HTTP server.
//!
//! [`math`] is the arithmetic below all of it, [`cli`] the command line above it, and [`config`] says where its settings
//! come from.
//!
//! # Features
//!
//! `train` (default) adds all that needs LibTorch: the module [`train`] and the commands `demo`, `train`, `evaluate` and
//! `tune`. A build without it serves, imports and administers, and links no LibTorch.

#![warn(clippy::print_stdout, clippy::print_stderr)] // a reader that stops early must not stop the program: see cli::output

pub mod bundle;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dataset;
pub mod evaluate;
pub mod generate;
pub mod import;
pub mod math;
pub mod progress;
pub mod recommend;
pub mod scoring;
pub mod serve;
pub mod telemetry;
#[cfg(feature = "train")]
pub mod train;
