//! PostgreSQL's COPY.

pub mod out;
