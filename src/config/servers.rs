//! `mcpServers`: what stands behind the gate, and who may reach it.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use url::Url;

use super::{
    bind, hint, inline,
    key::{Found, Given, Here, Map, Named, PathText, Variant},
    problem::Place,
    reader::{Context, Text},
    snapshot::{Access, HttpTarget, Server, StdioTarget, Target, ToolFilter, Transport},
    table::{CommandKeys, FilterMode, InlineKeys, ServerKeys, ToolFilterKeys, TransportType, UrlKeys},
    tls,
    tokens::{Auth, words},
};
use crate::{mcp::walk::MAX_TEXT, secret::Secret};

/// First segments of the gate's own paths: a server of that name could not be reached.
pub(super) const RESERVED_NAMES: &[&str] = &[
    "mcp",
    "sse",
    "message",
    "messages",
    "health",
    "status",
    "servers",
    "auth",
    "metrics",
    "debug",
    "oauth",
    "authorize",
    "token",
    "register",
    "revoke",
    "api",
    "my",
];

/// Headers that belong to the connection or to the protocol, so that a fixed value would break requests.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept",
    "last-event-id",
];

/// The servers, each with the place of its name. `idle_timeout` is that of servers which have none of their own.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    servers: Map<ServerKeys>,
    auth: &Auth,
    idle_timeout: Duration,
) -> Vec<(Place, Server)> {
    let mut resolved = Vec::new();
    for Named { name, key, value } in servers.entries {
        if !is_name(&name) {
            cx.error(&key, "a server's name has 1 to 64 letters, digits, - or _, because it is part of its URL; rename it");
        } else if RESERVED_NAMES.contains(&&*name) {
            cx.error(&key, format!("`/{name}` is a path of the gate's own; give the server another name"));
        }
        // Each part notes its own problems; the server is kept only if all are good, which `load` checks.
        let Some(keys) = value else { continue };
        if let Some(server) = server(cx, name.into(), keys, auth, idle_timeout) {
            resolved.push((key, server));
        }
    }
    resolved
}

fn server(
    cx: &mut Context<'_>,
    name: Arc<str>,
    keys: ServerKeys,
    auth: &Auth,
    idle_timeout: Duration,
) -> Option<Server> {
    let access = access(cx, &keys, auth);
    let ServerKeys { here, http, stdio, inline, transport, tags, settings, idle_timeout: own, options, .. } = keys;
    let filter = options.and_then(|options| options.tool_filter);
    let tool_filter = filter.and_then(|keys| tool_filter(cx, keys)).map(Arc::new);
    let target = target(cx, &here, &transport, http, stdio, inline)?;
    let idle_timeout = own.unwrap_or(idle_timeout);
    Some(Server { name, target, access, settings: settings.0, tags: words(&tags), idle_timeout, tool_filter })
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn target(
    cx: &mut Context<'_>,
    here: &Here,
    transport: &Given<TransportType>,
    http: Variant<UrlKeys>,
    stdio: Variant<CommandKeys>,
    inline: Given<InlineKeys>,
) -> Option<Target> {
    let mut without_effect = |keys: &[Place], kind: &str| {
        for key in keys {
            cx.notice(key, format!("has no effect on a server with {kind}; remove it"));
        }
    };
    match (http.keys, stdio.keys, inline.found()) {
        (Some(keys), None, None) => {
            without_effect(&stdio.stray, "a `url`");
            self::http(cx, keys, transport).map(Target::Http)
        }
        (None, Some(keys), None) => {
            without_effect(&http.stray, "a `command`");
            self::stdio(cx, keys, transport).map(Target::Stdio)
        }
        (None, None, Some(_)) => {
            without_effect(&http.stray, "`inline`");
            without_effect(&stdio.stray, "`inline`");
            if let Some((found, TransportType::StreamableHttp | TransportType::Sse | TransportType::Stdio)) = transport.both() {
                cx.error(&found.at, "a server with `inline` is \"inline\"; write that, or remove this");
            }
            inline::resolve(cx, inline.value?).map(Target::Inline)
        }
        (None, None, None) => {
            if !here.has_unknown {
                cx.error(
                    &here.at,
                    "needs a `url` (a server reached over HTTP), a `command` (a program to run) or `inline` (tools that run commands)",
                );
            }
            None
        }
        (Some(_), _, Some(found)) => one_or_the_other(cx, found, "url"),
        (None, Some(_), Some(found)) => one_or_the_other(cx, found, "command"),
        (Some(_), Some(keys), None) => one_or_the_other(cx, keys.command.found()?, "url"),
    }
}

fn one_or_the_other(cx: &mut Context<'_>, found: &Found, other: &str) -> Option<Target> {
    cx.error(&found.key, format!("cannot stand beside `{other}`; a server has one or the other"));
    None
}

fn http(cx: &mut Context<'_>, keys: UrlKeys, transport: &Given<TransportType>) -> Option<HttpTarget> {
    let url = keys.url.value.and_then(|text| bind::http_url(cx, &text.value, &text.at));
    let headers = headers(cx, keys.headers);
    let ca_pem = ca_file(cx, &keys.ca_file, url.as_ref());
    let transport = match transport.both() {
        Some((_, TransportType::StreamableHttp)) => Some(Transport::StreamableHttp),
        Some((_, TransportType::Sse)) => Some(Transport::Sse),
        Some((found, TransportType::Stdio)) => {
            cx.error(&found.at, "stdio needs a `command`; a `url` takes \"streamable-http\" or \"sse\"");
            return None;
        }
        Some((found, TransportType::Inline)) => {
            cx.error(&found.at, "inline needs `inline`; a `url` takes \"streamable-http\" or \"sse\"");
            return None;
        }
        None => None,
    };
    let url = url?;
    let transport = transport.unwrap_or_else(|| match url.path().trim_end_matches('/').ends_with("/sse") {
        true => Transport::Sse,
        false => Transport::StreamableHttp,
    });
    let pass_query = keys.pass_query.unwrap_or(url.query().is_none());
    Some(HttpTarget { url, transport, headers, ca_pem, pass_query, cookies: keys.cookies })
}

fn headers(cx: &mut Context<'_>, listed: Map<Text>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for Named { name, key, value } in listed.entries {
        let value = value.and_then(|text| header_value(cx, &text, &name));
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            cx.error(&key, "is no header name; use letters, digits and -, as in \"X-Team\"");
            continue;
        };
        // As servers read it that make one name of `-` and `_`.
        let read = name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        if RESERVED_HEADERS.contains(&&*read) || read.starts_with("mcp-") {
            cx.error(&key, "is set by the gate for every request; remove it");
        } else if headers.iter().any(|(known, _)| *known == name) {
            cx.error(&key, "is there twice, because header names ignore case; keep one of them");
        } else if let Some(value) = value {
            headers.push((name, value));
        }
    }
    headers
}

