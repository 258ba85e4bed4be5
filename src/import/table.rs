//! Tables: text with a row a line and columns parted by a character, of which the header names the columns.
//!
//! Quotes are read strictly (RFC 4180), and a row is rejected that has another number of fields than the header. A quoted
//! field may hold line breaks. When a quote is never closed, or closed where no field ends, the line in which it begins is
//! rejected alone, and the lines after it are read as rows of their own: the well-kept reader of CSV would take them for
//! the rest of the field.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::BufRead;

use encoding_rs::WINDOWS_1252;
use time::{Date, Month, OffsetDateTime};

use super::error::FormatError;
use super::source::{LineProblem, Source};
use crate::catalog::columns::{in_field, name};
use crate::catalog::fields::whole_number;
use crate::catalog::{TextError, stated, stated_list, times};

/// Most lines of one field.
const FIELD_LINES: usize = 100;
/// Most bytes of a row of several lines.
const ROW_BYTES: usize = 1 << 16;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// what parts the fields
    pub delimiter: u8,
    /// whether fields may be in quotes
    pub has_quotes: bool,
}

/// Fields parted by commas.
pub const CSV: Dialect = Dialect { delimiter: b',', has_quotes: true };

/// A table, read from its beginning to its end.
pub struct Table<R> {
    source: Source<R>,
    dialect: Dialect,
    header: Vec<String>,
    /// how many fields a row must have; 0 for any
    fields: usize,
    rows: u64,
    line: Line,
    /// lines that were read to find the end of a field
    ahead: VecDeque<Line>,
    record: Record,
}

#[derive(Debug, Default)]
struct Line {
    offset: u64,
    bytes: Vec<u8>,
    problem: Option<LineProblem>,
}

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowAt {
    /// its number, from 1; the header and blank lines are not counted
    pub number: u64,
    /// where it begins, in bytes of the decompressed file
    pub offset: u64,
}

/// A row with its place; none at the end. The row may be damaged, or the file.
pub type NextRow<T> = Result<Option<(RowAt, Result<T, String>)>, FormatError>;

impl<R: BufRead> Table<R> {
    /// A table whose first line names the columns.
    ///
    /// # Errors
    ///
    /// When that line can't be read.
    pub fn with_header(source: Source<R>, dialect: Dialect) -> Result<Self, FormatError> {
        let mut table = Self::without_header(source, dialect, &[], 0);
        match table.next_record()? {
            None => return Err(FormatError { offset: 0, reason: "the file is empty".to_owned() }),
            Some((at, Err(reason))) => {
                let reason = format!("the header can't be read: {reason}");
                return Err(FormatError { offset: at.offset, reason });
            }
            Some((_, Ok(()))) => {}
        }
        table.header =
            (0..table.record.ends.len()).map(|column| decode(table.record.field(column)).into_owned()).collect();
        table.fields = table.header.len();
        table.rows = 0;
        Ok(table)
    }

    /// A table without such a line; `fields` is how many a row must have, or 0.
    pub fn without_header(source: Source<R>, dialect: Dialect, header: &[&str], fields: usize) -> Self {
        Self {
            source,
            dialect,
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            fields,
            rows: 0,
            line: Line::default(),
            ahead: VecDeque::new(),
            record: Record::default(),
        }
    }

    /// The column that has one of these names.
    ///
    /// # Errors
    ///
    /// When there is none; the reason names those that there are.
    pub fn column(&self, names: &[&str]) -> Result<usize, FormatError> {
        let found = names.iter().find_map(|name| self.header.iter().position(|column| column == name));
        found.ok_or_else(|| FormatError {
            offset: 0,
            reason: format!("no column {} in the header ({})", names.join(" or "), self.header.join(", ")),
        })
    }

