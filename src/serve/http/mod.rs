//! The HTTP protocol: connections, bodies, errors and the contract.

pub mod body;
pub mod connections;
pub mod extract;
pub mod listener;
pub mod ndjson;
pub mod openapi;
pub mod patience;
pub mod problem;
pub mod request_id;
pub mod stream;
pub mod trace_context;
