//! Slices of the Million Playlist Dataset (Chen, Lamere, Schedl, Zamani, RecSys 2018): JSON files named
//! `mpd.slice.A-B.json` of an object with `info` and `playlists`, 1,000 playlists each.
//!
//! Needed are a playlist's `pid` and `tracks`, and a track's `track_uri`; all else may be absent, and what is absent or
//! empty leaves what the catalog has. A playlist is parsed in one go; only when that fails is it taken apart track by track, to skip what is bad
//! and keep the rest.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::engine::{FileToRead, import_files};
use super::error::{FormatError, ImportError};
use super::report::{ImportReport, Reject};
use super::sink::{RowNumber, RowPlace};
use super::source::read_file;
use crate::catalog::columns::{count, in_field, name};
use crate::catalog::{
    AlbumId, AlbumRecord, ArtistId, ArtistRecord, Catalog, PlaylistId, PlaylistRecord, TextError, TrackId,
    TrackMention, TrackRecord, stated,
};
use crate::progress::Interrupt;

/// A file as its reader leaves it.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// rows for the catalog
    pub playlists: Vec<PlaylistRecord>,
    /// rows skipped
    pub rejects: Vec<Reject>,
}

/// Imports slices in the Million Playlist Dataset's format: files, or folders of `mpd.slice.*.json[.gz]`.
///
/// `rejects` is where skipped rows are listed. On an interrupt the file in progress is finished and the rest left.
pub async fn import_mpd(
    catalog: &Catalog,
    paths: &[PathBuf],
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    let reads = find_slices(paths)?.into_iter().map(|file| {
        FileToRead::new(&file, false, |file, count, sink| {
            let parsed = parse_slice(file, &read_file(file, count)?)?;
            for reject in parsed.rejects {
                sink.reject_item(reject.offset, reject.item, reject.reason)?;
            }
            (0..).zip(parsed.playlists).try_for_each(|(number, playlist)| {
                sink.playlist(RowPlace { offset: 0, number: RowNumber::Playlist(number) }, playlist)
            })
        })
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

#[derive(Deserialize)]
struct Slice<'a> {
    #[serde(borrow)]
    playlists: Vec<&'a RawValue>,
}

/// A playlist; `T` is a parsed track, or a raw one where some track does not parse.
#[derive(Deserialize)]
struct Playlist<'a, T> {
    #[serde(borrow)]
    pid: Id<'a>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "flag")]
    collaborative: Option<bool>,
    modified_at: Option<i64>,
    num_followers: Option<u32>,
    num_edits: Option<u32>,
    num_albums: Option<u32>,
    num_artists: Option<u32>,
    duration_ms: Option<u64>,
    tracks: Vec<T>,
}

#[derive(Deserialize)]
struct Track<'a> {
    pos: Option<u32>,
    #[serde(borrow)]
    track_uri: Cow<'a, str>,
    #[serde(borrow)]
    track_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    artist_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    artist_uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    album_uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    album_name: Option<Cow<'a, str>>,
    duration_ms: Option<u32>,
}

