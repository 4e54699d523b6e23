//! The gateway as a client of an identity provider: it sends people there, and learns who they are (OpenID Connect Core 1.0, RFC 6749,
//! RFC 7636, RFC 9207; GitHub's OAuth).
//!
//! Somebody is who the provider says under its issuer and a subject that it gives to nobody else. An address only admits, and only if
//! the provider has verified it. What the provider keeps for the gateway, a refresh token or GitHub's access token, is for nothing but
//! asking it again about the same person.

mod error;
mod secrets;

use std::{sync::Arc, time::SystemTime};

use serde_json::{Map, Value};
use url::Url;

pub use self::{error::IdpError, secrets::LoginSecrets};
use crate::{
    config::{Assignment, IdpConfig},
    identity::foreign::source::Source,
    secret::Secret,
};

/// An identity provider, as all workers share it.
#[derive(Clone)]
pub struct Idp {
    config: Arc<IdpConfig>,
    source: Arc<dyn Source>,
}

/// What a provider says of somebody, who is admitted by the config that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct IdpLogin {
    /// Who it is, to this provider.
    pub subject: String,
    /// How they are called, for pages and log: a verified address, a login name, or the subject.
    pub display: String,
    /// What it says of them. `email` is there only if it is verified, and `email_verified` with it.
    pub claims: Map<String, Value>,
    /// What the provider is asked by, the next time: to be sealed wherever it is kept. `None`: it cannot be asked again.
    pub keep: Option<Secret>,
}

/// What is kept of claims.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptClaims {
    /// Those that are.
    pub claims: Map<String, Value>,
    /// Names of those of which something did not fit.
    pub dropped: Vec<String>,
}

impl KeptClaims {
    /// Bytes of them at most, as JSON.
    pub const LONGEST: usize = 512;

    /// What is kept of `claims`: what the config asks about first, then the rest of groups, roles and organizations.
    pub fn of(claims: &Map<String, Value>, config: &IdpConfig, assignments: &[Assignment]) -> Self {
        let _ = (claims, config, assignments);
        Self::default()
    }
}

impl Idp {
    /// The provider of this config, which is asked by `source`.
    pub fn new(config: Arc<IdpConfig>, source: Arc<dyn Source>) -> Self {
        Self { config, source }
    }

    /// The same, if a reload left it where it was: what else the config says of it may have changed.
    pub fn of_reload(&self, config: &Arc<IdpConfig>) -> Option<Self> {
        (self.config == *config).then(|| self.clone())
    }

    /// What the config says of it.
    pub fn config(&self) -> &Arc<IdpConfig> {
        &self.config
    }

    /// Where a browser is sent to log in.
    pub async fn begin(&self, secrets: &LoginSecrets) -> Result<Url, IdpError> {
        let _ = (&self.source, secrets);
        Err(IdpError::Unavailable("not there yet"))
    }

    /// Who logged in, as the provider says for the code that their browser brought, and the `iss` beside it.
    pub async fn finish(
        &self,
        code: &Secret,
        iss: Option<&str>,
        secrets: &LoginSecrets,
        now: SystemTime,
    ) -> Result<IdpLogin, IdpError> {
        let _ = (code, iss, secrets, now);
        Err(IdpError::Unavailable("not there yet"))
    }

    /// What the provider says of the one of this subject now. Whoever asks does not stop before there is an answer, and keeps
    /// `keep` of it: most providers change it each time.
    pub async fn recheck(&self, keep: &Secret, subject: &str, now: SystemTime) -> Result<IdpLogin, IdpError> {
        let _ = (keep, subject, now);
        Err(IdpError::Unavailable("not there yet"))
    }
}
