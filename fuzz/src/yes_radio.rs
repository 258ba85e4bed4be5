//! Playlists of Yes.com: the songs, a blank line, and the playlists.

use segue::import::yes_radio;

use crate::rows::read_alike;

/// Reads both files.
pub fn run(bytes: &[u8]) {
    let split = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (songs, playlists) = (&bytes[..split], bytes.get(split + 2..).unwrap_or_default());
    let Ok(songs) = yes_radio::read_songs(segue::import::Source::new(songs)) else { return };
    read_alike("train.txt", playlists, |_, source, sink| yes_radio::read_playlists(source, "folder", &songs, sink));
}
