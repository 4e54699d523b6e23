//! A grant, and what a login, a refresh and a logout do to it: the same wherever grants are kept.

use std::{sync::Arc, time::SystemTime};

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    refresh_token::{GrantSecret, RefreshToken},
    session_token::LEEWAY,
};
use crate::{config::LoginTerms, secret::Secret};

/// Grants, and those that were revoked, at most. Each grant has its place among the revoked from the beginning, so that there is
/// always room to revoke one.
pub(super) const MOST: usize = 100_000;

/// What a login or a refresh gives.
#[derive(Debug)]
pub struct Issued {
    /// Name of the user.
    pub user: Arc<str>,
    /// Which grant it is of.
    pub grant: GrantId,
    /// Of the user's password at the login.
    pub fingerprint: Fingerprint,
    /// The next refresh token.
    pub refresh_token: Secret,
    /// When the session token that goes with it is to end.
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
    /// It cannot be kept at present.
    Down,
}

/// Why a refresh token brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRefreshed {
    /// No grant knows it, or its time is over.
    Invalid,
    /// It was used before, by somebody else maybe: its grant is revoked.
    Replayed(Arc<str>),
    /// What becomes of it cannot be kept at present.
    Down,
}

/// One login of one user.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) id: GrantId,
    pub(super) user: Arc<str>,
    pub(super) fingerprint: Fingerprint,
    pub(super) secret: GrantSecret,
    /// Of the refresh token that is good.
    pub(super) generation: u32,
    /// When that was made.
    pub(super) rotated: SystemTime,
    /// Until when the refresh token is good.
    pub(super) refresh_ends: SystemTime,
    /// When the last of its session tokens ends.
    pub(super) tokens_end: SystemTime,
    pub(super) ends: SystemTime,
}

impl Grant {
    /// One that begins at `now`. Fails if the system has no randomness to give.
    pub(super) fn new(
        user: &Arc<str>,
        fingerprint: Fingerprint,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Self, getrandom::Error> {
        let ends = now + terms.max_age;
        Ok(Self {
            id: GrantId::random()?,
            user: Arc::clone(user),
            fingerprint,
            secret: GrantSecret::random()?,
            generation: 0,
            rotated: now,
            refresh_ends: (now + terms.refresh_ttl).min(ends),
            tokens_end: now,
            ends,
        })
    }

    /// From when on nothing of it is good any more.
    pub(super) fn over(&self) -> SystemTime {
        self.refresh_ends.max(self.tokens_end).min(self.ends)
    }

    fn issue(&mut self, terms: &LoginTerms, now: SystemTime) -> Issued {
        let expires = (now + terms.access_ttl).min(self.ends);
        self.tokens_end = self.tokens_end.max(expires);
        Issued {
            user: Arc::clone(&self.user),
            grant: self.id,
            fingerprint: self.fingerprint,
            refresh_token: RefreshToken::make(self.id, self.generation, &self.secret),
            expires,
            grant_ends: self.ends,
            is_new: true,
        }
    }

    /// What a refresh token that is one of it does to it. The one before the good one brings the same again for
    /// [`LoginTerms::reuse_grace`], since clients lose answers, and several processes of one refresh at once. Any other that it
    /// once had is a replay.
    fn refresh(&mut self, token: &RefreshToken, terms: &LoginTerms, now: SystemTime) -> Refreshed {
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
                return Refreshed::Issued(Issued { is_new: false, ..self.issue(terms, now) });
            }
            Some(_) => return Refreshed::Replayed,
            None => return Refreshed::Invalid,
        }
        Refreshed::Issued(self.issue(terms, now))
    }
}

enum Refreshed {
    Issued(Issued),
    Invalid,
    Replayed,
}

/// Where grants are kept, for as long as nobody else changes them.
pub(super) trait GrantRows {
    /// Why it cannot be read or written.
    type Error;

    fn get(&mut self, id: GrantId) -> Result<Option<Grant>, Self::Error>;
    /// The grants of a user, and when each was refreshed.
    fn of_user(&mut self, user: &str) -> Result<Vec<(GrantId, SystemTime)>, Self::Error>;
    /// How many there are, with those that were revoked.
    fn count(&mut self) -> Result<usize, Self::Error>;
    /// Adds one, or replaces what there is of it.
    fn put(&mut self, grant: &Grant) -> Result<(), Self::Error>;
    /// Removes one, and remembers until its tokens end that it was revoked.
    fn move_to_revoked(&mut self, grant: &Grant) -> Result<(), Self::Error>;
}

/// A user has logged in. If the user has as many grants as one may have, the one that was refreshed longest ago is revoked,
/// which the second half of the answer says.
pub(super) fn begin<R: GrantRows>(
    rows: &mut R,
    mut grant: Grant,
    terms: &LoginTerms,
    now: SystemTime,
) -> Result<Result<(Issued, bool), NotBegun>, R::Error> {
    let mut others = rows.of_user(&grant.user)?;
    // Those of a clock that was wrong go first.
    others.sort_by_key(|(_, rotated)| (*rotated <= now + LEEWAY, *rotated));
    let most = usize::try_from(terms.per_user.max(1)).unwrap_or(usize::MAX);
    let beyond = (others.len() + 1).saturating_sub(most);
    // Those that go keep their places, among the revoked: where there is no room, nothing ends for it.
    if rows.count()? >= MOST {
        return Ok(Err(NotBegun::Full));
    }
    for (id, _) in others.iter().take(beyond) {
        revoke(rows, *id)?;
    }
    let issued = grant.issue(terms, now);
    rows.put(&grant)?;
    Ok(Ok((issued, beyond > 0)))
}

/// What comes of a refresh token: the next one, or the end of its grant.
pub(super) fn refresh<R: GrantRows>(
    rows: &mut R,
    token: &RefreshToken,
    terms: &LoginTerms,
    now: SystemTime,
) -> Result<Result<Issued, NotRefreshed>, R::Error> {
    let grant = rows.get(token.grant)?;
    let is_of_known = token.is_of_known(grant.as_ref().map(|grant| &grant.secret));
    let Some(mut grant) = grant.filter(|_| is_of_known) else { return Ok(Err(NotRefreshed::Invalid)) };
    Ok(match grant.refresh(token, terms, now) {
        Refreshed::Issued(issued) => {
            rows.put(&grant)?;
            Ok(issued)
        }
        Refreshed::Invalid => Err(NotRefreshed::Invalid),
        Refreshed::Replayed => {
            rows.move_to_revoked(&grant)?;
            Err(NotRefreshed::Replayed(grant.user))
        }
    })
}

/// The answer to a refresh reached nobody: the token that the client still has brings the same again, from `now` on for as long as it
/// would have. `generation` is that of the token which was lost.
pub(super) fn renew_grace<R: GrantRows>(
    rows: &mut R,
    id: GrantId,
    generation: u32,
    now: SystemTime,
) -> Result<(), R::Error> {
    if let Some(mut grant) = rows.get(id)?
        && grant.generation == generation
    {
        grant.rotated = grant.rotated.max(now);
        rows.put(&grant)?;
    }
    Ok(())
}

/// Ends a grant before its time. Whose it was; `None` if there is none.
pub(super) fn revoke<R: GrantRows>(rows: &mut R, id: GrantId) -> Result<Option<Arc<str>>, R::Error> {
    let Some(grant) = rows.get(id)? else { return Ok(None) };
    rows.move_to_revoked(&grant)?;
    Ok(Some(grant.user))
}
