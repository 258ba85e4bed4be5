//! A file read from its beginning to its end: unpacked if it is gzip, with the position that errors name, and never more
//! in memory than one line or one value.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::error::{FormatError, ImportError};

/// The longest line that is read, in bytes; a playlist of 10,000 tracks described in full has 3 MB.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// The largest file that is read into memory, once decompressed: the challenge's playlists have 130 MB.
const MAX_FILE_BYTES: usize = 1 << 30;
/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes read from the disk at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// Counts the bytes of files that were read from the disk. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    /// How many there were so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted {
    file: File,
    count: BytesRead,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.count.0.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Opens a file, unpacking it if it begins as gzip does.
fn open_unpacked(path: &Path, count: &BytesRead) -> io::Result<Box<dyn Read + Send>> {
    let mut file = Counted { file: File::open(path)?, count: count.clone() };
    let mut begin = Vec::with_capacity(LONGEST_MARK);
    file.by_ref().take(LONGEST_MARK as u64).read_to_end(&mut begin)?;
    let is_gzip = begin.starts_with(&[0x1f, 0x8b]);
    let whole = io::Cursor::new(begin).chain(file);
    Ok(match is_gzip {
        true => Box::new(Unpacked(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, whole)))),
        false => Box::new(whole),
    })
}

/// Bytes from which every kind of file below can be told.
const LONGEST_MARK: usize = 6;
/// What files begin with that are no text: each mark with the kind, and what to do.
const MARKS: [(&[u8], &str); 11] = [
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first, or compress it with gzip"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it first, or compress it with gzip"),
    (b"BZh", "compressed with bzip2: unpack it first, or compress it with gzip"),
    (b"\x04\x22\x4d\x18", "compressed with lz4: unpack it first, or compress it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"\x1f\x8b", "compressed twice: unpack it once"),
    (b"PAR1", "a Parquet file: export it as text"),
];
const UTF_16: &str = "UTF-16 text: save it as UTF-8";

/// What a file is that begins so; none if it may be text.
fn foreign(begin: &[u8]) -> Option<&'static str> {
    let marked = MARKS.iter().find(|(mark, _)| begin.starts_with(mark)).map(|(_, what)| *what);
    // Without a mark, UTF-16 has a NUL in every letter of ASCII.
    let is_wide = matches!(begin, [0, letter, ..] | [letter, 0, ..] if letter.is_ascii_graphic());
    marked.or(is_wide.then_some(UTF_16))
}

/// Reads a whole file, unpacking gzip, for what is not read as a stream. `count` learns how much of it was read.
///
/// # Errors
///
/// When it can't be read, is cut off, or is larger than 1 GiB: with the position.
pub fn read_file(path: &Path, count: &BytesRead) -> Result<Vec<u8>, FormatError> {
    let mut source = Source::open(path, count)?;
    source.skip_mark()?;
    let mut bytes = Vec::new();
    loop {
        let available = source.peek()?;
        let length = available.len();
        bytes.extend_from_slice(available);
        source.consume(length);
        match length {
            0 => return Ok(bytes),
            _ if bytes.len() > MAX_FILE_BYTES => {
                return Err(source.refuse(format!("larger than {MAX_FILE_BYTES} bytes")));
            }
            _ => {}
        }
    }
}

/// Checks that each path is a file.
///
/// # Errors
///
/// The first one that is missing or a folder.
pub fn check_files<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), ImportError> {
    files.into_iter().try_for_each(|path| {
        let reject = |reason: String| Err(ImportError::Path { path: path.clone(), reason });
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => reject("is a folder, expected a file".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => reject(error.to_string()),
        }
    })
}

/// gzip, with an error in plain words where it is cut off.
struct Unpacked<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the gzip file is truncated"),
            _ => error,
        })
    }
}

/// A file, and how far it was read.
pub struct Source<R> {
    reader: R,
    /// bytes read of the decompressed file
    offset: u64,
    /// lines read
    lines: u64,
    buffer: Vec<u8>,
}

/// A line without its end, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// its number, from 1
    pub number: u64,
    /// where it begins, in bytes of the decompressed file
    pub offset: u64,
    /// the line, or why there is nothing to be read in it
    pub text: Result<&'a str, LineProblem>,
}

/// A line without its end, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// its number, from 1
    pub number: u64,
    /// where it begins, in bytes of the decompressed file
    pub offset: u64,
    /// the same without a byte order mark
    begin: u64,
    /// the line, or why there is nothing to be read in it
    pub bytes: Result<&'a [u8], LineProblem>,
}

