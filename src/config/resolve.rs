//! The document as a whole: reads every key, and makes a snapshot if all that they say together is good.

use super::{
    aggregate, bind,
    key::{Anything, Found, Object, read_object},
    limits,
    reader::{Context, Node, Text},
    servers,
    snapshot::{Server, Snapshot},
    table::{ProxyKeys, RootKeys},
    tls, tokens,
};
use crate::secret::Secret;

/// Characters that `sessionKey` must have: as many as the MAC it keys has bytes.
const SESSION_KEY_LENGTH: usize = 32;

/// `None` if anything was an error. `cx.files` is complete in any case.
pub(super) fn resolve(cx: &mut Context<'_>, root: &Node<'_>) -> Option<Snapshot> {
    let root: RootKeys = read_object(cx, root)?;
    // An absent `proxy` is one in which everything has its default.
    let proxy = match root.proxy.is_there() {
        true => root.proxy.value,
        false => Some(ProxyKeys::empty(&root.here.at.key("proxy", root.here.at.offset))),
    };
    let auth = proxy.as_ref().map(|proxy| tokens::resolve(cx, &proxy.auth)).unwrap_or_default();
    let idle_timeout = proxy.as_ref().map_or(Server::IDLE_TIMEOUT, |proxy| proxy.sessions.timeout);
    let at = root.servers.found().map(|found| found.at.clone());
    let servers = root.servers.value.map(|servers| servers::resolve(cx, servers, &auth, idle_timeout));
    let admin_key = proxy.as_ref().and_then(|proxy| proxy.admin.found()).map(|found| found.key.clone());
    let snapshot = proxy.and_then(|proxy| gate(cx, proxy));
    let (at, servers, mut snapshot) = (at?, servers?, snapshot?);
    if cx.failed() {
        return None;
    }

    if servers.is_empty() {
        cx.warning(&at, "is empty, so there is nothing behind the gate; add a server");
    }
    servers::warn_of_closed(cx, &servers, &auth);
    snapshot.query_token = auth.query_token;
    snapshot.credentials = auth.credentials;
    if let Some(key) = admin_key {
        bind::warn_of_locked_admin(cx, &key, &snapshot);
    }
    snapshot.servers = servers.into_iter().map(|(_, server)| server).collect();
    snapshot.files.clone_from(&cx.files);
    Some(snapshot)
}

/// Everything in `proxy` but `auth`; the parts of the snapshot that come from elsewhere are left empty.
fn gate(cx: &mut Context<'_>, proxy: ProxyKeys) -> Option<Snapshot> {
    let base_url = bind::base_url(cx, &proxy.base_url);
    let addr = bind::listen(cx, &proxy);
    let allowed_hosts = bind::allowed_hosts(cx, &proxy, base_url.as_ref(), addr.as_deref());
    let tls = proxy.tls.value.and_then(|keys| tls::resolve(cx, keys, &allowed_hosts));
    let allowed_origins = bind::allowed_origins(cx, proxy.allowed_origins, base_url.as_ref());
    let admin = proxy.admin.value.and_then(|keys| bind::admin(cx, keys, addr.as_deref().unwrap_or_default()));
    let trusted_proxies = bind::networks(cx, proxy.trusted_proxies);
    let mut settings = proxy.settings.0;
    limits::add_max_per_user(cx, &mut settings.limits, &proxy.sessions.max_per_user);
    let aggregate = aggregate::resolve(cx, proxy.aggregate);
    let addr = addr?;
    Some(Snapshot {
        settings,
        base_url,
        loopback_origins: addr.iter().all(|addr| addr.ip().is_loopback()),
        addr,
        tls,
        query_token: false,
        credentials: Vec::new(),
        allowed_hosts,
        allowed_origins,
        trusted_proxies,
        admin,
        aggregate,
        servers: Vec::new(),
        files: Vec::new(),
    })
}

pub(super) fn check_version(cx: &mut Context<'_>, _: &Found, version: &Text) {
    if version.value.starts_with("v0.0.1-DEV_EDITION") {
        cx.notice(&version.at, "is read as version \"1.0\"; write that");
    } else if version.value != "1.0" {
        let shown = version.shown();
        cx.error(&version.at, format!("{shown} is not a version that this gate knows; write \"1.0\""));
    }
}

pub(super) fn check_name(cx: &mut Context<'_>, found: &Found, name: &String) {
    if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
        cx.error(
            &found.at,
            "must be 1 to 256 characters on one line, because a header carries it; shorten it",
        );
    }
}

pub(super) fn check_session_key(cx: &mut Context<'_>, found: &Found, key: &Secret) {
    if key.expose().chars().count() < SESSION_KEY_LENGTH {
        cx.error(
            &found.at,
            format!("must have at least {SESSION_KEY_LENGTH} characters; `openssl rand -base64 32` makes a good one"),
        );
    }
}

pub(super) fn note_cleanup(cx: &mut Context<'_>, found: &Found, _: &Anything) {
    cx.notice(&found.key, "has no effect, because sessions end on time without it; remove it");
}
