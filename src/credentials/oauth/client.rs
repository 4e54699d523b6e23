//! Who the gateway is at an authorization server, and how it proves that.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::{error::OauthError, written};
use crate::{
    config::{ClientAuthWay, UpstreamClientKey},
    identity::foreign::token_endpoint::basic,
    net::signing_key::SigningKey,
    secret::Secret,
};

/// Seconds that an assertion is good.
const ASSERTION: u64 = 60;

/// Who the gateway is at one issuer. What another issuer gave is never shown to this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpstreamClient {
    /// `client_id`
    #[serde(with = "written::text")]
    pub client_id: Arc<str>,
    /// How it proves that it is the client.
    #[serde(with = "written::way")]
    pub way: ClientAuthWay,
    /// By this, if it is a secret.
    #[serde(with = "written::maybe_secret")]
    pub secret: Option<Secret>,
    /// By this, if it is a key, which is the config's.
    #[serde(skip)]
    pub key: Option<Arc<SigningKey>>,
    /// Where it is the client.
    #[serde(with = "written::text")]
    pub issuer: Arc<str>,
    /// Whether it registered itself, so that it may do so again.
    pub is_registered: bool,
    /// Where browsers come back to, if it was registered with that.
    #[serde(with = "written::maybe_text")]
    pub redirect_uri: Option<Arc<str>>,
    /// When the secret ends, in seconds of Unix.
    pub ends: Option<u64>,
}

/// It is the same if the issuer takes it for the same.
impl PartialEq for UpstreamClient {
    fn eq(&self, other: &Self) -> bool {
        (&self.client_id, &self.issuer) == (&other.client_id, &other.issuer)
    }
}

impl Eq for UpstreamClient {}

impl UpstreamClient {
    /// As it is kept. It has secrets in it.
    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(32 << 10));
        // Into memory, with keys that are text: nothing can fail.
        let _ = serde_json::to_writer(&mut *text, self);
        text
    }

    /// The one that was kept so, with the key that the config has.
    pub fn read(text: &[u8], key: &UpstreamClientKey) -> Option<Self> {
        let client: Self = serde_json::from_slice(text).ok()?;
        client.with_key(key).ok()
    }

    /// The same, with the key of the config, if it proves itself by that.
    pub(super) fn with_key(mut self, key: &UpstreamClientKey) -> Result<Self, OauthError> {
        if self.way == ClientAuthWay::PrivateKeyJwt {
            let pem = key.private_key.as_ref().ok_or(OauthError::NO_KEY)?;
            self.key = Some(Arc::new(SigningKey::of_pem(pem.expose()).ok_or(OauthError::NO_KEY)?));
        }
        Ok(self)
    }

    /// The one that the config names.
    pub(super) fn configured(
        client_id: &Arc<str>,
        key: &UpstreamClientKey,
        ways: Option<&[ClientAuthWay]>,
        issuer: &str,
    ) -> Result<Self, OauthError> {
        let client = Self {
            client_id: Arc::clone(client_id),
            way: way(key, ways),
            secret: key.secret.clone(),
            key: None,
            issuer: issuer.into(),
            is_registered: false,
            redirect_uri: None,
            ends: None,
        };
        client.with_key(key)
    }

    /// Proves in a form, and in the field `Authorization`, that it is the client who asks. `audience`: who is asked, in an assertion
    /// (RFC 7523 §3).
    pub(super) fn prove(
        &self,
        form: &mut Serializer<'static, String>,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<HeaderValue>, OauthError> {
        const NO_SECRET: OauthError = OauthError::Broken("the gateway has no secret of the client");
        let secret = || self.secret.as_ref().ok_or(NO_SECRET);
        if self.way == ClientAuthWay::Basic {
            return basic(&self.client_id, secret()?).map(Some).ok_or(NO_SECRET);
        }
        if !self.client_id.is_empty() {
            form.append_pair("client_id", &self.client_id);
        }
        match self.way {
            ClientAuthWay::Post => drop(form.append_pair("client_secret", secret()?.expose())),
            ClientAuthWay::PrivateKeyJwt => {
                let key = self.key.as_ref().ok_or(OauthError::NO_KEY)?;
                form.append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", self.assertion(key, audience, now)?.expose());
            }
            ClientAuthWay::Basic | ClientAuthWay::None => {}
        }
        Ok(None)
    }

    /// What it signs to prove itself once (RFC 7523 §3).
    fn assertion(&self, key: &SigningKey, audience: &str, now: SystemTime) -> Result<Secret, OauthError> {
        const NO_RANDOMNESS: OauthError = OauthError::Unavailable("the system has no randomness to give");
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| NO_RANDOMNESS)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": &*self.client_id, "sub": &*self.client_id, "aud": audience,
            "iat": now, "exp": now + ASSERTION, "jti": hex::encode(id),
        });
        let jwt = key.jwt("JWT", &claims).ok_or(NO_RANDOMNESS)?;
        Ok(Secret::new(jwt.to_string()))
    }
}

/// How a client proves itself that has this: as the config says, else as the issuer takes it.
fn way(key: &UpstreamClientKey, ways: Option<&[ClientAuthWay]>) -> ClientAuthWay {
    let takes = |way| ways.is_none_or(|ways| ways.contains(&way));
    match key {
        UpstreamClientKey { way: Some(way), .. } => *way,
        UpstreamClientKey { private_key: Some(_), secret, .. }
            if takes(ClientAuthWay::PrivateKeyJwt) || secret.is_none() =>
        {
            ClientAuthWay::PrivateKeyJwt
        }
        UpstreamClientKey { secret: Some(_), .. } => {
            // Without a list it is this one (RFC 8414 §2). The config has a secret, whatever the list says.
            match !takes(ClientAuthWay::Basic) && takes(ClientAuthWay::Post) {
                true => ClientAuthWay::Post,
                false => ClientAuthWay::Basic,
            }
        }
        _ => ClientAuthWay::None,
    }
}
