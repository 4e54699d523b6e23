//! `proxy.auth`, the keys of `"kind": "oauth"`.

use super::{
    LABEL,
    callers::{SERVERS, TAGS, USER_NAMES},
    secs,
};
use crate::config::oauth::{GrantTypes, OauthClient, OauthConfig};
use crate::config::table::key::{
    Absent::{Bool, Duration, Empty, List, Means, Text},
    Key, Names, Object, ValueKind, Word, Words, key,
};

pub(super) const ISSUER: Key = key(
    "issuer",
    ValueKind::Url,
    Means("`proxy.baseUrl` without a slash at its end"),
    "What the gateway is called as an authorization server, byte by byte: a URL without a path, at a host of \
     `proxy.allowedHosts`. Of `\"kind\": \"oauth\"`, as are all keys below.",
)
.examples(&[r#""https://mcp.example.com""#]);

pub(super) const TOKEN_TTL: Key = key(
    "tokenTtl",
    ValueKind::Duration(secs(1)),
    Duration(OauthConfig::TOKEN_TTL),
    "How long an access token is good. A stream that it began goes on after that, as long as the grant.",
);

pub(super) const REFRESH_TOKEN_TTL: Key = key(
    "refreshTokenTtl",
    ValueKind::Duration(secs(1)),
    Duration(OauthConfig::REFRESH_TOKEN_TTL),
    "How long a refresh token is good that is not used.",
);

pub(super) const REFRESH_TOKEN_SCOPES: Key = key(
    "refreshTokenScopes",
    ValueKind::List(&SCOPE),
    List(&[]),
    "A client gets a refresh token only with one of these scopes. `[]`: with any.",
)
.examples(&[r#"["offline_access"]"#]);

pub(super) const REFRESH_REUSE_GRACE: Key = key(
    "refreshReuseGrace",
    ValueKind::Duration(secs(0)),
    Duration(OauthConfig::REFRESH_REUSE_GRACE),
    "How long a refresh token that was used brings the same next one again, since clients refresh from several processes. \
     Later, its grant is ended. `0s`: at once.",
);

pub(super) const REGISTRATION: Key = key(
    "registration",
    ValueKind::OneOrMany(&REGISTRANT),
    Text("open"),
    "Which clients may come that `clients` does not have: `\"open\"` for any, `\"off\"` for none, or a list of hosts, at one of \
     which a redirect or the metadata document of a client must be; other redirects of it lead nowhere. A host is meant at the \
     port of `https`, or at the one that is written with it, as in `\"claude.ai:8443\"`. Clients on the user's own \
     machine may come unless it is `\"off\"`.",
)
.examples(&[r#"["claude.ai", "chatgpt.com"]"#]);

/// One of the words, or a host.
static REGISTRANT: ValueKind = ValueKind::Text("^[A-Za-z0-9.-]+(:[0-9]{1,5})?$");

pub(super) const REDIRECT_SCHEMES: Key = key(
    "redirectSchemes",
    ValueKind::List(&SCHEME),
    List(&OauthConfig::REDIRECT_SCHEMES),
    "Schemes of programs to which a redirect may lead, besides `https` and `http` to the user's own machine.",
);

static SCHEME: ValueKind = ValueKind::Text(r"^[a-z][a-z0-9+.-]*$");

pub(super) const REQUIRE_RESOURCE: Key = key(
    "requireResource",
    ValueKind::Bool,
    Bool(false),
    "Refuse clients that do not say which place their token is for (RFC 8707). Without it, such a token is for all that its user may \
     use.",
);

pub(super) const ADVERTISE_TAGS: Key = key(
    "advertiseTags",
    ValueKind::Bool,
    Bool(false),
    "List the scopes of tags, `tag:NAME`, in the metadata that anybody may read.",
);

pub(super) const SCOPE_TAGS: Key = key(
    "scopeTags",
    ValueKind::Word(&SCOPE_TAGS_WORDS),
    Text("all"),
    "Which tags a server must have for a token with several scopes `tag:NAME`.",
);

static SCOPE_TAGS_WORDS: Words = Words {
    words: &[Word("all", &[], "each of them"), Word("any", &[], "one of them")],
    otherwise: "is neither; use \"all\" or \"any\"",
};

pub(super) const SCOPE_VALIDATION: Key = key(
    "scopeValidation",
    ValueKind::Bool,
    Bool(true),
    "Offer the scopes of tags. With `false`, nobody can choose them; what the scope of a token is counts in any case.",
);

pub(super) const CLIENTS: Key = key(
    "clients",
    ValueKind::Map { names: &CLIENT_NAMES, of: &CLIENT_OBJECT },
    Empty,
    "Clients that the gateway knows without registration, by their `client_id`: 1 to 64 letters, digits, `.`, `_` or `-`, which do \
     not begin with `sgc_`.",
)
.examples(&[r#"{ "portal": { "redirectUris": ["https://portal.example.com/callback"] } }"#]);

pub(super) const ID_JAG: Key = key(
    "idJag",
    ValueKind::Map { names: &USER_NAMES, of: &CLIENT_NAME_LIST },
    Empty,
    "Which clients get tokens by what an issuer says of somebody (ID-JAG): names of `issuers`, each with names of `clients` that have \
     the grant `urn:ietf:params:oauth:grant-type:jwt-bearer`. See [machines](identity.md#machines).",
)
.examples(&[r#"{ "corp": ["assistant"] }"#]);

static CLIENT_NAME_LIST: ValueKind = ValueKind::List(&CLIENT_NAME);
static CLIENT_NAME: ValueKind = ValueKind::Text(r"^[A-Za-z0-9._-]{1,64}$");

static CLIENT_OBJECT: ValueKind = ValueKind::Object(&CLIENT);
static CLIENT_NAMES: Names = Names { pattern: r"^[A-Za-z0-9._-]{1,64}$", reserved: &[] };

pub(in crate::config) static CLIENT: Object = Object {
    name: "client",
    doc: "A client that the gateway knows without registration.",
    one_of: &[],
    keys: &[
        key(
            "secretSha256",
            ValueKind::Text("^[0-9A-Fa-f]{64}$"),
            Means("it has no secret"),
            "SHA-256 of its secret, 64 hex digits. The secret is to be random: `openssl rand -base64 32` makes a good one.",
        ),
        key(
            "jwks",
            ValueKind::Jwks,
            Means("it has no keys here"),
            "Its public keys, by which it proves itself with what it signs (`private_key_jwt`), in place of a secret: a JWK Set of at most \
             20 keys, each with a `kid` of its own.",
        )
        .examples(&[r#"{ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] }"#]),
        key(
            "jwksUrl",
            ValueKind::Url,
            Means("its keys are nowhere else"),
            "Where it publishes its public keys, in place of `jwks`: `https`, or `http` on this machine.",
        )
        .examples(&[r#""https://ops.example.com/jwks.json""#]),
        key(
            "grants",
            ValueKind::List(&GRANT),
            List(&GrantTypes::DEFAULT_WORDS),
            "By what it gets tokens: for a user who allows it something (`authorization_code`, `refresh_token`); for itself \
             (`client_credentials`); for somebody of whom an issuer says it (`urn:ietf:params:oauth:grant-type:jwt-bearer`, see `idJag`). \
             The last two ask for a secret or keys. See [machines](identity.md#machines).",
        )
        .examples(&[r#"["client_credentials"]"#]),
        key(
            "redirectUris",
            ValueKind::List(&REDIRECT_URI),
            List(&[]),
            "Where users may be sent back to: `https`, `http` to the user's own machine, or one of `redirectSchemes`. They are compared \
             byte by byte, but for the port on the user's own machine.",
        )
        .examples(&[r#"["https://portal.example.com/callback"]"#]),
        key(
            "roles",
            ValueKind::List(&LABEL),
            List(&[]),
            "Roles of the client itself: `admin` may ask about tokens of other clients at `/oauth/introspect`. With the grant \
             `client_credentials` it is a caller of its own, and they open what roles of any caller do. Its users have their own.",
        ),
        SERVERS,
        TAGS,
        key(
            "scopes",
            ValueKind::List(&SCOPE),
            List(&OauthClient::SCOPES),
            "What the tokens may have that it gets without a user's consent: [words of scopes](identity.md#what-a-token-opens).",
        )
        .examples(&[r#"["server:db"]"#]),
    ],
};

static GRANT: ValueKind = ValueKind::Word(&GRANTS);

pub(in crate::config) static GRANTS: Words = Words {
    words: &[
        Word(GrantTypes::CODES, &[], "a user allows it something"),
        Word(GrantTypes::REFRESH, &[], "it refreshes what it was allowed"),
        Word(GrantTypes::CREDENTIALS, &[], "it acts for itself"),
        Word(GrantTypes::ASSERTIONS, &["jwt-bearer"], "an issuer says for whom it acts"),
    ],
    otherwise: "is no grant that there is here; use some of \"authorization_code\", \"refresh_token\", \"client_credentials\" and \
                \"urn:ietf:params:oauth:grant-type:jwt-bearer\"",
};

static REDIRECT_URI: ValueKind = ValueKind::Text(r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$");

/// RFC 6749 §3.3.
pub(super) static SCOPE: ValueKind = ValueKind::Text(r"^[!#-\[\]-~]+$");
