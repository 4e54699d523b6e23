//! What is done to codes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use subtle::ConstantTimeEq as _;

use super::{
    act::{Act, Undelivered},
    clients, grants, known,
};
use crate::{
    config::LoginTerms,
    identity::login::{
        code::{
            Code, CodeId, CodeState, MOST, MOST_OF_ONE, MOST_WAITING_OF_ONE, NewCode, NoCode, NotRedeemed,
            Redemption,
        },
        grant::{Admits, Grant, Issued, Objection},
        kind::GrantKind,
        refresh_token::GrantKey,
        rows::Rows,
    },
};

/// Somebody has allowed a client something: the code waits for it. Whoever allows the same by the same request again, as by a second
/// click, has the same code as long as it is good.
pub(in crate::identity::login) struct Put {
    pub(in crate::identity::login) id: CodeId,
    pub(in crate::identity::login) new: NewCode,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Put {
    type Answer = Result<(), NoCode>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let Self { id, new, now } = self;
        if let Some(code) = rows.code(id)? {
            let is_same = matches!(&code.state, CodeState::New(kept) if **kept == new) && code.is_good(now);
            return Ok((if is_same { Ok(()) } else { Err(NoCode::Over) }, None));
        }
        let all = rows.codes_of(&new.principal)?;
        if all.len() >= MOST_OF_ONE || rows.count_codes()? >= MOST {
            return Ok((Err(NoCode::Full), None));
        }
        let mut waiting = Vec::new();
        for (other, made) in all.into_iter().filter(|(_, made)| Code::is_in_time(*made, now)) {
            if let Some(CodeState::New(waits)) = rows.code(other)?.map(|code| code.state) {
                // Who waits for a code of another client loses it last: a client may ask for one after the other.
                waiting.push((waits.client.client_id != new.client.client_id, made, other));
            }
        }
        waiting.sort_by_key(|(is_other, made, _)| (*is_other, *made));
        let beyond = (waiting.len() + 1).saturating_sub(MOST_WAITING_OF_ONE);
        for (.., other) in waiting.iter().take(beyond) {
            clients::use_up(rows, *other)?;
        }
        let principal = new.principal.clone();
        rows.put_code(id, &Code { principal, made: now, state: CodeState::New(Box::new(new)) })?;
        Ok((Ok(()), None))
    }
}

/// What comes of a code: a grant, once. Any use uses it up, and a second one ends what the first one brought.
pub(in crate::identity::login) struct Redeem {
    pub(in crate::identity::login) id: CodeId,
    pub(in crate::identity::login) shown: Redemption,
    pub(in crate::identity::login) admits: Admits,
    pub(in crate::identity::login) terms: LoginTerms,
    pub(in crate::identity::login) key: Arc<GrantKey>,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Redeem {
    /// As of [`grants::Begin`].
    type Answer = Result<(Issued, bool), NotRedeemed>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let id = self.id;
        let Some(mut code) = rows.code(id)? else { return Ok((Err(NotRedeemed::Invalid), None)) };
        let new = match &code.state {
            CodeState::New(new) => NewCode::clone(new),
            CodeState::Used(grant) => {
                let ended = grant.map(|grant| grants::revoke(rows, grant)).transpose()?.flatten();
                return Ok((Err(ended.map_or(NotRedeemed::Invalid, NotRedeemed::Replayed)), None));
            }
        };
        let redeemed = self.redeem(rows, &code, new)?;
        let grant = redeemed.as_ref().ok().map(|(issued, _)| issued.grant);
        code.state = CodeState::Used(grant);
        rows.put_code(id, &code)?;
        Ok((redeemed, grant.map(Undelivered::Begun)))
    }
}

impl Redeem {
    fn redeem<R: Rows>(
        self,
        rows: &mut R,
        code: &Code,
        new: NewCode,
    ) -> Result<<Self as Act>::Answer, R::Error> {
        let Self { shown, admits, mut terms, key, now, .. } = self;
        let is_same = shown.client_id == new.client.client_id
            && shown.redirect_uri.is_none_or(|uri| uri == new.redirect_uri);
        let is_same_challenge = |shown: [u8; 32]| bool::from(shown.ct_eq(&new.challenge));
        let is_shown = shown.challenge_of_verifier.is_some_and(is_same_challenge);
        if !code.is_good(now) || !is_same || !is_shown {
            return Ok(Err(NotRedeemed::Invalid));
        }
        if !new.client.is_refreshed(&shown.refresh_token_scopes) {
            terms.refresh_ttl = Duration::ZERO;
        }
        let kind = GrantKind::Client(new.client);
        if let Err(objection) = admits(&code.principal, new.fingerprint, &kind) {
            return Ok(Err(NotRedeemed::Refused(objection)));
        }
        // What this process has heard of them may be a moment old.
        if !known::is_known(rows, &code.principal, new.fingerprint)? {
            return Ok(Err(NotRedeemed::Refused(Objection::Caller)));
        }
        let Ok(grant) = Grant::new(kind, code.principal.clone(), new.fingerprint, &terms, now) else {
            return Ok(Err(NotRedeemed::NoRandomness));
        };
        let begun = grants::begin(rows, grant, &terms, &key, now)?;
        Ok(begun.map_err(|_| NotRedeemed::Full))
    }
}
