//! `upstreamAuth` of a server: with whose credential the gateway calls it.

use std::sync::Arc;

use http::HeaderName;
use regex::Regex;
use url::Url;

use crate::secret::Secret;

/// With whose credential a server is called, where it is not that of the config. `none` and `static` are no such thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAuth {
    /// `client_credentials`: the gateway's own, which it gets from the server's authorization server (RFC 6749 §4.4).
    ClientCredentials(UpstreamOauth),
    /// `user_oauth`: each caller's own account at the server, to which they connect in a browser.
    UserOauth(UpstreamOauth),
    /// `shared_oauth`: one account for all callers, which an admin connects.
    SharedOauth(UpstreamOauth),
    /// `user_token`: a text that each caller enters.
    UserToken(UserToken),
    /// `exchange`: a token that is made of the one by which the caller came.
    Exchange(TokenExchange),
    /// `passthrough`: a field of the caller's, as it is.
    Passthrough(Passthrough),
}

impl UpstreamAuth {
    /// As the config names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientCredentials(_) => "client_credentials",
            Self::UserOauth(_) => "user_oauth",
            Self::SharedOauth(_) => "shared_oauth",
            Self::UserToken(_) => "user_token",
            Self::Exchange(_) => "exchange",
            Self::Passthrough(_) => "passthrough",
        }
    }

    /// Whether each principal has one of its own.
    pub fn is_per_principal(&self) -> bool {
        match self {
            Self::UserOauth(_) | Self::UserToken(_) | Self::Exchange(_) | Self::Passthrough(_) => true,
            Self::ClientCredentials(_) | Self::SharedOauth(_) => false,
        }
    }

    /// Where its token stands in what goes to the server. Of `passthrough`, that is `Authorization`.
    pub fn places(&self) -> &[TokenPlace] {
        match self {
            Self::UserOauth(oauth) | Self::SharedOauth(oauth) | Self::ClientCredentials(oauth) => {
                &oauth.places
            }
            Self::UserToken(token) => &token.places,
            Self::Exchange(exchange) => &exchange.places,
            Self::Passthrough(_) => &[],
        }
    }

    /// Whether a conversation with a server goes on where it is this in place of the other: they differ in nothing but what people are
    /// told.
    pub fn serves_like(&self, other: &Self) -> bool {
        let bare = |auth: &Self| {
            let mut bare = auth.clone();
            match &mut bare {
                Self::UserOauth(oauth) | Self::SharedOauth(oauth) | Self::ClientCredentials(oauth) => {
                    oauth.shown = ShownAs::default();
                }
                Self::UserToken(token) => {
                    token.shown = ShownAs::default();
                    (token.instructions, token.help_url, token.validation) = (None, None, None);
                }
                Self::Exchange(_) | Self::Passthrough(_) => {}
            }
            bare
        };
        bare(self) == bare(other)
    }

    /// What is said of it to people.
    pub fn shown(&self) -> Option<&ShownAs> {
        match self {
            Self::UserOauth(oauth) | Self::SharedOauth(oauth) | Self::ClientCredentials(oauth) => {
                Some(&oauth.shown)
            }
            Self::UserToken(token) => Some(&token.shown),
            Self::Exchange(_) | Self::Passthrough(_) => None,
        }
    }
}

/// What people and clients are told of a server that waits for a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownAs {
    /// `displayName`, default the name of the server.
    pub display_name: Box<str>,
    /// `awaiting`: what a caller without a credential gets of the server.
    pub awaiting: Awaiting,
    /// `elicit`, default true: whether clients that can are asked by an elicitation (MCP 2025-11-25, mode `url`).
    pub elicit: bool,
}

/// `awaiting`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Awaiting {
    /// `tool`: a server with one tool, `connect_NAME`, that says where to connect.
    #[default]
    Tool,
    /// `refuse`: 403.
    Refuse,
}

/// Where a token stands in a request to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenField {
    /// `header`, default `Authorization`.
    pub header: HeaderName,
    /// `format`, default `Bearer {token}`: the text around the token.
    pub format: TokenFormat,
}

/// A text with a token in it: `Bearer {token}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFormat {
    /// What comes before it.
    pub before: Box<str>,
    /// What comes after it.
    pub after: Box<str>,
}

