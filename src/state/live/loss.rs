//! Whether what runs would be let in now: asked after each change, and while credentials end.

use std::{iter, sync::Arc};

use super::Live;
use crate::{
    config::Server,
    identity::{Admission, AdmittedParty, Identity, Principal, Proof, Vouched},
    servers::{ServerEntry, SharedKey},
    watchdog::Revocation,
};

impl Live {
    /// Whether what was let in by `admission` would be let in now.
    pub fn still_admits(&self, admission: &Admission) -> bool {
        self.loss(admission).is_none()
    }

    /// Whether those who share this would be let in now, if it is all servers as one.
    pub fn admits_view(&self, key: &SharedKey) -> bool {
        let SharedKey::View { to, .. } = key else { return true };
        self.still_admits(&Admission::new(to.clone(), Server::ALL.into(), 0))
    }

    /// Whether the server of `admission` would be there now as one behind all servers as one, which are the place of it.
    pub fn still_admits_member(&self, admission: &Admission) -> bool {
        self.loss_of(admission, true).is_none()
    }

    /// What was lost since, if what was let in by `admission` would not be let in now.
    pub fn loss(&self, admission: &Admission) -> Option<Revocation> {
        self.loss_of(admission, false)
    }

    fn loss_of(&self, admission: &Admission, is_member: bool) -> Option<Revocation> {
        let Some(entry) = self.entry(&admission.server) else { return Some(Revocation::Server) };
        if let (Some(credentials), Some(key)) = (&entry.credentials, admission.credential.get())
            && !credentials.is_current(&admission.to.identity().principal, *key)
        {
            return Some(Revocation::Connection);
        }
        if entry.is_public {
            return None;
        }
        if let Some(vouched) = &admission.to.identity().vouched {
            return self.loss_of_vouched(vouched, admission, entry, is_member);
        }
        if let Principal::Idp(_) = &admission.to.identity().principal {
            return self.loss_of_person(admission, entry, is_member);
        }
        let found;
        let (principal, slots, members) = match &admission.to {
            AdmittedParty::Principal(identity) => {
                (&identity.principal, self.slots_of(&identity.principal), None)
            }
            AdmittedParty::Credential(identity) => {
                found = match &identity.proof {
                    Proof::Nothing | Proof::Foreign(_) | Proof::Client(_) => None,
                    Proof::StaticToken(digest) => self.tokens.find_digest(digest),
                    // The token may have expired: what it began goes on as long as the grant.
                    Proof::Session { grant, fingerprint } | Proof::Access { grant, fingerprint } => {
                        let (is_there, client) = self.grant(&identity.principal, *grant);
                        let goes_on = is_there
                            && identity.is_valid_at(self.clock.now())
                            && self.still_allows(identity, client.as_deref());
                        self.slot_of_login(&identity.principal, *fingerprint).filter(|_| goes_on)
                    }
                    Proof::Password(_) => {
                        let slot = self.slots_of(&identity.principal).first().copied();
                        slot.filter(|slot| self.callers[*slot].identity.proof == identity.proof)
                    }
                };
                (&identity.principal, found.as_slice(), admission.members.get())
            }
        };
        let mut valid = slots.iter().filter(|slot| self.is_valid(**slot)).peekable();
        // Somebody is left, who may no longer use it.
        let loss = if valid.peek().is_some() { Revocation::Grant } else { Revocation::Token };
        let members = members.map_or(&[][..], |members| &members[..]);
        // A credential may have been given to another principal, who has no part in what was begun by it.
        let is_same = |slot: usize| self.callers[slot].identity.principal == *principal;
        let reread = self.reread(admission.to.identity());
        let identity = reread.as_ref().unwrap_or(admission.to.identity());
        // A session is its principal's, whose requests are asked each by itself.
        let is_allowed = matches!(admission.to, AdmittedParty::Principal(_))
            || self.is_allowed(identity, entry, members, is_member);
        // A session has what its principal may have, a client what it was allowed of that.
        let client = match &admission.to {
            AdmittedParty::Credential(_) => identity.allowed.as_ref(),
            AdmittedParty::Principal(_) => None,
        };
        let keeps_tools = |slot: usize| {
            let of_slot = &self.callers[slot].identity;
            let limited =
                client.map(|allowed| Identity { allowed: Some(Arc::clone(allowed)), ..(**of_slot).clone() });
            let identity = limited.as_ref().unwrap_or(of_slot);
            let begun: Vec<_> = admission.begun_by.get().map(|other| &**other).into_iter().collect();
            self.keeps_tools(identity, admission, &begun, entry, members)
        };
        let admits = |slot: &usize| {
            is_same(*slot)
                && is_allowed
                && entry.allows(*slot)
                && self.reaches_as_much_as_its_name(*slot, members)
                && keeps_tools(*slot)
        };
        (!valid.any(admits)).then_some(loss)
    }

