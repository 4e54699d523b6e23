//! Codes: what the browser of somebody who allowed something carries to the client, which gets tokens for it.
//!
//! A MAC of the request that it is for, so that one request has one code, however often somebody allows it. A SHA-256 of it is kept.
//! Each is good once, and for a minute. It is remembered for longer: who brings it a second time has it from somebody, and what the
//! first one got ends; and the request that brought it brings no other.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    fingerprint::Fingerprint,
    grant::Objection,
    grant_id::GrantId,
    keys::{Keys, NoKey, Purpose},
    kind::ClientGrant,
    sealed_token::LEEWAY,
};
use crate::{identity::principal::Principal, secret::Secret};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// How long one is good (RFC 6749 §4.1.2 has ten minutes as the most).
const GOOD: Duration = Duration::from_secs(60);
/// How long one is remembered: no request waits for somebody's decision for so long.
pub const KEPT: Duration = Duration::from_secs(3_720);
/// Codes of one principal that wait for their client: one more uses up the oldest.
pub(super) const MOST_WAITING_OF_ONE: usize = 20;
/// Codes of one principal that are remembered. None gives way: otherwise it could be used once more, or its request bring another.
pub(super) const MOST_OF_ONE: usize = 200;
/// With so many of them, its owner is asked also about what was allowed before.
pub(super) const MOST_WITHOUT_A_CLICK: usize = MOST_OF_ONE / 2;
/// Codes in all.
pub(super) const MOST: usize = 20_000;

/// What somebody allowed a client that has not come for it yet.
#[derive(Clone, PartialEq, Eq)]
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

/// Why there is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCode {
    /// The request has had its code: it was used, its time is over, or somebody else allowed something else by it.
    Over,
    /// There are as many as there may be.
    Full,
    /// What is to be kept of it is too long.
    TooLong,
    /// It cannot be kept at present.
    Down,
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

/// Makes codes.
pub(super) struct CodeKey(hmac::Key);

impl CodeKey {
    /// That of these keys. All gateways of one store have the same.
    pub(super) fn new(keys: &Keys) -> Result<Self, NoKey> {
        let key = keys.first(Purpose::Code)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*key)))
    }

    /// The code of a request, and what it is looked for by.
    pub(super) fn code(&self, request: &str) -> (Secret, CodeId) {
        let code = Secret::new(URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, request.as_bytes())));
        let id = CodeId::of(code.expose());
        (code, id)
    }
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
    /// Whether the time of one that was made then is not over at `now`. One from the future was made while the clock was wrong.
    pub(super) fn is_in_time(made: SystemTime, now: SystemTime) -> bool {
        now < made + GOOD && made <= now + LEEWAY
    }

    /// Whether nobody has come with it.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, CodeState::New(_))
    }

    /// Whether its time is not over at `now`.
    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        Self::is_in_time(self.made, now)
    }

    /// From when on it is forgotten.
    pub(super) fn kept_until(&self) -> SystemTime {
        self.made + KEPT
    }
}
