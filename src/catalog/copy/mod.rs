//! PostgreSQL's COPY, in and out.

mod r#in;
mod out;

pub(super) use r#in::CopyRows;
pub(super) use out::CopyOut;
