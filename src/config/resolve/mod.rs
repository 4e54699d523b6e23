//! The document as a whole: reads every part, and makes a snapshot if all of them are good.

pub(super) mod access;
pub(crate) mod aggregate;
mod audit;
pub(crate) mod bind;
pub(crate) mod callers;
mod clients;
pub(super) mod command;
pub(crate) mod idp;
pub(crate) mod inline;
pub(crate) mod issuers;
pub(crate) mod limits;
pub(super) mod oauth;
pub(crate) mod programs;
mod rates;
pub(super) mod remaining;
mod schemes;
pub(crate) mod servers;
mod tenants;
pub(super) mod tls;
pub(crate) mod tokens;
mod upstream_auth;
pub(crate) mod users;
use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::config::{
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText},
    },
    report::foreign,
    resolve::{bind::BaseUrl, remaining::Remaining},
    schemes::Schemes,
    snapshot::{Level, LogConfig, LogFormat, LoginStore, LoginTerms, LostFiles, Server, Snapshot},
    table::ROOT,
};
use crate::secret::Secret;

/// The variable in which systemd names the directory of a unit.
pub const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Characters that `sessionKey` must have: as many as the MAC it keys has bytes.
const SESSION_KEY_LENGTH: usize = 32;

/// The config, unless anything was an error; and what it grants, where that can be known. `cx.files` is complete in any
/// case.
pub(super) fn resolve(cx: &mut Context<'_>, root: &Node<'_>) -> (Option<Snapshot>, Option<Remaining>) {
    let mut remaining = None;
    let snapshot = root.object(cx, &ROOT).and_then(|fields| snapshot(cx, &fields, &mut remaining));
    (snapshot, remaining)
}

fn snapshot(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    remaining: &mut Option<Remaining>,
) -> Option<Snapshot> {
    fields.text(cx, "$schema");
    version(cx, fields);
    // An absent `proxy` is one in which everything has its default.
    let proxy = match fields.has("proxy") {
        true => fields.object(cx, "proxy"),
        false => Some(fields.object_or_empty(cx, "proxy")),
    };
    let of_servers = fields.get("mcpServers").or_else(|| misnamed_servers(fields));
    let names: Vec<&str> =
        of_servers.iter().filter_map(Node::fields).flat_map(|servers| servers.names()).collect();
    let auth = match &proxy {
        Some(proxy) => tokens::resolve(cx, proxy.get("auth").as_ref(), &names),
        None => tokens::Auth::default(),
    };
    let server_fields = match of_servers {
        Some(node) => {
            node.map_as(cx, "an object with a name for each server, as in { \"docs\": { \"url\": \"…\" } }")
        }
        None => {
            if fields.lacks(&["mcpServers"]) {
                cx.error(
                    &fields.key("mcpServers"),
                    "is missing; list the servers behind the gateway, as in { \"docs\": { \"url\": \"…\" } }",
                );
            }
            None
        }
    };
    let sessions = proxy.as_ref().map(|proxy| proxy.object_or_empty(cx, "sessions"));
    let idle_timeout = sessions.as_ref().and_then(|sessions| idle_timeout(cx, sessions));
    let idle_timeout = idle_timeout.unwrap_or(Server::IDLE_TIMEOUT);
    let base = proxy.as_ref().and_then(|proxy| bind::base_url(cx, proxy));
    let servers =
        server_fields.as_ref().map(|fields| servers::resolve(cx, fields, &auth, base.as_ref(), idle_timeout));
    if auth.is_clear && is_clear(fields, proxy.as_ref()) {
        // A list under another name, or an empty one, looks like a mistake.
        let of_servers = servers.as_ref().filter(|it| fields.has("mcpServers") && !it.remaining.is_empty());
        *remaining = Some(Remaining {
            credentials: auth.remaining.clone(),
            users: auth.users.known.clone(),
            issuers: auth.issuers.are_clear.then(|| auth.issuers.known.clone()),
            assignments: auth.issuers.are_assignments_clear.then(|| auth.issuers.assignments.clone()),
            clients: auth.oauth.remaining_clients().map(<[_]>::to_vec),
            idp: auth.idp.remaining(),
            admitted: auth.idp.remaining_admitted(),
            id_jag: auth.oauth.remaining_id_jag().map(<[_]>::to_vec),
            admin_sees_all: auth.may_admin_see_all,
            schemes: auth.may_schemes,
            servers: of_servers.map(|servers| servers.remaining.clone()),
        });
    }
    let settings =
        proxy.as_ref().zip(sessions).map(|(proxy, sessions)| settings(cx, proxy, base.as_ref(), &sessions));
    let mut of_oauth = None;
    if let Some((proxy, settings)) = proxy.as_ref().zip(settings.as_ref()) {
        schemes::refuse_any_origin(cx, proxy, auth.schemes, &settings.allowed_origins);
        let has_base = base.is_some() || !proxy.lacks(&["baseUrl"]);
        issuers::refuse_without_audience(cx, &auth.issuers, has_base);
        let callers = (auth.names_callers(), !auth.issuers.known.is_empty());
        of_oauth = oauth::resolve(cx, proxy, &auth.oauth, callers, base.as_ref(), settings);
        if let Some(of_oauth) = &mut of_oauth {
            of_oauth.idp = idp::resolve(cx, &auth.idp, &of_oauth.base, &auth.issuers.assignments);
        }
    }
    let (server_fields, servers, mut snapshot) = (server_fields?, servers?, settings?);
    if cx.failed() {
        return None;
    }

    if servers.good.is_empty() && servers.lost.is_empty() && !snapshot.allow_empty {
        let message = "is empty, so there is nothing behind the gateway, and a gateway that runs with servers does not take it; \
                       add a server, or set `proxy.allowEmpty: true`";
        cx.warning(&server_fields.at, message);
    }
    let of_auth = proxy.as_ref().map_or_else(|| fields.key("proxy"), |proxy| proxy.key("auth"));
    access::warn_of_access(cx, &server_fields, &of_auth, &servers.good, &auth);
    snapshot.schemes = auth.schemes;
    snapshot.tenant_header = auth.tenant_header;
    snapshot.admin_sees_all = auth.admin_sees_all;
    snapshot.credentials = auth.credentials;
    snapshot.users = auth.users.known;
    (snapshot.issuers, snapshot.assignments) = (auth.issuers.known, auth.issuers.assignments);
    snapshot.login_terms = auth.login_terms.unwrap_or(LoginTerms::DEFAULT);
    snapshot.oauth = of_oauth.map(Arc::new);
    (snapshot.login_store, snapshot.lost.login_keys) = (auth.login_store, auth.lost_login_keys);
    if let Some(proxy) = &proxy {
        bind::warn_of_locked_admin(cx, proxy, &snapshot);
        bind::warn_of_debug(cx, proxy, &snapshot);
    }
    snapshot.session_timeout = idle_timeout;
    snapshot.servers = servers.good;
    bind::warn_of_no_admin(cx, fields, &snapshot);
    snapshot.lost.servers = servers.lost;
    Some(snapshot)
}

