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
};
use crate::identity::principal::Principal;

/// Grants, and those that were revoked, at most. Each grant has its place among the revoked from the beginning, so that there is
/// always room to revoke one.
pub(super) const MOST: usize = 100_000;

/// The rows of all tables.
pub(super) trait Rows {
    /// Why they cannot be read or written.
    type Error;

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
    fn put_spent(&mut self, spent: &Spent) -> Result<(), Self::Error>;
    /// Remembers until then that something was revoked that is no grant which is kept.
    fn put_revoked(&mut self, id: GrantId, ends: SystemTime) -> Result<(), Self::Error>;
}
