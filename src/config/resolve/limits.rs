//! `proxy.limits`: what one peer may cost.

use rustix::process::{Resource, getrlimit};

use crate::config::{
    read::{context::Context, fields::Fields},
    snapshot::{Limits, PerAddress, PerCaller},
};

/// Descriptors for what is no client connection: listeners, log, config and its watcher, pipes to children, and connections
/// beyond the limit, which are accepted for the sake of health checks.
const RESERVED_FILES: u64 = 128;
/// Most connections by default, however many descriptors there are: some 300 MiB of idle TLS connections.
const MOST_BY_DEFAULT: u64 = 10_000;
/// Most requests by default, for a limit of open files that is none.
const MOST_REQUESTS_BY_DEFAULT: u64 = 1_000_000;
const MOST_PROCESSES_BY_DEFAULT: u64 = 1_000;
/// One for streams, one for what has no answer, and two for requests.
pub(crate) const LEAST_SERVER_CONNECTIONS: u64 = 4;
/// Descriptors that a process takes: its three pipes, its pidfd, and one more while it starts.
const FILES_OF_PROCESS: u64 = 5;

/// What is not good is noted, and its value does not matter any more.
///
/// `sessions` is `proxy.sessions`.
pub(crate) fn resolve(cx: &mut Context<'_>, proxy: &Fields<'_>, sessions: &Fields<'_>) -> Limits {
    let fields = proxy.object_or_empty(cx, "limits");
    let per_caller = per_caller(cx, &fields, sessions);
    let per_address = fields.object_or_empty(cx, "perAddress");
    let files = open_files();
    let mut or_share = |name, each, most| match fields.has(name) {
        true => fields.number(cx, name).unwrap_or_default(),
        false => share(files, each).min(most),
    };
    let max_connections = or_share("maxConnections", 1, MOST_BY_DEFAULT);
    let max_requests = or_share("maxRequests", 1, MOST_REQUESTS_BY_DEFAULT);
    let max_processes = or_share("maxProcesses", FILES_OF_PROCESS, MOST_PROCESSES_BY_DEFAULT);
    let max_server_connections =
        or_share("maxServerConnections", 1, MOST_REQUESTS_BY_DEFAULT).max(LEAST_SERVER_CONNECTIONS);
    let limits = [
        ("maxConnections", max_connections, 1),
        ("maxRequests", max_requests, 1),
        ("maxServerConnections", max_server_connections, 1),
        ("maxProcesses", max_processes, FILES_OF_PROCESS),
    ];
    check(cx, &fields, files, limits);
    let mut number = |name| per_address.number(cx, name).unwrap_or_default() as usize;
    let per_address = PerAddress { connections: number("connections"), handshakes: number("handshakes") };
    let number = |cx: &mut Context<'_>, name| fields.number(cx, name).unwrap_or_default();
    let duration = |cx: &mut Context<'_>, name| fields.duration(cx, name).unwrap_or_default();
    Limits {
        max_connections: max_connections as usize,
        tls_handshake_timeout: duration(cx, "tlsHandshakeTimeout"),
        header_timeout: duration(cx, "headerTimeout"),
        body_timeout: duration(cx, "bodyTimeout"),
        small_body_timeout: duration(cx, "smallBodyTimeout"),
        min_body_rate: number(cx, "minBodyRate"),
        slow_reader_timeout: duration(cx, "slowReaderTimeout"),
        connect_timeout: duration(cx, "connectTimeout"),
        upstream_timeout: duration(cx, "upstreamTimeout"),
        max_header_bytes: number(cx, "maxHeaderBytes") as usize,
        max_uri_bytes: number(cx, "maxUriBytes") as usize,
        max_body_bytes: number(cx, "maxBodyBytes"),
        max_sessions: number(cx, "maxSessions"),
        max_processes,
        max_requests,
        max_server_connections,
        max_held_bytes: number(cx, "maxHeldBytes"),
        per_caller,
        per_address,
    }
}

/// Of `sessions` it has MCP Front's name for one of its keys.
fn per_caller(cx: &mut Context<'_>, limits: &Fields<'_>, sessions: &Fields<'_>) -> PerCaller {
    let fields = limits.object_or_empty(cx, "perCaller");
    let most_sessions = match (fields.has("sessions"), sessions.get("maxPerUser")) {
        (false, _) => sessions.number(cx, "maxPerUser"),
        (true, None) => fields.number(cx, "sessions"),
        (true, Some(old)) => {
            cx.refuse(&old.at, "is the same as `proxy.limits.perCaller.sessions`; keep one of them")
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

/// How many there are by default of what takes `each` of the descriptors. They are shared out, so that no use of them can take
/// those of another: a quarter for each of client connections, connections to servers for requests that pass, processes, and
/// connections to servers of sessions.
fn share(files: u64, each: u64) -> u64 {
    (files.saturating_sub(RESERVED_FILES) / 4 / each).max(1)
}

/// Warns if the config allows more than there are.
fn check(cx: &mut Context<'_>, fields: &Fields<'_>, files: u64, limits: [(&str, u64, u64); 4]) {
    let needed = limits.iter().map(|(_, count, each)| count.saturating_mul(*each)).sum::<u64>();
    let needed = needed.saturating_add(RESERVED_FILES);
    let first = limits.iter().find(|(key, ..)| fields.has(key));
    if let Some((key, ..)) = first.filter(|_| needed > files) {
        let message = format!(
            "connections, requests, processes and sessions may need {needed} open files, and the limit is {files}; raise \
             it (`ulimit -n`), or lower them"
        );
        cx.warning(&fields.key(key), message);
    }
}

/// Files that the gateway may have open: what the system grants at most, to which `serve` raises its limit.
fn open_files() -> u64 {
    // Asked without a file: one could not be opened where all are in use, and the answer would be another.
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_there_may_be_by_default_fits_into_the_limit_of_open_files() {
        for files in [64, 256, 1024, 4096, 65_536, 1 << 20] {
            let connections = share(files, 1).min(MOST_BY_DEFAULT);
            let processes = share(files, FILES_OF_PROCESS).min(MOST_PROCESSES_BY_DEFAULT);
            let of_sessions = share(files, 1).max(LEAST_SERVER_CONNECTIONS);
            let needed = connections + share(files, 1) + FILES_OF_PROCESS * processes + of_sessions;
            assert!(files < 2 * RESERVED_FILES || needed + RESERVED_FILES <= files, "{files}: {needed}");
            assert!(connections > 0 && processes > 0);
        }
    }
}
