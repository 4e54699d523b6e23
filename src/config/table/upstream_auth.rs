//! `mcpServers.NAME.upstreamAuth`, and what other gateways call it.

use super::{HEADER_NAME, TEXT, oauth::SCOPE};
use crate::config::table::key::{
    Absent::{Bool, Empty, List, Means, Nothing, Text},
    Key, Names, Object, ValueKind, Word, Words, key,
};

/// Master MCP Server's name of `upstreamAuth`, beside which `auth_strategy` stands.
pub(in crate::config) const AUTH_CONFIG: &str = "auth_config";

pub(super) const UPSTREAM_AUTH_KEY: Key = key(
    "upstreamAuth",
    ValueKind::Object(&UPSTREAM_AUTH),
    Means("what `headers` and `env` say, for all callers"),
    "With whose credential the server is called, see [credentials](credentials.md). The other names are those of MCP Front (a \
     `tokenSetup` is of the kind `user_token`), of Master MCP Server, and of 1MCP (an `oauth` is `shared_oauth`).",
)
.also(&["userAuthentication", "tokenSetup", AUTH_CONFIG, "oauth"])
.examples(&[r#"{ "kind": "user_oauth" }"#]);

pub(super) const AUTH_STRATEGY: Key = key(
    "auth_strategy",
    ValueKind::Word(&STRATEGIES),
    Nothing,
    "Master MCP Server's name for the `kind` of `auth_config`.",
)
.deprecated("write `upstreamAuth`");

pub(super) const REQUIRES_USER_TOKEN: Key = key(
    "requiresUserToken",
    ValueKind::Bool,
    Means("as `upstreamAuth` says"),
    "MCP Front's word: each caller has a credential of their own; without `userAuthentication`, that is a token that they enter.",
)
.deprecated("write `upstreamAuth`");

pub(super) const SERVICE_AUTHS: Key = key(
    "serviceAuths",
    ValueKind::List(&A_SERVICE_AUTH),
    List(&[]),
    "MCP Front's: of it, `userToken` is read. Its tokens and passwords stand in `proxy.auth` here.",
)
.deprecated("write `upstreamAuth` with `\"kind\": \"static\"`");

pub(in crate::config) static SERVICE_AUTH: Object = Object {
    name: "serviceAuth",
    doc: "How MCP Front lets programs in. Here that is said by `proxy.auth.tokens` and `authTokens`.",
    one_of: &[],
    keys: &[
        key("type", ValueKind::Ignored, Nothing, "Means nothing here."),
        key("name", ValueKind::Ignored, Nothing, "Means nothing here."),
        key(
            "userToken",
            ValueKind::Secret(r"\S"),
            Nothing,
            "The credential of the server for those programs, which is that of all callers here: `token` of `\"kind\": \"static\"`.",
        ),
    ],
};

static STRATEGIES: Words = Words {
    words: &[
        Word("bypass_auth", &[], "`none`"),
        Word("proxy_oauth", &[], "`static`, with a `token_source`"),
        Word("delegate_oauth", &[], "`user_oauth`"),
        Word("master_oauth", &[], "`exchange`, with a `token_endpoint`"),
    ],
    otherwise: "is no strategy; use `upstreamAuth`, or \"bypass_auth\", \"proxy_oauth\", \"delegate_oauth\" or \"master_oauth\"",
};

static KINDS: Words = Words {
    words: &[
        Word("none", &[], "no credential but what `headers` or `env` have"),
        Word("static", &[], "one for all callers, in `headers`, `env` or `token`"),
        Word("client_credentials", &[], "a token that the gateway fetches for itself"),
        Word("user_oauth", &["oauth"], "each caller's own account, to which they connect in a browser"),
        Word("shared_oauth", &[], "one account for all callers, which an admin connects"),
        Word("user_token", &["manual"], "a token that each caller enters"),
        Word("exchange", &[], "a token that is made of the one by which the caller came"),
        Word("passthrough", &[], "a header of the caller's, unchanged; it has to be called `unsafe`"),
    ],
    otherwise: "is no kind; use \"none\", \"static\", \"client_credentials\", \"user_oauth\", \"shared_oauth\", \"user_token\", \
                \"exchange\" or \"passthrough\"",
};

static TOKEN_AUTHS: Words = Words {
    words: &[
        Word("auto", &[], "what the issuer takes, of what there is"),
        Word("client_secret_basic", &["basic"], "the secret as HTTP Basic"),
        Word("client_secret_post", &["post"], "the secret in the form"),
        Word("none", &[], "the gateway is a public client"),
        Word("private_key_jwt", &[], "what `privateKey` signs"),
    ],
    otherwise: "is no way; use \"auto\", \"client_secret_basic\", \"client_secret_post\", \"none\" or \"private_key_jwt\"",
};

static AWAITING: Words = Words {
    words: &[
        Word("tool", &[], "one tool, `connect_NAME`, that says where to connect"),
        Word("refuse", &[], "403"),
    ],
    otherwise: "is neither \"tool\" nor \"refuse\"; use one of them",
};

static PROFILES: Words = Words {
    words: &[
        Word("rfc8693", &["token_exchange"], "token exchange as RFC 8693 has it"),
        Word("entra_obo", &["entra", "azure"], "on behalf of, as Microsoft Entra has it"),
        Word("id_jag", &[], "an assertion of the identity provider, then a token of the server's issuer"),
    ],
    otherwise: "is no profile; use \"rfc8693\", \"entra_obo\" or \"id_jag\"",
};

static SUBJECTS: Words = Words {
    words: &[
        Word("caller", &[], "the token of one of `proxy.auth.issuers` by which the caller came"),
        Word("login", &[], "what `proxy.auth.idp` gave when the caller logged in, which cannot be used yet"),
    ],
    otherwise: "is no subject; use \"caller\" or \"login\"",
};

static A_SERVICE_AUTH: ValueKind = ValueKind::Object(&SERVICE_AUTH);
static SOME_TEXT: ValueKind = ValueKind::Text(r"\S");
static SOME_SECRET: ValueKind = ValueKind::Secret(r"\S");
static A_URL: ValueKind = ValueKind::Url;
static PARAMETER_NAMES: Names = Names { pattern: "^[A-Za-z0-9_.-]+$", reserved: &[] };

const OF_METADATA: &str = "as the issuer's metadata says";

pub(in crate::config) static UPSTREAM_AUTH: Object = Object {
    name: "upstreamAuth",
    doc: "With whose credential a server is called. Which keys count depends on the `kind`, see [credentials](credentials.md).",
    one_of: &[],
    keys: &[
        key("kind", ValueKind::Word(&KINDS), Means("none: it has to be said"), "What is sent to the server.")
            .also(&["type"]),
        key(
            "issuer",
            ValueKind::OrNull(&A_URL),
            Means("the one that the server names"),
            "Authorization server of the server, byte by byte as it calls itself.",
        )
        .examples(&[r#""https://login.example.com""#]),
        key(
            "authorizationUrl",
            ValueKind::OrNull(&A_URL),
            Means(OF_METADATA),
            "Where people connect. With `tokenUrl`, nothing is discovered.",
        )
        .also(&["authorization_endpoint"])
        .examples(&[r#""https://github.com/login/oauth/authorize""#]),
        key("tokenUrl", ValueKind::OrNull(&A_URL), Means(OF_METADATA), "Where the gateway gets tokens.")
            .also(&["token_endpoint"])
            .examples(&[r#""https://github.com/login/oauth/access_token""#]),
        key(
            "revocationUrl",
            ValueKind::OrNull(&A_URL),
            Means(OF_METADATA),
            "Where the gateway gives tokens back (RFC 7009).",
        )
        .also(&["revocation_endpoint"]),
        key(
            "clientId",
            ValueKind::OrNull(&SOME_TEXT),
            Means("a metadata document where the issuer takes one, else one that is registered"),
            "Who the gateway is to the issuer.",
        )
        .also(&["client_id"]),
        key(
            "clientSecret",
            ValueKind::OrNull(&SOME_SECRET),
            Means("none"),
            "What proves that it is the gateway; best a reference.",
        )
        .also(&["client_secret"])
        .examples(&[r#"{ "$env": "GITHUB_SECRET" }"#]),
        key(
            "privateKey",
            ValueKind::OrNull(&SOME_SECRET),
            Means("none"),
            "In place of a secret, the key by which the gateway signs that it is the gateway (`private_key_jwt`): PKCS #8 in PEM, of the \
             curve P-256 or RSA of 2,048 bits or more.",
        )
        .examples(&[r#"{ "$file": "client.pem" }"#]),
        key(
            "tokenAuth",
            ValueKind::Word(&TOKEN_AUTHS),
            Text("auto"),
            "How the gateway proves itself to the issuer.",
        ),
        key(
            "clientMetadataUrl",
            ValueKind::OrNull(&ValueKind::OrFalse(&A_URL)),
            Means("`/oauth/client.json` of `proxy.baseUrl`, if that is https and a public name"),
            "The document that says who the gateway is, for issuers that take one in place of a registration. `false`: none.",
        ),
        key(
            "autoRegister",
            ValueKind::Bool,
            Bool(true),
            "Whether the gateway may register itself where it has no `clientId` (RFC 7591).",
        ),
        key(
            "redirectUrl",
            ValueKind::Url,
            Means("`/oauth/callback/NAME` of `proxy.baseUrl`"),
            "Where the issuer sends browsers back to, as it is registered there: `/oauth/callback` of the gateway, with the server's \
             name behind it or without.",
        )
        .examples(&[r#""https://mcp.example.com/oauth/callback/github""#]),
        key(
            "scopes",
            ValueKind::List(&SCOPE),
            List(&[]),
            "What is asked for, if neither the server nor its metadata says it. Of `client_credentials` and `exchange`, what is asked for.",
        )
        .examples(&[r#"["repo", "read:user"]"#]),
        key(
            "resource",
            ValueKind::OrFalse(&SOME_TEXT),
            Text("auto"),
            "The parameter `resource` (RFC 8707): `auto` is what the server's metadata says, else its URL; of `exchange`, none. `false`: \
             none, for providers that refuse it.",
        )
        .examples(&[r#""https://api.example.com/mcp""#]),
        key(
            "extraParams",
            ValueKind::Map { names: &PARAMETER_NAMES, of: &TEXT },
            Empty,
            "More parameters for the page at which people connect.",
        )
        .examples(&[r#"{ "access_type": "offline" }"#]),
        key(
            "allowPrivateIssuers",
            ValueKind::Bool,
            Bool(false),
            "Whether what the server names may have addresses that are not of the public Internet. URLs in the config always may.",
        ),
        key(
            "header",
            ValueKind::Text(HEADER_NAME),
            Means("`Authorization`; of `user_token`, none"),
            "The header in which the token goes out, unless `$userToken` says where.",
        )
        .examples(&[r#""X-API-Key""#]),
        key(
            "format",
            ValueKind::Text(r"\{token\}"),
            Means("`Bearer {token}`; where `$userToken` stands, `{token}`"),
            "The text around the token, with `{token}` in it once.",
        )
        .examples(&[r#""Bearer {token}""#]),
        key(
            "tokenFormat",
            ValueKind::Literal,
            Nothing,
            "MCP Front's word for `format` if `{{token}}` is in it, and else for `validation`.",
        )
        .deprecated("write `format` or `validation`"),
        key(
            "token",
            ValueKind::OrNull(&SOME_SECRET),
            Means("what `headers` or `env` have"),
            "Of `static`, the token itself; best a reference.",
        )
        .also(&["token_source"])
        .examples(&[r#"{ "$env": "INTERNAL_BACKEND_TOKEN" }"#]),
        key("displayName", ValueKind::Text(r"\S"), Means("the server's name"), "What people are told that they connect.")
            .examples(&[r#""GitHub""#]),
        key("instructions", ValueKind::Text(r"\S"), Nothing, "How somebody gets a token, for the page where they enter it."),
        key("helpUrl", ValueKind::Url, Nothing, "Where somebody gets a token.")
            .examples(&[r#""https://www.notion.so/my-integrations""#]),
        key(
            "validation",
            ValueKind::Literal,
            Means("any visible ASCII"),
            "What a token looks like, all of it: a [regular expression](https://docs.rs/regex/1/regex/#syntax) of at most 1 KiB.",
        )
        .examples(&[r#""secret_[a-zA-Z0-9]{43}""#]),
        key(
            "awaiting",
            ValueKind::Word(&AWAITING),
            Text("tool"),
            "What a client gets of the server while its user has no credential.",
        ),
        key(
            "elicit",
            ValueKind::Bool,
            Bool(true),
            "Whether clients that can show a URL are asked to (MCP elicitation).",
        ),
        key("profile", ValueKind::Word(&PROFILES), Text("rfc8693"), "How a token is exchanged."),
        key("subject", ValueKind::Word(&SUBJECTS), Text("caller"), "What is exchanged."),
        key("audience", ValueKind::OrNull(&SOME_TEXT), Nothing, "For whom the exchanged token is to be.")
            .examples(&[r#""api://graph""#]),
        key(
            "serverTokenUrl",
            ValueKind::OrNull(&A_URL),
            Nothing,
            "Of `id_jag`, where the issuer of the server takes the assertion. `tokenUrl` is that of the identity provider.",
        ),
        key("serverClientId", ValueKind::OrNull(&SOME_TEXT), Means("`clientId`"), "Of `id_jag`, who the gateway is to the issuer of the server."),
        key(
            "serverClientSecret",
            ValueKind::OrNull(&SOME_SECRET),
            Means("the same key, or none"),
            "Of `id_jag`, what proves it there.",
        ),
        key(
            "from",
            ValueKind::Text(HEADER_NAME),
            Nothing,
            "Of `passthrough`, the header of the caller's that goes on as `Authorization`. `Authorization` itself only on `public` servers.",
        )
        .examples(&[r#""X-Upstream-Authorization""#]),
        key("unsafe", ValueKind::Bool, Bool(false), "`true` says that `passthrough` is meant."),
        key("provider", ValueKind::Ignored, Nothing, "Master MCP Server's word for who it is; the URLs say that."),
    ],
};
