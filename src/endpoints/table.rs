//! From a path to what is served there. Paths match exactly; one trailing slash changes nothing.

/// What is served at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `/health` and `/health/live`: the process answers.
    Live,
    /// `/health/ready`: the gateway takes requests.
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
        action: ManageAction,
    },
    /// `/mcp`, `/sse`, `/message`: all servers as one.
    All {
        /// Which of the endpoints.
        mcp_endpoint: McpEndpoint,
    },
    /// Below `/.well-known/`, and the other paths at which clients look for a login: they would take a challenge for one.
    Unchallenged,
    /// A server's endpoint. Whether the server exists is not known yet.
    Server {
        /// First segment.
        name: &'a str,
        /// Which of its endpoints.
        mcp_endpoint: McpEndpoint,
    },
    /// Anything else.
    Unknown,
}

impl Endpoint<'_> {
    /// What is served here, as `Allow` has it (RFC 9110 §15.5.6). Some is for some versions of MCP only.
    pub fn methods(self) -> &'static str {
        match self {
            Endpoint::Live | Endpoint::Ready | Endpoint::Status => "GET, HEAD",
            Endpoint::Metrics | Endpoint::Servers | Endpoint::ManagedServer { .. } => "GET, HEAD",
            Endpoint::Manage { .. } => "POST",
            Endpoint::All { mcp_endpoint: McpEndpoint::Sse }
            | Endpoint::Server { mcp_endpoint: McpEndpoint::Sse, .. } => "GET, OPTIONS",
            Endpoint::All { mcp_endpoint: McpEndpoint::Message }
            | Endpoint::Server { mcp_endpoint: McpEndpoint::Message, .. } => "POST, OPTIONS",
            _ => "GET, POST, DELETE, OPTIONS",
        }
    }
}

/// The endpoints of a server, or of all servers as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpEndpoint {
    /// `/{server}` and `/{server}/mcp`: Streamable HTTP.
    Mcp,
    /// `/{server}/sse`: the event stream of HTTP+SSE.
    Sse,
    /// `/{server}/message`: messages of HTTP+SSE.
    Message,
}

/// What can be done with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManageAction {
    /// Take requests again.
    Start,
    /// End its sessions and processes, and take no requests.
    Stop,
    /// End its sessions and processes; the next request begins anew.
    Restart,
}

impl ManageAction {
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

/// Longest segment that means anything: a server's name has at most as many bytes.
pub(super) const LONGEST: usize = 64;
/// Longest path that leads anywhere: what it is made of are at most three segments.
const LONGEST_PATH: usize = 4 * (LONGEST + 1);

/// Finds what is served at `path`, which must be canonical (see [`is_canonical`](crate::downstream::path::is_canonical)).
pub fn endpoint(path: &str) -> Endpoint<'_> {
    // A stranger's path may have 8 KiB, none of which is worth a look.
    if path.len() > LONGEST_PATH {
        return if path.starts_with("/.well-known/") { Endpoint::Unchallenged } else { Endpoint::Unknown };
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/health" | "/health/live" => return Endpoint::Live,
        "/health/ready" => return Endpoint::Ready,
        "/status" => return Endpoint::Status,
        "/metrics" => return Endpoint::Metrics,
        "/servers" => return Endpoint::Servers,
        "/mcp" => return Endpoint::All { mcp_endpoint: McpEndpoint::Mcp },
        "/sse" => return Endpoint::All { mcp_endpoint: McpEndpoint::Sse },
        "/message" => return Endpoint::All { mcp_endpoint: McpEndpoint::Message },
        "" | "/register" | "/authorize" | "/token" => return Endpoint::Unchallenged,
        _ => {}
    }
    let mut segments = segments(path).skip(1);
    let (Some(name), rest) = (segments.next(), segments.next()) else { return Endpoint::Unknown };
    match name {
        ".well-known" => return Endpoint::Unchallenged,
        "servers" => return managed(rest, segments),
        // What is below the other paths of the gateway's own is no one's: no server can have their names.
        "mcp" | "sse" | "message" => return Endpoint::Unknown,
        _ => {}
    }
    let mcp_endpoint = match (rest, segments.next()) {
        (None | Some("mcp"), None) => McpEndpoint::Mcp,
        (Some("sse"), None) => McpEndpoint::Sse,
        (Some("message"), None) => McpEndpoint::Message,
        _ => return Endpoint::Unknown,
    };
    Endpoint::Server { name, mcp_endpoint }
}

