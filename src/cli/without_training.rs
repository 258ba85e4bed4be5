//! The commands that train, in a build without the feature `train`: they accept any arguments and name what is missing.

use std::ffi::OsString;
use std::process::ExitCode;

use super::global::Global;
use super::output::warn;
use crate::progress::Interrupt;

/// Any arguments that a build with training takes.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub ignored: Vec<OsString>,
}

pub use Arguments as DemoArguments;
pub use Arguments as EvaluateArguments;
pub use Arguments as TrainArguments;
pub use Arguments as TuneArguments;

pub(super) async fn run(_: &Global, _: Arguments, _: &Interrupt) -> anyhow::Result<ExitCode> {
    warn("error: this build cannot train: demo, train, evaluate and tune need a build with the Cargo feature `train`");
    Ok(ExitCode::from(2))
}
