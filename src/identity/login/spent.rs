//! What may be used once, and is good until a moment: the ids of assertions (`jti`, RFC 7523 §3), and what a browser brings back from
//! the identity provider. Each is kept until then, and takes one of the places of whoever it counts for, so that nobody fills the places
//! of others.

use std::{sync::Arc, time::SystemTime};

use sha2::{Digest as _, Sha256};

use crate::ledger::AddressBlock;

/// Ids of one signer that are kept at most. An assertion is good for minutes: that is some thirty in a second.
const MOST_OF_ONE: usize = 10_000;
/// Ids by which one signer gives tokens back: it can do that also if it has no other places left.
const MOST_TO_GIVE_BACK: usize = 1_000;
/// Tokens without a grant that one client gives back before they end, at most.
const MOST_GIVEN_BACK: usize = 500;
/// Logins at the identity provider that come back to one network, at most.
const MOST_LOGINS_OF_ONE: usize = 1_000;
/// Those of all networks.
const MOST_LOGINS: usize = 100_000;
/// What the names of all begin with whom logins count for.
const LOGINS: &str = "login from ";

/// By which it is found: a SHA-256 over who signs it and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpentId(pub(super) [u8; 32]);

/// An id of somebody that is used.
#[derive(Debug, Clone)]
pub struct Spent {
    pub(super) id: SpentId,
    /// Whom it counts for.
    pub(super) owner: Arc<str>,
    /// How many that one may have.
    pub(super) most: usize,
    /// How many all may have together whose names begin so.
    pub(super) most_of_all: Option<(&'static str, usize)>,
    /// From then on nothing with it is good.
    pub(super) until: SystemTime,
}

impl Spent {
    /// This id of an assertion that `signer` signs.
    pub fn assertion(signer: &str, id: &[u8], until: SystemTime) -> Self {
        Self::new(signer, id, until, MOST_OF_ONE)
    }

    /// The same, of one by which something is given back: it is used up wherever it comes, and has places of its own.
    pub fn to_give_back(self) -> Self {
        let owner = format!("{} to give back", self.owner).into();
        Self { owner, most: MOST_TO_GIVE_BACK, ..self }
    }

    /// Whom it counts for.
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// A token of this id that `client` gives back.
    pub(super) fn token(client: &str, id: &[u8], until: SystemTime) -> Self {
        Self::new(&format!("revoked {client}"), id, until, MOST_GIVEN_BACK)
    }

    /// A login at the identity provider that comes back to a browser at this address; no other has its key.
    pub fn login(address: AddressBlock, key: &str, until: SystemTime) -> Self {
        let id = Self::new("login", key.as_bytes(), until, MOST_LOGINS_OF_ONE);
        let owner = format!("{LOGINS}{}", address.network()).into();
        Self { owner, most_of_all: Some((LOGINS, MOST_LOGINS)), ..id }
    }

    fn new(owner: &str, id: &[u8], until: SystemTime, most: usize) -> Self {
        let length = (owner.len() as u64).to_be_bytes();
        let hash = Sha256::new().chain_update(length).chain_update(owner).chain_update(id).finalize();
        Self { id: SpentId(hash.into()), owner: owner.into(), most, most_of_all: None, until }
    }
}

/// Why something cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSpent {
    /// It was used before.
    Again,
    /// Perhaps it was: what ends so early may be forgotten, by a clock that ran ahead.
    Forgotten,
    /// Its owner has as many as one may have.
    Full,
    /// That cannot be kept at present.
    Down,
}
