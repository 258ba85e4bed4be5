//! Which hosts a request may name if requests need no key.
//!
//! A server on a loopback address is reachable for every web page that is open on the machine: a page whose name is made
//! to resolve to 127.0.0.1 (DNS rebinding) is of the same origin as the server for the browser. What gives it away is the
//! name, in `Host` and `Origin`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::middleware::Next;
use axum::response::Response;

use crate::serve::http::problem::ApiError;

/// The hosts and origins that requests may name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Arc<Allowed>);

#[derive(Debug)]
struct Allowed {
    /// None: any.
    hosts: Option<Vec<String>>,
    origins: Vec<String>,
}

impl AllowedHosts {
    /// Returns the loopback names, `hosts` and `origins`.
    pub fn loopback_and(hosts: &[String], origins: &[String]) -> Self {
        Self(Arc::new(Allowed { hosts: Some(hosts.to_vec()), origins: origins.to_vec() }))
    }

    /// Returns all hosts.
    pub fn all() -> Self {
        Self(Arc::new(Allowed { hosts: None, origins: Vec::new() }))
    }

    fn allows_host(&self, authority: &str) -> bool {
        let Some(hosts) = &self.0.hosts else { return true };
        let host = without_port(authority);
        is_loopback(host) || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let of_host = || origin.split_once("://").is_some_and(|(_, authority)| self.allows_host(authority));
        self.0.hosts.is_none() || self.0.origins.iter().any(|allowed| allowed == origin) || of_host()
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        if self.0.hosts.is_none() {
            return Ok(());
        }
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let hosts = request.headers().get_all(HOST).iter().map(text);
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        if let Some(host) = hosts.chain(authority).find(|host| !self.allows_host(host)) {
            return Err(ApiError::UnknownHost(without_port(&host).to_owned()));
        }
        match request.headers().get_all(ORIGIN).iter().map(text).find(|origin| !self.allows_origin(origin)) {
            Some(origin) => Err(ApiError::ForeignOrigin(origin)),
            None => Ok(()),
        }
    }
}

fn without_port(authority: &str) -> &str {
    let authority = authority.trim();
    match authority.rsplit_once(':') {
        // Not within an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Passes a request on if it names an allowed host and comes from an allowed origin.
pub async fn check_hosts(
    State(hosts): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if !route.starts_with("/health/") {
        hosts.check(&request)?;
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_and_configured_hosts_are_allowed_and_others_are_not() {
        let hosts = AllowedHosts::loopback_and(&["music.internal".to_owned()], &["https://app.example".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "segue.localhost",
            "127.0.0.1",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "music.internal",
            "Music.Internal:443",
        ] {
            assert!(hosts.allows_host(host), "{host}");
            assert!(hosts.allows_origin(&format!("http://{host}")), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[2001:db8::1]:80",
            "notlocalhost",
            "::1]",
            "music.internal.evil.example",
            "localhost@evil.example",
        ] {
            assert!(!hosts.allows_host(host), "{host}");
            assert!(!hosts.allows_origin(&format!("http://{host}")), "{host}");
        }
        assert!(hosts.allows_origin("https://app.example") && !hosts.allows_origin("null"));
        assert!(AllowedHosts::all().allows_host("evil.example") && AllowedHosts::all().allows_origin("null"));
    }
}
