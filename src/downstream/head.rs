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
const PROTECTED: [&str; 11] = [
    "host",
    "authorization",
    "x-api-key",
    "cookie",
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
        // Over HTTP/2, either may be missing: what was HTTP/1.1 before has `Host` alone.
        (_, Some(host)) | (Some(host), None) => host,
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

    /// What a request with this method, target, version and these fields is answered with, or the host that it means.
    fn checked(
        (method, target, version): (&str, &str, Version),
        fields: &[(&str, &str)],
        fault: Option<Fault>,
    ) -> Result<String, (ErrorKind, String)> {
        let mut request = http::Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"proxy": {"limits": {"maxUriBytes": 256}}, "mcpServers": {}}"#).unwrap();
        let loaded = crate::config::load(file.path(), &|_| None);
        let limits = loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.problems)).limits;
        let found = super::fields(&head.headers);
        let checked = check(&head, &found, &limits, fault).map(|checked| checked.host.to_owned());
        checked.map_err(|error| (error.kind, error.cause.unwrap_or_default().into_owned()))
    }

    fn refused(fields: &[(&str, &str)]) -> (ErrorKind, String) {
        checked(("POST", "/db", Version::HTTP_11), fields, None).unwrap_err()
    }

    #[test]
    fn a_head_is_refused_for_what_its_line_says() {
        let host = [("host", "gate")];
        let line = |method, target: &str| {
            checked((method, target, Version::HTTP_11), &host, None).map_err(|(kind, _)| kind)
        };
        let of_length = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert_eq!(line("POST", &of_length(256)).as_deref(), Ok("gate"));
        assert_eq!(line("POST", &of_length(257)), Err(ErrorKind::UriTooLong));
        assert_eq!(line("POST", &format!("/?{}", "a".repeat(255))), Err(ErrorKind::UriTooLong));
        assert_eq!(line("POST", "/db/../x"), Err(ErrorKind::Path));
        assert_eq!(line("TRACE", "/db"), Err(ErrorKind::MethodNotAllowed));
        assert_eq!(line("CONNECT", "/db"), Err(ErrorKind::MethodNotAllowed));
        assert_eq!(line("Post", "/db"), Err(ErrorKind::Malformed));
        assert_eq!(line("PURGE", "/db").as_deref(), Ok("gate"));
        for (fault, kind) in [
            (Fault::BareLf, ErrorKind::Malformed),
            (Fault::Unknown, ErrorKind::Malformed),
            (Fault::Fragment, ErrorKind::Path),
        ] {
            let refused = checked(("GET", "/db", Version::HTTP_11), &host, Some(fault)).unwrap_err();
            assert_eq!(refused.0, kind, "{fault:?}");
        }
    }

    #[test]
    fn a_head_has_so_many_fields_and_no_more() {
        let with = |count| {
            let fields = [&[("host", "gate")][..], &vec![("x", "y"); count - 1]].concat();
            checked(("GET", "/db", Version::HTTP_11), &fields, None)
        };
        assert_eq!(with(MAX_FIELDS).as_deref(), Ok("gate"));
        assert_eq!(with(MAX_FIELDS + 1).unwrap_err().0, ErrorKind::HeadTooLarge);
    }

    #[test]
    fn fields_that_two_parsers_could_read_differently_are_refused() {
        let host = ("host", "gate");
        for (fields, cause) in [
            (&[host, host][..], "Host is given twice"),
            (&[host, ("content-length", "1"), ("content-length", "1")], "Content-Length is given twice"),
            (&[host, ("transfer-encoding", "gzip, chunked")], "Transfer-Encoding is not chunked alone"),
            (
                &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                "Transfer-Encoding is not chunked alone",
            ),
            (&[host, ("connection", "Host")], "Connection names a field that is not hop-by-hop"),
            (
                &[host, ("connection", "close, mcp-session-id")],
                "Connection names a field that is not hop-by-hop",
            ),
            (&[host, ("connection", "X-Forwarded-For")], "Connection names a field that is not hop-by-hop"),
        ] {
            assert_eq!(refused(fields), (ErrorKind::Malformed, cause.to_owned()), "{fields:?}");
        }
        assert_eq!(refused(&[host, ("expect", "a miracle")]).0, ErrorKind::Expectation);
        for fields in [
            &[host, ("content-length", "1")][..],
            &[host, ("transfer-encoding", "Chunked")],
            &[host, ("connection", "close, te, x-forwarded")],
            &[host, ("expect", "100-Continue")],
        ] {
            assert_eq!(checked(("POST", "/db", Version::HTTP_11), fields, None).as_deref(), Ok("gate"));
        }
    }

    #[test]
    fn one_walk_finds_what_counts() {
        let find = |fields: &[(&str, &str)], look: &dyn Fn(RequestFields<'_>)| {
            let fields = fields.iter().map(|(name, value)| {
                (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            });
            let mut headers = HeaderMap::new();
            fields.for_each(|(name, value)| {
                headers.append(name, value);
            });
            look(super::fields(&headers));
        };
        find(&[], &|found| {
            assert!(found.authorization.once().is_none() && found.origin.once().is_none());
            assert!(found.session.is_none() && found.rpc_method.is_none() && found.rpc_name.is_none());
            assert!(!found.takes_both && !found.has_connection && !found.closes);
            assert!(!found.awaits_leave && !found.is_for_page && !found.expects_more);
        });
        find(
            &[
                ("authorization", "Bearer x"),
                ("origin", "http://app"),
                ("traceparent", "00-1"),
                ("mcp-session-id", "first"),
                ("mcp-session-id", "second"),
                ("mcp-method", "tools/call"),
                ("mcp-name", "query"),
                ("connection", "keep-alive"),
                ("sec-fetch-dest", "empty"),
                ("accept", "text/html"),
            ],
            &|found| {
                assert_eq!(found.authorization.once().unwrap(), "Bearer x");
                assert_eq!(found.origin.once().unwrap(), "http://app");
                assert_eq!(found.traceparent.once().unwrap(), "00-1");
                assert_eq!(found.session.unwrap(), "first");
                assert_eq!(found.rpc_method.unwrap(), "tools/call");
                assert_eq!(found.rpc_name.unwrap(), "query");
                assert!(found.has_connection && !found.closes && !found.is_for_page && !found.takes_both);
            },
        );
        // Each of these holds if one of several fields says so.
        find(
            &[
                ("accept", "application/json, text/event-stream"),
                ("accept", "text/html"),
                ("connection", "Close"),
                ("connection", "te"),
                ("sec-fetch-dest", "iframe"),
                ("sec-fetch-dest", "empty"),
                ("expect", "other"),
                ("expect", "100-continue"),
            ],
            &|found| {
                assert!(found.takes_both && found.closes && found.is_for_page);
                assert!(found.awaits_leave && found.expects_more);
            },
        );
    }

    #[test]
    fn a_request_means_one_host() {
        let meant = |target, version, host: Option<&str>| {
            let fields: Vec<_> = host.iter().map(|host| ("host", *host)).collect();
            checked(("GET", target, version), &fields, None)
        };
        for (target, version, host, wanted) in [
            ("/", Version::HTTP_11, Some("gate:8443"), "gate:8443"),
            ("http://gate/", Version::HTTP_11, Some("Gate"), "gate"),
            ("http://gate/", Version::HTTP_11, None, "gate"),
            ("https://gate/", Version::HTTP_2, None, "gate"),
            ("https://gate/", Version::HTTP_2, Some("gate"), "gate"),
            ("/", Version::HTTP_2, Some("gate"), "gate"),
            ("/", Version::HTTP_10, None, ""),
            ("/", Version::HTTP_10, Some("gate"), "gate"),
        ] {
            assert_eq!(meant(target, version, host).as_deref(), Ok(wanted), "{target} {version:?} {host:?}");
        }
        for (target, version, host, cause) in [
            ("http://gate/", Version::HTTP_11, Some("other"), "Host and the request target disagree"),
            ("/", Version::HTTP_11, None, "Host is missing"),
            ("/", Version::HTTP_2, None, "Host is missing"),
            ("/", Version::HTTP_2, Some("a,b"), "Host is not a host"),
            ("https://gate/", Version::HTTP_2, Some("other"), "Host and the request target disagree"),
            ("/", Version::HTTP_11, Some(""), "Host is not a host"),
            ("/", Version::HTTP_11, Some("a,b"), "Host is not a host"),
            ("/", Version::HTTP_11, Some("user@gate"), "Host is not a host"),
        ] {
            let refused = meant(target, version, host).unwrap_err();
            assert_eq!(refused, (ErrorKind::Malformed, cause.to_owned()), "{target} {version:?} {host:?}");
        }
    }

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