    /// The same of somebody of an issuer, of whom the config has nothing but what it gives to those of whom such things are said.
    fn loss_of_vouched(
        &self,
        vouched: &Arc<Vouched>,
        admission: &Admission,
        entry: &ServerEntry,
        is_member: bool,
    ) -> Option<Revocation> {
        let identity = admission.to.identity();
        let is_request = matches!(admission.to, AdmittedParty::Credential(_));
        // A session is its principal's, whose requests are asked each by itself.
        let is_good = || {
            identity.is_valid_at(self.clock.now())
                && match identity.proof {
                    Proof::Access { grant, .. } => self.grant(&identity.principal, grant).0,
                    _ => self.still_vouches(vouched),
                }
        };
        if is_request && !is_good() {
            return Some(Revocation::Token);
        }
        let (members, begun_by) = (admission.members.get(), admission.begun_by.get());
        if vouched.config == self.number && members.is_none() && begun_by.is_none() {
            return None;
        }
        let Some(now) = self.vouched_now(identity) else {
            return Some(Revocation::Token);
        };
        // Whoever began the session may have had more said of them, and what that gives may have changed since.
        let begun_now = begun_by.and_then(|other| self.vouched_now(other));
        let admits = self.admits_unnamed(now, begun_now.as_ref(), admission, entry, is_member);
        (!admits).then_some(Revocation::Grant)
    }

    /// The same of somebody of the identity provider, of whom the config says whom it lets in, and what it gives to those of whom such
    /// things are said.
    fn loss_of_person(
        &self,
        admission: &Admission,
        entry: &ServerEntry,
        is_member: bool,
    ) -> Option<Revocation> {
        let identity = admission.to.identity();
        let Proof::Access { grant, fingerprint } = identity.proof else { return Some(Revocation::Token) };
        // A session is its principal's, whose requests are asked each by itself.
        if matches!(admission.to, AdmittedParty::Credential(_)) {
            // The token may have expired: what it began goes on as long as the grant.
            let (is_there, client) = self.grant(&identity.principal, grant);
            let goes_on = is_there
                && identity.is_valid_at(self.clock.now())
                && self.still_allows(identity, client.as_deref());
            if !goes_on {
                return Some(Revocation::Token);
            }
        }
        let Some(person) = self.person(&identity.principal, fingerprint) else {
            return Some(Revocation::Token);
        };
        let allowed = self.reread(identity).map_or_else(|| identity.allowed.clone(), |reread| reread.allowed);
        let now = Identity { proof: identity.proof, not_after: identity.not_after, allowed, ..person };
        let begun_now = admission.begun_by.get().and_then(|other| match other.proof {
            Proof::Access { fingerprint, .. } => self.person(&other.principal, fingerprint),
            _ => None,
        });
        let admits = self.admits_unnamed(now, begun_now.as_ref(), admission, entry, is_member);
        (!admits).then_some(Revocation::Grant)
    }

    /// Whether somebody whom the config does not name, who would be `now` if it came now, goes on with what `admission` let in.
    /// `begun_now`: who began the session would be that.
    fn admits_unnamed(
        &self,
        mut now: Identity,
        begun_now: Option<&Identity>,
        admission: &Admission,
        entry: &ServerEntry,
        is_member: bool,
    ) -> bool {
        let is_request = matches!(admission.to, AdmittedParty::Credential(_));
        let members = admission.members.get().filter(|_| is_request).map_or(&[][..], |members| &members[..]);
        let is_allowed = !is_request || self.is_allowed(&now, entry, members, is_member);
        if !is_request {
            now.allowed = None;
        }
        let begun_by = admission.begun_by.get().map(|other| &**other);
        let begun: Vec<_> = begun_by.into_iter().chain(begun_now).collect();
        let reaches = |member: &ServerEntry| {
            member.is_public
                || member.allows_identity(&now)
                || !begun.is_empty() && !begun.iter().any(|other| member.allows_identity(other))
        };
        is_allowed
            && entry.allows_identity(&now)
            && members.iter().filter_map(|server| self.entry(server)).all(|member| reaches(member))
            && self.keeps_tools(&now, admission, &begun, entry, members)
    }

    /// Whether what a client was allowed, if one acts, is this server, and each of these behind it.
    fn is_allowed(
        &self,
        identity: &Identity,
        entry: &ServerEntry,
        members: &[Arc<str>],
        is_member: bool,
    ) -> bool {
        (if is_member { entry.is_allowed_as_member(identity) } else { entry.is_allowed(identity) })
            && members
                .iter()
                .filter_map(|server| self.entry(server))
                .all(|entry| entry.is_public || entry.is_allowed_as_member(identity))
    }

    /// Whether any credential of this principal opens the server.
    fn admits_principal(&self, principal: &Principal, entry: &ServerEntry) -> bool {
        self.slots_of(principal).iter().any(|slot| entry.allows(*slot) && self.is_valid(*slot))
    }

    /// Whether the credential may use every one of these servers that its principal may use. A session belongs to the
    /// principal, and reaches what any of its credentials may reach; roles are the credential's, so one with fewer must not
    /// get further by the session of another.
    fn reaches_as_much_as_its_name(&self, slot: usize, servers: &[Arc<str>]) -> bool {
        let principal = &self.callers[slot].identity.principal;
        servers
            .iter()
            .filter_map(|server| self.entry(server))
            .all(|entry| entry.is_public || entry.allows(slot) || !self.admits_principal(principal, entry))
    }

    /// Whether `identity` may use the tools of these servers that were there for those on whose rights it relies: for itself as it was,
    /// and for whoever began the session.
    fn keeps_tools(
        &self,
        identity: &Identity,
        admission: &Admission,
        begun: &[&Identity],
        entry: &ServerEntry,
        members: &[Arc<str>],
    ) -> bool {
        let others = members.iter().filter_map(|server| self.entry(server)).map(|entry| &**entry);
        let mut ruled = iter::once(entry).chain(others).filter(|entry| entry.server.tool_rules.is_some());
        ruled.all(|entry| {
            entry.tools_cover(identity, admission.to.identity())
                && begun.iter().all(|other| entry.tools_cover(identity, other))
        })
    }
}
