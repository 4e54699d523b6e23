//! Places that a client asks for, and what it may do there.

use std::sync::Arc;

use super::OauthRequest;
use crate::{
    config::ScopeWord,
    identity::{
        Allowed, Identity,
        audience::Audience,
        login::grants::PageLogin,
        scope::{self, Scope},
    },
    oauth::flow::AuthorizationRequest,
    policy::decide::Ask,
};

/// The URL by which tokens name the place of a `resource` (RFC 8707); that of the whole gateway without one. `None` if it is no place
/// of this gateway.
pub(super) fn canonical(request: &OauthRequest<'_>, resource: Option<&str>) -> Option<String> {
    let base = &*request.config.base;
    let audience = resource.map_or(Some(Audience::Gateway), |resource| Audience::of(resource, base));
    audience.map(|audience| audience.url(base))
}

/// Bytes of a scope at most: tokens and rows have room for it.
pub(super) const LONGEST_SCOPE: usize = 1024;

/// What a client asks for, of which what means nothing here is left out. Without a scope, or with words of others alone (`openid`), it
/// is `mcp`: all that whoever allows it may do. `None` if it names servers or tags that are none: who asked for little is not offered
/// all. It says which there are, so it is for those alone who have logged in.
pub(super) fn asked_scope(request: &OauthRequest<'_>, scope: &str) -> Option<Scope> {
    let asked = Scope::parse(scope, request.config.scope_tags);
    let known = known_scope(request, &asked);
    let opens_something = known.words().iter().any(|word| word != ScopeWord::OFFLINE);
    match (opens_something, asked.words().iter().any(|word| ScopeWord::of(word).is_of_servers())) {
        (true, _) => Some(known),
        (false, true) => None,
        (false, false) => {
            let text = format!("{} {}", ScopeWord::ALL, known.text());
            Some(Scope::parse(&text, request.config.scope_tags))
        }
    }
}

/// What of a scope means something here.
pub(super) fn known_scope(request: &OauthRequest<'_>, scope: &Scope) -> Scope {
    let OauthRequest { live, config, .. } = *request;
    let has_tag =
        |tag: &str| live.servers.iter().any(|entry| entry.server.tags.iter().any(|other| **other == *tag));
    let is_of_tool = |word: &str| {
        let rules = live.servers.iter().filter_map(|entry| entry.server.tool_rules.as_ref());
        rules.flat_map(|rules| rules.all_scopes()).any(|known| known == word)
    };
    scope::known(
        scope,
        |name| live.entries.contains_key(name),
        |tag| config.offers_tags && has_tag(tag),
        is_of_tool,
    )
}

/// Names of the servers that a client reaches for somebody by all that it asks for.
pub(super) fn reached(
    request: &OauthRequest<'_>,
    login: &PageLogin,
    asked: &AuthorizationRequest,
) -> Vec<String> {
    let OauthRequest { live, config, .. } = *request;
    let identity = live.identity_of(&login.principal, login.fingerprint);
    let Some((identity, audience)) = identity.zip(Audience::of(&asked.resource, &config.base)) else {
        return Vec::new();
    };
    let scope = Scope::parse(&asked.scope, config.scope_tags);
    let (client_id, base) = (asked.client_id.as_str().into(), config.base.clone());
    let allowed = Some(Arc::new(Allowed { client_id, receiver: None, base, audience, scope }));
    let client = Identity { allowed, ..Identity::clone(&identity) };
    let names = live.servers.iter().map(|entry| &*entry.server.name);
    // At its own place, or as one of all servers.
    let may = |name: &&str| {
        [Ask::Server(name), Ask::Member(name)].iter().any(|ask| live.decide(&client, ask).is_allow())
    };
    names.filter(may).map(str::to_owned).collect()
}
