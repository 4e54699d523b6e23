//! Tokens that the gateway gives to clients of OAuth (`sga_…`): for whom a client acts, at which place, and with which scope.

use std::{sync::Arc, time::SystemTime};

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    keys::Purpose,
    sealed_token::{Claims, Common},
};
use crate::identity::principal::Principal;

/// What each of them begins with.
pub const PREFIX: &str = "sga_";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    /// For whom the client acts.
    pub principal: Principal,
    /// What was allowed, and what a revocation ends.
    pub grant: GrantId,
    /// Of what the principal had logged in with.
    pub fingerprint: Fingerprint,
    /// Which client.
    pub client_id: Arc<str>,
    /// The place that it is for.
    pub resource: Arc<str>,
    /// What is allowed there.
    pub scope: Arc<str>,
    /// Of somebody of an issuer: what that said of them, as JSON, of the claims that were asked about.
    pub vouched: Option<Arc<str>>,
    /// When it was made.
    pub issued: SystemTime,
    /// From this moment on it is refused.
    pub expires: SystemTime,
    /// From this moment on the grant is over.
    pub grant_ends: SystemTime,
}

impl Claims for AccessClaims {
    const PREFIX: &str = PREFIX;
    const PURPOSE: Purpose = Purpose::AccessToken;
    /// The principal, the client, the place and the scope, or what an issuer said; as base64, some 6 KB.
    const LONGEST: usize = 4_500;

    fn common(&self) -> Common {
        let Self { grant, fingerprint, issued, expires, grant_ends, .. } = *self;
        Common { grant, fingerprint, issued, expires, grant_ends }
    }

    fn write(&self, text: &mut Vec<u8>) {
        let principal = self.principal.to_string();
        let parts = [&*principal, &*self.client_id, &*self.resource, &*self.scope];
        for part in parts.into_iter().chain(self.vouched.as_deref()) {
            // One that is longer makes the whole too long.
            text.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            text.extend(part.as_bytes());
        }
    }

    fn read(common: Common, mut rest: &[u8]) -> Option<Self> {
        let Common { grant, fingerprint, issued, expires, grant_ends } = common;
        let principal = part(&mut rest)?.parse().ok()?;
        let (client_id, resource) = (part(&mut rest)?.into(), part(&mut rest)?.into());
        let scope = part(&mut rest)?.into();
        let vouched = if rest.is_empty() { None } else { Some(part(&mut rest)?.into()) };
        let claims = Self {
            principal,
            grant,
            fingerprint,
            client_id,
            resource,
            scope,
            vouched,
            issued,
            expires,
            grant_ends,
        };
        rest.is_empty().then_some(claims)
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, behind) = rest.split_first_chunk()?;
    let (part, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = behind;
    std::str::from_utf8(part).ok()
}
