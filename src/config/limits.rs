//! `proxy.limits`: what one peer may cost.

use std::time::Duration;

use super::{
    keys,
    reader::{Context, Fields, Node},
    snapshot::{Limits, PerCaller},
};

/// Descriptors for what is no client connection: listeners, log, config and its watcher, pipes to children, and connections
/// beyond the limit, which are accepted for the sake of health checks.
const RESERVED_FILES: u64 = 128;
/// Most connections by default, however many descriptors there are: some 300 MiB of idle TLS connections.
const MOST_BY_DEFAULT: u64 = 10_000;
/// Least a time-out may be: shorter ones would refuse honest peers.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads the limits that are set; the others have their defaults. `max_per_user` is `proxy.sessions.maxPerUser`, if it is there.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    node: Option<&Node<'_>>,
    max_per_user: Option<&Node<'_>>,
) -> Limits {
    let fields = node.and_then(|node| node.object(cx, keys::LIMITS));
    let mut reader = Reader { fields, cx };
    Limits {
        max_connections: reader.connections(),
        tls_handshake_timeout: reader.seconds("tlsHandshakeTimeout", 10),
        header_timeout: reader.seconds("headerTimeout", 10),
        body_timeout: reader.seconds("bodyTimeout", 30),
        slow_reader_timeout: reader.seconds("slowReaderTimeout", 30),
        connect_timeout: reader.seconds("connectTimeout", 5),
        upstream_timeout: reader.seconds("upstreamTimeout", 60),
        // hyper's read buffer is 8 KiB at least.
        max_header_bytes: reader.count("maxHeaderBytes", 8 << 10, 1 << 20, 32 << 10) as usize,
        // `http::Uri` ends at 65,534 bytes.
        max_uri_bytes: reader.count("maxUriBytes", 256, 65_534, 8 << 10) as usize,
        max_body_bytes: reader.count("maxBodyBytes", 0, u64::MAX, 0),
        max_sessions: reader.count("maxSessions", 1, 1_000_000, 1_000),
        max_processes: reader.count("maxProcesses", 1, 1_000_000, 1_000),
        max_requests: reader.requests(),
        // Less would not hold two messages.
        max_held_bytes: reader.count("maxHeldBytes", 16 << 20, 1 << 40, 128 << 20),
        per_caller: reader.per_caller(max_per_user),
        connections_per_address: reader.connections_per_address(),
    }
}

struct Reader<'a, 'c, 'x> {
    fields: Option<Fields<'a>>,
    cx: &'c mut Context<'x>,
}

impl Reader<'_, '_, '_> {
    fn seconds(&mut self, key: &str, default: u64) -> Duration {
        let node = self.fields.as_ref().and_then(|fields| fields.get(key));
        node.and_then(|node| node.duration(self.cx, SHORTEST)).unwrap_or(Duration::from_secs(default))
    }

    fn count(&mut self, key: &str, least: u64, most: u64, default: u64) -> u64 {
        let node = self.fields.as_ref().and_then(|fields| fields.get(key));
        node.and_then(|node| node.number(self.cx, least, most)).unwrap_or(default)
    }

    /// `perCaller`: 0 leaves it to what is free.
    fn per_caller(&mut self, max_per_user: Option<&Node<'_>>) -> PerCaller {
        let node = self.fields.as_ref().and_then(|fields| fields.get("perCaller"));
        let fields = node.as_ref().and_then(|node| node.object(self.cx, keys::PER_CALLER));
        if let (Some(fields), Some(old)) = (&fields, max_per_user)
            && fields.get("sessions").is_some()
        {
            self.cx.error(&old.at, "is the same as `proxy.limits.perCaller.sessions`; keep one of them");
        }
        let mut count = |key: &str, or: Option<&Node<'_>>| {
            let node = fields.as_ref().and_then(|fields| fields.get(key));
            node.as_ref().or(or).and_then(|node| node.number(self.cx, 0, u64::MAX)).unwrap_or(0)
        };
        PerCaller {
            connections: count("connections", None),
            sessions: count("sessions", max_per_user),
            processes: count("processes", None),
            requests: count("requests", None),
            held_bytes: count("heldBytes", None),
        }
    }

    fn connections_per_address(&mut self) -> usize {
        let node = self.fields.as_ref().and_then(|fields| fields.get("perAddress"));
        let fields = node.and_then(|node| node.object(self.cx, keys::PER_ADDRESS));
        let node = fields.and_then(|fields| fields.get("connections"));
        node.and_then(|node| node.number(self.cx, 1, 10_000_000)).unwrap_or(256) as usize
    }

    /// By default as many as there are descriptors for, since each may need a connection to an upstream.
    fn requests(&mut self) -> u64 {
        self.count("maxRequests", 1, 10_000_000, room())
    }

    fn connections(&mut self) -> usize {
        let room = room();
        let connections = self.count("maxConnections", 1, 10_000_000, room.min(MOST_BY_DEFAULT));
        if connections > room
            && let Some(fields) = &self.fields
        {
            let message =
                format!("the open file limit leaves room for {room}; raise it (`ulimit -n`), or lower this");
            self.cx.warning(&fields.key("maxConnections"), message);
        }
        connections as usize
    }
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
