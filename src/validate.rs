//! What hyper lets through and a gate must not: heads that another parser could read differently.

use std::borrow::Cow;

use http::{HeaderMap, Method, Version, header, request::Parts};

use crate::{
    config::Limits,
    error::{Error, Kind},
    route,
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

/// Checks a request head. `fragment` says that its request line had one. Returns the host (and port) that
/// the client means.
pub fn head<'a>(head: &'a Parts, limits: &Limits, fragment: bool) -> Result<&'a str, Error> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.max_uri_bytes {
        return Err(Kind::UriTooLong.into());
    }
    if fragment || !route::is_canonical(head.uri.path()) {
        return Err(Kind::Path.into());
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Kind::MethodNotAllowed.into());
    }
    if head.method.as_str().bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Kind::Malformed.because("the method is not in upper case"));
    }
    framing(&head.headers)?;
    protected_fields(&head.headers)?;
    if let Some(value) = head.headers.get(header::EXPECT)
        && !value.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Kind::Expectation.into());
    }
    authority(head)
}

/// hyper refuses most of what is ambiguous; what remains is a coding before `chunked`, and equal fields given twice.
fn framing(headers: &HeaderMap) -> Result<(), Error> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Kind::Malformed.because("Transfer-Encoding is not chunked alone"));
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Kind::Malformed.because("Content-Length is given twice"));
    }
    Ok(())
}

fn protected_fields(headers: &HeaderMap) -> Result<(), Error> {
    let named =
        headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    for name in named.map(<[u8]>::trim_ascii) {
        let protected = PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected.as_bytes()));
        if protected || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-")) {
            return Err(Kind::Malformed.because("Connection names a field that is not hop-by-hop"));
        }
    }
    Ok(())
}

/// The one host of a request: `Host`, `:authority`, or the authority of an absolute target, which must agree (RFC 9112
/// §3.2, RFC 9113 §8.3.1).
fn authority(head: &Parts) -> Result<&str, Error> {
    let malformed = |cause: &'static str| Kind::Malformed.because(Cow::Borrowed(cause));
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let field = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().map_err(|_| malformed("Host is not ASCII"))?),
        (Some(_), Some(_)) => return Err(malformed("Host is given twice")),
    };
    let target = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (field, target) {
        (Some(field), Some(target)) if !field.eq_ignore_ascii_case(target) => {
            return Err(malformed("Host and the request target disagree"));
        }
        (_, Some(host)) => host,
        (Some(host), None) if head.version != Version::HTTP_2 => host,
        _ => return Err(malformed("Host is missing")),
    };
    if host.is_empty() || host.bytes().any(|b| matches!(b, b'@' | b'/' | b'?' | b'#' | b'\\' | b',' | b' ')) {
        return Err(malformed("Host is not a host"));
    }
    Ok(host)
}