impl TokenFormat {
    /// What stands for the token, here and in configs of MCP Front.
    const MARKS: [&str; 2] = ["{token}", "{{token}}"];

    /// The token alone.
    pub fn plain() -> Self {
        Self { before: "".into(), after: "".into() }
    }

    /// `Bearer {token}`
    pub fn bearer() -> Self {
        Self { before: "Bearer ".into(), after: "".into() }
    }

    /// As it is written: a text with the mark in it, once.
    pub fn parse(text: &str) -> Option<Self> {
        let [mark, of_mcp_front] = Self::MARKS;
        let written = if text.contains(of_mcp_front) { of_mcp_front } else { mark };
        let (before, after) = text.split_once(written)?;
        let is_once = !before.contains(mark) && !after.contains(mark);
        is_once.then(|| Self { before: before.into(), after: after.into() })
    }

    /// This in the place of the token of another.
    pub fn within(&self, other: &Self) -> Self {
        Self {
            before: format!("{}{}", other.before, self.before).into(),
            after: format!("{}{}", self.after, other.after).into(),
        }
    }

    /// The text with this token.
    pub fn with(&self, token: &Secret) -> Secret {
        Secret::new(format!("{}{}{}", self.before, token.expose(), self.after))
    }
}

/// The gateway as a client of the authorization server of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOauth {
    /// `issuer`. `None`: the one that the server names (RFC 9728).
    pub issuer: Option<Arc<str>>,
    /// `authorizationUrl`. With `token_url`, nothing is discovered.
    pub authorization_url: Option<Url>,
    /// `tokenUrl`
    pub token_url: Option<Url>,
    /// `revocationUrl`
    pub revocation_url: Option<Url>,
    /// `clientId`. `None`: by a metadata document where the issuer takes one, else registered (RFC 7591).
    pub client_id: Option<Arc<str>>,
    /// By what the client proves itself.
    pub client_key: UpstreamClientKey,
    /// `clientMetadataUrl`, or `BASE/oauth/client.json` where that is at a public name over HTTPS: the reader of the config writes it here.
    pub client_metadata_url: Option<Url>,
    /// `autoRegister`, default true: whether a client may be registered where there is none.
    pub registers: bool,
    /// `redirectUrl`, or `BASE/oauth/callback/NAME`, which the reader of the config writes here. `None` of `client_credentials`.
    pub redirect_uri: Option<Arc<str>>,
    /// `scopes`
    pub scopes: Vec<String>,
    /// `resource` (RFC 8707).
    pub resource: ResourceParameter,
    /// `extraParams` of the authorization request.
    pub extra_params: Vec<(String, String)>,
    /// Where the token stands. Never empty: `header`, default `Authorization`, or each `$userToken`.
    pub places: Vec<TokenPlace>,
    /// What people are told.
    pub shown: ShownAs,
    /// `allowPrivateIssuers`: whether what the server names may have addresses that are not public.
    pub allows_private_issuers: bool,
}

/// What a config says that says nothing of it.
impl Default for UpstreamOauth {
    fn default() -> Self {
        Self {
            issuer: None,
            authorization_url: None,
            token_url: None,
            revocation_url: None,
            client_id: None,
            client_key: UpstreamClientKey::default(),
            client_metadata_url: None,
            registers: true,
            redirect_uri: None,
            scopes: Vec::new(),
            resource: ResourceParameter::default(),
            extra_params: Vec::new(),
            places: Vec::new(),
            shown: ShownAs::default(),
            allows_private_issuers: false,
        }
    }
}

/// By what the gateway proves which client it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamClientKey {
    /// `tokenAuth`. `None` is `auto`: what the issuer takes, of what there is.
    pub way: Option<ClientAuthWay>,
    /// `clientSecret`
    pub secret: Option<Secret>,
    /// `privateKey`, PEM (PKCS #8): EC P-256 (ES256) or RSA (RS256).
    pub private_key: Option<Secret>,
}

/// `tokenAuth` (OpenID Connect Core §9)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthWay {
    /// `client_secret_basic`
    Basic,
    /// `client_secret_post`
    Post,
    /// `none`
    None,
    /// `private_key_jwt`
    PrivateKeyJwt,
}

