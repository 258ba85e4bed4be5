//! The commands that train, in a build without the feature `train`: they take any arguments and say what is missing.

use std::ffi::OsString;
use std::process::ExitCode;

use super::Global;
use crate::progress::Interrupt;

/// Whatever a build that trains would take.
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
    eprintln!(
        "error: this build of segue cannot train: it was built without the feature `train`; run demo, train, evaluate \
         and tune with a build that has it"
    );
    Ok(ExitCode::from(2))
}
