//! What the token endpoint of a provider is asked, and what it answers (RFC 6749 §4.1.3, §5, §6).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::error::IdpError;
use crate::{
    config::{IdpConfig, IdpProvider},
    identity::foreign::source::{Ask, IssuerAnswer},
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
    // All that may be in it, so that it is not moved, and left behind, as it grows.
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(16 << 10));
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
    let secret = config.client_secret.as_ref().map_or("", Secret::expose);
    let authorization = match proof {
        Proof::None => None,
        Proof::Basic => Some(basic(&config.client_id, secret)?),
        Proof::Post => {
            form.append_pair("client_secret", secret);
            None
        }
    };
    if authorization.is_none() {
        form.append_pair("client_id", &config.client_id);
    }
    Ok(Ask { form: Some(form.finish().into()), authorization })
}

/// RFC 6749 §2.3.1: both are encoded as in a form.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, IdpError> {
    let encoded =
        |text: &str| Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    let both = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret)));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*both)));
    let mut value = HeaderValue::from_str(&value).map_err(|_| IdpError::UNKNOWN_CLIENT)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The field by which an access token asks.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, IdpError> {
    let value = Zeroizing::new(format!("Bearer {token}"));
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| IdpError::Broken("its access token is none"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Tokens that a provider gave.
#[derive(Deserialize)]
pub(super) struct Tokens {
    access_token: Option<Zeroizing<String>>,
    token_type: Option<String>,
    pub(super) id_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
    error: Option<String>,
}

impl Tokens {
    /// Those of an answer, or what it says instead. GitHub refuses with 200.
    pub(super) fn of(answer: &IssuerAnswer) -> Result<Self, IdpError> {
        let parsed: Result<Self, _> = serde_json::from_slice(&answer.body);
        match (answer.status, parsed) {
            (_, Ok(Self { error: Some(error), .. })) => Err(IdpError::of_answer(&error)),
            (StatusCode::OK, Ok(tokens)) => {
                let is_bearer = |kind: &str| kind.eq_ignore_ascii_case("bearer");
                match tokens.token_type.as_deref().is_none_or(is_bearer) {
                    true => Ok(tokens),
                    false => {
                        Err(IdpError::Broken("its access token is of a type that the gateway does not know"))
                    }
                }
            }
            (StatusCode::OK, Err(_)) => Err(IdpError::Broken("the answer of its token endpoint is none")),
            (StatusCode::UNAUTHORIZED, _) => Err(IdpError::UNKNOWN_CLIENT),
            _ => Err(IdpError::Broken("its token endpoint refuses, and does not say why")),
        }
    }

    /// What the provider may be asked by about the person.
    pub(super) fn access(&self) -> Option<&str> {
        self.access_token.as_deref().map(String::as_str).filter(|token| !token.is_empty())
    }

    /// What it may be asked by for new ones.
    pub(super) fn refresh(&self) -> Option<Secret> {
        self.refresh_token
            .as_deref()
            .filter(|token| !token.is_empty())
            .map(|token| Secret::new(token.clone()))
    }
}
