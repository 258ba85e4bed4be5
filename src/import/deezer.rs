//! Playlists as Deezer published them for experiments with word2vec (Caselles-Dupré, Lesaint and Royo-Letelier, RecSys
//! 2018; `music_1.npy` and `music_2.npy`): each a list of texts in which `track_<id>` and `artist_<id>` alternate. The
//! lists are an array of Python objects in a NumPy file, or one a line in a text file, parted by blanks.
//!
//! Neither playlists nor names are in such a file. A playlist's id is the file's name and its number in it, from 0:
//! `music_1:17`. Tracks and artists go by their ids until a source with names is imported, and keep those names then.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::engine::{FileToRead, import_files};
use super::error::{FormatError, ImportError, ReadError};
use super::npy::{MAGIC, read_object_array};
use super::pickle::Limits;
use super::report::ImportReport;
use super::sink::{RowNumber, RowPlace, Sink};
use super::source::{Source, check_files};
use crate::catalog::columns::{in_field, name, playlist_length};
use crate::catalog::{ArtistId, ArtistRecord, Catalog, PlaylistId, PlaylistRecord, TrackId, TrackMention, TrackRecord};
use crate::progress::Interrupt;

const TRACK: &str = "track_";
const ARTIST: &str = "artist_";
/// Rows at the beginning of a file that may be wrong before the file is taken for one of another format.
const PATIENCE: usize = 1_000;

/// How such files are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeezerOptions {
    /// Whether the entries between the tracks may be anything, and the tracks' ids too, as in the file of shopping
    /// sessions that was published with the playlists. An artist is then called what stands there.
    pub placeholder_artists: bool,
}

/// Imports playlists in Deezer's format: NumPy files or text.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress.
///
/// # Errors
///
/// Before anything is read, when a path is not there, or two files would give their playlists the same ids.
pub async fn import_deezer(
    catalog: &Catalog,
    paths: &[PathBuf],
    options: DeezerOptions,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    check_names(paths)?;
    let reads = paths.iter().map(|file| {
        FileToRead::new(file, false, move |file, count, sink| read(file, Source::open(file, count)?, options, sink))
    });
    import_files(catalog, reads.collect(), None, rejects, interrupt).await
}

/// What playlists of a file are named after: `music_1` for `music_1.npy`.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix(".npy").or(name.strip_suffix(".txt")).unwrap_or(name);
    name.to_owned()
}

/// That the files are there, and that no two would give their playlists the same ids.
fn check_names(files: &[PathBuf]) -> Result<(), ImportError> {
    check_files(files)?;
    let mut stems: HashMap<String, &PathBuf> = HashMap::new();
    for file in files {
        let stem = stem(file);
        if let Some(other) = stems.insert(stem.clone(), file) {
            let reason = format!("its playlists would be called {stem}:0 and on, as those of {}", other.display());
            return Err(ImportError::Path { path: file.clone(), reason });
        }
    }
    Ok(())
}

/// Reads a file into `sink`; its name is what its playlists are named after.
///
/// # Errors
///
/// When it is a NumPy file that is not an array of lists, or text in which nothing alternates as it should; with the
/// position.
pub fn read<R: BufRead>(
    file: &Path,
    mut source: Source<R>,
    options: DeezerOptions,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut playlists = Playlists { stem: stem(file), options, some_are_right: false, wrong: Vec::new() };
    // Fewer bytes than the mark has are no file of either kind that is worth reading.
    if source.peek()?.starts_with(&MAGIC[..1]) {
        let start = source.offset();
        let array = read_object_array(&mut source, &Limits::default())?;
        let rows = array.rows().map_err(|reason| FormatError { offset: start, reason })?;
        for (number, row) in (0..).zip(rows) {
            let place = RowPlace { offset: row.offset, number: RowNumber::Playlist(number) };
            match row.texts() {
                Ok(texts) => playlists.add(place, number, texts, sink)?,
                Err(problem) => sink.reject(place, problem.to_string())?,
            }
        }
        return playlists.finish(sink);
    }
    if source.peek()?.is_empty() {
        return Err(source.refuse("the file is empty").into());
    }
    while let Some(line) = source.line()? {
        let number = line.number - 1;
        let Some((place, text)) = sink.text(line)? else { continue };
        let entries = text.split_ascii_whitespace();
        let length = entries.clone().count();
        playlists.add(place, number, Counted { entries, length }, sink)?;
    }
    playlists.finish(sink)
}