fn header_value(cx: &mut Context<'_>, text: &Text, name: &str) -> Option<HeaderValue> {
    if name.eq_ignore_ascii_case("authorization") {
        cx.note_secret(text);
    }
    let Ok(mut value) = HeaderValue::from_str(&text.value) else {
        cx.error(&text.at, "has a line break or another character that no header may have; remove it");
        return None;
    };
    value.set_sensitive(true);
    Some(value)
}

fn ca_file(cx: &mut Context<'_>, ca_file: &Given<PathText>, url: Option<&Url>) -> Option<Arc<[u8]>> {
    if let Some(found) = ca_file.found()
        && url.is_some_and(|url| url.scheme() == "http")
    {
        cx.notice(&found.at, "has no effect on an http:// URL; write https://, or remove it");
    }
    let PathText(path) = ca_file.value.as_ref()?;
    let pem = cx.read(&path.value, &path.at)?.bytes;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in tls::certificates(cx, &pem, &path.at)? {
        if roots.add(certificate).is_err() {
            cx.error(
                &path.at,
                "holds a certificate that cannot be a trust anchor; give the CA's certificate",
            );
            return None;
        }
    }
    Some(pem.into())
}

fn stdio(cx: &mut Context<'_>, keys: CommandKeys, transport: &Given<TransportType>) -> Option<StdioTarget> {
    if let Some((found, TransportType::StreamableHttp | TransportType::Sse | TransportType::Inline)) =
        transport.both()
    {
        cx.error(&found.at, "a `command` speaks \"stdio\"; remove this, or give a `url` instead");
    }
    let env = environment(cx, keys.env);
    let cwd = keys.cwd.value.and_then(|PathText(text)| {
        let cwd = cx.beside_config(&text.value);
        if !cwd.is_dir() {
            cx.error(&text.at, "is no directory that can be entered; create it, or correct the path");
            return None;
        }
        Some(cwd)
    });
    Some(StdioTarget {
        command: keys.command.value?.value,
        args: keys.args.into_iter().map(|text| Secret::new(text.value)).collect(),
        env,
        cwd,
        inherit_env: keys.inherit_env.into_iter().map(|text| text.value).collect(),
    })
}

