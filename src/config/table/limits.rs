//! `proxy.limits`.

use super::secs;
use crate::config::table::key::{
    Absent::{Duration, Empty, Means, Number},
    Object, TIMEOUT, ValueKind, bytes, count, key,
};

/// As many as there may be.
const MANY: u64 = 10_000_000;

pub(in crate::config) static LIMITS: Object = Object {
    name: "limits",
    doc: "What one peer may cost.",
    one_of: &[],
    keys: &[
        key(
            "maxConnections",
            count(1, MANY),
            Means("a quarter of the open file limit, at most 10000"),
            "Open client connections. Beyond it, see [capacity](capacity.md).",
        ),
        key(
            "tlsHandshakeTimeout",
            TIMEOUT,
            Duration(secs(10)),
            "From accept to the end of the TLS handshake.",
        ),
        key(
            "headerTimeout",
            TIMEOUT,
            Duration(secs(10)),
            "From the first wait for a request to the end of its head.",
        ),
        key(
            "bodyTimeout",
            TIMEOUT,
            Duration(secs(30)),
            "Longest silence of a client in the middle of a request body.",
        ),
        key(
            "smallBodyTimeout",
            TIMEOUT,
            Duration(secs(30)),
            "Longest time for all of a request body of at most 64 KiB by its `Content-Length`. Such a body is here as a whole \
             before the server hears of it.",
        ),
        key(
            "minBodyRate",
            bytes(0, 1 << 40),
            Number(1 << 10),
            "Bytes a second that any other request body must bring, taken over 10 s, or over `bodyTimeout` if that is \
             shorter; 0 is any.",
        ),
        key(
            "slowReaderTimeout",
            TIMEOUT,
            Duration(secs(30)),
            "Longest time a client may take no byte while some wait for it. On Linux, the system itself gives a client up that \
             takes nothing for 50 s, whatever this says.",
        ),
        key("connectTimeout", TIMEOUT, Duration(secs(5)), "Connection to a server, TLS included."),
        key(
            "upstreamTimeout",
            TIMEOUT,
            Duration(secs(60)),
            "From the complete request to the server's response head. A server's `timeout` wins.",
        ),
        // hyper's read buffer is 8 KiB at least.
        key("maxHeaderBytes", bytes(8 << 10, 1 << 20), Number(32 << 10), "Request line and headers."),
        // `http::Uri` ends at 65,534 bytes.
        key("maxUriBytes", bytes(256, 65_534), Number(8 << 10), "Request target."),
        key(
            "maxBodyBytes",
            bytes(0, u64::MAX),
            Number(0),
            "Request body; 0 is unlimited, which costs no memory because bodies are streamed. Where \
             [messages pass](servers.md#transports), never more than 4 MiB.",
        ),
        key(
            "maxSessions",
            count(1, 1_000_000),
            Number(1_000),
            "Sessions that the gateway itself keeps (command servers, bridged transports, the aggregate) and calls \
             with a process of their own (`logLevel`), each perhaps a process. Views of the aggregate count, too.",
        ),
        key(
            "maxProcesses",
            count(1, 1_000_000),
            Means("what a quarter of the open file limit is enough for, 5 each, at most 1000"),
            "Processes of command servers and inline tools.",
        ),
        // Each may need a connection to a server.
        key(
            "maxRequests",
            count(1, MANY),
            Means("a quarter of the open file limit"),
            "Admitted requests that run, streams included.",
        ),
        // One for streams, one for what has no answer, and two for requests.
        key(
            "maxServerConnections",
            count(4, MANY),
            Means("a quarter of the open file limit"),
            "Connections to servers of sessions that the gateway itself keeps: half for requests that wait for an answer, \
             a quarter for streams on which servers speak unasked, a quarter for what has no answer. Of each one \
             caller has at most `perCaller.requests`.",
        ),
        // Less would not hold two messages.
        key(
            "maxHeldBytes",
            bytes(16 << 20, 1 << 40),
            Number(128 << 20),
            "Messages and events that wait in memory, where [messages pass](servers.md#transports). At the limit \
             the gateway stops reading.",
        ),
        key("perCaller", ValueKind::Object(&PER_CALLER), Empty, "What one caller may have at most."),
        key(
            "perAddress",
            ValueKind::Object(&PER_ADDRESS),
            Empty,
            "What one address may cost before it was admitted.",
        ),
    ],
};

const ANY: ValueKind = count(0, u64::MAX);

static PER_CALLER: Object = Object {
    name: "perCaller",
    doc: "What one caller (a token name, or an address without a token) may have at most, whatever is free. 0 leaves it \
          to what is free and to the share that is kept for others, see [capacity](capacity.md).",
    one_of: &[],
    keys: &[
        key("connections", ANY, Number(0), "Connections with an admitted request."),
        key(
            "sessions",
            ANY,
            Means("`proxy.sessions.maxPerUser`, or `0`"),
            "Sessions that the gateway keeps.",
        ),
        key("processes", ANY, Number(0), "Processes that run for the caller alone."),
        key("requests", ANY, Number(0), "Requests that run, streams included."),
        key("heldBytes", bytes(0, u64::MAX), Number(0), "Messages and events that wait in memory."),
    ],
};

static PER_ADDRESS: Object = Object {
    name: "perAddress",
    doc: "What one address (IPv6: one /64) may cost before it was admitted. Of a connection that one of \
          `trustedProxies` begins with PROXY protocol version 2, it is the address that the proxy names.",
    one_of: &[],
    keys: &[
        key(
            "connections",
            count(1, MANY),
            Number(256),
            "Connections that have not had an admitted request. A further one closes another one.",
        ),
        key(
            "handshakes",
            count(1, MANY),
            Number(64),
            "Those of them whose TLS handshakes have a turn. A further one waits for its turn.",
        ),
    ],
};