/// Why a line can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// It is not text.
    #[error("not UTF-8 at byte {offset} of the file")]
    NotUtf8 {
        /// the first byte that is wrong, in the decompressed file
        offset: u64,
    },
    /// It is too long.
    #[error("a line of {bytes} bytes; no more than {MAX_LINE_BYTES} are read of one")]
    TooLong {
        /// its length
        bytes: u64,
    },
}

/// The bytes of a file as they come from the disk, unpacked.
pub type FileReader = BufReader<Box<dyn Read + Send>>;

impl Source<FileReader> {
    /// Opens a file; `count` learns how much of it was read.
    ///
    /// # Errors
    ///
    /// When it can't be opened, or is neither text nor NumPy's.
    pub fn open(path: &Path, count: &BytesRead) -> Result<Self, FormatError> {
        let unreadable = |error: io::Error| FormatError { offset: 0, reason: format!("can't be read: {error}") };
        let mut reader = open_unpacked(path, count).map_err(unreadable)?;
        // Whole, however few bytes arrive at a time: the first member of a gzip file may hold one.
        let mut begin = Vec::with_capacity(LONGEST_MARK);
        reader.by_ref().take(LONGEST_MARK as u64).read_to_end(&mut begin).map_err(unreadable)?;
        if let Some(what) = foreign(&begin) {
            return Err(FormatError { offset: 0, reason: format!("this is {what}") });
        }
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(begin).chain(reader));
        Ok(Self::new(BufReader::with_capacity(BUFFER_BYTES, whole)))
    }
}

impl<R: BufRead> Source<R> {
    /// Over what `reader` gives, from its beginning.
    pub fn new(reader: R) -> Self {
        Self { reader, offset: 0, lines: 0, buffer: Vec::new() }
    }

    /// Bytes of the decompressed file that were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A format error at the place that was reached.
    pub fn refuse(&self, reason: impl Into<String>) -> FormatError {
        FormatError { offset: self.offset, reason: reason.into() }
    }

    fn read_error(&self, error: &io::Error) -> FormatError {
        self.refuse(format!("can't be read: {error}"))
    }

    fn truncated(&self) -> FormatError {
        self.refuse("the file is truncated")
    }

    /// What comes next, without taking it: nothing at the end, else one byte or more.
    pub fn peek(&mut self) -> Result<&[u8], FormatError> {
        // Borrowed twice: the first call fills the buffer, the second one only lends it.
        if let Err(error) = self.reader.fill_buf() {
            return Err(self.read_error(&error));
        }
        self.reader.fill_buf().map_err(|error| FormatError { offset: self.offset, reason: error.to_string() })
    }

