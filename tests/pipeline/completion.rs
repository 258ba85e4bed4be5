//! Training for completions: repeatable and resumable; its bundle holds what was learned.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use segue::bundle::{CompletionBundle, Kind, Manifest, RANKING_FEATURES, encode_array};
use segue::dataset::Corpus;
use segue::progress::Interrupt;
use segue::recommend::Completion;
use segue::recommend::completion::{CompletionModel, Retriever};
use segue::train::completion::{CompletionSettings, learn, train_completion};
use segue::train::{RunContext, TrainError};
use tokio::sync::OnceCell;

use crate::import;
use crate::support::copy_folder;
use crate::support::database::Database;
use crate::support::slices::{generated, write_slices};
use crate::support::training::{TINY_COMPLETION, arguments, publish_with, train_for_completion};

/// A corpus of 150 generated playlists, and a models folder with a bundle trained on it.
struct Learnt {
    corpus: Corpus,
    models: PathBuf,
    manifest: Manifest,
}

/// Made once for all tests.
async fn learnt() -> &'static Learnt {
    static LEARNT: OnceCell<Learnt> = OnceCell::const_new();
    LEARNT
        .get_or_init(async || {
            // A static is never dropped, so that the folder stays: below the build's own, where `cargo clean` finds it.
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder").keep();
            let corpus = corpus_of(150, &folder).await;
            let models = folder.join("models");
            let manifest = train_for_completion(&corpus, &TINY_COMPLETION, &models);
            Learnt { corpus, models, manifest }
        })
        .await
}

/// A corpus of generated playlists.
async fn corpus_of(playlists: usize, folder: &Path) -> Corpus {
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = write_slices(&folder.join("slices"), &generated(playlists, 500, 5), playlists);
    import(&catalog, folder, &files).await;
    let corpus = Corpus::load(&catalog).await.expect("a corpus");
    catalog.close().await;
    corpus
}

/// SHA-256 of the files of a bundle by name.
fn hashes(manifest: &Manifest) -> BTreeMap<&str, &str> {
    manifest.files.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect()
}

/// Folders of stopped runs.
fn resume_folders(models: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(models.join("completion")).expect("a folder").flatten();
    let is_resume =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".resume-"));
    entries.map(|entry| entry.path()).filter(is_resume).collect()
}

/// Questions of every kind: seeds, a title, both, neither.
fn questions(corpus: &Corpus) -> Vec<Completion> {
    let mut questions = Vec::new();
    for playlist in 0..10 {
        let seeds = corpus.sequences.playlists.row(playlist)[..5].to_vec();
        let title = Some(corpus.titles[playlist].clone());
        for (title, seeds) in [(None, seeds.clone()), (title.clone(), seeds), (title, Vec::new())] {
            questions.push(Completion { title, seeds, limit: 40, ..Completion::default() });
        }
    }
    questions.push(Completion { limit: 40, ..Completion::default() });
    questions
}

fn model(models: &Path) -> CompletionModel {
    CompletionModel::new(CompletionBundle::load_current(models).expect("a bundle").1)
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bundle_to_the_bit_and_another_seed_other_trees() {
    let Learnt { corpus, models, manifest } = learnt().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (again, other) = (folder.path().join("again"), folder.path().join("other"));
    assert_eq!(hashes(&train_for_completion(corpus, &TINY_COMPLETION, &again)), hashes(manifest));
    let flags = [&TINY_COMPLETION[..], &["--seed", "2"]].concat();
    let manifest_of_other = train_for_completion(corpus, &flags, &other);
    assert_eq!(manifest_of_other.seed, 2);
    let trees = "trees.leaves.npy";
    assert_ne!(hashes(&manifest_of_other)[trees], hashes(manifest)[trees], "the seed has no effect");
    let (first, again) = (model(models), model(&again));
    for question in questions(corpus) {
        assert_eq!(first.complete(&question), again.complete(&question));
    }
}

#[tokio::test]
async fn a_training_that_is_stopped_again_and_again_ends_in_the_bundle_of_one_that_ran_through() {
    let Learnt { corpus, manifest, .. } = learnt().await;
    assert_eq!(hashes(&stopped_again_and_again(corpus, &TINY_COMPLETION)), hashes(manifest));
}

#[tokio::test]
async fn so_does_one_of_so_many_playlists_that_those_of_the_ranking_are_held_out_of_one_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = corpus_of(420, folder.path()).await;
    let flags = [&TINY_COMPLETION[..], &["--ranking-playlists", "20"]].concat();
    assert!(arguments::<CompletionSettings>(&flags).holds_out(420), "the case that this is about");
    let models = folder.path().join("models");
    let manifest = train_for_completion(&corpus, &flags, &models);
    assert_eq!(hashes(&stopped_again_and_again(&corpus, &flags)), hashes(&manifest));
    // The index has all playlists, and embeddings of nearly all tracks.
    let (_, bundle) = CompletionBundle::load_current(&models).expect("a bundle");
    assert_eq!(bundle.index.playlists.rows(), 420);
    let rows: Vec<&[f32]> =
        bundle.index.factors.chunks_exact(bundle.index.factors.len() / bundle.index.tracks()).collect();
    let of_none = rows.iter().filter(|row| row.iter().all(|value| *value == 0.0)).count();
    assert!(of_none * 20 < rows.len(), "{of_none} of {} tracks have no factors", rows.len());
    let model = model(&models);
    for question in questions(&corpus) {
        assert_eq!(model.complete(&question).len(), 40);
    }
}

