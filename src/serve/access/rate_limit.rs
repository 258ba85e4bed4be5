//! Rate limits per key and per client address, and the limits on requests in progress and on what their responses hold.
//!
//! Each sender has a bucket of tokens that fills at the sender's rate and holds the requests of one [`WINDOW`]; a request
//! takes one. Only buckets that are not full are stored, and no more than [`MAX_BUCKETS`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keys::KeyId;
use crate::serve::http::body::Held;
use crate::serve::http::problem::ApiError;

/// A bucket holds the tokens of this time.
const WINDOW: Duration = Duration::from_secs(10);
/// Most buckets stored.
const MAX_BUCKETS: usize = 100_000;
/// Most bytes of responses that wait for their clients; beyond that, new requests are rejected.
const MAX_UNSENT_BYTES: usize = 256 << 20;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a connection comes from: left in each request by the listener.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Buckets of one kind of sender. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// name of the policy in headers
    name: &'static str,
    /// requests per second; 0: unlimited
    rate: f64,
    buckets: Arc<Mutex<HashMap<String, Bucket>>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What a sender has left after a request.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Allowance {
    is_allowed: bool,
    requests: u64,
    /// seconds until the next one is allowed
    wait: u64,
}

impl RateLimit {
    /// Returns a limit of `rate` requests per second for each sender.
    pub fn new(name: &'static str, rate: f64) -> Self {
        Self { name, rate, buckets: Arc::default() }
    }

    fn capacity(&self) -> f64 {
        (self.rate * WINDOW.as_secs_f64()).max(1.0).floor()
    }

    fn take(&self, sender: &str, now: Instant) -> Allowance {
        let capacity = self.capacity();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + seconds * self.rate).min(capacity)
        };
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| filled(bucket) < capacity);
            if buckets.len() >= MAX_BUCKETS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(sender.to_owned()).or_insert(Bucket { tokens: capacity, at: now });
        let tokens = filled(bucket);
        let is_allowed = tokens >= 1.0;
        let tokens = if is_allowed { tokens - 1.0 } else { tokens };
        *bucket = Bucket { tokens, at: now };
        let wait = ((1.0 - tokens).max(0.0) / self.rate).ceil() as u64;
        Allowance { is_allowed, requests: tokens as u64, wait }
    }

    fn headers(&self, left: Allowance) -> HeaderMap {
        let (name, capacity, window) = (self.name, self.capacity(), WINDOW.as_secs());
        let mut headers = HeaderMap::new();
        let policy = HeaderValue::try_from(format!("\"{name}\";q={capacity};w={window}"));
        let limit = HeaderValue::try_from(format!("\"{name}\";r={};t={}", left.requests, left.wait));
        headers.extend(policy.into_iter().map(|value| (POLICY, value)));
        headers.extend(limit.into_iter().map(|value| (LIMIT, value)));
        headers
    }
}

/// All limits on numbers of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits {
    by_key: RateLimit,
    by_address: RateLimit,
    /// proxies in front that add to X-Forwarded-For
    proxies: usize,
    in_progress: Arc<Semaphore>,
    /// bytes of responses that are not sent yet
    unsent: Arc<AtomicUsize>,
}

/// What a request takes up until its response is sent.
struct RequestPlace {
    _permit: OwnedSemaphorePermit,
    bytes: usize,
    unsent: Arc<AtomicUsize>,
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.unsent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Limits {
    /// Returns limits of requests per second for each key and each address, behind `proxies` trusted proxies, and of
    /// requests in progress.
    pub fn new(by_key: f64, by_address: f64, proxies: usize, in_progress: usize) -> Self {
        Self {
            by_key: RateLimit::new("key", by_key),
            by_address: RateLimit::new("address", by_address),
            proxies,
            in_progress: Arc::new(Semaphore::new(in_progress)),
            unsent: Arc::default(),
        }
    }

    /// Returns the right to be in progress.
    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let has_memory = self.unsent.load(Ordering::Relaxed) < MAX_UNSENT_BYTES;
        self.in_progress.clone().try_acquire_owned().ok().filter(|_| has_memory)
    }

    /// Makes a response keep the place of its request until it is sent.
    fn hold(&self, permit: OwnedSemaphorePermit, response: &mut Response) {
        let bytes = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
        self.unsent.fetch_add(bytes, Ordering::Relaxed);
        let place = RequestPlace { _permit: permit, bytes, unsent: self.unsent.clone() };
        response.extensions_mut().insert(Held::new(place));
    }

    /// Returns the client's address as the outermost trusted proxy saw it.
    fn address(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        if self.proxies == 0 {
            return peer;
        }
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let addresses: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        // Anyone may have written the values further left.
        let index = addresses.len().checked_sub(self.proxies);
        index.and_then(|index| parse_address(addresses[index])).or(peer)
    }
}

/// Reads an address as proxies write it: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(bracketed)
}

