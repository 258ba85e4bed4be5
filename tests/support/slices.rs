//! Files in the format of the Million Playlist Dataset, generated or written by hand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use segue::generate::{GenerateSettings, generate};
use serde_json::{Value, json};

/// A track of which no more is said than must be.
pub fn bare_track(uri: &str, name: &str, artist: &str) -> Value {
    json!({"track_uri": uri, "track_name": name, "artist_name": artist})
}

/// A playlist of which no more is said than must be.
pub fn bare_playlist(pid: impl Into<Value>, tracks: Vec<Value>) -> Value {
    json!({"pid": pid.into(), "tracks": tracks})
}

/// Tracks `prefix:0`, `prefix:1`, … of one artist.
pub fn bare_tracks(prefix: &str, count: usize) -> Vec<Value> {
    (0..count).map(|number| bare_track(&format!("{prefix}:{number}"), &format!("Track {number}"), prefix)).collect()
}

/// A slice as text.
pub fn slice(playlists: &[Value]) -> String {
    json!({"info": {"generated_on": "by hand", "slice": "0-0", "version": "v1"}, "playlists": playlists}).to_string()
}

/// Writes a file and says where.
pub fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(folder).expect("a folder");
    fs::write(&path, content).expect("a file");
    path
}

/// As `gzip` would.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// Generated playlists.
pub fn generated(playlists: usize, tracks: usize, seed: u64) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let files = generate(&GenerateSettings { playlists, tracks, seed }, folder.path()).expect("generated");
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("a slice");
            let slice: Value = serde_json::from_str(&text).expect("JSON");
            slice["playlists"].as_array().expect("playlists").clone()
        })
        .collect()
}

/// Writes `playlists` as slices of `size` each, and says where in order.
pub fn write_slices(folder: &Path, playlists: &[Value], size: usize) -> Vec<PathBuf> {
    playlists
        .chunks(size)
        .enumerate()
        .map(|(number, chunk)| {
            let first = number * size;
            write(folder, &format!("mpd.slice.{first}-{}.json", first + chunk.len() - 1), slice(chunk))
        })
        .collect()
}
