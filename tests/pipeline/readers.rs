//! What the readers of NumPy files, slices, tables, text and NDJSON make of anything that they may be given: rows, rejects or an error
//! that names a position inside the file, and never a crash.
//!
//! A moment of random changes to the files of `tests/fixtures/import` is part of it; `make fuzz` searches for longer, and
//! guided by coverage.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::catalog::fields::{Field, Omissions, Whole};
use segue::catalog::lines::{self, LineId, LineTrack, PlaylistLine, TrackLine};
use segue::catalog::{RatingScale, TrackMention};
use segue::import::deezer::{self, DeezerOptions};
use segue::import::kkbox::{KkboxBatch, KkboxFile};
use segue::import::ndjson::{self, RowKind};
use segue::import::pickle::Limits;
use segue::import::{
    Batch, FormatError, ParsedRatings, RatingsFile, ReadError, Reject, Sink, Source, mpd, npy, yes_radio,
};

/// Files of the Yes.com playlists as short as they can be.
const SONGS: &[u8] = b"0\tFirst\tNobody\n";
const PLAYLISTS: &[u8] = b"900 \n1 \n0 0 \n";
/// The longest of the two.
const LONGEST: u64 = 18;

/// What came out of a file.
#[derive(Debug, Default)]
struct Read {
    batches: Vec<Batch>,
    refused: Option<FormatError>,
}

impl Read {
    fn of(name: &str, read: impl FnOnce(&Path, &mut Sink<'_>) -> Result<(), ReadError>) -> Self {
        let mut batches = Vec::new();
        let mut hand_over = |batch| {
            batches.push(batch);
            Ok(())
        };
        let mut sink = Sink::new(Path::new(name), &mut hand_over);
        let outcome = read(Path::new(name), &mut sink);
        sink.flush().expect("nobody stops it");
        let refused = match outcome {
            Ok(()) => None,
            Err(ReadError::Format(error)) => Some(error),
            Err(ReadError::Stopped) => panic!("nobody stops it"),
        };
        Self { batches, refused }
    }

    fn deezer(name: &str, bytes: &[u8], placeholder_artists: bool) -> Self {
        let options = DeezerOptions { placeholder_artists };
        Self::of(name, |file, sink| deezer::read(file, Source::new(bytes), options, sink))
    }

    /// The position of an error may be in either of the two files.
    fn yes_radio(songs: &[u8], playlists: &[u8]) -> Self {
        Self::of("train.txt", |_, sink| {
            let songs = yes_radio::read_songs(Source::new(songs))?;
            yes_radio::read_playlists(Source::new(playlists), "folder", &songs, sink)
        })
    }

    fn mpd(bytes: &[u8]) -> Self {
        Self::of("slice.json", |file, sink| mpd::read(file, Source::new(bytes), sink))
    }

    fn ndjson(kind: RowKind, bytes: &[u8]) -> Self {
        Self::of("rows.ndjson", |_, sink| ndjson::read(Source::new(bytes), kind, sink))
    }

    /// Each playlist's id with its tracks and their artists.
    fn playlists(&self) -> Vec<(String, Vec<String>)> {
        let entry = |track: &TrackMention| match track {
            TrackMention::Described(track) => {
                let artist = track.artist.clone().and_then(|artist| artist.id.map(String::from).or(artist.name));
                [track.id.to_string(), artist.unwrap_or_default()]
            }
            TrackMention::Id(id) => [id.to_string(), String::new()],
        };
        self.batches
            .iter()
            .flat_map(|batch| &batch.playlists)
            .map(|playlist| (playlist.id.to_string(), playlist.tracks.iter().flat_map(entry).collect()))
            .collect()
    }

    fn rejects(&self) -> Vec<&Reject> {
        self.batches.iter().flat_map(|batch| &batch.rejects).collect()
    }

    fn has_rows(&self) -> bool {
        self.batches
            .iter()
            .any(|batch| !(batch.playlists.is_empty() && batch.tracks.is_empty() && batch.users.is_empty()))
    }

    /// That whatever is wrong is said, with a position in the file.
    fn assert_sound(&self, bytes: &[u8]) {
        for reject in self.rejects() {
            assert!(reject.offset <= LONGEST.max(bytes.len() as u64) && !reject.reason.is_empty(), "{reject:?}");
        }
        if let Some(error) = &self.refused {
            assert!(error.offset <= LONGEST.max(bytes.len() as u64) && !error.reason.is_empty(), "{error:?}");
        }
        for batch in &self.batches {
            assert_eq!(batch.playlists.len(), batch.places.len());
        }
    }
}

/// Files of one kind, name and content.
fn fixtures(extension: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("fixtures")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    let name = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).expect("a fixture"))).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures("npy").into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no fixture {name}")).1
}

