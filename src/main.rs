//! The `segue` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    segue::cli::run(std::env::args_os())
}
