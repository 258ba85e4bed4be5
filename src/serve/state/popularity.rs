//! Keeps the order of search results up to date while playlists change.

use std::time::Duration;

use tracing::debug;

use crate::catalog::Catalog;

/// How often the server checks whether playlists changed since popularity was last estimated.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Estimates the popularity of tracks again as playlists change, as long as the server runs.
pub async fn follow(catalog: Catalog) {
    loop {
        if let Err(error) = catalog.refresh_popularity().await {
            debug!("can't estimate the popularity of tracks yet: {error}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
