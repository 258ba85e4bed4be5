//! Reading a bundle: a whole one, and all kinds of damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use segue::bundle::{BundleError, Kind, Manifest, SimilarityBundle, encode_array};
use serde_json::{Value, json};

use crate::support::copy_folder;
use crate::support::training::publish_with;
use crate::trained;

/// Loads the current bundle; gives its manifest or the error in words.
fn load(models: &Path) -> Result<Manifest, String> {
    SimilarityBundle::load_current(models).map(|(manifest, _)| manifest).map_err(|error| error.to_string())
}

/// A models folder of its own with the trained bundle in it.
async fn models() -> (tempfile::TempDir, Manifest) {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(&trained().await.models, folder.path());
    let (manifest, _) = SimilarityBundle::load_current(folder.path()).expect("a whole bundle");
    (folder, manifest)
}

/// That the current bundle is refused, naming this file.
#[track_caller]
fn assert_refused(models: &Path, file: &Path, reason: &str) {
    let error = load(models).expect_err("damaged");
    assert!(error.contains(&file.display().to_string()), "{error} does not name {}", file.display());
    assert!(error.contains(reason), "{error} does not say {reason:?}");
}

fn current(models: &Path, manifest: &Manifest) -> PathBuf {
    models.join("similarity").join(&manifest.version)
}

/// Changes the manifest, and gives its path.
fn with_manifest(folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("JSON");
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).expect("written");
    path
}

#[tokio::test]
async fn a_bundle_says_what_it_holds_and_where_it_comes_from() {
    let (folder, manifest) = models().await;
    assert_eq!((manifest.format_version, manifest.kind.as_str(), manifest.seed), (1, "similarity", 1));
    assert_eq!(manifest.parameters["settings"]["dim"], 8);
    assert_eq!(manifest.data, trained().await.corpus.sequences.fingerprint);
    assert_eq!(manifest.data.playlists, 120);
    let mut listed: Vec<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
    listed.push("manifest.json".to_owned());
    listed.sort_unstable();
    let entries = fs::read_dir(current(folder.path(), &manifest)).expect("a folder").flatten();
    let mut there: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    there.sort_unstable();
    assert_eq!(there, listed);

    let (_, bundle) = SimilarityBundle::load_current(folder.path()).expect("whole");
    assert_eq!(bundle.vocabulary.len() as u64, manifest.data.tracks);
    assert_eq!(bundle.vectors.len(), bundle.vocabulary.len() * 8);
    for vector in bundle.vectors.chunks_exact(8) {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        // Of length 1 up to single precision, or zero where nothing is known.
        assert!((length - 1.0).abs() < 1e-5 || length == 0.0, "{length}");
    }
    assert!(bundle.counts.is_sorted_by(|left, right| left >= right));
}

#[tokio::test]
async fn one_flipped_byte_in_any_file_is_found_and_the_file_named() {
    let (folder, manifest) = models().await;
    assert!(manifest.files.len() >= 6, "{:?}", manifest.files);
    for entry in &manifest.files {
        let path = current(folder.path(), &manifest).join(&entry.name);
        let whole = fs::read(&path).expect("a file");
        for position in [0, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            fs::write(&path, flipped).expect("written");
            assert_refused(folder.path(), &path, "SHA-256");
        }
        fs::write(&path, whole).expect("written");
        load(folder.path()).expect("whole again");
    }
}

#[tokio::test]
async fn a_truncated_lengthened_or_missing_file_is_found_and_named() {
    let (folder, manifest) = models().await;
    for entry in &manifest.files {
        let path = current(folder.path(), &manifest).join(&entry.name);
        let whole = fs::read(&path).expect("a file");
        for length in [0, whole.len() - 1] {
            fs::write(&path, &whole[..length]).expect("written");
            assert_refused(folder.path(), &path, &format!("{length} bytes"));
        }
        fs::write(&path, [whole.as_slice(), b"more"].concat()).expect("written");
        assert_refused(folder.path(), &path, &format!("{} bytes", whole.len() + 4));
        fs::remove_file(&path).expect("removed");
        assert_refused(folder.path(), &path, "No such file");
        fs::write(&path, whole).expect("written");
    }
    load(folder.path()).expect("whole again");
}

#[tokio::test]
async fn a_manifest_that_is_missing_cut_or_of_another_format_is_refused() {
    let (folder, manifest) = models().await;
    let bundle = current(folder.path(), &manifest);
    let path = bundle.join("manifest.json");
    let whole = fs::read(&path).expect("a manifest");
    fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert_refused(folder.path(), &path, "EOF");
    fs::write(&path, "").expect("written");
    assert_refused(folder.path(), &path, "EOF");
    fs::write(&path, "[]").expect("written");
    assert_refused(folder.path(), &path, "format version none");
    fs::remove_file(&path).expect("removed");
    assert_refused(folder.path(), &path, "No such file");
    for version in [0, 2, 999] {
        fs::write(&path, &whole).expect("written");
        // Whatever else another format may look like.
        with_manifest(&bundle, |manifest| *manifest = json!({"format_version": version, "kind": "telepathy"}));
        assert_refused(folder.path(), &path, &format!("format version {version}, this program reads 1"));
    }
}

