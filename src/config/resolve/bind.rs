//! Where the gateway listens, and under which names and origins it may be called.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::{
    access::ADMIN,
    read::{context::Context, fields::Fields, reader::ReadText},
    report::problem::Location,
    snapshot::{HostPattern, Server, Snapshot},
    upstream_auth::UpstreamAuth,
};

/// Which addresses a port alone means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This machine only; any other address is refused.
    Loopback,
    /// Every interface.
    Everywhere,
}

/// `proxy.addr`. `None` after an error.
pub(crate) fn listen(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Option<Vec<SocketAddr>> {
    let has_tls = proxy.has("tls");
    let allow_plain = proxy.bool(cx, "allowPlainHttp").unwrap_or_default();
    if allow_plain && has_tls {
        cx.notice(&proxy.key("allowPlainHttp"), "has no effect beside `tls`; remove one of them");
    }
    let reach = if has_tls || allow_plain { Reach::Everywhere } else { Reach::Loopback };
    let (text, at) = match proxy.has("addr") {
        true => proxy.text(cx, "addr").map(|text| (text.value, text.at))?,
        false => ((if has_tls { ":8443" } else { ":8080" }).to_owned(), proxy.key("addr")),
    };
    match addresses(&text, reach) {
        Ok(addresses)
            if reach == Reach::Loopback && !addresses.iter().all(|addr| addr.ip().is_loopback()) =>
        {
            cx.refuse(
                &at,
                "tokens would cross the network in the clear; add `tls`, listen on 127.0.0.1, or set \
                 `allowPlainHttp: true` if a balancer in front ends TLS",
            )
        }
        Ok(addresses) => {
            if addresses.iter().any(|addr| addr.port() == 0) {
                cx.notice(
                    &at,
                    "port 0 is one that the system chooses, another at each start; the log says which",
                );
            }
            if !has_tls {
                let reach = if allow_plain { "" } else { ", on this machine only" };
                cx.notice(&at, format!("serves plain HTTP{reach}; add `tls` for HTTPS"));
            }
            Some(addresses)
        }
        Err(message) => cx.refuse(&at, message),
    }
}

/// `proxy.admin.addr`. `None` if absent or after an error.
pub(crate) fn admin(cx: &mut Context<'_>, fields: &Fields<'_>, public: &[SocketAddr]) -> Option<SocketAddr> {
    if fields.lacks(&["addr"]) {
        cx.error(&fields.at, "needs an `addr`, such as \"127.0.0.1:9090\"");
    }
    let text = fields.text(cx, "addr")?;
    match addresses(&text.value, Reach::Loopback).map(|addresses| addresses[0]) {
        Ok(addr) if addr.port() != 0 && public.contains(&addr) => {
            cx.refuse(&text.at, "is also an address of `proxy.addr`; take another port")
        }
        Ok(addr) => {
            if !addr.ip().is_loopback() {
                cx.warning(
                    &text.at,
                    "serves plain HTTP to other machines: tokens of the roles `admin` and `metrics` cross the network in \
                     the clear; keep it in a network that you trust, or use 127.0.0.1",
                );
            }
            Some(addr)
        }
        Err(message) => cx.refuse(&text.at, message),
    }
}

/// Warns of an admin listener that asks for a token of a role which no token has.
pub(crate) fn warn_of_locked_admin(cx: &mut Context<'_>, proxy: &Fields<'_>, snapshot: &Snapshot) {
    let is_remote = snapshot.admin.is_some_and(|addr| !addr.ip().is_loopback());
    let opens = |role: &String| role == ADMIN || role == "metrics";
    let of_users = snapshot.users.iter().filter(|user| !user.disabled).flat_map(|user| &user.roles);
    let of_tokens = snapshot.credentials.iter().flat_map(|credential| &credential.roles);
    let mut roles = of_tokens.chain(of_users).chain(roles_of_others(snapshot));
    if is_remote && !roles.any(opens) {
        cx.warning(
            &proxy.key("admin"),
            "asks for a token of the role `admin` or `metrics`, because other machines can connect, and no token or user has \
             one; give `roles` to one of `auth.tokens`",
        );
    }
}

/// Warns of servers with one account for all callers, which nobody may connect.
pub(crate) fn warn_of_no_admin(cx: &mut Context<'_>, root: &Fields<'_>, snapshot: &Snapshot) {
    let is_shared =
        |server: &&Server| matches!(server.upstream_auth.as_deref(), Some(UpstreamAuth::SharedOauth(_)));
    let Some(server) = snapshot.servers.iter().find(is_shared) else { return };
    let of_users = snapshot.users.iter().filter(|user| !user.disabled).flat_map(|user| &user.roles);
    let of_tokens = snapshot.credentials.iter().flat_map(|credential| &credential.roles);
    let of_people = snapshot.assignments.iter().flat_map(|assignment| &assignment.roles);
    if !of_tokens.chain(of_users).chain(of_people).any(|role| role == ADMIN) {
        let message = format!(
            "has `{}`, with one account for all callers (`shared_oauth`), which somebody with the role `admin` connects, and nobody has \
             that; give `roles` to one of `auth.users` or `auth.tokens`, or write \"user_oauth\", by which each connects their own",
            server.name
        );
        cx.warning(&root.key("mcpServers"), message);
    }
}

/// What those may have who come with tokens of others.
fn roles_of_others(snapshot: &Snapshot) -> impl Iterator<Item = &String> {
    let of_some = snapshot.assignments.iter().filter(|_| !snapshot.issuers.is_empty());
    of_some.flat_map(|assignment| &assignment.roles)
}

/// `/debug` is for a while, and for somebody.
pub(crate) fn warn_of_debug(cx: &mut Context<'_>, proxy: &Fields<'_>, snapshot: &Snapshot) {
    if !snapshot.debug {
        return;
    }
    let is_admin = |role: &String| role == "admin";
    let has_reader = snapshot.admin.is_some_and(|addr| addr.ip().is_loopback())
        || snapshot.credentials.iter().any(|credential| credential.roles.iter().any(is_admin))
        || roles_of_others(snapshot).any(is_admin);
    let at = proxy.key("debug");
    match has_reader {
        true => cx.notice(&at, "serves `/debug` to the role `admin`; remove it once it is not needed"),
        false => cx.warning(
            &at,
            "serves `/debug` to nobody, because no token has the role `admin`; give `roles` to one of `auth.tokens`, or \
             set `admin` to an address of this machine",
        ),
    }
}

/// The socket addresses that `text` means; at least one.
fn addresses(text: &str, reach: Reach) -> Result<Vec<SocketAddr>, String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(vec![addr]);
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| text.parse::<IpAddr>().is_err()) else {
        return Err("has no port; write \":8443\", \"127.0.0.1:8443\" or \"[::1]:8443\"".into());
    };
    let port: u16 =
        port.parse().map_err(|_| "needs a port from 1 to 65535 after the last colon, as in \":8443\"")?;
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| Ok(vec![(v4, port).into(), (v6, port).into()]);
    match (host, reach) {
        ("localhost", _) | ("", Reach::Loopback) => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        ("", Reach::Everywhere) => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        _ => Err("needs an IP address before the port; write \":8443\" for all, \"127.0.0.1:8443\" or \
                  \"[::1]:8443\" for one (of names only localhost is known)"
            .into()),
    }
}

