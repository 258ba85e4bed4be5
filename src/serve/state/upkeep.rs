//! What a running server keeps in order in the catalog: indexes that an import left out, and the order of search results.

use std::time::Duration;

use tracing::{debug, info};

use crate::catalog::{Catalog, CatalogError};

/// How often the server checks.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How soon it checks again after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Builds indexes that an import deferred and did not come to build, and estimates again which tracks are popular as
/// playlists change, as long as the server runs.
pub async fn follow(catalog: Catalog) {
    loop {
        let pause = match keep_in_order(&catalog).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                debug!("can't see to the catalog's indexes and popular tracks yet: {error}");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn keep_in_order(catalog: &Catalog) -> Result<(), CatalogError> {
    let built = catalog.build_deferred_indexes(None).await?;
    if built > 0 {
        info!(built, "built the indexes that an import left out");
        return catalog.analyze().await;
    }
    catalog.refresh_popular_tracks().await
}
