//! `proxy.limits`: what depends on the machine or on other keys.

use super::{
    key::{Found, Given},
    reader::Context,
    table::Limits,
};

/// Descriptors for what is no client connection: listeners, log, config and its watcher, pipes to children, and connections
/// beyond the limit, which are accepted for the sake of health checks.
const RESERVED_FILES: u64 = 128;
/// Most connections by default, however many descriptors there are: some 300 MiB of idle TLS connections.
const MOST_BY_DEFAULT: u64 = 10_000;

/// `proxy.sessions.maxPerUser` is another name for `perCaller.sessions`.
pub(super) fn add_max_per_user(cx: &mut Context<'_>, limits: &mut Limits, max_per_user: &Given<u64>) {
    let Some(found) = max_per_user.found() else { return };
    let sessions = &mut limits.per_caller.sessions;
    if sessions.is_some() {
        cx.error(&found.at, "is the same as `proxy.limits.perCaller.sessions`; keep one of them");
    } else {
        *sessions = max_per_user.value;
    }
}

/// The default of `maxConnections`.
pub(super) fn most_connections() -> usize {
    room().min(MOST_BY_DEFAULT) as usize
}

/// Whether there are descriptors for all of `maxConnections`.
pub(super) fn enough_files(cx: &mut Context<'_>, found: &Found, max_connections: &usize) {
    let room = room();
    if *max_connections as u64 > room {
        let message =
            format!("the open file limit leaves room for {room}; raise it (`ulimit -n`), or lower this");
        cx.warning(&found.key, message);
    }
}

/// How many client connections there are descriptors for: half of them, because each may need one to an upstream. By
/// default there may be as many requests.
pub(super) fn room() -> u64 {
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
