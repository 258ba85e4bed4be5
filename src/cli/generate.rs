//! `segue generate`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::generate::{GenerateSettings, generate};

/// What to generate, and where.
#[derive(Debug, clap::Args)]
pub struct GenerateArguments {
    /// Number of playlists
    #[arg(long, default_value_t = 2_000)]
    pub playlists: usize,
    /// Number of tracks, 384 or more
    #[arg(long, default_value_t = 10_000)]
    pub tracks: usize,
    /// The same seed gives the same files
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder to write the slices into
    #[arg(long, default_value = "data/synthetic", value_name = "FOLDER")]
    pub out: PathBuf,
}

pub(super) fn run(arguments: &GenerateArguments) -> anyhow::Result<ExitCode> {
    let settings = GenerateSettings { playlists: arguments.playlists, tracks: arguments.tracks, seed: arguments.seed };
    let files = generate(&settings, &arguments.out)
        .with_context(|| format!("could not generate into {}", arguments.out.display()))?;
    println!("{} synthetic playlists in {} files in {}", arguments.playlists, files.len(), arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
