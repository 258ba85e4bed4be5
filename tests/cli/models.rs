//! `segue train similarity` and `segue models`.

use serde_json::Value;

use crate::support::database::Database;
use crate::support::program::{Home, text};
use crate::support::slices::{bare_playlist, bare_tracks, generated, slice, write, write_slices};

#[tokio::test]
async fn what_was_trained_is_listed_and_the_current_one_is_marked() {
    let home = Home::new();
    let none = home.segue(&["models"]).succeed();
    assert!(none.contains("segue train similarity"), "{none}");
    assert_eq!(home.segue(&["models", "--format", "json"]).succeed().trim(), "[]");

    let database = Database::new().await;
    let slices = home.path().join("slices");
    write_slices(&slices, &generated(120, 400, 5), 120);
    home.segue(&["import", "mpd", text(&slices), "--database-url", database.url()]).succeed();
    let mut versions = Vec::new();
    for seed in ["1", "2"] {
        let arguments =
            ["train", "similarity", "--database-url", database.url(), "--dim", "8", "--epochs", "1", "--seed", seed];
        if seed == "1" {
            let printed = home.segue(&arguments).succeed();
            let first = printed.lines().next().expect("a line");
            versions.push(first.strip_prefix("published similarity ").expect("a version").to_owned());
            assert!(printed.lines().any(|line| line.starts_with("next_track.hit_at_10  ")), "{printed}");
        } else {
            let printed = home.segue(&[&arguments[..], &["--format", "json"]].concat()).succeed();
            let manifest: Value = serde_json::from_str(&printed).expect("JSON");
            versions.push(manifest["version"].as_str().expect("a version").to_owned());
            let metrics = &manifest["metrics"];
            assert!(metrics["next_track"]["hit_at_10"].is_number(), "{metrics}");
        }
    }

    let listed = home.segue(&["models"]).succeed();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!((lines.len(), lines[0].split_whitespace().next()), (3, Some("kind")), "{listed}");
    let line_of = |version: &str| *lines.iter().find(|line| line.contains(version)).expect("listed");
    assert!(line_of(&versions[1]).trim_end().ends_with("current"), "{listed}");
    assert!(!line_of(&versions[0]).contains("current"), "{listed}");

    let manifests: Value = serde_json::from_str(&home.segue(&["models", "--format", "json"]).succeed()).expect("JSON");
    let of = |version: &str| {
        let manifests = manifests.as_array().expect("a list");
        manifests.iter().find(|manifest| manifest["version"] == version).expect("listed").clone()
    };
    for (version, seed) in versions.iter().zip([1, 2]) {
        assert_eq!(of(version)["seed"], seed);
        assert_eq!(of(version)["data"]["playlists"], 120);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_costs_no_model() {
    let home = Home::new();
    let database = Database::new().await;
    let slices = home.path().join("slices");
    write_slices(&slices, &generated(120, 400, 5), 120);
    home.segue(&["import", "mpd", text(&slices), "--database-url", database.url()]).succeed();
    let train = ["train", "similarity", "--database-url", database.url(), "--dim", "64", "--epochs", "1"];
    home.segue(&train).succeed();
    let before = home.segue(&["models"]).succeed();

    let finished = home.segue_with_room_for(16, &train).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("File too large") && finished.stderr.contains("models"), "{finished:?}");
    assert_eq!(home.segue(&["models"]).succeed(), before, "the current model is the one before");
    // With room again, training goes through, and leaves nothing of the attempt behind.
    home.segue(&train).succeed();
    let folder = home.models().join("similarity");
    let mut left: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    left.retain(|name| name != "current" && name != ".lock" && !name.starts_with('2'));
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn training_on_an_empty_catalog_ends_with_1_and_says_to_import_first() {
    let home = Home::new();
    let database = Database::new().await;
    let finished = home.segue(&["train", "similarity", "--database-url", database.url()]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("import playlists first"), "{finished:?}");
    assert!(!home.models().exists(), "nothing was made");
}

#[tokio::test]
async fn training_on_a_handful_of_tracks_works_or_says_that_it_is_too_little() {
    let home = Home::new();
    let database = Database::new().await;
    for (name, playlists) in [
        ("one playlist", vec![bare_playlist(1, bare_tracks("a", 1))]),
        ("one track everywhere", (0..5).map(|pid| bare_playlist(pid, bare_tracks("a", 1))).collect()),
        ("a few", (0..5).map(|pid| bare_playlist(pid, bare_tracks("b", 5))).collect()),
    ] {
        write(home.path(), "slice.json", slice(&playlists));
        home.segue(&["import", "mpd", "slice.json", "--database-url", database.url()]).succeed();
        let arguments = ["train", "similarity", "--database-url", database.url(), "--dim", "4", "--epochs", "2"];
        let finished = home.segue(&arguments).run();
        match finished.code {
            Some(0) => assert!(finished.stdout.contains("published"), "{name}: {finished:?}"),
            Some(1) => {
                let error = finished.stderr.lines().last().expect("an error");
                assert!(error.contains("import"), "{name}: {finished:?}");
                assert!(!error.contains("learning-rate"), "{name}: {finished:?}");
            }
            _ => panic!("{name}: {finished:?}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_bundle_does_not_hide_the_others_from_the_list() {
    let home = Home::new();
    let kind = home.models().join("similarity");
    write(&kind.join("20200101T000000.000Z"), "manifest.json", "{");
    let finished = home.segue(&["models"]).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("20200101T000000.000Z"), "{finished:?}");
}
