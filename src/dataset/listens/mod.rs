//! Listens as rows to learn click probability from.

pub mod features;
pub mod history;
pub mod table;
mod taste;

pub use taste::{Taste, Tastes};