fn texts(words: &str) -> Vec<String> {
    words.split(' ').map(ToOwned::to_owned).collect()
}

#[test]
fn an_array_of_lists_is_read_alike_from_every_protocol_and_as_text() {
    let expected = [
        texts("track_1 artist_1 track_2 artist_1"),
        texts("track_3 artist_2"),
        texts("track_1 artist_1 track_3 artist_2 track_2 artist_1"),
    ];
    let named = |name: &str| -> Vec<(String, Vec<String>)> {
        expected.iter().enumerate().map(|(number, entries)| (format!("{name}:{number}"), entries.clone())).collect()
    };
    let names = fixtures("npy").into_iter().filter(|(name, _)| name.starts_with("lists_"));
    let mut read = 0;
    for (name, bytes) in names {
        let found = Read::deezer(&format!("{name}.npy"), &bytes, false);
        assert_eq!(found.refused, None, "{name}");
        assert_eq!(found.playlists(), named(&name));
        read += 1;
    }
    assert_eq!(read, 6);
    let lines: Vec<String> = expected.iter().map(|entries| entries.join(" ")).collect();
    for text in [lines.join("\n"), lines.join("\r\n") + "\r\n", lines.join(" \n") + "\n \n"] {
        assert_eq!(Read::deezer("some/lists.txt", text.as_bytes(), false).playlists(), named("lists"), "{text:?}");
    }
}

#[test]
fn lists_of_one_length_that_numpy_makes_a_table_of_are_its_rows() {
    let found = Read::deezer("table.npy", &fixture("table"), false);
    let rows = found.playlists();
    assert_eq!(rows[0], ("table:0".to_owned(), texts("track_1 artist_1")));
    assert_eq!(rows[1], ("table:1".to_owned(), texts("track_2 artist_2")));
}

#[test]
fn what_no_array_of_lists_needs_is_refused_by_name_and_position() {
    for (name, words) in [
        ("calls_os_system", vec!["posix.system", "only NumPy's"]),
        ("dict", vec!["EMPTY_DICT (0x7d)"]),
        ("tuples", vec!["playlists must be lists"]),
        ("numbers", vec!["'<f8'", "'|O'"]),
        ("texts", vec!["expected one of lists"]),
        ("huge_text", vec!["BINUNICODE8 of 4611686018427387904 bytes", "65536"]),
        ("huge_memo", vec!["place 4294967295", "memo"]),
        ("huge_shape", vec!["[100000000000]", "[3]"]),
        ("bomb_repeated", vec!["6000000 entries out of 10255 bytes"]),
    ] {
        let bytes = fixture(name);
        let read = Read::deezer(name, &bytes, true);
        let error = read.refused.as_ref().unwrap_or_else(|| panic!("{name} was read"));
        for word in words {
            assert!(error.reason.contains(word), "{name}: {error}");
        }
        assert_eq!(read.playlists(), [], "nothing of a NumPy file is imported when it is refused");
        read.assert_sound(&bytes);
    }
}

#[test]
fn the_position_of_an_opcode_that_is_refused_is_where_it_stands() {
    let bytes = fixture("dict");
    let error = Read::deezer("dict", &bytes, false).refused.expect("refused");
    assert_eq!(bytes[error.offset as usize], b'}');
}

