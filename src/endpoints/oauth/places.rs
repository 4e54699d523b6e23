//! Places that a client asks for, and what it may do there.

use super::OauthRequest;
use crate::{
    identity::{login::grants::PageLogin, scope},
    oauth::flow::AuthorizationRequest,
    policy::decide::Ask,
};

/// The place that a `resource` names (RFC 8707), or all of the gateway: its base URL, with the name of a server, or with `/mcp` for
/// all servers as one. `None` if it is no place of this gateway.
pub(super) fn canonical(request: &OauthRequest<'_>, resource: Option<&str>) -> Option<String> {
    let base = &*request.config.base;
    let Some(resource) = resource else { return Some(base.to_owned()) };
    let without_query = resource.split('?').next()?;
    let (host, path) = without_query.split_at_checked(base.len())?;
    let is_here = host.eq_ignore_ascii_case(base) && (path.is_empty() || path.starts_with('/'));
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if !is_here || third.is_some() || resource.contains('#') {
        return None;
    }
    let is_endpoint = |word: &str| matches!(word, "mcp" | "sse" | "message");
    match (first, second) {
        ("", None) => Some(base.to_owned()),
        (all, None) if is_endpoint(all) => Some(format!("{base}/mcp")),
        (server, None) if is_name(server) => Some(format!("{base}/{server}")),
        (server, Some(endpoint)) if is_name(server) && is_endpoint(endpoint) => {
            Some(format!("{base}/{server}"))
        }
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    matches!(text.len(), 1..=128)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What of a scope means something here. If nothing does, it is `mcp`: all that whoever allows it may do.
pub(super) fn known_scopes(request: &OauthRequest<'_>, scope: &str) -> String {
    let OauthRequest { live, config, .. } = *request;
    let has_tag =
        |tag: &str| live.servers.iter().any(|entry| entry.server.tags.iter().any(|other| **other == *tag));
    let is_of_tool = |word: &str| {
        let rules = live.servers.iter().filter_map(|entry| entry.server.tool_rules.as_ref());
        rules.flat_map(|rules| rules.all_scopes()).any(|known| known == word)
    };
    let known = scope::known(
        scope,
        |name| live.entries.contains_key(name),
        |tag| config.offers_tags && has_tag(tag),
        is_of_tool,
    );
    let mut known: Vec<&str> = known.split(' ').filter(|word| !word.is_empty()).collect();
    if known.iter().all(|word| *word == "offline_access") {
        known.insert(0, "mcp");
    }
    known.join(" ")
}

/// Names of the servers that a client reaches for somebody by all that it asks for.
pub(super) fn reached(
    request: &OauthRequest<'_>,
    login: &PageLogin,
    asked: &AuthorizationRequest,
) -> Vec<String> {
    let live = request.live;
    let Some(identity) = live.identity_of(&login.principal, login.fingerprint) else { return Vec::new() };
    let place =
        asked.resource.strip_prefix(&*request.config.base).unwrap_or_default().trim_start_matches('/');
    let is_covered = |name: &str| matches!(place, "" | "mcp") || place == name;
    let names = live.servers.iter().map(|entry| &*entry.server.name);
    let may =
        |name: &&str| is_covered(name) && live.decide(identity, &Ask::Server(name)).into_result().is_ok();
    names.filter(may).map(str::to_owned).collect()
}
