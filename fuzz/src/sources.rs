//! Files as they lie on the disk: gzip, marks, encodings, lines. The first byte says whether the rest is packed first.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use segue::import::{BytesRead, LineProblem, Source, read_file};

use crate::rows::assert_reason;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(crate::folder);

/// Reads a file as lines, as bytes and as a whole. Packed it reads as it does unpacked.
pub fn run(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let path = FOLDER.path().join("file");
    write(&path, bytes);
    let plain = read_whole(&path);
    read_lines(&path);
    if how.is_multiple_of(2) {
        return;
    }
    // Two members, which belong to one file.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let packed = [packed(first), packed(second)].concat();
    write(&path, &packed);
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        assert_eq!(read_whole(&path), plain, "packed and unpacked differ");
    }
    read_lines(&path);
    write(&path, &packed[..packed.len() - 1 - usize::from(how) % 8]);
    assert!(read_whole(&path).is_none() || plain.is_none(), "a truncated file was read");
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a folder to write in");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("it is memory")
}

fn read_whole(path: &Path) -> Option<Vec<u8>> {
    let count = BytesRead::default();
    let whole = read_file(path, &count);
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    assert!(count.get() <= length);
    whole.map_err(|error| assert_reason(&error.reason)).ok()
}

/// Asserts that lines follow each other without gaps.
fn read_lines(path: &Path) {
    let Ok(mut source) = Source::open(path, &BytesRead::default()) else { return };
    let (mut number, mut end) = (0, 0);
    loop {
        let line = match source.line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return assert_reason(&error.reason),
        };
        number += 1;
        assert_eq!((line.number, line.offset), (number, end));
        match line.text {
            Ok(text) => assert!(!text.contains('\n')),
            Err(LineProblem::NotUtf8 { offset }) => assert!(offset >= end),
            Err(LineProblem::TooLong { .. }) => {}
        }
        end = source.offset();
    }
}