/// Whether this is the name or path of a program.
pub(super) fn check_program(cx: &mut Context<'_>, _: &Found, command: &Text) {
    if command.value.trim().is_empty() || command.value.contains('\0') {
        cx.error(&command.at, "is no program; write its name or path");
    }
}

pub(super) fn environment(cx: &mut Context<'_>, listed: Map<Text>) -> Vec<(String, Secret)> {
    let mut variables = Vec::new();
    for Named { name, key, value } in listed.entries {
        if name.is_empty() || name.contains(['=', '\0']) {
            cx.error(&key, "is no variable name; use letters, digits and _");
        }
        match value {
            Some(text) if text.value.contains('\0') => {
                cx.error(&text.at, "holds a zero byte, which no variable can; remove it");
            }
            Some(text) => variables.push((name, Secret::new(text.value))),
            None => {}
        }
    }
    variables
}

fn access(cx: &mut Context<'_>, keys: &ServerKeys, auth: &Auth) -> Access {
    let own = &keys.auth_tokens;
    let nested = keys.options.as_ref().map(|options| &options.auth_tokens).filter(|nested| nested.is_there());
    let listed = match nested {
        Some(nested) if own.is_there() => {
            if let Some(found) = nested.found() {
                cx.error(&found.at, "is the same as the server's `authTokens`; keep one of them");
            }
            own
        }
        nested => nested.unwrap_or(own),
    };
    let tokens = listed.is_there().then(|| token_names(cx, listed.value.as_deref().unwrap_or_default(), auth));
    let roles = keys.roles.is_there().then(|| words(keys.roles.value.as_deref().unwrap_or_default()));

    if keys.public {
        for found in [listed.found(), keys.roles.found()].into_iter().flatten() {
            cx.error(&found.at, "cannot stand beside `public: true`, which lets anyone in; keep one of them");
        }
        return Access::Public;
    }
    match (tokens, roles) {
        (None, None) => Access::AnyToken,
        (tokens, roles) => Access::Only { tokens, roles },
    }
}

fn tool_filter(cx: &mut Context<'_>, keys: ToolFilterKeys) -> Option<ToolFilter> {
    let allows = keys.mode.value.map(|mode| mode == FilterMode::Allow);
    let (found, names) = keys.list.both()?;
    for name in names {
        if name.value.is_empty() || name.value.len() > MAX_TEXT {
            cx.error(&name.at, format!("is no name of a tool; write 1 to {MAX_TEXT} bytes"));
        }
    }
    let allows = allows?;
    if names.is_empty() {
        cx.warning(
            &found.at,
            if allows {
                "hides every tool of this server; name those to allow"
            } else {
                "hides no tool; name some, or remove the filter"
            },
        );
    }
    Some(ToolFilter { allows, list: names.iter().map(|name| name.value.as_str().into()).collect() })
}

fn token_names(cx: &mut Context<'_>, listed: &[Text], auth: &Auth) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    for text in listed {
        let Some(known) = &auth.names else { continue };
        match known.iter().find(|name| ***name == *text.value) {
            Some(name) => names.push(name.clone()),
            None => {
                let shown = text.shown();
                let message = match hint::closest(&text.value, known.iter().map(AsRef::as_ref)) {
                    Some(near) => format!("{shown} is not in proxy.auth.tokens; did you mean {near:?}?"),
                    None => format!("{shown} is not in proxy.auth.tokens; add it there, or remove it here"),
                };
                cx.error(&text.at, message);
            }
        }
    }
    names
}

/// Warns of servers that no credential opens: safe, and seldom meant.
pub(super) fn warn_of_closed(cx: &mut Context<'_>, servers: &[(Place, Server)], auth: &Auth) {
    let live: Vec<_> =
        auth.credentials.iter().filter(|held| held.expires.is_none_or(|end| end > cx.now)).collect();
    for (key, server) in servers {
        let open = match &server.access {
            Access::Public => true,
            Access::AnyToken => !live.is_empty(),
            Access::Only { tokens, roles } => live.iter().any(|held| {
                tokens.as_ref().is_none_or(|names| names.contains(&held.token_name))
                    && roles.as_ref().is_none_or(|roles| roles.iter().any(|role| held.roles.contains(role)))
            }),
        };
        if !open {
            let message = if auth.credentials.is_empty() {
                "nobody can use this server, because there is no token; add one to proxy.auth.tokens, or set `public: true`"
            } else {
                "nobody can use this server, because no valid token meets its `authTokens` and `roles`; name one that does"
            };
            cx.warning(key, message);
        }
    }
}
