//! What a token endpoint is asked, and what it gives (RFC 6749 §4.1.3, §4.4, §5, §6; RFC 7009).

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded::Serializer};
use zeroize::Zeroizing;

use super::{
    challenge::scope_list,
    client::UpstreamClient,
    discovered::Discovered,
    error::OauthError,
    outgoing::{Outgoing, Reach},
    written,
};
use crate::{
    identity::foreign::{
        source::Ask,
        token_endpoint::{TokenResponse, form},
    },
    secret::Secret,
};

/// Bytes of a token, or a code, at most.
pub(super) const LONGEST_TOKEN: usize = 8 << 10;
/// How long a revocation may take. It is tried once.
const REVOCATION_TIME: Duration = Duration::from_secs(5);
/// Bytes of what an account is called, at most.
const LONGEST_ACCOUNT: usize = 128;

/// What an authorization server gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The access token. It is what a field can carry, unless there is a `fault`.
    #[serde(with = "written::secret")]
    pub access: Secret,
    /// What new ones are got by. `None`, after a refresh: the one that there is stays good.
    #[serde(with = "written::maybe_secret")]
    pub refresh: Option<Secret>,
    /// When the access token ends, if that is said.
    pub ends: Option<SystemTime>,
    /// What it is good for, if that is said: else for what was asked.
    pub scopes: Option<Vec<String>>,
    /// What the account is called there, for people to see and for nothing else.
    pub account: Option<Box<str>>,
    /// Of a refresh: why the access token cannot be used. By then the old refresh token may be spent: what is here is saved first, and
    /// judged later.
    pub fault: Option<Box<str>>,
}

impl TokenAnswer {
    /// As it is kept. It has secrets in it.
    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(32 << 10));
        // Into memory, with keys that are text: nothing can fail.
        let _ = serde_json::to_writer(&mut *text, self);
        text
    }

    /// The one that was kept so.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// What is revoked (RFC 7009 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    Access,
    /// A refresh token, and with it what came of it.
    Refresh,
}

/// What a code is good for, which a browser brought.
pub async fn redeem(
    outgoing: &Outgoing,
    discovered: &Discovered,
    client: &UpstreamClient,
    code: &Secret,
    verifier: &Secret,
    redirect_uri: &str,
    resource: Option<&str>,
) -> Result<TokenAnswer, OauthError> {
    if !(1..=LONGEST_TOKEN).contains(&code.expose().len()) {
        return Err(OauthError::Broken("the code is none"));
    }
    let mut form = form();
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.expose())
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("code_verifier", verifier.expose());
    let at = Endpoint::of(outgoing, discovered, client);
    good(read(at.ask(with(form, &[], resource)).await?, outgoing.clock().now()))
}

/// New tokens for a refresh token. An answer may have a [fault](TokenAnswer::fault).
pub async fn refresh(
    outgoing: &Outgoing,
    discovered: &Discovered,
    client: &UpstreamClient,
    refresh: &Secret,
    scopes: &[String],
    resource: Option<&str>,
) -> Result<TokenAnswer, OauthError> {
    let mut form = form();
    form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", refresh.expose());
    let at = Endpoint::of(outgoing, discovered, client);
    Ok(read(at.ask_once(with(form, scopes, resource)).await?, outgoing.clock().now()))
}

/// A token for the gateway itself.
pub async fn client_credentials(
    outgoing: &Outgoing,
    discovered: &Discovered,
    client: &UpstreamClient,
    scopes: &[String],
    resource: Option<&str>,
) -> Result<TokenAnswer, OauthError> {
    let mut form = form();
    form.append_pair("grant_type", "client_credentials");
    let at = Endpoint::of(outgoing, discovered, client);
    good(read(at.ask(with(form, scopes, resource)).await?, outgoing.clock().now()))
}

/// Has a token revoked, if the authorization server can do that.
pub async fn revoke(
    outgoing: &Outgoing,
    discovered: &Discovered,
    client: &UpstreamClient,
    token: &Secret,
    kind: TokenKind,
) -> Result<(), OauthError> {
    let Some(url) = &discovered.revocation else { return Ok(()) };
    let mut form = form();
    let hint = match kind {
        TokenKind::Access => "access_token",
        TokenKind::Refresh => "refresh_token",
    };
    form.append_pair("token", token.expose()).append_pair("token_type_hint", hint);
    let authorization = client.prove(&mut form, &discovered.issuer, outgoing.clock().now())?;
    let ask = Ask::form(form.finish().into(), authorization);
    // What is in the answer says nothing (RFC 7009 §2.2).
    match outgoing.head(discovered.reach(url), url, ask, REVOCATION_TIME).await? {
        (StatusCode::OK | StatusCode::NO_CONTENT, _) => Ok(()),
        (status, _) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(OauthError::Unavailable("it answers that it cannot at the moment"))
        }
        _ => Err(OauthError::Broken("its revocation endpoint refuses, and does not say why")),
    }
}

