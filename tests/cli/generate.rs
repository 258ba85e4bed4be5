//! `segue generate`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::program::Home;

fn generate(home: &Home, seed: &str, out: &str) -> BTreeMap<String, Vec<u8>> {
    home.segue(&["generate", "--playlists", "1200", "--seed", seed, "--out", out]).succeed();
    files(&home.path().join(out))
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_seed_others() {
    let home = Home::new();
    let first = generate(&home, "7", "first");
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, ["mpd.slice.0-999.json", "mpd.slice.1000-1199.json"]);
    assert!(first == generate(&home, "7", "again"), "the files differ");
    assert!(first != generate(&home, "8", "other"), "the seed has no effect");
}

#[test]
fn every_file_says_that_it_is_synthetic_and_some_tracks_are_far_more_popular_than_others() {
    let home = Home::new();
    let mut placements: HashMap<String, usize> = HashMap::new();
    let mut playlists = 0;
    for (name, bytes) in generate(&home, "7", "out") {
        let slice: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(slice["info"]["synthetic"], true, "{name}");
        let note = slice["info"]["note"].as_str().expect("a note");
        assert!(note.contains("segue generate") && note.contains("--seed 7"), "{note}");
        for playlist in slice["playlists"].as_array().expect("playlists") {
            playlists += 1;
            let tracks = playlist["tracks"].as_array().expect("tracks");
            assert_eq!(playlist["num_tracks"], tracks.len());
            assert!(playlist["name"].is_string() && tracks.len() >= 5, "{playlist}");
            for track in tracks {
                let uri = track["track_uri"].as_str().expect("a uri");
                assert!(uri.starts_with("synthetic:"), "{uri}");
                *placements.entry(uri.to_owned()).or_default() += 1;
            }
        }
    }
    assert_eq!(playlists, 1_200);
    let mut counts: Vec<usize> = placements.into_values().collect();
    counts.sort_unstable_by(|left, right| right.cmp(left));
    let total: usize = counts.iter().sum();
    let top: usize = counts[..400].iter().sum();
    let share = top as f64 / total as f64;
    // Even popularity would give a tenth of the 4,000 tracks a tenth of the placements.
    assert!(share > 0.2, "the 400 most popular of 4,000 tracks hold {share:.3} of the placements");
    assert!(share < 0.9, "hardly anything else is ever played: {share:.3}");
}

#[test]
fn too_few_tracks_are_refused_with_the_least_number() {
    let finished = Home::new().segue(&["generate", "--tracks", "100"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("384"), "{finished:?}");
}
