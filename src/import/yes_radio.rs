//! Radio playlists of Yes.com (Chen, Moore, Turnbull, Joachims, "Playlist Prediction via Metric Embedding", KDD 2012):
//! a folder with two files.
//!
//! * `train.txt`: line 1 has the songs' ids at Yes.com, line 2 how often each occurs, every further line a playlist: songs
//!   by number, from 0, parted by blanks.
//! * `song_hash.txt`: a song a line: number, title and artist, parted by tabs.
//!
//! A track's id is `yes:` and its id at Yes.com, which is the same in all sizes of the data set; a playlist's is the
//! folder's name and its number, from 0: `yes_small:17`. Tags (`tags.txt`) have no place in the catalog and the playlists
//! to test with (`test.txt`) none in training: both are left alone.

use std::collections::HashMap;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::engine::{FileToRead, import_files};
use super::error::{FormatError, ImportError, ReadError};
use super::report::ImportReport;
use super::sink::Sink;
use super::source::{BytesRead, Source};
use crate::catalog::columns::{in_field, name, playlist_length};
use crate::catalog::{ArtistRecord, Catalog, PlaylistId, PlaylistRecord, TrackId, TrackMention, TrackRecord, stated};
use crate::progress::Interrupt;

const PLAYLISTS: &str = "train.txt";
const SONGS: &str = "song_hash.txt";

/// Imports folders of Yes.com radio playlists.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress.
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
    let reads = find_playlists(folders)?.into_iter().map(|file| FileToRead::new(&file, false, read));
    import_files(catalog, reads.collect(), None, rejects, interrupt).await
}

/// The files of playlists in `folders`: each has one, or folders below it do.
fn find_playlists(folders: &[PathBuf]) -> Result<Vec<PathBuf>, ImportError> {
    let mut found = Vec::new();
    for folder in folders {
        let refuse = |reason: String| ImportError::Path { path: folder.clone(), reason };
        let mut below: Vec<PathBuf> =
            fs::read_dir(folder).map_err(|error| refuse(error.to_string()))?.flatten().map(|one| one.path()).collect();
        below.sort();
        below.insert(0, folder.clone());
        let files: Vec<PathBuf> =
            below.into_iter().filter(|one| one.join(PLAYLISTS).is_file()).map(|one| one.join(PLAYLISTS)).collect();
        if files.is_empty() {
            return Err(refuse(format!("no {PLAYLISTS} in this folder, nor in one below it")));
        }
        for file in &files {
            let songs = file.with_file_name(SONGS);
            if !songs.is_file() {
                return Err(ImportError::Path { path: songs, reason: format!("is missing beside {PLAYLISTS}") });
            }
        }
        found.extend(files);
    }
    Ok(found)
}

/// Songs as `song_hash.txt` describes them: title and artist by number.
#[derive(Debug, Default)]
pub struct Songs {
    by_number: HashMap<u64, (String, String)>,
    /// above all numbers
    end: u64,
}

/// Reads the playlists in `file` and the songs in the file beside it.
///
/// # Errors
///
/// When the first two lines or the songs are not as they should be: with the position.
pub fn read(file: &Path, count: &BytesRead, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let songs_file = file.with_file_name(SONGS);
    let of_songs =
        |error: FormatError| FormatError { reason: format!("{}: {}", songs_file.display(), error.reason), ..error };
    let songs = read_songs(Source::open(&songs_file, &BytesRead::default()).map_err(of_songs)?).map_err(of_songs)?;
    let folder = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folder = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    read_playlists(Source::open(file, count)?, &folder, &songs, sink)
}