/// The servers under a name that other programs have for them, so that all that is wrong with them is reported at once.
fn misnamed_servers<'a>(fields: &Fields<'a>) -> Option<Node<'a>> {
    let is_servers =
        |name| foreign::meaning(ROOT.name, name).is_some_and(|meaning| meaning.key == "mcpServers");
    let (name, _, node) =
        fields.entries().into_iter().find(|(name, _, node)| is_servers(name) && node.is_object())?;
    match name {
        "mcp" => misnamed_servers(&Fields { kind: fields.kind, ..node.fields()? }),
        _ => Some(node),
    }
}

/// Whether the tokens are where they have to be. A slip on the way to them does not take them out.
fn is_clear(root: &Fields<'_>, proxy: Option<&Fields<'_>>) -> bool {
    let leads_on = |fields: &Fields<'_>, key: &str| fields.has(key) || !fields.has_unknown();
    leads_on(root, "proxy") && proxy.is_some_and(|proxy| leads_on(proxy, "auth"))
}

fn version(cx: &mut Context<'_>, fields: &Fields<'_>) {
    let Some(text) = fields.text(cx, "version") else { return };
    if text.value.starts_with("v0.0.1-DEV_EDITION") {
        cx.notice(&text.at, "is read as version \"1.0\"; write that");
    } else if text.value != "1.0" {
        cx.error(
            &text.at,
            format!("{} is not a version that this gateway knows; write \"1.0\"", text.shown()),
        );
    }
}

