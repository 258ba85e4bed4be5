//! Rows of JSON, one per line: files of them, and bulk requests.

use segue::catalog::lines;
use segue::import::ndjson::{self, RowKind};

use crate::rows::{assert_id, assert_playlist, assert_reason, assert_track, read_alike};

/// Reads a file of each kind, and each line as a bulk request does. Both doors take the same lines.
pub fn run(bytes: &[u8]) {
    for kind in [RowKind::Tracks, RowKind::Users, RowKind::Playlists] {
        let found = read_alike("rows.ndjson", bytes, |_, source, sink| ndjson::read(source, kind, sink));
        let rows = |found: &crate::rows::Read| -> usize {
            let of = |batch: &segue::import::Batch| match kind {
                RowKind::Tracks => batch.tracks.len(),
                RowKind::Users => batch.users.len(),
                RowKind::Playlists => batch.playlists.len(),
            };
            found.batches.iter().map(of).sum()
        };
        if bytes.starts_with(b"[") || bytes.starts_with(b"\xef\xbb\xbf") || found.refused.is_some() {
            continue;
        }
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let taken = lines.filter(|line| take(kind, line)).count();
        assert_eq!(rows(&found), taken, "the doors differ");
    }
}

/// Reads a line as a bulk request does; returns whether it is a row.
fn take(kind: RowKind, line: &[u8]) -> bool {
    let outcome = match kind {
        RowKind::Tracks => lines::track(line).map(|(track, omitted)| {
            assert_track(&track);
            omitted
        }),
        RowKind::Users => lines::user(line).map(|(user, omitted)| {
            assert_id(user.as_str());
            omitted
        }),
        RowKind::Playlists => lines::playlist(line).map(|(playlist, omitted)| {
            assert_playlist(&playlist);
            omitted
        }),
    };
    match &outcome {
        Ok(omitted) => omitted.iter().for_each(|one| assert_reason(&one.reason)),
        Err(reason) => assert_reason(reason),
    }
    outcome.is_ok()
}