/// A playlist's id: a number in the data set, text in files that apps make for themselves.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a whole number from 0 on, or text")]
enum Id<'a> {
    Number(u64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// The data set writes "true" and "false" in quotes.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be true or false")]
    enum Flag {
        Plain(bool),
        Quoted(QuotedFlag),
        Absent(()),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum QuotedFlag {
        True,
        False,
    }
    Ok(match Flag::deserialize(deserializer)? {
        Flag::Plain(flag) => Some(flag),
        Flag::Quoted(QuotedFlag::True) => Some(true),
        Flag::Quoted(QuotedFlag::False) => Some(false),
        Flag::Absent(()) => None,
    })
}

/// The slices among `paths`: files as they are named, and of folders the files `mpd.slice.*.json[.gz]`, by number.
pub fn find_slices(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ImportError> {
    let mut files = Vec::new();
    for path in paths {
        let refuse = |reason: String| ImportError::Path { path: path.clone(), reason };
        let metadata = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut slices: Vec<(u64, PathBuf)> = std::fs::read_dir(path)
            .map_err(|error| refuse(error.to_string()))?
            .flatten()
            .filter_map(|entry| Some((slice_number(&entry.file_name().to_string_lossy())?, entry.path())))
            .collect();
        if slices.is_empty() {
            return Err(refuse("no mpd.slice.*.json or mpd.slice.*.json.gz in this folder".to_owned()));
        }
        slices.sort();
        files.extend(slices.into_iter().map(|(_, file)| file));
    }
    Ok(files)
}

/// `mpd.slice.4000-4999.json.gz` is number 4000.
fn slice_number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("mpd.slice.")?;
    let rest = rest.strip_suffix(".gz").unwrap_or(rest).strip_suffix(".json")?;
    Some(rest.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(u64::MAX))
}

/// Parses a slice; `path` only names it in rejects.
///
/// # Errors
///
/// When it is not JSON, or not an object with `playlists`: with the position of the first byte that is wrong.
pub fn parse_slice(path: &Path, bytes: &[u8]) -> Result<ParsedFile, FormatError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(FormatError { offset: 0, reason: "the file is empty".to_owned() });
    }
    let slice: Slice<'_> = serde_json::from_slice(bytes)
        .map_err(|error| FormatError::json(bytes, &error, "not a slice of the Million Playlist Dataset"))?;

    let mut parsed = ParsedFile::default();
    let mut seen = HashSet::new();
    for (number, raw) in slice.playlists.iter().enumerate() {
        let offset = position(bytes, raw);
        let reject = |item: String, offset: u64, reason: String| Reject { file: path.to_owned(), offset, item, reason };
        let item = format!("playlists[{number}]");
        match parse_playlist(raw, |track, raw, reason| {
            parsed.rejects.push(reject(format!("{item}.tracks[{track}]"), position(bytes, raw), reason));
        }) {
            Ok(playlist) if !seen.insert(playlist.id.clone()) => {
                let reason = format!("pid {} occurs twice in this file", playlist.id);
                parsed.rejects.push(reject(item, offset, reason));
            }
            Ok(playlist) => parsed.playlists.push(playlist),
            Err(reason) => parsed.rejects.push(reject(item, offset, reason)),
        }
    }
    Ok(parsed)
}

/// Where in the file a raw value that borrows from it begins.
fn position(bytes: &[u8], raw: &RawValue) -> u64 {
    (raw.get().as_ptr() as usize - bytes.as_ptr() as usize) as u64
}

/// A track with the position that the file states for it.
type Placed = (Option<u32>, TrackRecord);

fn parse_playlist(raw: &RawValue, mut reject: impl FnMut(usize, &RawValue, String)) -> Result<PlaylistRecord, String> {
    if let Ok(playlist) = serde_json::from_str::<Playlist<'_, Track<'_>>>(raw.get()) {
        let tracks: Result<Vec<Placed>, String> = playlist.tracks.iter().map(track_record).collect();
        if let Ok(tracks) = tracks {
            return playlist_record(&playlist, tracks);
        }
    }
    // Something in it is wrong: find out what, and keep the rest.
    let playlist: Playlist<'_, &RawValue> = parse(raw)?;
    let mut tracks = Vec::with_capacity(playlist.tracks.len());
    for (number, raw) in playlist.tracks.iter().enumerate() {
        match parse::<Track<'_>>(raw).and_then(|track| track_record(&track)) {
            Ok(track) => tracks.push(track),
            Err(reason) => reject(number, raw, reason),
        }
    }
    playlist_record(&playlist, tracks)
}

/// Parses a row; the reason for a failure names the field, and not the position, which counts from the start of the row.
fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let text = error.into_inner().to_string();
        let reason = text.split(" at line ").next().unwrap_or(&text);
        if path == "." { reason.to_owned() } else { format!("{path}: {reason}") }
    })
}

fn playlist_record<T>(playlist: &Playlist<'_, T>, mut tracks: Vec<Placed>) -> Result<PlaylistRecord, String> {
    let id = match &playlist.pid {
        Id::Number(number) => PlaylistId::new(number.to_string()),
        Id::Text(text) => PlaylistId::new(text.as_ref()),
    };
    // The order is the one stated, where it is stated throughout.
    if tracks.iter().all(|(position, _)| position.is_some()) {
        tracks.sort_by_key(|(position, _)| *position);
    }
    let modified_at = playlist
        .modified_at
        .map(OffsetDateTime::from_unix_timestamp)
        .transpose()
        .map_err(|_| "modified_at is not a time in seconds since 1970".to_owned())?;
    Ok(PlaylistRecord {
        id: in_field("pid", id)?,
        title: playlist.name.as_deref().and_then(stated),
        description: playlist.description.as_deref().and_then(stated),
        collaborative: playlist.collaborative,
        num_followers: count("num_followers", playlist.num_followers)?,
        num_edits: count("num_edits", playlist.num_edits)?,
        num_albums: count("num_albums", playlist.num_albums)?,
        num_artists: count("num_artists", playlist.num_artists)?,
        duration_ms: count("duration_ms", playlist.duration_ms)?,
        modified_at,
        user: None,
        tracks: tracks.into_iter().map(|(_, track)| TrackMention::Described(track)).collect(),
    })
}