    /// Takes some of what [`Self::peek`] showed.
    pub fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.offset += bytes as u64;
    }

    /// Passes over a byte order mark at the beginning: it says nothing in UTF-8, but some editors write it.
    pub fn skip_mark(&mut self) -> Result<(), FormatError> {
        if self.offset == 0 && self.peek()?.starts_with(MARK) {
            self.consume(MARK.len());
        }
        Ok(())
    }

    /// The next byte.
    ///
    /// # Errors
    ///
    /// At the end of the file.
    pub fn byte(&mut self) -> Result<u8, FormatError> {
        let byte = self.peek()?.first().copied().ok_or_else(|| self.truncated())?;
        self.reader.consume(1);
        self.offset += 1;
        Ok(byte)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// The next `length` bytes; the caller sees to it that this is not too many to hold.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&[u8], FormatError> {
        self.buffer.clear();
        while self.buffer.len() < length {
            let missing = length - self.buffer.len();
            match self.reader.fill_buf() {
                Ok([]) => return Err(self.truncated()),
                Ok(available) => {
                    let taken = available.len().min(missing);
                    self.buffer.extend_from_slice(&available[..taken]);
                    self.reader.consume(taken);
                    self.offset += taken as u64;
                }
                Err(error) => return Err(self.read_error(&error)),
            }
        }
        Ok(&self.buffer)
    }

    /// The next line; none at the end of the file. Of a line that is too long no more than 16 MiB are held.
    ///
    /// # Errors
    ///
    /// When the file can't be read further.
    pub fn line(&mut self) -> Result<Option<Line<'_>>, FormatError> {
        let Some(RawLine { number, offset, begin, bytes }) = self.raw_line()? else { return Ok(None) };
        let text = bytes.and_then(|bytes| {
            let not_utf8 =
                |error: std::str::Utf8Error| LineProblem::NotUtf8 { offset: begin + error.valid_up_to() as u64 };
            std::str::from_utf8(bytes).map_err(not_utf8)
        });
        Ok(Some(Line { number, offset, text }))
    }

    /// The next line, of which the encoding is not known.
    ///
    /// # Errors
    ///
    /// When the file can't be read further.
    pub fn raw_line(&mut self) -> Result<Option<RawLine<'_>>, FormatError> {
        let offset = self.offset;
        self.buffer.clear();
        let mut length = 0u64;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) => return Err(self.read_error(&error)),
            };
            if available.is_empty() && length == 0 {
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let content = &available[..end.unwrap_or(available.len())];
            let room = MAX_LINE_BYTES - self.buffer.len();
            self.buffer.extend_from_slice(&content[..content.len().min(room)]);
            let taken = content.len() + usize::from(end.is_some());
            let at_end = available.is_empty();
            self.reader.consume(taken);
            self.offset += taken as u64;
            length += taken as u64;
            if end.is_some() || at_end {
                length -= u64::from(end.is_some());
                break;
            }
        }
        self.lines += 1;
        let skipped = if offset == 0 && self.buffer.starts_with(MARK) { MARK.len() } else { 0 };
        let bytes = match length > MAX_LINE_BYTES as u64 {
            true => Err(LineProblem::TooLong { bytes: length }),
            false => Ok(self.buffer[skipped..].strip_suffix(b"\r").unwrap_or(&self.buffer[skipped..])),
        };
        Ok(Some(RawLine { number: self.lines, offset, begin: offset + skipped as u64, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, u64, Result<String, LineProblem>)> {
        let mut source = Source::new(BufReader::with_capacity(3, bytes));
        let mut lines = Vec::new();
        while let Some(line) = source.line().expect("memory can be read") {
            lines.push((line.number, line.offset, line.text.map(ToOwned::to_owned)));
        }
        assert_eq!(source.offset(), bytes.len() as u64);
        lines
    }

    #[test]
    fn lines_have_numbers_and_positions_however_they_end() {
        let ok = |number, offset, text: &str| (number, offset, Ok(text.to_owned()));
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [ok(1, 0, "")]);
        assert_eq!(lines("one\r\n\ntwo é".as_bytes()), [ok(1, 0, "one"), ok(2, 5, ""), ok(3, 6, "two é")]);
        assert_eq!(lines(b"\xef\xbb\xbfone\ntwo\n"), [ok(1, 0, "one"), ok(2, 7, "two")]);
    }

    #[test]
    fn what_a_packed_file_begins_with_may_be_spread_over_its_members() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write;
        let folder = tempfile::tempdir().expect("a folder");
        let read = |text: &[u8]| {
            let path = folder.path().join("file");
            let members = text.chunks(1).map(|byte| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(byte).and_then(|()| encoder.finish()).expect("memory can be written")
            });
            std::fs::write(&path, members.collect::<Vec<_>>().concat()).expect("written");
            read_file(&path, &BytesRead::default())
        };
        assert!(read(b"\xff\xfea\0").expect_err("no text").reason.contains("UTF-16"));
        assert_eq!(read(b"\xef\xbb\xbfone"), Ok(b"one".to_vec()));
    }

    #[test]
    fn what_is_no_text_is_named_for_what_it_is() {
        assert!(foreign(b"\xff\xfe{\0").is_some_and(|what| what.contains("UTF-16")));
        assert!(foreign(b"{\0\"\0").is_some_and(|what| what.contains("UTF-16")));
        assert!(foreign(b"PK\x03\x04\x14\0").is_some_and(|what| what.contains("zip")));
        assert!(foreign(b"\x28\xb5\x2f\xfd\x24").is_some_and(|what| what.contains("zstd")));
        for text in [&b""[..], b"\xef\xbb\xbf{}", b"{\n", b"user_id", b"\x93NUMPY", b"0"] {
            assert_eq!(foreign(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_spoils_no_more_than_itself() {
        let found = lines(b"one\nt\xffo\nthree");
        assert_eq!(found[1], (2, 4, Err(LineProblem::NotUtf8 { offset: 5 })));
        assert_eq!(found[2].2, Ok("three".to_owned()));

        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 1];
        bytes.extend_from_slice(b"\nafter\n");
        let mut source = Source::new(bytes.as_slice());
        let line = source.line().expect("read").expect("a line");
        assert_eq!(line.text, Err(LineProblem::TooLong { bytes: MAX_LINE_BYTES as u64 + 1 }));
        let line = source.line().expect("read").expect("a line");
        assert_eq!((line.number, line.text), (2, Ok("after")));
    }

    #[test]
    fn the_end_in_the_middle_of_a_value_is_named_with_its_position() {
        let mut source = Source::new(&b"12345"[..]);
        assert_eq!(source.array::<2>(), Ok(*b"12"));
        let error = source.bytes(4).expect_err("too few");
        assert_eq!((error.offset, error.reason.as_str()), (5, "the file is truncated"));
    }
}