/// A list of addresses, or of networks as in `10.0.0.0/8`. If they may not be all that there are, `not_all` says why.
pub(crate) fn networks(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    not_all: Option<&'static str>,
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in fields.texts(cx, name).unwrap_or_default() {
        let one = text.value.parse::<IpAddr>().map(IpNet::from);
        match (one.or_else(|_| text.value.parse::<IpNet>()), not_all) {
            (Ok(network), Some(why)) if network.prefix_len() == 0 => cx.error(&text.at, why),
            (Ok(network), _) => networks.push(network),
            (Err(_), _) => cx.error(
                &text.at,
                "is no address or network; write it as in \"10.0.0.7\", \"10.0.0.0/8\" or \"fd00::/8\"",
            ),
        }
    }
    networks
}

/// `proxy.baseUrl`.
pub(crate) struct BaseUrl {
    /// What it is.
    pub(crate) url: Url,
    /// As it is written.
    pub(crate) text: ReadText,
}

/// `proxy.baseUrl`.
pub(crate) fn base_url(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Option<BaseUrl> {
    let text = proxy.text(cx, "baseUrl")?;
    let url = http_url(cx, &text.value, &text.at)?;
    if url.query().is_some() {
        return cx.refuse(&text.at, "takes no query; end it after the host and port");
    }
    if url.path() != "/" {
        cx.notice(&text.at, "the path has no effect; the gateway's own paths start at the root");
    }
    Some(BaseUrl { url, text })
}

/// Warns of a URL of the gateway that does not fit what it speaks. Its certificate, its origins and what clients are
/// sent follow from that URL.
pub(crate) fn warn_of_scheme(cx: &mut Context<'_>, proxy: &Fields<'_>, base_url: Option<&Url>) {
    let (Some(url), Some(node)) = (base_url, proxy.get("baseUrl")) else { return };
    // A balancer in front is declared by one of these.
    let is_behind = proxy.has("trustedProxies") || proxy.has("allowPlainHttp");
    match (url.scheme(), proxy.has("tls")) {
        ("http", true) => cx.warning(&node.at, "is http://, and with `tls` the gateway speaks HTTPS only; write https://"),
        ("https", false) if !is_behind => cx.warning(
            &node.at,
            "is https://, and without `tls` the gateway speaks plain HTTP; add `tls`, or name the balancer that ends TLS in \
             `trustedProxies`",
        ),
        _ => {}
    }
}

/// An absolute `http` or `https` URL with a host and nothing that does not belong into a request.
pub(crate) fn http_url(cx: &mut Context<'_>, text: &str, at: &Location) -> Option<Url> {
    // The text is never shown: a URL that does not parse may hold a password.
    let message = match Url::parse(text) {
        Err(error) => {
            use url::ParseError as E;
            let what = match error {
                E::RelativeUrlWithoutBase => "must start with http:// or https://",
                E::EmptyHost => "has no host",
                E::InvalidPort => "has a port that is none (1 to 65535)",
                _ if text.trim().contains(char::is_whitespace) => "has a space in it",
                E::InvalidIpv4Address | E::InvalidIpv6Address => "has an IP address that is none",
                _ => "has a host that is none",
            };
            format!("{what}; write it as in \"https://host.example:8443/mcp\"")
        }
        Ok(url) if url.scheme() == "file" => {
            "is a file, which is a command here: \"command\": \"node\", \"args\": [\"PATH\"]".into()
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            "must start with http:// or https://, as in \"https://host.example/mcp\"".into()
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "has a user name or password in it; send credentials with an `Authorization` header instead"
                .into()
        }
        Ok(url) if url.fragment().is_some() => "has a #fragment, which no server would see; remove it".into(),
        Ok(url) if url.port() == Some(0) => {
            "has port 0, where nothing can listen; write the real port".into()
        }
        Ok(url) => return Some(url),
    };
    cx.refuse(at, message)
}

/// `proxy.allowedHosts`, or what follows from `baseUrl` and the addresses (`None` if those are not known).
pub(crate) fn allowed_hosts(
    cx: &mut Context<'_>,
    proxy: &Fields<'_>,
    base_url: Option<&Url>,
    addresses: Option<&[SocketAddr]>,
) -> Vec<HostPattern> {
    if let Some(node) = proxy.get("allowedHosts") {
        let mut hosts = Vec::new();
        for text in node.strings(cx).unwrap_or_default() {
            match host_pattern(&text.value) {
                Ok(host) => hosts.push(host),
                Err(message) => cx.error(&text.at, message),
            }
        }
        if node.elements().is_some_and(|elements| elements.is_empty()) {
            cx.warning(&node.at, "is empty, so every request is refused; name the hosts that clients use");
        }
        return hosts;
    }
    let mut hosts: Vec<HostPattern> =
        base_url.and_then(Url::host).map(|host| pattern(&host, None)).into_iter().collect();
    let Some(addresses) = addresses else { return hosts };
    if addresses.iter().all(|addr| addr.ip().is_loopback()) {
        for host in loopback_names() {
            if !hosts.iter().any(|known| known.host == host) {
                hosts.push(HostPattern { host, port: None });
            }
        }
    } else if hosts.is_empty() && !proxy.has("baseUrl") {
        cx.error(
            &proxy.key("allowedHosts"),
            "is needed when others than this machine can connect; set `baseUrl` to the URL that clients use, \
                       or list the host names here",
        );
    }
    hosts
}

/// The names of this machine to itself.
pub(crate) fn loopback_names() -> [String; 3] {
    ["localhost", "127.0.0.1", "::1"].map(str::to_owned)
}

fn pattern(host: &Host<impl AsRef<str>>, port: Option<u16>) -> HostPattern {
    let host = match host {
        Host::Domain(name) => name.as_ref().trim_end_matches('.').to_owned(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    HostPattern { host, port }
}

fn host_pattern(text: &str) -> Result<HostPattern, &'static str> {
    const SHAPE: &str =
        "is no host; write a name, an IP address or either with a port, as in \"mcp.example.com\"";
    if text == "*" {
        return Ok(HostPattern { host: text.to_owned(), port: None });
    }
    if text.contains('*') {
        return Err("a * inside a name is not supported; list the names");
    }
    if text.contains("//") {
        return Err("is a URL; write only its host, as in \"mcp.example.com\"");
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(HostPattern { host: ip.to_string(), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port.parse::<u16>().map_err(|_| SHAPE)?)),
        _ => (text, None),
    };
    // `Host::parse` would decode percent signs, and a browser would not send them.
    if host.contains(['%', '@']) {
        return Err(SHAPE);
    }
    Ok(pattern(&Host::parse(host).map_err(|_| SHAPE)?, port))
}

/// `proxy.allowedOrigins` and the gateway's own.
pub(crate) fn allowed_origins(
    cx: &mut Context<'_>,
    proxy: &Fields<'_>,
    base_url: Option<&Url>,
) -> Vec<String> {
    let mut origins: Vec<String> =
        base_url.map(|url| url.origin().ascii_serialization()).into_iter().collect();
    let mut seen: HashSet<String> = origins.iter().cloned().collect();
    for text in proxy.texts(cx, "allowedOrigins").unwrap_or_default() {
        match origin(&text.value) {
            Ok(origin) => {
                if origin == "*" {
                    cx.warning(
                        &text.at,
                        "any website may call from its visitors' browsers; list those you trust",
                    );
                }
                if seen.insert(origin.clone()) {
                    origins.push(origin);
                }
            }
            Err(message) => cx.error(&text.at, message),
        }
    }
    origins
}

fn origin(text: &str) -> Result<String, &'static str> {
    const SHAPE: &str = "is no origin; write scheme, host and port only, as in \"https://app.example.com\"";
    match text {
        "*" => return Ok(text.to_owned()),
        "null" => return Err("would allow any sandboxed page; list the origins that you trust"),
        _ => {}
    }
    let url = Url::parse(text).map_err(|_| SHAPE)?;
    let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !url.has_host() || !is_plain || !url.username().is_empty() || url.password().is_some() {
        return Err(SHAPE);
    }
    let origin = url.origin();
    match origin.is_tuple() {
        true => Ok(origin.ascii_serialization()),
        // Editors and browser extensions have schemes of their own: `vscode-webview://id`.
        false => Ok(url.as_str().trim_end_matches('/').to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, reach: Reach) -> String {
        match addresses(text, reach) {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(message) => message,
        }
    }

    #[test]
    fn a_port_alone_stands_for_both_families() {
        assert_eq!(shown(":8443", Reach::Everywhere), "0.0.0.0:8443 [::]:8443");
        assert_eq!(shown(":8080", Reach::Loopback), "127.0.0.1:8080 [::1]:8080");
        assert_eq!(shown("localhost:0", Reach::Everywhere), "127.0.0.1:0 [::1]:0");
        assert_eq!(shown("[::1]:80", Reach::Loopback), "[::1]:80");
    }

    #[test]
    fn an_address_that_is_none_says_what_to_write() {
        for (text, told) in [
            ("8443", "has no port"),
            ("127.0.0.1", "has no port"),
            ("::1", "has no port"),
            ("", "has no port"),
            (":http", "needs a port"),
            (":65536", "needs a port"),
            ("gate.example.com:8443", "needs an IP address"),
        ] {
            assert!(
                shown(text, Reach::Everywhere).contains(told),
                "{text}: {}",
                shown(text, Reach::Everywhere)
            );
        }
    }

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (text, host, port) in [
            ("MCP.Example.com", "mcp.example.com", None),
            ("mcp.example.com.:8443", "mcp.example.com", Some(8443)),
            ("[::1]:80", "::1", Some(80)),
            ("[0:0::1]", "::1", None),
            ("::1", "::1", None),
            ("bücher.example", "xn--bcher-kva.example", None),
            ("*", "*", None),
        ] {
            assert_eq!(host_pattern(text), Ok(HostPattern { host: host.into(), port }), "{text}");
        }
        for text in ["", "*.example.com", "https://a.example", "a/b", "a:b", "a%2eb", "u@h", "[::1", "a b"] {
            assert!(host_pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (text, sent) in [
            ("https://App.Example.com:443/", "https://app.example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("vscode-webview://abc", "vscode-webview://abc"),
            ("*", "*"),
        ] {
            assert_eq!(origin(text), Ok(sent.to_owned()), "{text}");
        }
        for text in [
            "null",
            "app.example.com",
            "https://a.example/x",
            "https://a.example?x",
            "mailto:a@b",
            "https://u@h",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