/// A token endpoint, and who asks there.
pub(super) struct Endpoint<'a> {
    pub(super) outgoing: &'a Outgoing,
    pub(super) url: &'a Url,
    pub(super) reach: Reach,
    pub(super) client: &'a UpstreamClient,
    /// Who is asked, in an assertion.
    pub(super) audience: &'a str,
}

impl<'a> Endpoint<'a> {
    fn of(outgoing: &'a Outgoing, discovered: &'a Discovered, client: &'a UpstreamClient) -> Self {
        let (url, audience) = (&discovered.token, &*discovered.issuer);
        Self { outgoing, url, reach: discovered.reach(url), client, audience }
    }

    /// What it gives for this form.
    pub(super) async fn ask(&self, form: Serializer<'static, String>) -> Result<TokenResponse, OauthError> {
        let ask = self.proved(form)?;
        Ok(TokenResponse::of(&self.outgoing.ask(self.reach, self.url, ask).await?)?)
    }

    /// The same of a form that uses something up.
    async fn ask_once(&self, form: Serializer<'static, String>) -> Result<TokenResponse, OauthError> {
        let ask = self.proved(form)?;
        Ok(TokenResponse::of(&self.outgoing.ask_once(self.reach, self.url, ask).await?)?)
    }

    fn proved(&self, mut form: Serializer<'static, String>) -> Result<Ask, OauthError> {
        // What one issuer gave is not shown to another.
        if *self.client.issuer != *self.audience {
            return Err(OauthError::Broken("the client is one of another issuer"));
        }
        let authorization = self.client.prove(&mut form, self.audience, self.outgoing.clock().now())?;
        Ok(Ask::form(form.finish().into(), authorization))
    }
}

/// A form, with what tokens are to be good for.
pub(super) fn with(
    mut form: Serializer<'static, String>,
    scopes: &[String],
    resource: Option<&str>,
) -> Serializer<'static, String> {
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    if let Some(resource) = resource {
        form.append_pair("resource", resource);
    }
    form
}

/// What is in an answer that came at this time.
pub(super) fn read(tokens: TokenResponse, now: SystemTime) -> TokenAnswer {
    let access = tokens.access().unwrap_or_default();
    let fault = match () {
        () if !is_token(access) => Some("it gave no access token that a field can carry"),
        () if !tokens.is_bearer() => Some("its access token is none of type Bearer"),
        () => None,
    };
    TokenAnswer {
        access: Secret::new(access.to_owned()),
        refresh: tokens.refresh().filter(|token| token.expose().len() <= LONGEST_TOKEN),
        ends: tokens.good_for().and_then(|time| now.checked_add(time)),
        scopes: tokens.scope.as_deref().map(scope_list),
        account: tokens.id_token.as_deref().and_then(|token| account(token)),
        fault: fault.map(Into::into),
    }
}

/// The answer, if its access token can be used.
pub(super) fn good(answer: TokenAnswer) -> Result<TokenAnswer, OauthError> {
    const FAULT: OauthError =
        OauthError::Broken("it gave no access token of type Bearer that a field can carry");
    if answer.fault.is_none() { Ok(answer) } else { Err(FAULT) }
}

/// Whether a field can carry it.
pub(super) fn is_token(token: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What the account is called, as the authorization server says it to the gateway, over a connection to nobody else (OpenID Connect Core
/// §3.1.3.7, 6): its signature is not looked at, and nothing is decided by it.
fn account(id_token: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Claims {
        email: Option<String>,
        preferred_username: Option<String>,
        name: Option<String>,
        sub: Option<String>,
    }
    let claims: Claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1)?).ok()?).ok()?;
    let all = [claims.email, claims.preferred_username, claims.name, claims.sub];
    let is_name =
        |name: &String| (1..=LONGEST_ACCOUNT).contains(&name.len()) && !name.chars().any(char::is_control);
    all.into_iter().flatten().find(is_name).map(Into::into)
}
