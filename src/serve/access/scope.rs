//! The scope that a request requires.

use axum::http::Method;

use crate::catalog::Scope;

/// Returns the scope that a route requires; `None` if it needs no key.
pub fn required_scope(method: &Method, route: &str) -> Option<Scope> {
    match (method, route) {
        _ if route.starts_with("/health/") => None,
        (&Method::GET | &Method::HEAD, _) => Some(Scope::Read),
        (_, "/playlists/{id}/complete" | "/playlists/complete" | "/scores") => Some(Scope::Read),
        _ if route.starts_with("/models") => Some(Scope::Admin),
        _ => Some(Scope::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_route_requires_follows_from_what_it_does() {
        let cases = [
            (Method::GET, "/health/ready", None),
            (Method::GET, "/tracks/{id}", Some(Scope::Read)),
            (Method::POST, "/playlists/{id}/complete", Some(Scope::Read)),
            (Method::POST, "/playlists", Some(Scope::Write)),
            (Method::DELETE, "/tracks/{id}", Some(Scope::Write)),
            (Method::POST, "/ratings", Some(Scope::Write)),
            (Method::GET, "/models", Some(Scope::Read)),
            (Method::POST, "/models/{kind}/activate", Some(Scope::Admin)),
        ];
        for (method, route, scope) in cases {
            assert_eq!(required_scope(&method, route), scope, "{method} {route}");
        }
    }
}
