//! How many requests a key, or an address, may send, and how many may be under way.
//!
//! Each sender has a bucket of tokens that fills at the sender's rate and holds what may come in [`WINDOW`]; a request
//! takes one. Only buckets that are not full are kept, and no more than [`MOST_BUCKETS`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::keys::KeyId;
use crate::serve::AppState;
use crate::serve::http::problem::ApiError;

/// What a bucket holds is what comes in so long.
const WINDOW: Duration = Duration::from_secs(10);
/// Buckets kept at most.
const MOST_BUCKETS: usize = 100_000;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a connection comes from: left in each request by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Buckets of one kind of sender. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// names the policy in headers
    name: &'static str,
    /// requests a second; 0 for any number
    rate: f64,
    buckets: Arc<Mutex<HashMap<String, Bucket>>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What is left after a request.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Left {
    is_allowed: bool,
    requests: u64,
    /// seconds until the next one is allowed
    wait: u64,
}

impl RateLimit {
    /// Of `rate` requests a second for each sender.
    pub fn new(name: &'static str, rate: f64) -> Self {
        Self { name, rate, buckets: Arc::default() }
    }

    fn capacity(&self) -> f64 {
        (self.rate * WINDOW.as_secs_f64()).max(1.0).floor()
    }

    fn take(&self, sender: &str, now: Instant) -> Left {
        let capacity = self.capacity();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + seconds * self.rate).min(capacity)
        };
        if buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, bucket| filled(bucket) < capacity);
            if buckets.len() >= MOST_BUCKETS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(sender.to_owned()).or_insert(Bucket { tokens: capacity, at: now });
        let tokens = filled(bucket);
        let is_allowed = tokens >= 1.0;
        let tokens = if is_allowed { tokens - 1.0 } else { tokens };
        *bucket = Bucket { tokens, at: now };
        let wait = ((1.0 - tokens).max(0.0) / self.rate).ceil() as u64;
        Left { is_allowed, requests: tokens as u64, wait }
    }

    fn headers(&self, left: Left) -> HeaderMap {
        let (name, capacity, window) = (self.name, self.capacity(), WINDOW.as_secs());
        let mut headers = HeaderMap::new();
        let policy = HeaderValue::try_from(format!("\"{name}\";q={capacity};w={window}"));
        let limit = HeaderValue::try_from(format!("\"{name}\";r={};t={}", left.requests, left.wait));
        headers.extend(policy.into_iter().map(|value| (POLICY, value)));
        headers.extend(limit.into_iter().map(|value| (LIMIT, value)));
        headers
    }
}

/// All limits on numbers of requests.
#[derive(Debug, Clone)]
pub struct Limits {
    by_key: RateLimit,
    by_address: RateLimit,
    /// proxies in front that add to X-Forwarded-For
    proxies: usize,
    under_way: Arc<Semaphore>,
}

impl Limits {
    /// Requests a second of each key and of each address, proxies in front, requests under way at once.
    pub fn new(by_key: f64, by_address: f64, proxies: usize, under_way: usize) -> Self {
        Self {
            by_key: RateLimit::new("key", by_key),
            by_address: RateLimit::new("address", by_address),
            proxies,
            under_way: Arc::new(Semaphore::new(under_way)),
        }
    }

    /// The address of whoever sent a request to the outermost of our proxies.
    fn address(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        if self.proxies == 0 {
            return peer;
        }
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let addresses: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        // What stands further left, anyone may have written.
        let place = addresses.len().checked_sub(self.proxies);
        place.and_then(|place| addresses[place].parse().ok()).or(peer)
    }
}

/// One who has an IPv6 address has 2⁶⁴ of them.
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

/// Counts requests of an address, before anything else is done for them, and refuses what is too much at once.
pub async fn by_address(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let limits = &state.limits;
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if route.starts_with("/health/") || route == "/metrics" {
        return next.run(request).await;
    }
    let sender = if limits.by_address.rate > 0.0 { limits.address(&request).map(sender) } else { None };
    let limited = limited(&limits.by_address, sender.as_deref());
    if let Some((headers, false)) = limited {
        return (headers, ApiError::TooManyRequests).into_response();
    }
    let Ok(_permit) = limits.under_way.clone().try_acquire_owned() else {
        return ApiError::Overloaded.into_response();
    };
    let mut response = next.run(request).await;
    if let Some((headers, _)) = limited {
        response.headers_mut().extend(headers);
    }
    response
}

/// Counts requests of a key.
pub async fn by_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let sender = request.extensions().get::<KeyId>().map(|key| key.0.clone());
    let limited = limited(&state.limits.by_key, sender.as_deref());
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

/// Headers, and whether the request is allowed; `None` where nothing is limited.
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
            assert_eq!(limit.take("a", began), Left { is_allowed: true, requests: left, wait: u64::from(left == 0) });
        }
        assert_eq!(limit.take("a", began), Left { is_allowed: false, requests: 0, wait: 1 });
        assert!(limit.take("b", began).is_allowed, "another sender");
        let later = began + Duration::from_secs(1);
        assert!(limit.take("a", later).is_allowed && limit.take("a", later).is_allowed);
        assert!(!limit.take("a", later).is_allowed);
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
    }
}
