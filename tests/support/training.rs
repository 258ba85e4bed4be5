//! Models small enough to train within a test.

use std::path::Path;

use clap::FromArgMatches;
use segue::bundle::{
    BundleError, BundleFolder, BundleWriter, CompletionBundle, Kind, Manifest, NewManifest, SimilarityBundle,
};
use segue::dataset::Corpus;
use segue::progress::Interrupt;
use segue::train::TrainError;
use segue::train::completion::train_completion;
use segue::train::similarity::{NextTracksSettings, SimilaritySettings, train_similarity};
use serde_json::Value;

/// Flags of a tiny model.
pub const TINY: [&str; 6] = ["--dim", "8", "--epochs", "2", "--batch", "1024"];

/// Flags of a completion model that is trained in about a second.
#[rustfmt::skip]
pub const TINY_COMPLETION: [&str; 22] = [
    "--factors", "8", "--als-iterations", "3", "--folds", "2", "--maskings", "2", "--trees", "20", "--order-trees", "10",
    "--neumf-latent", "4", "--neumf-dense", "16,8", "--neumf-epochs", "1", "--neumf-negatives", "2",
    "--neumf-clusters", "8",
];

/// Settings as the command line has them.
pub fn settings(flags: &[&str]) -> SimilaritySettings {
    arguments(flags)
}

/// Arguments of the command line, defaults where no flag is given.
pub fn arguments<T: clap::Args + FromArgMatches>(flags: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("test"));
    let matches = command.get_matches_from([&["test"], flags].concat());
    T::from_arg_matches(&matches).expect("arguments")
}

/// Trains to the end on one thread.
pub fn train(corpus: &Corpus, flags: &[&str], models: &Path) -> Manifest {
    train_until(corpus, &settings(flags), models, 1, &Interrupt::default()).expect("trained")
}

/// Trains with short lists of what comes next, until `interrupt`.
pub fn train_until(
    corpus: &Corpus,
    settings: &SimilaritySettings,
    models: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    let next = NextTracksSettings { next_tracks: 10, next_trees: 5 };
    train_similarity(corpus, settings, &next, models, threads, interrupt)
}

/// Trains a completion model to the end.
pub fn train_for_completion(corpus: &Corpus, flags: &[&str], models: &Path) -> Manifest {
    train_completion(corpus, &arguments(flags), models, 2, &Interrupt::default()).expect("trained")
}

/// A file of a similarity bundle.
pub fn bundle_file(models: &Path, version: &str, name: &str) -> Vec<u8> {
    std::fs::read(models.join("similarity").join(version).join(name)).expect("a file of a bundle")
}

/// Publishes the current bundle of `from` once more in `models`, under a new version.
pub fn publish_again(from: &Path, models: &Path) -> Manifest {
    let (manifest, bundle) = SimilarityBundle::load_current(from).expect("a bundle");
    publish(&bundle, &manifest, models)
}

/// Publishes the current completion bundle of `from` once more in `models`, under a new version.
pub fn publish_completion_again(from: &Path, models: &Path) -> Manifest {
    let (manifest, bundle) = CompletionBundle::load_current(from).expect("a bundle");
    let mut writer = BundleWriter::begin(models, Kind::Completion).expect("a writer");
    bundle.write(&mut writer).expect("written");
    writer.publish(as_before(&manifest)).expect("published")
}

/// Publishes the current bundle in `from` once more in `models`, with other content in some files, and sizes and hashes to
/// go with it.
pub fn publish_with(kind: Kind, from: &Path, files: &[(&str, Vec<u8>)], models: &Path) {
    let folder = BundleFolder::open_current(from, kind).expect("a bundle");
    let mut writer = BundleWriter::begin(models, kind).expect("a writer");
    for entry in &folder.manifest().files {
        let other = files.iter().find(|(name, _)| *name == entry.name).map(|(_, bytes)| bytes.clone());
        let bytes = other.unwrap_or_else(|| std::fs::read(folder.path(&entry.name)).expect("a file of a bundle"));
        writer.write(&entry.name, &bytes).expect("written");
    }
    writer.publish(as_before(folder.manifest())).expect("published");
}

/// Publishes the current bundle in `from` with each change in turn: a file, a path into its JSON, and the value there. Returns
/// what `load` says of it.
pub fn refusals<T: std::fmt::Debug>(
    kind: Kind,
    from: &Path,
    changes: &[(&str, &str, Value)],
    load: impl Fn(&Path) -> Result<T, BundleError>,
) -> Vec<String> {
    let folder = BundleFolder::open_current(from, kind).expect("a bundle");
    let refuse = |(file, path, value): &(&str, &str, Value)| {
        let bytes = std::fs::read(folder.path(file)).expect("a file of a bundle");
        let mut json: Value = serde_json::from_slice(&bytes).expect("JSON");
        *json.pointer_mut(path).expect(path) = value.clone();
        let models = tempfile::tempdir().expect("a folder");
        publish_with(kind, from, &[(*file, json.to_string().into_bytes())], models.path());
        load(models.path()).expect_err(path).to_string()
    };
    changes.iter().map(refuse).collect()
}

/// What a manifest says, to be said once more.
pub fn as_before(manifest: &Manifest) -> NewManifest {
    NewManifest {
        seed: manifest.seed,
        parameters: manifest.parameters.clone(),
        data: manifest.data.clone(),
        metrics: manifest.metrics.clone(),
    }
}

/// Publishes a bundle that says of itself what `manifest` says.
pub fn publish(bundle: &SimilarityBundle, manifest: &Manifest, models: &Path) -> Manifest {
    let mut writer = BundleWriter::begin(models, Kind::Similarity).expect("a writer");
    bundle
        .write(&mut writer, |path| std::fs::write(path, "no tensors").map_err(|error| error.to_string()))
        .expect("written");
    writer.publish(as_before(manifest)).expect("published")
}
