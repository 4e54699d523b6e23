//! What the token endpoint of a provider is asked, and what it answers (RFC 6749 §4.1.3, §5, §6).

use http::HeaderValue;

use super::error::IdpError;
use crate::{
    config::{IdpConfig, IdpProvider},
    identity::foreign::{
        source::{Ask, IssuerAnswer},
        token_endpoint::{self, NoTokens, TokenResponse, basic},
    },
    secret::Secret,
};

/// What the gateway has for which it wants tokens.
#[derive(Clone, Copy)]
pub(super) enum Grant<'a> {
    /// What the browser brought.
    Code { code: &'a Secret, verifier: &'a Secret },
    /// What the provider gave the gateway before.
    Refresh(&'a Secret),
}

/// How the gateway proves that it is the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Not at all: it has no secret.
    None,
    /// `client_secret_basic`
    Basic,
    /// `client_secret_post`
    Post,
}

impl Proof {
    /// The ways to try, in this order. Many providers list more than they take of one client, and what a client was registered with,
    /// only they know.
    pub(super) fn ways(config: &IdpConfig, listed: Option<&[String]>) -> Vec<Self> {
        if config.client_secret.is_none() {
            return vec![Self::None];
        }
        if config.provider == IdpProvider::Github {
            return vec![Self::Post];
        }
        let has = |name: &str| listed.is_none_or(|all| all.iter().any(|method| method == name));
        match (has("client_secret_basic"), has("client_secret_post")) {
            (true, false) => vec![Self::Basic],
            (false, true) => vec![Self::Post],
            // The config has a secret, whatever the list says.
            _ => vec![Self::Basic, Self::Post],
        }
    }
}

/// What is asked.
pub(super) fn ask(config: &IdpConfig, grant: Grant<'_>, proof: Proof) -> Result<Ask, IdpError> {
    let mut form = token_endpoint::form();
    match grant {
        Grant::Code { code, verifier } => {
            form.append_pair("grant_type", "authorization_code")
                .append_pair("code", code.expose())
                .append_pair("redirect_uri", &config.redirect_uri)
                .append_pair("code_verifier", verifier.expose());
        }
        Grant::Refresh(token) => {
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose());
        }
    }
    let secret = || config.client_secret.as_ref().ok_or(IdpError::UNKNOWN_CLIENT);
    let authorization = match proof {
        Proof::None => None,
        Proof::Basic => Some(basic(&config.client_id, secret()?).ok_or(IdpError::UNKNOWN_CLIENT)?),
        Proof::Post => {
            form.append_pair("client_secret", secret()?.expose());
            None
        }
    };
    if authorization.is_none() {
        form.append_pair("client_id", &config.client_id);
    }
    Ok(Ask::form(form.finish().into(), authorization))
}

/// The field by which an access token asks.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, IdpError> {
    token_endpoint::bearer(token).ok_or(IdpError::Broken("its access token is none"))
}

/// Tokens that a provider gave, or what it says instead.
pub(super) fn tokens(answer: &IssuerAnswer) -> Result<TokenResponse, IdpError> {
    let tokens = TokenResponse::of(answer).map_err(|why| match why {
        NoTokens::Refused { error, .. } => IdpError::of_answer(&error),
        NoTokens::Unauthorized => IdpError::UNKNOWN_CLIENT,
        NoTokens::Unreadable => IdpError::Broken("the answer of its token endpoint is none"),
        NoTokens::Unsaid => IdpError::Broken("its token endpoint refuses, and does not say why"),
    })?;
    match tokens.token_type.is_none() || tokens.is_bearer() {
        true => Ok(tokens),
        false => Err(IdpError::Broken("its access token is of a type that the gateway does not know")),
    }
}
