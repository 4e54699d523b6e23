//! Which host names and browser origins a request may carry.
//!
//! The gateway rewrites `Host` and drops `Origin` towards servers, which disables their own defence against DNS rebinding;
//! so it has to be the defence (MCP 2025-11-25, transports, security warning).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::HostPattern;

/// The loopback names, as a browser or client writes them.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whether `authority` (`host` or `host:port`, as in the `Host` field) is one of `allowed`.
pub fn host_is_allowed(allowed: &[HostPattern], authority: &str) -> bool {
    let Some((host, port)) = split_port(authority) else { return false };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = inner.unwrap_or_else(|| host.strip_suffix('.').unwrap_or(host));
    allowed.iter().any(|pattern| {
        // In the same case nearly always, which costs less to see.
        (pattern.host == host || pattern.host == "*" || pattern.host.eq_ignore_ascii_case(host))
            && pattern.port.is_none_or(|wanted| port.is_some_and(|port| number(port) == u32::from(wanted)))
    })
}

/// Whether `origin` (RFC 6454 §7: `scheme://host[:port]`) is listed or, with `loopback`, on this machine.
pub fn origin_is_allowed(allowed: &[String], loopback: bool, origin: &str) -> bool {
    let listed = allowed.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin));
    listed || (loopback && is_loopback(origin))
}

fn is_loopback(origin: &str) -> bool {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(host_is_loopback)
}

/// Whether `authority` is a loopback name: what the admin listener answers to.
pub fn host_is_loopback(authority: &str) -> bool {
    split_port(authority).is_some_and(|(host, _)| LOOPBACK.iter().any(|name| name.eq_ignore_ascii_case(host)))
}

/// Whether `authority` is an IP address. A page cannot make its own name of one, so there is nothing to rebind.
pub fn host_is_address(authority: &str) -> bool {
    split_port(authority).is_some_and(|(host, _)| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match inner {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => host.parse::<Ipv4Addr>().is_ok(),
        }
    })
}

/// Whether `origin` is that of the plain HTTP listener which was called by `authority`.
pub fn origin_is_of(authority: &str, origin: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// The value of at most five digits.
fn number(port: &str) -> u32 {
    port.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

/// `host` and `port` of an authority without user info; `None` if it is not one.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let end_of_host = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        memchr::memchr(b':', authority.as_bytes()).unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end_of_host);
    let port = match rest.strip_prefix(':') {
        Some(port) if !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port)
        }
        None if rest.is_empty() => None,
        _ => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(host: &str, port: Option<u16>) -> HostPattern {
        HostPattern { host: host.into(), port }
    }

    #[test]
    fn a_host_is_matched_whole_and_a_port_only_where_the_rule_names_one() {
        let allowed =
            [pattern("mcp.example.com", None), pattern("::1", None), pattern("internal", Some(8443))];
        for good in
            ["mcp.example.com", "MCP.example.com:8443", "mcp.example.com.", "[::1]:80", "internal:8443"]
        {
            assert!(host_is_allowed(&allowed, good), "{good}");
        }
        for bad in [
            "evil.mcp.example.com",
            "mcp.example.com.evil",
            "internal",
            "internal:1",
            "mcp.example.com:",
            "mcp.example.com:x",
            "[::1",
            "",
            ":80",
            "mcp.example.com:443:443",
            "[::1]x",
            "[::1]80",
        ] {
            assert!(!host_is_allowed(&allowed, bad), "{bad}");
        }
        for any in ["mcp.example.com", "other.example:8443"] {
            assert!(host_is_allowed(&[pattern("*", None)], any), "{any}");
        }
    }

    #[test]
    fn an_address_is_no_name() {
        for address in ["10.1.2.3", "10.1.2.3:9090", "[fd00::1]:9090", "[::]"] {
            assert!(host_is_address(address), "{address}");
        }
        for name in
            ["gate", "1.2.3.4.evil.example", "10.1.2", "0x7f.1", "[1.2.3.4]", "::1", "[::1", "", ":9090"]
        {
            assert!(!host_is_address(name), "{name}");
        }
    }

    #[test]
    fn a_page_is_a_listener_s_own_if_it_came_from_there() {
        assert!(origin_is_of("localhost:9090", "http://localhost:9090"));
        assert!(origin_is_of("LOCALHOST", "http://localhost"));
        for foreign in [
            "http://localhost",
            "http://localhost:5173",
            "https://localhost:9090",
            "http://127.0.0.1:9090",
            "http://localhost:9090.evil.example",
            "http://localhost:9090/",
            "null",
            "*",
            "",
        ] {
            assert!(!origin_is_of("localhost:9090", foreign), "{foreign}");
        }
    }

    #[test]
    fn loopback_origins_count_only_where_the_gate_listens_there_alone() {
        for own in ["http://localhost:5173", "https://127.0.0.1:8443", "http://[::1]"] {
            assert!(origin_is_allowed(&[], true, own), "{own}");
            assert!(!origin_is_allowed(&[], false, own), "{own}");
        }
        for foreign in [
            "http://localhost.evil.example",
            "http://evil.example",
            "null",
            "file://localhost",
            "http://localhost:80@evil.example",
        ] {
            assert!(!origin_is_allowed(&[], true, foreign), "{foreign}");
        }
        assert!(origin_is_allowed(&["https://app.example.com".into()], false, "https://app.example.com"));
        assert!(!origin_is_allowed(
            &["https://app.example.com".into()],
            false,
            "https://app.example.com.evil"
        ));
        assert!(origin_is_allowed(&["*".into()], false, "https://any.example"));
    }
}
