//! `segue similar` and `segue export`: what was learned, by name and in files.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::program::{Finished, Home};
use crate::support::slices::{bare_playlist, bare_track, generated, slice, write};

/// A home with a similarity bundle of generated playlists and of some whose names are known.
struct Trained {
    home: Home,
    database: Database,
}

async fn trained() -> Trained {
    let home = Home::new();
    let database = Database::new().await;
    let mut playlists = generated(120, 400, 5);
    for pid in 0..30 {
        playlists.push(bare_playlist(
            format!("named {pid}"),
            vec![
                bare_track("t: so what", "So What", "Miles Davis"),
                bare_track("t:naima", "Naïma (Live)", "John Coltrane"),
                bare_track("t:so-what-2", "So what!", "P!nk"),
                bare_track("t:blue", "Blue in Green", "Miles Davis"),
                bare_track("t:blue-again", "Blue In Green", "MILES DAVIS"),
            ],
        ));
    }
    write(home.path(), "slice.json", slice(&playlists));
    let url = database.url();
    home.segue(&["import", "mpd", "slice.json", "--database-url", url]).succeed();
    home.segue(&["train", "similarity", "--dim", "8", "--epochs", "1", "--database-url", url]).succeed();
    Trained { home, database }
}

impl Trained {
    fn similar(&self, words: &[&str]) -> Finished {
        self.home.segue(&[&["similar", "--database-url", self.database.url()], words].concat()).run()
    }

    fn export(&self, format: &str, out: &str) -> String {
        let url = self.database.url();
        self.home.segue(&["export", "embeddings", "--format", format, "--out", out, "--database-url", url]).succeed()
    }
}

