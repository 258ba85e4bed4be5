//! Rows of one's own: tracks, users and playlists as JSON, one object a line.
//!
//! The rows are those that a client of the HTTP interface would send in bulk: their fields are named as in its answers.
//! A line is rejected if its id is none, or it has a field that does not exist. Other fields that can't be read are left
//! out and listed, and so are tracks of a playlist that the catalog does not have, as it happens where tracks are deleted.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::engine::{FileToRead, import_files};
use super::error::{ImportError, ReadError};
use super::report::ImportReport;
use super::sink::Sink;
use super::source::{Source, check_files};
use crate::catalog::{Catalog, NamedRows, lines};
use crate::progress::Interrupt;

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// [`lines::TrackLine`]
    Tracks,
    /// [`lines::UserLine`]
    Users,
    /// [`lines::PlaylistLine`]
    Playlists,
}

/// Files to import.
#[derive(Debug, Clone, Default)]
pub struct NdjsonFiles {
    /// of tracks
    pub tracks: Vec<PathBuf>,
    /// of users
    pub users: Vec<PathBuf>,
    /// of playlists
    pub playlists: Vec<PathBuf>,
}

impl NdjsonFiles {
    /// In an order in which what a row refers to comes before it.
    pub fn in_order(&self) -> impl Iterator<Item = (RowKind, &PathBuf)> {
        let of = |kind: RowKind, files| std::iter::repeat(kind).zip::<&Vec<PathBuf>>(files);
        of(RowKind::Tracks, &self.tracks)
            .chain(of(RowKind::Users, &self.users))
            .chain(of(RowKind::Playlists, &self.playlists))
    }
}

/// Imports your own rows: tracks, then users, then playlists.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress.
///
/// # Errors
///
/// Before anything is read, when a file is not there.
pub async fn import_ndjson(
    catalog: &Catalog,
    files: &NdjsonFiles,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    import_ndjson_naming(catalog, files, None, rejects, interrupt).await
}

/// The same, and adds all rows to `named`.
///
/// # Errors
///
/// Before anything is read, when a file is not there.
pub async fn import_ndjson_naming(
    catalog: &Catalog,
    files: &NdjsonFiles,
    named: Option<&mut NamedRows>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    check_files(files.in_order().map(|(_, file)| file))?;
    let reads = files.in_order().map(|(kind, file)| {
        FileToRead::new(file, false, move |file, count, sink| read(Source::open(file, count)?, kind, sink))
    });
    import_files(catalog, reads.collect(), named, rejects, interrupt).await
}

/// Reads lines of one kind into `sink`. Blank lines are passed over.
///
/// # Errors
///
/// When the file can't be read further, or begins as an array.
pub fn read<R: BufRead>(mut source: Source<R>, kind: RowKind, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    source.skip_mark()?;
    if source.peek()?.starts_with(b"[") {
        return Err(source.refuse("a bare array, expected one object a line").into());
    }
    while let Some(line) = source.line()? {
        let Some((place, text)) = sink.text(line)? else { continue };
        let text = text.as_bytes();
        let outcome = match kind {
            RowKind::Tracks => lines::track(text).map(|(track, omitted)| (sink.track(track), omitted)),
            RowKind::Users => lines::user(text).map(|(user, omitted)| (sink.user(user), omitted)),
            RowKind::Playlists => {
                lines::playlist(text).map(|(playlist, omitted)| (sink.playlist(place, playlist), omitted))
            }
        };
        match outcome {
            Ok((taken, omitted)) => taken.and_then(|()| sink.omit(place, omitted))?,
            Err(reason) => sink.reject(place, reason)?,
        }
    }
    Ok(())
}
