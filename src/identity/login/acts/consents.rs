//! What is done to consents.

use std::time::SystemTime;

use super::act::{Act, Undelivered};
use crate::{
    config::ScopeTags,
    identity::{
        login::{
            code::MOST_WITHOUT_A_CLICK,
            consent::{Consent, KeptConsent, MOST_OF_ONE},
            rows::Rows,
        },
        principal::Principal,
    },
};

/// Somebody has allowed a client something, and is not asked again for the same or less.
pub(in crate::identity::login) struct Remember {
    pub(in crate::identity::login) consent: Consent,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Remember {
    type Answer = ();

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<((), Option<Undelivered>), R::Error> {
        let id = self.consent.id();
        let mut others = rows.consents_of(&self.consent.principal)?;
        others.retain(|other| other.consent.id() != id);
        others.sort_by_key(|other| other.given);
        let beyond = (others.len() + 1).saturating_sub(MOST_OF_ONE);
        for other in others.iter().take(beyond) {
            rows.remove_consent(other.consent.id())?;
        }
        rows.put_consent(&KeptConsent { consent: self.consent, given: self.now })?;
        Ok(((), None))
    }
}

/// Whether somebody allowed a client this, or more, before, and need not be asked again. Somebody who had many codes lately is asked: any
/// page may lead a browser here, and what is allowed without a click must leave places for what is allowed with one.
pub(in crate::identity::login) struct Has {
    pub(in crate::identity::login) asked: Consent,
    pub(in crate::identity::login) tags: ScopeTags,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Has {
    type Answer = bool;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(bool, Option<Undelivered>), R::Error> {
        if rows.codes_of(&self.asked.principal)?.len() >= MOST_WITHOUT_A_CLICK {
            return Ok((false, None));
        }
        let given = rows.consents_of(&self.asked.principal)?;
        let is_it = |given: &KeptConsent| {
            self.now < given.kept_until() && given.consent.covers(&self.asked, self.tags)
        };
        Ok((given.iter().any(is_it), None))
    }
}

/// Forgets what somebody allowed a client.
pub(super) fn forget<R: Rows>(rows: &mut R, principal: &Principal, client_id: &str) -> Result<(), R::Error> {
    for KeptConsent { consent, .. } in rows.consents_of(principal)? {
        if *consent.client_id == *client_id {
            rows.remove_consent(consent.id())?;
        }
    }
    Ok(())
}
