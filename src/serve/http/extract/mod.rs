//! Extractors: what requests consist of, validated at the edge.

pub mod conditional;
pub mod ids;
pub mod json;
pub mod pagination;
pub mod query;
pub mod rows;

pub use conditional::{Preconditions, entity_tag, not_modified};
pub use ids::{Id, in_field, percent_encode};
pub use json::{
    BodyLimit, BoundedList, JsonBody, MergePatch, NDJSON, Object, OptionalJsonBody, Whole, is_ndjson, optional_whole,
    parse,
};
pub use pagination::{Limit, ListQuery, Page, PageQuery};
pub use query::QueryParameters;
pub use rows::{RowBody, Rows};
