//! Users who log in with a password, and the tokens that they get for it.

pub mod attempts;
pub mod fingerprint;
pub mod grant_id;
pub mod grants;
pub mod keys;
pub mod passwords;
pub mod pending;
pub mod refresh_token;
pub mod session_token;
pub mod verdicts;

use std::time::SystemTime;

use self::{
    attempts::Attempts,
    fingerprint::Fingerprint,
    grants::Grants,
    keys::{Keys, NoKey},
    passwords::PasswordChecks,
    pending::PendingLogins,
    session_token::{SessionClaims, TokenSealer},
    verdicts::Verdicts,
};
use crate::secret::Secret;

/// What logins need and leave behind. It outlives reloads, and ends with the process: keys and grants are in memory only, so
/// that no token of before a restart is good whose grant is forgotten.
pub struct Logins {
    keys: Keys,
    sealer: TokenSealer,
    /// What logins began.
    pub grants: Grants,
    /// The threads that compare passwords.
    pub passwords: PasswordChecks,
    /// Passwords by `Basic` that were right a moment ago.
    pub verdicts: Verdicts,
    /// Logins that the gateway waits for.
    pub pending: PendingLogins,
    /// Who has tried to log in lately.
    pub attempts: Attempts,
}

impl Logins {
    /// With keys of its own. Fails if the system has no randomness to give.
    pub fn new() -> Result<Self, NoKey> {
        let keys = Keys::random()?;
        Ok(Self {
            sealer: TokenSealer::new(&keys)?,
            keys,
            grants: Grants::default(),
            passwords: PasswordChecks::default(),
            verdicts: Verdicts::new()?,
            pending: PendingLogins::default(),
            attempts: Attempts::default(),
        })
    }

    /// What tokens know a password by.
    pub fn fingerprint(&self, password_hash: &Secret) -> Result<Fingerprint, NoKey> {
        Fingerprint::of(&self.keys, password_hash.expose())
    }

    /// A session token that says this.
    pub fn seal(&self, claims: &SessionClaims) -> Result<Secret, NoKey> {
        self.sealer.seal(claims)
    }

    /// What a session token says, if it is one that holds at this moment.
    pub fn open(&self, token: &[u8], now: SystemTime) -> Option<SessionClaims> {
        self.sealer.open(token, now).filter(|claims| !self.grants.is_revoked(claims.grant))
    }

    /// What a session token says, whether it holds or not.
    pub fn opened(&self, token: &[u8]) -> Option<SessionClaims> {
        self.sealer.opened(token)
    }
}
