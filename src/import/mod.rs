//! Files of other systems, read into catalog rows.
//!
//! A reader turns files into rows for the catalog and [`Reject`]s on a thread of its own, a batch at a time; the catalog
//! writes a batch in a transaction while the next one is read. A bad row in a good file is skipped and listed. A file
//! that is not in its format is refused and named with the position: [`mpd`] and [`npy`] see a file whole before they
//! hand over its first row, so that nothing of it is imported; files of lines are imported up to that position. A
//! killed import leaves whole batches behind it, and running it again does the rest.
//!
//! A format is a module that reads a [`Source`] into a [`Sink`], and a function here that says what is read.

pub mod deezer;
pub mod kkbox;
pub mod mpd;
pub mod ndjson;
pub mod npy;
pub mod pickle;
pub mod ratings;
mod report;
mod sink;
mod source;
pub mod yes_radio;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::catalog::{Catalog, CatalogError, PlaylistRecord, RatingScale, UnknownTrack};
use crate::progress::{Interrupt, Progress};

use source::open_unpacked;

pub use kkbox::import_kkbox;
pub use ratings::{RatingsFile, find_movielens};
pub use report::{FailedFile, ImportReport, ListeningReport, RatingsReport, Reject, RejectLog};
pub use sink::{Batch, ReadError, RowNumber, RowPlace, Sink};
pub use source::{BytesRead, Line, LineProblem, Source};

/// No file larger than this once decompressed is read into memory: a slice of the Million Playlist Dataset has 35 MB.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The paths named are not there or hold nothing to import.
    #[error("{}: {reason}", path.display())]
    Path {
        /// the path
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// The catalog could not be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The thread that reads the files ended before them.
    #[error("the reader of the import ended badly: {0}")]
    Reader(String),
    /// The rejects file could not be written.
    #[error("the rejects file {}: {source}", path.display())]
    Rejects {
        /// the file
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
}

/// A file as its reader leaves it.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// rows for the catalog
    pub playlists: Vec<PlaylistRecord>,
    /// rows skipped
    pub rejects: Vec<Reject>,
}

/// A file that is not in its format, and where it ceases to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at byte {offset})")]
pub struct FormatError {
    /// bytes into the decompressed file
    pub offset: u64,
    /// what is wrong there
    pub reason: String,
}

impl FormatError {
    /// From an error of the parser; `otherwise` says what `bytes` are not, where they are not cut off.
    pub fn json(bytes: &[u8], error: &serde_json::Error, otherwise: &str) -> Self {
        let reason = match error.classify() {
            serde_json::error::Category::Eof => "the JSON ends in the middle: the file is truncated".to_owned(),
            _ => format!("{otherwise}: {error}"),
        };
        Self { offset: byte_offset(bytes, error.line(), error.column()), reason }
    }
}

fn byte_offset(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize =
        bytes.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(bytes.len()) as u64
}

