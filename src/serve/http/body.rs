//! The bodies of requests and responses, as the listener sees them: what happens when they end.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

/// Bytes of a response that leave at once: a larger one is not done while the client has most of it yet to read.
const CHUNK: usize = 64 << 10;
/// Bytes, and time, that the server goes on to read of a body that nobody wants.
const MOST_DRAINED: usize = 64 << 20;
const LONGEST_DRAIN: Duration = Duration::from_secs(10);

/// What a response holds until it is sent: its place among the requests in progress.
#[derive(Clone)]
pub struct Held {
    _held: Arc<dyn Any + Send + Sync>,
}

impl Held {
    /// Returns what drops `held` when the response is sent, or its client has gone.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// The body of a response, in chunks, that holds something until the last one leaves.
pub struct SentBody<T> {
    body: Body,
    /// of the last frame
    rest: Bytes,
    held: Option<T>,
}

impl<T> SentBody<T> {
    /// Returns `body`, which holds `held`.
    pub fn new(body: Body, held: T) -> Self {
        Self { body, rest: Bytes::new(), held: Some(held) }
    }
}

impl<T: Send + Unpin + 'static> HttpBody for SentBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => {
                    self.held = None;
                    return Poll::Ready(end);
                }
            }
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest + of_body.lower());
        if let Some(upper) = of_body.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}

/// The body of a request. If nobody reads it to its end, the server does, up to a bound: a client that is still sending
/// when the connection is closed would see a broken pipe instead of the response.
pub struct ReceivedBody {
    body: Option<Incoming>,
    /// The client waits for `100 Continue`, which is sent when the body is first read.
    is_held_back: bool,
}

impl ReceivedBody {
    /// Returns the body of a request; `is_held_back` if the client waits for `100 Continue`.
    pub fn new(body: Incoming, is_held_back: bool) -> Self {
        Self { body: Some(body), is_held_back }
    }
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_held_back = false;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !self.is_held_back && !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST_DRAIN, drain(body)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut drained = 0;
    while drained < MOST_DRAINED {
        let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await else {
            return;
        };
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}
