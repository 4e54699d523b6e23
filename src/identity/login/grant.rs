//! A grant, and what a refresh does to it: the same wherever grants are kept.

use std::{sync::Arc, time::SystemTime};

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    kind::{GrantKind, KindTag},
    refresh_token::{GrantKey, GrantSecret, RefreshToken},
    sealed_token::LEEWAY,
};
use crate::{config::LoginTerms, identity::principal::Principal, secret::Secret};

/// What a login, a code or a refresh gives.
#[derive(Debug)]
pub struct Issued {
    /// Who it is for.
    pub principal: Principal,
    /// Which grant it is of.
    pub grant: GrantId,
    /// What that is for.
    pub kind: GrantKind,
    /// Of what the principal had logged in with.
    pub fingerprint: Fingerprint,
    /// The next refresh token.
    pub refresh_token: Secret,
    /// When the session token or access token that goes with it is to end.
    pub expires: SystemTime,
    /// When the grant ends, whatever is refreshed.
    pub grant_ends: SystemTime,
    /// Whether the refresh token was not given before.
    pub is_new: bool,
}

/// Why a grant cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBegun {
    /// There are as many as there may be.
    Full,
    /// The system has no randomness to give.
    NoRandomness,
    /// What is to be kept of it is too long.
    TooLong,
    /// It cannot be kept at present.
    Down,
}

/// Why a refresh token brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRefreshed {
    /// No grant knows it, or its time is over.
    Invalid,
    /// Whoever asked for it does not take what it would bring. It is as good as before.
    Refused(Objection),
    /// It was used before, by somebody else maybe: its grant is revoked.
    Replayed(Principal),
    /// What becomes of it cannot be kept at present.
    Down,
}

/// Why what a refresh token or a code would bring is not to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// The principal is not let in any more, or has another password or token.
    Caller,
    /// It is for another place.
    Resource,
    /// More is asked for than was allowed.
    Scope,
}

/// Whether a principal with this fingerprint may have what a grant of this kind brings. Is asked while it is decided, so that what
/// is refused uses up nothing.
pub type Admits = Box<dyn Fn(&Principal, Fingerprint, &GrantKind) -> Result<(), Objection> + Send + 'static>;

/// Whose refresh token it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOf {
    /// That of a session.
    Session,
    /// That of this client.
    Client(Arc<str>),
}

impl RefreshOf {
    pub(super) fn tag(&self) -> KindTag {
        match self {
            Self::Session => KindTag::Session,
            Self::Client(_) => KindTag::Client,
        }
    }

    pub(super) fn is(&self, kind: &GrantKind) -> bool {
        match (self, kind) {
            (Self::Session, GrantKind::Session) => true,
            (Self::Client(id), GrantKind::Client(of)) => *id == of.client_id,
            _ => false,
        }
    }
}

/// One login, or what somebody allowed a client.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) id: GrantId,
    pub(super) kind: GrantKind,
    pub(super) principal: Principal,
    pub(super) fingerprint: Fingerprint,
    /// Of one from a gateway that knew no [`GrantKey`]: what proves its refresh tokens.
    pub(super) own_secret: Option<GrantSecret>,
    /// Of the refresh token that is good.
    pub(super) generation: u32,
    pub(super) began: SystemTime,
    /// When that refresh token was made.
    pub(super) rotated: SystemTime,
    /// When something came by it last, as far as that is written.
    pub(super) used: SystemTime,
    /// Until when the refresh token is good.
    pub(super) refresh_ends: SystemTime,
    /// When the last of its session tokens or access tokens ends.
    pub(super) tokens_end: SystemTime,
    pub(super) ends: SystemTime,
}

impl Grant {
    /// One that begins at `now`. Fails if the system has no randomness to give.
    pub(super) fn new(
        kind: GrantKind,
        principal: Principal,
        fingerprint: Fingerprint,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Self, getrandom::Error> {
        let ends = now + terms.max_age;
        Ok(Self {
            id: GrantId::random()?,
            kind,
            principal,
            fingerprint,
            own_secret: None,
            generation: 0,
            began: now,
            rotated: now,
            used: now,
            refresh_ends: (now + terms.refresh_ttl).min(ends),
            tokens_end: now,
            ends,
        })
    }

    /// Until when it has to be known that it was revoked at `now`: as long as a token of it would be good. What the cookie of a page
    /// is of is looked for among the grants, so that such a login, which anybody may begin and end, leaves nothing behind.
    pub(super) fn revoked_until(&self, now: SystemTime) -> SystemTime {
        if self.kind == GrantKind::Page { now } else { self.tokens_end }
    }

    /// From when on nothing of it is good any more.
    pub(super) fn over(&self) -> SystemTime {
        self.refresh_ends.max(self.tokens_end).min(self.ends)
    }

    pub(super) fn issue(&mut self, terms: &LoginTerms, key: &GrantKey, now: SystemTime) -> Issued {
        let expires = (now + terms.access_ttl).min(self.ends);
        self.tokens_end = self.tokens_end.max(expires);
        self.used = self.used.max(now);
        Issued {
            principal: self.principal.clone(),
            grant: self.id,
            kind: self.kind.clone(),
            fingerprint: self.fingerprint,
            refresh_token: match &self.own_secret {
                Some(secret) => RefreshToken::make(self.id, self.generation, secret),
                None => key.make(self.kind.tag(), self.id, self.generation),
            },
            expires,
            grant_ends: self.ends,
            is_new: true,
        }
    }

    /// Whether a refresh token is of it. `is_by_key` says whether that is known already.
    pub(super) fn is_proved_by(&self, token: &RefreshToken, is_by_key: bool) -> bool {
        match &self.own_secret {
            Some(secret) => token.is_of(secret),
            None => is_by_key,
        }
    }

    /// What a refresh token that is one of it does to it. The one before the good one brings the same again for
    /// [`LoginTerms::reuse_grace`], since clients lose answers, and several processes of one refresh at once. Any other that it
    /// once had is a replay.
    pub(super) fn refresh(
        &mut self,
        token: &RefreshToken,
        terms: &LoginTerms,
        key: &GrantKey,
        now: SystemTime,
    ) -> Refreshed {
        // One from the future was made while the clock was wrong.
        if now >= self.ends || self.rotated > now + LEEWAY {
            return Refreshed::Invalid;
        }
        match self.generation.checked_sub(token.generation) {
            Some(0) if now >= self.refresh_ends => return Refreshed::Invalid,
            Some(0) => {
                let Some(next) = self.generation.checked_add(1) else { return Refreshed::Invalid };
                self.generation = next;
                self.rotated = now;
                self.refresh_ends = (now + terms.refresh_ttl).min(self.ends);
            }
            Some(1) if now < self.rotated + terms.reuse_grace => {
                return Refreshed::Issued(Issued { is_new: false, ..self.issue(terms, key, now) });
            }
            Some(_) => return Refreshed::Replayed,
            None => return Refreshed::Invalid,
        }
        Refreshed::Issued(self.issue(terms, key, now))
    }
}

/// What became of a refresh token.
pub(super) enum Refreshed {
    Issued(Issued),
    Invalid,
    Replayed,
}
