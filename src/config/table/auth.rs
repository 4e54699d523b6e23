//! `proxy.auth`.

use super::{
    callers::{ROLES, SERVERS, TAGS, USER_NAMES},
    idp, issuers, oauth, secs,
};
use crate::config::snapshot::LoginTerms;
use crate::config::table::key::{
    Absent::{Bool, Duration, Empty, List, Means, Nothing, Number, Required, Text},
    Names, Object, ValueKind, Word, Words, count, key,
};

pub(in crate::config) static AUTH: Object = Object {
    name: "auth",
    doc: "Who may come in.",
    one_of: &[],
    keys: &[
        key("kind", ValueKind::Word(&KINDS), Text("bearer_token"), "How callers prove who they are."),
        key(
            "schemes",
            ValueKind::List(&SCHEME),
            List(&["bearer"]),
            "How a request may present its credential. Fields of the others are not read, and go to no server either; a scheme of \
             `Authorization` that is not on the list is refused. See [tokens](tokens.md#how-a-request-presents-its-token).",
        )
        .examples(&[r#"["bearer", "apikey"]"#]),
        key(
            "queryToken",
            ValueKind::Bool,
            Bool(false),
            "Accept the token as `?token=` too. It ends up in logs and histories of others on the way.",
        ),
        key(
            "adminSeesAll",
            ValueKind::Bool,
            Bool(false),
            "The role `admin` passes `authTokens`, `users`, `roles` and `tools` of every server. What the caller itself is limited to \
             (`servers`, `tags`) holds all the same.",
        ),
        key(
            "tokens",
            ValueKind::Map { names: &TOKEN_NAMES, of: &ValueKind::OneOrMany(&CREDENTIAL) },
            Empty,
            "Token names and what proves each of them: one credential, or a list of them, so that rotation can overlap. \
             A name has 1 to 128 bytes, on one line. Only names appear in logs and metrics. See \
             [tokens](tokens.md).",
        )
        .examples(&[r#"{ "ci": { "$env": "CI_TOKEN" } }"#]),
        key(
            "tenants",
            ValueKind::Object(&TENANTS),
            Nothing,
            "Callers whose tokens come in a header field of their own. See [tenants](tokens.md#tenants).",
        ),
        key(
            "users",
            ValueKind::Map { names: &USER_NAMES, of: &ValueKind::Object(&USER) },
            Empty,
            "People, by the name that they give beside their password: 1 to 128 bytes, on one line, without `:`, blanks at the ends or what nobody sees. See \
             [users](users.md).",
        ),
        idp::IDP,
        idp::ALLOWED_DOMAINS,
        idp::GOOGLE_CLIENT_ID,
        idp::GOOGLE_CLIENT_SECRET,
        idp::GOOGLE_REDIRECT_URI,
        issuers::ISSUERS,
        issuers::ASSIGN,
        key("sessions", ValueKind::Object(&LOGINS), Empty, "How long [logins](users.md#how-long-a-login-lasts) of users last."),
        key(
            "storage",
            ValueKind::Word(&STORAGES),
            Text("file"),
            "Where logins are kept, if there are `users`. See [where logins are kept](users.md#where-logins-are-kept).",
        )
        .restart(""),
        key(
            "jwtSecret",
            ValueKind::OneOrMany(&JWT_SECRET),
            Means("one that is made once, in `keys.json` of `proxy.stateDir`"),
            "What the keys of session tokens are made of, where logins are in a file: at least 32 characters. Of a list, the first \
             seals and all open, so that rotation can overlap.",
        )
        .examples(&[r#"{ "$env": "JWT_SECRET" }"#])
        .restart(""),
        key(
            "encryptionKey",
            ValueKind::OneOrMany(&ENCRYPTION_KEY),
            Means("one that is made once, in `keys.json` of `proxy.stateDir`"),
            "Key of what is secret in the file of logins: exactly 32 bytes, or `base64:` and 32 bytes in base64. Of a list, the \
             first seals and all open.",
        )
        .examples(&[r#"{ "$env": "ENCRYPTION_KEY" }"#])
        .restart(""),
        oauth::ISSUER,
        oauth::TOKEN_TTL,
        oauth::REFRESH_TOKEN_TTL,
        oauth::REFRESH_TOKEN_SCOPES,
        oauth::REFRESH_REUSE_GRACE,
        oauth::REGISTRATION,
        oauth::REDIRECT_SCHEMES,
        oauth::REQUIRE_RESOURCE,
        oauth::ADVERTISE_TAGS,
        oauth::SCOPE_TAGS,
        oauth::SCOPE_VALIDATION,
        oauth::CLIENTS,
        oauth::ID_JAG,
    ],
};

static LOGINS: Object = Object {
    name: "logins",
    doc: "How long logins of users last.",
    one_of: &[],
    keys: &[
        key(
            "accessTtl",
            ValueKind::Duration(secs(1)),
            Duration(LoginTerms::DEFAULT.access_ttl),
            "How long a session token is good.",
        ),
        key(
            "refreshTtl",
            ValueKind::Duration(secs(1)),
            Duration(LoginTerms::DEFAULT.refresh_ttl),
            "How long a refresh token is good that is not used.",
        ),
        key(
            "maxAge",
            ValueKind::Duration(secs(1)),
            Duration(LoginTerms::DEFAULT.max_age),
            "After which time a user logs in again, whatever was refreshed.",
        ),
        key(
            "perUser",
            count(1, 1000),
            Number(LoginTerms::DEFAULT.per_user),
            "Logins of one user at a time. One more ends the one that was refreshed longest ago.",
        ),
        key(
            "reuseGrace",
            ValueKind::Duration(secs(0)),
            Duration(LoginTerms::DEFAULT.reuse_grace),
            "How long a refresh token that was used brings the same next one again. Later, its login is ended.",
        ),
    ],
};

static STORAGES: Words = Words {
    words: &[
        Word("file", &[], "in `logins.db` of `proxy.stateDir`; they outlive the process"),
        Word("memory", &[], "they end with the process, and need no disk"),
    ],
    otherwise: "is no way to keep logins; use \"file\" or \"memory\"",
};

static JWT_SECRET: ValueKind = ValueKind::Secret(r"^[\s\S]{32,}$");
static ENCRYPTION_KEY: ValueKind = ValueKind::Secret(r"^([\s\S]{32}|base64:[A-Za-z0-9+/_-]{43}=?)$");

static KINDS: Words = Words {
    words: &[
        Word("bearer_token", &[], "by a token that they were given"),
        Word(
            "oauth",
            &[],
            "so too, and by one that the gateway issues to clients whose user logs in, by a password, a token or `idp`",
        ),
    ],
    otherwise: "is no kind of auth; use \"bearer_token\" or \"oauth\"",
};

static SCHEME: ValueKind = ValueKind::Word(&SCHEMES);

pub(in crate::config) static SCHEMES: Words = Words {
    words: &[
        Word("bearer", &[], "`Authorization: Bearer TOKEN`"),
        Word(
            "basic",
            &[],
            "`Authorization: Basic …`, base64 of the token's name, a colon and the token, or of a user's name, a colon and the password",
        ),
        Word("apikey", &[], "`Authorization: ApiKey TOKEN`"),
        Word("x-api-key", &[], "`X-API-Key: TOKEN`"),
        Word("cookie", &[], "the cookie `token`"),
    ],
    otherwise: "is no scheme; use \"bearer\", \"basic\", \"apikey\", \"x-api-key\" or \"cookie\"",
};

static TOKEN_NAMES: Names = Names { pattern: r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$", reserved: &[] };

pub(in crate::config) static TENANTS: Object = Object {
    name: "tenants",
    doc: "Callers whose tokens come in a header field of their own.",
    one_of: &[],
    keys: &[
        key(
            "header",
            ValueKind::Text("^[A-Za-z0-9-]{1,64}$"),
            Text("X-Tenant-Token"),
            "The field, one without another meaning. No server sees it.",
        ),
        key(
            "tokens",
            ValueKind::Map { names: &TOKEN_NAMES, of: &ValueKind::OneOrMany(&CREDENTIAL) },
            Empty,
            "Names of tenants and what proves each of them, as `proxy.auth.tokens` has them. They are no names of tokens: `authTokens` \
             lists none of them.",
        )
        .examples(&[r#"{ "acme": { "$env": "ACME_TOKEN" } }"#]),
    ],
};

static CREDENTIAL: ValueKind = ValueKind::SecretOr(&TOKEN);

pub(in crate::config) static TOKEN: Object = Object {
    name: "token",
    doc: "A token with conditions; `sluicegate token new` prints one.",
    one_of: &["sha256", "value"],
    keys: &[
        key(
            "sha256",
            ValueKind::Text("^[0-9A-Fa-f]{64}$"),
            Nothing,
            "SHA-256 of the token, 64 hex digits, so that the config holds no secret.",
        ),
        key(
            "value",
            ValueKind::Secret("^[!-~]+$"),
            Nothing,
            "The token itself, in place of `sha256`; best a reference. Letters, digits and other visible ASCII, at least \
             16 of them to be safe.",
        )
        .examples(&[r#"{ "$env": "CI_TOKEN" }"#]),
        key(
            "id",
            ValueKind::Text("^[A-Za-z0-9._-]{1,64}$"),
            Means("eight characters that stay with the token, and say nothing of it"),
            "What this credential is called in `token_used_total`, for rotation. With `sessionKey`, what it is without one \
             stays through restarts, and is the same on every node.",
        )
        .examples(&[r#""2027-01""#]),
        key(
            "expires",
            ValueKind::Text(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"),
            Means("never"),
            "Moment in UTC from which the credential is refused.",
        )
        .examples(&[r#""2027-01-31T00:00:00Z""#]),
        ROLES,
        SERVERS,
        TAGS,
        key(
            "decoy",
            ValueKind::Bool,
            Bool(false),
            "A token that nobody is to use, laid out for a thief. Whoever does gets an empty server whatever they ask for, and \
             the log warns. See [decoys](tokens.md#decoys).",
        ),
    ],
};

pub(in crate::config) static USER: Object = Object {
    name: "user",
    doc: "A person who comes in by a password.",
    one_of: &[],
    keys: &[
        key(
            "passwordHash",
            ValueKind::Secret(r"^\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$"),
            Required,
            "argon2id hash of the password in PHC form, of at most 64 MiB (`m=65536`), `t=4` and `p=4`, so that a login \
             costs little.",
        )
        .examples(&[r#"{ "$file": "alice.hash" }"#]),
        ROLES,
        SERVERS,
        TAGS,
        key("disabled", ValueKind::Bool, Bool(false), "The user is let in no more, as if it were not there."),
    ],
};
