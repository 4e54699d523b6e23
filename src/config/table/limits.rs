//! `proxy.limits`.

use std::time::Duration;

use crate::config::{
    key::{ANY, MILLISECOND, bytes, duration, keys, number, object, or, secs},
    limits::{enough_files, most_connections, room},
};

keys! {
    /// What one peer may cost.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limits {
        /// Open client connections. Beyond it, see [capacity](../README.md#capacity).
        pub max_connections: usize = number("maxConnections", 1, 10_000_000, 0)
            .computed("half of what the open file limit leaves, at most 10000", most_connections)
            .check(enough_files),
        /// From accept to the end of the TLS handshake.
        pub tls_handshake_timeout: Duration = duration("tlsHandshakeTimeout", MILLISECOND, secs(10)),
        /// From the first wait for a request to the end of its head.
        pub header_timeout: Duration = duration("headerTimeout", MILLISECOND, secs(10)),
        /// Longest silence of a client in the middle of a request body.
        pub body_timeout: Duration = duration("bodyTimeout", MILLISECOND, secs(30)),
        /// Longest time a client may take no byte while some wait for it.
        pub slow_reader_timeout: Duration = duration("slowReaderTimeout", MILLISECOND, secs(30)),
        /// Connection to a server, TLS included.
        pub connect_timeout: Duration = duration("connectTimeout", MILLISECOND, secs(5)),
        /// From the complete request to the server's response head. A server's `timeout` wins.
        pub upstream_timeout: Duration = duration("upstreamTimeout", MILLISECOND, secs(60)),
        // hyper's read buffer is 8 KiB at least.
        /// Request line and headers.
        pub max_header_bytes: usize = bytes("maxHeaderBytes", 8 << 10, 1 << 20, 32 << 10),
        // `http::Uri` ends at 65,534 bytes.
        /// Request target.
        pub max_uri_bytes: usize = bytes("maxUriBytes", 256, 65_534, 8 << 10),
        /// Request body; 0 is unlimited, which costs no memory because bodies are streamed. Where
        /// [messages pass](../README.md#any-transport), never more than 4 MiB.
        pub max_body_bytes: u64 = bytes("maxBodyBytes", 0, ANY, 0),
        /// Sessions that the gate itself keeps (command servers, bridged transports, all servers as one) and calls with a
        /// process of their own (`logLevel`), each perhaps a process. Views of all servers as one count, too.
        pub max_sessions: u64 = number("maxSessions", 1, 1_000_000, 1_000),
        /// Processes of command servers and inline tools.
        pub max_processes: u64 = number("maxProcesses", 1, 1_000_000, 1_000),
        /// Admitted requests that run, streams included.
        pub max_requests: u64 = number("maxRequests", 1, 10_000_000, 0)
            .computed("half of what the open file limit leaves", room),
        // Less would not hold two messages.
        /// Messages and events that wait in memory, where [messages pass](../README.md#any-transport). At the limit the
        /// gate stops reading.
        pub max_held_bytes: u64 = bytes("maxHeldBytes", 16 << 20, 1 << 40, 128 << 20),
        /// What one caller may have at most.
        pub per_caller: PerCaller = object("perCaller"),
        /// What one address may cost before it was admitted.
        pub per_address: PerAddress = object("perAddress"),
    }
}

keys! {
    /// What one caller (a token name, or an address without a token) may have at most, whatever is free. 0 leaves it to
    /// what is free and to the share that is kept for others, see [capacity](../README.md#capacity).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PerCaller {
        /// Connections with an admitted request.
        pub connections: u64 = number("connections", 0, ANY, 0),
        /// Sessions that the gate keeps.
        pub sessions: Option<u64> = number("sessions", 0, ANY, or("`proxy.sessions.maxPerUser`, or 0")),
        /// Processes that run for the caller alone.
        pub processes: u64 = number("processes", 0, ANY, 0),
        /// Requests that run, streams included.
        pub requests: u64 = number("requests", 0, ANY, 0),
        /// Messages and events that wait in memory.
        pub held_bytes: u64 = bytes("heldBytes", 0, ANY, 0),
    }
}

keys! {
    /// What one address (IPv6: one /64) may cost before it was admitted.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PerAddress {
        /// Connections that have not had an admitted request.
        pub connections: usize = number("connections", 1, 10_000_000, 256),
    }
}
