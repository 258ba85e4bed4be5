//! Slices of the Million Playlist Dataset (Chen, Lamere, Schedl, Zamani, RecSys 2018): JSON files named
//! `mpd.slice.A-B.json` of an object with `info` and `playlists`, 1,000 playlists each.
//!
//! Needed are a playlist's `pid` or `tracks`, and a track's `track_uri`; all else may be absent, and what is absent or empty
//! leaves what the catalog has. A field that can't be read is left out and listed. A playlist whose `pid` can't be read is named
//! after the file and its number in it: `mine:17`.
//!
//! A file is read playlist by playlist, so that its size does not matter.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::engine::{FileToRead, import_files};
use super::error::{FormatError, ImportError, ReadError};
use super::report::{ImportReport, Reject, Skipped};
use super::sink::{RowNumber, RowPlace, Sink};
use super::source::Source;
use crate::catalog::columns::playlist_length;
use crate::catalog::fields::{Field, JsonError, LineId, Omissions, Omitted, Whole, from_json, repair};
use crate::catalog::lines::{StatedPlaylist, StatedTrack};
use crate::catalog::{Catalog, NamedRows, PlaylistId, PlaylistRecord, TrackId, TrackMention, TrackRecord};
use crate::progress::Interrupt;

/// The longest playlist, in bytes: one of 100,000 tracks has 35 MB.
const MAX_VALUE_BYTES: usize = 64 << 20;
/// What a file is not.
const NOT_A_SLICE: &str = "not a slice of the Million Playlist Dataset";

/// A file as its reader leaves it.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// rows for the catalog
    pub playlists: Vec<PlaylistRecord>,
    /// what was skipped
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
    import_mpd_naming(catalog, paths, None, rejects, interrupt).await
}

