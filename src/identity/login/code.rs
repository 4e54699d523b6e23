//! Codes: what the browser of somebody who allowed something carries to the client, which gets tokens for it.
//!
//! 32 random bytes, of which a SHA-256 is kept. Each is good once, and for a minute. It is remembered for longer: who brings it a
//! second time has it from somebody, and what the first one got ends.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{fingerprint::Fingerprint, grant::Objection, grant_id::GrantId, kind::ClientGrant};
use crate::{identity::principal::Principal, secret::Secret};

/// How long one is good (RFC 6749 §4.1.2 has ten minutes as the most).
pub(super) const GOOD: Duration = Duration::from_secs(60);
/// How long one is remembered.
pub(super) const KEPT: Duration = Duration::from_secs(600);
/// Codes of one principal: what is more pushes out the oldest.
pub(super) const MOST_OF_ONE: usize = 20;
/// Codes in all.
pub(super) const MOST: usize = 10_000;

/// What somebody allowed a client that has not come for it yet.
#[derive(Clone)]
pub struct NewCode {
    /// Who.
    pub principal: Principal,
    /// Of what they had logged in with.
    pub fingerprint: Fingerprint,
    /// What they allowed, and whom.
    pub client: Arc<ClientGrant>,
    /// Where the code goes.
    pub redirect_uri: Arc<str>,
    /// SHA-256 of what the client has to show (RFC 7636, `S256`).
    pub challenge: [u8; 32],
}

/// What a client shows with a code.
#[derive(Debug, Clone)]
pub struct Redemption {
    /// Which client it is.
    pub client_id: Arc<str>,
    /// Where it says that the code went, if it does: with a challenge, OAuth 2.1 asks for no more.
    pub redirect_uri: Option<Arc<str>>,
    /// SHA-256 of its verifier, if it has one.
    pub challenge_of_verifier: Option<[u8; 32]>,
    /// With which scopes a refresh token comes; with any, if there are none.
    pub refresh_token_scopes: Vec<String>,
}

/// Why a code brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRedeemed {
    /// It is none, its time is over, or it is of something else. Such a code is used up.
    Invalid,
    /// Whoever asked for it does not take what it would bring. It is used up all the same.
    Refused(Objection),
    /// It was used before, by somebody else maybe: what it brought is revoked.
    Replayed(Principal),
    /// There are as many grants as there may be.
    Full,
    /// The system has no randomness to give.
    NoRandomness,
    /// What becomes of it cannot be kept at present.
    Down,
}

/// A code as it is looked for: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CodeId(pub(super) [u8; 32]);

impl fmt::Debug for CodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeId(…)")
    }
}

impl CodeId {
    /// That of a text, whether it is a code or not.
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// A new code, and what it is looked for by.
pub(super) fn random() -> Result<(Secret, CodeId), getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    let code = Secret::new(URL_SAFE_NO_PAD.encode(*bytes));
    let id = CodeId::of(code.expose());
    Ok((code, id))
}

/// What is kept of a code.
#[derive(Clone)]
pub(super) struct Code {
    pub(super) principal: Principal,
    /// When it was made.
    pub(super) made: SystemTime,
    pub(super) state: CodeState,
}

#[derive(Clone)]
pub(super) enum CodeState {
    /// Nobody has come with it.
    New(Box<NewCode>),
    /// Somebody has, and got this grant, or nothing.
    Used(Option<GrantId>),
}

impl Code {
    /// From when on it is forgotten.
    pub(super) fn kept_until(&self) -> SystemTime {
        self.made + KEPT
    }
}
