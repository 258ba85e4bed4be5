//! NumPy files whose dtype is object: a header, and then a pickle (see [`super::pickle`]).

use std::io::BufRead;

use super::error::FormatError;
use super::pickle::{Limits, PickledArray, read_array};
use super::source::Source;

/// What every NumPy file begins with.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read; NumPy's own are some 100 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// More entries than the file has bytes come from lists that are there many times. Up to this many that is a small
/// array; beyond, it is a file made to fill the catalog.
const ENTRIES_FOR_FREE: u64 = 1_000_000;

/// Reads an array of lists of texts, to the end of the file.
///
/// # Errors
///
/// Names what is not as NumPy writes such a file, and the byte at which it stands.
pub fn read_object_array<R: BufRead>(source: &mut Source<R>, limits: &Limits) -> Result<PickledArray, FormatError> {
    let shape = read_header(source)?;
    let start = source.offset();
    let array = read_array(source, limits)?;
    let end = source.offset();
    let refuse = |offset: u64, reason: String| Err(FormatError { offset, reason });
    if !source.peek()?.is_empty() {
        return refuse(end, "the file goes on after its array".to_owned());
    }
    if array.shape != shape {
        return refuse(start, format!("the header says shape {shape:?}, the array has {:?}", array.shape));
    }
    let entries = array.entries();
    if entries > end.max(ENTRIES_FOR_FREE) {
        let reason = format!("{entries} entries out of {end} bytes: the same lists over and over, which is refused");
        return refuse(start, reason);
    }
    Ok(array)
}

/// The shape that a header states.
fn read_header<R: BufRead>(source: &mut Source<R>) -> Result<Vec<u64>, FormatError> {
    let refuse = |offset: u64, reason: &str| FormatError { offset, reason: reason.to_owned() };
    if source.array::<6>()? != MAGIC {
        return Err(refuse(0, "not a NumPy file"));
    }
    let [major, _minor] = source.array()?;
    let length = match major {
        1 => u16::from_le_bytes(source.array()?).into(),
        2 | 3 => u32::from_le_bytes(source.array()?) as usize,
        _ => return Err(refuse(6, "a NumPy file of a version other than 1, 2 and 3")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(refuse(8, &format!("a header of {length} bytes; no more than {MAX_HEADER_BYTES} are read")));
    }
    let start = source.offset();
    let header = source.bytes(length)?;
    let header = std::str::from_utf8(header).map_err(|_| refuse(start, "the header is not text"))?;
    let field = |name: &str| {
        let found = header.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
        found.ok_or_else(|| refuse(start, &format!("no {name} in the header")))
    };
    let descr = field("descr")?;
    if !["'|O'", "'O'"].iter().any(|object| descr.starts_with(object)) {
        let stated: String = descr.chars().take(20).take_while(|&character| character != ',').collect();
        return Err(refuse(start, &format!("an array of dtype {stated}, expected Python objects ('|O')")));
    }
    let shape = field("shape")?;
    let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let lengths = shape.unwrap_or("?").split(',').map(str::trim).filter(|length| !length.is_empty());
    // Python 2 marks long integers.
    let lengths: Result<Vec<u64>, _> = lengths.map(|length| length.trim_end_matches('L').parse()).collect();
    lengths.map_err(|_| refuse(start, "the shape in the header is not numbers"))
}
