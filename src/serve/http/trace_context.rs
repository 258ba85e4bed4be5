//! W3C trace context: the trace that a request belongs to, from its `traceparent`.

use axum::http::HeaderMap;
use opentelemetry::propagation::Extractor;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Returns the trace id for logs; empty if the client sent none, or a malformed one.
pub fn trace_id(headers: &HeaderMap) -> &str {
    let parent = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = parent.split('-');
    let (version, trace, span) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_valid = version.is_some_and(|version| is_hex(version, 2) && version != "ff")
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && [trace, span].iter().all(|id| id.bytes().any(|byte| byte != b'0'));
    if is_valid { trace } else { "" }
}

/// Makes a span the child of the client's, if traces are exported.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    // Without an exporter there is nothing to be a child of.
    let _ = span.set_parent(parent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_known_by_its_id_and_a_malformed_one_is_none() {
        let id = |value: &str| {
            let headers =
                HeaderMap::from_iter([("traceparent".parse().expect("a name"), value.parse().expect("a value"))]);
            trace_id(&headers).to_owned()
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id(&format!("00-{trace}-00f067aa0ba902b7-01")), trace);
        assert_eq!(id(&format!("01-{trace}-00f067aa0ba902b7-01-later")), trace);
        for wrong in [
            "",
            "00",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{trace}-0000000000000000-01"),
        ] {
            assert_eq!(id(wrong), "", "{wrong}");
        }
    }
}
