//! `proxy.auth` with `"kind": "oauth"`: what the gateway is as an authorization server of its own.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use url::Url;

use super::{access::CallerLimits, idp::IdpConfig};

/// The gateway as an authorization server, and as the resource server of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthConfig {
    /// `proxy.baseUrl` as it is written, without a slash at its end: what the URL of each place begins with.
    pub base: Arc<str>,
    /// `issuer`, which clients compare byte by byte: as it is written. Default: `base`.
    pub issuer: Arc<str>,
    /// Hosts at which clients find the gateway: those of `base`, of `issuer`, and of `proxy.allowedHosts`. In small letters, without a dot
    /// at their end, an IPv6 address without brackets.
    pub own_hosts: Vec<String>,
    /// `tokenTtl`: how long an access token is good.
    pub token_ttl: Duration,
    /// `refreshTokenTtl`: how long a refresh token is good that is not used.
    pub refresh_token_ttl: Duration,
    /// `refreshTokenScopes`: a refresh token comes with one of these; with any, if there are none.
    pub refresh_token_scopes: Vec<String>,
    /// `refreshReuseGrace`: how long a refresh token that was used brings the same next one.
    pub refresh_reuse_grace: Duration,
    /// `registration`: which clients may come that the config does not have.
    pub registration: Registration,
    /// `redirectSchemes`: schemes of programs, to which a redirect may lead.
    pub redirect_schemes: Vec<String>,
    /// `requireResource`: whether a client must say which place its token is for.
    pub require_resource: bool,
    /// `advertiseTags`: whether metadata lists the scopes of tags. Never, if they are not offered.
    pub advertise_tags: bool,
    /// `scopeTags`: which of several tags in a scope a server must have.
    pub scope_tags: ScopeTags,
    /// `scopeValidation`: whether scopes of tags are offered. A scope that a token has counts in any case.
    pub offers_tags: bool,
    /// `clients`, in file order.
    pub clients: Vec<OauthClient>,
    /// `idp`
    pub idp: Option<Arc<IdpConfig>>,
    /// `idJag`: the name of an issuer, and that of a client which gets tokens by what that issuer says of somebody.
    pub id_jag: Vec<(Arc<str>, Arc<str>)>,
}

impl OauthConfig {
    /// What ids of clients begin with that registered themselves. No client of the config has such a name.
    pub const REGISTERED_CLIENT: &str = "sgc_";
    /// `tokenTtl` where the config does not say it.
    pub const TOKEN_TTL: Duration = Duration::from_secs(3600);
    /// `refreshTokenTtl` where the config does not say it.
    pub const REFRESH_TOKEN_TTL: Duration = Duration::from_secs(720 * 3600);
    /// `refreshReuseGrace` where the config does not say it. Clients refresh from several processes, in bursts of a minute.
    pub const REFRESH_REUSE_GRACE: Duration = Duration::from_secs(120);

    /// `redirectSchemes` where the config does not say it.
    pub const REDIRECT_SCHEMES: [&str; 3] = ["cursor", "vscode", "vscode-insiders"];

    /// That of `"kind": "oauth"` alone, where `proxy.baseUrl` is this.
    pub fn at(base: &str) -> Self {
        Self {
            base: base.into(),
            issuer: base.into(),
            own_hosts: Vec::new(),
            token_ttl: Self::TOKEN_TTL,
            refresh_token_ttl: Self::REFRESH_TOKEN_TTL,
            refresh_token_scopes: Vec::new(),
            refresh_reuse_grace: Self::REFRESH_REUSE_GRACE,
            registration: Registration::Open,
            redirect_schemes: Self::REDIRECT_SCHEMES.map(str::to_owned).to_vec(),
            require_resource: false,
            advertise_tags: false,
            scope_tags: ScopeTags::All,
            offers_tags: true,
            clients: Vec::new(),
            idp: None,
            id_jag: Vec::new(),
        }
    }

    /// Whether this client gets tokens by what this issuer says of somebody.
    pub fn takes_assertions(&self, issuer: &str, client: &OauthClient) -> bool {
        client.grants.assertions && self.id_jag.iter().any(|(of, to)| **of == *issuer && *to == client.name)
    }

    /// The client of the config that has this name.
    pub fn client(&self, name: &str) -> Option<&OauthClient> {
        self.clients.iter().find(|client| *client.name == *name)
    }
}

