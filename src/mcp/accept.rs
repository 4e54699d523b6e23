//! What a client would be answered with.

use http::{HeaderMap, HeaderValue, header};

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What clients say that do as the specification asks, in these very words as a rule.
const BOTH: &str = "application/json, text/event-stream";

/// Whether a value of `Accept` takes JSON and events, in the usual words.
pub fn is_both(accept: &HeaderValue) -> bool {
    accept == BOTH
}

/// Whether an event stream may answer the request.
pub fn takes_events(headers: &HeaderMap) -> bool {
    ranges(headers)
        .any(|range| [EVENTS, "text/*", "*/*"].iter().any(|taken| range.eq_ignore_ascii_case(taken)))
}

/// Whether nothing but JSON may answer the request. Who says nothing takes anything.
pub fn takes_only_json(headers: &HeaderMap) -> bool {
    let is_json = |range: &str| [JSON, "application/*"].iter().any(|taken| range.eq_ignore_ascii_case(taken));
    !takes_events(headers) && ranges(headers).any(is_json)
}

/// Whether the client names event streams, as those of MCP do with every GET.
pub fn names_events(headers: &HeaderMap) -> bool {
    ranges(headers).any(|range| range.eq_ignore_ascii_case(EVENTS))
}

/// Whether an event stream is what the client would rather have: it names it before JSON, as clients do that are after
/// streams. MCP asks for both, in no order, so either would do.
pub fn prefers_events(headers: &HeaderMap) -> bool {
    let is = |range: &str, what: &str| range.eq_ignore_ascii_case(what);
    ranges(headers).find(|range| is(range, EVENTS) || is(range, JSON)).is_some_and(|range| is(range, EVENTS))
}

/// The media ranges of all `Accept` fields, in their order, without parameters.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_what_a_client_accepts_is_its_preference() {
        for (accept, takes, prefers, only_json) in [
            ("application/json, text/event-stream", true, false, false),
            ("text/event-stream, application/json", true, true, false),
            ("Text/Event-Stream;q=1", true, true, false),
            ("application/json", false, false, true),
            ("text/html, Application/*;q=0.5", false, false, true),
            ("*/*", true, false, false),
            ("application/json, */*", true, false, false),
            ("", false, false, false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!((takes_events(&headers), prefers_events(&headers)), (takes, prefers), "{accept}");
            assert_eq!(takes_only_json(&headers), only_json, "{accept}");
            let names = accept.to_ascii_lowercase().contains("text/event-stream");
            assert_eq!(names_events(&headers), names, "{accept}");
            // The very words only: whoever says it otherwise is read by the rules above.
            assert_eq!(is_both(&headers[header::ACCEPT]), accept == "application/json, text/event-stream");
        }
    }
}
