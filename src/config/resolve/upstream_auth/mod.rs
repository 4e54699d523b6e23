//! `upstreamAuth` of a server, by whatever name it is there: with whose credential the server is called.
//!
//! `keys` reads what stands in it, `places` where `$userToken` is, and `kinds` makes of what is `asked` one of the kinds. Here is which kind
//! it is, and what of the server's own keys says it.

mod asked;
mod keys;
mod kinds;
mod places;

use std::sync::Arc;

use http::{HeaderValue, header::AUTHORIZATION};

pub(super) use self::{asked::Around, keys::is_reserved};
use crate::config::{
    read::{context::Context, fields::Fields},
    report::problem::Location,
    resolve::upstream_auth::{
        asked::Asked,
        keys::{Keys, read_secret},
        places::Places,
    },
    snapshot::Target,
    table::{AUTH_CONFIG, COMMAND, SERVICE_AUTH, UPSTREAM_AUTH, URL},
    upstream_auth::{TokenPlace, UpstreamAuth},
};
use crate::secret::Secret;

/// The keys of a server that say it.
const KEY: &str = "upstreamAuth";
const STRATEGY: &str = "auth_strategy";
const REQUIRES: &str = "requiresUserToken";
const SERVICE: &str = "serviceAuths";

/// With whose credential the server is called, if it is not that of the config. One that is the config's goes into `target`.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    server: &Fields<'_>,
    around: &Around<'_>,
    target: Option<&mut Target>,
) -> Option<Arc<UpstreamAuth>> {
    let places = places::read(cx, server);
    let of_services = service_token(cx, server);
    let requires = server.bool(cx, REQUIRES);
    let is_asked = server.has(KEY) || server.has(STRATEGY) || places.first.is_some();
    if !is_asked && of_services.is_none() && requires != Some(true) {
        return None;
    }
    let fields = match server.get(KEY) {
        Some(node) => node.object(cx, &UPSTREAM_AUTH)?,
        None => server.object_or_empty(cx, KEY),
    };
    let mut keys = Keys::read(cx, fields);
    if let Some((token, at)) = of_services {
        if server.has(KEY) || server.has(STRATEGY) {
            let message = "is one credential for all who come by it, beside one that is said for others; make a server of its own of it, with \
                           the same `url` or `command`, that lists them in `authTokens`";
            return cx.refuse(&at, message);
        }
        keys.token = Some(token);
        let asked = Asked { around, server, keys, places, at };
        fix(cx, &asked, target);
        return None;
    }
    let (kind, at) = kind(cx, server, &keys, &places)?;
    // A kind that is there by itself may have been meant by something else.
    if let Some(requires) = requires {
        let is_own = matches!(kind, "user_oauth" | "user_token" | "exchange" | "passthrough");
        if requires != is_own {
            let message = match requires {
                true => {
                    "says that each caller has a credential of their own, and `upstreamAuth` that they have not; remove one of them"
                }
                false => {
                    "says that no caller has a credential of their own, and something else here that they have; remove one of them"
                }
            };
            cx.error(&server.key(REQUIRES), message);
        }
    }
    let asked = Asked { around, server, keys, places, at };
    if kind == "static" {
        fix(cx, &asked, target);
        return None;
    }
    kinds::resolve(cx, kind, &asked).map(Arc::new)
}

/// The kind, and where it is said.
fn kind(
    cx: &mut Context<'_>,
    server: &Fields<'_>,
    keys: &Keys<'_>,
    places: &Places,
) -> Option<(&'static str, Location)> {
    let name = server.name_of(KEY);
    let is_written = keys.fields.has("kind");
    let written = is_written.then(|| keys.fields.word(cx, "kind"));
    if server.has(STRATEGY) {
        let at = server.key(STRATEGY);
        let strategy = server.word(cx, STRATEGY)?;
        if let Some(name) = name.filter(|name| *name != AUTH_CONFIG) {
            return cx.refuse(&at, format!("is the same as `{name}`; keep one of them"));
        }
        if is_written {
            return cx
                .refuse(&keys.fields.key("kind"), format!("is the same as `{STRATEGY}`; keep one of them"));
        }
        return of_strategy(cx, strategy, keys, &at).map(|kind| (kind, at));
    }
    match (written, name) {
        (Some(word), _) => word.map(|word| (word, keys.fields.key("kind"))),
        (None, Some("oauth")) => Some(("shared_oauth", keys.fields.at.clone())),
        (None, Some("tokenSetup")) => Some(("user_token", keys.fields.at.clone())),
        (None, Some(name)) => {
            let message = match name {
                AUTH_CONFIG => {
                    "needs an `auth_strategy` beside it, which says what it is for; or write `upstreamAuth`, with a `kind`"
                }
                "userAuthentication" => "needs a `type`: \"oauth\" or \"manual\"",
                _ => {
                    "needs a `kind`, such as \"user_oauth\" (each caller's own account) or \"user_token\" (a token that each caller enters)"
                }
            };
            if keys.fields.lacks(&["kind"]) {
                cx.error(&keys.fields.at, message);
            }
            None
        }
        // MCP Front's, of which nothing else is said.
        (None, None) => {
            let at = places.first.clone().unwrap_or_else(|| server.key(REQUIRES));
            Some(("user_token", at))
        }
    }
}

