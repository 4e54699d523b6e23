//! The document as a whole: reads every part, and makes a snapshot if all of them are good.

use std::time::Duration;

use super::{
    aggregate, bind, keys, limits,
    reader::{Context, Fields, Node},
    servers,
    snapshot::{Level, Log, LogFormat, Server, Snapshot},
    tls, tokens,
};
use crate::secret::Secret;

/// Characters that `sessionKey` must have: as many as the MAC it keys has bytes.
const SESSION_KEY_LENGTH: usize = 32;
/// Threads; more than any machine has cores is a typing error.
const MOST_WORKERS: u64 = 1024;

/// `None` if anything was an error. `cx.files` is complete in any case.
pub(super) fn resolve(cx: &mut Context<'_>, root: &Node<'_>) -> Option<Snapshot> {
    let fields = root.object(cx, keys::ROOT)?;
    if let Some(node) = fields.get("$schema") {
        node.string(cx);
    }
    version(cx, &fields);
    // An absent `proxy` is one in which everything has its default.
    let proxy = match fields.get("proxy") {
        Some(node) => node.object(cx, keys::PROXY),
        None => Some(Fields::empty(root.at.key("proxy", root.at.offset))),
    };
    let auth = match &proxy {
        Some(proxy) => tokens::resolve(cx, proxy.get("auth").as_ref()),
        None => tokens::Auth::default(),
    };
    let server_fields = match fields.get("mcpServers") {
        Some(node) => node.map(cx),
        None => {
            if !fields.has_unknown {
                let at = root.at.key("mcpServers", root.at.offset);
                cx.error(
                    &at,
                    "is missing; list the servers behind the gate, as in { \"docs\": { \"url\": \"…\" } }",
                );
            }
            None
        }
    };
    let idle_timeout = sessions(cx, proxy.as_ref().and_then(|proxy| proxy.get("sessions")).as_ref());
    let servers = server_fields.as_ref().map(|fields| servers::resolve(cx, fields, &auth, idle_timeout));
    let settings = proxy.as_ref().and_then(|proxy| settings(cx, proxy));
    let (server_fields, servers, mut snapshot) = (server_fields?, servers?, settings?);
    if cx.failed() {
        return None;
    }

    if servers.is_empty() {
        cx.warning(&server_fields.at, "is empty, so there is nothing behind the gate; add a server");
    }
    servers::warn_of_closed(cx, &server_fields, &servers, &auth);
    snapshot.query_token = auth.query_token;
    snapshot.credentials = auth.credentials;
    if let Some(proxy) = &proxy {
        bind::warn_of_locked_admin(cx, proxy, &snapshot);
    }
    snapshot.servers = servers;
    snapshot.files.clone_from(&cx.files);
    Some(snapshot)
}

fn version(cx: &mut Context<'_>, fields: &Fields<'_>) {
    let Some(text) = fields.get("version").and_then(|node| node.string(cx)) else { return };
    if text.value.starts_with("v0.0.1-DEV_EDITION") {
        cx.notice(&text.at, "is read as version \"1.0\"; write that");
    } else if text.value != "1.0" {
        cx.error(&text.at, format!("{} is not a version that this gate knows; write \"1.0\"", text.shown()));
    }
}

