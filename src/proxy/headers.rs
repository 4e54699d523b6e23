//! The head of a request as a server gets it, and of a response as the client gets it.

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::fields;
use crate::{auth, config::HttpTarget};

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

/// Removes from a response what ends at this hop or would speak for the gate: cross-origin rules, a challenge that
/// names the server's own authorization metadata, and an invitation to another port.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    let named = |name: &HeaderName| {
        is_named_by_connection(headers, name)
            && ![SESSION_ID, header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name)
    };
    let has_connection = headers.contains_key(header::CONNECTION);
    // Most responses have none of these, and then nothing is looked up or moved.
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| stays_behind(name) || (has_connection && named(name)))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn stays_behind(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::TRAILER
            | header::TE
            | header::UPGRADE
            | header::PROXY_AUTHENTICATE
            | header::WWW_AUTHENTICATE
            | header::ALT_SVC
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || name.as_str().starts_with("access-control-")
}
