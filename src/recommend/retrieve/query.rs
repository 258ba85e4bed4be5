//! The query of the retrievers.

use std::collections::HashSet;

use crate::bundle::CompletionIndex;
use crate::dataset::normalise;

/// A playlist to complete, as the retrievers need it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// normalized title, empty if it has none
    pub title: String,
    /// distinct rows of tracks that the index holds, in the playlist's order
    pub seeds: Vec<u32>,
}

impl Query {
    /// Drops repeats and tracks that no playlist of the index holds.
    pub fn new(index: &CompletionIndex, title: Option<&str>, seeds: &[u32]) -> Self {
        let mut seen = HashSet::with_capacity(seeds.len());
        let known = |&row: &u32| (row as usize) < index.tracks() && index.popularity(row) > 0 && seen.insert(row);
        Self { title: title.map(normalise).unwrap_or_default(), seeds: seeds.iter().copied().filter(known).collect() }
    }
}