/// Everything in `proxy` but `auth`; the parts of the snapshot that come from elsewhere are left empty.
fn settings(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Option<Snapshot> {
    let errors = cx.errors();
    let name = name(cx, proxy);
    let base_url = bind::base_url(cx, proxy);
    let tls_node = proxy.get("tls");
    let addr = bind::listen(cx, proxy, tls_node.is_some());
    let allowed_hosts = bind::allowed_hosts(cx, proxy, base_url.as_ref(), addr.as_deref());
    let tls = tls_node.and_then(|node| tls::resolve(cx, &node, &allowed_hosts));
    let allowed_origins = bind::allowed_origins(cx, proxy, base_url.as_ref());
    let admin =
        proxy.get("admin").and_then(|node| bind::admin(cx, &node, addr.as_deref().unwrap_or_default()));
    let max_per_user = proxy.get("sessions").and_then(|node| node.field("maxPerUser"));
    let limits = limits::resolve(cx, proxy.get("limits").as_ref(), max_per_user.as_ref());
    let trusted_proxies =
        proxy.get("trustedProxies").map(|node| bind::networks(cx, &node)).unwrap_or_default();
    let grace = proxy.get("shutdownGrace").and_then(|node| node.duration(cx, Duration::ZERO));
    let workers = proxy.get("workers").and_then(|node| node.number(cx, 0, MOST_WORKERS)).unwrap_or(0);
    let log = log(cx, proxy.get("log").as_ref());
    let session_key = proxy.get("sessionKey").and_then(|node| session_key(cx, &node));
    let aggregate = aggregate::resolve(cx, proxy.get("aggregate").as_ref());
    let debug = proxy.get("debug").and_then(|node| node.bool(cx)).unwrap_or(false);
    if cx.errors() > errors {
        return None;
    }

    let addr = addr?;
    Some(Snapshot {
        name,
        base_url,
        loopback_origins: addr.iter().all(|addr| addr.ip().is_loopback()),
        addr,
        tls,
        query_token: false,
        credentials: Vec::new(),
        allowed_hosts,
        allowed_origins,
        limits,
        trusted_proxies,
        shutdown_grace: grace.unwrap_or(Duration::from_secs(30)),
        workers: match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers as usize,
        },
        admin,
        log,
        session_key,
        debug,
        aggregate,
        servers: Vec::new(),
        files: Vec::new(),
    })
}

fn name(cx: &mut Context<'_>, proxy: &Fields<'_>) -> String {
    let Some(text) = proxy.get("name").and_then(|node| node.string(cx)) else { return "Sluicegate".into() };
    if text.value.is_empty() || text.value.len() > 256 || text.value.contains(char::is_control) {
        cx.error(
            &text.at,
            "must be 1 to 256 characters on one line, because a header carries it; shorten it",
        );
    }
    text.value
}

fn log(cx: &mut Context<'_>, node: Option<&Node<'_>>) -> Log {
    let mut log = Log { level: Level::Info, format: LogFormat::Json };
    let Some(fields) = node.and_then(|node| node.object(cx, keys::LOG)) else { return log };
    if let Some(text) = fields.get("level").and_then(|node| node.string(cx)) {
        match text.value.to_lowercase().as_str() {
            "debug" => log.level = Level::Debug,
            "info" => log.level = Level::Info,
            "warn" | "warning" => log.level = Level::Warn,
            "error" => log.level = Level::Error,
            _ => cx.error(&text.at, format!("{} is no level; use debug, info, warn or error", text.shown())),
        }
    }
    if let Some(text) = fields.get("format").and_then(|node| node.string(cx)) {
        match text.value.to_lowercase().as_str() {
            "json" => log.format = LogFormat::Json,
            "text" => log.format = LogFormat::Text,
            _ => cx.error(&text.at, format!("{} is no format; use json or text", text.shown())),
        }
    }
    log
}

/// `proxy.sessions`, where MCP Front has the idle time-out of all servers. `maxPerUser` is read as a limit; nothing here needs
/// `cleanupInterval`.
fn sessions(cx: &mut Context<'_>, node: Option<&Node<'_>>) -> Duration {
    let Some(fields) = node.and_then(|node| node.object(cx, keys::SESSIONS)) else {
        return Server::IDLE_TIMEOUT;
    };
    if fields.get("cleanupInterval").is_some() {
        let message = "has no effect, because sessions end on time without it; remove it";
        cx.notice(&fields.key("cleanupInterval"), message);
    }
    let timeout = fields.get("timeout").and_then(|node| node.duration(cx, servers::LEAST_IDLE));
    timeout.unwrap_or(Server::IDLE_TIMEOUT)
}

fn session_key(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    let text = node.string(cx)?;
    if text.value.chars().count() < SESSION_KEY_LENGTH {
        cx.error(
            &text.at,
            format!("must have at least {SESSION_KEY_LENGTH} characters; `openssl rand -base64 32` makes a good one"),
        );
        return None;
    }
    if text.origin == super::reference::Origin::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Secret::new(text.value))
}
