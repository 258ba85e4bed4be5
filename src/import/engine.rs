//! The engine of all imports: a thread reads files a batch ahead of the one that is written.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::error::{FormatError, ImportError, ReadError};
use super::report::{FailedFile, ImportReport, Outcome, Reject, RejectLog};
use super::source::BytesRead;
use crate::catalog::{Catalog, CatalogError, KnownTracks, NamedRows};
use crate::progress::{Interrupt, Progress};

/// Time between two looks at how much was read.
const TICK: Duration = Duration::from_millis(500);
/// Bytes of files from which on a first import builds indexes at its end: of a few playlists that takes longer.
const DEFER_INDEXES_FROM: u64 = 16 << 20;

/// Where batches are written to.
#[derive(Debug)]
pub struct Writer {
    /// the catalog
    pub catalog: Catalog,
    /// tracks that earlier batches wrote
    pub(super) known: KnownTracks,
}

/// Rows of one file that are written in one transaction.
pub trait ImportBatch: Send + 'static {
    /// what writing them did
    type Outcome: Outcome;

    /// Writes the rows. Returns what that did, and what was skipped, by the reader or by the catalog.
    fn write(
        &mut self,
        writer: &mut Writer,
    ) -> impl Future<Output = Result<(Self::Outcome, Vec<Reject>), CatalogError>> + Send;

    /// Adds the rows, once they are written, to those that the import names.
    fn name(&self, _: &mut NamedRows) -> impl Future<Output = Result<(), CatalogError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Returns how many rows there are to write.
    fn rows(&self) -> usize;
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
/// The rows are added to `named`; `rejects` is where skipped ones are listed. An interrupt stops after the batch in progress, or after the file; a pipe,
/// which may have no end, is not waited for.
///
/// # Errors
///
/// When the catalog or the rejects file can't be written. A file that can't be read is listed in the report.
pub async fn import_files<B: ImportBatch>(
    catalog: &Catalog,
    files: Vec<FileToRead<B>>,
    mut named: Option<&mut NamedRows>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport<B::Outcome>, ImportError> {
    let started = Instant::now();
    let sizes = files.iter().map(|one| std::fs::metadata(&one.file).ok().filter(|it| it.is_file()).map(|it| it.len()));
    let size: Option<u64> = sizes.sum();
    let progress = Progress::start("importing", size.unwrap_or_default());

    // One batch is read ahead of the one being written, and no more: memory grows neither with the number of files nor
    // with the length of one. Not one of the runtime's threads: a pipe may never end, and nobody waits for it then.
    let (sender, mut receiver) = mpsc::channel::<Step<B>>(1);
    let (ended, end) = oneshot::channel();
    let count = BytesRead::default();
    let counted = count.clone();
    let reader = std::thread::Builder::new().name("import".to_owned()).spawn(move || {
        read_files(files, &counted, &sender);
        // The sender goes first, so that the writer has the last step before it learns of the end.
        drop(sender);
        // Nobody listens once the import is interrupted.
        let _ = ended.send(());
    });
    reader.map_err(|error| ImportError::Reader(error.to_string()))?;

    let mut writer = Writer { catalog: catalog.clone(), known: KnownTracks::default() };
    let is_large = size.is_none_or(|size| size >= DEFER_INDEXES_FROM);
    let deferred = if is_large { catalog.defer_indexes().await? } else { None };
    let mut report = ImportReport::<B::Outcome>::default();
    let mut log = RejectLog::new(rejects);
    let mut has_rows = false;
    let mut ticks = tokio::time::interval(TICK);
    let mut written = 0;
    loop {
        let outcome = report.outcome;
        let show = || progress.at(count.get(), || outcome.progress(started.elapsed().as_secs_f64()));
        let step = tokio::select! {
            step = receiver.recv() => step,
            _ = ticks.tick() => {
                show();
                continue;
            }
            () = interrupt.raised(), if size.is_none() => {
                report.interrupted = true;
                break;
            }
        };
        let Some(step) = step else { break };
        let may_stop = match step {
            Step::Batch(mut batch, stops_within) => {
                let rows = batch.rows() as u64;
                has_rows |= rows > 0;
                written += rows;
                let (outcome, skipped) = {
                    let mut writing = pin!(batch.write(&mut writer));
                    loop {
                        tokio::select! {
                            outcome = &mut writing => break outcome?,
                            _ = ticks.tick() => show(),
                        }
                    }
                };
                if let Some(named) = &mut named {
                    batch.name(named).await?;
                }
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
        let outcome = report.outcome;
        progress.at(count.get(), || outcome.progress(started.elapsed().as_secs_f64()));
        if may_stop && interrupt.is_raised() {
            report.interrupted = true;
            break;
        }
    }
    drop(receiver);
    if !report.interrupted && end.await.is_err() {
        return Err(ImportError::Reader("it panicked".to_owned()));
    }
    // Who stops an import does not want to wait; the next one, or a server, builds them.
    if !report.interrupted {
        catalog.build_deferred_indexes(deferred).await?;
    }
    if report.outcome.has_changes() {
        catalog.analyze().await?;
    }
    report.rows = written + log.rows();
    log.finish(&mut report);
    report.seconds = started.elapsed().as_secs_f64();
    let (files, rejected, seconds) = (report.files, report.rejected, report.seconds);
    info!(files, rejected, seconds, "imported {}", report.outcome.progress(seconds));
    Ok(report)
}

fn read_files<B: ImportBatch>(files: Vec<FileToRead<B>>, count: &BytesRead, sender: &mpsc::Sender<Step<B>>) {
    for FileToRead { file, read, stops_within } in files {
        let mut hand_over =
            |batch| sender.blocking_send(Step::Batch(batch, stops_within)).map_err(|_| ReadError::Stopped);
        let outcome = match read(&file, count, &mut hand_over) {
            Err(ReadError::Stopped) => return, // the writer gave up
            Err(ReadError::Format(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        if sender.blocking_send(Step::End(file, outcome)).is_err() {
            return;
        }
    }
}
