//! What comes out of a reader of rows, and what must hold of it.

use std::io::{BufRead, BufReader};
use std::path::Path;

use segue::catalog::columns::{MAX_GENRES, MAX_ID_BYTES, MAX_NAME_BYTES, MAX_PLAYLIST_TRACKS, MAX_TEXT_BYTES};
use segue::catalog::{PlaylistRecord, TrackMention, TrackRecord};
use segue::import::{Batch, FormatError, ReadError, Reject, Sink, Source};

/// Bytes of the longest reason for which a row is skipped, with some of its place.
const MAX_REASON_BYTES: usize = 4 << 10;
/// Bytes that arrive of a file at once, or more: a reader tells from as many what the file is.
pub const LEAST_PIECE: usize = 6;

/// What came out of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    /// rows and rejects
    pub batches: Vec<Batch>,
    /// why the file was given up, if it was
    pub refused: Option<FormatError>,
}

impl Read {
    /// Runs a reader of a file called `name`.
    pub fn of(name: &str, read: impl FnOnce(&Path, &mut Sink<'_>) -> Result<(), ReadError>) -> Self {
        let mut batches = Vec::new();
        let mut hand_over = |batch| {
            batches.push(batch);
            Ok(())
        };
        let mut sink = Sink::new(Path::new(name), &mut hand_over);
        let outcome = read(Path::new(name), &mut sink).and_then(|()| sink.flush());
        Self { batches, refused: refusal(outcome) }
    }

    /// Asserts that positions lie within a file of `length` bytes, and that rows are within the limits of the catalog.
    pub fn assert_sound(&self, length: usize) {
        assert_refusal(self.refused.as_ref(), length);
        for batch in &self.batches {
            assert_eq!(batch.playlists.len(), batch.places.len());
            assert!(batch.places.iter().all(|place| place.offset <= length as u64));
            assert_rejects(&batch.rejects, length);
            batch.tracks.iter().for_each(assert_track);
            batch.users.iter().for_each(|user| assert_id(user.as_str()));
            batch.playlists.iter().for_each(assert_playlist);
        }
    }
}

/// Runs a reader on a file's bytes as a whole and in pieces of a few, and asserts that both give the same, which is sound.
pub fn read_alike(
    name: &str,
    bytes: &[u8],
    read: impl Fn(&Path, Source<&mut dyn BufRead>, &mut Sink<'_>) -> Result<(), ReadError>,
) -> Read {
    let found = Read::of(name, |file, sink| read(file, Source::new(&mut &*bytes), sink));
    found.assert_sound(bytes.len());
    let mut pieces = BufReader::with_capacity(LEAST_PIECE + bytes.len() % 7, bytes);
    let again = Read::of(name, |file, sink| read(file, Source::new(&mut pieces), sink));
    assert_eq!(found, again, "it depends on how the file arrives");
    found
}

/// Returns why a file was given up, if it was.
pub fn refusal(outcome: Result<(), ReadError>) -> Option<FormatError> {
    match outcome {
        Ok(()) => None,
        Err(ReadError::Format(error)) => Some(error),
        Err(ReadError::Stopped) => panic!("nothing stops it"),
    }
}

/// Asserts that an error says something, and where in a file of `length` bytes.
pub fn assert_refusal(refused: Option<&FormatError>, length: usize) {
    if let Some(error) = refused {
        assert!(error.offset <= length as u64, "{error:?}");
        assert!(!error.reason.is_empty());
    }
}

/// Asserts that rejects have a short reason, and a position within a file of `length` bytes.
pub fn assert_rejects(rejects: &[Reject], length: usize) {
    for reject in rejects {
        assert!(reject.offset <= length as u64 && !reject.item.is_empty(), "{reject:?}");
        assert_reason(&reject.reason);
    }
}

/// Asserts that an error says something, and not much.
pub fn assert_reason(reason: &str) {
    assert!(!reason.is_empty() && reason.len() <= MAX_REASON_BYTES, "a reason of {} bytes", reason.len());
}

/// Asserts that the catalog can store an id.
pub fn assert_id(id: &str) {
    assert!(!id.trim().is_empty() && id.len() <= MAX_ID_BYTES && !id.contains(char::is_control), "{id:?}");
}

/// Asserts that the catalog can store a name, if there is one.
pub fn assert_name(name: Option<&str>) {
    assert_text(name, MAX_NAME_BYTES);
}

fn assert_text(text: Option<&str>, most_bytes: usize) {
    if let Some(text) = text {
        assert!(!text.trim().is_empty() && text.len() <= most_bytes && !text.contains('\0'), "{text:?}");
    }
}

/// Asserts that the catalog can store a track.
pub fn assert_track(track: &TrackRecord) {
    assert_id(track.id.as_str());
    assert_name(track.name.as_deref());
    if let Some(artist) = &track.artist {
        assert!(artist.id.is_some() || artist.name.is_some());
        artist.id.iter().for_each(|id| assert_id(id.as_str()));
        assert_name(artist.name.as_deref());
    }
    if let Some(album) = &track.album {
        assert!(album.id.is_some() || album.name.is_some());
        album.id.iter().for_each(|id| assert_id(id.as_str()));
        assert_name(album.name.as_deref());
    }
    assert!(track.duration_ms.is_none_or(|duration| duration >= 0), "{track:?}");
    let genres = track.genres.iter().flatten();
    assert!(genres.clone().count() <= MAX_GENRES);
    genres.for_each(|genre| assert_name(Some(genre)));
}

/// Asserts that the catalog can store a playlist.
pub fn assert_playlist(playlist: &PlaylistRecord) {
    assert_id(playlist.id.as_str());
    playlist.user.iter().for_each(|user| assert_id(user.as_str()));
    assert_text(playlist.title.as_deref(), MAX_TEXT_BYTES);
    assert_text(playlist.description.as_deref(), MAX_TEXT_BYTES);
    assert!(playlist.modified_at.is_none_or(|time| (1..=9_999).contains(&time.year())), "{:?}", playlist.modified_at);
    assert!(playlist.tracks.len() <= MAX_PLAYLIST_TRACKS, "{} tracks", playlist.tracks.len());
    let numbers = [playlist.num_followers, playlist.num_edits, playlist.num_albums, playlist.num_artists];
    assert!(numbers.into_iter().flatten().all(|number| number >= 0), "{playlist:?}");
    for track in &playlist.tracks {
        match track {
            TrackMention::Described(track) => assert_track(track),
            TrackMention::Id(id) => assert_id(id.as_str()),
        }
    }
}
