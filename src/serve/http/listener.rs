//! Accepting connections, their limits, and their end.
//!
//! This replaces axum's own loop for the sake of limits: bytes and seconds for the head of a request, the rate at which a
//! client reads, and the number of connections. Beyond that, the connection that has been idle longest is closed; if none
//! is idle, the new one gets a 503 and is closed, instead of waiting in a queue that nobody sees.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::body::{Held, ReceivedBody, SentBody};
use super::connections::{Connection, Connections};
use super::stream::PatientStream;
use crate::serve::access::rate_limit::Peer;

/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most header fields of a request.
const MAX_HEADERS: usize = 100;
/// Connections beyond the most that get a response at the same time; others are closed without one.
const REJECTIONS: usize = 32;
/// Pause after a failure to accept, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: application/problem+json\r\ncontent-length: 122\r\n\r\n\
{\"type\":\"urn:segue:problem:overloaded\",\"title\":\"Overloaded\",\"status\":503,\"detail\":\"too many connections: retry shortly\"}\n\n";

/// Accepts up to `most` connections at once until `shutdown`, then waits for requests in progress to finish. A connection
/// may be idle for `idle`, and its client may refuse to read for as long.
pub async fn run(
    listener: TcpListener,
    router: Router,
    most: usize,
    idle: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let graceful = GracefulShutdown::new();
    let (connections, rejections) = (Connections::new(most), Arc::new(Semaphore::new(REJECTIONS)));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("can't accept a connection: {error}");
                connections.displace();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.admit().await else {
            warn!(most, "rejected a connection: too many are open, and none is idle");
            if let Ok(rejection) = rejections.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    reject(stream).await;
                    drop(rejection);
                });
            }
            continue;
        };
        // Responses are sent at once, not when the kernel has collected more data.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("can't set TCP_NODELAY: {error}");
        }
        let (router, connection) = (router.clone(), place.connection.clone());
        let service = service_fn(move |request| respond(router.clone(), connection.clone(), Peer(peer), request));
        let serving = graceful.watch(http.serve_connection(TokioIo::new(PatientStream::new(stream, idle)), service));
        tokio::spawn(async move {
            tokio::select! {
                ended = serving => {
                    if let Err(error) = ended {
                        debug!("a connection ended: {error}");
                    }
                }
                () = place.connection.displaced() => {}
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Responds to a request, which is in progress until the response is sent.
async fn respond(
    router: Router,
    connection: Arc<Connection>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Result<Response<SentBody<impl Send + Unpin + 'static>>, Infallible> {
    let in_progress = connection.request();
    let is_held_back = request.headers().contains_key(EXPECT);
    let mut request: Request = request.map(|body| Body::new(ReceivedBody::new(body, is_held_back)));
    request.extensions_mut().insert(peer);
    let mut response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    let held = response.extensions_mut().remove::<Held>();
    Ok(response.map(|body| SentBody::new(body, (in_progress, held))))
}

/// Tells a client that there are too many connections, once it has sent something: clients take a response that comes
/// before their request for a fault, and a connection that is closed while they send for a broken one.
async fn reject(mut stream: TcpStream) {
    let rejection = async {
        let mut received = [0; 4_096];
        if stream.read(&mut received).await? > 0 {
            stream.write_all(FULL).await?;
            stream.shutdown().await?;
            while stream.read(&mut received).await? > 0 {}
        }
        Ok::<(), std::io::Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), rejection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rejection_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
