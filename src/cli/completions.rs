//! `segue completions`

use std::process::ExitCode;

use clap_complete::Shell;

use super::output::print;

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// Shell that runs the script
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

pub(super) fn run(mut command: clap::Command, arguments: &CompletionsArguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "segue", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
