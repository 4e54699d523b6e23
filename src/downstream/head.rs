//! What hyper lets through and a gateway must not: heads that another parser could read differently.

use http::{HeaderMap, HeaderValue, Method, Version, header, request::Parts};

use crate::{
    config::Limits,
    downstream::{
        connection::{Fault, MAX_FIELDS},
        path::is_canonical,
    },
    error::{Error, ErrorKind},
    mcp::{
        accept::is_both,
        era::{names_listen, names_modern},
        header::Occurrence,
    },
};

/// Header fields that a client may not declare hop-by-hop: removing them would change what the gateway or the server
/// decides on.
const PROTECTED: [&str; 9] = [
    "host",
    "authorization",
    "content-length",
    "content-type",
    "origin",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
];

/// What one walk over the fields of a request found: each look-up by name would cost about as much.
#[derive(Default)]
pub struct RequestFields<'a> {
    /// `Authorization`
    pub authorization: Occurrence<'a>,
    /// `Origin`
    pub origin: Occurrence<'a>,
    /// `Host`
    host: Occurrence<'a>,
    /// `Mcp-Session-Id`
    pub session: Option<&'a HeaderValue>,
    /// `Mcp-Method`
    pub rpc_method: Option<&'a HeaderValue>,
    /// `Mcp-Name`
    pub rpc_name: Option<&'a HeaderValue>,
    /// `traceparent`, which counts if there is no other.
    pub traceparent: Occurrence<'a>,
    /// Whether `MCP-Protocol-Version` says 2026-07-28.
    pub is_modern: bool,
    /// Whether `Mcp-Method` says `subscriptions/listen`.
    pub listens: bool,
    /// Whether `Accept` takes JSON and events, in the usual words.
    pub takes_both: bool,
    /// Whether there is a `Connection`.
    pub has_connection: bool,
    /// Whether that says `close`.
    pub closes: bool,
    /// Whether there is an `Expect`: its sender waits for leave to send the body.
    pub awaits_leave: bool,
    /// Whether a browser will make a page, a frame or a script of the answer. Calls of pages have the destination `empty`
    /// (Fetch Metadata §2.1).
    pub is_for_page: bool,
    /// It expects what there is not.
    expects_more: bool,
    /// What two parsers could read differently.
    fault: Option<&'static str>,
}

/// A request head that every parser reads alike.
pub struct Checked<'a> {
    /// The whole of it.
    pub parts: &'a Parts,
    /// The host (and port) that the client means.
    pub host: &'a str,
    /// Its fields.
    pub fields: &'a RequestFields<'a>,
}

/// Checks a request head. `fault` is what its connection found.
pub fn check<'a>(
    head: &'a Parts,
    fields: &'a RequestFields<'a>,
    limits: &Limits,
    fault: Option<Fault>,
) -> Result<Checked<'a>, Error> {
    match fault {
        Some(Fault::BareLf) => {
            return Err(ErrorKind::Malformed.with_cause("a line of the head ends with a LF alone"));
        }
        Some(Fault::Unknown) => {
            return Err(
                ErrorKind::Malformed.with_cause("where the body before the request ends is not certain")
            );
        }
        Some(Fault::Fragment) | None => {}
    }
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.max_uri_bytes {
        return Err(ErrorKind::UriTooLong.into());
    }
    if fault.is_some() || !is_canonical(head.uri.path()) {
        return Err(ErrorKind::Path.into());
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(ErrorKind::MethodNotAllowed.into());
    }
    if head.method.as_str().bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(ErrorKind::Malformed.with_cause("the method is not in upper case"));
    }
    if head.headers.len() > MAX_FIELDS {
        return Err(ErrorKind::HeadTooLarge.into());
    }
    if let Some(fault) = fields.fault {
        return Err(ErrorKind::Malformed.with_cause(fault));
    }
    if fields.expects_more {
        return Err(ErrorKind::Expectation.into());
    }
    Ok(Checked { parts: head, host: authority(head, fields.host.once())?, fields })
}