/// What is between the slashes.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest?;
        let end = memchr::memchr(b'/', path.as_bytes());
        rest = end.map(|end| &path[end + 1..]);
        Some(&path[..end.unwrap_or(path.len())])
    })
}

/// What is served below `/servers`.
fn managed<'a>(name: Option<&'a str>, mut rest: impl Iterator<Item = &'a str>) -> Endpoint<'a> {
    match (name, rest.next(), rest.next()) {
        (Some(name), None, _) => Endpoint::ManagedServer { name },
        (Some(name), Some(action), None) => {
            ManageAction::named(action).map_or(Endpoint::Unknown, |action| Endpoint::Manage { name, action })
        }
        _ => Endpoint::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_exactly_and_a_trailing_slash_changes_nothing() {
        for (path, wanted) in [
            ("/health", Endpoint::Live),
            ("/health/", Endpoint::Live),
            ("/health/live", Endpoint::Live),
            ("/health/ready", Endpoint::Ready),
            ("/healthX", Endpoint::Server { name: "healthX", mcp_endpoint: McpEndpoint::Mcp }),
            ("/health/other", Endpoint::Unknown),
            ("/status", Endpoint::Status),
            ("/metrics/", Endpoint::Metrics),
            ("/db", Endpoint::Server { name: "db", mcp_endpoint: McpEndpoint::Mcp }),
            ("/db/", Endpoint::Server { name: "db", mcp_endpoint: McpEndpoint::Mcp }),
            ("/db/mcp", Endpoint::Server { name: "db", mcp_endpoint: McpEndpoint::Mcp }),
            ("/db/sse/", Endpoint::Server { name: "db", mcp_endpoint: McpEndpoint::Sse }),
            ("/db/message", Endpoint::Server { name: "db", mcp_endpoint: McpEndpoint::Message }),
            ("/db/mcp/x", Endpoint::Unknown),
            ("/db/admin", Endpoint::Unknown),
            ("/mcp", Endpoint::All { mcp_endpoint: McpEndpoint::Mcp }),
            ("/mcp/", Endpoint::All { mcp_endpoint: McpEndpoint::Mcp }),
            ("/sse", Endpoint::All { mcp_endpoint: McpEndpoint::Sse }),
            ("/message", Endpoint::All { mcp_endpoint: McpEndpoint::Message }),
            ("/mcp/mcp", Endpoint::Unknown),
            ("/mcp/sse", Endpoint::Unknown),
            ("/sse/message", Endpoint::Unknown),
            ("/servers", Endpoint::Servers),
            ("/servers/", Endpoint::Servers),
            ("/servers/mcp", Endpoint::ManagedServer { name: "mcp" }),
            ("/servers/db", Endpoint::ManagedServer { name: "db" }),
            ("/servers/db/", Endpoint::ManagedServer { name: "db" }),
            ("/servers/db/start", Endpoint::Manage { name: "db", action: ManageAction::Start }),
            ("/servers/db/stop/", Endpoint::Manage { name: "db", action: ManageAction::Stop }),
            ("/servers/db/restart", Endpoint::Manage { name: "db", action: ManageAction::Restart }),
            ("/servers/db/Restart", Endpoint::Unknown),
            ("/servers/db/delete", Endpoint::Unknown),
            ("/servers/db/stop/now", Endpoint::Unknown),
            ("/db/stop", Endpoint::Unknown),
            ("/.well-known/oauth-protected-resource/db/mcp", Endpoint::Unchallenged),
            ("/.well-known", Endpoint::Unchallenged),
            ("/", Endpoint::Unchallenged),
            ("/register", Endpoint::Unchallenged),
            ("/token/", Endpoint::Unchallenged),
            ("/token/mcp", Endpoint::Server { name: "token", mcp_endpoint: McpEndpoint::Mcp }),
            (
                &format!("/{0}/mcp", "n".repeat(64)),
                Endpoint::Server { name: &"n".repeat(64), mcp_endpoint: McpEndpoint::Mcp },
            ),
            (
                &format!("/servers/{0}/restart", "n".repeat(64)),
                Endpoint::Manage { name: &"n".repeat(64), action: ManageAction::Restart },
            ),
            (&format!("/{0}", "n".repeat(8191)), Endpoint::Unknown),
            (&format!("/.well-known/{0}", "n".repeat(1000)), Endpoint::Unchallenged),
        ] {
            assert_eq!(endpoint(path), wanted, "{path}");
        }
    }
}
