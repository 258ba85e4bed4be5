//! The HTTP protocol: connections, bodies, errors and the contract.

pub mod extract;
pub mod listener;
pub mod ndjson;
pub mod openapi;
pub mod problem;
pub mod trace_context;
