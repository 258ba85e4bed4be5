//! What an import says of itself: how much it wrote, what it skipped and why.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::catalog::fields::shortened;
use crate::catalog::{BatchOutcome, ListensOutcome, Prunable, Pruned, RatingsOutcome};
use crate::progress::thousands;

/// How much of a row was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Skipped {
    /// all of it
    Row,
    /// a field, or a track of a playlist
    Part,
}

/// A row, or a part of one, that was skipped, as it stands in the rejects file (one JSON object a line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// how much of it
    pub skipped: Skipped,
    /// the file that it is in
    pub file: PathBuf,
    /// where the row begins, in bytes of the decompressed file
    pub offset: u64,
    /// the row, as a path into the file: `playlists[12].tracks[3]`
    pub item: String,
    /// what is wrong with it
    pub reason: String,
}

impl Reject {
    /// Returns one whose texts are short, however much they quote of the file.
    pub(super) fn new(skipped: Skipped, file: &Path, offset: u64, item: String, reason: String) -> Self {
        Self { skipped, file: file.to_owned(), offset, item: shortened(item), reason: shortened(reason) }
    }
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
    let per_second = (rows as f64 / seconds.max(1e-9)).round() as u64;
    format!("{} {what}, {}/s", thousands(rows), thousands(per_second))
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

/// A reason for which rows were skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// without what differs from row to row
    pub reason: String,
    /// how often
    pub count: u64,
}

/// Reasons that are told apart; further ones are counted together.
const MOST_REASONS: usize = 1_000;
/// How many of them a report names.
const SHOWN_REASONS: usize = 3;

/// How often each reason occurred.
#[derive(Debug, Default)]
pub struct Reasons {
    total: u64,
    counts: HashMap<String, u64>,
}

impl Reasons {
    fn add(&mut self, reason: &str) {
        self.total += 1;
        let reason = general(reason);
        let reason = match self.counts.len() < MOST_REASONS || self.counts.contains_key(&reason) {
            true => reason,
            false => "other reasons".to_owned(),
        };
        *self.counts.entry(reason).or_default() += 1;
    }

    /// The commonest ones first.
    fn commonest(self) -> Vec<Reason> {
        let mut reasons: Vec<Reason> =
            self.counts.into_iter().map(|(reason, count)| Reason { reason, count }).collect();
        reasons.sort_by(|left, right| right.count.cmp(&left.count).then_with(|| left.reason.cmp(&right.reason)));
        reasons.truncate(SHOWN_REASONS);
        reasons
    }
}

/// A reason without what differs from row to row: values in quotes, indices and positions.
fn general(reason: &str) -> String {
    let mut general = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(at) = rest.find(['"', '[', '(']) {
        let (before, from) = rest.split_at(at);
        general.push_str(before);
        let (open, close) = match from.as_bytes() {
            [b'"', ..] => ("\"", '"'),
            [b'[', ..] => ("[", ']'),
            _ => ("(column ", ')'),
        };
        let inner = from.strip_prefix(open).and_then(|inner| inner.split_once(close));
        match inner {
            Some((inner, after)) if close != ']' || inner.bytes().all(|byte| byte.is_ascii_digit()) => {
                match close {
                    '"' => general.push('…'),
                    ']' => general.push_str("[]"),
                    _ => {}
                }
                rest = after;
            }
            _ => {
                general.push_str(&from[..1]);
                rest = &from[1..];
            }
        }
    }
    general.push_str(rest);
    general.trim_end().to_owned()
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
    /// rows read, whether they were written or skipped
    pub rows: u64,
    /// rows skipped
    pub rejected: u64,
    /// the commonest reasons for that
    pub rejected_reasons: Vec<Reason>,
    /// fields, and tracks of playlists, skipped in rows that were written
    pub omitted: u64,
    /// the commonest reasons for that
    pub omitted_reasons: Vec<Reason>,
    /// where what was skipped is listed, if there is any
    pub rejects_file: Option<PathBuf>,
    /// rows, and parts of rows, that are not listed there, because it was full
    #[serde(skip_serializing_if = "is_none")]
    pub unlisted: u64,
    /// what could be done about rows that were skipped
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// what became of rows that the source does not have, if it was asked for to remove them
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pruned: BTreeMap<Prunable, Pruned>,
    /// wall time
    pub seconds: f64,
    /// true if it was asked to stop before the end; running it again completes it
    pub interrupted: bool,
}

