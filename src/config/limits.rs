//! `proxy.limits`: what one peer may cost.

use std::time::Duration;

use super::{
    keys,
    reader::{Context, Fields, Node},
    snapshot::Limits,
};

/// Descriptors for what is no connection: listeners, log, config and its watcher, pipes to children.
const RESERVED_FILES: u64 = 64;
/// Most connections by default, however many descriptors there are: some 300 MiB of idle TLS connections.
const MOST_BY_DEFAULT: u64 = 10_000;
/// Least a time-out may be: shorter ones would refuse honest peers.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads the limits that are set; the others have their defaults.
pub(super) fn resolve(cx: &mut Context<'_>, node: Option<&Node<'_>>) -> Limits {
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
        max_sessions: reader.count("maxSessions", 1, 1_000_000, 1_000) as usize,
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

    fn connections(&mut self) -> usize {
        // Half, because each client's connection may need one to an upstream.
        let room = (open_files().saturating_sub(RESERVED_FILES) / 2).max(1);
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
