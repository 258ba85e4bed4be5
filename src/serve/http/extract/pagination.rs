//! Pages of lists: limits, cursors, searches.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::json::Whole;
use crate::serve::http::problem::ApiError;

/// Largest number of items in a response.
pub const MAX_LIMIT: usize = 500;
/// Number of items if the request does not say.
pub const DEFAULT_LIMIT: usize = 50;

/// A number of items, 1 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Whole")]
#[schema(value_type = i64, minimum = 1, maximum = 500, default = 50)]
pub struct Limit(usize);

impl Limit {
    /// Returns the number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl TryFrom<Whole> for Limit {
    type Error = String;

    fn try_from(Whole(value): Whole) -> Result<Self, String> {
        match usize::try_from(value) {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(Self(limit)),
            _ => Err(format!("must be between 1 and {MAX_LIMIT}")),
        }
    }
}

/// Where the next page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// after an id
    After(String),
    /// after this many search results
    Offset(u32),
}

/// Longest search text, in characters.
const MAX_SEARCH_CHARACTERS: usize = 200;
/// Most results of a search, over all pages.
pub const MAX_SEARCH_RESULTS: u32 = 1_000;

impl Cursor {
    /// Decodes the text of a previous response.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        match bytes.split_first()? {
            (b'a', id) => {
                let id = String::from_utf8(id.to_vec()).ok()?;
                (!id.contains('\0')).then_some(Self::After(id))
            }
            (b'o', offset) => {
                let offset = offset.try_into().map(u32::from_le_bytes).ok()?;
                (offset <= MAX_SEARCH_RESULTS).then_some(Self::Offset(offset))
            }
            _ => None,
        }
    }

    /// Encodes it as text.
    pub fn encode(&self) -> String {
        let bytes = match self {
            Self::After(id) => [b"a", id.as_bytes()].concat(),
            Self::Offset(offset) => [b"o".as_slice(), &offset.to_le_bytes()].concat(),
        };
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// The query of a list that can be searched.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// maximum number of items
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    pub limit: Limit,
    /// `next` of the previous page
    pub cursor: Option<String>,
    /// search text; typos are tolerated. If omitted or blank, items are in the order of their ids
    #[serde(default)]
    #[param(max_length = 200)]
    pub q: Option<String>,
}

/// The query of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// maximum number of items
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// `next` of the previous page
    cursor: Option<String>,
}

impl PageQuery {
    /// Returns the same query without a search.
    pub fn into_list(self) -> ListQuery {
        ListQuery { limit: self.limit, cursor: self.cursor, q: None }
    }
}

/// What a query requests of a list.
pub enum Page {
    /// items after an id
    After(String),
    /// search results after this many
    Search(String, u32),
}

impl ListQuery {
    /// Returns what the query requests.
    pub fn page(&self) -> Result<Page, ApiError> {
        if self.q.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH_CHARACTERS) {
            return Err(ApiError::invalid("q", format!("must not be longer than {MAX_SEARCH_CHARACTERS} characters")));
        }
        // No name has control characters, and PostgreSQL rejects NUL.
        let text = self.q.as_ref().map(|text| text.replace(char::is_control, " "));
        let text = text.filter(|text| !text.trim().is_empty());
        let cursor =
            self.cursor.as_ref().map(|text| Cursor::decode(text).ok_or(ApiError::UnknownCursor)).transpose()?;
        match (text, cursor) {
            (None, None) => Ok(Page::After(String::new())),
            (None, Some(Cursor::After(id))) => Ok(Page::After(id)),
            (Some(text), None) => Ok(Page::Search(text, 0)),
            (Some(text), Some(Cursor::Offset(offset))) => Ok(Page::Search(text, offset)),
            _ => Err(ApiError::UnknownCursor),
        }
    }

    /// Returns the cursor of the page after one with this many `rows`, the last of them `last`; `None` at the end.
    pub fn next(&self, page: &Page, rows: usize, last: Option<&str>) -> Option<String> {
        if rows < self.limit.get() {
            return None;
        }
        match page {
            Page::After(_) => Some(Cursor::After(last?.to_owned()).encode()),
            Page::Search(_, offset) => {
                let offset = offset + rows as u32;
                (offset < MAX_SEARCH_RESULTS).then(|| Cursor::Offset(offset).encode())
            }
        }
    }
}
