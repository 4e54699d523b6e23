//! What hyper lets through and a gate must not: heads that another parser could read differently.

use http::{HeaderMap, HeaderValue, Method, Version, header, request::Parts};

use crate::{
    config::Limits,
    error::{Error, Kind},
    mcp::modern::names_modern,
    route,
    server::connection::{Fault, MAX_FIELDS},
};

/// Header fields that a client may not declare hop-by-hop: removing them would change what the gate or the server
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

/// A request head that every parser reads alike, with what the one walk over its fields found.
pub struct Checked<'a> {
    /// The whole of it.
    pub parts: &'a Parts,
    /// The host (and port) that the client means.
    pub host: &'a str,
    /// `Mcp-Session-Id`
    pub session: Option<&'a HeaderValue>,
    /// `Mcp-Method`
    pub rpc_method: Option<&'a HeaderValue>,
    /// `Mcp-Name`
    pub rpc_name: Option<&'a HeaderValue>,
    /// `traceparent`, if there is one and no more
    pub traceparent: Option<&'a HeaderValue>,
    /// Whether `MCP-Protocol-Version` says 2026-07-28.
    pub is_modern: bool,
    /// Whether there is a `Connection`.
    pub has_connection: bool,
    /// Whether a browser will make a page, a frame or a script of the answer. Calls of pages have the destination `empty`
    /// (Fetch Metadata §2.1).
    pub is_for_page: bool,
}

/// Checks a request head. `fault` is what its connection found.
pub fn head<'a>(head: &'a Parts, limits: &Limits, fault: Option<Fault>) -> Result<Checked<'a>, Error> {
    match fault {
        Some(Fault::BareLf) => {
            return Err(Kind::Malformed.because("a line of the head ends with a LF alone"));
        }
        Some(Fault::Unknown) => {
            return Err(Kind::Malformed.because("where the body before the request ends is not certain"));
        }
        Some(Fault::Fragment) | None => {}
    }
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.max_uri_bytes {
        return Err(Kind::UriTooLong.into());
    }
    if fault.is_some() || !route::is_canonical(head.uri.path()) {
        return Err(Kind::Path.into());
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Kind::MethodNotAllowed.into());
    }
    if head.method.as_str().bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Kind::Malformed.because("the method is not in upper case"));
    }
    let found = fields(&head.headers)?;
    Ok(Checked {
        parts: head,
        host: authority(head, found.host)?,
        session: found.session,
        rpc_method: found.rpc_method,
        rpc_name: found.rpc_name,
        traceparent: found.traceparent.filter(|_| !found.has_two_parents),
        is_modern: found.is_modern,
        has_connection: found.has_connection,
        is_for_page: found.is_for_page,
    })
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    session: Option<&'a HeaderValue>,
    rpc_method: Option<&'a HeaderValue>,
    rpc_name: Option<&'a HeaderValue>,
    traceparent: Option<&'a HeaderValue>,
    has_two_parents: bool,
    is_modern: bool,
    has_connection: bool,
    is_for_page: bool,
}

/// Walks over the fields once: each look-up by name would cost about as much. hyper refuses most of what is ambiguous; what
/// remains is a coding before `chunked`, and equal fields given twice.
fn fields(headers: &HeaderMap) -> Result<Fields<'_>, Error> {
    if headers.len() > MAX_FIELDS {
        return Err(Kind::HeadTooLarge.into());
    }
    let mut found = Fields::default();
    let (mut length, mut coding, mut expects_more) = (None, None, false);
    for (name, value) in headers {
        match *name {
            header::HOST if found.host.replace(value).is_some() => {
                return Err(Kind::Malformed.because("Host is given twice"));
            }
            header::CONTENT_LENGTH if length.replace(value).is_some() => {
                return Err(Kind::Malformed.because("Content-Length is given twice"));
            }
            header::TRANSFER_ENCODING
                if coding.replace(value).is_some() || !value.as_bytes().eq_ignore_ascii_case(b"chunked") =>
            {
                return Err(Kind::Malformed.because("Transfer-Encoding is not chunked alone"));
            }
            header::CONNECTION if names_protected_field(value) => {
                return Err(Kind::Malformed.because("Connection names a field that is not hop-by-hop"));
            }
            header::CONNECTION => found.has_connection = true,
            header::EXPECT => expects_more |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            // By the first letter, so that most names meet no comparison.
            _ => match name.as_str().as_bytes() {
                [b'm', b'c', b'p', b'-', rest @ ..] => match rest {
                    b"session-id" => found.session = found.session.or(Some(value)),
                    b"protocol-version" => found.is_modern |= names_modern(value),
                    b"method" => found.rpc_method = Some(value),
                    b"name" => found.rpc_name = Some(value),
                    _ => {}
                },
                b"traceparent" => found.has_two_parents = found.traceparent.replace(value).is_some(),
                b"sec-fetch-dest" => found.is_for_page |= value != "empty",
                _ => {}
            },
        }
    }
    if expects_more { Err(Kind::Expectation.into()) } else { Ok(found) }
}

fn names_protected_field(connection: &HeaderValue) -> bool {
    connection.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|name| {
        PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected.as_bytes()))
            || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
    })
}

/// The one host of a request: `Host`, `:authority`, or the authority of an absolute target, which must agree (RFC 9112
/// §3.2, RFC 9113 §8.3.1). Empty where HTTP/1.0 says none.
fn authority<'a>(head: &'a Parts, field: Option<&'a HeaderValue>) -> Result<&'a str, Error> {
    let malformed = |cause: &'static str| Kind::Malformed.because(cause);
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
