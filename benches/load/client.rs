//! An open-loop HTTP client: requests begin when a clock says so, not when answers to earlier ones have come.
//!
//! Each request has its time. What is late because the server, or all connections, were busy counts from that time on:
//! the latencies are those that users would see who do not wait for each other (no coordinated omission). HTTP/1.1 is
//! spoken by hand, so that the client takes as little as can be of the processors that the server runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A whole request as it goes over the wire.
pub type Request = Vec<u8>;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// `GET path`.
pub fn get(path: &str) -> Request {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// `POST path` with a JSON body.
pub fn post(path: &str, body: &serde_json::Value) -> Request {
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// What a request met.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// from the time it was due
    pub latency: Duration,
    /// from the time it was sent
    pub service: Duration,
    /// status; 0 without an answer
    pub status: u16,
}

/// Sends `rate` requests a second for `duration` over `connections` connections.
pub async fn run(
    address: &str,
    requests: Arc<Vec<Request>>,
    rate: f64,
    duration: Duration,
    connections: usize,
) -> Vec<Sample> {
    let (began, next) = (Instant::now() + Duration::from_millis(50), Arc::new(AtomicU64::new(0)));
    let count = (rate * duration.as_secs_f64()) as u64;
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (address, requests, next) = (address.to_owned(), requests.clone(), next.clone());
            tokio::spawn(async move {
                let (mut samples, mut connection) = (Vec::new(), Connection::new(address));
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return samples;
                    }
                    let due = began + Duration::from_secs_f64(number as f64 / rate);
                    tokio::time::sleep_until(due).await;
                    let sent = Instant::now();
                    let status = connection.send(&requests[number as usize % requests.len()]).await;
                    samples.push(Sample { latency: due.elapsed(), service: sent.elapsed(), status });
                }
            })
        })
        .collect();
    let mut samples = Vec::with_capacity(count as usize);
    for client in clients {
        samples.extend(client.await.expect("a client"));
    }
    samples
}

/// A connection that is made when there is none.
pub struct Connection {
    address: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// To `address`, not made yet.
    pub fn new(address: String) -> Self {
        Self { address, stream: None, buffer: vec![0; 1 << 16] }
    }

    /// The status of the answer; 0 where there is none.
    pub async fn send(&mut self, request: &[u8]) -> u16 {
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(status)) => status,
            _ => {
                self.stream = None;
                0
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        let mut filled = 0;
        let broken = || std::io::Error::other("not an answer");
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(broken());
            }
            filled += read;
            let Some(end) = self.buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).map_err(|_| broken())?.to_ascii_lowercase();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            let total = end + 4 + length.unwrap_or(0_usize);
            let closes = head.contains("connection: close");
            while filled < total {
                if self.buffer.len() < total {
                    self.buffer.resize(total, 0);
                }
                let read = stream.read(&mut self.buffer[filled..]).await?;
                if read == 0 {
                    return Err(broken());
                }
                filled += read;
            }
            if !closes {
                self.stream = Some(stream);
            }
            return Ok(status);
        }
    }
}
