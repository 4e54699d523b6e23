//! Every key that a config may have. The reader and `schema.json` are both held to these lists.

/// The keys of one kind of object.
pub(super) type Known = &'static [&'static str];

pub(super) const ROOT: Known = &["$schema", "version", "proxy", "mcpServers"];
pub(super) const PROXY: Known = &[
    "name",
    "baseUrl",
    "baseURL",
    "addr",
    "allowPlainHttp",
    "tls",
    "auth",
    "allowedHosts",
    "allowedOrigins",
    "limits",
    "shutdownGrace",
    "workers",
    "admin",
    "log",
    "sessionKey",
    "sessions",
    "trustedProxies",
    "aggregate",
    "debug",
];
pub(super) const TLS: Known = &["cert", "key", "selfSigned"];
pub(super) const AUTH: Known = &["kind", "queryToken", "tokens"];
pub(super) const TOKEN: Known = &["sha256", "value", "expires", "roles", "tags"];
pub(super) const LIMITS: Known = &[
    "maxConnections",
    "tlsHandshakeTimeout",
    "headerTimeout",
    "bodyTimeout",
    "slowReaderTimeout",
    "connectTimeout",
    "upstreamTimeout",
    "maxHeaderBytes",
    "maxUriBytes",
    "maxBodyBytes",
    "maxSessions",
    "maxProcesses",
    "maxRequests",
    "maxHeldBytes",
    "perCaller",
    "perAddress",
];
pub(super) const PER_CALLER: Known = &["connections", "sessions", "processes", "requests", "heldBytes"];
pub(super) const PER_ADDRESS: Known = &["connections"];
pub(super) const ADMIN: Known = &["addr"];
pub(super) const LOG: Known = &["level", "format"];
pub(super) const SESSIONS: Known = &["timeout", "cleanupInterval", "maxPerUser"];
pub(super) const AGGREGATE: Known = &["separator", "mode", "onCollision", "lazy", "discoveryTimeout"];
pub(super) const SERVER: Known = &[
    "url",
    "command",
    "inline",
    "transportType",
    "type",
    "authTokens",
    "public",
    "roles",
    "tags",
    "timeout",
    "idleTimeout",
    "headers",
    "caFile",
    "passQuery",
    "cookies",
    "args",
    "env",
    "cwd",
    "inheritEnv",
    "options",
];
/// Keys of a server with a `url` that say nothing about any other, and of one with a `command`.
pub(super) const URL_ONLY: Known = &["headers", "caFile", "passQuery", "cookies"];
pub(super) const COMMAND_ONLY: Known = &["args", "env", "cwd", "inheritEnv"];
pub(super) const INLINE: Known = &["description", "tools"];
pub(super) const INLINE_TOOL: Known =
    &["name", "description", "inputSchema", "command", "args", "env", "timeout"];
pub(super) const OPTIONS: Known = &["authTokens", "toolFilter"];
pub(super) const TOOL_FILTER: Known = &["mode", "list"];
/// The objects that stand for a string.
pub(super) const REFERENCES: Known = &["$env", "$file"];

/// What to say about a key that is not in `known`.
pub(super) fn unknown(name: &str, known: Known) -> String {
    match closest(name, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// The candidate that `name` is most likely a slip of.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        // A third of the letters wrong is still a slip; more is another word.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        for (slip, meant) in
            [("authtokens", "authTokens"), ("ulr", "url"), ("transport_type", "transportType")]
        {
            assert_eq!(unknown(slip, SERVER), format!("unknown key; did you mean `{meant}`?"));
        }
        assert!(unknown("gibberish", SERVER).contains("known here: url, command"));
    }
}