/// Everything in `proxy` but `auth`; the parts of the snapshot that come from elsewhere are left empty. What is not good is
/// noted, and its value does not matter any more.
fn settings(
    cx: &mut Context<'_>,
    proxy: &Fields<'_>,
    base: Option<&BaseUrl>,
    sessions: &Fields<'_>,
) -> Snapshot {
    let base_url = base.map(|base| &base.url);
    bind::warn_of_scheme(cx, proxy, base_url);
    let addr = bind::listen(cx, proxy);
    let allowed_hosts = bind::allowed_hosts(cx, proxy, base_url, addr.as_deref());
    let addr = addr.unwrap_or_default();
    let state_dir = proxy.get("stateDir").and_then(|node| node.path(cx));
    let state_dir = state_directory(cx, state_dir);
    let tls = proxy.object(cx, "tls");
    let tls = tls.and_then(|tls| tls::resolve(cx, &tls, &allowed_hosts, base_url));
    let admin = proxy.object(cx, "admin");
    let workers = proxy.number(cx, "workers").unwrap_or_default();
    let (session_key, has_session_key) = cx.with_files_as_parts(|cx| session_key(cx, proxy));
    let duration = |cx: &mut Context<'_>, name| proxy.duration(cx, name).unwrap_or_default();
    Snapshot {
        name: name(cx, proxy),
        tls,
        schemes: Schemes::default(),
        tenant_header: None,
        admin_sees_all: false,
        credentials: Vec::new(),
        users: Vec::new(),
        issuers: Vec::new(),
        assignments: Vec::new(),
        login_terms: LoginTerms::DEFAULT,
        login_store: LoginStore::default(),
        oauth: None,
        state_dir,
        allowed_hosts,
        allowed_origins: bind::allowed_origins(cx, proxy, base_url),
        base_url: base_url.cloned(),
        loopback_origins: addr.iter().all(|addr| addr.ip().is_loopback()),
        keep_alive: duration(cx, "keepAlive"),
        limits: limits::resolve(cx, proxy, sessions),
        rate_limits: rates::resolve(cx, proxy),
        trusted_proxies: bind::networks(
            cx,
            proxy,
            "trustedProxies",
            Some("is every address, so that anyone could say whom it speaks for; name your balancers"),
        ),
        shutdown_delay: duration(cx, "shutdownDelay"),
        shutdown_grace: duration(cx, "shutdownGrace"),
        workers: match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers as usize,
        },
        admin: admin.and_then(|admin| bind::admin(cx, &admin, &addr)),
        addr,
        log: log(cx, proxy),
        audit: audit::resolve(cx, proxy),
        session_key,
        aggregate: aggregate::resolve(cx, proxy),
        session_timeout: Server::IDLE_TIMEOUT,
        hash: 0,
        servers: Vec::new(),
        allow_empty: proxy.bool(cx, "allowEmpty").unwrap_or_default(),
        lost: LostFiles { servers: Vec::new(), session_key: !has_session_key, login_keys: false },
        debug: proxy.bool(cx, "debug").unwrap_or_default(),
        redacted: None,
        rules: Arc::default(),
        system_roots: cx.system_roots.clone(),
    }
}

/// Where the gateway keeps what it makes. systemd names a directory of the unit, or several.
fn state_directory(cx: &mut Context<'_>, state_dir: Option<ReadText>) -> PathBuf {
    match state_dir {
        Some(text) => cx.beside_config(&text.value),
        None => match (cx.env)(STATE_DIRECTORY) {
            Some(directories) if !directories.is_empty() => {
                directories.split(':').next().unwrap_or_default().into()
            }
            _ => cx.beside_config("state"),
        },
    }
}

fn name(cx: &mut Context<'_>, proxy: &Fields<'_>) -> String {
    let Some(text) = proxy.text(cx, "name") else { return String::new() };
    if text.value.is_empty() || text.value.len() > 256 || text.value.contains(char::is_control) {
        cx.error(
            &text.at,
            "must be 1 to 256 characters on one line, because a header carries it; shorten it",
        );
    }
    text.value
}

fn log(cx: &mut Context<'_>, proxy: &Fields<'_>) -> LogConfig {
    let fields = proxy.object_or_empty(cx, "log");
    LogConfig {
        level: Level::named(fields.word(cx, "level").unwrap_or_default()),
        format: fields.word(cx, "format").map(LogFormat::named),
    }
}

/// `proxy.sessions`, where MCP Front has the idle time-out of all servers. `maxPerUser` is read as a limit; nothing needs
/// `cleanupInterval`.
fn idle_timeout(cx: &mut Context<'_>, sessions: &Fields<'_>) -> Option<Duration> {
    if sessions.has("cleanupInterval") {
        let message = "has no effect, because sessions end on time without it; remove it";
        cx.notice(&sessions.key("cleanupInterval"), message);
    }
    sessions.duration(cx, "timeout")
}

fn session_key(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Option<Secret> {
    let node = proxy.get("sessionKey")?;
    node.part_of_file(cx, |cx| read_session_key(cx, &node))
}

fn read_session_key(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    let text = node.secret(cx)?;
    if text.value.chars().count() < SESSION_KEY_LENGTH {
        return cx.refuse(
            &text.at,
            format!("must have at least {SESSION_KEY_LENGTH} characters; `openssl rand -base64 32` makes a good one"),
        );
    }
    if text.origin == crate::config::read::reference::TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Secret::new(text.value))
}
