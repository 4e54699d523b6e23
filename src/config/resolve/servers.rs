//! `mcpServers`: what is behind the gateway, and who may reach it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use url::Url;

use crate::config::{
    access::Access,
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText},
        reference::TextSource,
    },
    report::{foreign, hint, problem::Location, shown},
    resolve::{
        access::{access, note_rules, tool_filter, tool_rules},
        bind::{self, BaseUrl},
        callers::words,
        command::{environment, own_variables, program},
        inline,
        programs::{self, Program},
        remaining::RemainingAccess,
        tls,
        tokens::Auth,
        upstream_auth::{self, Around},
    },
    snapshot::{HttpTarget, LostServer, McpTransport, Server, StdioTarget, Target},
    table::{ADMIN, COMMAND, SERVER, SERVER_NAMES, URL},
};
use crate::secret::Secret;

/// What `mcpServers` says.
#[derive(Default)]
pub(crate) struct ResolvedServers {
    pub(crate) good: Vec<Server>,
    pub(crate) lost: Vec<LostServer>,
    /// Every name that is there, and what is certain of who may use the server.
    pub(crate) remaining: HashMap<Arc<str>, RemainingAccess>,
}

/// `idle_timeout` is that of servers which have none of their own. `base`: `proxy.baseUrl`.
pub(crate) fn resolve(
    cx: &mut Context<'_>,
    servers: &Fields<'_>,
    auth: &Auth,
    base: Option<&BaseUrl>,
    idle_timeout: Duration,
) -> ResolvedServers {
    let mut resolved = ResolvedServers::default();
    let mut names = HashMap::new();
    for (name, key, node) in servers.entries() {
        if is_remark(name, &node) {
            continue;
        }
        if !Server::is_name(name) {
            let message =
                "a server's name has 1 to 64 letters, digits, - or _, because it is part of its URL; write";
            let slug = slug(name);
            let proposed = shown::name(&slug).unwrap_or("server");
            cx.error(&key, format!("{message} \"{proposed}\""));
        } else if SERVER_NAMES.reserved.contains(&name) {
            let way_out = format!("a path of the gateway's own; write \"{name}-server\"");
            cx.error(
                &key,
                match name {
                    ADMIN => {
                        format!("`/{name}` has become {way_out}, and `/{name}-server/mcp` in its clients")
                    }
                    _ => format!("`/{name}` is {way_out}"),
                },
            );
        }
        if let Some(other) = names.insert(name.to_ascii_lowercase(), name) {
            cx.notice(
                &key,
                format!(
                    "differs from `{}` in the case of letters only, and so do their paths",
                    shown::name_or_hidden(other)
                ),
            );
        }
        let name: Arc<str> = name.into();
        let grant = resolved.remaining.entry(Arc::clone(&name)).or_insert(RemainingAccess::UNKNOWN);
        if let Some(message) = hint::no_server(&name, node.value) {
            cx.error(&key, message);
            continue;
        }
        let Some(fields) = node.object(cx, &SERVER) else { continue };
        let options = fields.object_or_empty(cx, "options");
        let (access, certain) = access(cx, &fields, &options, auth);
        note_rules(cx, &name, &key, &fields, &options);
        let disabled = fields.bool(cx, "disabled").unwrap_or_default();
        let read_tags = words(cx, &fields, "tags");
        // One that is no list takes nothing away.
        let certain_tags = read_tags.clone().filter(|_| !fields.has_unknown());
        let (tool_rules, certain_rules) = tool_rules(cx, &name, &fields, auth);
        *grant = RemainingAccess { access: certain, disabled, tags: certain_tags, tool_rules: certain_rules };
        let tags = read_tags.unwrap_or_default();
        // Each part notes its own problems; the server is kept only if all are good, which `load` checks.
        let (server, has_files) = cx.with_files_as_parts(|cx| {
            let mut target = target(cx, &fields);
            let around = Around { name: &name, auth, base, is_public: access == Access::Public };
            let upstream_auth = upstream_auth::resolve(cx, &fields, &around, target.as_mut());
            let filter = options.object(cx, "toolFilter");
            let tool_filter = filter.and_then(|fields| tool_filter(cx, &fields)).map(Arc::new);
            let timeout = fields.duration(cx, "timeout");
            let keep_alive = fields.duration(cx, "keepAlive");
            let idle_timeout = fields.duration(cx, "idleTimeout").unwrap_or(idle_timeout);
            let warm = fields.bool(cx, "warm").unwrap_or_default();
            Some(Server {
                name: Arc::clone(&name),
                target: target?,
                access: access.clone(),
                timeout,
                keep_alive,
                disabled,
                tags: tags.clone(),
                idle_timeout,
                tool_filter,
                tool_rules: tool_rules.clone(),
                warm,
                upstream_auth,
            })
        });
        match server {
            Some(server) if has_files => resolved.good.push(server),
            _ if has_files => {}
            _ => resolved.lost.push(LostServer {
                name,
                access,
                tags,
                tool_rules,
                index: resolved.good.len() + resolved.lost.len(),
            }),
        }
    }
    resolved
}

