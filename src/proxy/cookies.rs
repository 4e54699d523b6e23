//! Cookies of a server that the config lets have some (`cookies`).
//!
//! All servers of a gateway are one host to a browser, and so share a jar with each other and with the gateway. So what
//! a server sets is narrowed to its own path, where browsers show it to no other server; and of what a client sends, the
//! gateway's own cookies stay behind, which a browser sends to every path, and so does the cookie `token`,
//! by which callers may prove who they are. (Cookies that others set for the whole host or its parent domain cannot be
//! distinguished from the server's.)

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::percent_decode;

use crate::identity::presented::TOKEN_COOKIE;

/// Prefix of the names of the gateway's own cookies, behind those that browsers give a meaning (RFC 6265bis §4.1.3).
const OWN: &str = "sg-";

/// `Set-Cookie` as a client may see it: for the paths of `server` and for this host alone. `None` if it is none of the
/// server's to set: the gateway's own, one that is for the whole host by its name, or one without a name, whose value would
/// come back in the place of a name.
pub(super) fn narrowed(cookie: &HeaderValue, server: &str) -> Option<HeaderValue> {
    let mut parts = cookie.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next()?;
    if !may_be_of_a_server(pair) {
        return None;
    }
    let mut narrowed = pair.to_vec();
    for attribute in parts {
        let name = attribute.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"path") && !name.eq_ignore_ascii_case(b"domain") {
            narrowed.push(b';');
            narrowed.extend_from_slice(attribute);
        }
    }
    narrowed.extend_from_slice(b"; Path=/");
    narrowed.extend_from_slice(server.as_bytes());
    HeaderValue::try_from(narrowed).ok()
}

/// The cookies of a request that go on, as one line: HTTP/2 clients may send one field for each (RFC 9113 §8.2.3).
/// `None` if there are none.
pub(super) fn joined<'a>(
    fields: impl IntoIterator<Item = &'a HeaderValue>,
    passes: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let cookies = fields.into_iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    for cookie in cookies.map(<[u8]>::trim_ascii).filter(|cookie| !cookie.is_empty()) {
        if may_be_of_a_server(cookie) && passes(cookie) {
            if !line.is_empty() {
                line.extend_from_slice(b"; ");
            }
            line.extend_from_slice(cookie);
        }
    }
    (!line.is_empty()).then_some(line)
}

/// Whether this may have been set by a server, or by anybody but the gateway. Without a name, or with one that some
/// server trims or takes out of quotes, it may be read as another cookie.
fn may_be_of_a_server(pair: &[u8]) -> bool {
    let Some(at) = pair.iter().position(|byte| *byte == b'=') else { return false };
    let Some(name) = plain(pair[..at].trim_ascii()) else { return false };
    let name = &*name;
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"') {
        return false;
    }
    // PHP reads `name[x]` as an element of `name`.
    let name = name.split(|byte| *byte == b'[').next().unwrap_or_default();
    let starts = |name: &[u8], prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    // A browser would present what a server has set as the caller's own token.
    if name.eq_ignore_ascii_case(TOKEN_COOKIE.as_bytes()) {
        return false;
    }
    // Browsers demand `Path=/` of these, so they are none of a server's.
    let is_of_the_host = starts(name, "__host-");
    let bare = ["__secure-", "__http-"].into_iter().find(|prefix| starts(name, prefix));
    !is_of_the_host && !starts(&name[bare.map_or(0, str::len)..], OWN)
}

/// `name` without the escapes that some servers take off it (CVE-2020-7070 in PHP, CVE-2020-8184 in Rack). `None` if there are too
/// many layers of them.
fn plain(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    const MOST_LAYERS: usize = 4;
    let mut name = Cow::Borrowed(name);
    for _ in 0..MOST_LAYERS {
        if !name.contains(&b'%') {
            return Some(name);
        }
        let bare: Vec<u8> = percent_decode(&name).collect();
        if bare == *name {
            return Some(name);
        }
        name = bare.into();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookie: &str) -> Option<String> {
        let narrowed = narrowed(&HeaderValue::from_str(cookie).unwrap(), "db");
        narrowed.map(|narrowed| narrowed.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_is_narrowed_whatever_it_says_of_its_reach() {
        for (cookie, wanted) in [
            ("a=1", Some("a=1; Path=/db")),
            ("a=1; path=/x;Path = /; PATH; pathx=1", Some("a=1; pathx=1; Path=/db")),
            (" a =1;\tDomain\t=x; Secure", Some(" a =1; Secure; Path=/db")),
            ("a=; HttpOnly", Some("a=; HttpOnly; Path=/db")),
            ("__Secure-a=1; Secure", Some("__Secure-a=1; Secure; Path=/db")),
            ("xsg-a=1", Some("xsg-a=1; Path=/db")),
            ("token=1", None),
            ("%74oken=1", None),
            ("to%256Ben=1; Path=/db", None),
            ("token[a]=1", None),
            ("%73g-a=1", None),
            ("__%48ost-a=1", None),
            ("a%22=1", None),
            ("%2525252574oken=1", None),
            ("a%20b%zz=1", None),
            ("a%2Db=1", Some("a%2Db=1; Path=/db")),
            (" Token =1; Path=/db", None),
            ("__HOST-a=1", None),
            ("__Host-Http-a=1", None),
            ("__secure-SG-a=1", None),
            ("__Http-sg-a=1", None),
            (" sg-a=1", None),
            ("a", None),
            ("=a=1", None),
            ("; Path=/", None),
        ] {
            assert_eq!(set(cookie).as_deref(), wanted, "{cookie}");
        }
    }

    #[test]
    fn cookies_of_a_request_are_one_line_without_those_of_the_gate() {
        let line = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|field| HeaderValue::from_str(field).unwrap()).collect();
            joined(&fields, |cookie| cookie != b"t=secret").map(|line| String::from_utf8(line).unwrap())
        };
        assert_eq!(line(&["a=1", "b=2; c=3", ";;d=; e"]).as_deref(), Some("a=1; b=2; c=3; d="));
        // Without a name, the value may be read as one.
        for nameless in ["5", "=5", " = 5", "=sg-x=1", "sg-x", "=", "==a", "\"sg-x=1\"", "\u{a0}sg-x=1"] {
            assert_eq!(line(&[nameless]), None, "{nameless}");
            assert_eq!(line(&["a=1", nameless]).as_deref(), Some("a=1"), "{nameless}");
        }
        assert_eq!(line(&["sg-x=1; a=1; __Host-y=2", "t=secret"]).as_deref(), Some("a=1"));
        assert_eq!(line(&["token=1", "a=1; TOKEN =2;tokens=3; b"]).as_deref(), Some("a=1; tokens=3"));
        assert_eq!(line(&["sg-x=1", "; ", "sg-admin"]), None);
        assert_eq!(line(&[]), None);
    }
}
