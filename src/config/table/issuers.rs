//! `proxy.auth`, the keys of tokens that others issue.

use super::{
    LABEL,
    callers::{ROLES, SERVERS, TAGS, USER_NAMES},
    secs,
};
use crate::config::issuers::{Introspection, Issuer};
use crate::config::table::key::{
    Absent::{Duration, Empty, List, Means, Required, Text},
    Key, Object, ValueKind, Word, Words, key,
};

pub(super) const ISSUERS: Key = key(
    "issuers",
    ValueKind::Map { names: &USER_NAMES, of: &ISSUER_OBJECT },
    Empty,
    "Whose JSON Web Tokens are taken beside the gateway's own, by names of yours: 1 to 128 bytes, on one line, without `:`, blanks at \
     the ends or what nobody sees. Who comes with one is `jwt:NAME:SUBJECT`. See [tokens of others](identity.md#tokens-of-others).",
)
.examples(&[r#"{ "corp": { "issuer": "https://login.corp.example", "audiences": ["mcp"] } }"#]);

pub(super) const ASSIGN: Key = key(
    "assign",
    ValueKind::List(&ASSIGNMENT_OBJECT),
    List(&[]),
    "What those are given who come with a token of one of `issuers`, or log in by `idp`. Entries whose condition holds add up. See \
     [who may do what](identity.md#who-may-do-what).",
)
.examples(&[r#"[{ "if": { "email": "*@corp.example" }, "roles": ["dev"] }]"#]);

static ISSUER_OBJECT: ValueKind = ValueKind::Object(&ISSUER);

pub(in crate::config) static ISSUER: Object = Object {
    name: "issuer",
    doc: "Somebody who issues JSON Web Tokens for the gateway (RFC 9068).",
    one_of: &[],
    keys: &[
        key(
            "issuer",
            ValueKind::Url,
            Required,
            "What `iss` of its tokens is, byte by byte: a slash at the end counts. `https`, or `http` on this machine, without a query.",
        )
        .examples(&[r#""https://login.corp.example""#]),
        key(
            "jwksUrl",
            ValueKind::OrNull(&ValueKind::Url),
            Means("`null`: its metadata says it"),
            "Where its keys are: `https`, or `http` on this machine.",
        )
        .examples(&[r#""https://login.corp.example/keys""#]),
        key(
            "audiences",
            ValueKind::List(&LABEL),
            List(&[]),
            "Values of `aud` by which a token is for all of the gateway. In any case, `aud` may be the URL of a place of the gateway, if \
             there is `proxy.baseUrl`; without that, an issuer needs `audiences`.",
        )
        .examples(&[r#"["https://mcp.example.com"]"#]),
        key(
            "algorithms",
            ValueKind::List(&ALGORITHM),
            List(&Issuer::ALGORITHMS),
            "Algorithms of signatures that are taken.",
        ),
        key(
            "typ",
            ValueKind::List(&TYPE),
            List(&Issuer::TYPES),
            "Values of `typ` in the header of tokens that are taken, in any letter case, with or without `application/` in front. Many \
             issuers write `JWT`, also into ID tokens: then `audiences` keeps those apart.",
        )
        .examples(&[r#"["at+jwt", "JWT"]"#]),
        key("principalClaim", ValueKind::Text(r"\S"), Text(Issuer::PRINCIPAL_CLAIM), "The claim that says who it is."),
        key(
            "scopeClaim",
            ValueKind::OrNull(&LABEL),
            Text(Issuer::SCOPE_CLAIM),
            "The claim that has the [scope](identity.md#what-a-token-opens), as text or as a list; a token without it opens nothing. \
             `null`: tokens have no scope, and rules alone limit what they open.",
        ),
        key(
            "tenantId",
            ValueKind::Text(r"\S"),
            Means("`tid` is not looked at"),
            "What the claim `tid` is, of an issuer that has tenants, such as Entra.",
        )
        .examples(&[r#""72f988bf-86f1-41af-91ab-2d7cd011db47""#]),
        key(
            "leeway",
            ValueKind::Duration(secs(0)),
            Duration(Issuer::LEEWAY),
            "How far its clock may be off: 5 minutes at most.",
        ),
        key(
            "streamGrace",
            ValueKind::Duration(secs(0)),
            Duration(Issuer::STREAM_GRACE),
            "How long a stream goes on when the token that began it has expired.",
        ),
        key(
            "introspection",
            ValueKind::Object(&INTROSPECTION),
            Means("it is not asked about tokens"),
            "How it is asked about tokens that are no JWTs, and whether a JWT of it was revoked. See \
             [tokens that only the issuer can read](identity.md#tokens-that-only-the-issuer-can-read).",
        )
        .examples(&[
            r#"{ "url": "https://login.corp.example/introspect", "clientId": "gate", "clientSecret": { "$env": "INTROSPECTION_SECRET" } }"#,
        ]),
    ],
};

pub(in crate::config) static INTROSPECTION: Object = Object {
    name: "introspection",
    doc: "How an issuer is asked about tokens (RFC 7662).",
    one_of: &[],
    keys: &[
        key("url", ValueKind::Url, Required, "Where it answers: `https`, or `http` on this machine.")
            .examples(&[r#""https://login.corp.example/introspect""#]),
        key("clientId", ValueKind::Text(r"\S"), Required, "As which client the gateway asks, by `client_secret_basic`.")
            .examples(&[r#""gate""#]),
        key("clientSecret", ValueKind::Secret(r"\S"), Required, "The secret of that client; best a reference.")
            .examples(&[r#"{ "$env": "INTROSPECTION_SECRET" }"#]),
        key(
            "cacheTtl",
            ValueKind::Duration(secs(1)),
            Duration(Introspection::CACHE_TTL),
            "How long a yes is taken for one: 10 minutes at most. A token that is revoked opens the gateway so long, and streams go on.",
        ),
        key(
            "tokenPrefix",
            ValueKind::Text(r"^[A-Za-z0-9._~+/-]+$"),
            Means("any that is of no other kind"),
            "What its tokens begin with that are no JWTs. Others are not sent to it. Where several issuers are asked, each needs one.",
        )
        .examples(&[r#""corp_""#]),
    ],
};

static ALGORITHM: ValueKind = ValueKind::Word(&ALGORITHMS);

pub(in crate::config) static ALGORITHMS: Words = Words {
    words: &[
        Word("RS256", &[], "RSA with SHA-256"),
        Word("RS384", &[], "RSA with SHA-384"),
        Word("RS512", &[], "RSA with SHA-512"),
        Word("PS256", &[], "RSA-PSS with SHA-256"),
        Word("PS384", &[], "RSA-PSS with SHA-384"),
        Word("PS512", &[], "RSA-PSS with SHA-512"),
        Word("ES256", &[], "ECDSA with P-256"),
        Word("ES384", &[], "ECDSA with P-384"),
        Word("EdDSA", &[], "Ed25519"),
    ],
    otherwise: "is no algorithm that is taken; use some of \"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \
                \"ES384\" and \"EdDSA\"",
};

/// A media type, which may lack what is in front of the slash.
static TYPE: ValueKind = ValueKind::Text(r"^([A-Za-z0-9]+/)?[A-Za-z0-9][A-Za-z0-9._+-]*$");

static ASSIGNMENT_OBJECT: ValueKind = ValueKind::Object(&ASSIGNMENT);

pub(in crate::config) static ASSIGNMENT: Object = Object {
    name: "assignment",
    doc: "What those are given who come with tokens of others, or by `idp`, and meet a condition.",
    one_of: &[],
    keys: &[
        key("if", ValueKind::Object(&CONDITION), Required, "Whom it is for: all that is there has to hold.")
            .examples(&[r#"{ "email": "*@corp.example" }"#]),
        ROLES,
        SERVERS,
        TAGS,
    ],
};

pub(in crate::config) static CONDITION: Object = Object {
    name: "condition",
    doc: "All that is there has to hold. It cannot be empty, which would mean everybody.",
    one_of: &[],
    keys: &[
        key(
            "issuer",
            ValueKind::Text(r"\S"),
            Means("any"),
            "The name of one of `issuers`, of which the token has to be, or the `provider` of `idp`.",
        )
        .examples(&[r#""corp""#]),
        key(
            "email",
            ValueKind::Text(r"^(\*|[^\s@*]+)@[^\s@*]+$"),
            Means("any, or none"),
            "The address that the token has in `email`, which it has to call verified; or `*@` and the host of it, for all of that host.",
        )
        .examples(&[r#""alice@corp.example""#, r#""*@corp.example""#]),
        key(
            "claim",
            ValueKind::Text(r"\S"),
            Means("none is looked at"),
            "A claim of the token that `has` says something of. Without `has`, it is refused.",
        )
        .examples(&[r#""groups""#]),
        key(
            "has",
            ValueKind::Text(r"\S"),
            Means("no claim is looked at"),
            "What `claim` is, or has in its list. Without `claim`, it is refused.",
        )
        .examples(&[r#""eng""#]),
    ],
};
