//! From files to a published bundle: import, training and what reading a bundle refuses.
#![expect(clippy::expect_used, reason = "in a test's helpers a failed expectation is the failure of the test")]

mod atomicity;
mod bundles;
mod clicks;
mod completion;
mod formats;
mod import;
mod import_resume;
mod kills;
mod published_data;
mod ratings;
mod readers;
mod reimport;
mod sources;
mod training;
mod union;

#[expect(dead_code, reason = "each test binary uses its own part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use segue::catalog::Catalog;
use segue::dataset::Corpus;
use segue::import::{ImportReport, import_mpd};
use segue::progress::Interrupt;
use tokio::sync::OnceCell;

use support::database::Database;
use support::slices::{generated, write_slices};
use support::training::{TINY, train};

/// Imports into `catalog`; rejects go into `rejects.ndjson` in `folder`.
async fn import(catalog: &Catalog, folder: &Path, paths: &[PathBuf]) -> ImportReport {
    import_mpd(catalog, paths, &folder.join("rejects.ndjson"), &Interrupt::default()).await.expect("an import")
}

/// 120 generated playlists, and a models folder with a bundle trained on them.
struct Trained {
    corpus: Corpus,
    models: PathBuf,
}

/// Made once for all tests.
async fn trained() -> &'static Trained {
    static TRAINED: OnceCell<Trained> = OnceCell::const_new();
    TRAINED
        .get_or_init(async || {
            // A static is never dropped, so that the folder stays: below the build's own, where `cargo clean` finds it.
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder").keep();
            let corpus = corpus_of(&folder, 120, 400, 5).await;
            let models = folder.join("models");
            train(&corpus, &TINY, &models);
            Trained { corpus, models }
        })
        .await
}

/// Generated playlists by way of files and the catalog.
async fn corpus_of(folder: &Path, playlists: usize, tracks: usize, seed: u64) -> Corpus {
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = write_slices(&folder.join("slices"), &generated(playlists, tracks, seed), playlists);
    let report = import(&catalog, folder, &files).await;
    assert_eq!(report.outcome.playlists_added, playlists as u64);
    let corpus = Corpus::load(&catalog).await.expect("a corpus");
    catalog.close().await;
    corpus
}
