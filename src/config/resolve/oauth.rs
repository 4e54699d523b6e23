//! `proxy.auth` with `"kind": "oauth"`: the gateway as an authorization server of its own.

use std::{net::SocketAddr, sync::Arc};

use url::{Host, Url};

use crate::config::{
    oauth::{OauthClient, OauthConfig, Registration, ScopeTags},
    read::{context::Context, fields::Fields, reader::ReadText},
    report::problem::Location,
    resolve::{
        bind::{self, BaseUrl},
        callers::{NO_SCOPE, is_scope},
    },
    snapshot::{HostPattern, Snapshot},
};

/// The keys that have no effect without `"kind": "oauth"`.
const KEYS: [&str; 13] = [
    "issuer",
    "tokenTtl",
    "refreshTokenTtl",
    "refreshTokenScopes",
    "refreshReuseGrace",
    "registration",
    "redirectSchemes",
    "requireResource",
    "advertiseTags",
    "scopeTags",
    "scopeValidation",
    "clients",
    "idJag",
];

/// What the keys say.
#[derive(Debug, Default)]
pub(crate) struct ReadOauth {
    /// `"kind": "oauth"`.
    pub(crate) is_on: bool,
    issuer: Option<(Url, ReadText)>,
    has_issuer: bool,
    kind_at: Location,
    config: Option<OauthConfig>,
    /// Whether `clients` are an object, or there are none.
    are_clients_clear: bool,
    /// The same of `idJag`.
    is_id_jag_clear: bool,
}

impl ReadOauth {
    /// Every client of which the entry is known; `None` if that cannot be known.
    pub(super) fn remaining_clients(&self) -> Option<&[OauthClient]> {
        self.config.as_ref().filter(|_| self.are_clients_clear).map(|config| &*config.clients)
    }

    /// Every pair of `idJag` that is known; `None` if that cannot be known.
    pub(super) fn remaining_id_jag(&self) -> Option<&[(Arc<str>, Arc<str>)]> {
        self.config.as_ref().filter(|_| self.is_id_jag_clear).map(|config| &*config.id_jag)
    }

    /// The clients that are callers of their own, if the keys count.
    pub(crate) fn callers(&self) -> impl Iterator<Item = &OauthClient> {
        let clients = self.config.as_ref().filter(|_| self.is_on).map(|config| &config.clients);
        clients.into_iter().flatten().filter(|client| client.is_caller())
    }

    /// Whether a client gets tokens though nobody logs in.
    pub(crate) fn has_machines(&self) -> bool {
        let has_pairs = self.config.as_ref().is_some_and(|config| !config.id_jag.is_empty());
        self.is_on && has_pairs || self.callers().next().is_some()
    }
}

/// Whether it is `"kind": "oauth"`.
pub(super) fn is_on(auth: &Fields<'_>, is_ours: bool) -> bool {
    let kind = auth.get("kind").and_then(|node| node.literal());
    is_ours && kind.is_some_and(|kind| kind.eq_ignore_ascii_case("oauth"))
}

/// Reads the keys, whatever the kind is, but for clients. `is_ours`: whether it is one that there is. `redirect_schemes`, `clients` and
/// `id_jag`: what those keys say.
pub(super) fn read(
    cx: &mut Context<'_>,
    auth: &Fields<'_>,
    is_ours: bool,
    redirect_schemes: Vec<String>,
    clients: Vec<OauthClient>,
    id_jag: Vec<(Arc<str>, Arc<str>)>,
) -> ReadOauth {
    let is_on = is_on(auth, is_ours);
    if is_ours && !is_on {
        for name in KEYS.into_iter().filter(|name| auth.has(name)) {
            cx.notice(
                &auth.key(name),
                "has no effect without `\"kind\": \"oauth\"`; write that, or remove it",
            );
        }
    }
    let issuer = auth.text(cx, "issuer").and_then(|text| Some((issuer(cx, &text)?, text)));
    let duration = |cx: &mut Context<'_>, name, default| auth.duration(cx, name).unwrap_or(default);
    let config = OauthConfig {
        base: Arc::default(),
        issuer: Arc::default(),
        own_hosts: Vec::new(),
        token_ttl: duration(cx, "tokenTtl", OauthConfig::TOKEN_TTL),
        refresh_token_ttl: duration(cx, "refreshTokenTtl", OauthConfig::REFRESH_TOKEN_TTL),
        refresh_token_scopes: scopes(cx, auth, "refreshTokenScopes").unwrap_or_default(),
        refresh_reuse_grace: duration(cx, "refreshReuseGrace", OauthConfig::REFRESH_REUSE_GRACE),
        registration: registration(cx, auth),
        require_resource: auth.bool(cx, "requireResource").unwrap_or_default(),
        advertise_tags: auth.bool(cx, "advertiseTags").unwrap_or_default(),
        scope_tags: match auth.word(cx, "scopeTags") {
            Some("any") => ScopeTags::Any,
            _ => ScopeTags::All,
        },
        offers_tags: auth.bool(cx, "scopeValidation").unwrap_or(true),
        clients,
        id_jag,
        idp: None,
        redirect_schemes,
    };
    if config.advertise_tags && !config.offers_tags {
        let message = "has no effect beside `\"scopeValidation\": false`, by which tags are not offered; remove one of them";
        cx.notice(&auth.key("advertiseTags"), message);
    }
    if config.refresh_token_ttl < config.token_ttl {
        let message =
            "is shorter than `tokenTtl`, so that a token outlives what would renew it; make it longer";
        cx.warning(&auth.key("refreshTokenTtl"), message);
    }
    ReadOauth {
        is_on,
        issuer,
        has_issuer: auth.has("issuer"),
        kind_at: auth.key("kind"),
        config: Some(config),
        are_clients_clear: auth.get("clients").is_none_or(|node| node.is_object()),
        is_id_jag_clear: auth.get("idJag").is_none_or(|node| node.is_object()),
    }
}