/// Names the sender of an address: whoever has one IPv6 address has 2⁶⁴ of them, so its network counts.
fn sender(address: IpAddr) -> String {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            let segments = address.segments();
            let network = Ipv6Addr::new(segments[0], segments[1], segments[2], segments[3], 0, 0, 0, 0);
            network.to_string()
        }
        address => address.to_canonical().to_string(),
    }
}

/// Counts the requests of an address before anything else is done for them, and rejects those beyond a limit.
pub async fn limit_by_address(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if route.starts_with("/health/") || route == "/metrics" {
        return next.run(request).await;
    }
    let sender = if limits.by_address.rate > 0.0 { limits.address(&request).map(sender) } else { None };
    let limited = limited(&limits.by_address, sender.as_deref());
    if let Some((headers, false)) = limited {
        return (headers, ApiError::TooManyRequests).into_response();
    }
    let Some(permit) = limits.admit() else {
        return ApiError::Overloaded.into_response();
    };
    let mut response = next.run(request).await;
    limits.hold(permit, &mut response);
    if let Some((headers, _)) = limited {
        response.headers_mut().extend(headers);
    }
    response
}

/// Counts the requests of a key, and rejects those beyond its limit.
pub async fn limit_by_key(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let sender = request.extensions().get::<KeyId>().map(|key| key.0.clone());
    let limited = limited(&limits.by_key, sender.as_deref());
    match limited {
        None => next.run(request).await,
        Some((headers, false)) => (headers, ApiError::TooManyRequests).into_response(),
        Some((headers, true)) => {
            let mut response = next.run(request).await;
            response.headers_mut().extend(headers);
            response
        }
    }
}

/// Returns headers, and whether the request is allowed; `None` without a limit.
fn limited(limit: &RateLimit, sender: Option<&str>) -> Option<(HeaderMap, bool)> {
    let sender = sender.filter(|_| limit.rate > 0.0)?;
    let left = limit.take(sender, Instant::now());
    let mut headers = limit.headers(left);
    if !left.is_allowed
        && let Ok(wait) = HeaderValue::try_from(left.wait.max(1).to_string())
    {
        headers.insert(axum::http::header::RETRY_AFTER, wait);
    }
    Some((headers, left.is_allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_what_comes_in_a_window_and_then_the_rate() {
        let limit = RateLimit::new("key", 2.0);
        let began = Instant::now();
        for left in (0..20).rev() {
            assert_eq!(
                limit.take("a", began),
                Allowance { is_allowed: true, requests: left, wait: u64::from(left == 0) }
            );
        }
        assert_eq!(limit.take("a", began), Allowance { is_allowed: false, requests: 0, wait: 1 });
        assert!(limit.take("b", began).is_allowed, "another sender");
        let later = began + Duration::from_secs(1);
        assert!(limit.take("a", later).is_allowed && limit.take("a", later).is_allowed);
        assert!(!limit.take("a", later).is_allowed);
    }

    #[test]
    fn requests_are_rejected_while_as_much_of_responses_as_fits_is_not_sent() {
        let limits = Limits::new(0.0, 0.0, 0, 100);
        let body = axum::body::Bytes::from(vec![0; MAX_UNSENT_BYTES / 4]);
        let mut unsent = Vec::new();
        for _ in 0..4 {
            let permit = limits.admit().expect("memory");
            let mut response = axum::body::Body::from(body.clone()).into_response();
            limits.hold(permit, &mut response);
            unsent.push(response);
        }
        assert!(limits.admit().is_none());
        unsent.pop();
        assert!(limits.admit().is_some(), "one is sent");
        unsent.clear();
        assert_eq!((limits.unsent.load(Ordering::Relaxed), limits.in_progress.available_permits()), (0, 100));
    }

    #[test]
    fn addresses_behind_a_proxy_are_those_that_it_saw() {
        let address = |proxies, forwarded: &str| {
            let mut request = Request::new(axum::body::Body::empty());
            request.extensions_mut().insert(Peer(([127, 0, 0, 1], 5).into()));
            request.headers_mut().insert(FORWARDED_FOR, forwarded.parse().expect("a value"));
            Limits::new(0.0, 1.0, proxies, 1).address(&request).map(sender).unwrap_or_default()
        };
        assert_eq!(address(0, "1.1.1.1"), "127.0.0.1");
        assert_eq!(address(1, "6.6.6.6, 1.1.1.1"), "1.1.1.1");
        assert_eq!(address(2, "6.6.6.6, 1.1.1.1, 2.2.2.2"), "1.1.1.1");
        assert_eq!(address(1, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(address(1, "garbage"), "127.0.0.1");
        assert_eq!(address(1, "1.1.1.1:4711"), "1.1.1.1");
        assert_eq!(address(1, "6.6.6.6, [2001:db8:1:2:3:4:5:6]"), "2001:db8:1:2::");
        assert_eq!(address(2, "[2001:db8:1:2:3:4:5:6]:443, 2.2.2.2:80"), "2001:db8:1:2::");
        assert_eq!(address(1, "[::ffff:1.1.1.1]:80"), "1.1.1.1");
    }
}
