//! `proxy.auth.tenants`: who presents a token in a header field of its own.

use http::HeaderName;

use crate::config::{
    read::{context::Context, fields::Fields},
    table::TENANTS,
};

/// Fields that mean something else to the gateway, to a server, or to what is between them.
const TAKEN: &[&str] = &[
    "accept",
    "authorization",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "origin",
    "referer",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-api-key",
    "x-request-id",
];
const TAKEN_PREFIXES: &[&str] =
    &["accept-", "access-control-", "content-", "mcp-", "proxy-", "sec-", "x-forwarded-"];

/// Whether a field of this name, in small letters, means something else than what a config could say of it.
pub(super) fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name) || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What `proxy.auth.tenants` says.
pub(super) struct Tenants<'a> {
    /// The field.
    pub(super) header: Option<HeaderName>,
    /// Their tokens, still to be read.
    pub(super) tokens: Option<Fields<'a>>,
    /// Whether no slip has hidden them.
    pub(super) is_clear: bool,
}

pub(super) fn resolve<'a>(cx: &mut Context<'_>, of_auth: &Fields<'a>) -> Tenants<'a> {
    let none = |is_clear| Tenants { header: None, tokens: None, is_clear };
    let Some(node) = of_auth.get("tenants") else { return none(!of_auth.has_unknown()) };
    let Some(fields) = node.object(cx, &TENANTS) else { return none(false) };
    let header = header(cx, &fields);
    let Some(tokens) = fields.get("tokens") else {
        let message = "has no `tokens`, so there is no tenant; add one, as in { \"acme\": { \"$env\": \"ACME_TOKEN\" } }";
        cx.warning(&of_auth.key("tenants"), message);
        return Tenants { header, tokens: None, is_clear: !fields.has_unknown() };
    };
    let what = "an object with a name for each tenant, as in { \"acme\": { \"$env\": \"ACME_TOKEN\" } }";
    let tokens = tokens.map_as(cx, what);
    Tenants { header, is_clear: tokens.is_some(), tokens }
}

fn header(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<HeaderName> {
    let text = fields.text(cx, "header")?;
    let name = text.value.to_ascii_lowercase();
    // A name of other characters has more than one spelling to servers.
    let is_plain = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_plain {
        return cx.refuse(&text.at, "has to be 1 to 64 letters, digits or `-`, as in \"X-Tenant-Token\"");
    }
    if is_taken(&name) {
        return cx
            .refuse(&text.at, "is a field with a meaning of its own; use another, as in \"X-Tenant-Token\"");
    }
    HeaderName::try_from(name).ok()
}