/// The same, and adds all playlists to `named`.
pub async fn import_mpd_naming(
    catalog: &Catalog,
    paths: &[PathBuf],
    named: Option<&mut NamedRows>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport, ImportError> {
    let reads = find_slices(paths)?
        .into_iter()
        .map(|file| FileToRead::new(&file, true, |file, count, sink| read(file, Source::open(file, count)?, sink)));
    import_files(catalog, reads.collect(), named, rejects, interrupt).await
}

/// A playlist; `T` is a parsed track, or a raw one where some track does not parse.
#[derive(Deserialize)]
struct Playlist<'a, T> {
    #[serde(borrow, default)]
    pid: Field<LineId<'a>>,
    #[serde(borrow, default)]
    name: Field<Cow<'a, str>>,
    #[serde(borrow, default)]
    description: Field<Cow<'a, str>>,
    #[serde(default)]
    collaborative: Field<bool>,
    #[serde(default)]
    modified_at: Field<OffsetDateTime>,
    #[serde(default)]
    num_followers: Field<Whole>,
    #[serde(default)]
    num_edits: Field<Whole>,
    #[serde(default)]
    num_albums: Field<Whole>,
    #[serde(default)]
    num_artists: Field<Whole>,
    #[serde(default)]
    duration_ms: Field<Whole>,
    #[serde(default = "Option::default")]
    tracks: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct Track<'a> {
    #[serde(default)]
    pos: Field<Whole>,
    #[serde(borrow, default)]
    track_uri: Field<LineId<'a>>,
    #[serde(borrow, default)]
    track_name: Field<Cow<'a, str>>,
    #[serde(borrow, default)]
    artist_name: Field<Cow<'a, str>>,
    #[serde(borrow, default)]
    artist_uri: Field<LineId<'a>>,
    #[serde(borrow, default)]
    album_uri: Field<LineId<'a>>,
    #[serde(borrow, default)]
    album_name: Field<Cow<'a, str>>,
    #[serde(default)]
    duration_ms: Field<Whole>,
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

/// Parses a slice; `path` names it in rejects, and playlists without an id.
///
/// # Errors
///
/// When it is not JSON, or not an object with `playlists`: with the position of the first byte that is wrong.
pub fn parse_slice(path: &Path, bytes: &[u8]) -> Result<ParsedFile, FormatError> {
    let mut parsed = ParsedFile::default();
    let mut hand_over = |batch: super::sink::Batch| {
        parsed.playlists.extend(batch.playlists);
        parsed.rejects.extend(batch.rejects);
        Ok(())
    };
    let mut sink = Sink::new(path, &mut hand_over);
    let outcome = read(path, Source::new(bytes), &mut sink).and_then(|()| sink.flush());
    match outcome {
        Ok(()) | Err(ReadError::Stopped) => Ok(parsed),
        Err(ReadError::Format(error)) => Err(error),
    }
}

/// Reads a slice into `sink`; `path` names its rows.
///
/// # Errors
///
/// When it is not JSON, or not an object with `playlists`: with the position of the first byte that is wrong.
pub fn read<R: BufRead>(path: &Path, mut source: Source<R>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    source.skip_mark()?;
    let mut json = Json { source, value: Vec::new() };
    match json.token()? {
        None => return Err(FormatError { offset: 0, reason: "the file is empty".to_owned() }.into()),
        Some(b'{') => json.source.consume(1),
        Some(b'[') => return Err(json.refuse("a bare array, expected an object with `playlists`").into()),
        Some(_) => return Err(json.refuse("expected an object with `playlists`").into()),
    }
    let mut slice = Slice { path, seen: HashSet::new(), number: 0 };
    let mut has_playlists = false;
    let mut is_first = true;
    while !json.ends(b'}', &mut is_first)? {
        let name = json.name()?;
        json.expect(b':')?;
        if name != "playlists" {
            let offset = json.value()?;
            let outcome = serde_json::from_slice::<IgnoredAny>(&json.value);
            outcome.map_err(|error| json.malformed(offset, &error))?;
            continue;
        }
        has_playlists = true;
        match json.token()? {
            Some(b'[') => json.source.consume(1),
            Some(_) => return Err(json.refuse("`playlists` must be an array").into()),
            None => return Err(json.truncated().into()),
        }
        let mut is_first = true;
        while !json.ends(b']', &mut is_first)? {
            let offset = json.value()?;
            slice.playlist(offset, &json.value, sink)?;
        }
    }
    if !has_playlists {
        return Err(json.refuse("missing field `playlists`").into());
    }
    match json.token()? {
        None => Ok(()),
        Some(_) => Err(json.refuse("trailing characters").into()),
    }
}

/// The JSON of a file, of which one value is held at a time.
struct Json<R> {
    source: Source<R>,
    value: Vec<u8>,
}

impl<R: BufRead> Json<R> {
    fn refuse(&self, reason: &str) -> FormatError {
        self.source.refuse(format!("{NOT_A_SLICE}: {reason}"))
    }

    fn truncated(&self) -> FormatError {
        self.source.refuse("the JSON ends in the middle: the file is truncated")
    }

    /// The next byte that is not white space, without taking it; none at the end.
    fn token(&mut self) -> Result<Option<u8>, FormatError> {
        loop {
            let available = self.source.peek()?;
            let Some(spaces) = available.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                match available.len() {
                    0 => return Ok(None),
                    length => self.source.consume(length),
                }
                continue;
            };
            let token = available[spaces];
            self.source.consume(spaces);
            return Ok(Some(token));
        }
    }

    fn expect(&mut self, expected: u8) -> Result<(), FormatError> {
        match self.token()? {
            Some(token) if token == expected => {
                self.source.consume(1);
                Ok(())
            }
            Some(_) => Err(self.refuse(&format!("expected `{}`", char::from(expected)))),
            None => Err(self.truncated()),
        }
    }

    /// Takes the end of a list or object, or what parts its members.
    fn ends(&mut self, end: u8, is_first: &mut bool) -> Result<bool, FormatError> {
        let is_first = std::mem::take(is_first);
        match self.token()? {
            Some(token) if token == end => {
                self.source.consume(1);
                Ok(true)
            }
            Some(b',') if !is_first => {
                self.source.consume(1);
                match self.token()? {
                    Some(token) if token == end => Err(self.refuse("trailing comma")),
                    Some(_) => Ok(false),
                    None => Err(self.truncated()),
                }
            }
            Some(_) if is_first => Ok(false),
            Some(_) => Err(self.refuse(&format!("expected `,` or `{}`", char::from(end)))),
            None => Err(self.truncated()),
        }
    }

    /// Takes the name of a field.
    fn name(&mut self) -> Result<String, FormatError> {
        if self.token()?.is_some_and(|token| token != b'"') {
            return Err(self.refuse("expected the name of a field"));
        }
        let offset = self.value()?;
        serde_json::from_slice(&self.value).map_err(|error| self.malformed(offset, &error))
    }

    /// Takes a value, and holds it. Returns where it begins.
    ///
    /// Only its end is looked for: what is within brackets is parsed later.
    fn value(&mut self) -> Result<u64, FormatError> {
        self.value.clear();
        let begin = match self.token()? {
            Some(b'}' | b']' | b',' | b':') => return Err(self.refuse("expected a value")),
            Some(_) => self.source.offset(),
            None => return Err(self.truncated()),
        };
        let (mut depth, mut is_text, mut is_escaped) = (0_u32, false, false);
        loop {
            let available = self.source.peek()?;
            if available.is_empty() {
                return Err(self.truncated());
            }
            let mut end = None;
            for (index, &byte) in available.iter().enumerate() {
                if is_text {
                    match byte {
                        _ if is_escaped => is_escaped = false,
                        b'\\' => is_escaped = true,
                        b'"' => {
                            is_text = false;
                            if depth == 0 {
                                end = Some(index + 1);
                                break;
                            }
                        }
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => is_text = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 0 => {
                        depth -= 1;
                        if depth == 0 {
                            end = Some(index + 1);
                            break;
                        }
                    }
                    // The end of a number, or of true, false and null.
                    b'}' | b']' | b',' if depth == 0 => {
                        end = Some(index);
                        break;
                    }
                    _ if depth == 0 && byte.is_ascii_whitespace() => {
                        end = Some(index);
                        break;
                    }
                    _ => {}
                }
            }
            let taken = end.unwrap_or(available.len());
            if self.value.len() + taken > MAX_VALUE_BYTES {
                let reason = format!("a playlist of more than {MAX_VALUE_BYTES} bytes");
                return Err(FormatError { offset: begin, reason });
            }
            self.value.extend_from_slice(&available[..taken]);
            self.source.consume(taken);
            if end.is_some() {
                return Ok(begin);
            }
        }
    }

    /// An error of the parser in the value that is held.
    fn malformed(&self, offset: u64, error: &serde_json::Error) -> FormatError {
        let error = FormatError::json(&self.value, error, NOT_A_SLICE);
        FormatError { offset: offset + error.offset, ..error }
    }
}

/// The playlists of a file as they are met.
struct Slice<'a> {
    path: &'a Path,
    seen: HashSet<PlaylistId>,
    number: u64,
}

