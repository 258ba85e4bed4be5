//! Publishing a bundle.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::array::{Element, encode_array};
use super::{BundleError, FORMAT_VERSION, FileEntry, Kind, Manifest, NewManifest, Vocabulary};
use crate::dataset::Texts;
use crate::math::Csr;

/// Folders of bundles that were never finished begin so.
const UNFINISHED: &str = ".unfinished-";

/// Writes one bundle. Until [`BundleWriter::publish`] returns, nothing that readers see has changed.
#[derive(Debug)]
pub struct BundleWriter {
    kind: Kind,
    kind_folder: PathBuf,
    version: String,
    unfinished: PathBuf,
    files: Vec<FileEntry>,
    /// Held for as long as this process writes bundles of the kind.
    lock: File,
}

impl BundleWriter {
    /// Begins a bundle of `kind` below the folder `models`. Clears away what killed runs left behind.
    ///
    /// # Errors
    ///
    /// [`BundleError::Busy`] when another process writes bundles of this kind.
    pub fn begin(models: &Path, kind: Kind) -> Result<Self, BundleError> {
        let kind_folder = models.join(kind.as_str());
        fs::create_dir_all(&kind_folder).map_err(BundleError::io(&kind_folder))?;
        let lock_path = kind_folder.join(".lock");
        let lock = File::create(&lock_path).map_err(BundleError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BundleError::Busy { folder: kind_folder }),
            Err(fs::TryLockError::Error(error)) => return Err(BundleError::io(&lock_path)(error)),
        }
        for entry in fs::read_dir(&kind_folder).map_err(BundleError::io(&kind_folder))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).map_err(BundleError::io(&entry.path()))?;
            }
        }
        let format = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
        let version = OffsetDateTime::now_utc().format(format).map_err(|error| {
            BundleError::file(&kind_folder, format!("no version can be made from the time: {error}"))
        })?;
        let unfinished = kind_folder.join(format!("{UNFINISHED}{version}"));
        fs::create_dir(&unfinished).map_err(BundleError::io(&unfinished))?;
        Ok(Self { kind, kind_folder, version, unfinished, files: Vec::new(), lock })
    }

    /// The version that is being written.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Adds a file.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.unfinished.join(name);
        let mut file = File::create_new(&path).map_err(BundleError::io(&path))?;
        file.write_all(bytes).map_err(BundleError::io(&path))?;
        file.sync_all().map_err(BundleError::io(&path))?;
        self.add_entry(name, bytes);
        Ok(())
    }

    /// Adds an array.
    pub fn write_array<T: Element>(&mut self, name: &str, shape: &[usize], values: &[T]) -> Result<(), BundleError> {
        self.write(name, &encode_array(shape, values))
    }

    /// Adds an array of one dimension.
    pub fn write_values<T: Element>(&mut self, name: &str, values: &[T]) -> Result<(), BundleError> {
        self.write_array(name, &[values.len()], values)
    }

    /// Adds a JSON file.
    pub(super) fn write_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), BundleError> {
        let json = serde_json::to_vec(value).map_err(|error| BundleError::file(Path::new(name), error.to_string()))?;
        self.write(name, &json)
    }

    /// Adds the ids of rows: all one after another, and an array of where each begins.
    pub(super) fn write_vocabulary(&mut self, name: &str, vocabulary: &Vocabulary) -> Result<(), BundleError> {
        let (text, offsets) = vocabulary.parts();
        self.write(&format!("{name}.utf8"), text.as_bytes())?;
        self.write_values(&format!("{name}.offsets.npy"), offsets)
    }

    /// Adds lists of numbers, as two arrays.
    pub fn write_csr(&mut self, name: &str, lists: &Csr) -> Result<(), BundleError> {
        self.write_values(&format!("{name}.offsets.npy"), lists.offsets())?;
        self.write_values(&format!("{name}.items.npy"), lists.items())
    }

    /// Adds texts, all one after another, and an array of where each begins.
    pub fn write_texts(&mut self, name: &str, texts: &Texts) -> Result<(), BundleError> {
        let (bytes, offsets) = texts.parts();
        self.write(&format!("{name}.utf8"), bytes)?;
        self.write_values(&format!("{name}.offsets.npy"), offsets)
    }

    /// Adds a file that `write` writes by itself at the path that it is given.
    pub fn write_with(
        &mut self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), BundleError> {
        let path = self.unfinished.join(name);
        write(&path).map_err(|reason| BundleError::file(&path, reason))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(BundleError::io(&path))?;
        let bytes = fs::read(&path).map_err(BundleError::io(&path))?;
        self.add_entry(name, &bytes);
        Ok(())
    }

    fn add_entry(&mut self, name: &str, bytes: &[u8]) {
        let sha256 = hex::encode(Sha256::digest(bytes));
        self.files.push(FileEntry { name: name.to_owned(), bytes: bytes.len() as u64, sha256 });
    }

    /// Writes the manifest, gives the folder its name, and makes it the current version.
    pub fn publish(mut self, new: NewManifest) -> Result<Manifest, BundleError> {
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            kind: self.kind,
            version: self.version.clone(),
            segue_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: env!("SEGUE_GIT_COMMIT").to_owned(),
            created_at: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            seed: new.seed,
            parameters: new.parameters,
            data: new.data,
            metrics: new.metrics,
            files: std::mem::take(&mut self.files),
        };
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| BundleError::file(&self.unfinished, error.to_string()))?;
        self.write("manifest.json", &json)?;
        sync_folder(&self.unfinished)?;
        let folder = self.kind_folder.join(&self.version);
        fs::rename(&self.unfinished, &folder).map_err(BundleError::io(&folder))?;
        sync_folder(&self.kind_folder)?;
        point_current_at(&self.kind_folder, &self.version)?;
        Ok(manifest)
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        // After a failure; once published, the folder has another name.
        let _ = fs::remove_dir_all(&self.unfinished);
        // Closing the file is not enough: a process that another thread is just starting holds it open for a moment.
        let _ = self.lock.unlock();
    }
}

fn sync_folder(folder: &Path) -> Result<(), BundleError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(BundleError::io(folder))
}

/// Makes a published version the current one; safe while others publish or activate.
pub fn activate(models: &Path, kind: Kind, version: &str) -> Result<(), BundleError> {
    point_current_at(&models.join(kind.as_str()), version)
}

/// Swaps `current` by rename, which readers see as happening at once.
fn point_current_at(kind_folder: &Path, version: &str) -> Result<(), BundleError> {
    // A name of its own: a trainer and a server may do this at the same time.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let link = kind_folder.join(format!(".current.{}.{number}", std::process::id()));
    let _ = fs::remove_file(&link); // left by a killed run
    symlink(version, &link).map_err(BundleError::io(&link))?;
    fs::rename(&link, kind_folder.join("current")).map_err(BundleError::io(&link))?;
    sync_folder(kind_folder)
}
