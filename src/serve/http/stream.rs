//! A connection's bytes, with a bound on how long a client may refuse to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::patience::Patience;

/// Bytes per second that a client must read once the kernel's buffers are full.
const LEAST_READING: f64 = 10_000.0;

/// A connection that fails if its client does not read.
pub struct PatientStream {
    stream: TcpStream,
    patience: Patience,
    /// while a write waits for the client: since when, and until when
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl PatientStream {
    /// Returns `stream` with a client that may pause for `most`.
    pub fn new(stream: TcpStream, most: Duration) -> Self {
        Self { stream, patience: Patience::new(most, LEAST_READING), waiting: None }
    }

    /// Passes the outcome of a write on, and counts the time until then.
    fn outcome(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            let left = self.patience.left();
            let (_, over) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
            ready!(over.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
        }
        if let Some((since, _)) = self.waiting.take() {
            self.patience.waited(since.elapsed());
        }
        if let Poll::Ready(Ok(bytes)) = written {
            self.patience.moved(bytes);
        }
        written
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.outcome(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.outcome(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