#[tokio::test]
async fn a_manifest_that_names_a_file_outside_its_folder_is_refused() {
    let (folder, manifest) = models().await;
    let bundle = current(folder.path(), &manifest);
    for name in ["../secret", "/etc/passwd", "..", ".", "a/b", "..\\secret"] {
        let path = with_manifest(&bundle, |manifest| {
            let mut file = manifest["files"][0].clone();
            file["name"] = json!(name);
            manifest["files"] = json!([file]);
        });
        assert_refused(folder.path(), &path, "outside its folder");
    }
}

#[tokio::test]
async fn a_manifest_of_another_kind_or_without_a_needed_file_is_refused() {
    let (folder, manifest) = models().await;
    let bundle = current(folder.path(), &manifest);
    let path = bundle.join("manifest.json");
    let whole = fs::read(&path).expect("a manifest");
    with_manifest(&bundle, |manifest| manifest["kind"] = json!("telepathy"));
    assert_refused(folder.path(), &path, "telepathy");
    for needed in ["vectors.npy", "counts.npy", "candidates.npy", "track_ids.utf8", "track_ids.offsets.npy"] {
        fs::write(&path, &whole).expect("written");
        with_manifest(&bundle, |manifest| {
            manifest["files"].as_array_mut().expect("files").retain(|file| file["name"] != needed);
        });
        assert_refused(folder.path(), &bundle.join(needed), "does not list it");
    }
}

#[tokio::test]
async fn arrays_that_do_not_fit_together_are_refused_even_when_their_hashes_are_right() {
    let (source, manifest) = models().await;
    let (_, bundle) = SimilarityBundle::load_current(source.path()).expect("whole");
    let rows = bundle.counts.len();
    let with = |position: usize, value: f32| {
        let mut vectors = bundle.vectors.clone();
        vectors[position] = value;
        encode_array(&[rows, 8], &vectors)
    };
    let ids = |ids: &[&str]| {
        let offsets: Vec<u64> = (0..=ids.len()).map(|end| ids[..end].concat().len() as u64).collect();
        vec![
            ("track_ids.utf8", ids.concat().into_bytes()),
            ("track_ids.offsets.npy", encode_array(&[offsets.len()], &offsets)),
        ]
    };
    let twice: Vec<&str> = (0..rows).map(|_| "twice").collect();
    let cases = [
        ("counts.npy", vec![("counts.npy", encode_array(&[rows - 1], &bundle.counts[1..]))]),
        ("counts.npy", vec![("counts.npy", encode_array(&[rows], &vec![1.0f32; rows]))]),
        ("candidates.npy", vec![("candidates.npy", encode_array(&[1], &[rows as u32 + 1]))]),
        ("candidates.npy", vec![("candidates.npy", encode_array(&[2], &[1u32, 2]))]),
        ("vectors.npy", vec![("vectors.npy", with(3, f32::NAN))]),
        ("vectors.npy", vec![("vectors.npy", with(3, f32::INFINITY))]),
        ("vectors.npy", vec![("vectors.npy", encode_array(&[rows * 8], &bundle.vectors))]),
        ("vectors.npy", vec![("vectors.npy", b"no array at all".to_vec())]),
        ("counts.npy", vec![("vectors.npy", encode_array(&[rows - 1, 8], &bundle.vectors[8..]))]),
        ("track_ids", ids(&["one", "two"])),
        ("track_ids", ids(&twice)),
        ("track_ids.utf8", vec![("track_ids.utf8", vec![0xff; 10])]),
    ];
    for (file, files) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        publish_with(Kind::Similarity, source.path(), &files, folder.path());
        let error = load(folder.path()).expect_err(file);
        assert!(error.contains(file), "{error} does not name {file}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    publish_with(Kind::Similarity, source.path(), &[], folder.path());
    assert_eq!(load(folder.path()).expect("whole").data, manifest.data);
}

#[tokio::test]
async fn vectors_of_length_none_are_refused_as_there_is_nothing_to_compare() {
    let (source, manifest) = models().await;
    let folder = tempfile::tempdir().expect("a folder");
    let none = encode_array::<f32>(&[manifest.data.tracks as usize, 0], &[]);
    publish_with(Kind::Similarity, source.path(), &[("vectors.npy", none)], folder.path());
    let error = load(folder.path()).expect_err("refused");
    assert!(error.contains("vectors.npy"), "{error}");
}

#[tokio::test]
async fn where_nothing_was_published_the_error_says_what_publishes() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = SimilarityBundle::load_current(folder.path()).expect_err("nothing there");
    assert!(matches!(error, BundleError::None { .. }), "{error}");
    assert!(error.to_string().contains("segue train similarity"), "{error}");
}