/// What the keys make of the gateway, if they are to. `has_callers`: whether anybody is named who could log in, and `has_issuers`:
/// who comes without that. `settings`: what the rest of `proxy` says.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    proxy: &Fields<'_>,
    read: &ReadOauth,
    (has_callers, has_issuers): (bool, bool),
    base: Option<&BaseUrl>,
    settings: &Snapshot,
) -> Option<OauthConfig> {
    let ReadOauth { is_on, issuer, has_issuer, kind_at, config, .. } = read;
    if !is_on {
        return None;
    }
    if !has_callers && !read.has_machines() {
        let message = match has_issuers {
            false => {
                "needs somebody who can log in; add `users`, `tokens`, or an `idp`, or a client with the grant \"client_credentials\""
            }
            true => {
                "needs somebody who can log in; add `users`, `tokens`, or an `idp`, or write \"bearer_token\": who comes with a token of one of \
                 `issuers` does not log in here"
            }
        };
        cx.error(kind_at, message);
    }
    let Some(BaseUrl { url: base_url, text }) = base else {
        if proxy.lacks(&["baseUrl"]) {
            let message = format!(
                "needs `proxy.baseUrl`, by which clients find the gateway and compare what their tokens are for, such as {:?}",
                base_to_write(proxy, &settings.addr)
            );
            cx.error(kind_at, message);
        }
        return None;
    };
    if !is_safe(base_url) {
        let message = "is http://, and with `\"kind\": \"oauth\"` passwords and tokens would cross the network in the clear; write \
                       https://, or use a loopback address";
        cx.error(&text.at, message);
    }
    if base_url.path() != "/" {
        let message = "has a path, which cannot be with `\"kind\": \"oauth\"`: clients look for the gateway's metadata at the root; \
                       end it after the host and port";
        cx.error(&text.at, message);
    }
    let base: Arc<str> = text.value.trim().trim_end_matches('/').into();
    let issuer = match issuer {
        Some((url, text)) => {
            let hosts = &settings.allowed_hosts;
            let is_here = hosts.iter().any(|host| is_of(url, host));
            if !is_here && !hosts.is_empty() {
                let message = match proxy.has("allowedHosts") {
                    true => {
                        "is at a host that is none of `proxy.allowedHosts`, so no client would find the gateway there; set \
                         `proxy.baseUrl` to it and add the host to those, or remove this"
                    }
                    false => {
                        "is at another host than `proxy.baseUrl`, so no client would find the gateway there; set \
                         `proxy.baseUrl` to it, or remove this"
                    }
                };
                cx.error(&text.at, message);
            } else if url.origin() != base_url.origin() {
                let message = "is at another origin than `proxy.baseUrl`, and clients look for the gateway at both; set \
                               `proxy.baseUrl` to it, or remove this, unless both lead here";
                cx.warning(&text.at, message);
            }
            text.value.as_str().into()
        }
        None if *has_issuer => return None,
        None => Arc::clone(&base),
    };
    let named =
        [&*base, &*issuer].into_iter().filter_map(|url| Some(Url::parse(url).ok()?.host_str()?.to_owned()));
    let allowed = settings.allowed_hosts.iter().map(|host| host.host.clone());
    let plain = |host: String| host.trim_matches(['[', ']', '.']).to_ascii_lowercase();
    let own_hosts = named.chain(allowed).map(plain).collect();
    Some(OauthConfig { base, issuer, own_hosts, ..config.clone()? })
}

