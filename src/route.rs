//! From a path to what is served there. Paths match exactly; one trailing slash changes nothing.

/// What is served at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// `/health` and `/health/live`: the process answers.
    Live,
    /// `/health/ready`: the gate takes requests.
    Ready,
    /// `/status`: counts.
    Status,
    /// `/metrics`: for Prometheus.
    Metrics,
    /// Below `/.well-known/`, where clients look for things that a challenge would be taken for.
    WellKnown,
    /// A server's endpoint. Whether the server exists is not known yet.
    Server {
        /// First segment.
        name: &'a str,
        /// Which of its endpoints.
        door: Door,
    },
    /// Anything else.
    Unknown,
}

/// The endpoints of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `/{server}` and `/{server}/mcp`: Streamable HTTP.
    Mcp,
    /// `/{server}/sse`: the event stream of HTTP+SSE.
    Sse,
    /// `/{server}/message`: messages of HTTP+SSE.
    Message,
}

/// Finds what is served at `path`, which must be canonical (see [`is_canonical`]).
pub fn place(path: &str) -> Place<'_> {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/health" | "/health/live" => return Place::Live,
        "/health/ready" => return Place::Ready,
        "/status" => return Place::Status,
        "/metrics" => return Place::Metrics,
        _ => {}
    }
    let mut segments = path.split('/').skip(1);
    let (Some(name), rest) = (segments.next(), segments.next()) else { return Place::Unknown };
    if name == ".well-known" {
        return Place::WellKnown;
    }
    let door = match (rest, segments.next()) {
        (None | Some("mcp"), None) => Door::Mcp,
        (Some("sse"), None) => Door::Sse,
        (Some("message"), None) => Door::Message,
        _ => return Place::Unknown,
    };
    Place::Server { name, door }
}

/// Whether two parsers agree on where `path` leads: no empty or dot segments, nothing encoded that would make one,
/// no backslash, control byte or byte beyond ASCII.
pub fn is_canonical(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/')
        || !bytes.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>'))
    {
        return false;
    }
    let segments_agree =
        !path.contains("//") && path.split('/').all(|segment| segment != "." && segment != "..");
    let escapes_agree = bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|hex| {
            let code = std::str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
            code.is_some_and(|code| !code.is_ascii_control() && !matches!(code, b'.' | b'/' | b'\\' | b'%'))
        })
    });
    segments_agree && escapes_agree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_exactly_and_a_trailing_slash_changes_nothing() {
        for (path, wanted) in [
            ("/health", Place::Live),
            ("/health/", Place::Live),
            ("/health/live", Place::Live),
            ("/health/ready", Place::Ready),
            ("/healthX", Place::Server { name: "healthX", door: Door::Mcp }),
            ("/health/other", Place::Unknown),
            ("/status", Place::Status),
            ("/metrics/", Place::Metrics),
            ("/db", Place::Server { name: "db", door: Door::Mcp }),
            ("/db/", Place::Server { name: "db", door: Door::Mcp }),
            ("/db/mcp", Place::Server { name: "db", door: Door::Mcp }),
            ("/db/sse/", Place::Server { name: "db", door: Door::Sse }),
            ("/db/message", Place::Server { name: "db", door: Door::Message }),
            ("/db/mcp/x", Place::Unknown),
            ("/db/admin", Place::Unknown),
            ("/.well-known/oauth-protected-resource/db/mcp", Place::WellKnown),
            ("/.well-known", Place::WellKnown),
            ("/", Place::Unknown),
        ] {
            assert_eq!(place(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_path_that_two_parsers_could_read_differently_is_not_canonical() {
        for good in ["/", "/db/mcp", "/db/mcp/", "/a%20b", "/a-b_c~d", "/.well-known/x", "/a..b", "/..."] {
            assert!(is_canonical(good), "{good}");
        }
        for bad in [
            "",
            "db",
            "*",
            "//db",
            "/db//mcp",
            "/./db",
            "/db/..",
            "/db/../x",
            "/db/.",
            "/%2e/db",
            "/%2E%2e/db",
            "/db%2fmcp",
            "/db%2Fmcp",
            "/db%5cmcp",
            "/db\\mcp",
            "/db%00",
            "/db%0a",
            "/db\u{7f}",
            "/dé",
            "/db%",
            "/db%2",
            "/db%zz",
            "/db%+1",
            "/%252e",
            "/db#x",
            "/db mcp",
        ] {
            assert!(!is_canonical(bad), "{bad}");
        }
    }
}