/// Trains, and stops the training again and again until it is done.
fn stopped_again_and_again(corpus: &Corpus, flags: &[&str]) -> Manifest {
    let folder = tempfile::tempdir().expect("a folder");
    let models = folder.path();
    let (mut stops, mut stages) = (0, 0);
    // Each time it gets a little longer, so that it is stopped in every stage on machines of any speed.
    let resumed = loop {
        let interrupt = Interrupt::default();
        let raising = std::thread::spawn({
            let interrupt = interrupt.clone();
            let delay = Duration::from_millis(40 * stops);
            move || {
                std::thread::sleep(delay);
                interrupt.raise();
            }
        });
        let outcome = train_completion(corpus, &arguments(flags), models, 2, &interrupt);
        raising.join().expect("raised");
        match outcome {
            Ok(manifest) => break manifest,
            Err(error) => {
                assert!(matches!(error, TrainError::Stopped | TrainError::Interrupted { .. }), "{error}");
                assert!(error.to_string().contains("run the same command again to continue"), "{error}");
                assert!(!models.join("completion/current").exists(), "nothing is published yet");
                let resume = resume_folders(models);
                assert_eq!(resume.len(), 1);
                stages = stages.max(fs::read_dir(&resume[0]).expect("a folder").count());
                stops += 1;
            }
        }
    };
    assert!(stops >= 2 && stages >= 1, "stopped {stops} times, {stages} stages were kept");
    assert_eq!(resume_folders(models), Vec::<PathBuf>::new());
    resumed
}

#[tokio::test]
async fn a_stage_that_is_damaged_is_done_again() {
    let Learnt { corpus, manifest, .. } = learnt().await;
    let folder = tempfile::tempdir().expect("a folder");
    let stopped = Interrupt::default();
    stopped.raise();
    train_completion(corpus, &arguments(&TINY_COMPLETION), folder.path(), 2, &stopped).expect_err("stopped");
    let resume = resume_folders(folder.path()).pop().expect("a folder to resume from");
    for file in ["fold-0", "fold-1", "ranking"].map(|stage| format!("{stage}.safetensors")) {
        fs::write(resume.join(file), "{ no stage").expect("written");
    }
    assert_eq!(hashes(&train_for_completion(corpus, &TINY_COMPLETION, folder.path())), hashes(manifest));
}

#[tokio::test]
async fn trees_that_could_not_be_walked_are_refused_even_when_their_hashes_are_right() {
    let learnt = learnt().await;
    let (_, bundle) = CompletionBundle::load_current(&learnt.models).expect("whole");
    let trees = &bundle.trees;
    let (count, depth) = (trees.trees(), trees.depth);
    let mut leaves = trees.leaves.to_vec();
    leaves[1] = f32::INFINITY;
    let cases = [
        ("trees.features.npy", encode_array::<u8>(&[count, 0], &[])),
        ("trees.features.npy", encode_array::<u8>(&[0, 0], &[])),
        ("trees.features.npy", encode_array(&[count * depth, 1], &trees.features)),
        ("trees.features.npy", encode_array(&[count * depth], &trees.features)),
        ("trees.features.npy", encode_array(&[count, depth], &vec![u8::MAX; count * depth])),
        ("trees.leaves.npy", encode_array(&[count, 1 << depth], &leaves)),
        ("trees.border_counts.npy", encode_array(&[RANKING_FEATURES], &[u32::MAX; RANKING_FEATURES])),
    ];
    for (file, bytes) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        publish_with(Kind::Completion, &learnt.models, &[(file, bytes)], folder.path());
        let error = CompletionBundle::load_current(folder.path()).expect_err(file).to_string();
        assert!(error.contains("trees."), "{file}: {error}");
    }
}

