//! What an import says of itself: how much it wrote, what it skipped and why.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::catalog::{BatchOutcome, ListensOutcome, RatingsOutcome};

/// A row that was skipped, as it stands in the rejects file (one JSON object a line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// the file that it is in
    pub file: PathBuf,
    /// where the row begins, in bytes of the decompressed file
    pub offset: u64,
    /// the row, as a path into the file: `playlists[12].tracks[3]`
    pub item: String,
    /// what is wrong with it
    pub reason: String,
}

/// A file that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedFile {
    /// the file
    pub file: PathBuf,
    /// why, and where in the file
    pub reason: String,
}

/// What the batches of an import did to the catalog.
pub trait Outcome: Copy + Default + AddAssign + Serialize + Send + 'static {
    /// Returns whether rows were added or changed.
    fn has_changes(&self) -> bool;

    /// Returns how far an import is after so many seconds, in words.
    fn progress(&self, seconds: f64) -> String;
}

fn rate(rows: u64, what: &str, seconds: f64) -> String {
    format!("{rows} {what}, {:.0}/s", rows as f64 / seconds.max(1e-9))
}

impl Outcome for BatchOutcome {
    fn has_changes(&self) -> bool {
        self.playlists_added + self.playlists_changed + self.tracks_added + self.tracks_changed > 0
    }

    fn progress(&self, seconds: f64) -> String {
        rate(self.placements, "placements", seconds)
    }
}

impl Outcome for RatingsOutcome {
    fn has_changes(&self) -> bool {
        self.ratings_added + self.ratings_changed + self.tracks_added + self.tracks_changed > 0
    }

    fn progress(&self, seconds: f64) -> String {
        rate(self.ratings, "ratings", seconds)
    }
}

impl Outcome for ListensOutcome {
    fn has_changes(&self) -> bool {
        *self != Self { listens: self.listens, ..Self::default() }
    }

    fn progress(&self, seconds: f64) -> String {
        rate(self.listens, "listens", seconds)
    }
}

/// What an import did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ImportReport<O = BatchOutcome> {
    /// files imported as a whole
    pub files: u64,
    /// files that are not in their format; the reason says if rows before that place are imported
    pub failed_files: Vec<FailedFile>,
    /// what was written
    #[serde(flatten)]
    pub outcome: O,
    /// rows skipped
    pub rejected: u64,
    /// where the skipped rows are listed, if there are any
    pub rejects_file: Option<PathBuf>,
    /// wall time
    pub seconds: f64,
    /// true if it was asked to stop before the end; running it again completes it
    pub interrupted: bool,
}

/// Writes rejects to a file that comes into being with the first of them.
#[derive(Debug)]
pub struct RejectLog {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
    count: u64,
}

impl RejectLog {
    /// A log that will be at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), writer: None, count: 0 }
    }

    /// Appends rejects.
    pub fn write(&mut self, rejects: &[Reject]) -> io::Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                if let Some(parent) = self.path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                self.writer.insert(BufWriter::new(File::create(&self.path)?))
            }
        };
        for reject in rejects {
            serde_json::to_writer(&mut *writer, reject)?;
            writer.write_all(b"\n")?;
        }
        self.count += rejects.len() as u64;
        writer.flush()
    }

    /// How many there are, and where, if any.
    pub fn finish(self) -> (u64, Option<PathBuf>) {
        (self.count, self.writer.is_some().then_some(self.path))
    }
}
