//! Training: repeatable, resumable, and better than guessing.

use std::path::Path;
use std::time::Duration;

use crate::support::training::train_until;
use segue::bundle::Manifest;
use segue::dataset::Sequences;
use segue::progress::Interrupt;
use segue::train::TrainError;
use segue::train::similarity::{NextTracksSettings, train_similarity};
use tokio::sync::OnceCell;

use crate::support::database::Database;
use crate::support::program::{Home, PATIENCE, text};
use crate::support::slices::{generated, write_slices};
use crate::support::training::{TINY, bundle_file, settings, train};
use crate::support::wait_for;
use crate::{corpus_of, import, trained};

/// Long enough to be stopped in the middle, short enough to be run to the end.
const LONG: [&str; 8] = ["--dim", "8", "--epochs", "100", "--batch", "1024", "--subsample", "0.001"];

/// The files of a bundle that depend on what was learnt.
fn learnt(models: &Path, manifest: &Manifest) -> Vec<(String, Vec<u8>)> {
    let names = manifest.files.iter().map(|file| file.name.clone());
    names.map(|name| (name.clone(), bundle_file(models, &manifest.version, &name))).collect()
}

fn resume_folders(models: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(models.join("similarity")).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".resume-")).collect()
}

/// What a training by [`LONG`] that no one stops learns, on one thread.
async fn ran_through() -> &'static [(String, Vec<u8>)] {
    static LEARNT: OnceCell<Vec<(String, Vec<u8>)>> = OnceCell::const_new();
    LEARNT
        .get_or_init(async || {
            let folder = tempfile::tempdir().expect("a folder");
            let manifest = train(&trained().await.corpus, &LONG, folder.path());
            learnt(folder.path(), &manifest)
        })
        .await
}

fn assert_same(one: &[(String, Vec<u8>)], other: &[(String, Vec<u8>)]) {
    assert_eq!(one.len(), other.len());
    for ((name, bytes), (other_name, other_bytes)) in one.iter().zip(other) {
        assert_eq!(name, other_name);
        assert!(bytes == other_bytes, "{name} differs");
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_vectors_to_the_bit_and_another_seed_others() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    for architecture in ["sgns", "cosine"] {
        let run = |seed: &str, threads: usize, name: &str| {
            let models = folder.path().join(format!("{architecture}-{name}"));
            let flags = [&TINY[..], &["--seed", seed, "--architecture", architecture]].concat();
            let manifest = train_until(corpus, &settings(&flags), &models, threads, &Interrupt::default());
            let manifest = manifest.expect("trained");
            assert_eq!(manifest.seed.to_string(), seed);
            learnt(&models, &manifest)
        };
        let first = run("7", 2, "first");
        assert_same(&first, &run("7", 2, "again"));
        let vectors = |files: &[(String, Vec<u8>)]| {
            files.iter().find(|(name, _)| name == "vectors.npy").expect("vectors").1.clone()
        };
        assert!(vectors(&first) != vectors(&run("8", 2, "other")), "the seed has no effect");
    }
}

#[tokio::test]
async fn a_catalog_imported_in_another_order_is_the_same_to_learn_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = write_slices(&folder.path().join("slices"), &generated(60, 400, 9), 20);
    let mut read = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        let catalog = database.catalog().await;
        import(&catalog, folder.path(), &files).await;
        read.push(Sequences::load(&catalog).await.expect("sequences"));
        catalog.close().await;
        files.reverse();
    }
    assert_eq!(read[0].fingerprint.sha256, read[1].fingerprint.sha256);
    assert_eq!((&read[0].track_ids, &read[0].playlists), (&read[1].track_ids, &read[1].playlists));
}

#[tokio::test]
async fn a_training_that_is_stopped_twice_and_resumed_ends_in_the_vectors_of_one_that_ran_through() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    let models = folder.path().join("stopped");
    let stop_after = |delay: Duration| {
        let interrupt = Interrupt::default();
        if delay.is_zero() {
            interrupt.raise();
        }
        let raising = std::thread::spawn({
            let interrupt = interrupt.clone();
            move || {
                std::thread::sleep(delay);
                interrupt.raise();
            }
        });
        let error = train_until(corpus, &settings(&LONG), &models, 1, &interrupt).expect_err("it is stopped");
        raising.join().expect("raised");
        assert!(error.to_string().contains("run the same command again to continue"), "{error}");
        let TrainError::Interrupted { epoch, epochs: 100 } = error else { panic!("{error}") };
        assert_eq!(resume_folders(&models).len(), 1);
        epoch
    };
    // Stopped again and again, it comes further each time; how far in one go depends on the machine.
    let stop_after_epoch = |reached: usize| {
        let (mut epoch, mut delay) = (reached, Duration::from_millis(50));
        while epoch <= reached {
            delay *= 2;
            epoch = stop_after(delay);
        }
        epoch
    };
    let first = stop_after_epoch(1);
    // Stopped before the first batch, it says how far it had come: it does not start over.
    assert_eq!(stop_after(Duration::ZERO), first);
    stop_after_epoch(first);

    let manifest = train(corpus, &LONG, &models);
    assert_same(&learnt(&models, &manifest), ran_through().await);
    assert_eq!(resume_folders(&models), Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_file_to_resume_from_is_named_or_passed_over() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    let stopped = Interrupt::default();
    stopped.raise();
    for damage in [&b""[..], b"no tensors in here"] {
        train_until(corpus, &settings(&TINY), folder.path(), 1, &stopped).expect_err("stopped");
        let file = resume_folders(folder.path()).pop().expect("a folder to resume from");
        let path = folder.path().join("similarity").join(&file).join("vectors.safetensors");
        std::fs::write(&path, damage).expect("written");
        if let Err(error) = train_until(corpus, &settings(&TINY), folder.path(), 1, &Interrupt::default()) {
            assert!(error.to_string().contains(&file), "{error} does not say which file to delete");
            std::fs::remove_file(path).expect("removed");
        }
    }
}

