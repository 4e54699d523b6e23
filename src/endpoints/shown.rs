//! What the log shows of a path that nothing is known of.

use std::sync::LazyLock;

use super::table::{ENDPOINTS, LONGEST};

/// Segments of a path that the log shows. No path that leads anywhere has more.
const SHOWN: usize = 5;
/// Words of the table's paths, of which some are what clients try at any server. The dots are in no token.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let of_table = ENDPOINTS.iter().flat_map(|row| row.paths).flat_map(|path| path.split('/'));
    let mut words: Vec<_> =
        of_table.filter(|word| !["{server}", "*"].contains(word)).chain([".", ".."]).collect();
    words.sort_unstable();
    words.dedup();
    words
});

/// What the log shows of the path of a request that is not admitted: the segments that are words of the gateway's own or
/// names of servers, as whole and exactly, and `…` for each other one.
///
/// People paste tokens into paths. Which part of a path is a secret cannot be seen from the path, so nothing is shown
/// that is not in the config or the table of paths. The work is bounded, whatever the path: some segments are compared, and the
/// rest is not looked at.
pub fn shown(path: &str, is_server: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(LONGEST);
    let mut rest = path;
    for _ in 0..SHOWN {
        let end = memchr::memchr(b'/', rest.as_bytes());
        let segment = &rest[..end.unwrap_or(rest.len())];
        let is_known = segment.len() <= LONGEST && (WORDS.contains(&segment) || is_server(segment));
        shown.push_str(if is_known { segment } else { "…" });
        let Some(end) = end else { return shown };
        shown.push('/');
        rest = &rest[end + 1..];
    }
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