#[test]
fn every_opcode_but_those_of_an_array_of_lists_is_refused_by_its_name() {
    let (mut refused, mut known) = (Vec::new(), 0);
    for opcode in 0..=255u8 {
        let mut bytes = npy_header(0);
        bytes.extend_from_slice(&[0x80, 2, opcode]);
        let error = Read::deezer("one.npy", &bytes, false).refused.expect("no array");
        match error.reason.split_once(" has no place") {
            Some((name, _)) => refused.push(name.to_owned()),
            None => known += 1,
        }
        assert!(error.offset >= bytes.len() as u64 - 1, "{error}");
    }
    assert_eq!(known, 36);
    for name in
        ["INST (0x69)", "OBJ (0x6f)", "NEWOBJ (0x81)", "EXT1 (0x82)", "PERSID (0x50)", "SETITEMS (0x75)", "POP (0x30)"]
    {
        assert!(refused.contains(&name.to_owned()), "{name}: {refused:?}");
    }
}

#[test]
fn rows_that_are_no_playlists_are_rejected_one_by_one() {
    let bytes = fixture("mixed_rows");
    let read = Read::deezer("mixed.npy", &bytes, false);
    let ids: Vec<String> = read.playlists().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["mixed:0", "mixed:3"]);
    let rejects: Vec<(&str, &str)> =
        read.rejects().iter().map(|reject| (reject.item.as_str(), reject.reason.as_str())).collect();
    assert_eq!(rejects[0], ("playlists[1]", "entry 1 is a number, expected a text"));
    assert_eq!(rejects[1], ("playlists[2]", "the playlist has no tracks"));
    assert_eq!(rejects[2], ("playlists[4]", "entry 0 is a list, expected a text"));
    assert!(rejects[3].0 == "playlists[5]" && rejects[3].1.contains("alternate"), "{rejects:?}");
    for name in ["bomb_nested", "recursive"] {
        let read = Read::deezer(name, &fixture(name), false);
        assert!(read.rejects()[0].reason.contains("is a list, expected a text"), "{read:?}");
    }
}

#[test]
fn what_a_pickle_may_make_its_reader_hold_is_bounded() {
    let limits = Limits { stack: 100, memo: 100, lists: 100, entries: 100, text_bytes: 100 };
    let repeat = |opcodes: &[u8]| [&[0x80, 4][..], &opcodes.repeat(200)].concat();
    for (name, pickle, word) in [
        ("values", repeat(b"N"), "stack"),
        ("marks", repeat(b"("), "stack"),
        ("places of the memo", [b"\x80\x04]".to_vec(), b"\x94".repeat(200)].concat(), "memo"),
        ("lists", [b"\x80\x04]".to_vec(), b"]a".repeat(200)].concat(), "lists"),
        ("entries", [b"\x80\x04]".to_vec(), b"Na".repeat(200)].concat(), "entries"),
        ("tuples", [b"\x80\x04]".to_vec(), b")a".repeat(200)].concat(), "tuples"),
        ("a text", [b"\x80\x04X\xc8\0\0\0".to_vec(), b"x".repeat(200)].concat(), "200 bytes"),
    ] {
        let bytes = [npy_header(1), pickle].concat();
        let error = npy::read_object_array(&mut Source::new(bytes.as_slice()), &limits).expect_err(name);
        assert!(error.reason.contains(word) && !error.reason.contains("truncated"), "{name}: {error}");
    }
}

#[test]
fn a_file_without_artists_is_refused_with_the_flag_that_reads_it() {
    let text = "85116 x 22375 x\n22492 x\n";
    let error = Read::deezer("shop.txt", text.as_bytes(), false).refused.expect("refused");
    assert!(error.reason.contains("--placeholder-artists") && error.reason.contains("\"85116\""), "{error}");
    assert_eq!(error.offset, 0);
    let read = Read::deezer("shop.txt", text.as_bytes(), true);
    assert_eq!((read.refused.clone(), read.playlists()[1].clone()), (None, ("shop:1".to_owned(), texts("22492 x"))));
}