#[tokio::test]
async fn a_training_with_other_settings_does_not_go_on_from_a_stopped_one() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    let models = folder.path().join("models");
    let stopped = Interrupt::default();
    stopped.raise();
    train_until(corpus, &settings(&LONG), &models, 1, &stopped).expect_err("stopped");
    assert_eq!(resume_folders(&models).len(), 1);
    let straight = folder.path().join("straight");
    let expected = learnt(&straight, &train(corpus, &TINY, &straight));
    let manifest = train(corpus, &TINY, &models);
    assert_same(&learnt(&models, &manifest), &expected);
}

#[tokio::test]
async fn a_training_does_not_take_over_lists_of_other_settings() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    let stopped = Interrupt::default();
    stopped.raise();
    for next_tracks in [10, 20] {
        let next = NextTracksSettings { next_tracks, next_trees: 5 };
        train_similarity(corpus, &settings(&TINY), &next, folder.path(), 1, &stopped).expect_err("stopped");
    }
    assert_eq!(resume_folders(folder.path()).len(), 2);
}

#[tokio::test]
async fn ctrl_c_stops_a_training_and_the_same_command_goes_on_from_there() {
    let home = Home::new();
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = write_slices(&home.path().join("slices"), &generated(120, 400, 5), 120);
    import(&catalog, home.path(), &files).await;
    catalog.close().await;
    let mut command = vec!["train", "similarity", "--database-url", database.url(), "--threads", "1"];
    command.extend(LONG);
    command.extend(["--next-tracks", "10", "--next-trees", "5"]);
    let running = home.segue(&command).start();
    let kind = home.models().join("similarity");
    wait_for("the training to begin", PATIENCE, || kind.exists().then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    running.interrupt();
    let stopped = running.finish();
    assert_eq!(stopped.code, Some(130), "{stopped:?}");
    assert!(stopped.stderr.contains("run the same command again to continue"), "{stopped:?}");
    assert_eq!(resume_folders(&home.models()).len(), 1);
    assert!(!kind.join("current").exists(), "nothing is published yet");

    let resumed = home.segue(&command).run();
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.stderr.contains("resuming"), "{resumed:?}");
    let version = std::fs::read_link(kind.join("current")).expect("a version");
    for (name, bytes) in ran_through().await {
        assert!(&bundle_file(&home.models(), text(&version), name) == bytes, "{name} differs");
    }
}

#[tokio::test]
async fn what_a_training_measures_is_clearly_better_than_popularity_and_guessing() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = corpus_of(folder.path(), 800, 1_600, 21).await;
    let flags = ["--dim", "16", "--epochs", "12", "--batch", "1024", "--subsample", "0.001", "--learning-rate", "0.02"];
    let manifest = train(&corpus, &flags, &folder.path().join("models"));
    let metrics = &manifest.metrics["next_track"];
    let model = metrics["hit_at_10"].as_f64().expect("a number");

    // The ten tracks placed most often in what was learnt from, for every query but its own track.
    let held_out = corpus.sequences.hold_out_last(2);
    let mut popular: Vec<u32> = (0..held_out.vocabulary as u32).collect();
    popular.sort_by_key(|&row| std::cmp::Reverse(held_out.counts[row as usize]));
    let hits = held_out
        .queries
        .iter()
        .filter(|query| popular.iter().filter(|&&row| row != query.query).take(10).any(|&row| row == query.target));
    let queries = held_out.queries.len();
    let popularity = hits.count() as f64 / queries as f64;
    let guessing = 10.0 / (held_out.vocabulary - 1) as f64;
    println!("Hit@10 of {queries} queries: model {model:.3}, popularity {popularity:.3}, guessing {guessing:.3}");
    assert_eq!(metrics["queries"], queries);
    assert!(queries >= 700, "{queries}");
    // A share of two hundredths of 700 queries has a standard error of half a hundredth.
    // Generated popularity is as skewed as real playlists': the ten most popular tracks alone hit one query in twenty.
    assert!(model > 2.5 * popularity, "model {model:.3}, popularity {popularity:.3}");
    assert!(model > 10.0 * guessing, "model {model:.3}, guessing {guessing:.3}");
}

#[tokio::test]
async fn settings_that_make_no_sense_and_too_little_data_are_refused_in_words() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    for (flags, word) in [
        (vec!["--learning-rate", "0"], "--learning-rate"),
        (vec!["--learning-rate", "inf"], "--learning-rate"),
        (vec!["--subsample", "NaN"], "--subsample"),
        (vec!["--alpha", "50"], "--alpha"),
        (vec!["--min-count", "1000000"], "1000000 or more placements"),
    ] {
        let outcome = train_until(corpus, &settings(&flags), folder.path(), 1, &Interrupt::default());
        let error = outcome.expect_err("refused").to_string();
        assert!(error.contains(word), "{flags:?}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was written");
}

#[tokio::test]
async fn a_learning_rate_that_breaks_the_network_is_said_so_and_nothing_is_published() {
    let corpus = &trained().await.corpus;
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [&TINY[..], &["--learning-rate", "1e38"]].concat();
    let outcome = train_until(corpus, &settings(&flags), folder.path(), 1, &Interrupt::default());
    let error = outcome.expect_err("refused").to_string();
    assert!(error.contains("--learning-rate"), "{error}");
    assert!(!folder.path().join("similarity/current").exists());
}
