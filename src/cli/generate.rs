//! `segue generate`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::output::{Output, Report, count};
use crate::generate::{GenerateSettings, generate};

/// What to generate, and where.
#[derive(Debug, clap::Args)]
pub struct GenerateArguments {
    /// Number of playlists
    #[arg(long, default_value_t = 2_000)]
    pub playlists: usize,
    /// Number of tracks, at least 384
    #[arg(long, default_value_t = 10_000)]
    pub tracks: usize,
    /// Random seed; the same seed gives the same files
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for the slices
    #[arg(long, default_value = "data/synthetic", value_name = "FOLDER")]
    pub out: PathBuf,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Generated<'a> {
    playlists: usize,
    files: Vec<PathBuf>,
    folder: &'a Path,
}

impl Report for Generated<'_> {
    fn text(&self) -> String {
        let (playlists, files) = (count(self.playlists), count(self.files.len()));
        format!("{playlists} synthetic playlists in {files} files in {}", self.folder.display())
    }
}

pub(super) fn run(arguments: &GenerateArguments) -> anyhow::Result<ExitCode> {
    let settings = GenerateSettings { playlists: arguments.playlists, tracks: arguments.tracks, seed: arguments.seed };
    let files = generate(&settings, &arguments.out)
        .with_context(|| format!("could not generate into {}", arguments.out.display()))?;
    arguments.output.print(&Generated { playlists: arguments.playlists, files, folder: &arguments.out })?;
    Ok(ExitCode::SUCCESS)
}