impl<O> ImportReport<O> {
    /// Returns whether every row of the source was imported, so that what it does not name is not in it.
    pub fn is_whole(&self) -> bool {
        self.rejected == 0 && self.failed_files.is_empty() && !self.interrupted
    }

    /// Returns whether every row was skipped, and there were some.
    pub fn is_useless(&self) -> bool {
        self.rows > 0 && self.rows == self.rejected
    }

    /// Adds a hint.
    pub fn add_hint(&mut self, hint: &str) {
        self.hint = Some(self.hint.take().map_or_else(|| hint.to_owned(), |other| format!("{other}; {hint}")));
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Size of a rejects file, or little more: a file that is all wrong must not fill the disk.
pub const MAX_REJECTS_BYTES: usize = 100_000_000;

/// Writes rejects to a file that comes into being with the first of them.
#[derive(Debug)]
pub struct RejectLog {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
    /// bytes that may still be written
    room: usize,
    unlisted: u64,
    rows: Reasons,
    parts: Reasons,
}

impl RejectLog {
    /// A log that will be at `path`.
    pub fn new(path: &Path) -> Self {
        let (rows, parts) = (Reasons::default(), Reasons::default());
        Self { path: path.to_owned(), writer: None, room: MAX_REJECTS_BYTES, unlisted: 0, rows, parts }
    }

    /// Appends rejects, and counts those for which there is no room.
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
            if self.room > 0 {
                let mut line = serde_json::to_vec(reject)?;
                line.push(b'\n');
                writer.write_all(&line)?;
                self.room = self.room.saturating_sub(line.len());
            } else {
                self.unlisted += 1;
            }
            match reject.skipped {
                Skipped::Row => self.rows.add(&reject.reason),
                Skipped::Part => self.parts.add(&reject.reason),
            }
        }
        writer.flush()
    }

    /// How many rows were skipped.
    pub fn rows(&self) -> u64 {
        self.rows.total
    }

    /// Writes into a report how many there are, why, and where.
    pub fn finish<O>(self, report: &mut ImportReport<O>) {
        (report.rejected, report.omitted) = (self.rows.total, self.parts.total);
        report.rejected_reasons = self.rows.commonest();
        report.omitted_reasons = self.parts.commonest();
        report.rejects_file = self.writer.is_some().then_some(self.path);
        report.unlisted = self.unlisted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_of_rejects_grows_no_more_and_what_is_not_in_it_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rejects");
        let reject = Reject::new(Skipped::Row, Path::new("f"), 0, "line 1".to_owned(), "no".to_owned());
        let line = serde_json::to_vec(&reject).expect("JSON").len() + 1;
        let mut log = RejectLog { room: 2 * line + 1, ..RejectLog::new(&path) };
        for _ in 0..5 {
            log.write(&[reject.clone(), reject.clone()]).expect("written");
        }
        let mut report = ImportReport::<BatchOutcome>::default();
        log.finish(&mut report);
        assert_eq!((report.rejected, report.unlisted), (10, 7));
        assert_eq!(report.rejected_reasons, [Reason { reason: "no".to_owned(), count: 10 }]);
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!((text.len(), text.lines().count()), (3 * line, 3));
    }

    #[test]
    fn reasons_that_differ_in_a_value_are_one() {
        let mut reasons = Reasons::default();
        for (reason, times) in [
            ("rating: must be a number, not \"a\"", 3),
            ("rating: must be a number, not \"bc\"", 2),
            ("tracks[3].id: must not be empty", 1),
            ("tracks[17].id: must not be empty", 3),
            ("missing field (column 7)", 1),
            ("missing field (column 8)", 1),
            ("rare [this] (one)", 1),
        ] {
            (0..times).for_each(|_| reasons.add(reason));
        }
        assert_eq!(reasons.total, 12);
        let shown: Vec<String> =
            reasons.commonest().into_iter().map(|one| format!("{} {}", one.count, one.reason)).collect();
        assert_eq!(shown, ["5 rating: must be a number, not …", "4 tracks[].id: must not be empty", "2 missing field"]);
        assert_eq!(general("rare [this] (one"), "rare [this] (one");
    }
}
