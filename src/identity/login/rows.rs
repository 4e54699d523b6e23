//! Where what logins began is kept, for as long as nobody else changes it: in memory, or in a file.

use std::time::SystemTime;

use super::{
    account::KeptAccount,
    code::{Code, CodeId},
    consent::{ConsentId, KeptConsent},
    grant::Grant,
    grant_id::GrantId,
    kind::KindTag,
    spent::{Spent, SpentId},
    upstream_row::{KeptClient, KeptFlow, KeptUpstream, PairId, UpstreamCounts, UpstreamOwner, UpstreamRow},
};
use crate::identity::principal::Principal;

/// Grants, and those that were revoked, at most. Each grant has its place among the revoked from the beginning, so that there is
/// always room to revoke one.
pub(super) const MOST: usize = 100_000;

/// The rows of what is kept for servers.
pub(super) trait UpstreamRows {
    /// Why they cannot be read or written.
    type Error;

    fn credential(&mut self, id: PairId) -> Result<Option<KeptUpstream>, Self::Error>;
    /// By the names of the servers.
    fn credentials_of(&mut self, owner: &UpstreamOwner) -> Result<Vec<UpstreamRow>, Self::Error>;
    /// So many, without bodies, by owner and server.
    fn all_credentials(&mut self, most: usize) -> Result<Vec<UpstreamRow>, Self::Error>;
    /// How many there are of each server in each state.
    fn credential_counts(&mut self) -> Result<UpstreamCounts, Self::Error>;
    fn count_credentials(&mut self) -> Result<usize, Self::Error>;
    fn count_credentials_of(&mut self, owner: &UpstreamOwner) -> Result<usize, Self::Error>;
    /// Adds one, or replaces what there is of it.
    fn put_credential(&mut self, kept: &KeptUpstream) -> Result<(), Self::Error>;
    /// Until then one of all processes refreshes it. Nobody has to read it again for that.
    fn lock_credential(&mut self, id: PairId, until: SystemTime) -> Result<(), Self::Error>;
    fn remove_credential(&mut self, id: PairId) -> Result<(), Self::Error>;

    fn flow(&mut self, id: [u8; 32]) -> Result<Option<KeptFlow>, Self::Error>;
    /// The flows of a principal, and when each ends.
    fn flows_of(&mut self, principal: &Principal) -> Result<Vec<([u8; 32], SystemTime)>, Self::Error>;
    fn count_flows(&mut self) -> Result<usize, Self::Error>;
    fn put_flow(&mut self, id: [u8; 32], flow: &KeptFlow) -> Result<(), Self::Error>;
    fn remove_flow(&mut self, id: [u8; 32]) -> Result<(), Self::Error>;

    fn client(&mut self, id: PairId) -> Result<Option<KeptClient>, Self::Error>;
    fn count_clients(&mut self) -> Result<usize, Self::Error>;
    fn put_client(&mut self, client: &KeptClient) -> Result<(), Self::Error>;
    fn remove_client(&mut self, id: PairId) -> Result<(), Self::Error>;
}

/// The rows of all tables.
pub(super) trait Rows {
    /// Why they cannot be read or written.
    type Error;
    /// What has those of what is kept for servers.
    type Upstream: UpstreamRows<Error = Self::Error>;

    fn upstream(&mut self) -> &mut Self::Upstream;

    fn get(&mut self, id: GrantId) -> Result<Option<Grant>, Self::Error>;
    /// The grants of one kind that a principal has, and when each was refreshed.
    fn of_principal(
        &mut self,
        principal: &Principal,
        kind: KindTag,
    ) -> Result<Vec<(GrantId, SystemTime)>, Self::Error>;
    /// How many there are, with those that were revoked.
    fn count(&mut self) -> Result<usize, Self::Error>;
    /// Adds one, or replaces what there is of it.
    fn put(&mut self, grant: &Grant) -> Result<(), Self::Error>;
    /// Removes one, and remembers until its tokens end that it was revoked.
    fn move_to_revoked(&mut self, grant: &Grant) -> Result<(), Self::Error>;

    fn code(&mut self, id: CodeId) -> Result<Option<Code>, Self::Error>;
    /// The codes of a principal, and when each was made.
    fn codes_of(&mut self, principal: &Principal) -> Result<Vec<(CodeId, SystemTime)>, Self::Error>;
    fn count_codes(&mut self) -> Result<usize, Self::Error>;
    fn put_code(&mut self, id: CodeId, code: &Code) -> Result<(), Self::Error>;

    fn consents_of(&mut self, principal: &Principal) -> Result<Vec<KeptConsent>, Self::Error>;
    fn put_consent(&mut self, consent: &KeptConsent) -> Result<(), Self::Error>;
    fn remove_consent(&mut self, id: ConsentId) -> Result<(), Self::Error>;

    fn account(&mut self, principal: &Principal) -> Result<Option<KeptAccount>, Self::Error>;
    fn count_accounts(&mut self) -> Result<usize, Self::Error>;
    /// Adds one, or replaces what there is of it.
    fn put_account(&mut self, kept: &KeptAccount) -> Result<(), Self::Error>;
    fn remove_account(&mut self, principal: &Principal) -> Result<(), Self::Error>;

    fn is_spent(&mut self, id: SpentId) -> Result<bool, Self::Error>;
    fn count_spent(&mut self, owner: &str) -> Result<usize, Self::Error>;
    /// The same of all whose names begin so.
    fn count_spent_of_all(&mut self, prefix: &str) -> Result<usize, Self::Error>;
    /// The latest end of all that are not kept any more: the clock may have run ahead then, so that one which ends by that time is
    /// perhaps used and forgotten.
    fn forgotten_until(&mut self) -> Result<Option<SystemTime>, Self::Error>;
    fn put_spent(&mut self, spent: &Spent) -> Result<(), Self::Error>;
    /// Remembers until then that something was revoked that is no grant which is kept.
    fn put_revoked(&mut self, id: GrantId, ends: SystemTime) -> Result<(), Self::Error>;
}
