//! Playlists of Deezer: NumPy files of pickled lists, and lines of text.

use segue::import::Source;
use segue::import::deezer::{self, DeezerOptions};
use segue::import::npy;
use segue::import::pickle::{self, Limits};

use crate::rows::{assert_reason, read_alike};

/// Limits that a short input can exceed.
const SMALL: Limits = Limits { stack: 50, memo: 50, lists: 50, entries: 500, text_bytes: 500 };

/// Reads a file, with artists and without; and what is behind a header as a pickle.
pub fn run(bytes: &[u8]) {
    for placeholder_artists in [false, true] {
        let options = DeezerOptions { placeholder_artists };
        read_alike("lists.npy", bytes, |file, source, sink| deezer::read(file, source, options, sink));
    }
    if !bytes.starts_with(npy::MAGIC) {
        let pickled = pickle::read_array(&mut Source::new(bytes), &SMALL);
        match pickled.map_err(|error| error.reason).and_then(|array| array.rows().map(|rows| rows.len())) {
            Ok(rows) => assert!(rows <= SMALL.entries),
            Err(reason) => assert_reason(&reason),
        }
    }
}
