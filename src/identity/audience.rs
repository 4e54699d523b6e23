//! For which place a token is: an audience is a place of the gateway, however its URL is written (RFC 8707).

use std::sync::Arc;

use url::Url;

use crate::config::Server;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All that the gateway serves.
    Gateway,
    /// All servers as one.
    All,
    /// The server of this name, whether there is one or not.
    Server(Arc<str>),
    /// Each of these.
    Several(Arc<[Self]>),
}

/// Where something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// What the gateway says of itself.
    Gateway,
    /// All servers as one.
    All,
    /// A server.
    Server(&'a str),
}

/// Longest text that is looked at.
const LONGEST: usize = 2048;
/// The endpoints of a place.
const ENDPOINTS: [&str; 3] = ["mcp", "sse", "message"];

impl Audience {
    /// The place that `resource` is, at the gateway at `base`; `None` if it is none. The case of the host, a default port, slashes
    /// at the end and a query make no difference; a fragment cannot be (RFC 8707 §2).
    pub fn of(resource: &str, base: &str) -> Option<Self> {
        if resource.len() > LONGEST || resource.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return None;
        }
        let (asked, base) = (Url::parse(resource).ok()?, Url::parse(base).ok()?);
        let is_here = asked.origin().is_tuple() && asked.origin() == base.origin();
        // A parser takes these out of a path, and the gateway refuses them.
        let is_plain = !resource.contains(['\\', '%']) && !resource.contains("/.");
        let is_bare = asked.username().is_empty() && asked.password().is_none() && asked.fragment().is_none();
        if !is_here || !is_plain || !is_bare {
            return None;
        }
        Self::of_path(asked.path())
    }

    /// The place of a path.
    fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.trim_end_matches('/').split('/').skip(1);
        match (segments.next(), segments.next(), segments.next()) {
            (None, ..) => Some(Self::Gateway),
            (Some(endpoint), None, None) if ENDPOINTS.contains(&endpoint) => Some(Self::All),
            (Some(name), endpoint, None)
                if Server::is_name(name)
                    && !ENDPOINTS.contains(&name)
                    && endpoint.is_none_or(|of| ENDPOINTS.contains(&of)) =>
            {
                Some(Self::Server(name.into()))
            }
            _ => None,
        }
    }

    /// Its URL, at the gateway at `base`.
    pub fn url(&self, base: &str) -> String {
        match self {
            Self::Gateway => base.to_owned(),
            Self::All => format!("{base}/mcp"),
            Self::Server(name) => format!("{base}/{name}"),
            Self::Several(all) => all.iter().map(|one| one.url(base)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Whether a token for this may be used there.
    pub fn covers(&self, place: Place<'_>) -> bool {
        match self {
            Self::Gateway => true,
            Self::All => place == Place::All,
            Self::Server(name) => place == Place::Server(name),
            Self::Several(all) => all.iter().any(|one| one.covers(place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://Gate.example";

    fn server(name: &str) -> Option<Audience> {
        Some(Audience::Server(name.into()))
    }

    #[test]
    fn a_place_is_the_same_however_its_url_is_written() {
        for (path, wanted) in [
            ("", Some(Audience::Gateway)),
            ("/", Some(Audience::Gateway)),
            ("/?x=1", Some(Audience::Gateway)),
            ("/mcp", Some(Audience::All)),
            ("/sse/", Some(Audience::All)),
            ("/message?sessionId=1", Some(Audience::All)),
            ("/db", server("db")),
            ("/db/", server("db")),
            ("/db/mcp", server("db")),
            ("/db/mcp//", server("db")),
            ("/db/sse?servers=x", server("db")),
            ("/db/message", server("db")),
            ("/DB/mcp", server("DB")),
            ("/db/other", None),
            ("/db/mcp/x", None),
            ("/mcp/mcp", None),
            ("/db.x", None),
            ("//db/mcp", None),
            ("/d%62/mcp", None),
            ("/x/../db/mcp", None),
            ("/./db/mcp", None),
            ("/x\\..\\db", None),
            ("/db/mcp#x", None),
            ("/db/m cp", None),
        ] {
            for base in [BASE, "HTTPS://GATE.EXAMPLE", "https://gate.example:443"] {
                assert_eq!(Audience::of(&format!("{base}{path}"), BASE), wanted, "{base}{path}");
            }
        }
    }

    #[test]
    fn a_place_elsewhere_is_none_here() {
        for other in [
            "http://gate.example/db/mcp",
            "https://gate.example:8443/db/mcp",
            "https://gate.example.evil/db/mcp",
            "https://evil.example/db/mcp",
            "https://user@gate.example/db/mcp",
            "https://gate.example@evil.example/db/mcp",
            "urn:db",
            "db",
            "/db/mcp",
            "",
        ] {
            assert_eq!(Audience::of(other, BASE), None, "{other}");
        }
        assert_eq!(Audience::of(&format!("{BASE}/{}", "n".repeat(65)), BASE), None);
        assert_eq!(Audience::of(&format!("{BASE}/db?{}", "n".repeat(3000)), BASE), None);
    }

    #[test]
    fn a_token_for_one_place_opens_no_other() {
        let audiences = [Audience::Gateway, Audience::All, Audience::Server("db".into())];
        let places = [Place::Gateway, Place::All, Place::Server("db"), Place::Server("files")];
        let opens = audiences.map(|audience| places.map(|place| audience.covers(place)));
        assert_eq!(opens, [[true; 4], [false, true, false, false], [false, false, true, false]]);
    }
}
