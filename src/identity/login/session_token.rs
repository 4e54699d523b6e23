//! Tokens that the gateway gives to users who log in (`sgs_…`). Roles are not in them: the config in force says those.

use std::{sync::Arc, time::SystemTime};

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    keys::Purpose,
    sealed_token::{Claims, Common},
};

/// What each of them begins with.
pub const PREFIX: &str = "sgs_";

/// Bytes of a user's name at most.
const LONGEST_NAME: usize = 128;

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionClaims {
    /// Name of the user.
    pub user: Arc<str>,
    /// What the login began, and what a logout ends.
    pub grant: GrantId,
    /// Of the password hash at the time of the login.
    pub fingerprint: Fingerprint,
    /// When it was made.
    pub issued: SystemTime,
    /// From this moment on it is refused.
    pub expires: SystemTime,
    /// From this moment on the grant is over.
    pub grant_ends: SystemTime,
}

impl Claims for SessionClaims {
    const PREFIX: &str = PREFIX;
    const PURPOSE: Purpose = Purpose::SessionToken;
    const LONGEST: usize = LONGEST_NAME;

    fn common(&self) -> Common {
        let Self { grant, fingerprint, issued, expires, grant_ends, .. } = *self;
        Common { grant, fingerprint, issued, expires, grant_ends }
    }

    fn write(&self, text: &mut Vec<u8>) {
        text.extend(self.user.as_bytes());
    }

    fn read(common: Common, rest: &[u8]) -> Option<Self> {
        let Common { grant, fingerprint, issued, expires, grant_ends } = common;
        let user = std::str::from_utf8(rest).ok()?.into();
        Some(Self { user, grant, fingerprint, issued, expires, grant_ends })
    }
}