/// What is done here where Master MCP Server does that.
fn of_strategy(cx: &mut Context<'_>, strategy: &str, keys: &Keys<'_>, at: &Location) -> Option<&'static str> {
    let has = |name| keys.fields.has(name);
    match strategy {
        "bypass_auth" => Some("none"),
        "delegate_oauth" => Some("user_oauth"),
        "proxy_oauth" if has("token") => Some("static"),
        "proxy_oauth" => cx.refuse(
            at,
            "needs a `token_source` in `auth_config`: what a client sends is never passed on in its place; or write `upstreamAuth` with the \
             kind \"user_oauth\" (each caller's own account) or \"shared_oauth\" (one for all)",
        ),
        _ if has("tokenUrl") => Some("exchange"),
        _ => cx.refuse(
            at,
            "would pass what a client sends to the gateway on to the server, which could then do here whatever its caller can; write \
             `upstreamAuth` with the kind \"exchange\" and a `tokenUrl`, where the token is changed for one that is good at the server only, \
             or \"user_oauth\", by which each caller connects an account of their own",
        ),
    }
}

/// `userToken` in `serviceAuths`, and where it is.
fn service_token(cx: &mut Context<'_>, server: &Fields<'_>) -> Option<(Secret, Location)> {
    let mut found = None;
    let nodes = server.get(SERVICE)?.list(cx)?;
    for node in &nodes {
        let Some(fields) = node.object(cx, &SERVICE_AUTH) else { continue };
        let Some(node) = fields.get("userToken") else { continue };
        let token = read_secret(cx, &node);
        if found.is_some() {
            let message = "is a second credential, and a server has one; make a server of its own of it, with the same `url` or `command`, \
                           that lists in `authTokens` who comes by it";
            cx.error(&node.at, message);
        }
        found = found.or(token.map(|token| (token, node.at)));
    }
    found
}

/// `static`: what the config has goes where it has to be, for all callers.
fn fix(cx: &mut Context<'_>, asked: &Asked<'_>, target: Option<&mut Target>) {
    let Asked { server, keys, places, at, .. } = asked;
    keys.without_effect(cx, "static", &UPSTREAM_AUTH, &[&["token", "header", "format", "tokenFormat"]]);
    let Some(token) = &keys.token else {
        let key = if server.has(COMMAND) { "env" } else { "headers" };
        if let Some(at) = &places.first {
            cx.error(at, "is of the kind \"static\", which has one token for all; write `token` into `upstreamAuth`, or another kind");
        } else if keys.fields.lacks(&["token"]) && !server.has(key) {
            cx.error(
                at,
                format!("is in `{key}` of the server, which has none; write it there, or `token` here"),
            );
        }
        return;
    };
    if server.has(COMMAND) && places.first.is_none() {
        let message = "needs a variable for the token: \"env\": { \"TOKEN\": { \"$userToken\": \"{{token}}\" } }; or write the token there itself";
        return cx.error(at, message);
    }
    if server.has("inline") {
        return cx.error(at, kinds::INLINE);
    }
    let places = places::resolve(cx, server, keys, places, server.has(URL).then_some(AUTHORIZATION));
    let Some(target) = target else { return };
    for place in places {
        match (place, &mut *target) {
            (TokenPlace::Header(field), Target::Http(http)) => {
                // What is in one was seen to fit.
                if let Ok(mut value) = HeaderValue::from_str(field.format.with(token).expose()) {
                    value.set_sensitive(true);
                    http.headers.push((field.header, value));
                }
            }
            (TokenPlace::Env { name, format }, Target::Stdio(stdio)) => {
                stdio.env.push((name.into(), format.with(token)));
            }
            _ => {}
        }
    }
}