/// Imports slices in the Million Playlist Dataset's format: files, or folders of `mpd.slice.*.json[.gz]`.
///
/// `rejects` is where skipped rows are listed. On an interrupt the file under way is finished and the rest left.
pub async fn import_mpd(
    catalog: &Catalog,
    paths: &[PathBuf],
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    let reads = mpd::find_slices(paths)?.into_iter().map(|file| FileToRead {
        file,
        read: Box::new(|file, _, sink| {
            let parsed = mpd::parse_slice(file, &read_file(file)?)?;
            for reject in parsed.rejects {
                sink.reject_item(reject.offset, reject.item, reject.reason)?;
            }
            (0..).zip(parsed.playlists).try_for_each(|(number, playlist)| {
                sink.playlist(RowPlace { offset: 0, number: RowNumber::Playlist(number) }, playlist)
            })
        }),
        stops_within: false,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

/// Imports playlists in the format of Deezer's: NumPy files or text. See [`deezer`].
///
/// As [`import_mpd`], except that an interrupt stops it within a file.
///
/// # Errors
///
/// Before anything is read, when a path is not there, or two files would give their playlists the same ids.
pub async fn import_deezer(
    catalog: &Catalog,
    paths: &[PathBuf],
    options: deezer::DeezerOptions,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    deezer::check_names(paths)?;
    let reads = paths.iter().map(|file| FileToRead {
        file: file.clone(),
        read: Box::new(move |file, count, sink| deezer::read(file, Source::open(file, count)?, options, sink)),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

/// Imports folders of Yes.com radio playlists. See [`yes_radio`].
///
/// As [`import_mpd`], except that an interrupt stops it within a file.
///
/// # Errors
///
/// Before anything is read, when a folder is not there or does not hold what it should.
pub async fn import_yes_radio(
    catalog: &Catalog,
    folders: &[PathBuf],
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    let reads = yes_radio::find_playlists(folders)?.into_iter().map(|file| FileToRead {
        file,
        read: Box::new(yes_radio::read),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

/// Imports rows of one's own: tracks, then users, then playlists. See [`ndjson`].
///
/// As [`import_mpd`], except that an interrupt stops it within a file.
///
/// # Errors
///
/// Before anything is read, when a file is not there.
pub async fn import_ndjson(
    catalog: &Catalog,
    files: &ndjson::NdjsonFiles,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    check_files(files.in_order().map(|(_, file)| file))?;
    let reads = files.in_order().map(|(kind, file)| FileToRead {
        file: file.clone(),
        read: Box::new(move |file, count, sink| ndjson::read(Source::open(file, count)?, kind, sink)),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

/// That each is there and no folder.
fn check_files<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), ImportError> {
    files.into_iter().try_for_each(|path| {
        let refuse = |reason: String| Err(ImportError::Path { path: path.clone(), reason });
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => refuse("is a folder, expected a file".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => refuse(error.to_string()),
        }
    })
}

/// Reads the file that it is given, and counts the bytes that it reads of it.
type ReadFile = Box<dyn Fn(&Path, &BytesRead, &mut Sink<'_>) -> Result<(), ReadError> + Send>;

/// A file to import, and how.
struct FileToRead {
    file: PathBuf,
    read: ReadFile,
    /// whether an interrupt stops between two batches, or at the file's end
    stops_within: bool,
}

/// What the reader says to the writer.
enum Step {
    /// rows, and whether an interrupt may stop after them
    Batch(Batch, bool),
    /// the end of a file
    End(PathBuf, Result<(), FormatError>),
}

/// Tracks written in one transaction with ratings at most.
const TRACKS_BATCH: usize = 5_000;
/// Ratings written in one transaction at most.
const RATINGS_BATCH: usize = 100_000;

/// Imports files of ratings, one after another; ratings must lie on `scale`.
///
/// `rejects` is where skipped rows are listed. On an interrupt the batch under way is finished and the rest left.
pub async fn import_ratings(
    catalog: &Catalog,
    files: Vec<RatingsFile>,
    scale: RatingScale,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<RatingsReport, ImportError> {
    let started = Instant::now();
    let (mut report, mut log) = (RatingsReport::default(), RejectLog::new(rejects));
    let progress = Progress::start("importing", files.len() as u64);
    for (number, file) in files.into_iter().enumerate() {
        let path = file.path().to_owned();
        let parsing =
            tokio::task::spawn_blocking(move || read_file(file.path()).and_then(|bytes| file.parse(&bytes, scale)));
        let parsed = match parsing.await {
            Ok(Ok(parsed)) => parsed,
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                    Ok(Ok(_)) => continue,
                };
                warn!("{} is not imported: {reason}", path.display());
                report.failed_files.push(FailedFile { file: path, reason });
                continue;
            }
        };
        let (mut tracks, mut ratings) = (parsed.tracks.chunks(TRACKS_BATCH), parsed.ratings.chunks(RATINGS_BATCH));
        loop {
            let (tracks, ratings) = (tracks.next().unwrap_or_default(), ratings.next().unwrap_or_default());
            if tracks.is_empty() && ratings.is_empty() {
                break;
            }
            report.outcome += catalog.import_ratings(tracks, ratings).await?;
            report.ratings += ratings.len() as u64;
            progress.at(number as u64, || format!("{} ratings", report.ratings));
            if interrupt.is_raised() {
                report.interrupted = true;
                break;
            }
        }
        log.write(&parsed.rejects).map_err(|source| ImportError::Rejects { path: rejects.to_owned(), source })?;
        report.files += 1;
        if report.interrupted {
            break;
        }
    }
    let outcome = &report.outcome;
    if outcome.ratings_added + outcome.ratings_changed + outcome.tracks_added > 0 {
        catalog.analyze().await?;
    }
    (report.rejected, report.rejects_file) = log.finish();
    report.seconds = started.elapsed().as_secs_f64();
    info!(files = report.files, ratings = report.ratings, rejected = report.rejected, "import ended");
    Ok(report)
}

async fn import_files(
    catalog: &Catalog,
    files: Vec<FileToRead>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    let started = Instant::now();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let progress = Progress::start("importing", files.iter().map(|one| size(&one.file)).sum());

    // One batch is read ahead of the one being written, and no more: memory grows neither with the number of files nor
    // with the length of one that is read line by line.
    let (sender, mut receiver) = mpsc::channel::<Step>(1);
    let count = BytesRead::default();
    let counted = count.clone();
    let reader = tokio::task::spawn_blocking(move || {
        for FileToRead { file, read, stops_within } in files {
            let mut hand_over =
                |batch| sender.blocking_send(Step::Batch(batch, stops_within)).map_err(|_| ReadError::Stopped);
            let mut sink = Sink::new(&file, &mut hand_over);
            let outcome = read(&file, &counted, &mut sink);
            // What was read before a file turned out bad is good all the same.
            let outcome = match (sink.flush(), outcome) {
                (Err(ReadError::Stopped), _) | (_, Err(ReadError::Stopped)) => return, // the writer gave up
                (Err(ReadError::Format(error)), _) | (_, Err(ReadError::Format(error))) => Err(error),
                (Ok(()), Ok(())) => Ok(()),
            };
            if sender.blocking_send(Step::End(file, outcome)).is_err() {
                return;
            }
        }
    });

    let mut report = ImportReport::default();
    let mut log = RejectLog::new(rejects);
    let mut rows_of_file = 0;
    while let Some(step) = receiver.recv().await {
        let may_stop = match step {
            Step::Batch(batch, stops_within) => {
                rows_of_file += batch.playlists.len() + batch.tracks.len() + batch.users.len();
                write_batch(catalog, batch, &mut report, &mut log)
                    .await?
                    .map_err(|source| ImportError::Rejects { path: rejects.to_owned(), source })?;
                stops_within
            }
            Step::End(_, Ok(())) => {
                report.files += 1;
                rows_of_file = 0;
                true
            }
            Step::End(file, Err(error)) => {
                let mut reason = error.to_string();
                if std::mem::take(&mut rows_of_file) > 0 {
                    reason.push_str("; the rows before that are imported");
                }
                warn!("{} is not imported: {reason}", file.display());
                report.failed_files.push(FailedFile { file, reason });
                true
            }
        };
        report.seconds = started.elapsed().as_secs_f64();
        progress.at(count.get(), || {
            format!("{} placements, {:.0}/s", report.outcome.placements, report.placements_per_second())
        });
        if may_stop && interrupt.is_raised() {
            report.interrupted = true;
            break;
        }
    }
    drop(receiver);
    reader.await.map_err(|error| ImportError::Reader(error.to_string()))?;
    let outcome = &report.outcome;
    if outcome.playlists_added + outcome.playlists_changed + outcome.tracks_added > 0 {
        catalog.analyze().await?;
    }
    (report.rejected, report.rejects_file) = log.finish();
    report.seconds = started.elapsed().as_secs_f64();
    info!(
        files = report.files,
        placements = report.outcome.placements,
        rejected = report.rejected,
        seconds = report.seconds,
        "import ended"
    );
    Ok(report)
}

/// Writes a batch and lists what was skipped of it; the inner error is the list's.
async fn write_batch(
    catalog: &Catalog,
    mut batch: Batch,
    report: &mut ImportReport,
    log: &mut RejectLog,
) -> Result<io::Result<()>, CatalogError> {
    if !batch.tracks.is_empty() {
        report.outcome += catalog.upsert_tracks(&batch.tracks).await?;
    }
    if !batch.users.is_empty() {
        report.outcome += catalog.upsert_users(&batch.users).await?;
    }
    if !batch.playlists.is_empty() {
        let upserted = catalog.upsert_playlists(&batch.playlists).await?;
        report.outcome += upserted.outcome;
        batch.rejects.extend(upserted.unknown_tracks.into_iter().map(|UnknownTrack { playlist, track }| {
            let (place, id) = (batch.places[playlist], batch.playlists[playlist].tracks[track].id());
            Reject {
                file: batch.file.clone(),
                offset: place.offset,
                item: format!("{} tracks[{track}]", place.number),
                reason: format!("the catalog has no track {id:?}; import it first, or describe it here"),
            }
        }));
    }
    Ok(log.write(&batch.rejects))
}

/// Reads a file whole, unpacking it if it begins as gzip does.
///
/// # Errors
///
/// When it can't be read, is cut off, or is larger than any slice: with the position.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FormatError> {
    let at = |offset: usize| {
        move |error: io::Error| FormatError { offset: offset as u64, reason: format!("could not be read: {error}") }
    };
    let mut bytes = Vec::new();
    let file = open_unpacked(path, &BytesRead::default()).map_err(at(0))?;
    let outcome = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    outcome.map_err(at(bytes.len()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FormatError {
            offset: MAX_FILE_BYTES,
            reason: format!("larger than {MAX_FILE_BYTES} bytes; split it into slices"),
        });
    }
    Ok(bytes)
}
