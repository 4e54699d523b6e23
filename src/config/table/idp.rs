//! `proxy.auth`, the keys of logins by an identity provider.

use super::{LABEL, secs};
use crate::config::idp::IdpConfig;
use crate::config::table::key::{
    Absent::{Duration, List, Means, Nothing, Required},
    Key, Object, ValueKind, Word, Words, key,
};

pub(super) const IDP: Key = key(
    "idp",
    ValueKind::Object(&IDP_OBJECT),
    Nothing,
    "An identity provider, at which people log in who come to the pages. Somebody of it is `idp:PROVIDER:SUBJECT`. See \
     [login by an identity provider](identity.md#login-by-an-identity-provider).",
)
.examples(&[r#"{ "provider": "google", "clientId": "…", "clientSecret": { "$env": "GOOGLE_SECRET" } }"#]);

pub(super) const ALLOWED_DOMAINS: Key = key(
    "allowedDomains",
    ValueKind::List(&DOMAIN),
    List(&[]),
    "Of people of `idp`, only those are let in whose verified address has exactly one of these domains. `[]`: any address, or none.",
)
.examples(&[r#"["company.com"]"#]);

const GOOGLE: &str = "MCP Front's name for a key of `idp` with `\"provider\": \"google\"`";

pub(super) const GOOGLE_CLIENT_ID: Key =
    key("googleClientId", ValueKind::Text(r"\S"), Nothing, GOOGLE).deprecated("write `idp.clientId`");
pub(super) const GOOGLE_CLIENT_SECRET: Key =
    key("googleClientSecret", ValueKind::Secret(r"\S"), Nothing, GOOGLE)
        .deprecated("write `idp.clientSecret`");
pub(super) const GOOGLE_REDIRECT_URI: Key = key("googleRedirectUri", ValueKind::Url, Nothing, GOOGLE)
    .deprecated("write `idp.redirectUri`")
    .examples(&[r#""https://mcp.example.com/oauth/callback""#]);

static DOMAIN: ValueKind = ValueKind::Text(r"^[^\s@*]+$");

pub(in crate::config) static IDP_OBJECT: Object = Object {
    name: "idp",
    doc: "An identity provider, and the gateway as its client.",
    one_of: &[],
    keys: &[
        key("provider", ValueKind::Word(&PROVIDERS), Required, "Which kind it is."),
        key("clientId", ValueKind::Text(r"\S"), Required, "Who the gateway is to the provider, as that says.")
            .examples(&[r#""1234567890-abc.apps.googleusercontent.com""#]),
        key(
            "clientSecret",
            ValueKind::Secret(r"\S"),
            Means("the provider has the gateway as a public client"),
            "What proves that it is the gateway; best a reference.",
        )
        .examples(&[r#"{ "$env": "IDP_SECRET" }"#]),
        key(
            "redirectUri",
            ValueKind::Url,
            Means("`proxy.baseUrl` and `/oauth/callback`"),
            "Where the provider sends browsers back to, as it is registered there: `/oauth/callback` of the gateway.",
        )
        .examples(&[r#""https://mcp.example.com/oauth/callback""#]),
        key(
            "issuer",
            ValueKind::Url,
            Means("that of the provider's kind; of `oidc`, `discoveryUrl` without what the standard puts behind it"),
            "What `iss` of the provider's ID tokens is, byte by byte. For `oidc` alone.",
        )
        .examples(&[r#""https://login.corp.example/""#]),
        key(
            "discoveryUrl",
            ValueKind::OrNull(&ValueKind::Url),
            Means("where OpenID Connect puts it"),
            "Where the provider's metadata is.",
        )
        .examples(&[r#""https://login.corp.example/.well-known/openid-configuration""#]),
        key("authorizationUrl", ValueKind::OrNull(&ValueKind::Url), Means(METADATA), "Where people log in."),
        key("tokenUrl", ValueKind::OrNull(&ValueKind::Url), Means(METADATA), "Where the gateway gets what a code is worth."),
        key(
            "userInfoUrl",
            ValueKind::OrNull(&ValueKind::Url),
            Means(METADATA),
            "Where the provider says who somebody is. Of GitHub Enterprise, `/user` of its API.",
        ),
        key(
            "scopes",
            ValueKind::List(&super::oauth::SCOPE),
            List(&[]),
            "Scopes that the provider is asked for besides those that a login needs.",
        )
        .examples(&[r#"["groups"]"#]),
        key(
            "tenantId",
            ValueKind::OrNull(&TENANT),
            Means("none"),
            "Of `azure`, whose people they are: the id of a tenant. `common` and `organizations` would be everybody's.",
        )
        .examples(&[r#""72f988bf-86f1-41af-91ab-2d7cd011db47""#]),
        key(
            "allowedOrgs",
            ValueKind::List(&LABEL),
            List(&[]),
            "Only those are let in who are in one of these organizations: of GitHub, or of the claim `orgs`. `[]`: any, or none.",
        )
        .examples(&[r#"["our-org"]"#]),
        key(
            "recheck",
            ValueKind::Duration(secs(60)),
            Duration(IdpConfig::RECHECK),
            "After which time the provider is asked again about somebody, when a client refreshes its token or they come to a page. A \
             no ends all that they have here.",
        ),
    ],
};

const METADATA: &str = "as its metadata says";

static TENANT: ValueKind = ValueKind::Text(r"^[A-Za-z0-9.-]+$");

static PROVIDERS: Words = Words {
    words: &[
        Word("google", &[], "accounts of Google"),
        Word("github", &[], "accounts of GitHub"),
        Word("azure", &["entra", "microsoft"], "accounts of one tenant of Microsoft Entra"),
        Word("oidc", &["openid"], "any other that speaks OpenID Connect"),
    ],
    otherwise: "is no provider; use \"google\", \"github\", \"azure\" or \"oidc\"",
};
