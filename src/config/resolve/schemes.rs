//! `proxy.auth.schemes` and `queryToken`: in which ways a request may present its credential.

use std::sync::Arc;

use crate::config::{
    read::{context::Context, fields::Fields},
    schemes::Schemes,
    table::SCHEMES,
};

/// What is on, and what may be meant to be on, though it cannot be read.
pub(super) fn resolve(cx: &mut Context<'_>, auth: &Fields<'_>) -> (Schemes, Schemes) {
    let query = auth.bool(cx, "queryToken");
    let may_query = query.unwrap_or(true) || !auth.has("queryToken") && !auth.lacks(&["queryToken"]);
    let mut is_certain = auth.has("schemes") || auth.lacks(&["schemes"]);
    let mut schemes = Schemes { query: query.unwrap_or_default(), ..Schemes::NONE };
    match auth.texts(cx, "schemes") {
        None => is_certain = false,
        Some(texts) => {
            if texts.is_empty() {
                let message =
                    "is empty, so no request can present a token; write [\"bearer\"], or leave the key out";
                cx.warning(&auth.key("schemes"), message);
            }
            for text in texts {
                match SCHEMES.find(&text.value) {
                    Some(word) => schemes = schemes.with(word),
                    None => {
                        is_certain = false;
                        cx.error(&text.at, format!("{} {}", text.shown(), SCHEMES.otherwise));
                    }
                }
            }
        }
    }
    let may_be_on = if is_certain { schemes } else { Schemes::ALL };
    (schemes, Schemes { query: may_query, ..may_be_on })
}

/// Notes what would not work as it is meant. `names`: those of the tokens.
pub(super) fn warn(cx: &mut Context<'_>, auth: &Fields<'_>, schemes: Schemes, names: &[Arc<str>]) {
    if !auth.has("schemes") || schemes == (Schemes { query: schemes.query, ..Schemes::NONE }) {
        return;
    }
    let at = auth.key("schemes");
    if !schemes.bearer {
        let message = "lacks \"bearer\", which MCP clients send: most of them cannot come in; add it unless that is meant";
        cx.warning(&at, message);
    }
    if schemes.basic && names.iter().any(|name| name.contains(':')) {
        let message = "has \"basic\", by which no token with a `:` in its name can be presented (RFC 7617); rename that token \
                       if its client uses Basic";
        cx.warning(&at, message);
    }
}

/// A cookie goes along with whatever page makes the request, so not every page may.
pub(super) fn refuse_any_origin(
    cx: &mut Context<'_>,
    proxy: &Fields<'_>,
    schemes: Schemes,
    origins: &[String],
) {
    if schemes.cookie && origins.iter().any(|origin| origin == "*") {
        let message = "is \"*\" while `proxy.auth.schemes` has \"cookie\": any web page could act as whoever visits it; list \
                       the origins, or remove \"cookie\"";
        cx.error(&proxy.key("allowedOrigins"), message);
    }
}