/// Whether this is a comment, in the way of programs whose JSON has none. A name may begin with `_`, so that counts only
/// where there is no server.
fn is_remark(name: &str, node: &Node<'_>) -> bool {
    name.starts_with('_') && !node.is_object()
}

/// What a name that is none could be.
fn slug(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    match parts.join("-") {
        slug if slug.is_empty() || SERVER_NAMES.reserved.contains(&&*slug) => "server".to_owned(),
        slug => slug.chars().take(64).collect(),
    }
}

fn target(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<Target> {
    let declared = transport(cx, fields);
    match (fields.has(URL), fields.has(COMMAND), fields.has("inline")) {
        (true, false, false) => {
            without_effect(cx, fields, Some(URL), "a `url`");
            http(cx, fields, declared).map(Target::Http)
        }
        (false, true, false) => {
            without_effect(cx, fields, Some(COMMAND), "a `command`");
            stdio(cx, fields, declared).map(Target::Stdio)
        }
        (false, false, true) => {
            without_effect(cx, fields, None, "`inline`");
            if let Some((_, at)) = declared.filter(|(word, _)| *word != "inline") {
                cx.error(&at, "a server with `inline` is \"inline\"; write that, or remove this");
            }
            let inline = fields.object(cx, "inline")?;
            inline::resolve(cx, &inline).map(Target::Inline)
        }
        (false, false, false) => {
            if fields.lacks(&[URL, COMMAND, "inline"]) {
                cx.error(
                    &fields.at,
                    "needs a `url` (a server reached over HTTP), a `command` (a program to run) or `inline` (tools that run commands)",
                );
            }
            None
        }
        (has_url, _, has_inline) => {
            let (key, other) = match (has_url, has_inline) {
                (true, false) => (COMMAND, URL),
                (true, true) => ("inline", URL),
                (false, _) => ("inline", COMMAND),
            };
            cx.refuse(
                &fields.key(key),
                format!("cannot stand beside `{other}`; a server has one or the other"),
            )
        }
    }
}

/// Notes keys that mean something beside another key than `tag` only.
fn without_effect(cx: &mut Context<'_>, fields: &Fields<'_>, tag: Option<&str>, kind: &str) {
    for key in SERVER.keys.iter().filter(|key| key.beside.is_some() && key.beside != tag) {
        if fields.has(key.name) {
            cx.notice(&fields.key(key.name), format!("has no effect on a server with {kind}; remove it"));
        }
    }
}

/// The word that `transportType` has, and its place.
fn transport(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<(&'static str, Location)> {
    let node = fields.get("transportType")?;
    let way = match node.literal().map(foreign::plain).as_deref() {
        Some("docker" | "podman" | "container" | "local" | "command" | "process") => {
            Some("is \"stdio\" here, which follows from `command`; remove it")
        }
        Some("remote" | "url") => Some("follows from `url` here; remove it"),
        Some("ws" | "wss" | "websocket") => {
            Some("is not supported; give the server a `url` with http:// or https://")
        }
        Some("aggregate") => {
            Some("all servers are one at `/mcp` here, without a server for it; remove this one")
        }
        _ => None,
    };
    match way {
        Some(way) => cx.refuse(&node.at, way),
        None => Some((fields.word(cx, "transportType")?, node.at)),
    }
}

fn http(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    declared: Option<(&'static str, Location)>,
) -> Option<HttpTarget> {
    let text = fields.text(cx, URL);
    let url = text.and_then(|text| bind::http_url(cx, &text.value, &text.at));
    let headers = fields.get("headers").map(|node| headers(cx, &node)).unwrap_or_default();
    let ca_pem = fields.get("caFile").and_then(|node| ca_file(cx, &node, url.as_ref()));
    if let Some(url) = url.as_ref().filter(|url| url.scheme() == "https") {
        certifiable(cx, fields, url);
    }
    let pass_query = fields.bool(cx, "passQuery");
    let pass_last_event_id = fields.bool(cx, "passLastEventId");
    let cookies = fields.bool(cx, "cookies").unwrap_or_default();
    let is_sse = match declared {
        Some(("stdio", at)) => {
            return cx.refuse(&at, "stdio needs a `command`; a `url` takes \"streamable-http\" or \"sse\"");
        }
        Some(("inline", at)) => {
            return cx.refuse(&at, "inline needs `inline`; a `url` takes \"streamable-http\" or \"sse\"");
        }
        declared => declared.map(|(word, _)| word == "sse"),
    };
    let url = url?;
    let transport = match is_sse.unwrap_or_else(|| url.path().trim_end_matches('/').ends_with("/sse")) {
        true => McpTransport::Sse,
        false => McpTransport::StreamableHttp,
    };
    let pass_query = pass_query.unwrap_or(url.query().is_none());
    Some(HttpTarget { url, transport, headers, ca_pem, pass_query, pass_last_event_id, cookies })
}

/// Whether a certificate for this URL can exist, and whether there is one to check it by.
fn certifiable(cx: &mut Context<'_>, fields: &Fields<'_>, url: &Url) {
    let at = fields.get(URL).map_or_else(|| fields.key(URL), |node| node.at);
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if rustls::pki_types::ServerName::try_from(host).is_err() {
        cx.error(&at, "has a host that no certificate can be for; write the server's real name");
    }
    if !fields.has("caFile") && cx.system_roots.is_empty() {
        cx.warning(
            &at,
            "cannot be reached, because this system has no certificates of authorities to check the server's by; install \
             them (`ca-certificates`), or give the server a `caFile`",
        );
    }
}

fn headers(cx: &mut Context<'_>, node: &Node<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut seen = HashSet::new();
    let Some(fields) = node.map(cx) else { return headers };
    for (name, key, node) in fields.entries() {
        // The token of a caller is read by `upstream_auth`.
        let value = match node.is_user_token() {
            true => None,
            false => node.part_of_file(cx, |cx| header_value(cx, &node, name)),
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            cx.error(&key, "is no header name; use letters, digits and -, as in \"X-Team\"");
            continue;
        };
        if upstream_auth::is_reserved(name.as_str()) {
            cx.error(&key, "is set by the gateway for every request; remove it");
        } else if !seen.insert(name.clone()) {
            cx.error(&key, "is there twice, because header names ignore case; keep one of them");
        } else if let Some(value) = value {
            headers.push((name, value));
        }
    }
    headers
}

fn header_value(cx: &mut Context<'_>, node: &Node<'_>, name: &str) -> Option<HeaderValue> {
    let text = node.string(cx)?;
    if text.origin == TextSource::Literal && name.eq_ignore_ascii_case("authorization") {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    let Ok(mut value) = HeaderValue::from_str(&text.value) else {
        return cx
            .refuse(&text.at, "has a line break or another character that no header may have; remove it");
    };
    value.set_sensitive(true);
    Some(value)
}

fn ca_file(cx: &mut Context<'_>, node: &Node<'_>, url: Option<&Url>) -> Option<Arc<[u8]>> {
    if url.is_some_and(|url| url.scheme() == "http") {
        cx.notice(&node.at, "has no effect on an http:// URL; write https://, or remove it");
    }
    let path = node.path(cx)?;
    cx.part(|cx| trust_anchors(cx, &path))
}

/// The contents of a file of certificates that can be trusted.
fn trust_anchors(cx: &mut Context<'_>, path: &ReadText) -> Option<Arc<[u8]>> {
    let pem = cx.read(&path.value, &path.at)?.bytes;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in tls::certificates(cx, &pem, &path.at)? {
        if roots.add(certificate).is_err() {
            return cx.refuse(
                &path.at,
                "holds a certificate that cannot be a trust anchor; give the CA's certificate",
            );
        }
    }
    Some(pem.as_slice().into())
}

fn stdio(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    declared: Option<(&'static str, Location)>,
) -> Option<StdioTarget> {
    if let Some((_, at)) = declared.filter(|(word, _)| *word != "stdio") {
        cx.error(&at, "a `command` speaks \"stdio\"; remove this, or give a `url` instead");
    }
    let own = own_variables(fields);
    let args = fields.get("args").and_then(|node| node.arguments(cx, &own)).unwrap_or_default();
    let env = environment(cx, fields);
    let inherit_env = fields.texts(cx, "inheritEnv").unwrap_or_default();
    for text in &inherit_env {
        if text.value.is_empty() || text.value.contains(['*', '=', '$', '!', '?', '%']) {
            cx.warning(&text.at, "passes nothing, because it is the name of no variable; write the names one by one, without patterns");
        }
    }
    let cwd = fields.get("cwd").and_then(|node| node.path(cx));
    let cwd = cwd.and_then(|text| cx.directory(&text.value, &text.at));
    let command = program(cx, fields)?;
    let inherit_env: Vec<String> = inherit_env.into_iter().map(|text| text.value).collect();
    programs::warn_of_container(cx, &command, &args, &own, &inherit_env);
    let directory = std::env::current_dir().unwrap_or_default();
    let program = Program {
        command: &command,
        env: &env,
        inherits_path: inherit_env.iter().any(|name| name == "PATH"),
        cwd: cwd.as_deref().unwrap_or(&directory),
    };
    programs::warn(cx, fields, program);
    let args = args.into_iter().map(|text| Secret::new(text.value)).collect();
    Some(StdioTarget { command, args, env, cwd, inherit_env })
}
