//! `proxy.auth` with `"kind": "oauth"`: what the gateway is as an authorization server of its own.

use std::{sync::Arc, time::Duration};

use super::idp::IdpConfig;

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
        }
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
    /// `secretSha256`: SHA-256 of its secret; `None` is a public client.
    pub secret: Option<[u8; 32]>,
    /// `redirectUris`, as they are written.
    pub redirect_uris: Vec<Arc<str>>,
    /// `roles` of the client itself, such as `admin` to ask about tokens of others.
    pub roles: Vec<String>,
}
