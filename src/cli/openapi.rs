//! `segue openapi`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::output::print;

/// What to do with the OpenAPI document.
#[derive(Debug, clap::Args)]
pub struct OpenapiArguments {
    /// Fail if this file differs, and print where
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

pub(super) fn run(arguments: &OpenapiArguments) -> anyhow::Result<ExitCode> {
    let yaml = serde_yaml_ng::to_string(&crate::serve::openapi())?;
    let Some(path) = &arguments.check else {
        print(&yaml)?;
        return Ok(ExitCode::SUCCESS);
    };
    let stored = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if stored == yaml {
        return Ok(ExitCode::SUCCESS);
    }
    let line = stored.lines().zip(yaml.lines()).take_while(|(stored, fresh)| stored == fresh).count();
    anyhow::bail!(
        "{} differs from the program from line {} on: `make openapi` writes it again",
        path.display(),
        line + 1
    )
}