/// Walks over the fields of a request. hyper refuses most of what is ambiguous; what remains is a coding before `chunked`,
/// and equal fields given twice.
pub fn fields(headers: &HeaderMap) -> RequestFields<'_> {
    let mut found = RequestFields::default();
    let (mut length, mut coding) = (Occurrence::Not, Occurrence::Not);
    for (name, value) in headers {
        match *name {
            header::HOST => found.host = found.host.and(value),
            header::AUTHORIZATION => found.authorization = found.authorization.and(value),
            header::ORIGIN => found.origin = found.origin.and(value),
            header::ACCEPT => found.takes_both |= is_both(value),
            header::CONTENT_LENGTH => length = length.and(value),
            header::TRANSFER_ENCODING => coding = coding.and(value),
            header::CONNECTION => {
                found.has_connection = true;
                found.closes |= options(value).any(|option| option.eq_ignore_ascii_case(b"close"));
                if options(value).any(is_protected) {
                    found.fault = Some("Connection names a field that is not hop-by-hop");
                }
            }
            header::EXPECT => {
                found.awaits_leave = true;
                found.expects_more |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            // By the first letter, so that most names meet no comparison.
            _ => match name.as_str().as_bytes() {
                [b'm', b'c', b'p', b'-', rest @ ..] => match rest {
                    b"session-id" => found.session = found.session.or(Some(value)),
                    b"protocol-version" => found.is_modern |= names_modern(value),
                    b"method" => {
                        found.listens |= names_listen(value);
                        found.rpc_method = Some(value);
                    }
                    b"name" => found.rpc_name = Some(value),
                    _ => {}
                },
                b"traceparent" => found.traceparent = found.traceparent.and(value),
                b"sec-fetch-dest" => found.is_for_page |= value != "empty",
                _ => {}
            },
        }
    }
    if matches!(found.host, Occurrence::Often) {
        found.fault = Some("Host is given twice");
    }
    if matches!(length, Occurrence::Often) {
        found.fault = Some("Content-Length is given twice");
    }
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !matches!(coding, Occurrence::Not) && !coding.once().is_some_and(is_chunked) {
        found.fault = Some("Transfer-Encoding is not chunked alone");
    }
    found
}

/// The names in a `Connection`.
fn options(connection: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    connection.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

fn is_protected(name: &[u8]) -> bool {
    PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected.as_bytes()))
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}

/// The one host of a request: `Host`, `:authority`, or the authority of an absolute target, which must agree (RFC 9112
/// §3.2, RFC 9113 §8.3.1). Empty where HTTP/1.0 says none.
fn authority<'a>(head: &'a Parts, field: Option<&'a HeaderValue>) -> Result<&'a str, Error> {
    let malformed = |cause: &'static str| ErrorKind::Malformed.with_cause(cause);
    let field = match field {
        Some(host) => Some(host.to_str().map_err(|_| malformed("Host is not ASCII"))?),
        None => None,
    };
    let target = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (field, target) {
        (Some(field), Some(target)) if !field.eq_ignore_ascii_case(target) => {
            return Err(malformed("Host and the request target disagree"));
        }
        (_, Some(host)) => host,
        (Some(host), None) if head.version != Version::HTTP_2 => host,
        // HTTP/1.0 knows no Host, and health checks of balancers speak it.
        (None, None) if head.version == Version::HTTP_10 => return Ok(""),
        _ => return Err(malformed("Host is missing")),
    };
    if host.is_empty() || host.bytes().any(|b| matches!(b, b'@' | b'/' | b'?' | b'#' | b'\\' | b',' | b' ')) {
        return Err(malformed("Host is not a host"));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::era::{is_modern, listens};

    #[test]
    fn a_head_says_the_same_to_the_proxy_and_to_the_bridge() {
        let (version, method) = ("mcp-protocol-version", "mcp-method");
        for (fields, modern, listening) in [
            (&[][..], false, false),
            (&[(version, "2026-07-28"), (method, "subscriptions/listen")], true, true),
            (&[(version, " 2026-07-28\t"), (method, "\tsubscriptions/listen ")], true, true),
            (&[(version, "2026-07-28"), (version, "2025-11-25")], true, false),
            (&[(version, "2025-11-25"), (version, "2026-07-28")], true, false),
            (&[(method, "subscriptions/listen"), (method, "tools/call")], false, true),
            (&[(method, "tools/call"), (method, "subscriptions/listen")], false, true),
            (&[(version, "2026-07-28, 2026-07-28"), (method, "Subscriptions/listen")], false, false),
        ] {
            let headers = fields.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(*name, HeaderValue::from_static(value));
                headers
            });
            let found = super::fields(&headers);
            assert_eq!((found.is_modern, found.listens), (modern, listening), "the proxy: {fields:?}");
            assert_eq!(
                (is_modern(&headers, None), listens(&headers)),
                (modern, listening),
                "the bridge: {fields:?}"
            );
        }
    }
}
