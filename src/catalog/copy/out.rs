//! PostgreSQL's binary copy format as a stream of rows of fixed sizes.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::catalog::error::CatalogError;

/// An 11-byte signature, flags and the length of an extension.
const HEADER_BYTES: usize = 11 + 4 + 4;

/// Reads the response to a `COPY … TO STDOUT (FORMAT binary)`: a header; then per row the number of fields (16 bits) and
/// per field its length (32 bits) and bytes, big-endian; a field count of −1 ends it.
pub(in crate::catalog) struct CopyOut<const FIELDS: usize> {
    stream: BoxStream<'static, sqlx::Result<Bytes>>,
    /// bytes of each field
    sizes: [usize; FIELDS],
    /// what is read, for errors
    what: &'static str,
    buffer: BytesMut,
    in_header: bool,
    done: bool,
}

impl<const FIELDS: usize> CopyOut<FIELDS> {
    /// Reads rows whose fields are never null and have `sizes` bytes; `what` names them in errors.
    pub(in crate::catalog) fn new(
        stream: BoxStream<'static, sqlx::Result<Bytes>>,
        sizes: [usize; FIELDS],
        what: &'static str,
    ) -> Self {
        Self { stream, sizes, what, buffer: BytesMut::new(), in_header: true, done: false }
    }

    /// Passes each of the next rows to `each`, its fields one after another. Returns false at the end.
    pub(in crate::catalog) async fn next_rows(
        &mut self,
        mut each: impl FnMut(&mut BytesMut),
    ) -> Result<bool, CatalogError> {
        if self.done {
            return Ok(false);
        }
        let refuse = |what: &str, reason: &str| CatalogError::Protocol(format!("the copy of {what} {reason}"));
        let Some(chunk) = self.stream.next().await else {
            return Err(refuse(self.what, "ended early"));
        };
        self.buffer.extend_from_slice(&chunk?);
        if self.in_header {
            if self.buffer.len() < HEADER_BYTES {
                return Ok(true);
            }
            if !self.buffer.starts_with(b"PGCOPY\n") {
                return Err(refuse(self.what, "is not in binary format"));
            }
            self.buffer.advance(HEADER_BYTES);
            self.in_header = false;
        }
        let row_bytes = 2 + self.sizes.iter().map(|size| 4 + size).sum::<usize>();
        let mut row = BytesMut::with_capacity(row_bytes);
        while self.buffer.len() >= 2 {
            match i16::from_be_bytes([self.buffer[0], self.buffer[1]]) {
                -1 => {
                    // Read to the end of the exchange, or the connection can't be used again.
                    while let Some(chunk) = self.stream.next().await {
                        chunk?;
                    }
                    self.done = true;
                    return Ok(true);
                }
                fields if usize::try_from(fields) != Ok(FIELDS) => {
                    return Err(refuse(self.what, &format!("has rows of {fields} fields, expected {FIELDS}")));
                }
                _ if self.buffer.len() < row_bytes => break,
                _ => {}
            }
            self.buffer.advance(2);
            row.clear();
            for &size in &self.sizes {
                if self.buffer.get_i32() != size as i32 {
                    return Err(refuse(self.what, "has a field of another size than expected"));
                }
                row.extend_from_slice(&self.buffer[..size]);
                self.buffer.advance(size);
            }
            each(&mut row);
        }
        Ok(true)
    }
}