#[tokio::test]
async fn a_track_is_asked_about_by_name_or_id_and_an_unclear_name_is_answered_with_names() {
    let trained = trained().await;
    for words in
        [&["miles davis – so what"][..], &["Miles", "Davis", "So", "What?"], &["so what, MILES DAVIS"], &["t: so what"]]
    {
        let finished = trained.similar(&[&["--limit", "3"], words].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert!(lines[0].starts_with("similar to Miles Davis – So What  (t: so what), model 20"), "{finished:?}");
        let heads: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(heads, ["rank", "score", "artist", "track", "id"], "{finished:?}");
        assert_eq!(lines[3..].len(), 3, "{finished:?}");
    }

    let several = trained.similar(&["so what"]);
    assert_eq!((several.code, several.stdout.as_str()), (Some(1), ""), "{several:?}");
    for word in
        ["2 tracks are called \"so what\"", "Miles Davis – So What  (t: so what)", "P!nk – So what!  (t:so-what-2)"]
    {
        assert!(several.stderr.contains(word), "{word}: {several:?}");
    }

    let none = trained.similar(&["Jon Coltrane", "Naima"]);
    assert_eq!(none.code, Some(1), "{none:?}");
    let (_, nearest) = none.stderr.split_once("the nearest names are:").expect("names");
    assert!(nearest.trim_start().starts_with("John Coltrane – Naïma (Live)  (t:naima)"), "{none:?}");

    let twice = trained.similar(&["blue in green", "--format", "json"]);
    assert_eq!(twice.code, Some(0), "{twice:?}");
    assert!(twice.stderr.contains("2 tracks have this name"), "{twice:?}");
    let answer: Value = serde_json::from_str(&twice.stdout).expect("JSON and nothing else");
    assert!(["t:blue", "t:blue-again"].map(|id| json!(id)).contains(&answer["track_id"]), "{answer}");
    let items = answer["items"].as_array().expect("items");
    assert_eq!(items.len(), 10);
    assert!(items.iter().all(|item| item["name"].is_string() && item["score"].is_number()), "{answer}");
    assert!(items.iter().all(|item| item["track_id"] != answer["track_id"]), "{answer}");
}

#[tokio::test]
async fn a_track_that_came_after_the_training_is_named_as_such() {
    let trained = trained().await;
    let late = slice(&[bare_playlist("late", vec![bare_track("late:1", "Too Late", "Nobody")])]);
    write(trained.home.path(), "late.json", late);
    trained.home.segue(&["import", "mpd", "late.json", "--database-url", trained.database.url()]).succeed();
    let finished = trained.similar(&["late:1"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("does not know Nobody – Too Late yet"), "{finished:?}");
}

#[test]
fn without_a_model_the_command_that_trains_one_is_told() {
    let home = Home::new();
    for arguments in [
        &["similar", "anything"][..],
        &["export", "embeddings", "--format", "npy", "--out", "vectors.npy"],
        &["models", "show", "similarity"],
        &["models", "show", "similarity", "--bundle", "20200101T000000.000Z"],
    ] {
        let finished = home.segue(arguments).run();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains("segue train similarity"), "{finished:?}");
    }
    assert!(!home.path().join("vectors.npy").exists());
}

#[tokio::test]
async fn vectors_are_exported_with_ids_and_names_and_replace_an_earlier_file() {
    let trained = trained().await;
    let home = &trained.home;
    write(home.path(), "vectors.npy", "before");
    let printed = trained.export("npy", "vectors.npy");
    assert!(printed.contains("vectors.npy\nvectors.tracks.csv"), "{printed}");
    let bytes = std::fs::read(home.path().join("vectors.npy")).expect("a file");
    let array = segue::bundle::decode_array::<f32>(&bytes).expect("an array");
    let names = std::fs::read_to_string(home.path().join("vectors.tracks.csv")).expect("names");
    assert_eq!(names.lines().count(), array.shape[0] + 1);
    assert_eq!(array.shape[1], 8);
    let row: usize = names
        .lines()
        .find_map(|line| line.strip_suffix(",t: so what,So What,Miles Davis,30,true"))
        .expect("the track")
        .parse()
        .expect("a row");

    trained.export("word2vec", "vectors.txt");
    let words = std::fs::read_to_string(home.path().join("vectors.txt")).expect("a file");
    assert_eq!(words.lines().next(), Some(format!("{} 8", array.shape[0]).as_str()));
    let line = words.lines().nth(row + 1).expect("a line");
    let (word, values) = line.split_once(' ').expect("values");
    assert_eq!(word, "t:%20so%20what");
    let values: Vec<f32> = values.split(' ').map(|value| value.parse().expect("a number")).collect();
    assert_eq!(values, array.values[row * 8..(row + 1) * 8]);

    let printed = trained.export("parquet", "tracks.parquet");
    assert!(!printed.contains("tracks.csv"), "{printed}");
    let bytes = std::fs::read(home.path().join("tracks.parquet")).expect("a file");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));

    // Without names nothing has to be asked for them.
    let arguments = ["export", "embeddings", "--without-names", "--format", "npy", "--out", "bare.npy"];
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    home.segue(&arguments).env("DATABASE_URL", nowhere).succeed();
    let names = std::fs::read_to_string(home.path().join("bare.tracks.csv")).expect("names");
    assert!(names.contains(",t: so what,,,30,true"), "{names}");
    let finished =
        home.segue(&["export", "embeddings", "--format", "npy", "--out", "no/where.npy", "--without-names"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("no/where.npy"), "{finished:?}");
}

#[tokio::test]
async fn one_bundle_is_shown_with_settings_data_metrics_and_files() {
    let trained = trained().await;
    let shown = trained.home.segue(&["models", "show", "similarity"]).succeed();
    for words in ["similarity 20", "  current", "playlists", " 150", "dim ", "next_track.hit_at_10", "vectors.npy"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let json = trained.home.segue(&["models", "show", "similarity", "--format", "json"]).succeed();
    let manifest: Value = serde_json::from_str(&json).expect("JSON");
    let version = manifest["version"].as_str().expect("a version");
    let folder = trained.home.models().join("similarity").join(version);
    let stored = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    assert_eq!(serde_json::from_str::<Value>(&stored).expect("JSON"), manifest);

    let named = trained.home.segue(&["models", "show", "similarity", "--bundle", version]).succeed();
    assert_eq!(named, shown);
    let finished = trained.home.segue(&["models", "show", "similarity", "--bundle", "2020"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(version), "{finished:?}");
}
