//! Files in the form of the RecSys Challenge 2018: a challenge set of masked playlists, and the truth about them.
//!
//! A challenge set is an object with `playlists`; a playlist has its `pid`, perhaps a `name`, and its `tracks` that are
//! seen, which may be none. The truth is an object by `pid` of `category`, the [`SeedKind`], and `holdouts`, the
//! `track_uri`s withheld. Both may be gzip.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{PartialPlaylist, TestPlaylist};
use crate::dataset::SeedKind;
use crate::import::{BytesRead, FormatError, read_file};

/// What is wrong with a file of the challenge, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct ChallengeError {
    /// the file
    pub path: PathBuf,
    /// what is wrong, with the position or the playlist
    pub reason: String,
}

/// A challenge set.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// the playlists, in the file's order; their ids are numbers
    pub playlists: Vec<PartialPlaylist>,
    /// names of artists by id of track, as far as the file says them
    pub artists: HashMap<String, String>,
}

#[derive(Deserialize)]
struct ChallengeFile {
    playlists: Vec<PlaylistEntry>,
}

#[derive(Deserialize)]
struct PlaylistEntry {
    pid: u64,
    name: Option<String>,
    num_samples: Option<usize>,
    tracks: Vec<TrackEntry>,
}

#[derive(Deserialize)]
struct TrackEntry {
    pos: Option<u32>,
    track_uri: String,
    artist_name: Option<String>,
}

#[derive(Deserialize)]
struct TruthEntry {
    category: String,
    holdouts: Vec<String>,
}

impl Challenge {
    /// Reads a challenge set.
    ///
    /// # Errors
    ///
    /// When it can't be read, is not in that form, or a playlist contradicts itself: occurs twice, or has another number
    /// of tracks than its `num_samples`.
    pub fn read(path: &Path) -> Result<Self, ChallengeError> {
        let refuse = |reason: String| ChallengeError { path: path.to_owned(), reason };
        let file: ChallengeFile = read_json(path, "not a challenge set")?;
        if file.playlists.is_empty() {
            return Err(refuse("it has no playlists".to_owned()));
        }
        let (mut pids, mut artists) = (HashSet::new(), HashMap::new());
        let mut playlists = Vec::with_capacity(file.playlists.len());
        for mut entry in file.playlists {
            let pid = entry.pid;
            if !pids.insert(pid) {
                return Err(refuse(format!("playlist {pid} occurs twice")));
            }
            let tracks = entry.tracks.len();
            if let Some(stated) = entry.num_samples.filter(|&stated| stated != tracks) {
                return Err(refuse(format!("playlist {pid} says num_samples {stated} but has {tracks} tracks")));
            }
            // The order is the one stated, where it is stated throughout.
            if entry.tracks.iter().all(|track| track.pos.is_some()) {
                entry.tracks.sort_by_key(|track| track.pos);
            }
            for track in &entry.tracks {
                if let Some(name) = &track.artist_name {
                    artists.insert(track.track_uri.clone(), name.clone());
                }
            }
            playlists.push(PartialPlaylist {
                id: pid.to_string(),
                title: entry.name,
                seeds: entry.tracks.into_iter().map(|track| track.track_uri).collect(),
            });
        }
        Ok(Self { playlists, artists })
    }

    /// Reads the truth about this challenge set's playlists.
    ///
    /// # Errors
    ///
    /// When it can't be read, is not in that form, or is not the truth about exactly these playlists.
    pub fn read_truth(&self, path: &Path) -> Result<Vec<TestPlaylist>, ChallengeError> {
        let refuse = |reason: String| ChallengeError { path: path.to_owned(), reason };
        let mut truth: HashMap<String, TruthEntry> = read_json(path, "not the truth about a challenge set")?;
        let mut playlists = Vec::with_capacity(self.playlists.len());
        for seen in &self.playlists {
            let pid = &seen.id;
            let entry = truth.remove(pid).ok_or_else(|| refuse(format!("it lacks playlist {pid}")))?;
            let kind: SeedKind =
                entry.category.parse().map_err(|reason| refuse(format!("playlist {pid}: category {reason}")))?;
            let mut taken = HashSet::new();
            let holdouts: Vec<String> = entry.holdouts.into_iter().filter(|id| taken.insert(id.clone())).collect();
            if holdouts.is_empty() {
                return Err(refuse(format!("playlist {pid} has no holdouts")));
            }
            playlists.push(TestPlaylist { seen: seen.clone(), kind, holdouts });
        }
        match truth.keys().min() {
            Some(pid) => Err(refuse(format!("playlist {pid} is not in the challenge set"))),
            None => Ok(playlists),
        }
    }
}