#[tokio::test]
async fn too_few_playlists_and_settings_that_make_no_sense_are_refused_in_words() {
    let Learnt { corpus, .. } = learnt().await;
    let few = corpus.select(&(0..19).collect::<Vec<u32>>());
    let train = |corpus: &Corpus, flags: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        let flags = [&TINY_COMPLETION[..], flags].concat();
        let outcome = train_completion(corpus, &arguments(&flags), folder.path(), 2, &Interrupt::default());
        assert!(!folder.path().join("completion/current").exists(), "something was published");
        outcome.expect_err("refused").to_string()
    };
    let error = train(&few, &[]);
    assert!(error.contains("20 or more playlists") && error.contains("has 19"), "{error}");
    for (flag, value) in [("--als-alpha", "0"), ("--tree-rate", "NaN"), ("--als-regularization", "inf")] {
        let error = train(corpus, &[flag, value]);
        assert!(error.contains(flag), "{error}");
    }
}

#[tokio::test]
async fn a_bundle_is_read_as_it_was_written_and_says_where_it_comes_from() {
    let Learnt { corpus, models, manifest } = learnt().await;
    let members: Vec<u32> = (0..corpus.sequences.playlists.rows() as u32).collect();
    let trained = learn(corpus, &members, &arguments(&TINY_COMPLETION), RunContext::new(2, &Interrupt::default()));
    let trained = trained.expect("trained");
    let (read, bundle) = CompletionBundle::load_current(models).expect("a bundle");
    assert_eq!((&read, read.kind), (manifest, Kind::Completion));
    assert_eq!(read.data, corpus.sequences.fingerprint);
    assert_eq!(read.parameters["settings"]["trees"], 20);
    assert!(bundle.index == trained.index, "the index that is read is not the one that was learned");
    assert!(bundle.trees == trained.trees, "the trees that are read are not those that were learned");
    for (row, id) in corpus.sequences.track_ids.iter().enumerate() {
        assert_eq!(bundle.vocabulary.id(row as u32), id);
        assert_eq!(bundle.track_names.get(row as u32), corpus.track_names[row]);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_loaded_bundle_answers_on_when_its_folder_is_removed() {
    let Learnt { corpus, models, manifest } = learnt().await;
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(models, folder.path());
    let (kept, removed) = (model(models), model(folder.path()));
    fs::remove_dir_all(folder.path().join("completion").join(&manifest.version)).expect("removed");
    CompletionBundle::load_current(folder.path()).expect_err("it is gone");
    for question in questions(corpus) {
        assert_eq!(removed.complete(&question), kept.complete(&question));
    }
}

#[tokio::test]
async fn a_retriever_alone_keeps_the_rules_and_says_nothing_where_it_knows_nothing() {
    let Learnt { corpus, models, .. } = learnt().await;
    let model = model(models);
    let retrievers = [Retriever::PlaylistKnn, Retriever::ItemKnn, Retriever::Als, Retriever::Title];
    let popular = |question: &Completion| -> Vec<u32> {
        model.popular(&question.forbidden(), question.limit).iter().map(|track| track.row).collect()
    };
    for question in questions(corpus) {
        let rows_of =
            |retriever| model.retrieve(&question, retriever).iter().map(|track| track.row).collect::<Vec<u32>>();
        let lists = retrievers.map(rows_of);
        for (retriever, rows) in retrievers.iter().zip(&lists) {
            let mut distinct = rows.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!((rows.len(), distinct.len()), (40, 40), "{retriever:?}: {rows:?}");
            assert!(!rows.iter().any(|row| question.seeds.contains(row)), "{retriever:?}: {rows:?}");
            let has_a_say = match retriever {
                Retriever::Title => question.title.as_ref().is_some_and(|title| !title.is_empty()),
                _ => !question.seeds.is_empty(),
            };
            assert_eq!(*rows != popular(&question), has_a_say, "{retriever:?}: {question:?}");
        }
        if !question.seeds.is_empty() {
            assert!(lists[0] != lists[1] && lists[1] != lists[2] && lists[0] != lists[2], "{question:?}");
        }
    }
}
