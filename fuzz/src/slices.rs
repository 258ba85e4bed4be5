//! Slices of the Million Playlist Dataset.

use segue::import::mpd;
use serde_json::Value;

use crate::rows::read_alike;

/// Reads a slice. What is JSON of the right shape is read, and what is no JSON is not.
pub fn run(bytes: &[u8]) {
    #[expect(clippy::redundant_closure, reason = "without it the lifetimes of the reader are not general enough")]
    let found = read_alike("slice.json", bytes, |file, source, sink| mpd::read(file, source, sink));
    let parsed = mpd::parse_slice("slice.json".as_ref(), bytes);
    assert_eq!(parsed.is_ok(), found.refused.is_none());
    if let (Ok(parsed), [batch]) = (&parsed, found.batches.as_slice()) {
        assert_eq!((&parsed.playlists, &parsed.rejects), (&batch.playlists, &batch.rejects));
    }
    let without_mark = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Ok(value) = serde_json::from_slice::<Value>(without_mark)
        && value["playlists"].is_array()
        && let Some(error) = &found.refused
    {
        // Of a field that is there twice, serde_json keeps the last.
        assert!(error.reason.ends_with("`playlists` must be an array"), "{error:?}");
    }
}