impl ClientAuthWay {
    /// As OAuth names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::None => "none",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let all = [Self::Basic, Self::Post, Self::None, Self::PrivateKeyJwt];
        all.into_iter().find(|way| way.name() == name)
    }
}

/// `resource`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ResourceParameter {
    /// `auto`: what the server's metadata says, else its URL.
    #[default]
    Auto,
    /// `false`: none is sent.
    Never,
    /// This one.
    Is(Arc<str>),
}

/// `user_token`: what each caller enters.
#[derive(Debug, Clone)]
pub struct UserToken {
    /// Where it goes. Never empty.
    pub places: Vec<TokenPlace>,
    /// `instructions`: how somebody gets one.
    pub instructions: Option<Box<str>>,
    /// `helpUrl`: where somebody gets one.
    pub help_url: Option<Url>,
    /// `validation`: what it looks like, as a whole.
    pub validation: Option<Regex>,
    /// What people are told.
    pub shown: ShownAs,
}

impl UserToken {
    /// Bytes of one at most. It is visible ASCII.
    pub const LONGEST: usize = 8 * 1024;

    /// Whether it may be one.
    pub fn takes(&self, text: &str) -> bool {
        (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && self.validation.as_ref().is_none_or(|validation| validation.is_match(text))
    }
}

/// A pattern is the text that it is made of.
impl PartialEq for UserToken {
    fn eq(&self, other: &Self) -> bool {
        let pattern =
            |token: &Self| token.validation.as_ref().map(|validation| validation.as_str().to_owned());
        let rest = |token: &Self| {
            (token.places.clone(), token.instructions.clone(), token.help_url.clone(), token.shown.clone())
        };
        pattern(self) == pattern(other) && rest(self) == rest(other)
    }
}

impl Eq for UserToken {}

/// Where the token of a caller goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// A header field of requests to a server reached over HTTP.
    Header(TokenField),
    /// A variable of the process of a command.
    Env {
        /// Its name.
        name: Box<str>,
        /// Its value.
        format: TokenFormat,
    },
}

/// `exchange`: the caller's token is changed for one that is good at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenExchange {
    /// `profile`
    pub profile: ExchangeProfile,
    /// `subject`
    pub subject: ExchangeSubject,
    /// `tokenUrl`: who makes the token. For `id_jag`, the identity provider.
    pub token_url: Url,
    /// `clientId`
    pub client_id: Option<Arc<str>>,
    /// By what the client proves itself.
    pub client_key: UpstreamClientKey,
    /// `audience`
    pub audience: Option<Box<str>>,
    /// `resource`
    pub resource: Option<Box<str>>,
    /// `scopes`
    pub scopes: Vec<String>,
    /// For `id_jag`: `serverTokenUrl`, who takes the assertion for an access token, and the client there.
    pub second: Option<SecondExchange>,
    /// Where the token stands. Never empty: `header`, default `Authorization`, or each `$userToken`.
    pub places: Vec<TokenPlace>,
}

/// The second half of `id_jag`: at the authorization server of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondExchange {
    /// `serverTokenUrl`
    pub token_url: Url,
    /// `serverClientId`
    pub client_id: Option<Arc<str>>,
    /// By what the client proves itself there: `serverClientSecret`, or the same key.
    pub client_key: UpstreamClientKey,
}

/// `profile`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeProfile {
    /// `rfc8693`
    TokenExchange,
    /// `entra_obo`: on behalf of, as Microsoft Entra does it (RFC 7523, `requested_token_use`).
    EntraOnBehalfOf,
    /// `id_jag`: an assertion of the identity provider (`draft-ietf-oauth-identity-assertion-authz-grant`), then RFC 7523.
    IdJag,
}

/// `subject`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeSubject {
    /// `caller`: the token of another issuer by which the caller came.
    Caller,
    /// `login`: what the identity provider gave with the login.
    Login,
}

/// `passthrough`, which has to be called unsafe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passthrough {
    /// `from`: a field of the caller's that the gateway does not read. It goes on as `Authorization`, and as nothing else.
    pub from: HeaderName,
}
