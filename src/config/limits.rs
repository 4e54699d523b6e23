//! `proxy.limits`: what one peer may cost.

use super::{
    fields::Fields,
    reader::Context,
    snapshot::{Limits, PerCaller},
};

/// Descriptors for what is no client connection: listeners, log, config and its watcher, pipes to children, and connections
/// beyond the limit, which are accepted for the sake of health checks.
const RESERVED_FILES: u64 = 128;
/// Most connections by default, however many descriptors there are: some 300 MiB of idle TLS connections.
const MOST_BY_DEFAULT: u64 = 10_000;

/// What is not good is noted, and its value does not matter any more.
///
/// `sessions` is `proxy.sessions`.
pub(super) fn resolve(cx: &mut Context<'_>, proxy: &Fields<'_>, sessions: &Fields<'_>) -> Limits {
    let fields = proxy.object_or_empty(cx, "limits");
    let per_caller = per_caller(cx, &fields, sessions);
    let per_address = fields.object_or_empty(cx, "perAddress");
    let (max_connections, max_requests) = (connections(cx, &fields), requests(cx, &fields));
    let connections_per_address = per_address.number(cx, "connections").unwrap_or_default() as usize;
    let mut duration = |name| fields.duration(cx, name).unwrap_or_default();
    let tls_handshake_timeout = duration("tlsHandshakeTimeout");
    let header_timeout = duration("headerTimeout");
    let body_timeout = duration("bodyTimeout");
    let slow_reader_timeout = duration("slowReaderTimeout");
    let connect_timeout = duration("connectTimeout");
    let upstream_timeout = duration("upstreamTimeout");
    let mut number = |name| fields.number(cx, name).unwrap_or_default();
    Limits {
        max_connections,
        tls_handshake_timeout,
        header_timeout,
        body_timeout,
        slow_reader_timeout,
        connect_timeout,
        upstream_timeout,
        max_header_bytes: number("maxHeaderBytes") as usize,
        max_uri_bytes: number("maxUriBytes") as usize,
        max_body_bytes: number("maxBodyBytes"),
        max_sessions: number("maxSessions"),
        max_processes: number("maxProcesses"),
        max_requests,
        max_held_bytes: number("maxHeldBytes"),
        per_caller,
        connections_per_address,
    }
}

/// Of `sessions` it has MCP Front's name for one of its keys.
fn per_caller(cx: &mut Context<'_>, limits: &Fields<'_>, sessions: &Fields<'_>) -> PerCaller {
    let fields = limits.object_or_empty(cx, "perCaller");
    let most_sessions = match (fields.has("sessions"), sessions.get("maxPerUser")) {
        (false, _) => sessions.number(cx, "maxPerUser"),
        (true, None) => fields.number(cx, "sessions"),
        (true, Some(old)) => {
            cx.error(&old.at, "is the same as `proxy.limits.perCaller.sessions`; keep one of them");
            None
        }
    };
    let mut number = |name| fields.number(cx, name).unwrap_or_default();
    PerCaller {
        connections: number("connections"),
        sessions: most_sessions.unwrap_or_default(),
        processes: number("processes"),
        requests: number("requests"),
        held_bytes: number("heldBytes"),
    }
}

/// By default as many as there are descriptors for, since each may need a connection to an upstream.
fn requests(cx: &mut Context<'_>, fields: &Fields<'_>) -> u64 {
    match fields.has("maxRequests") {
        true => fields.number(cx, "maxRequests").unwrap_or_default(),
        false => room(),
    }
}

fn connections(cx: &mut Context<'_>, fields: &Fields<'_>) -> usize {
    let room = room();
    if !fields.has("maxConnections") {
        return room.min(MOST_BY_DEFAULT) as usize;
    }
    let connections = fields.number(cx, "maxConnections").unwrap_or_default();
    if connections > room {
        let message =
            format!("the open file limit leaves room for {room}; raise it (`ulimit -n`), or lower this");
        cx.warning(&fields.key("maxConnections"), message);
    }
    connections as usize
}

/// How many client connections there are descriptors for: half of them, because each may need one to an upstream.
fn room() -> u64 {
    (open_files().saturating_sub(RESERVED_FILES) / 2).max(1)
}

/// Files that this process may have open.
fn open_files() -> u64 {
    /// What Unix systems start a session with, where there is no way to ask without a system call.
    const COMMON: u64 = 1024;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or(COMMON, |soft| soft.parse().unwrap_or(u64::MAX))
}
