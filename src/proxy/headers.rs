//! The head of a request as a server gets it, and of a response as the client gets it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{cookies, fields};
use crate::{
    config::HttpTarget,
    downstream::head::Checked,
    identity::presented::Presented,
    mcp::{
        header::{LAST_EVENT_ID, SESSION_ID},
        sse::reader::is_mcp_type,
    },
};

/// What the gateway says in the client's stead.
pub(super) struct HeadInput<'a> {
    /// Path and query.
    pub(super) target: &'a str,
    /// `Host`
    pub(super) authority: &'a HeaderValue,
    /// The server's own session id.
    pub(super) session: Option<&'a [u8]>,
    /// The field by which tenants present theirs, if there are any.
    pub(super) tenant_header: Option<&'a HeaderName>,
    /// What the caller presented, which goes no further.
    pub(super) presented: &'a Presented<'a>,
    /// The response is to be read, and so must not come compressed.
    pub(super) wants_identity: bool,
    /// The events that a stream had before can be none of a stranger's.
    pub(super) passes_last_event_id: bool,
    /// The credential that the server is called with, where it is not the config's.
    pub(super) credential: &'a [(HeaderName, HeaderValue)],
    /// Fields that never pass, since those go in their place.
    pub(super) replaced: &'a [HeaderName],
}

/// Writes the request head, up to but without the fields that frame the body.
///
/// Fields pass in their order and byte for byte, but for those that end here, those that the gateway sets, and any
/// that holds the token.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    checked: &Checked<'_>,
    to: &HttpTarget,
    words: &HeadInput<'_>,
) {
    let head = checked.parts;
    let HeadInput {
        target,
        authority,
        session,
        tenant_header,
        presented,
        wants_identity,
        passes_last_event_id,
        credential,
        replaced,
    } = *words;
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, &header::HOST, authority.as_bytes());
    for (name, value) in &head.headers {
        let is_replaced = (wants_identity && name == header::ACCEPT_ENCODING)
            || to.headers.iter().any(|(set, _)| fields::is_same(set, name))
            || replaced.iter().any(|set| fields::is_same(set, name));
        if is_replaced
            || !(fields::goes_to_server(name) || (passes_last_event_id && *name == LAST_EVENT_ID))
            || (checked.fields.has_connection && is_named_by_connection(&head.headers, name))
            || tenant_header == Some(name)
            || presented.is_in(value.as_bytes())
        {
            continue;
        }
        if *name != SESSION_ID {
            field(out, name, value.as_bytes());
        }
    }
    if to.cookies && !to.headers.iter().any(|(set, _)| *set == header::COOKIE) {
        let passes = |cookie: &[u8]| !presented.is_in(cookie);
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
        if !(replaced.contains(name) || wants_identity && name == header::ACCEPT_ENCODING) {
            field(out, name, value.as_bytes());
        }
    }
    for (name, value) in credential {
        field(out, name, value.as_bytes());
    }
}

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

/// Removes from a response what ends at this hop or would speak for the gateway. Cookies stay if they may, narrowed to
/// the paths of `cookies_of`. A response that is no MCP is kept from being a page of the gateway's origin, where it
/// would run with what the gateway's own pages may do. Says whether the server names a session.
pub(super) fn clean_response(headers: &mut HeaderMap, cookies_of: Option<&str>) -> bool {
    const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");
    // Most responses have nothing to drop, and then nothing is looked up or moved.
    let mut dropped: Vec<HeaderName> = Vec::new();
    let (mut types, mut is_mcp, mut has_connection, mut has_session) = (0, false, false, false);
    for (name, value) in &*headers {
        if *name == header::CONTENT_TYPE {
            types += 1;
            is_mcp |= is_mcp_type(value);
        } else if !fields::goes_to_client(name) {
            has_connection |= *name == header::CONNECTION;
            // The values of one name follow each other.
            if dropped.last() != Some(name) {
                dropped.push(name.clone());
            }
        } else {
            has_session |= *name == SESSION_ID;
        }
    }
    if has_connection {
        let named = |name: &&HeaderName| {
            is_named_by_connection(headers, name)
                && ![SESSION_ID, header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name)
                && fields::goes_to_client(name)
        };
        dropped.extend(headers.keys().filter(named).cloned());
    }
    for name in dropped {
        let cookies: Vec<_> = match cookies_of {
            Some(server) if name == header::SET_COOKIE => {
                let given = headers.get_all(&name).iter();
                given.filter_map(|cookie| cookies::narrowed(cookie, server)).collect()
            }
            _ => Vec::new(),
        };
        headers.remove(&name);
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    if types != 1 || !is_mcp {
        headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    has_session
}
