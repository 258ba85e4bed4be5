//! The Million Playlist Dataset itself, where a copy of it lies beside the checkout. It may not be passed on.

use std::path::PathBuf;

use serde_json::Value;

use crate::import;
use crate::support::database::Database;

/// The folder of the data, or none, which is said.
fn data() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/spotify_mpd");
    if !folder.is_dir() {
        println!("skipped: there is no data in {}", folder.display());
        return None;
    }
    Some(folder)
}

#[tokio::test]
async fn playlists_with_every_field_as_published_fill_every_column() {
    let Some(file) = data().map(|folder| folder.join("full_fields_37_playlists.json")) else { return };
    let slice: Value = serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
    let playlists = slice["playlists"].as_array().expect("playlists");
    let placements: usize = playlists.iter().map(|playlist| playlist["tracks"].as_array().map_or(0, Vec::len)).sum();

    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let report = import(&catalog, folder.path(), std::slice::from_ref(&file)).await;
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
    assert_eq!(report.outcome.playlists_added, playlists.len() as u64);
    assert_eq!(report.outcome.placements, placements as u64);
    let unfilled = database
        .texts(
            "SELECT 'track ' || uri FROM tracks WHERE album_id IS NULL OR duration_ms IS NULL
             UNION ALL SELECT 'artist ' || name FROM artists WHERE uri IS NULL
             UNION ALL SELECT 'album ' || name FROM albums WHERE uri IS NULL
             UNION ALL SELECT 'playlist ' || external_id FROM playlists
             WHERE title IS NULL OR num_followers IS NULL OR num_edits IS NULL OR num_albums IS NULL
                OR num_artists IS NULL OR duration_ms IS NULL OR modified_at IS NULL",
        )
        .await;
    assert_eq!(unfilled, Vec::<String>::new());
    let before = database.rows().await;
    assert_eq!(import(&catalog, folder.path(), &[file]).await.outcome.playlists_unchanged, playlists.len() as u64);
    assert_eq!(database.rows().await, before);
    catalog.close().await;
}

#[tokio::test]
async fn a_whole_slice_as_published_is_imported_without_a_reject() {
    let Some(folder) = data() else { return };
    let entries = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path());
    let mut slices: Vec<PathBuf> = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mpd.")))
        .collect();
    slices.sort();
    let temporary = tempfile::tempdir().expect("a folder");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let report = import(&catalog, temporary.path(), &slices[..1]).await;
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
    assert_eq!(report.outcome.playlists_added, 1_000);
    let stated: Vec<String> = database.texts("SELECT sum(num_tracks)::text FROM playlists").await;
    assert_eq!(stated, [report.outcome.placements.to_string()]);
    catalog.close().await;
}
