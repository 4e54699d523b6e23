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
    /// `/servers`: all servers, listed.
    Servers,
    /// `/servers/{name}`: one server. Whether it exists is not known yet.
    ManagedServer {
        /// Second segment.
        name: &'a str,
    },
    /// `/servers/{name}/start`, `/stop`, `/restart`.
    Manage {
        /// Second segment.
        name: &'a str,
        /// Third segment.
        action: Action,
    },
    /// `/mcp`, `/sse`, `/message`: all servers as one.
    All {
        /// Which of the endpoints.
        door: Door,
    },
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

/// The endpoints of a server, or of all servers as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `/{server}` and `/{server}/mcp`: Streamable HTTP.
    Mcp,
    /// `/{server}/sse`: the event stream of HTTP+SSE.
    Sse,
    /// `/{server}/message`: messages of HTTP+SSE.
    Message,
}

/// What can be done with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take requests again.
    Start,
    /// End its sessions and processes, and take no requests.
    Stop,
    /// End its sessions and processes; the next request begins anew.
    Restart,
}

impl Action {
    /// The segment that names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Restart].into_iter().find(|action| action.name() == name)
    }
}

/// Finds what is served at `path`, which must be canonical (see [`is_canonical`]).
pub fn place(path: &str) -> Place<'_> {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/health" | "/health/live" => return Place::Live,
        "/health/ready" => return Place::Ready,
        "/status" => return Place::Status,
        "/metrics" => return Place::Metrics,
        "/servers" => return Place::Servers,
        "/mcp" => return Place::All { door: Door::Mcp },
        "/sse" => return Place::All { door: Door::Sse },
        "/message" => return Place::All { door: Door::Message },
        _ => {}
    }
    let mut segments = path.split('/').skip(1);
    let (Some(name), rest) = (segments.next(), segments.next()) else { return Place::Unknown };
    match name {
        ".well-known" => return Place::WellKnown,
        "servers" => return managed(rest, segments),
        // What stands below the other paths of the gate's own is nobody's: no server can have their names.
        "mcp" | "sse" | "message" => return Place::Unknown,
        _ => {}
    }
    let door = match (rest, segments.next()) {
        (None | Some("mcp"), None) => Door::Mcp,
        (Some("sse"), None) => Door::Sse,
        (Some("message"), None) => Door::Message,
        _ => return Place::Unknown,
    };
    Place::Server { name, door }
}

/// What is served below `/servers`.
fn managed<'a>(name: Option<&'a str>, mut rest: impl Iterator<Item = &'a str>) -> Place<'a> {
    match (name, rest.next(), rest.next()) {
        (Some(name), None, _) => Place::ManagedServer { name },
        (Some(name), Some(action), None) => {
            Action::named(action).map_or(Place::Unknown, |action| Place::Manage { name, action })
        }
        _ => Place::Unknown,
    }
}

/// Segments of a path that the log shows. No path that leads anywhere has more.
const SHOWN: usize = 5;
/// Longest segment that is looked up: no server's name and no word is longer.
const LONGEST: usize = 64;
/// Words of the gate's own paths, and of those that clients try at any server. The dots are in no token.
const WORDS: [&str; 22] = [
    "",
    ".",
    "..",
    "mcp",
    "sse",
    "message",
    "health",
    "live",
    "ready",
    "status",
    "metrics",
    "servers",
    "start",
    "stop",
    "restart",
    ".well-known",
    "oauth-protected-resource",
    "oauth-authorization-server",
    "openid-configuration",
    "authorize",
    "token",
    "register",
];

/// What the log shows of the path of a request that is not admitted: the segments that are words of the gate's own or
/// names of servers, as whole and exactly, and `…` for each other one.
///
/// People paste tokens into paths. Which part of a path is a secret cannot be told from the path, so nothing is shown
/// that the gate does not know anyway. The work is bounded, whatever the path: some segments are compared, and the
/// rest is not looked at.
pub fn shown(path: &str, is_server: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(LONGEST);
    let mut segments = path.split('/');
    for (n, segment) in segments.by_ref().take(SHOWN).enumerate() {
        if n > 0 {
            shown.push('/');
        }
        let is_known = segment.len() <= LONGEST && (WORDS.contains(&segment) || is_server(segment));
        shown.push_str(if is_known { segment } else { "…" });
    }
    if segments.next().is_some() {
        shown.push_str("/…");
    }
    shown
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
    let segments_agree = !path.contains("//")
        && bytes.split(|b| *b == b'/').all(|segment| segment != b"." && segment != b"..");
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
            ("/mcp", Place::All { door: Door::Mcp }),
            ("/mcp/", Place::All { door: Door::Mcp }),
            ("/sse", Place::All { door: Door::Sse }),
            ("/message", Place::All { door: Door::Message }),
            ("/mcp/mcp", Place::Unknown),
            ("/mcp/sse", Place::Unknown),
            ("/sse/message", Place::Unknown),
            ("/servers", Place::Servers),
            ("/servers/", Place::Servers),
            ("/servers/mcp", Place::ManagedServer { name: "mcp" }),
            ("/servers/db", Place::ManagedServer { name: "db" }),
            ("/servers/db/", Place::ManagedServer { name: "db" }),
            ("/servers/db/start", Place::Manage { name: "db", action: Action::Start }),
            ("/servers/db/stop/", Place::Manage { name: "db", action: Action::Stop }),
            ("/servers/db/restart", Place::Manage { name: "db", action: Action::Restart }),
            ("/servers/db/Restart", Place::Unknown),
            ("/servers/db/delete", Place::Unknown),
            ("/servers/db/stop/now", Place::Unknown),
            ("/db/stop", Place::Unknown),
            ("/.well-known/oauth-protected-resource/db/mcp", Place::WellKnown),
            ("/.well-known", Place::WellKnown),
            ("/", Place::Unknown),
        ] {
            assert_eq!(place(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_path_is_shown_as_far_as_the_gate_knows_its_words() {
        let is_server = |name: &str| matches!(name, "db" | "a-b_c");
        for known in [
            "/",
            "/health/live",
            "/health/ready/",
            "/status",
            "/metrics",
            "/servers",
            "/servers/db/restart",
            "/mcp",
            "/db",
            "/db/mcp/",
            "/a-b_c/sse",
            "/db/message",
            "/.well-known/oauth-protected-resource/db/mcp",
            "/db//mcp",
            "/db/../mcp",
            "",
        ] {
            assert_eq!(shown(known, is_server), known);
        }
        for (path, wanted) in [
            ("/secret", "/…"),
            ("/secret/", "/…/"),
            ("/db/secret/sse", "/db/…/sse"),
            ("/db/mcp+secret", "/db/…"),
            ("/db/mcp.secret", "/db/…"),
            ("/db-secret/mcp", "/…/mcp"),
            ("/DB/Mcp", "/…/…"),
            ("/db%2Fmcp", "/…"),
            ("/m%63p", "/…"),
            ("/secret/secret/secret", "/…/…/…"),
            ("/mcp/mcp/mcp/mcp/mcp/mcp", "/mcp/mcp/mcp/mcp/…"),
            ("*", "…"),
            ("secret:443", "…"),
        ] {
            assert_eq!(shown(path, is_server), wanted, "{path}");
        }
        assert_eq!(shown(&format!("/{}", "db".repeat(5_000)), |_| true), "/…", "no name is that long");
        assert_eq!(shown(&"/x".repeat(5_000), is_server), "/…/…/…/…/…");
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
