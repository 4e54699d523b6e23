//! Who logged in by the identity provider: what is known of them says, by the config in force, whether they are let in, and what they
//! may do. The config names none of them.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Live;
use crate::{
    identity::{
        Identity, Principal, Standing,
        foreign::verified::Said,
        given,
        idp::Idp,
        login::{account::Account, fingerprint::Fingerprint},
    },
    ledger::OwnerName,
};

impl Live {
    /// The identity provider, if the config has one.
    pub fn idp(&self) -> Option<&Idp> {
        self.idp.as_ref()
    }

    /// What grants know the identity provider by: of another one, nobody of them is let in, whatever they are called there. `None` as
    /// long as logins are not kept.
    pub fn idp_fingerprint(&self) -> Option<Fingerprint> {
        let config = self.idp.as_ref()?.config();
        self.idp_fingerprint.get().copied().or_else(|| {
            let place = config.place();
            let parts = [config.provider.name(), &place, &config.client_id];
            let fingerprint = self.logins.fingerprint_of_idp(parts).ok()?;
            Some(*self.idp_fingerprint.get_or_init(|| fingerprint))
        })
    }

    /// What is known of somebody of the identity provider that the config has.
    pub fn account(&self, principal: &Principal) -> Option<Arc<Account>> {
        let fingerprint = self.idp_fingerprint()?;
        let account = self.logins.grants()?.account(principal)?;
        (account.fingerprint == fingerprint).then_some(account)
    }

    /// Claims on which a limit of `assign` hangs: of somebody of whom it is not known what the provider says of them, it is not known
    /// what they may do.
    pub fn limiting_claims(&self) -> impl Iterator<Item = &str> {
        let provider = self.idp.as_ref().map(|idp| idp.config().provider.name());
        let is_of_it = move |issuer: &Arc<str>| provider == Some(&**issuer);
        let limits = self.config.assignments.iter().filter(|of| of.limits_somebody());
        let limits = limits.filter(move |of| of.condition.issuer.as_ref().is_none_or(is_of_it));
        limits.flat_map(|of| of.condition.claims())
    }

    /// What is known of somebody who logged in by the identity provider of this fingerprint, and who they are by it, if they are still
    /// let in.
    fn let_in(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<(Arc<Account>, Identity)> {
        let account = self.account(principal).filter(|account| account.fingerprint == fingerprint)?;
        let identity = self.admitted(principal, &account.claims).ok()?;
        Some((account, identity))
    }

    /// Whether such a one is let in, perhaps once the provider was asked again.
    pub(super) fn has_person(&self, principal: &Principal, fingerprint: Fingerprint) -> bool {
        self.let_in(principal, fingerprint).is_some()
    }

    /// Who such a one is, if enough is known of them to say what they may do.
    pub(super) fn person(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<Identity> {
        let (account, identity) = self.let_in(principal, fingerprint)?;
        account.knows(self.limiting_claims()).then_some(identity)
    }

    /// The same of the one that the config has.
    pub(super) fn person_named(&self, principal: &Principal) -> Option<Identity> {
        self.person(principal, self.idp_fingerprint()?)
    }

    /// Who somebody is of whom the identity provider says this, or why they are not let in.
    pub fn admitted(
        &self,
        principal: &Principal,
        claims: &Map<String, Value>,
    ) -> Result<Identity, &'static str> {
        let config = self.idp.as_ref().ok_or("the config has no identity provider")?.config();
        config.admits(claims)?;
        let said = Said { claims, by: config.provider.name(), gives_addresses: false };
        let assignments = &self.config.assignments;
        let meets_one = || assignments.iter().any(|of| of.admits() && said.meets(&of.condition));
        if config.allowed_domains.is_empty() && config.allowed_orgs.is_empty() && !meets_one() {
            return Err("they meet no condition of `assign`, which alone says who may come");
        }
        let (roles, limits) = given(assignments, |condition| said.meets(condition));
        Ok(Identity { principal: principal.clone(), roles, limits, ..Identity::NOBODY })
    }

    /// How the config knows somebody of the identity provider.
    pub(super) fn standing_of_person(&self, name: &Arc<str>) -> Standing {
        Standing::Foreign(self.ledger.owner(OwnerName::Idp(Arc::clone(name))))
    }
}
