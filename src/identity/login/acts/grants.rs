//! What is done to grants.

use std::{sync::Arc, time::SystemTime};

use super::{
    act::{Act, Undelivered},
    clients, known,
};
use crate::{
    config::LoginTerms,
    identity::{
        login::{
            grant::{Admits, Grant, Issued, NotBegun, NotRefreshed, Objection, RefreshOf, Refreshed},
            grant_id::GrantId,
            refresh_token::{GrantKey, RefreshToken},
            rows::{MOST, Rows},
            sealed_token::LEEWAY,
        },
        principal::Principal,
    },
};

/// Grants that one client has of one principal at most. A client that asks again and again ends its own, and not those of others.
const MOST_OF_CLIENT: usize = 10;

/// Somebody has logged in. If they have as many grants of the kind as one may have, the one that was refreshed longest ago is
/// revoked, which the second half of the answer says.
pub(in crate::identity::login) struct Begin {
    pub(in crate::identity::login) grant: Grant,
    pub(in crate::identity::login) terms: LoginTerms,
    pub(in crate::identity::login) key: Arc<GrantKey>,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Begin {
    type Answer = Result<(Issued, bool), NotBegun>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let begun = begin(rows, self.grant, &self.terms, &self.key, self.now)?;
        let undelivered = begun.as_ref().ok().map(|(issued, _)| Undelivered::Begun(issued.grant));
        Ok((begun, undelivered))
    }
}

pub(super) fn begin<R: Rows>(
    rows: &mut R,
    mut grant: Grant,
    terms: &LoginTerms,
    key: &GrantKey,
    now: SystemTime,
) -> Result<Result<(Issued, bool), NotBegun>, R::Error> {
    let mut others = rows.of_principal(&grant.principal, grant.kind.tag())?;
    // Those of a clock that was wrong go first.
    others.sort_by_key(|(_, rotated)| (*rotated <= now + LEEWAY, *rotated));
    let most = usize::try_from(terms.per_user.max(1)).unwrap_or(usize::MAX);
    let mut gone = of_same_client(rows, &grant, &others)?;
    gone.truncate((gone.len() + 1).saturating_sub(MOST_OF_CLIENT));
    others.retain(|(id, _)| !gone.contains(id));
    let beyond = (others.len() + 1).saturating_sub(most);
    gone.extend(others.iter().take(beyond).map(|(id, _)| *id));
    // Those that go keep their places, among the revoked: where there is no room, nothing ends for it.
    if rows.count()? >= MOST {
        return Ok(Err(NotBegun::Full));
    }
    for id in &gone {
        revoke(rows, *id)?;
    }
    let issued = grant.issue(terms, key, now);
    rows.put(&grant)?;
    Ok(Ok((issued, !gone.is_empty())))
}

/// Those of `others` that the same client has, in their order.
fn of_same_client<R: Rows>(
    rows: &mut R,
    grant: &Grant,
    others: &[(GrantId, SystemTime)],
) -> Result<Vec<GrantId>, R::Error> {
    let mut same = Vec::new();
    let Some(client) = grant.kind.client() else { return Ok(same) };
    for (id, _) in others {
        let other = rows.get(*id)?;
        if other
            .is_some_and(|other| other.kind.client().is_some_and(|other| other.client_id == client.client_id))
        {
            same.push(*id);
        }
    }
    Ok(same)
}

/// What comes of a refresh token: the next one, or the end of its grant.
pub(in crate::identity::login) struct Refresh {
    pub(in crate::identity::login) token: RefreshToken,
    /// Whether the key has made it; otherwise, only a grant with a secret of its own can say that it is one.
    pub(in crate::identity::login) is_by_key: bool,
    pub(in crate::identity::login) of: RefreshOf,
    pub(in crate::identity::login) admits: Admits,
    pub(in crate::identity::login) terms: LoginTerms,
    pub(in crate::identity::login) key: Arc<GrantKey>,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Refresh {
    type Answer = Result<Issued, NotRefreshed>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let Self { token, is_by_key, of, admits, terms, key, now } = self;
        let is_its = |grant: &Grant| grant.is_proved_by(&token, is_by_key) && of.is(&grant.kind);
        let Some(mut grant) = rows.get(token.grant)?.filter(is_its) else {
            return Ok((Err(NotRefreshed::Invalid), None));
        };
        let refreshed = match grant.refresh(&token, &terms, &key, now) {
            Refreshed::Issued(issued) => {
                if let Err(objection) = admits(&grant.principal, grant.fingerprint, &grant.kind) {
                    return Ok((Err(NotRefreshed::Refused(objection)), None));
                }
                if !known::is_known(rows, &grant.principal, grant.fingerprint)? {
                    return Ok((Err(NotRefreshed::Refused(Objection::Caller)), None));
                }
                rows.put(&grant)?;
                Ok(issued)
            }
            Refreshed::Invalid => Err(NotRefreshed::Invalid),
            Refreshed::Replayed => {
                rows.move_to_revoked(&grant)?;
                Err(NotRefreshed::Replayed(grant.principal))
            }
        };
        let is_new = refreshed.as_ref().is_ok_and(|issued| issued.is_new);
        Ok((refreshed, is_new.then(|| Undelivered::Refreshed(token.grant, token.generation + 1))))
    }
}