#[test]
fn a_line_without_artists_among_good_ones_is_merely_rejected() {
    let text = "85116 x\ntrack_1 artist_1\n22492 x\n";
    let read = Read::deezer("some.txt", text.as_bytes(), false);
    assert_eq!(read.refused, None);
    assert_eq!(read.playlists(), [("some:1".to_owned(), texts("track_1 artist_1"))]);
    let items: Vec<&str> = read.rejects().iter().map(|reject| reject.item.as_str()).collect();
    assert_eq!(items, ["line 1", "line 3"]);
}

#[test]
fn a_line_of_a_million_tracks_and_one_that_is_no_text_are_rejected_and_their_neighbours_kept() {
    let mut bytes = b"track_1 artist_1\n".to_vec();
    bytes.extend("track_1 a_1 ".repeat(1_000_000).replace("a_1", "artist_1").into_bytes());
    bytes.extend(b"\ntrack_2 artist_\xff\n");
    bytes.extend("track_3 artist_1 ".repeat(150_000).into_bytes());
    bytes.extend(b"\ntrack_4 artist_1");
    let read = Read::deezer("long.txt", &bytes, false);
    let ids: Vec<String> = read.playlists().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["long:0", "long:4"]);
    let reasons: Vec<&str> = read.rejects().iter().map(|reject| reject.reason.as_str()).collect();
    assert!(reasons[0].contains("a line of 17000000 bytes"), "{reasons:?}");
    assert!(reasons[1].contains("not UTF-8 at byte 17000033"), "{reasons:?}");
    assert!(reasons[2].contains("150000 tracks"), "{reasons:?}");
}

#[test]
fn a_numpy_file_cut_anywhere_is_refused_as_truncated() {
    for name in ["lists_protocol_2", "lists_protocol_4"] {
        let whole = fixture(name);
        for length in 6..whole.len() {
            let error = Read::deezer("cut.npy", &whole[..length], false).refused.expect("cut");
            assert_eq!((error.reason.as_str(), error.offset), ("the file is truncated", length as u64));
        }
        let error = Read::deezer("more.npy", &[whole, vec![0]].concat(), false).refused.expect("more");
        assert!(error.reason.contains("goes on after its array"), "{error}");
    }
}

/// Header of a NumPy file of `rows` Python objects.
fn npy_header(rows: usize) -> Vec<u8> {
    let header = format!("{{'descr': '|O', 'fortran_order': False, 'shape': ({rows},), }}\n");
    [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat()
}

/// What Python would write for an array of lists: the memo used as Python 2 (protocol 2) or Python 3 (4) uses it, for
/// texts that occur before.
fn pickled(rows: &[Vec<String>], protocol: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, protocol];
    let mut memo: Vec<String> = Vec::new();
    bytes.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85");
    bytes.extend(if protocol == 2 { &b"U\x01b"[..] } else { &b"C\x01b"[..] });
    bytes.extend(b"\x87R(K\x01J");
    bytes.extend((rows.len() as i32).to_le_bytes());
    bytes.extend(b"\x85cnumpy\ndtype\nX\x02\0\0\0O8K\0K\x01\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]");
    for chunk in rows.chunks(1_000) {
        bytes.push(b'(');
        for row in chunk {
            bytes.extend(b"](");
            for text in row {
                if let Some(place) = memo.iter().position(|known| known == text) {
                    bytes.push(b'j');
                    bytes.extend((place as u32).to_le_bytes());
                    continue;
                }
                if protocol == 2 || text.len() > 255 {
                    bytes.push(b'X');
                    bytes.extend((text.len() as u32).to_le_bytes());
                } else {
                    bytes.extend([0x8c, text.len() as u8]);
                }
                bytes.extend(text.as_bytes());
                if protocol == 2 {
                    bytes.push(b'r');
                    bytes.extend((memo.len() as u32).to_le_bytes());
                } else {
                    bytes.push(0x94);
                }
                memo.push(text.clone());
            }
            bytes.push(b'e');
        }
        bytes.push(b'e');
    }
    bytes.extend(b"tb.");
    [npy_header(rows.len()), bytes].concat()
}