    /// The next row; none at the end. A row that can't be read comes with its reason.
    ///
    /// # Errors
    ///
    /// When the file can't be read further.
    pub fn next_row(&mut self) -> NextRow<Row<'_>> {
        let Some((at, outcome)) = self.next_record()? else { return Ok(None) };
        Ok(Some((at, outcome.map(|()| Row { record: &self.record, header: &self.header }))))
    }

    fn next_record(&mut self) -> NextRow<()> {
        loop {
            if !self.take_line()? {
                return Ok(None);
            }
            if self.line.problem.is_some() || !self.line.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        self.rows += 1;
        let at = RowAt { number: self.rows, offset: self.line.offset };
        if let Some(problem) = &self.line.problem {
            return Ok(Some((at, Err(problem.to_string()))));
        }
        let Dialect { delimiter, has_quotes } = self.dialect;
        if !has_quotes || !self.line.bytes.contains(&b'"') {
            self.record.split(&self.line.bytes, delimiter);
            return Ok(Some((at, self.counted())));
        }
        let outcome = match self.record.parse(&self.line.bytes, delimiter) {
            Parsed::Whole => self.counted(),
            Parsed::Open(field) => match self.join()? {
                true => Ok(()),
                false => Err(format!("field {}: a quote begins here and is never closed", field + 1)),
            },
            Parsed::Malformed(field) => Err(misquoted(field)),
        };
        Ok(Some((at, outcome)))
    }

    /// That there are as many fields as the header has.
    fn counted(&self) -> Result<(), String> {
        let fields = self.record.ends.len();
        match fields == self.fields || self.fields == 0 {
            true => Ok(()),
            false if self.header.is_empty() => Err(format!("{fields} fields; expected {}", self.fields)),
            false => Err(format!("{fields} fields; the header has {}", self.fields)),
        }
    }

    /// Completes a row whose last field goes on in the next lines; false if it does not end there as a field does.
    fn join(&mut self) -> Result<bool, FormatError> {
        let mut text = self.line.bytes.clone();
        for index in 0..FIELD_LINES {
            if index == self.ahead.len() {
                let mut line = Line::default();
                if !read_line(&mut self.source, &mut line)? {
                    return Ok(false);
                }
                self.ahead.push_back(line);
            }
            let line = &self.ahead[index];
            text.push(b'\n');
            text.extend_from_slice(&line.bytes);
            if line.problem.is_some() || text.len() > ROW_BYTES {
                return Ok(false);
            }
            // A line that is a whole row, or the beginning of one, is not the rest of another: the quote before it is a
            // stray one.
            let has_quote = line.bytes.contains(&b'"');
            let fields = match self.record.parse(&line.bytes, self.dialect.delimiter) {
                Parsed::Whole if !has_quote => self.record.ends.len(),
                Parsed::Open(field) => field + 1,
                Parsed::Whole | Parsed::Malformed(_) => 0,
            };
            if fields == self.fields && fields > 1 {
                return Ok(false);
            }
            if !has_quote {
                continue;
            }
            match self.record.parse(&text, self.dialect.delimiter) {
                Parsed::Whole if self.counted().is_ok() => {
                    self.ahead.drain(..=index);
                    return Ok(true);
                }
                Parsed::Whole | Parsed::Malformed(_) => return Ok(false),
                Parsed::Open(_) => {}
            }
        }
        Ok(false)
    }

    fn take_line(&mut self) -> Result<bool, FormatError> {
        match self.ahead.pop_front() {
            Some(line) => {
                self.line = line;
                Ok(true)
            }
            None => read_line(&mut self.source, &mut self.line),
        }
    }
}

fn read_line<R: BufRead>(source: &mut Source<R>, into: &mut Line) -> Result<bool, FormatError> {
    let Some(line) = source.raw_line()? else { return Ok(false) };
    into.offset = line.offset;
    into.bytes.clear();
    into.problem = match line.bytes {
        Ok(bytes) => {
            into.bytes.extend_from_slice(bytes);
            None
        }
        Err(problem) => Some(problem),
    };
    Ok(true)
}

fn misquoted(field: usize) -> String {
    format!("field {}: a quote within a quoted field must be doubled", field + 1)
}

/// The fields of a row.
#[derive(Debug, Default)]
struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// How a row with quotes was read.
enum Parsed {
    Whole,
    /// the text ends within the quotes of this field
    Open(usize),
    /// the quotes of this field end before it does
    Malformed(usize),
}

impl Record {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn split(&mut self, text: &[u8], delimiter: u8) {
        self.clear();
        for field in text.split(|&byte| byte == delimiter) {
            self.bytes.extend_from_slice(field);
            self.ends.push(self.bytes.len());
        }
    }