/// The answer to a refresh reached nobody: the token that the client still has brings the same again, from `now` on for as long as it
/// would have. `generation` is that of the token which was lost.
pub(in crate::identity::login) fn renew_grace<R: Rows>(
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

/// What is to be revoked.
pub(in crate::identity::login) struct Revocable {
    pub(in crate::identity::login) id: GrantId,
    /// What has to be of the grant, if that is not known already.
    pub(in crate::identity::login) proof: Option<RefreshToken>,
    /// Whose grant it has to be, if it is a client that asks.
    pub(in crate::identity::login) client: Option<Arc<str>>,
}

impl Revocable {
    /// Whether it is this grant.
    pub(in crate::identity::login) fn is(&self, grant: &Grant) -> bool {
        self.proof.as_ref().is_none_or(|token| grant.is_proved_by(token, false))
            && self
                .client
                .as_ref()
                .is_none_or(|client| grant.kind.client().is_some_and(|of| of.client_id == *client))
    }

    /// Its id, if nothing else has to be known of the grant.
    pub(in crate::identity::login) fn certain(&self) -> Option<GrantId> {
        (self.proof.is_none() && self.client.is_none()).then_some(self.id)
    }
}

/// Ends grants before their time, as those want it whom they are of. What somebody allowed a client is forgotten with the grant that it
/// has: they are asked again. Whose they were; `None` if they had ended.
pub(in crate::identity::login) struct Revoke {
    pub(in crate::identity::login) these: Vec<Revocable>,
    /// The same of grants that have ended already: who allowed it, and which client.
    pub(in crate::identity::login) consents: Vec<(Principal, Arc<str>)>,
}

impl Act for Revoke {
    type Answer = Option<Principal>;

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let mut whose = None;
        for this in self.these {
            if let Some(grant) = rows.get(this.id)?.filter(|grant| this.is(grant)) {
                rows.move_to_revoked(&grant)?;
                if let Some(client) = grant.kind.client() {
                    clients::forget(rows, &grant.principal, &client.client_id)?;
                }
                whose = Some(grant.principal);
            }
        }
        for (principal, client_id) in self.consents {
            clients::forget(rows, &principal, &client_id)?;
        }
        Ok((whose, None))
    }
}

/// Ends a grant before its time. Whose it was; `None` if there is none.
pub(in crate::identity::login) fn revoke<R: Rows>(
    rows: &mut R,
    id: GrantId,
) -> Result<Option<Principal>, R::Error> {
    let Some(grant) = rows.get(id)? else { return Ok(None) };
    rows.move_to_revoked(&grant)?;
    Ok(Some(grant.principal))
}

/// Ends a grant to which there is no right any more. What was allowed to its client is forgotten with it.
pub(in crate::identity::login) fn end<R: Rows>(rows: &mut R, id: GrantId) -> Result<(), R::Error> {
    let Some(grant) = rows.get(id)? else { return Ok(()) };
    rows.move_to_revoked(&grant)?;
    match grant.kind.client() {
        Some(client) => clients::forget(rows, &grant.principal, &client.client_id),
        None => Ok(()),
    }
}

/// A grant, as it is kept.
pub(in crate::identity::login) struct Find(pub(in crate::identity::login) GrantId);

impl Act for Find {
    type Answer = Option<Grant>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        Ok((rows.get(self.0)?, None))
    }
}

/// Writes when something came by these last.
pub(in crate::identity::login) fn note_uses<R: Rows>(
    rows: &mut R,
    uses: &[(GrantId, SystemTime)],
) -> Result<(), R::Error> {
    for (id, used) in uses {
        if let Some(mut grant) = rows.get(*id)?.filter(|grant| grant.used < *used) {
            grant.used = *used;
            rows.put(&grant)?;
        }
    }
    Ok(())
}

impl Undelivered {
    /// Puts it right.
    pub(in crate::identity::login) fn undo<R: Rows>(
        &self,
        rows: &mut R,
        now: SystemTime,
    ) -> Result<(), R::Error> {
        match *self {
            Self::Begun(id) => revoke(rows, id).map(drop),
            Self::Refreshed(id, generation) => renew_grace(rows, id, generation, now),
        }
    }
}