fn read_json<T: DeserializeOwned>(path: &Path, otherwise: &str) -> Result<T, ChallengeError> {
    let refuse = |error: FormatError| ChallengeError { path: path.to_owned(), reason: error.to_string() };
    let bytes = read_file(path, &BytesRead::default()).map_err(refuse)?;
    let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let at = match error.path().to_string() {
            path if path == "." => otherwise.to_owned(),
            path => format!("{otherwise}: {path}"),
        };
        refuse(FormatError::json(&bytes, error.inner(), &at))
    })?;
    deserializer.end().map_err(|error| refuse(FormatError::json(&bytes, &error, otherwise)))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, challenge: &str) -> Result<Challenge, ChallengeError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, challenge).expect("written");
        Challenge::read(&path)
    }

    const CHALLENGE: &str = r#"{"version": "v1", "playlists": [
        {"pid": 7, "name": "x", "num_samples": 0, "num_holdouts": 2, "tracks": []},
        {"pid": 8, "tracks": [{"pos": 4, "track_uri": "b", "artist_name": "B"}, {"pos": 1, "track_uri": "a"}]}]}"#;

    fn truth(truth: &str) -> Result<Vec<TestPlaylist>, ChallengeError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("truth.json");
        std::fs::write(&path, truth).expect("written");
        read("challenge.json", CHALLENGE).expect("a challenge").read_truth(&path)
    }

    #[test]
    fn playlists_are_read_with_or_without_title_and_tracks() {
        let challenge = read("challenge.json", CHALLENGE).expect("a challenge");
        let seen = |id: &str, title: Option<&str>, seeds: &[&str]| PartialPlaylist {
            id: id.to_owned(),
            title: title.map(ToOwned::to_owned),
            seeds: seeds.iter().map(|&id| id.to_owned()).collect(),
        };
        assert_eq!(challenge.playlists, [seen("7", Some("x"), &[]), seen("8", None, &["a", "b"])]);
        assert_eq!(challenge.artists, HashMap::from([("b".to_owned(), "B".to_owned())]));

        let tests = truth(
            r#"{"8": {"category": "first5", "holdouts": ["c"]}, "7": {"category": "title", "holdouts": ["d", "e", "d"]}}"#,
        )
        .expect("a truth");
        assert_eq!((tests[0].kind, tests[0].holdouts.join(" ")), (SeedKind::Title, "d e".to_owned()));
        assert_eq!((tests[1].kind, tests[1].seen.id.as_str()), (SeedKind::First5, "8"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_the_place() {
        let error = |text: &str| read("set.json", text).expect_err("refused").to_string();
        for (text, words) in [
            ("", vec!["truncated", "at byte 0"]),
            (r#"{"playlists": [{"pid": 1, "tracks": ["#, vec!["truncated", "at byte"]),
            (r#"{"playlists": []}"#, vec!["no playlists"]),
            (r#"{"playlists": [{"pid": "x", "tracks": []}]}"#, vec!["playlists[0].pid", "at byte 25"]),
            (r#"{"playlists": [{"pid": 1, "tracks": [{"pos": 1}]}]}"#, vec!["playlists[0].tracks[0]", "track_uri"]),
            (r#"{"playlists": [{"pid": 1, "tracks": []}, {"pid": 1, "tracks": []}]}"#, vec!["playlist 1", "twice"]),
            (r#"{"playlists": [{"pid": 4, "num_samples": 2, "tracks": []}]}"#, vec!["playlist 4", "num_samples 2"]),
            (r#"{"playlists": []} x"#, vec!["at byte 18"]),
        ] {
            let error = error(text);
            assert!(error.contains("set.json"), "{error}");
            words.iter().for_each(|word| assert!(error.contains(word), "no {word:?} in {error:?}"));
        }
        let missing = Challenge::read(Path::new("/nowhere/set.json")).expect_err("refused").to_string();
        assert!(missing.contains("/nowhere/set.json"), "{missing}");
    }

    #[test]
    fn a_truth_about_other_playlists_is_refused_by_their_pid() {
        let seven = r#""7": {"category": "title", "holdouts": ["d"]}"#;
        for (text, words) in [
            (format!("{{{seven}}}"), ["lacks", "playlist 8"]),
            (format!(r#"{{{seven}, "8": {{"category": "first5", "holdouts": []}}}}"#), ["playlist 8", "no holdouts"]),
            (format!(r#"{{{seven}, "8": {{"category": "some", "holdouts": ["a"]}}}}"#), ["playlist 8", "\"some\""]),
            (format!(r#"{{{seven}, "8": {{"holdouts": ["a"]}}}}"#), ["8", "category"]),
            (
                format!(
                    r#"{{{seven}, "8": {{"category": "title", "holdouts": ["a"]}}, "9": {{"category": "title", "holdouts": ["a"]}}}}"#
                ),
                ["playlist 9", "not in the challenge set"],
            ),
        ] {
            let error = truth(&text).expect_err("refused").to_string();
            assert!(error.contains("truth.json"), "{error}");
            words.iter().for_each(|word| assert!(error.contains(word), "no {word:?} in {error:?}"));
        }
    }
}
