//! Segue, an HTTP recommendation service for music apps.
//!
//! # Layout
//!
//! In the order that data flows through it:
//!
//! * [`generate`] makes synthetic files, [`import`] reads those and other systems' files into catalog rows;
//! * [`catalog`] keeps them in PostgreSQL and is the only place with SQL;
//! * [`dataset`] turns the catalog into compact arrays to learn from;
//! * [`models`] are the networks, [`train`] fits them, [`evaluate`] measures them;
//! * [`bundle`] is what a training run publishes and a server loads, and the only thing both know;
//! * [`recommend`] answers questions from a loaded bundle, and knows neither HTTP nor SQL nor files;
//! * [`serve`] is the HTTP server.
//!
//! [`cli`] is the command line over all of it, [`config`] where its settings come from.

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
pub mod train;