/// A `baseUrl` that would be right for a gateway of which nobody but this machine knows, and else one to write one's own after.
fn base_to_write(proxy: &Fields<'_>, addresses: &[SocketAddr]) -> String {
    let scheme = if proxy.has("tls") { "https" } else { "http" };
    match addresses.first().filter(|addr| addr.ip().is_loopback() && addr.port() != 0) {
        Some(addr) => Url::parse(&format!("{scheme}://{addr}"))
            .map_or_else(|_| String::new(), |url| url.origin().ascii_serialization()),
        None => "https://mcp.example.com".into(),
    }
}

/// Whether tokens may be sent there: it is https, or on this machine.
pub(super) fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Whether it is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn is_of(url: &Url, pattern: &HostPattern) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    pattern.host == "*"
        || pattern.host == host && pattern.port.is_none_or(|port| url.port_or_known_default() == Some(port))
}

fn issuer(cx: &mut Context<'_>, text: &ReadText) -> Option<Url> {
    let url = bind::http_url(cx, &text.value, &text.at)?;
    if url.path() != "/" || url.query().is_some() || text.value.contains(char::is_whitespace) {
        let message = "has more than scheme, host and port, and clients would look for its metadata where the gateway has none; end it \
                       after those";
        return cx.refuse(&text.at, message);
    }
    if !is_safe(&url) {
        return cx.refuse(
            &text.at,
            "is http://, over which no client is to log in; write https://, or use a loopback address",
        );
    }
    Some(url)
}

pub(super) fn scopes(cx: &mut Context<'_>, fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let mut scopes = Vec::new();
    for text in fields.texts(cx, name)? {
        match is_scope(&text.value) {
            true => scopes.push(text.value),
            false => cx.error(&text.at, NO_SCOPE),
        }
    }
    Some(scopes)
}

/// `redirectSchemes`: what stands before the colon of redirects to programs.
pub(super) fn redirect_schemes(cx: &mut Context<'_>, auth: &Fields<'_>) -> Vec<String> {
    /// What a browser would do something else with than to open a program.
    const OTHERS: [&str; 12] = [
        "http",
        "https",
        "javascript",
        "data",
        "file",
        "blob",
        "about",
        "vbscript",
        "ftp",
        "ws",
        "wss",
        "view-source",
    ];
    let mut schemes = Vec::new();
    for text in auth.texts(cx, "redirectSchemes").unwrap_or_default() {
        let mut bytes = text.value.bytes();
        let is_scheme = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte));
        if !is_scheme {
            cx.error(
                &text.at,
                "is no scheme; write what stands before the colon, in small letters, as in \"cursor\"",
            );
        } else if OTHERS.contains(&&*text.value) {
            cx.error(&text.at, "is no scheme of a program; remove it (`https`, and `http` to the user's own machine, may be redirected to anyway)");
        } else {
            schemes.push(text.value);
        }
    }
    schemes
}

fn registration(cx: &mut Context<'_>, auth: &Fields<'_>) -> Registration {
    const WORDS: &str =
        "is neither \"open\" nor \"off\"; use one of them, or a list of hosts, as in [\"claude.ai\"]";
    let Some(node) = auth.get("registration") else { return Registration::Open };
    let Some(nodes) = node.elements() else {
        if node.literal().is_none() && !node.is_object() {
            node.expected::<()>(cx, "\"open\", \"off\" or a list of hosts, as in [\"claude.ai\"]");
            return Registration::Off;
        }
        let Some(text) = node.string(cx) else { return Registration::Off };
        match &*text.value.to_ascii_lowercase() {
            "open" => return Registration::Open,
            "off" => {}
            _ => cx.error(&text.at, WORDS),
        }
        return Registration::Off;
    };
    let mut hosts = Vec::new();
    for node in nodes {
        let Some(text) = node.string(cx) else { continue };
        let written = text.value.to_ascii_lowercase();
        // Another port is another site. That of `https` is never said.
        let site = written.strip_suffix(":443").unwrap_or(&written);
        let (host, port) = site.split_once(':').map_or((site, None), |(host, port)| (host, Some(port)));
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        let is_port =
            |port: &str| port.parse().is_ok_and(|number: u16| number != 0 && number.to_string() == port);
        if matches!(site, "open" | "off") {
            cx.error(&text.at, "stands alone, and not in a list: \"registration\": \"open\"");
        } else if !is_host || !port.is_none_or(is_port) {
            cx.error(
                &text.at,
                "is no host; write its name alone, as in \"claude.ai\", with a port if it is not that of https",
            );
        } else {
            hosts.push(site.to_owned());
        }
    }
    Registration::Hosts(hosts)
}
