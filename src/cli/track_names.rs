//! Names of tracks, for people.

use std::collections::HashMap;

use crate::bundle::Vocabulary;
use crate::catalog::{Catalog, CatalogError, TrackName};

/// Ids whose names are queried at a time.
const NAMES: usize = 10_000;

/// Names of those tracks that the catalog has, by id.
pub(super) async fn track_names(catalog: &Catalog, ids: &[String]) -> Result<HashMap<String, TrackName>, CatalogError> {
    let mut names = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(NAMES) {
        names.extend(catalog.track_names(ids).await?);
    }
    Ok(names)
}

/// Names of those rows of a bundle that the catalog has, by id.
pub(super) async fn names_of_rows(
    catalog: &Catalog,
    vocabulary: &Vocabulary,
    rows: impl IntoIterator<Item = u32>,
) -> Result<HashMap<String, TrackName>, CatalogError> {
    let ids: Vec<String> = rows.into_iter().map(|row| vocabulary.id(row).to_owned()).collect();
    track_names(catalog, &ids).await
}
