//! Keeps the order of search results up to date while playlists change.

use std::time::Duration;

use tracing::debug;

use crate::catalog::Catalog;

/// How often the server checks whether playlists changed since the popular tracks were last estimated.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Estimates again which tracks are popular as playlists change, as long as the server runs.
pub async fn follow(catalog: Catalog) {
    loop {
        if let Err(error) = catalog.refresh_popular_tracks().await {
            debug!("can't estimate which tracks are popular yet: {error}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