impl Slice<'_> {
    fn playlist(&mut self, offset: u64, json: &[u8], sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let number = self.number;
        self.number += 1;
        let place = RowPlace { offset, number: RowNumber::Playlist(number) };
        if let Err(error) = std::str::from_utf8(json) {
            return sink.reject(place, format!("not UTF-8 at byte {}", offset + error.valid_up_to() as u64));
        }
        let fallback = || PlaylistId::new(format!("{}:{number}", self.stem()));
        let mut omissions = Omissions::default();
        let outcome = match parse_playlist(json, fallback, &mut omissions) {
            Err(PlaylistError::Malformed(error)) => {
                let error = FormatError::json(json, &error, NOT_A_SLICE);
                return Err(FormatError { offset: offset + error.offset, ..error }.into());
            }
            Err(PlaylistError::Rejected(reason)) => Err(reason),
            Ok(playlist) if !self.seen.insert(playlist.id.clone()) => {
                Err(format!("pid {:?} occurs twice in this file", playlist.id))
            }
            Ok(playlist) => Ok(playlist),
        };
        match outcome {
            Ok(playlist) => {
                skip(place, json, omissions.list, sink)?;
                sink.playlist(place, playlist)
            }
            Err(reason) => sink.reject(place, reason),
        }
    }

    /// What playlists without an id are named after.
    fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.strip_suffix(".json").unwrap_or(name).to_owned()
    }
}

