//! The engine of all imports: a thread reads files a batch ahead of the one that is written.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::error::{FormatError, ImportError, ReadError};
use super::report::{FailedFile, ImportReport, Outcome, Reject, RejectLog};
use super::source::BytesRead;
use crate::catalog::{Catalog, CatalogError};
use crate::progress::{Interrupt, Progress};

/// Rows of one file that are written in one transaction.
pub trait ImportBatch: Send + 'static {
    /// what writing them did
    type Outcome: Outcome;

    /// Writes the rows. Returns what that did, and the rows that were skipped, by the reader or by the catalog.
    fn write(
        self,
        catalog: &Catalog,
    ) -> impl Future<Output = Result<(Self::Outcome, Vec<Reject>), CatalogError>> + Send;

    /// Returns whether there is nothing to write but rejects.
    fn is_empty(&self) -> bool;
}

/// Takes the batches of a file.
pub type HandOver<'a, B> = &'a mut dyn FnMut(B) -> Result<(), ReadError>;

/// Reads a file, counts the bytes that it reads, and hands over its rows.
pub type ReadFile<B> = Box<dyn Fn(&Path, &BytesRead, HandOver<'_, B>) -> Result<(), ReadError> + Send>;

/// A file to import, and how.
pub struct FileToRead<B> {
    /// the file
    pub file: PathBuf,
    /// its reader
    pub read: ReadFile<B>,
    /// whether an interrupt stops between two batches, or only at the file's end
    pub stops_within: bool,
}

/// What the reader sends to the writer.
enum Step<B> {
    /// rows, and whether an interrupt may stop after them
    Batch(B, bool),
    /// the end of a file
    End(PathBuf, Result<(), FormatError>),
}

/// Imports files, one after another.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress, or after the file.
///
/// # Errors
///
/// When the catalog or the rejects file can't be written. A file that can't be read is listed in the report.
pub async fn import_files<B: ImportBatch>(
    catalog: &Catalog,
    files: Vec<FileToRead<B>>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport<B::Outcome>, ImportError> {
    let started = Instant::now();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let progress = Progress::start("importing", files.iter().map(|one| size(&one.file)).sum());

    // One batch is read ahead of the one being written, and no more: memory grows neither with the number of files nor
    // with the length of one that is read line by line.
    let (sender, mut receiver) = mpsc::channel::<Step<B>>(1);
    let count = BytesRead::default();
    let counted = count.clone();
    let reader = tokio::task::spawn_blocking(move || {
        for FileToRead { file, read, stops_within } in files {
            let mut hand_over =
                |batch| sender.blocking_send(Step::Batch(batch, stops_within)).map_err(|_| ReadError::Stopped);
            let outcome = match read(&file, &counted, &mut hand_over) {
                Err(ReadError::Stopped) => return, // the writer gave up
                Err(ReadError::Format(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            if sender.blocking_send(Step::End(file, outcome)).is_err() {
                return;
            }
        }
    });

    let mut report = ImportReport::<B::Outcome>::default();
    let mut log = RejectLog::new(rejects);
    let mut has_rows = false;
    while let Some(step) = receiver.recv().await {
        let may_stop = match step {
            Step::Batch(batch, stops_within) => {
                has_rows |= !batch.is_empty();
                let (outcome, skipped) = batch.write(catalog).await?;
                report.outcome += outcome;
                log.write(&skipped).map_err(|source| ImportError::Rejects { path: rejects.to_owned(), source })?;
                stops_within
            }
            Step::End(_, Ok(())) => {
                report.files += 1;
                has_rows = false;
                true
            }
            Step::End(file, Err(error)) => {
                let mut reason = error.to_string();
                if std::mem::take(&mut has_rows) {
                    reason.push_str("; the rows before that are imported");
                }
                warn!("{} was not imported: {reason}", file.display());
                report.failed_files.push(FailedFile { file, reason });
                true
            }
        };
        report.seconds = started.elapsed().as_secs_f64();
        progress.at(count.get(), || report.outcome.progress(report.seconds));
        if may_stop && interrupt.is_raised() {
            report.interrupted = true;
            break;
        }
    }
    drop(receiver);
    reader.await.map_err(|error| ImportError::Reader(error.to_string()))?;
    if report.outcome.has_changes() {
        catalog.analyze().await?;
    }
    (report.rejected, report.rejects_file) = log.finish();
    report.seconds = started.elapsed().as_secs_f64();
    let (files, rejected, seconds) = (report.files, report.rejected, report.seconds);
    info!(files, rejected, seconds, "imported {}", report.outcome.progress(seconds));
    Ok(report)
}
