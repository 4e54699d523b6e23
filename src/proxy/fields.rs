//! Which header fields pass, and which stay at this hop.
//!
//! The lists name what every HTTP proxy has to drop, and what would claim what its sender cannot claim: a
//! request that claims what only the gateway can know, a response that claims to be the gateway. A name counts in every
//! spelling that a server folds into one: CGI and what descends from it (WSGI, Rack, PHP) make `HTTP_X_TEAM` of
//! `X-Team`, of `X_Team` and some of them of `X.Team`. So towards servers only names of letters, digits and `-` pass,
//! as nginx does it, and the lists need one spelling.

use http::HeaderName;

/// Parameters of a tool call (MCP 2026-07-28). What follows is the server's to choose, `_` and `.` included, and nothing
/// is decided on it.
const TOOL_PARAMETER: &str = "mcp-param-";

/// Whether a field of a request goes on to the server.
pub(super) fn goes_to_server(name: &HeaderName) -> bool {
    let name = name.as_str();
    (is_plain(name.as_bytes()) || name.starts_with(TOOL_PARAMETER)) && !stays_before_server(name)
}

/// Whether a name has nothing but letters, digits and `-`. Eight bytes at a time, since every field of every request is asked.
fn is_plain(name: &[u8]) -> bool {
    const HIGH: u64 = (u64::MAX / 255) << 7;
    // The high bit of each byte from `least` to `most`. Names are ASCII, so nothing carries over.
    let within = |word: u64, least: u8, most: u8| {
        let all = |byte: u8| u64::MAX / 255 * u64::from(byte);
        word.wrapping_add(all(0x80 - least)) & !word.wrapping_add(all(0x7F - most))
    };
    let is_plain = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        let plain = within(word, b'a', b'z') | within(word, b'0', b'9') | within(word, b'-', b'-');
        plain & HIGH == HIGH
    };
    match name.last_chunk() {
        Some(last) => is_plain(last) && name.as_chunks().0.iter().all(is_plain),
        None => name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')),
    }
}

/// Whether a server may take `name`, which has one spelling, for the field `set` of the config.
pub(super) fn is_same(set: &HeaderName, name: &HeaderName) -> bool {
    let (set, name) = (set.as_str().as_bytes(), name.as_str().as_bytes());
    set.len() == name.len()
        && set.iter().zip(name).all(|(a, b)| a == b || (*b == b'-' && !a.is_ascii_alphanumeric()))
}

/// Fields of a request that end at this hop (RFC 9110 §7.6.1), that the gateway writes itself, that carry the caller's
/// credential, or by which proxies tell a server who calls, from where, and what was asked for: another client, user, path,
/// host or method than that of the request. By their first letter, so that most names meet one or two comparisons.
///
/// No list of the latter is complete, so no server should trust such a field that the config does not set.
fn stays_before_server(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => name == "authorization" || name.starts_with("akamai-"),
        Some(b'b') => name == "base-url",
        Some(b'c') => {
            matches!(
                name,
                "connection"
                    | "content-length"
                    // Of a server that may have some, they go on in one line: see `cookies`.
                    | "cookie"
                    | "cookie2"
                    | "client-ip"
                    // Those of a client certificate (RFC 9440 §2.4: whoever ends TLS removes them).
                    | "client-cert"
                    | "client-cert-chain"
            ) || name.starts_with("cf-")
                || name.starts_with("cloudfront-")
        }
        Some(b'd') => name == "do-connecting-ip",
        Some(b'e') => name == "expect",
        Some(b'f') => {
            matches!(name, "forwarded" | "front-end-https")
                || name.starts_with("fastly-")
                || name.starts_with("fly-")
        }
        Some(b'h') => matches!(name, "host" | "http2-settings") || name.starts_with("http-"),
        Some(b'i') => name.starts_with("impersonate-") || name == "incap-client-ip",
        Some(b'k') => matches!(name, "keep-alive" | "kerberos-principal"),
        // Where no stranger can have begun the stream, it goes on all the same: see `headers`.
        Some(b'l') => name == "last-event-id",
        Some(b'o') => name == "origin" || name.starts_with("oidc-"),
        // `Proxy` is HTTP_PROXY under CGI, by which programs choose a proxy (CVE-2016-5385).
        Some(b'p') => matches!(name, "proxy" | "path-info") || name.starts_with("proxy-"),
        Some(b'q') => name == "query-string",
        Some(b'r') => name == "request-uri" || name.starts_with("remote-"),
        Some(b's') => {
            matches!(name, "script-name" | "server-name")
                || name.starts_with("ssl-")
                || name.starts_with("surrogate-")
        }
        Some(b't') => {
            matches!(name, "te" | "trailer" | "transfer-encoding" | "true-client-ip")
                || name.starts_with("tailscale-")
        }
        Some(b'u') => name == "upgrade",
        Some(b'w') => name.starts_with("wl-proxy-"),
        Some(b'x') => name.strip_prefix("x-").is_some_and(stays_before_server_x),
        _ => false,
    }
}