fn any_rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    let text = prop_oneof!["[a-z_0-9]{0,12}", "\\PC{0,30}", "x{300}"];
    prop::collection::vec(prop::collection::vec(text, 0..12), 0..40)
}

fn any_playlist() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0..5_000u32, 0..300u32), 1..30)
        .prop_map(|row| row.iter().flat_map(|(t, a)| [format!("track_{t}"), format!("artist_{a}")]).collect())
}

proptest! {
    #[test]
    fn lists_of_any_texts_come_back_as_they_were_pickled(rows in any_rows(), protocol in prop_oneof![Just(2u8), Just(4)]) {
        let bytes = pickled(&rows, protocol);
        let array = npy::read_object_array(&mut Source::new(bytes.as_slice()), &Limits::default()).expect("an array");
        let found: Vec<Vec<String>> = array
            .rows()
            .expect("lists")
            .iter()
            .map(|row| row.texts().expect("texts").map(ToOwned::to_owned).collect())
            .collect();
        prop_assert_eq!(found, rows);
    }

    #[test]
    fn playlists_are_the_same_from_a_numpy_file_and_from_text(rows in prop::collection::vec(any_playlist(), 1..30)) {
        let text: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
        let from_text = Read::deezer("same.txt", text.join("\n").as_bytes(), false);
        let from_npy = Read::deezer("same.npy", &pickled(&rows, 4), false);
        prop_assert_eq!(from_text.playlists(), from_npy.playlists());
        prop_assert_eq!(from_npy.playlists().len(), rows.len());
        prop_assert!(from_npy.rejects().is_empty() && from_text.rejects().is_empty());
    }

    #[test]
    fn any_bytes_after_a_good_header_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let bytes = [npy_header(1), bytes].concat();
        Read::deezer("any.npy", &bytes, true).assert_sound(&bytes);
    }

    #[test]
    fn any_bytes_are_rows_rejects_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for placeholder_artists in [false, true] {
            Read::deezer("any", &bytes, placeholder_artists).assert_sound(&bytes);
        }
        for kind in [RowKind::Tracks, RowKind::Users, RowKind::Playlists] {
            Read::ndjson(kind, &bytes).assert_sound(&bytes);
        }
    }

    #[test]
    fn every_line_of_text_is_a_playlist_or_a_reject(lines in prop::collection::vec("(track_[0-9]{1,3} artist_[0-9] ?|\\PC){0,6}", 1..20)) {
        let text = lines.join("\n");
        let read = Read::deezer("lines.txt", text.as_bytes(), true);
        let filled = text.lines().filter(|line| !line.trim_ascii().is_empty()).count();
        if read.refused.is_none() {
            prop_assert_eq!(read.playlists().len() + read.rejects().len(), filled);
        }
    }

    #[test]
    fn rows_of_json_come_back_as_they_were_written(id in "[a-z0-9:é]{1,20}", title in "\\PC{0,40}", tracks in prop::collection::vec(("[a-z]{1,8}", any::<bool>()), 0..20), followers in 0..1_000_000i64) {
        let id = || Field::Stated(LineId(id.as_str().into()));
        let title = || if title.trim().is_empty() { Field::Absent } else { Field::Stated(title.as_str().into()) };
        let row = PlaylistLine {
            id: id(), user_id: id(), title: title(), collaborative: Field::Stated(true),
            num_followers: Field::Stated(Whole(followers)),
            modified_at: Field::Stated(time::macros::datetime!(2026-11-22 01:02:03 UTC)),
            tracks: Field::Stated(tracks.iter().map(|(track, described)| {
                let track = Field::Stated(LineId(track.as_str().into()));
                match described {
                    false => LineTrack::Id(track),
                    true => LineTrack::Track(Box::new(TrackLine {
                        id: track, name: title(), artist: title(), duration_ms: Field::Stated(Whole(followers)),
                        ..TrackLine::default()
                    })),
                }
            }).collect()),
            ..PlaylistLine::default()
        };
        let line = serde_json::to_string(&row).expect("JSON");
        let read = Read::ndjson(RowKind::Playlists, line.as_bytes());
        prop_assert_eq!(read.rejects().len(), 0);
        let record = row.into_record(&mut Omissions::default()).expect("a record");
        prop_assert_eq!(&read.batches[0].playlists, &vec![record.clone()]);
        prop_assert_eq!(lines::playlist(line.as_bytes()), Ok((record, Vec::new())));
    }

    #[test]
    fn any_json_is_a_slice_rejects_or_an_error(value in "[\\[\\]{},:\"\\\\ a1.u-]{0,60}", around in any::<bool>()) {
        let json = if around { format!("{{\"playlists\": [{value}]}}") } else { value };
        let read = Read::mpd(json.as_bytes());
        read.assert_sound(json.as_bytes());
        let parsed = serde_json::from_str::<serde_json::Value>(&json);
        // What is JSON of the right shape is read, and what is no JSON is refused.
        let is_slice = parsed.as_ref().is_ok_and(|value| value["playlists"].is_array());
        prop_assert_eq!(read.refused.is_none(), is_slice, "{} {:?}", json, read.refused);
    }

    #[test]
    fn every_line_of_a_table_is_a_rating_or_a_reject(rows in prop::collection::vec(("[a-c]", "[x-z]{1,2}", 1..6u8, "[ a-z\\\"]{0,6}"), 1..20)) {
        let lines: Vec<String> = rows.iter().map(|(user, track, rating, name)| format!("{user},{track},{rating},{name}")).collect();
        let text = format!("user_id,track_id,rating,name\n{}\n", lines.join("\n"));
        let parsed = ratings(RatingsFile::Table("mine.csv".into()), text.as_bytes()).expect("a table");
        let quotes = lines.iter().filter(|line| line.contains('"')).count();
        prop_assert!(parsed.ratings.len() >= rows.len() - quotes, "{}: {:?}", text, parsed.rejects);
        prop_assert!(parsed.ratings.len() + parsed.rejects.len() <= rows.len());
    }
}

