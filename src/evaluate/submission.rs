//! A submission to the RecSys Challenge 2018: CSV with a line `team_info`, and for each playlist of the challenge set a
//! line of its `pid` and 500 distinct tracks, none of them a seed.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::Challenge;
use super::completion::check_answer;
use super::{LIST_LENGTH, Recommender};
use crate::bundle::Vocabulary;
use crate::progress::{Interrupt, Progress};
use crate::recommend::Completion;

/// Playlists completed at a time.
const BATCH: usize = 64;

/// Who submits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// name of the team
    pub name: String,
    /// address for replies
    pub email: String,
}

/// Why there is no submission.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A playlist gets too few tracks.
    #[error(
        "playlist {pid} gets {tracks} tracks, but a submission needs {LIST_LENGTH}: the model knows {catalog} tracks, including the seeds"
    )]
    TooFew {
        /// the playlist
        pid: String,
        /// tracks that the model recommends
        tracks: usize,
        /// tracks that the model knows
        catalog: usize,
    },
    /// A model returned an invalid list.
    #[error("{model} returned an invalid list for playlist {pid}: {reason}")]
    Answer {
        /// the model
        model: String,
        /// the playlist
        pid: String,
        /// what is wrong
        reason: String,
    },
    /// The file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// the file
        path: PathBuf,
        /// the reason
        source: std::io::Error,
    },
    /// The run was interrupted.
    #[error("interrupted; no submission was written")]
    Interrupted,
}

/// Completes every playlist of `challenge` and writes the submission at `path`, whole or not at all.
///
/// # Errors
///
/// When a playlist can't be given 500 tracks, a list is invalid, the file can't be written, or `interrupt` is
/// raised. What was at `path` before is then still there.
pub fn submit(
    challenge: &Challenge,
    vocabulary: &Vocabulary,
    recommender: &Recommender<'_>,
    team: &Team,
    path: &Path,
    interrupt: &Interrupt,
) -> Result<(), SubmissionError> {
    let io = |source: std::io::Error| SubmissionError::Io { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| io(std::io::Error::other("not a file name")))?;
    let unfinished = path.with_file_name(format!(".{}.unfinished", name.to_string_lossy()));
    let file = File::create(&unfinished).map_err(io)?;
    let outcome = write(challenge, vocabulary, recommender, team, &file, interrupt, io)
        .and_then(|()| file.sync_all().and_then(|()| fs::rename(&unfinished, path)).map_err(io));
    if outcome.is_err() {
        let _ = fs::remove_file(&unfinished); // the reason for the failure is what matters
    }
    outcome
}

fn write(
    challenge: &Challenge,
    vocabulary: &Vocabulary,
    recommender: &Recommender<'_>,
    team: &Team,
    file: &File,
    interrupt: &Interrupt,
    io: impl Fn(std::io::Error) -> SubmissionError,
) -> Result<(), SubmissionError> {
    let progress = Progress::start("completing", challenge.playlists.len() as u64);
    // Lines have different numbers of fields: the team's has three.
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(BufWriter::new(file));
    writer.write_record(["team_info", &team.name, &team.email]).map_err(|error| io(error.into()))?;
    for (number, playlists) in challenge.playlists.chunks(BATCH).enumerate() {
        if interrupt.is_raised() {
            return Err(SubmissionError::Interrupted);
        }
        progress.at((number * BATCH) as u64, || recommender.name.clone());
        let completions: Vec<Completion> = playlists.iter().map(|seen| seen.completion(vocabulary)).collect();
        let mut answers = (recommender.recommend)(&completions).into_iter();
        for (seen, completion) in playlists.iter().zip(&completions) {
            let ranked = answers.next().unwrap_or_default();
            check_answer(completion, &ranked, vocabulary.len()).map_err(|reason| SubmissionError::Answer {
                model: recommender.name.clone(),
                pid: seen.id.clone(),
                reason,
            })?;
            if ranked.len() < LIST_LENGTH {
                return Err(SubmissionError::TooFew {
                    pid: seen.id.clone(),
                    tracks: ranked.len(),
                    catalog: vocabulary.len(),
                });
            }
            let tracks = ranked.iter().map(|&row| vocabulary.id(row));
            writer.write_record(std::iter::once(seen.id.as_str()).chain(tracks)).map_err(|error| io(error.into()))?;
        }
    }
    writer.flush().map_err(io)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::evaluate::PartialPlaylist;

    fn challenge() -> Challenge {
        let seen = |id: &str, seeds: &[&str]| PartialPlaylist {
            id: id.to_owned(),
            title: None,
            seeds: seeds.iter().map(|&id| id.to_owned()).collect(),
        };
        Challenge { playlists: vec![seen("10", &["t0", "t7", "elsewhere"]), seen("11", &[])], artists: HashMap::new() }
    }

    fn submit_over(tracks: usize, path: &Path, interrupt: &Interrupt) -> Result<(), SubmissionError> {
        let ids: Vec<String> = (0..tracks).map(|row| format!("t{row}")).collect();
        let vocabulary = Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct");
        let recommender = Recommender::new("first", move |completions: &[Completion]| {
            let first = |one: &Completion| {
                (0..tracks as u32).filter(|row| !one.seeds.contains(row)).take(one.limit).collect::<Vec<u32>>()
            };
            completions.iter().map(first).collect()
        });
        let team = Team { name: "Us, and others".to_owned(), email: "us@example.org".to_owned() };
        submit(&challenge(), &vocabulary, &recommender, &team, path, interrupt)
    }

    #[test]
    fn every_playlist_gets_500_tracks_of_which_none_is_a_seed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.csv");
        submit_over(502, &path, &Interrupt::default()).expect("written");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(&path).expect("a file");
        let lines: Vec<Vec<String>> =
            reader.records().map(|line| line.expect("CSV").iter().map(ToOwned::to_owned).collect()).collect();
        assert_eq!(lines[0], ["team_info", "Us, and others", "us@example.org"]);
        assert_eq!((lines.len(), lines[1][0].as_str(), lines[2][0].as_str()), (3, "10", "11"));
        for line in &lines[1..] {
            assert_eq!(line[1..].iter().collect::<HashSet<_>>().len(), 500);
        }
        assert!(!lines[1].contains(&"t0".to_owned()) && !lines[1].contains(&"t7".to_owned()));
        assert!(lines[2].contains(&"t0".to_owned()));
    }

    #[test]
    fn too_small_a_catalog_is_refused_by_pid_and_the_file_before_it_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.csv");
        fs::write(&path, "before").expect("written");
        let error = submit_over(501, &path, &Interrupt::default()).expect_err("refused").to_string();
        assert!(error.contains("playlist 10 gets 499 tracks") && error.contains("501 tracks"), "{error}");
        let stopped = Interrupt::default();
        stopped.raise();
        assert!(matches!(submit_over(600, &path, &stopped), Err(SubmissionError::Interrupted)));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "before");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "something was left behind");

        let nowhere = folder.path().join("missing/out.csv");
        let error = submit_over(600, &nowhere, &Interrupt::default()).expect_err("refused").to_string();
        assert!(error.contains("missing/out.csv"), "{error}");
    }
}