/// The same for what follows `x-`.
fn stays_before_server_x(name: &str) -> bool {
    let (names, prefixes): (&[&str], &[&str]) = match name.as_bytes().first() {
        // The last two prove what they say.
        Some(b'a') if matches!(name, "auth-token" | "auth-key") => return false,
        Some(b'a') => (
            &["api-key", "anonymous-consumer"],
            &[
                // What Rack takes for the wish of the proxy in front of it (CVE-2025-61780).
                "accel-",
                "akamai-",
                "amzn-mtls-",
                "amzn-oidc-",
                "appengine-",
                "arr-",
                "auth-",
                "authelia-",
                "authenticated-",
                "authentik-",
                "azure-",
            ],
        ),
        Some(b'b') => (&["base-url"], &[]),
        Some(b'c') => (
            &["client-dn", "client-ip", "client-verify", "cluster-client-ip", "custom-ip-authorization"],
            &["client-cert", "consumer-", "credential-"],
        ),
        Some(b'e') => (&["email"], &["envoy-"]),
        Some(b'f') => (&[], &["fd-", "forward"]),
        Some(b'g') => (&["grafana-user", "groups"], &["goog-authenticated-", "goog-iap-"]),
        // X-HTTP-Method-Override and its like.
        Some(b'h') => (&["host"], &["http-"]),
        Some(b'j') => (&[], &["jwt-"]),
        Some(b'k') => (&[], &["kong-"]),
        Some(b'm') => (
            &["method", "method-override"],
            &["middleware-", "ms-client-principal", "ms-original-", "ms-token-"],
        ),
        Some(b'o') => (&["originating-ip"], &["original-"]),
        Some(b'p') => (&["path-info"], &["pomerium-", "proxyuser-"]),
        Some(b'r') => (&["role", "roles"], &["real-", "remote-", "reproxy-", "rewrite-"]),
        Some(b's') => (&["scheme", "script-name"], &["sendfile", "ssl-"]),
        Some(b't') => (&["tenant-token", "token-subject", "true-client-ip"], &["tls-client-", "token-user-"]),
        Some(b'u') if name == "user-agent" => return false,
        Some(b'u') => (&["url-scheme"], &["user"]),
        Some(b'v') => (&[], &["vercel-"]),
        Some(b'w') => (&[], &["webauth-"]),
        _ => return false,
    };
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a field of a response goes on to the client. `Set-Cookie` does not; see `cookies` for a server that may have some.
pub(super) fn goes_to_client(name: &HeaderName) -> bool {
    !stays_before_client(name.as_str())
}

/// Fields of a response that end at this hop (RFC 9110 §7.6.1); that hold for the whole host or origin, whose name the
/// server shares with the gateway and with all other servers; that say who may read an answer from another origin; that
/// challenge for the server's own credential; and that command a proxy in front of the gateway.
fn stays_before_client(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => {
            matches!(name, "alt-svc" | "accept-ch" | "accept-ch-lifetime" | "authentication-info")
                || name.starts_with("access-control-")
                || name.starts_with("attribution-reporting-")
        }
        Some(b'c') => {
            matches!(
                name,
                "connection"
                    | "clear-site-data"
                    // A URL of the server's is none of the gateway's.
                    | "content-location"
                    | "content-security-policy-report-only"
                    | "critical-ch"
                    | "cdn-cache-control"
                    | "cloudflare-cdn-cache-control"
            ) || name.starts_with("cross-origin-")
        }
        Some(b'e') => matches!(name, "edge-control" | "expect-ct" | "expect-staple"),
        Some(b'k') => name == "keep-alive",
        // `Link` makes proxies push or announce what it names (Apache's mod_http2 does by default).
        Some(b'l') => matches!(name, "link" | "location"),
        Some(b'n') => name == "nel",
        Some(b'o') => matches!(name, "onion-location" | "origin-agent-cluster"),
        Some(b'p') => {
            matches!(name, "proxy-authenticate" | "proxy-authentication-info" | "proxy-connection")
                || name.starts_with("public-key-pins")
        }
        Some(b'r') => matches!(name, "refresh" | "report-to" | "reporting-endpoints"),
        Some(b's') => {
            matches!(
                name,
                "set-cookie"
                    | "set-cookie2"
                    | "set-login"
                    | "service-worker-allowed"
                    | "shared-storage-write"
                    | "speculation-rules"
                    | "strict-transport-security"
            ) || ["surrogate-", "sec-session-", "secure-session-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        }
        Some(b't') => matches!(name, "te" | "trailer" | "transfer-encoding" | "timing-allow-origin"),
        Some(b'u') => matches!(name, "upgrade" | "use-as-dictionary"),
        Some(b'w') => name == "www-authenticate",
        Some(b'x') => {
            // Whether a proxy may buffer a stream is for the server to say.
            name.strip_prefix("x-").is_some_and(stays_before_client_x) && name != "x-accel-buffering"
        }
        _ => false,
    }
}

/// The same for what follows `x-`: which file or URL nginx, Apache, lighttpd, LiteSpeed or Perlbal is to send in the answer's
/// place, and what Envoy is to think of its upstream.
fn stays_before_client_x(name: &str) -> bool {
    ["accel-", "envoy-", "lighttpd-", "litespeed-", "reproxy-", "sendfile"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(name: &str) -> bool {
        goes_to_server(&HeaderName::try_from(name).unwrap())
    }

    #[test]
    fn a_name_passes_in_one_spelling_only() {
        for name in [
            "accept",
            "mcp-session-id",
            "mcp-param-a_b",
            "mcp-param-a.b",
            "x-team",
            "x-http2",
            "proxies",
            "x-auth-token",
            "x-user-agent",
        ] {
            assert!(goes(name), "{name}");
        }
        for name in [
            "mcp_session_id",
            "x.team",
            "a+b",
            "a*",
            "mcp_param_a",
            "mcp-param_a",
            "x_mcp-param-a",
            "host",
            "proxy",
            "proxy-status",
            "x-forwarded",
            "x-forwarded-anything",
            "x-http-method",
            "remote-user",
            "last-event-id",
            "x-user",
            "x-auth-user",
        ] {
            assert!(!goes(name), "{name}");
        }
    }

    #[test]
    fn one_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for length in 1..40 {
            let plain: Vec<u8> = (0..length).map(|at| b"az09-m"[at % 6]).collect();
            assert!(is_plain(&plain), "{length}");
            for (at, byte) in (0..length).flat_map(|at| (0..0x80).map(move |byte| (at, byte))) {
                let mut name = plain.clone();
                name[at] = byte;
                let is_one = byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
                assert_eq!(is_plain(&name), is_one, "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn a_field_of_the_config_is_known_in_every_spelling() {
        let name = |name: &str| HeaderName::try_from(name).unwrap();
        for set in ["x-team-id", "x_team_id", "x.team-id"] {
            assert!(is_same(&name(set), &name("x-team-id")), "{set}");
            assert!(!is_same(&name(set), &name("x-teams-id")), "{set}");
            assert!(!is_same(&name(set), &name("x-teamsid")), "{set}");
        }
    }
}
