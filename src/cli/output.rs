//! What commands print: tables for people, JSON for programs.
//!
//! All of it goes through [`print`] and [`warn`]: someone may read only the beginning (`segue models | head`), and then
//! the program neither fails nor complains.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use serde_json::Value;

use crate::progress::{above_bars, thousands};

/// How reports are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// for people
    Table,
    /// for programs
    Json,
}

/// How a command prints its report.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// Output format
    #[arg(long, value_enum, default_value_t = ReportFormat::Table, value_name = "FORMAT")]
    pub format: ReportFormat,
}

/// What a command has to say: as JSON by `serde`, for people by [`Report::text`].
pub(super) trait Report: Serialize {
    /// Returns the report for people.
    fn text(&self) -> String;
}

impl Output {
    /// Prints a report.
    pub(super) fn print(self, report: &impl Report) -> anyhow::Result<()> {
        let text = match self.format {
            ReportFormat::Table => report.text(),
            ReportFormat::Json => serde_json::to_string_pretty(report)?,
        };
        Ok(print(&text)?)
    }

    /// Prints a line while the work goes on, for people.
    #[cfg(feature = "train")]
    pub(super) fn print_line(self, line: impl FnOnce() -> String) {
        if self.format == ReportFormat::Table {
            // The report at the end tells of an output that can't be written.
            let _ = print(&line());
        }
    }
}

/// Prints to standard output, with a newline at the end.
pub(super) fn print(text: &str) -> io::Result<()> {
    match above_bars(|| write(&mut io::stdout().lock(), text)) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Prints to standard error, if anyone reads that.
pub(super) fn warn(text: &str) {
    let _ = above_bars(|| write(&mut io::stderr().lock(), text));
}

/// Standard error for log lines, which stand above the bars of a terminal.
#[derive(Debug, Default)]
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        above_bars(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn write(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stream.write_all(b"\n")?;
    }
    stream.flush()
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Text(String),
    Number(String),
}

/// A number of things, with commas between thousands.
pub(super) fn count(number: impl TryInto<u64>) -> Cell {
    Cell::Number(thousands(number.try_into().unwrap_or(u64::MAX)))
}

/// The same with what is counted, in the plural where it belongs.
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number rounded to some decimals.
pub(super) fn figure(number: f64, decimals: usize) -> Cell {
    Cell::Number(format!("{number:.decimals$}"))
}

/// `number` with six significant digits.
fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

/// `present`, or a dash.
pub(super) fn or_dash(present: Option<Cell>) -> Cell {
    present.unwrap_or_else(|| Cell::Number("-".to_owned()))
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Cell {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Columns under heads, two spaces apart: numbers to the right, text to the left.
#[derive(Debug)]
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new<H: Into<String>>(heads: impl IntoIterator<Item = H>) -> Self {
        Self { heads: heads.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let columns: Vec<(usize, bool)> = (self.heads.iter().enumerate())
            .map(|(column, head)| {
                let widths = cells(column).map(|cell| cell.as_str().chars().count());
                let is_number = cells(column).all(|cell| matches!(cell, Cell::Number(_)));
                (widths.chain([head.chars().count()]).max().unwrap_or(0), is_number)
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| -> String {
            let padded = cells.zip(&columns).map(|(cell, &(width, is_number))| match is_number {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            padded.collect::<Vec<String>>().join("  ").trim_end().to_owned()
        };
        writeln!(formatter, "{}", line(&mut self.heads.iter().map(String::as_str)))?;
        self.rows.iter().try_for_each(|row| writeln!(formatter, "{}", line(&mut row.iter().map(Cell::as_str))))
    }
}

/// Names and values, a line each.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Longer lists are not shown.
    const LONG_LIST: usize = 10;
    /// Least width of a name.
    const WIDTH: usize = 11;

    pub(super) fn add(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.push((name.into(), value.to_string()));
    }

    /// Adds a line for each value; names of nested objects are joined by dots.
    pub(super) fn add_json(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.add_json(&path, value);
                }
            }
            Value::Null => {}
            Value::String(text) => self.add(path, text),
            Value::Array(values) if values.len() > Self::LONG_LIST => {
                self.add(path, format!("{} values; --format json lists them", values.len()));
            }
            Value::Number(number) if number.is_f64() => self.add(path, rounded(number.as_f64().unwrap_or(f64::NAN))),
            other => self.add(path, other),
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(Self::WIDTH);
        self.0.iter().try_for_each(|(name, value)| writeln!(formatter, "{name:<width$}  {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_numbers_to_the_right_and_text_to_the_left() {
        let mut table = Table::new(["model", "plays", "NDCG", "note"]);
        table.row(["als".into(), count(547_738_u64), figure(0.212_34, 4), "".into()]);
        table.row(["neumf".into(), count(7_u64), or_dash(None), "new".into()]);
        let expected = ["model    plays    NDCG  note", "als    547,738  0.2123", "neumf        7       -  new", ""];
        assert_eq!(table.to_string(), expected.join("\n"));
    }

    #[test]
    fn fields_stand_below_each_other() {
        let mut fields = Fields::default();
        fields.add("files", count(1_000_u64));
        fields.add("new playlists", 2);
        fields.add_json("", &serde_json::json!({"loss": {"mean": 0.123_456_789, "list": vec![0; 11], "none": null}}));
        let json = "loss.list      11 values; --format json lists them\nloss.mean      0.123457\n";
        assert_eq!(fields.to_string(), "files          1,000\nnew playlists  2\n".to_owned() + json);
    }
}
