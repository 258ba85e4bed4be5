//! What commands print.

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// for people
    Table,
    /// for programs
    Json,
}

/// Prints a long text. Someone who reads its beginning alone (`segue models show similarity | head`) is right to.
pub(super) fn print_text(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