/// What comes out of a file of ratings.
fn ratings(file: RatingsFile, bytes: &[u8]) -> Result<ParsedRatings, ReadError> {
    let (parsed, outcome) = file.parse(Source::new(bytes), RatingScale { lowest: 0.5, highest: 5.0 });
    outcome.map(|()| parsed)
}

/// Reads bytes as each kind of table; returns whether rows came out of one.
fn read_tables(bytes: &[u8]) -> bool {
    let mut has_rows = false;
    let sound = |rejects: &[Reject]| rejects.iter().all(|reject| reject.offset <= bytes.len() as u64);
    let kinds = [RatingsFile::Movies, RatingsFile::Ratings, RatingsFile::Item, RatingsFile::Data, RatingsFile::Table];
    for kind in kinds {
        if let Ok(parsed) = ratings(kind("table".into()), bytes) {
            assert!(sound(&parsed.rejects), "{:?}", parsed.rejects);
            has_rows |= !(parsed.ratings.is_empty() && parsed.tracks.is_empty());
        }
    }
    let kinds = [KkboxFile::Members, KkboxFile::Songs, KkboxFile::Recordings, KkboxFile::Train, KkboxFile::Test];
    for kind in kinds {
        let mut hand_over = |batch: KkboxBatch| {
            assert!(sound(&batch.rejects), "{:?}", batch.rejects);
            Ok(())
        };
        // A header of another kind is refused.
        let _ = kind("table".into()).read(Source::new(bytes), &mut hand_over);
    }
    has_rows
}

#[test]
fn a_reason_for_which_a_row_is_rejected_is_short_however_long_its_fields_are() {
    let long = "é".repeat(100_000);
    let table = format!("msno,song_id,source_system_tab,source_screen_name,source_type,target\na,b,c,d,e,{long}\n");
    let mut rejects = Vec::new();
    let mut hand_over = |batch: KkboxBatch| {
        rejects.extend(batch.rejects);
        Ok(())
    };
    KkboxFile::Train("train.csv".into()).read(Source::new(table.as_bytes()), &mut hand_over).expect("a table");
    let line = format!("{{\"{long}\": 1}}");
    rejects.extend(Read::ndjson(RowKind::Tracks, line.as_bytes()).rejects().into_iter().cloned());
    assert_eq!(rejects.len(), 2);
    for reject in rejects {
        assert!(reject.reason.len() < 3_000, "{} bytes", reject.reason.len());
    }
}