/// Titles and artists by the song's number. Lines that are wrong leave a gap, which the playlists with that song tell of.
///
/// # Errors
///
/// When no line is right.
pub fn read_songs<R: BufRead>(mut source: Source<R>) -> Result<Songs, FormatError> {
    let mut songs = Songs::default();
    while let Some(line) = source.line()? {
        let Ok(text) = line.text else { continue };
        let mut fields = text.split('\t');
        let (Some(number), Some(title), Some(artist)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        // They were written with the escapes of JSON and HTML.
        let plain = |text: &str| stated(&text.replace("\\/", "/").replace("&amp;", "&")).unwrap_or_default();
        songs.by_number.insert(number.into(), (plain(title), plain(artist)));
        songs.end = songs.end.max(u64::from(number) + 1);
    }
    if songs.by_number.is_empty() {
        return Err(FormatError {
            offset: 0,
            reason: "no line has number, title and artist, parted by tabs".to_owned(),
        });
    }
    Ok(songs)
}

/// Reads playlists of `songs`; their ids begin with `folder`.
///
/// # Errors
///
/// When the first two lines are not about as many songs as there are.
pub fn read_playlists<R: BufRead>(
    mut source: Source<R>,
    folder: &str,
    songs: &Songs,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let tracks = read_tracks(&mut source, songs)?;
    let refuse = |offset: u64, reason: String| FormatError { offset, reason };
    let Some(line) = source.line()? else {
        return Err(source.refuse("line 2, how often each song occurs, is missing").into());
    };
    let counts =
        line.text.map_err(|problem| refuse(line.offset, problem.to_string()))?.split_ascii_whitespace().count();
    if counts != tracks.len() {
        let reason = format!("line 2 has {counts} numbers, line 1 {} ids; they are of the same songs", tracks.len());
        return Err(refuse(line.offset, reason).into());
    }
    while let Some(line) = source.line()? {
        let number = line.number - 3;
        let Some((place, text)) = sink.text(line)? else { continue };
        let id = in_field("the playlist's id", PlaylistId::new(format!("{folder}:{number}")));
        match id.and_then(|id| Ok(PlaylistRecord::bare(id, playlist_tracks(text, &tracks)?))) {
            Ok(playlist) => sink.playlist(place, playlist)?,
            Err(reason) => sink.reject(place, reason)?,
        }
    }
    Ok(())
}

/// The tracks that line 1 numbers, or what is wrong with each.
fn read_tracks<R: BufRead>(
    source: &mut Source<R>,
    songs: &Songs,
) -> Result<Vec<Result<TrackRecord, String>>, FormatError> {
    let refuse = |offset: u64, reason: String| FormatError { offset, reason };
    let Some(line) = source.line()? else { return Err(refuse(0, "the file is empty".to_owned())) };
    let ids = line.text.map_err(|problem| refuse(line.offset, problem.to_string()))?;
    let tracks: Vec<Result<TrackRecord, String>> = (0..)
        .zip(ids.split_ascii_whitespace())
        .map(|(number, id)| {
            let Some((title, artist)) = songs.by_number.get(&number) else {
                return Err(format!("song {number} is not described in {SONGS}"));
            };
            let id = in_field("a song's id", TrackId::new(format!("yes:{id}")))?;
            let artist =
                ArtistRecord::stated(None, Some(name(artist).map_err(|reason| format!("a song's artist: {reason}"))?));
            let title = name(title).map_err(|reason| format!("a song's title: {reason}"))?;
            Ok(TrackRecord::named(id, title).by(artist))
        })
        .collect();
    if (tracks.len() as u64) < songs.end {
        let reason = format!("line 1 has {} ids, {SONGS} {} songs; they are of the same ones", tracks.len(), songs.end);
        return Err(refuse(line.offset, reason));
    }
    Ok(tracks)
}

fn playlist_tracks(text: &str, songs: &[Result<TrackRecord, String>]) -> Result<Vec<TrackMention>, String> {
    playlist_length(text.split_ascii_whitespace().count())?;
    text.split_ascii_whitespace()
        .map(|number| {
            let song = number.parse::<usize>().ok().and_then(|number| songs.get(number)).ok_or_else(|| {
                let shown: String = number.chars().take(40).collect();
                format!("{shown:?} is not the number of one of the {} songs", songs.len())
            })?;
            song.clone().map(TrackMention::Described)
        })
        .collect()
}