/// Lists what was left out of a playlist, where it stands in the file.
fn skip(place: RowPlace, json: &[u8], omitted: Vec<Omitted>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    #[derive(Deserialize)]
    struct Tracks<'a> {
        #[serde(borrow)]
        tracks: Vec<&'a RawValue>,
    }
    if omitted.is_empty() {
        return Ok(());
    }
    let tracks = serde_json::from_slice::<Tracks<'_>>(json).map(|found| found.tracks).unwrap_or_default();
    omitted.into_iter().try_for_each(|Omitted { field, reason }| {
        let index = field.strip_prefix("tracks[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        let track = index.and_then(|index| tracks.get(index));
        let within = track.map_or(0, |raw| raw.get().as_ptr() as usize - json.as_ptr() as usize);
        let item = format!("{}.{field}", place.number);
        sink.skip(Skipped::Part, place.offset + within as u64, item, format!("{field}: {reason}"))
    })
}

/// Why a playlist is not imported.
enum PlaylistError {
    /// It is not JSON.
    Malformed(serde_json::Error),
    /// It is no playlist.
    Rejected(String),
}

impl From<JsonError> for PlaylistError {
    fn from(error: JsonError) -> Self {
        match error.error.is_data() {
            true => Self::Rejected(error.to_string()),
            false => Self::Malformed(error.error),
        }
    }
}

fn parse_playlist(
    json: &[u8],
    fallback: impl FnOnce() -> Result<PlaylistId, crate::catalog::TextError>,
    omissions: &mut Omissions,
) -> Result<PlaylistRecord, PlaylistError> {
    if !json.starts_with(b"{") {
        // serde would take an array for the fields one after another.
        return match serde_json::from_slice::<IgnoredAny>(json) {
            Ok(_) => Err(PlaylistError::Rejected("must be an object".to_owned())),
            Err(error) => Err(PlaylistError::Malformed(error)),
        };
    }
    let mut repaired = Vec::new();
    if let Ok(mut playlist) = from_json::<Playlist<'_, Track<'_>>>(json, &mut repaired) {
        let tracks = playlist.tracks.take();
        return playlist_record(playlist, tracks.map(|tracks| tracks.into_iter().map(Ok)), fallback, omissions);
    }
    // Something in it is no track: find out what, and keep the rest.
    let json = if repair(json, &mut repaired) { &repaired } else { json };
    let mut unused = Vec::new();
    let mut playlist = from_json::<Playlist<'_, &RawValue>>(json, &mut unused)?;
    let tracks = playlist.tracks.take();
    playlist_record(playlist, tracks.map(|tracks| tracks.into_iter().map(parse_track)), fallback, omissions)
}

fn parse_track(raw: &RawValue) -> Result<Track<'_>, String> {
    if !raw.get().starts_with('{') {
        return Err("must be an object".to_owned());
    }
    serde_json::from_str(raw.get()).map_err(|error| {
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or(&text).to_owned()
    })
}