/// An iterator that knows how many are left.
struct Counted<I> {
    entries: I,
    length: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.length = self.length.saturating_sub(1);
        self.entries.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.length, Some(self.length))
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}

/// The playlists of one file as they are met.
struct Playlists {
    stem: String,
    options: DeezerOptions,
    some_are_right: bool,
    /// rows that do not alternate, as long as none does
    wrong: Vec<(RowPlace, String)>,
}

/// Why a row is no playlist.
enum RowError {
    /// tracks and artists don't alternate
    Order(String),
    /// anything else
    Other(String),
}

impl Playlists {
    fn add<'a>(
        &mut self,
        place: RowPlace,
        number: u64,
        entries: impl ExactSizeIterator<Item = &'a str>,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        match tracks(entries, self.options) {
            Ok(tracks) => {
                self.settle(sink)?;
                match in_field("the playlist's id", PlaylistId::new(format!("{}:{number}", self.stem))) {
                    Ok(id) => sink.playlist(place, PlaylistRecord::bare(id, tracks)),
                    Err(reason) => sink.reject(place, reason),
                }
            }
            Err(RowError::Order(reason)) if !self.some_are_right => {
                self.wrong.push((place, reason));
                if self.wrong.len() >= PATIENCE { self.finish(sink) } else { Ok(()) }
            }
            Err(RowError::Order(reason) | RowError::Other(reason)) => sink.reject(place, reason),
        }
    }

    /// Once a row is right, the file is what it should be, and the ones before it are merely bad rows.
    fn settle(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        self.some_are_right = true;
        std::mem::take(&mut self.wrong).into_iter().try_for_each(|(place, reason)| sink.reject(place, reason))
    }

    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match self.wrong.first() {
            None => Ok(()),
            Some((place, reason)) if !self.some_are_right => {
                let hint = match self.options.placeholder_artists {
                    true => "",
                    false => "; --placeholder-artists reads files without artists, place-holders in their stead",
                };
                let reason = format!("{}: {reason}; of {} rows not one is right{hint}", place.number, self.wrong.len());
                Err(FormatError { offset: place.offset, reason }.into())
            }
            Some(_) => self.settle(sink),
        }
    }
}

/// The tracks of a row, each with the artist that follows it.
fn tracks<'a>(
    mut entries: impl ExactSizeIterator<Item = &'a str>,
    options: DeezerOptions,
) -> Result<Vec<TrackMention>, RowError> {
    let length = entries.len();
    if length == 0 {
        return Err(RowError::Other("the playlist has no tracks".to_owned()));
    }
    playlist_length(length / 2).map_err(RowError::Other)?;
    let mut tracks = Vec::with_capacity(length / 2);
    while let Some(track) = entries.next() {
        let place = 2 * tracks.len();
        check(place, track, TRACK, options)?;
        let Some(artist) = entries.next() else {
            let reason = format!("{length} entries; tracks and artists alternate, so that their number is even");
            return Err(RowError::Order(reason));
        };
        check(place + 1, artist, ARTIST, options)?;
        let id = in_field(&format!("entry {place}"), TrackId::new(track)).map_err(RowError::Other)?;
        let field = format!("entry {}", place + 1);
        let artist = match artist.starts_with(ARTIST) {
            true => {
                let id = in_field(&field, ArtistId::new(artist)).map_err(RowError::Other)?;
                ArtistRecord::stated(Some(id), None)
            }
            false => ArtistRecord::stated(
                None,
                Some(name(artist).map_err(|reason| RowError::Other(format!("{field}: {reason}")))?),
            ),
        };
        tracks.push(TrackMention::Described(TrackRecord::bare(id).by(artist)));
    }
    Ok(tracks)
}

/// That an entry begins as it should; the text of an error is cut short.
fn check(place: usize, entry: &str, prefix: &str, options: DeezerOptions) -> Result<(), RowError> {
    if options.placeholder_artists || entry.len() > prefix.len() && entry.starts_with(prefix) {
        return Ok(());
    }
    let shown: String = entry.chars().take(40).collect();
    Err(RowError::Order(format!("entry {place} is {shown:?}, expected {prefix}<id>")))
}
