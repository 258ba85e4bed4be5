//! Reading a bundle, never without checking it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{BundleError, FORMAT_VERSION, FileEntry, Kind, Manifest, Vocabulary, array};
use crate::dataset::Texts;
use crate::math::{Array, Csr, Values};

/// A bundle's folder with its manifest read. Files are checked as they are read.
#[derive(Debug)]
pub struct BundleFolder {
    folder: PathBuf,
    manifest: Manifest,
}

/// The version that `current` points to, if there is one.
pub fn current_version(models: &Path, kind: Kind) -> Option<String> {
    let target = fs::read_link(models.join(kind.as_str()).join("current")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Versions of a kind, newest first.
pub fn versions(models: &Path, kind: Kind) -> Vec<String> {
    let folder = models.join(kind.as_str());
    let mut versions: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions
}

impl BundleFolder {
    /// Opens the current bundle of `kind`.
    pub fn open_current(models: &Path, kind: Kind) -> Result<Self, BundleError> {
        let folder = models.join(kind.as_str());
        let version = current_version(models, kind).ok_or(BundleError::None { kind, folder: folder.clone() })?;
        Self::open(&folder.join(version), kind)
    }

    /// Opens the bundle in `folder` and reads its manifest.
    pub fn open(folder: &Path, kind: Kind) -> Result<Self, BundleError> {
        let path = folder.join("manifest.json");
        let bytes = fs::read(&path).map_err(BundleError::io(&path))?;
        let refuse = |reason: String| BundleError::file(&path, reason);
        // The format version first: the rest of a manifest of another format may not even parse.
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let format = value.get("format_version").and_then(serde_json::Value::as_u64);
        if format != Some(FORMAT_VERSION.into()) {
            let stated = format.map_or("none".to_owned(), |format| format.to_string());
            return Err(refuse(format!("format version {stated}, this program reads {FORMAT_VERSION}")));
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        if manifest.kind != kind {
            return Err(refuse(format!("a {} bundle, expected {kind}", manifest.kind)));
        }
        // Else a server would look for the folder's name among its models in vain.
        if folder.file_name().is_none_or(|name| name != manifest.version.as_str()) {
            return Err(refuse(format!("the version {:?} is not the name of its folder", manifest.version)));
        }
        if manifest.files.iter().any(|file| file.name.contains(['/', '\\']) || file.name.starts_with('.')) {
            return Err(refuse("it lists a file outside its folder".to_owned()));
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Path of a file of this bundle, for errors about it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether the manifest lists a file.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.files.iter().any(|file| file.name == name)
    }

    /// The error that a file is not what this kind of bundle needs.
    pub(super) fn invalid(&self, name: &str, reason: impl Into<String>) -> BundleError {
        BundleError::file(&self.path(name), reason)
    }

    /// Reads a JSON file.
    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        serde_json::from_slice(&self.read(name)?).map_err(|error| self.invalid(name, error.to_string()))
    }

    /// Reads the ids of rows, written by [`BundleWriter::write_vocabulary`](super::BundleWriter::write_vocabulary).
    pub(super) fn read_vocabulary(&self, name: &str) -> Result<Vocabulary, BundleError> {
        let (text, offsets) = (format!("{name}.utf8"), format!("{name}.offsets.npy"));
        let ids = String::from_utf8(self.read(&text)?).map_err(|_| self.invalid(&text, "it is not UTF-8"))?;
        Vocabulary::from_parts(ids, self.read_array::<u64>(&offsets)?.values)
            .map_err(|reason| self.invalid(&offsets, reason))
    }

    /// Reads an array of finite numbers.
    pub(super) fn read_finite(&self, name: &str) -> Result<Array<f32>, BundleError> {
        let array = self.read_array::<f32>(name)?;
        self.check_finite(name, &array.values)?;
        Ok(array)
    }

    /// Checks that all values are finite numbers.
    pub(super) fn check_finite(&self, name: &str, values: &[f32]) -> Result<(), BundleError> {
        // A block is checked without branches, so that vector instructions can do it.
        let are_finite = |block: &[f32]| block.iter().fold(true, |finite, value| finite & value.is_finite());
        match values.chunks(4_096).all(are_finite) {
            true => Ok(()),
            false => Err(self.invalid(name, "it has values that are not finite")),
        }
    }

    /// Checks that no value occurs twice; all are below `limit`.
    pub(super) fn check_distinct(&self, name: &str, values: &[u32], limit: usize) -> Result<(), BundleError> {
        let mut seen = vec![false; limit];
        match values.iter().find(|&&value| std::mem::replace(&mut seen[value as usize], true)) {
            None => Ok(()),
            Some(value) => Err(self.invalid(name, format!("it has the row {value} twice"))),
        }
    }

    /// Checks the shape of an array.
    pub(super) fn shaped<T>(&self, name: &str, array: Array<T>, shape: &[usize]) -> Result<Array<T>, BundleError> {
        match array.shape == shape {
            true => Ok(array),
            false => Err(self.invalid(name, format!("its shape is {:?}, expected {shape:?}", array.shape))),
        }
    }

    fn entry(&self, name: &str) -> Result<&FileEntry, BundleError> {
        let entry = self.manifest.files.iter().find(|file| file.name == name);
        entry.ok_or_else(|| self.invalid(name, "the manifest does not list it"))
    }

    fn check(&self, entry: &FileEntry, bytes: &[u8]) -> Result<(), BundleError> {
        let refuse = |reason: String| Err(self.invalid(&entry.name, reason));
        if bytes.len() as u64 != entry.bytes {
            return refuse(format!("it has {} bytes, the manifest says {}", bytes.len(), entry.bytes));
        }
        let sha256 = hex::encode(Sha256::digest(bytes));
        if sha256 != entry.sha256 {
            return refuse(format!("its SHA-256 is {sha256}, the manifest says {}", entry.sha256));
        }
        Ok(())
    }

    /// Reads a file and checks its size and hash.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, BundleError> {
        let (path, entry) = (self.path(name), self.entry(name)?);
        let bytes = fs::read(&path).map_err(BundleError::io(&path))?;
        self.check(entry, &bytes)?;
        Ok(bytes)
    }

    /// Maps a file into memory and checks its size and hash.
    #[expect(unsafe_code, reason = "a mapping is only as constant as its file, which the compiler can't know")]
    fn map(&self, name: &str) -> Result<Arc<Mmap>, BundleError> {
        let (path, entry) = (self.path(name), self.entry(name)?);
        let file = File::open(&path).map_err(BundleError::io(&path))?;
        // SAFETY: files of a bundle are never written again once its folder has its name (see `BundleWriter`); to
        // remove them leaves the mapping as it is. Someone who truncates one by hand kills this process.
        let mapped = unsafe { Mmap::map(&file) }.map_err(BundleError::io(&path))?;
        self.check(entry, &mapped)?;
        Ok(Arc::new(mapped))
    }

    /// Maps a file as an array of numbers: its shape and values.
    pub fn map_array<T: array::Element>(&self, name: &str) -> Result<(Vec<usize>, Values<T>), BundleError> {
        let file = self.map(name)?;
        let refuse = |reason: String| self.invalid(name, reason);
        let (shape, start) = array::decode_header::<T>(&file).map_err(refuse)?;
        let bytes = start..file.len();
        Ok((shape, Values::mapped(file, bytes).map_err(refuse)?))
    }

    /// Maps an array of `length` numbers.
    pub fn map_values<T: array::Element>(&self, name: &str, length: usize) -> Result<Values<T>, BundleError> {
        let (shape, values) = self.map_array(name)?;
        if values.len() != length {
            return Err(BundleError::file(
                &self.path(name),
                format!("its shape is {shape:?}, expected {length} values"),
            ));
        }
        Ok(values)
    }

    /// Maps an array of `length` finite numbers.
    pub fn map_finite(&self, name: &str, length: usize) -> Result<Values<f32>, BundleError> {
        let values = self.map_values(name, length)?;
        self.check_finite(name, &values)?;
        Ok(values)
    }

    /// Maps lists of distinct numbers below `columns`, written by [`BundleWriter::write_csr`]. Any number of them, or
    /// `rows`.
    pub fn map_csr(&self, name: &str, rows: Option<usize>, columns: usize) -> Result<Csr, BundleError> {
        let (offsets, items) = (format!("{name}.offsets.npy"), format!("{name}.items.npy"));
        let refuse = |reason: String| self.invalid(&offsets, reason);
        let lists = Csr::from_parts(self.map_array(&offsets)?.1, self.map_array(&items)?.1, columns).map_err(refuse)?;
        match (rows, lists.repeated()) {
            (Some(rows), _) if lists.rows() != rows => Err(refuse(format!("{} lists, expected {rows}", lists.rows()))),
            (_, Some((list, row))) => Err(self.invalid(&items, format!("the list {list} has the row {row} twice"))),
            _ => Ok(lists),
        }
    }

    /// Maps texts written by [`BundleWriter::write_texts`].
    pub fn map_texts(&self, name: &str) -> Result<Texts, BundleError> {
        let (offsets, text) = (format!("{name}.offsets.npy"), format!("{name}.utf8"));
        let file = self.map(&text)?;
        let bytes = 0..file.len();
        let bytes = Values::mapped(file, bytes).map_err(|reason| self.invalid(&text, reason))?;
        Texts::from_parts(bytes, self.map_array(&offsets)?.1).map_err(|reason| self.invalid(&offsets, reason))
    }

    /// Reads a file as an array of numbers.
    pub fn read_array<T: array::Element>(&self, name: &str) -> Result<Array<T>, BundleError> {
        array::decode_array(&self.read(name)?).map_err(|reason| self.invalid(name, reason))
    }

    /// Checks the files that the manifest lists, except the ones that are `read` anyway.
    pub fn verify_except(&self, read: &[&str]) -> Result<(), BundleError> {
        let mut files = self.manifest.files.iter().filter(|file| !read.contains(&file.name.as_str()));
        files.try_for_each(|file| self.read(&file.name).map(drop))
    }
}
