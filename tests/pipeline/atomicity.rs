//! Publishing: whatever happens on the way, the last good bundle stays current.

use std::fs;
use std::path::Path;

use segue::bundle::{BundleError, BundleWriter, Kind, SimilarityBundle, current_version, versions};
use segue::dataset::Corpus;

use crate::support::copy_folder;
use crate::support::database::Database;
use crate::support::program::{Home, PATIENCE};
use crate::support::slices::{generated, write_slices};
use crate::support::training::{TINY, publish_again, train};
use crate::support::wait_for;
use crate::{import, trained};

fn unfinished(models: &Path) -> Vec<String> {
    let entries = fs::read_dir(models.join("similarity")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".unfinished-")).collect()
}

fn current(models: &Path) -> String {
    SimilarityBundle::load_current(models).expect("a whole bundle").0.version
}

#[tokio::test]
async fn a_bundle_that_was_begun_and_never_finished_changes_nothing_that_readers_see() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(&trained().await.models, folder.path());
    let old = current(folder.path());
    let mut writer = BundleWriter::begin(folder.path(), Kind::Similarity).expect("a writer");
    writer.write("vectors.npy", b"half of what").expect("written");
    writer.write("counts.npy", b"").expect("written");
    assert_eq!(unfinished(folder.path()).len(), 1);
    std::mem::forget(writer); // as a kill would leave it
    assert_eq!(unfinished(folder.path()).len(), 1);
    assert_eq!(current(folder.path()), old);
    assert_eq!(versions(folder.path(), Kind::Similarity), [old]);
}

#[tokio::test]
async fn a_writer_that_gives_up_takes_its_files_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = BundleWriter::begin(folder.path(), Kind::Similarity).expect("a writer");
    writer.write("vectors.npy", b"half of what").expect("written");
    drop(writer);
    assert_eq!(unfinished(folder.path()), Vec::<String>::new());
    assert_eq!(current_version(folder.path(), Kind::Similarity), None);
}

#[tokio::test]
async fn two_writers_at_once_are_one_too_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = BundleWriter::begin(folder.path(), Kind::Similarity).expect("a writer");
    let error = BundleWriter::begin(folder.path(), Kind::Similarity).expect_err("busy");
    assert!(matches!(error, BundleError::Busy { .. }), "{error}");
    assert_eq!(unfinished(folder.path()).len(), 1, "the first one's files are left alone");
    drop(writer);
    BundleWriter::begin(folder.path(), Kind::Similarity).expect("free again");
}

#[tokio::test]
async fn a_kill_between_naming_a_bundle_and_making_it_current_leaves_the_old_one_current() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(&trained().await.models, folder.path());
    let old = current(folder.path());
    let kind = folder.path().join("similarity");
    let new = publish_again(folder.path(), folder.path()).version;
    // Back to the moment before: the folder has its name, the new link is made and not renamed.
    fs::remove_file(kind.join("current")).expect("removed");
    std::os::unix::fs::symlink(&old, kind.join("current")).expect("a link");
    std::os::unix::fs::symlink(&new, kind.join(".current.new")).expect("a link");
    assert_eq!(current(folder.path()), old);
    let next = publish_again(folder.path(), folder.path()).version;
    assert_eq!(current(folder.path()), next);
    assert_eq!(versions(folder.path(), Kind::Similarity), [next, new, old]);
}

#[tokio::test]
async fn a_training_that_is_killed_leaves_the_old_bundle_current_and_the_next_one_clears_up_after_it() {
    let home = Home::new();
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = write_slices(&home.path().join("slices"), &generated(120, 400, 5), 120);
    import(&catalog, home.path(), &files).await;
    let corpus = Corpus::load(&catalog).await.expect("a corpus");
    catalog.close().await;
    let models = home.models();
    let old = train(&corpus, &TINY, &models).version;

    let endless = ["--dim", "8", "--epochs", "100000"];
    let mut command = vec!["train", "similarity", "--database-url", database.url(), "--threads", "1"];
    command.extend(endless);
    let mut running = home.segue(&command).start();
    wait_for("an unfinished bundle", PATIENCE, || unfinished(&models).pop());
    assert!(running.is_running());

    // While it runs, no one else may publish.
    let refused = home.segue(&["train", "similarity", "--database-url", database.url(), "--epochs", "1"]).run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another process"), "{refused:?}");

    assert_eq!(running.kill().signal, Some(9));
    assert_eq!(unfinished(&models).len(), 1);
    assert_eq!(current(&models), old);
    let new = train(&corpus, &TINY, &models).version;
    assert_eq!(unfinished(&models), Vec::<String>::new());
    assert_eq!(current(&models), new);
    assert_eq!(versions(&models, Kind::Similarity), [new, old]);
}
