//! The head of a request as a server gets it, and of a response as the client gets it.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
    request::Parts,
};

use super::{cookies, fields};
use crate::{
    auth,
    config::HttpTarget,
    mcp::events::{is_event_stream, is_json},
};

/// What the gate says in the client's stead.
pub(super) struct Words<'a> {
    /// Path and query.
    pub(super) target: &'a str,
    /// `Host`
    pub(super) authority: &'a HeaderValue,
    /// The server's own session id.
    pub(super) session: Option<&'a [u8]>,
    /// The token that the caller presented, which goes no further.
    pub(super) token: &'a [u8],
    /// The response is to be read, and so must not come compressed.
    pub(super) wants_identity: bool,
}

/// Writes the request head, up to but without the fields that frame the body.
///
/// Fields pass in their order and byte for byte, but for those that end here, those that the gate sets, and any
/// that holds the token.
pub(super) fn write_request(out: &mut Vec<u8>, head: &Parts, to: &HttpTarget, words: &Words<'_>) {
    let Words { target, authority, session, token, wants_identity } = *words;
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, &header::HOST, authority.as_bytes());
    let has_connection = head.headers.contains_key(header::CONNECTION);
    for (name, value) in &head.headers {
        let replaced = (wants_identity && name == header::ACCEPT_ENCODING)
            || to.headers.iter().any(|(set, _)| fields::is_same(set, name));
        if replaced
            || !fields::goes_to_server(name)
            || (has_connection && is_named_by_connection(&head.headers, name))
            || auth::holds(value.as_bytes(), token)
        {
            continue;
        }
        if *name != SESSION_ID {
            field(out, name, value.as_bytes());
        }
    }
    if to.cookies && !to.headers.iter().any(|(set, _)| *set == header::COOKIE) {
        let passes = |cookie: &[u8]| !auth::holds(cookie, token);
        if let Some(cookies) = cookies::joined(head.headers.get_all(header::COOKIE), passes) {
            field(out, &header::COOKIE, &cookies);
        }
    }
    if wants_identity {
        field(out, &header::ACCEPT_ENCODING, b"identity");
    }
    if let Some(id) = session {
        field(out, &SESSION_ID, id);
    }
    for (name, value) in &to.headers {
        if !(wants_identity && name == header::ACCEPT_ENCODING) {
            field(out, name, value.as_bytes());
        }
    }
}

/// `Mcp-Session-Id`
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|named| named.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Removes from a response what ends at this hop or would speak for the gate. Cookies stay if they may, narrowed to the
/// paths of `cookies_of`.
pub(super) fn clean_response(headers: &mut HeaderMap, cookies_of: Option<&str>) {
    let named = |name: &HeaderName| {
        is_named_by_connection(headers, name)
            && ![SESSION_ID, header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name)
    };
    let has_connection = headers.contains_key(header::CONNECTION);
    // Most responses have none of these, and then nothing is looked up or moved.
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !fields::goes_to_client(name) || (has_connection && named(name)))
        .cloned()
        .collect();
    for name in dropped {
        match (headers.entry(&name), cookies_of) {
            (Entry::Occupied(given), Some(server)) if name == header::SET_COOKIE => {
                let (_, given) = given.remove_entry_mult();
                let narrowed: Vec<_> =
                    given.filter_map(|cookie| cookies::narrowed(&cookie, server)).collect();
                for cookie in narrowed {
                    headers.append(header::SET_COOKIE, cookie);
                }
            }
            (Entry::Occupied(given), _) => drop(given.remove_entry_mult()),
            (Entry::Vacant(_), _) => {}
        }
    }
}

/// Keeps a response that is no MCP from being a page of the gate's origin, where it would run with what the gate's own pages
/// may do.
pub(super) fn isolate(headers: &mut HeaderMap) {
    const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");
    if !is_json(headers) && !is_event_stream(headers) {
        headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}
