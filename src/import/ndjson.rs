//! Rows of one's own: tracks, users and playlists as JSON, one object a line.
//!
//! The rows are those that a client of the HTTP interface would send in bulk: their fields are named as in its answers.
//! A line is a row that is imported or rejected whole, with one exception: a playlist may name tracks that the catalog
//! does not have, as it happens where tracks are deleted. It is imported without them, and each is listed.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::engine::{FileToRead, import_files};
use super::error::{ImportError, ReadError};
use super::report::ImportReport;
use super::sink::Sink;
use super::source::{Source, check_files};
use crate::catalog::Catalog;
use crate::catalog::lines::{PlaylistLine, TrackLine, UserLine};
use crate::progress::Interrupt;

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// [`TrackLine`]
    Tracks,
    /// [`UserLine`]
    Users,
    /// [`PlaylistLine`]
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
    check_files(files.in_order().map(|(_, file)| file))?;
    let reads = files.in_order().map(|(kind, file)| {
        FileToRead::new(file, true, move |file, count, sink| read(Source::open(file, count)?, kind, sink))
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

/// Reads lines of one kind into `sink`. Blank lines are passed over.
///
/// # Errors
///
/// When the file can't be read further.
pub fn read<R: BufRead>(mut source: Source<R>, kind: RowKind, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    while let Some(line) = source.line()? {
        let Some((place, text)) = sink.text(line)? else { continue };
        let rejected = match kind {
            RowKind::Tracks => match parse::<TrackLine>(text).and_then(TrackLine::into_record) {
                Ok(track) => sink.track(track).map(|()| None)?,
                Err(reason) => Some(reason),
            },
            RowKind::Users => match parse::<UserLine>(text).and_then(UserLine::into_id) {
                Ok(user) => sink.user(user).map(|()| None)?,
                Err(reason) => Some(reason),
            },
            RowKind::Playlists => match parse::<PlaylistLine>(text).and_then(PlaylistLine::into_record) {
                Ok(playlist) => sink.playlist(place, playlist).map(|()| None)?,
                Err(reason) => Some(reason),
            },
        };
        if let Some(reason) = rejected {
            sink.reject(place, reason)?;
        }
    }
    Ok(())
}

/// Parses a line; the reason for a failure names the field and the column.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // serde would take an array for the fields one after another.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("expected a JSON object".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let row = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = reason(error.inner());
        if path == "." { reason } else { format!("{path}: {reason}") }
    })?;
    deserializer.end().map_err(|error| reason(&error))?;
    Ok(row)
}

/// The reason with the column alone: serde_json takes every line for the first.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    format!("{reason} (column {})", error.column())
}