#[test]
fn a_song_with_a_large_number_takes_no_more_memory_than_others() {
    let read = Read::yes_radio(b"0\tFirst\tNobody\n4294967295\tLast\tNobody\n", PLAYLISTS);
    let refused = read.refused.expect("line 1 has one id");
    assert!(refused.reason.contains("4294967296 songs"), "{refused}");
}

#[test]
fn an_id_in_a_row_of_json_may_be_a_number() {
    let (user, omitted) = lines::user(br#"{"id": 17.0}"#).expect("a user");
    assert_eq!((user.as_str(), omitted), ("17", Vec::new()));
    lines::user(br#"{"id": 1.5}"#).expect_err("no id");
}

/// A moment of random changes to the fixtures.
#[test]
fn mutated_files_are_read_or_refused_and_never_crash_the_reader() {
    let all = ["npy", "txt", "ndjson", "json", "csv"].into_iter().flat_map(fixtures);
    let fixtures: Vec<Vec<u8>> = all.map(|(_, bytes)| bytes).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let (inputs, mut reached_rows) = (20_000u64, 0u64);
    for input in 0..inputs {
        let mut bytes = fixtures[rng.random_range(0..fixtures.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut bytes, &fixtures, &mut rng);
        }
        let outcome = std::panic::catch_unwind(|| {
            let reads = [
                Read::deezer("mutated.npy", &bytes, input.is_multiple_of(2)),
                Read::yes_radio(SONGS, &bytes),
                Read::yes_radio(&bytes, PLAYLISTS),
                Read::mpd(&bytes),
                Read::ndjson(RowKind::Tracks, &bytes),
                Read::ndjson(RowKind::Users, &bytes),
                Read::ndjson(RowKind::Playlists, &bytes),
            ];
            reads.iter().for_each(|read| read.assert_sound(&bytes));
            let has_ratings = read_tables(&bytes);
            u64::from(has_ratings || reads.iter().any(Read::has_rows))
        });
        match outcome {
            Ok(reached) => reached_rows += reached,
            Err(_) => panic!("input {input}: {bytes:02x?}"),
        }
    }
    assert!(reached_rows > inputs / 100, "mutations as wild as that test nothing");
}

fn mutate(bytes: &mut Vec<u8>, fixtures: &[Vec<u8>], rng: &mut Xoshiro256PlusPlus) {
    const OPCODES: &[u8] =
        b"().012BCGIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8e\x93\x94\x95\x96";
    if bytes.is_empty() {
        bytes.push(rng.random_range(0..=255));
    }
    // Mostly behind the header, where the opcodes are; tables and JSON have a shorter one.
    let begin = if rng.random_bool(0.9) { bytes.len().min(80) } else { 0 };
    let place = rng.random_range(begin..=bytes.len());
    let end = (place + rng.random_range(1..40)).min(bytes.len());
    match rng.random_range(0..8) {
        0 if place < bytes.len() => bytes[place] ^= 1 << rng.random_range(0..8),
        1 if place < bytes.len() => bytes[place] = rng.random_range(0..=255),
        2 if place < bytes.len() => bytes[place] = OPCODES[rng.random_range(0..OPCODES.len())],
        3 => bytes.insert(place, OPCODES[rng.random_range(0..OPCODES.len())]),
        4 => drop(bytes.drain(place..end)),
        5 => {
            let piece = bytes[place..end].repeat(rng.random_range(1..20));
            bytes.splice(place..place, piece);
        }
        6 => {
            let other = &fixtures[rng.random_range(0..fixtures.len())];
            let from = rng.random_range(0..other.len());
            let piece = other[from..(from + rng.random_range(1..60)).min(other.len())].to_vec();
            bytes.splice(place..end, piece);
        }
        _ => bytes.truncate(place),
    }
}
