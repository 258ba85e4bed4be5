//! The Million Playlist Dataset itself, and the other data sets as they were published, where copies of them lie beside
//! the checkout. They may not be passed on.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::PathBuf;

use segue::bundle::Vocabulary;
use segue::catalog::TrackMention;
use segue::dataset::SeedKind;
use segue::evaluate::{Challenge, Recommender, TestSet, evaluate};
use segue::import::deezer::DeezerOptions;
use segue::import::{BytesRead, import_deezer, import_yes_radio, mpd, read_file};
use segue::progress::Interrupt;
use segue::recommend::Completion;
use serde_json::Value;

use crate::import;
use crate::support::database::Database;

/// The folder of the data, or none, which is said.
fn data() -> Option<PathBuf> {
    data_set("spotify_mpd")
}

/// The folder of a data set, or none, which is said.
fn data_set(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
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

#[test]
fn popularity_on_the_challenge_set_has_the_metrics_that_another_scorer_gives_it() {
    let Some(folder) = data() else { return };
    let (mut counts, mut artists): (HashMap<String, u32>, HashMap<String, String>) = Default::default();
    for slice in mpd::find_slices(std::slice::from_ref(&folder)).expect("slices") {
        let bytes = read_file(&slice, &BytesRead::default()).expect("a file");
        for track in mpd::parse_slice(&slice, &bytes).expect("a slice").playlists.into_iter().flat_map(|one| one.tracks)
        {
            let TrackMention::Described(track) = track else { panic!("a slice describes its tracks") };
            *counts.entry(track.id.to_string()).or_default() += 1;
            artists.extend(track.artist.and_then(|artist| Some((track.id.to_string(), artist.name?))));
        }
    }
    let mut ids: Vec<(&String, u32)> = counts.iter().map(|(id, &count)| (id, count)).collect();
    ids.sort_by_key(|&(id, count)| (Reverse(count), id));
    let vocabulary = Vocabulary::new(ids.iter().map(|(id, _)| id.as_str())).expect("distinct");
    let counts: Vec<u32> = ids.iter().map(|&(_, count)| count).collect();

    let challenge = Challenge::read(&folder.join("challenge_dev.json.gz")).expect("a challenge set");
    let playlists = challenge.read_truth(&folder.join("challenge_dev_truth.json.gz")).expect("its truth");
    let artists = challenge.artists.iter().chain(&artists).map(|(id, name)| (id.as_str(), name.as_str())).collect();
    let test = TestSet::new(&playlists, &vocabulary, &counts, &artists);
    let popular = |one: &Completion| {
        (0..vocabulary.len() as u32).filter(|row| !one.seeds.contains(row)).take(one.limit).collect::<Vec<u32>>()
    };
    let popularity = Recommender::new("popularity", |playlists| playlists.iter().map(popular).collect());
    let report = evaluate(&test, &[popularity], &Interrupt::default()).expect("a report");

    // From a program that shares nothing with this one, on the same ranking; it prints four decimals.
    let model = &report.models[0];
    assert_eq!((model.all.playlists, model.kinds.len()), (500, 10));
    for (metrics, expected) in [
        (model.all, [0.0244, 0.0312, 0.0628, 23.804]),
        (model.kinds[&SeedKind::Title], [0.0349, 0.0403, 0.0812, 19.52]),
        (model.kinds[&SeedKind::First5], [0.0391, 0.0466, 0.0749, 22.14]),
        (model.kinds[&SeedKind::TitleRandom100], [0.0295, 0.0384, 0.0766, 20.02]),
    ] {
        let measured = [metrics.track_r_precision, metrics.r_precision, metrics.ndcg, metrics.clicks];
        for (measured, expected) in measured.into_iter().zip(expected) {
            assert!((measured - expected).abs() <= 0.5001e-4, "{measured} instead of {expected}: {metrics:?}");
        }
    }
}

#[tokio::test]
async fn sessions_in_deezers_container_are_imported_when_it_is_said_that_they_have_no_artists() {
    let Some(file) = data_set("deezer_w2v").map(|folder| folder.join("ecommerce_sessions.npy")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let import = async |placeholder_artists| {
        let (options, rejects) = (DeezerOptions { placeholder_artists }, folder.path().join("rejects.ndjson"));
        let files = std::slice::from_ref(&file);
        import_deezer(&catalog, files, options, &rejects, &Interrupt::default()).await.expect("an import")
    };
    let refused = import(false).await;
    let reason = &refused.failed_files[0].reason;
    assert!(reason.contains("expected track_<id>") && reason.contains("--placeholder-artists"), "{reason}");
    assert_eq!(database.contents().await, Vec::<String>::new());

    let report = import(true).await;
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
    let outcome = &report.outcome;
    // As NumPy reads it: 4,234 lists of 813,264 entries, half of them place-holders.
    assert_eq!((outcome.playlists_added, outcome.placements, outcome.tracks_added), (4_234, 406_632, 3_684));
    assert_eq!(import(true).await.outcome.playlists_unchanged, 4_234);
    catalog.close().await;
}

#[tokio::test]
async fn radio_playlists_as_published_are_imported_without_a_reject() {
    let Some(folder) = data_set("yes_radio_playlists") else { return };
    let temporary = tempfile::tempdir().expect("a folder");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let rejects = temporary.path().join("rejects.ndjson");
    let folders = [folder.join("yes_small")];
    let report = import_yes_radio(&catalog, &folders, &rejects, &Interrupt::default()).await.expect("an import");
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
    // The counts of the authors' table.
    let outcome = &report.outcome;
    assert_eq!((outcome.playlists_added, outcome.placements, outcome.tracks_added), (41_480, 175_911, 3_168));
    let unnamed = "SELECT uri FROM tracks WHERE name LIKE 'yes:%' OR name LIKE '%\\%' OR name LIKE '%&amp;%'";
    assert_eq!(database.texts(unnamed).await, Vec::<String>::new());
    catalog.close().await;
}
