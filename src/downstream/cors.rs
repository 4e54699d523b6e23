//! Cross-origin calls from browsers (WHATWG Fetch §3.2). Outermost, so that a preflight needs no token and a refusal
//! can be read by the page that caused it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};

/// Fields that MCP clients send.
const REQUEST_FIELDS: &str = "Authorization, Content-Type, Accept, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID, Mcp-Method, Mcp-Name, traceparent, tracestate";
/// Fields that a page may read.
const EXPOSED_FIELDS: HeaderValue =
    HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, X-Request-Id");
/// How long a browser may remember a preflight, in seconds; 2 h is the most that Chromium honours.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// What a browser asks to send per tool parameter (MCP 2026-07-28) is open-ended, so it is granted by prefix.
const PARAMETER_FIELDS: &str = "mcp-param-";

/// Most names that a preflight is looked at for, and most bytes of the answer to it. Browsers ask for a handful; over
/// HTTP/2 a stranger could ask for 32 KiB of names in a dozen bytes, each time.
const MOST: (usize, usize) = (128, 4096);

/// Whether a request is a preflight, which asks what a later one may carry.
pub fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The fields of a preflight's answer besides those of [`allow`]. `methods` are those of the path, `own` further fields of the
/// gateway.
pub fn preflight<'a>(
    asked: &HeaderMap,
    methods: &'static str,
    own: impl Iterator<Item = &'a HeaderName>,
    answer: &mut HeaderMap,
) {
    let mut allowed = REQUEST_FIELDS.to_owned();
    for name in own {
        allowed.push_str(", ");
        allowed.push_str(name.as_str());
    }
    let parameters = asked
        .get_all(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(MOST.0)
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| name.as_str().starts_with(PARAMETER_FIELDS));
    for name in parameters {
        if allowed.len() + name.as_str().len() > MOST.1 {
            break;
        }
        allowed.push_str(", ");
        allowed.push_str(name.as_str());
    }
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}

/// Pages of every origin, none of which sends cookies.
pub const ANY: HeaderValue = HeaderValue::from_static("*");

/// Lets a page of `origin`, which was seen to be allowed, read the answer.
pub fn allow(origin: &HeaderValue, answer: &mut HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_FIELDS);
    if *origin == ANY {
        return;
    }
    answer.append(header::VARY, HeaderValue::from_static("Origin"));
}
