//! Files of other systems, read into catalog rows.
//!
//! A reader turns one file into [`PlaylistRecord`]s and [`Reject`]s on a thread of its own; the catalog writes one file
//! a transaction while the next one is read. A file that can't be read as its format is refused whole and named with
//! the position; a bad row in a good file is skipped and listed. A killed import leaves whole files behind it, and
//! running it again does the rest.

pub mod mpd;
pub mod ratings;
mod report;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::catalog::{Catalog, CatalogError, PlaylistRecord, RatingScale};
use crate::progress::{Interrupt, Progress};

pub use ratings::{RatingsFile, find_movielens};
pub use report::{FailedFile, ImportReport, RatingsReport, Reject, RejectLog};

/// No file larger than this once decompressed is read: a slice of the Million Playlist Dataset has 35 MB.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Playlists written in one transaction at most; a slice of the Million Playlist Dataset has 1,000.
const BATCH: usize = 5_000;

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
#[derive(Debug, thiserror::Error)]
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
    let files = mpd::find_slices(paths)?;
    import_files(catalog, files, rejects, interrupt, mpd::parse_slice).await
}

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
        let (mut tracks, mut ratings) = (parsed.tracks.chunks(BATCH), parsed.ratings.chunks(RATINGS_BATCH));
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

type Parsed = (PathBuf, u64, Result<ParsedFile, FormatError>);

async fn import_files(
    catalog: &Catalog,
    files: Vec<PathBuf>,
    rejects: &Path,
    interrupt: &Interrupt,
    parse: fn(&Path, &[u8]) -> Result<ParsedFile, FormatError>,
) -> Result<ImportReport, ImportError> {
    let started = Instant::now();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let progress = Progress::start("importing", files.iter().map(|file| size(file)).sum());

    // One file is parsed ahead of the one being written, and no more: memory does not grow with the number of files.
    let (sender, mut receiver) = mpsc::channel::<Parsed>(1);
    let reader = tokio::task::spawn_blocking(move || {
        for file in files {
            let parsed = read_file(&file).and_then(|bytes| parse(&file, &bytes));
            let bytes = size(&file);
            if sender.blocking_send((file, bytes, parsed)).is_err() {
                return; // the writer gave up
            }
        }
    });

    let mut report = ImportReport::default();
    let mut log = RejectLog::new(rejects);
    let mut done = 0;
    while let Some((file, bytes, parsed)) = receiver.recv().await {
        match parsed {
            Ok(parsed) => {
                for batch in parsed.playlists.chunks(BATCH) {
                    report.outcome += catalog.upsert_playlists(batch).await?;
                }
                log.write(&parsed.rejects)
                    .map_err(|source| ImportError::Rejects { path: rejects.to_owned(), source })?;
                report.files += 1;
            }
            Err(error) => {
                warn!("{} is not imported: {error}", file.display());
                report.failed_files.push(FailedFile { file, reason: error.to_string() });
            }
        }
        done += bytes;
        report.seconds = started.elapsed().as_secs_f64();
        progress
            .at(done, || format!("{} placements, {:.0}/s", report.outcome.placements, report.placements_per_second()));
        if interrupt.is_raised() {
            report.interrupted = true;
            break;
        }
    }
    drop(receiver);
    if let Err(error) = reader.await {
        warn!("the reader of the import ended badly: {error}");
    }
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

/// Reads a file whole, unpacking it if it begins as gzip does.
///
/// # Errors
///
/// When it can't be read, is cut off, or is larger than any slice: with the position.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FormatError> {
    let at = |offset: usize| {
        move |error: io::Error| FormatError { offset: offset as u64, reason: format!("could not be read: {error}") }
    };
    let mut file = File::open(path).map_err(at(0))?;
    let mut bytes = Vec::new();
    let mut magic = [0; 2];
    let read = file.read(&mut magic).map_err(at(0))?;
    let start = io::Cursor::new(magic[..read].to_vec());
    let whole = start.chain(file);
    let outcome = if magic == [0x1f, 0x8b] {
        MultiGzDecoder::new(whole).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
            match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the gzip file is truncated"),
                _ => error,
            }
        })
    } else {
        whole.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)
    };
    outcome.map_err(at(bytes.len()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FormatError {
            offset: MAX_FILE_BYTES,
            reason: format!("larger than {MAX_FILE_BYTES} bytes; split it into slices"),
        });
    }
    Ok(bytes)
}