    fn parse(&mut self, text: &[u8], delimiter: u8) -> Parsed {
        self.clear();
        let mut rest = text;
        loop {
            let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
            if rest.get(spaces) == Some(&b'"') {
                rest = &rest[spaces + 1..];
                loop {
                    let Some(quote) = rest.iter().position(|&byte| byte == b'"') else {
                        return Parsed::Open(self.ends.len());
                    };
                    self.bytes.extend_from_slice(&rest[..quote]);
                    rest = &rest[quote + 1..];
                    if rest.first() != Some(&b'"') {
                        break;
                    }
                    self.bytes.push(b'"');
                    rest = &rest[1..];
                }
                while rest.first() == Some(&b' ') {
                    rest = &rest[1..];
                }
                if rest.first().is_some_and(|&byte| byte != delimiter) {
                    return Parsed::Malformed(self.ends.len());
                }
            } else {
                let end = rest.iter().position(|&byte| byte == delimiter).unwrap_or(rest.len());
                self.bytes.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
            self.ends.push(self.bytes.len());
            match rest.split_first() {
                None => return Parsed::Whole,
                Some((_, after)) => rest = after,
            }
        }
    }

    fn field(&self, column: usize) -> &[u8] {
        let begin = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes[begin..self.ends[column]].trim_ascii()
    }
}

/// UTF-8, or what is not that as Windows-1252, in which older programs and spreadsheets write.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.trim()),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// A row; errors name the column.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    record: &'a Record,
    header: &'a [String],
}

impl<'a> Row<'a> {
    /// How many fields it has.
    pub fn fields(&self) -> usize {
        self.record.ends.len()
    }

    fn name(&self, column: usize) -> &'a str {
        self.header.get(column).map_or("a column", String::as_str)
    }

    fn named(&self, column: usize, reason: impl std::fmt::Display) -> String {
        format!("{}: {reason}", self.name(column))
    }

    /// A field without the spaces around it.
    pub fn text(&self, column: usize) -> Result<Cow<'a, str>, String> {
        match column < self.fields() {
            true => Ok(decode(self.record.field(column))),
            false => Err(self.named(column, "it is missing")),
        }
    }

    /// A name that may be empty, which says nothing.
    pub fn stated(&self, column: usize) -> Result<Option<String>, String> {
        name(&self.text(column)?).map(stated).map_err(|reason| self.named(column, reason))
    }

    /// A code that may have been written as a decimal: 52.0
    pub fn code(&self, column: usize) -> Result<Option<String>, String> {
        let code = self.stated(column)?;
        Ok(code.map(|code| code.strip_suffix(".0").map_or(code.clone(), ToOwned::to_owned)))
    }

    /// An id.
    pub fn id<T>(&self, column: usize, new: impl FnOnce(String) -> Result<T, TextError>) -> Result<T, String> {
        in_field(self.name(column), new(self.text(column)?.into_owned()))
    }

    /// An id behind a prefix.
    pub fn prefixed_id<T>(
        &self,
        column: usize,
        prefix: &str,
        new: impl FnOnce(String) -> Result<T, TextError>,
    ) -> Result<T, String> {
        let id = match self.text(column)? {
            text if text.is_empty() => Err(TextError::Empty),
            text => new(format!("{prefix}{text}")),
        };
        in_field(self.name(column), id)
    }

    /// The members of a list parted by `separator`; no more than `most`.
    pub fn list(&self, column: usize, separator: char, most: usize) -> Result<Vec<String>, String> {
        let text = self.text(column)?;
        let members = stated_list(text.split(separator)).unwrap_or_default().into_iter().take(most);
        members
            .map(|member| name(&member).map(|_| ()).map(|()| member.clone()))
            .collect::<Result<_, _>>()
            .map_err(|reason: String| self.named(column, reason))
    }

    /// A number with a fraction.
    pub fn number(&self, column: usize) -> Result<f32, String> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.named(column, format_args!("must be a number, not {:?}", shown(&text))))
    }

    /// A whole number, written 3 or 3.0; none if the field is empty.
    pub fn whole<T>(&self, column: usize, check: impl FnOnce(i64) -> Result<T, String>) -> Result<Option<T>, String> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        let number = whole_number(&text).ok_or_else(|| format!("must be a whole number, not {:?}", shown(&text)));
        number.and_then(check).map(Some).map_err(|reason| self.named(column, reason))
    }

    /// A time; none if the field is empty.
    pub fn time(&self, column: usize) -> Result<Option<OffsetDateTime>, String> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        times::from_text(&text).map(Some).map_err(|reason| self.named(column, reason))
    }

    /// A day as YYYYMMDD; none if the field is empty.
    pub fn date(&self, column: usize) -> Result<Option<Date>, String> {
        self.whole(column, |number| {
            let date = || {
                let month = Month::try_from(u8::try_from(number / 100 % 100).ok()?).ok()?;
                let year = i32::try_from(number / 10_000).ok().filter(|year| (1..=9_999).contains(year))?;
                Date::from_calendar_date(year, month, u8::try_from(number % 100).ok()?).ok()
            };
            date().ok_or_else(|| format!("must be a day as YYYYMMDD, not \"{number}\""))
        })
    }
}

