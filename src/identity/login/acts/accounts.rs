//! What is done to accounts of the identity provider.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    act::{Act, Undelivered},
    clients, grants,
};
use crate::identity::{
    login::{
        account::{Claimed, KeptAccount, in_millis},
        grant::{Grant, NotBegun},
        kind::KindTag,
        rows::{MOST, Rows},
    },
    principal::Principal,
};

/// Somebody of the identity provider has logged in.
pub(in crate::identity::login) struct BeginAs {
    pub(in crate::identity::login) account: KeptAccount,
    pub(in crate::identity::login) begin: grants::Begin,
}

impl Act for BeginAs {
    type Answer = <grants::Begin as Act>::Answer;

    fn now(&self) -> Option<SystemTime> {
        self.begin.now()
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let Self { mut account, begin } = self;
        match rows.account(&account.account.principal)? {
            // Many providers say only the first time what it takes to ask them again.
            Some(before) if before.account.fingerprint == account.account.fingerprint => {
                account.keep = account.keep.or(before.keep);
            }
            Some(_) => {}
            None if rows.count_accounts()? >= MOST => return Ok((Err(NotBegun::Full), None)),
            None => {}
        }
        rows.put_account(&account)?;
        begin.run(rows)
    }
}

/// Whether the provider is to be asked about somebody by whoever asks this: of all who do, one is.
pub(in crate::identity::login) struct Claim {
    pub(in crate::identity::login) principal: Principal,
    pub(in crate::identity::login) recheck: Duration,
    /// Claims of which it is to be known what the provider says.
    pub(in crate::identity::login) claims: Vec<String>,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Claim {
    type Answer = Claimed;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Claimed, Option<Undelivered>), R::Error> {
        let Self { principal, recheck, claims, now } = self;
        let Some(mut kept) = rows.account(&principal)? else { return Ok((Claimed::Gone, None)) };
        let lacks = !kept.account.knows(claims.iter().map(String::as_str));
        if !lacks && !kept.account.is_due(recheck, now) {
            return Ok((Claimed::Fresh, None));
        }
        // What it was not asked about, it is asked at once, unless it does not answer.
        if kept.was_asked_lately(now) && !(lacks && kept.was_answered()) {
            return Ok((Claimed::Asked, None));
        }
        kept.asked = in_millis(now);
        rows.put_account(&kept)?;
        Ok((Claimed::Due(kept), None))
    }
}

/// The provider has said again what it says of somebody. If they have logged in meanwhile, what it said then stays.
pub(in crate::identity::login) struct Renew {
    pub(in crate::identity::login) account: KeptAccount,
    /// When it was asked.
    pub(in crate::identity::login) asked: SystemTime,
}

impl Act for Renew {
    type Answer = ();

    /// A refresh token that was used up must not stay.
    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        Some(self.account.account.checked)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<((), Option<Undelivered>), R::Error> {
        let Self { mut account, asked } = self;
        let is_same = |before: &KeptAccount| {
            before.account.fingerprint == account.account.fingerprint && before.asked == asked
        };
        if let Some(before) = rows.account(&account.account.principal)?.filter(is_same) {
            account.keep = account.keep.or(before.keep);
            rows.put_account(&account)?;
        }
        Ok(((), None))
    }
}

/// Somebody is let in no more: all that came of it ends.
pub(in crate::identity::login) struct End(pub(in crate::identity::login) Principal);

impl Act for End {
    type Answer = ();

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<((), Option<Undelivered>), R::Error> {
        let Self(principal) = self;
        end_all(rows, &principal)?;
        rows.remove_account(&principal)?;
        Ok(((), None))
    }
}

/// All that came of logins of somebody ends, or of what they allowed this client alone. How many grants those were. They may log in
/// again.
pub(in crate::identity::login) struct EndAll {
    pub(in crate::identity::login) principal: Principal,
    pub(in crate::identity::login) client_id: Option<Arc<str>>,
}

impl Act for EndAll {
    type Answer = usize;

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(usize, Option<Undelivered>), R::Error> {
        let Self { principal, client_id } = self;
        let Some(client_id) = client_id else { return Ok((end_all(rows, &principal)?, None)) };
        let mut ended = 0;
        for (id, _) in rows.of_principal(&principal, KindTag::Client)? {
            let is_its = |grant: &Grant| grant.kind.client().is_some_and(|of| of.client_id == client_id);
            if rows.get(id)?.as_ref().is_some_and(is_its) {
                grants::end(rows, id)?;
                ended += 1;
            }
        }
        clients::forget(rows, &principal, &client_id)?;
        Ok((ended, None))
    }
}

fn end_all<R: Rows>(rows: &mut R, principal: &Principal) -> Result<usize, R::Error> {
    let mut ended = 0;
    for kind in [KindTag::Session, KindTag::Page, KindTag::Client] {
        for (id, _) in rows.of_principal(principal, kind)? {
            grants::end(rows, id)?;
            ended += 1;
        }
    }
    for given in rows.consents_of(principal)? {
        rows.remove_consent(given.consent.id())?;
    }
    for (id, _) in rows.codes_of(principal)? {
        if rows.code(id)?.is_some_and(|code| code.is_new()) {
            clients::use_up(rows, id)?;
        }
    }
    Ok(ended)
}
