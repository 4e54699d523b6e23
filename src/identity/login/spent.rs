//! What may be used once, and is good until a moment: the ids of assertions (`jti`, RFC 7523 §3). Each is kept until then, and counts
//! for whoever signs it, so that nobody fills the places of others.

use std::{sync::Arc, time::SystemTime};

use sha2::{Digest as _, Sha256};

/// Ids of one signer that are kept at most. An assertion is good for minutes: that is some thirty in a second.
pub(super) const MOST_OF_ONE: usize = 10_000;
/// Tokens without a grant that one client gives back before they end, at most.
pub(super) const MOST_GIVEN_BACK: usize = 500;

/// By which it is found: a SHA-256 over who signs it and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpentId(pub(super) [u8; 32]);

/// An id of somebody that is used.
#[derive(Debug, Clone)]
pub struct Spent {
    pub(super) id: SpentId,
    /// Whose it is.
    pub(super) owner: Arc<str>,
    /// From then on nothing with it is good.
    pub(super) until: SystemTime,
}

impl Spent {
    /// This id, of what `owner` signs.
    pub fn new(owner: &str, id: &[u8], until: SystemTime) -> Self {
        let length = (owner.len() as u64).to_be_bytes();
        let hash = Sha256::new().chain_update(length).chain_update(owner).chain_update(id).finalize();
        Self { id: SpentId(hash.into()), owner: owner.into(), until }
    }
}

/// Why something cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSpent {
    /// It was used before.
    Again,
    /// Its owner has as many as one may have.
    Full,
    /// That cannot be kept at present.
    Down,
}