/// The beginning of a text, for errors.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[u8]) -> Vec<Result<Vec<String>, String>> {
        let mut table = Table::with_header(Source::new(text), CSV).expect("a header");
        let mut rows = Vec::new();
        while let Some((_, row)) = table.next_row().expect("memory can be read") {
            rows.push(
                row.map(|row| (0..row.fields()).map(|column| row.text(column).expect("there").into_owned()).collect()),
            );
        }
        rows
    }

    fn row(fields: &[&str]) -> Result<Vec<String>, String> {
        Ok(fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn quoted_fields_may_hold_delimiters_quotes_and_line_breaks() {
        let text = b"\xef\xbb\xbfa, b\r\n1,\"x, y\"\r\n2,\"12\"\" mix\"\n\n3,\"two\r\nlines, \"\"and\"\"\n\nmore\"\n4, \"spaces\" \n5,12\" mix\n6,";
        assert_eq!(
            rows(text),
            [
                row(&["1", "x, y"]),
                row(&["2", "12\" mix"]),
                row(&["3", "two\nlines, \"and\"\n\nmore"]),
                row(&["4", "spaces"]),
                row(&["5", "12\" mix"]),
                row(&["6", ""]),
            ]
        );
    }

    #[test]
    fn a_damaged_quote_costs_its_own_row() {
        let mut text = "a,b\n0,zero\n1,\"Heroes\n2,two\n3,\"a, b\"\n".to_owned();
        let found = rows(text.as_bytes());
        let refused = Err("field 2: a quote begins here and is never closed".to_owned());
        assert_eq!(found, [row(&["0", "zero"]), refused.clone(), row(&["2", "two"]), row(&["3", "a, b"])]);
        for number in 4..500 {
            text.push_str(&format!("{number},x\n"));
        }
        assert_eq!(rows(text.as_bytes()).iter().filter(|row| row.is_err()).count(), 1);
        // Two stray quotes do not swallow the rows between them.
        let found = rows(b"a,b\n1,\"x\n2,two\n3,\"\n4,y\n");
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<bool>>(), [false, true, false, true]);
        let text = "\"a\",\"b\"\n\"1\",\"6'1\"\"\n\"2\",\"The \"Best\" Of\"\n\"3\",\"12\"\" mix\"\n";
        let found = rows(text.as_bytes());
        assert_eq!((found[0].clone(), found[2].clone()), (refused, row(&["3", "12\" mix"])));
        assert_eq!(found[1], Err("field 2: a quote within a quoted field must be doubled".to_owned()));
    }

    #[test]
    fn a_row_of_another_length_than_the_header_is_rejected_with_both() {
        let found = rows(b"a,b\n1,2,3\n1\n1,2\n");
        assert_eq!(found[0], Err("3 fields; the header has 2".to_owned()));
        assert_eq!(found[1], Err("1 fields; the header has 2".to_owned()));
        assert_eq!(found[2], row(&["1", "2"]));
    }

    #[test]
    fn what_is_not_utf8_is_windows_1252() {
        let found = rows(b"a,b\n1,Don\x92t Stop\n2,caf\xc3\xa9\n");
        assert_eq!(found, [row(&["1", "Don\u{2019}t Stop"]), row(&["2", "caf\u{e9}"])]);
    }

    #[test]
    fn positions_are_those_of_rows() {
        let mut table = Table::with_header(Source::new(&b"a,b\n\n1,2\n1,\"x\n3,4\n"[..]), CSV).expect("a header");
        let mut places = Vec::new();
        while let Some((at, row)) = table.next_row().expect("memory can be read") {
            places.push((at.number, at.offset, row.is_ok()));
        }
        assert_eq!(places, [(1, 5, true), (2, 9, false), (3, 14, true)]);
    }
}
