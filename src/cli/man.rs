//! `segue man`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Where to write.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Folder to write segue.1, segue-train.1 and so on into
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

pub(super) fn run(command: clap::Command, arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.out;
    let pages = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    pages.with_context(|| format!("cannot write man pages to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