/// Which clients may come that the config does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Any.
    Open,
    /// None, not even one on the user's machine.
    Off,
    /// Those on the user's machine, and those with a redirect, or the metadata document, at one of these hosts. One that is meant at
    /// another port than that of `https` has it behind a colon.
    Hosts(Vec<String>),
}

/// Which of the tags in a scope a server must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScopeTags {
    /// Each of them.
    #[default]
    All,
    /// One of them.
    Any,
}

/// A client of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthClient {
    /// Key in `proxy.auth.clients`: its `client_id`.
    pub name: Arc<str>,
    /// `secretSha256`, `jwks`, `jwksUrl`: how it proves that it is the one.
    pub proof: ClientProof,
    /// `grants`: by what it gets tokens.
    pub grants: GrantTypes,
    /// `redirectUris`, as they are written.
    pub redirect_uris: Vec<Arc<str>>,
    /// `roles` of the client itself, such as `admin` to ask about tokens of others.
    pub roles: Vec<String>,
    /// `servers` and `tags`: what the client itself is limited to.
    pub limits: CallerLimits,
    /// `scopes`: what it may ask for where no user allows it something.
    pub scopes: Vec<String>,
}

impl OauthClient {
    /// `scopes` where the config does not say it.
    pub const SCOPES: [&str; 1] = ["mcp"];

    /// Whether it is a caller of its own.
    pub fn is_caller(&self) -> bool {
        self.grants.credentials && self.proof != ClientProof::None
    }

    /// What it proves itself by, each by a SHA-256 that no other has.
    pub fn credentials(&self) -> Vec<[u8; 32]> {
        match &self.proof {
            ClientProof::None => Vec::new(),
            ClientProof::Secret(digest) => vec![ClientProof::digest("secret", digest)],
            ClientProof::Keys(keys) => keys.iter().map(|key| key.credential).collect(),
            ClientProof::KeysAt(url) => vec![ClientProof::digest("url", url.as_str().as_bytes())],
        }
    }
}

/// How a client proves that it is the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// Not at all: a public client.
    None,
    /// By a secret with this SHA-256.
    Secret([u8; 32]),
    /// By what it signs with one of these keys (RFC 7523).
    Keys(Arc<[ClientKey]>),
    /// The same by keys that it publishes there.
    KeysAt(Url),
}

impl ClientProof {
    /// The SHA-256 of something of this kind that proves a client.
    pub fn digest(kind: &str, of: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(kind).chain_update([0]).chain_update(of).finalize().into()
    }
}

/// A key of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// `kid`
    pub id: Arc<str>,
    /// All of it, as JSON (RFC 7517).
    pub json: Arc<str>,
    /// By which it is told from others.
    pub credential: [u8; 32],
}

/// By what a client gets tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantTypes {
    /// By a code that a user has it sent.
    pub codes: bool,
    /// By a refresh token.
    pub refresh: bool,
    /// By its own proof alone: for itself.
    pub credentials: bool,
    /// By what an issuer says of somebody (RFC 7523, ID-JAG).
    pub assertions: bool,
}

impl GrantTypes {
    /// `grants` where the config does not say it, and those of every client that the config does not have.
    pub const DEFAULT: Self = Self { codes: true, refresh: true, credentials: false, assertions: false };
    /// The same, as it is written.
    pub const DEFAULT_WORDS: [&str; 2] = [Self::CODES, Self::REFRESH];
    /// All of them.
    pub const ALL: Self = Self { codes: true, refresh: true, credentials: true, assertions: true };
    const NONE: Self = Self { codes: false, refresh: false, credentials: false, assertions: false };

    /// [`Self::codes`], as it is written.
    pub const CODES: &str = "authorization_code";
    /// [`Self::refresh`], as it is written.
    pub const REFRESH: &str = "refresh_token";
    /// [`Self::credentials`], as it is written.
    pub const CREDENTIALS: &str = "client_credentials";
    /// [`Self::assertions`], as it is written.
    pub const ASSERTIONS: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

    /// Those of these words.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words.into_iter().fold(Self::NONE, |all, word| match word {
            Self::CODES => Self { codes: true, ..all },
            Self::REFRESH => Self { refresh: true, ..all },
            Self::CREDENTIALS => Self { credentials: true, ..all },
            Self::ASSERTIONS => Self { assertions: true, ..all },
            _ => all,
        })
    }

    /// Those that both have.
    pub fn common(self, other: Self) -> Self {
        Self {
            codes: self.codes && other.codes,
            refresh: self.refresh && other.refresh,
            credentials: self.credentials && other.credentials,
            assertions: self.assertions && other.assertions,
        }
    }
}
