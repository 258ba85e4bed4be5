//! What commands learn from and measure on, read from the catalog.

use tracing::info;

use super::global::Global;
use crate::catalog::Catalog;
use crate::dataset::listens::Listening;
use crate::dataset::{Corpus, Feedback};

/// Opens the catalog, reads from it, and closes it.
pub(super) async fn read<T>(
    global: &Global,
    load: impl AsyncFnOnce(&Catalog) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let catalog = global.catalog().await?;
    let data = load(&catalog).await?;
    catalog.close().await;
    Ok(data)
}

/// Playlists with names of tracks, artists and albums.
pub(super) async fn corpus(catalog: &Catalog) -> anyhow::Result<Corpus> {
    let corpus = Corpus::load(catalog).await?;
    let data = &corpus.sequences.fingerprint;
    info!(playlists = data.playlists, tracks = data.tracks, placements = data.placements, "read the catalog");
    Ok(corpus)
}

/// Ratings and listens.
pub(super) async fn feedback(catalog: &Catalog) -> anyhow::Result<Feedback> {
    let feedback = Feedback::load(catalog).await?;
    let ratings = feedback.events.iter().filter(|event| event.rating.is_some()).count();
    let listens = feedback.events.len() - ratings;
    info!(users = feedback.users(), tracks = feedback.tracks(), ratings, listens, "read the catalog");
    Ok(feedback)
}

/// Listens with their sources and targets.
pub(super) async fn listening(catalog: &Catalog) -> anyhow::Result<Listening> {
    let listening = Listening::load(catalog).await?;
    let (users, tracks, listens) = (listening.user_ids.len(), listening.track_ids.len(), listening.clicks.len());
    info!(users, tracks, listens, "read the catalog");
    Ok(listening)
}