fn track_record(track: &Track<'_>) -> Result<Placed, String> {
    let artist_id = stated_id("artist_uri", track.artist_uri.as_deref(), ArtistId::new)?;
    let album_id = stated_id("album_uri", track.album_uri.as_deref(), AlbumId::new)?;
    let artist = name("artist_name", track.artist_name.as_deref().unwrap_or_default())?;
    let album = name("album_name", track.album_name.as_deref().unwrap_or_default())?;
    let id = in_field("track_uri", TrackId::new(track.track_uri.as_ref()))?;
    let record = TrackRecord {
        artist: ArtistRecord::stated(artist_id, Some(&artist)),
        album: AlbumRecord::stated(album_id, Some(&album)),
        duration_ms: count("duration_ms", track.duration_ms)?,
        ..TrackRecord::named(id, track.track_name.as_deref().unwrap_or_default())
    };
    Ok((track.pos, record))
}

/// An id that may be left out, or empty.
fn stated_id<'a, T>(
    field: &str,
    text: Option<&'a str>,
    new: impl FnOnce(&'a str) -> Result<T, TextError>,
) -> Result<Option<T>, String> {
    text.filter(|text| !text.is_empty()).map(|text| in_field(field, new(text))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> ParsedFile {
        parse_slice(Path::new("slice.json"), json.as_bytes()).expect("a slice")
    }

    #[test]
    fn a_bad_track_is_skipped_and_its_neighbours_are_kept() {
        let json = r#"{"playlists": [{"pid": 7, "collaborative": "true", "tracks": [
            {"track_uri": "t:1", "track_name": "One", "artist_name": "A"},
            {"track_uri": 2, "artist_name": "A"},
            {"track_uri": "t:3", "track_name": "Three", "artist_name": "A"}]}]}"#;
        let parsed = parse(json);
        let ids: Vec<&TrackId> = parsed.playlists[0].tracks.iter().map(TrackMention::id).collect();
        assert_eq!(ids, ["t:1", "t:3"].map(|id| TrackId::new(id).expect("an id")).each_ref());
        assert_eq!(parsed.playlists[0].collaborative, Some(true));
        assert_eq!(parsed.rejects.len(), 1);
        let reject = &parsed.rejects[0];
        assert_eq!(reject.item, "playlists[0].tracks[1]");
        assert!(reject.reason.starts_with("track_uri: invalid type: integer `2`"), "{}", reject.reason);
        assert!(json[reject.offset as usize..].starts_with(r#"{"track_uri": 2"#));
    }

    #[test]
    fn a_bad_playlist_is_skipped_and_the_rest_of_the_slice_is_kept() {
        let parsed = parse(r#"{"playlists": [{"pid": 1, "tracks": []}, {"tracks": []}, {"pid": 1, "tracks": []}, 5]}"#);
        assert_eq!(parsed.playlists.len(), 1);
        let reasons: Vec<&str> = parsed.rejects.iter().map(|reject| reject.reason.as_str()).collect();
        assert_eq!(reasons[0], "missing field `pid`");
        assert_eq!(reasons[1], "pid 1 occurs twice in this file");
        assert!(reasons[2].starts_with("invalid type: integer `5`"), "{}", reasons[2]);
    }

    #[test]
    fn tracks_are_ordered_by_their_stated_positions() {
        let parsed = parse(
            r#"{"playlists": [{"pid": "mine", "tracks": [
                {"pos": 9, "track_uri": "t:b", "track_name": "B", "artist_name": "A"},
                {"pos": 4, "track_uri": "t:a", "track_name": "A", "artist_name": "A"}]}]}"#,
        );
        assert_eq!(parsed.playlists[0].id, "mine");
        assert_eq!(parsed.playlists[0].tracks[0].id().as_str(), "t:a");
    }

    #[test]
    fn what_is_not_a_slice_is_refused_with_the_position() {
        let refuse = |bytes: &[u8]| parse_slice(Path::new("x"), bytes).expect_err("no slice");
        assert_eq!(refuse(b" \n").reason, "the file is empty");
        let truncated = refuse(b"{\"playlists\": [{\"pid\": 1,\n \"tracks\": [");
        assert!(truncated.reason.contains("truncated"), "{truncated}");
        assert!(truncated.offset >= 36, "{truncated}");
        let malformed = refuse(b"{\"playlists\": [}]}");
        assert_eq!(malformed.offset, 15);
        assert!(refuse(b"{\"info\": {}}").reason.contains("missing field `playlists`"));
        assert!(refuse(b"[1, 2]").to_string().contains("at byte"));
    }
}