fn playlist_record<'a, T>(
    playlist: Playlist<'a, T>,
    tracks: Option<impl ExactSizeIterator<Item = Result<Track<'a>, String>>>,
    fallback: impl FnOnce() -> Result<PlaylistId, crate::catalog::TextError>,
    omissions: &mut Omissions,
) -> Result<PlaylistRecord, PlaylistError> {
    let id = match omissions.take("pid", playlist.pid, |LineId(id)| PlaylistId::new(id)) {
        Some(id) => id,
        None if tracks.is_none() => {
            let reason = omissions.list.pop().map_or("must not be empty".to_owned(), |omitted| omitted.reason);
            return Err(PlaylistError::Rejected(format!("pid: {reason}")));
        }
        None => {
            let id = fallback().map_err(|error| PlaylistError::Rejected(format!("pid: {error}")))?;
            let reason = omissions.list.pop().map_or("must not be empty".to_owned(), |omitted| omitted.reason);
            omissions.add("pid", format!("{reason}; the playlist is imported as \"{id}\""));
            id
        }
    };
    let stated = StatedPlaylist {
        title: ("name", playlist.name),
        description: playlist.description,
        collaborative: playlist.collaborative,
        num_followers: playlist.num_followers,
        num_edits: playlist.num_edits,
        num_albums: playlist.num_albums,
        num_artists: playlist.num_artists,
        duration_ms: playlist.duration_ms,
        modified_at: playlist.modified_at,
    };
    let record = stated.into_record(id, omissions);
    let Some(tracks) = tracks else {
        omissions.add("tracks", "missing; those that are in the catalog stay".to_owned());
        return Ok(PlaylistRecord { keeps_tracks: true, ..record });
    };
    playlist_length(tracks.len()).map_err(PlaylistError::Rejected)?;
    let mut placed: Vec<(Option<i64>, TrackRecord)> = Vec::with_capacity(tracks.len());
    for (index, track) in tracks.enumerate() {
        omissions.in_track(index);
        match track.and_then(|track| track_record(track, omissions)) {
            Ok(track) => placed.push(track),
            Err(reason) => omissions.add("", reason),
        }
    }
    omissions.in_row();
    // The order is the one stated, where it is stated throughout.
    if placed.iter().all(|(position, _)| position.is_some()) {
        placed.sort_by_key(|(position, _)| *position);
    }
    Ok(PlaylistRecord {
        tracks: placed.into_iter().map(|(_, track)| TrackMention::Described(track)).collect(),
        ..record
    })
}

/// A track with the position that the file states for it.
fn track_record(track: Track<'_>, omissions: &mut Omissions) -> Result<(Option<i64>, TrackRecord), String> {
    let id = track.track_uri.required("track_uri", |LineId(id)| TrackId::new(id))?;
    let position = omissions.take("pos", track.pos, |Whole(position)| Ok::<_, String>(position));
    let stated = StatedTrack {
        name: ("track_name", track.track_name),
        artist: ("artist_name", track.artist_name),
        artist_id: ("artist_uri", track.artist_uri),
        album: ("album_name", track.album_name),
        album_id: ("album_uri", track.album_uri),
        duration_ms: track.duration_ms,
    };
    Ok((position, stated.into_record(id, omissions)))
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
            {"track_uri": true, "artist_name": "A"},
            {"track_uri": "t:3", "track_name": "Three", "artist_name": "A"}]}]}"#;
        let parsed = parse(json);
        let ids: Vec<&TrackId> = parsed.playlists[0].tracks.iter().map(TrackMention::id).collect();
        assert_eq!(ids, ["t:1", "t:3"].map(|id| TrackId::new(id).expect("an id")).each_ref());
        assert_eq!(parsed.playlists[0].collaborative, Some(true));
        assert_eq!(parsed.rejects.len(), 1);
        let reject = &parsed.rejects[0];
        assert_eq!(reject.item, "playlists[0].tracks[1]");
        assert_eq!(reject.reason, "tracks[1]: track_uri: must be an id: text or a whole number, not true");
        assert!(json[reject.offset as usize..].starts_with(r#"{"track_uri": true"#));
    }

    #[test]
    fn a_bad_playlist_is_skipped_and_the_rest_of_the_slice_is_kept() {
        let parsed =
            parse(r#"{"playlists": [{"pid": 1, "tracks": []}, {}, {"pid": 1, "tracks": []}, 5, {"tracks": []}]}"#);
        assert_eq!(parsed.playlists.len(), 2);
        assert_eq!(parsed.playlists[1].id, "slice:4");
        let reasons: Vec<&str> = parsed.rejects.iter().map(|reject| reject.reason.as_str()).collect();
        assert_eq!(reasons[0], "pid: must not be empty");
        assert_eq!(reasons[1], "pid \"1\" occurs twice in this file");
        assert_eq!(reasons[2], "must be an object");
        assert_eq!(reasons[3], "pid: must not be empty; the playlist is imported as \"slice:4\"");
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
        assert!(refuse(b"[1, 2]").to_string().contains("a bare array"));
        assert!(parse_slice(Path::new("x"), b"\xef\xbb\xbf {\"playlists\": []} ").is_ok());
    }
}
