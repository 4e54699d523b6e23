//! Which credential a presented token is, in a time that tells nothing about the stored ones.
//!
//! The token itself is never compared. It is hashed, and its digest is compared with four stored digests: every
//! slot of the two buckets that the digest may live in (a cuckoo table). A hit, a near miss and a wild guess do
//! the same work, and so do a table of one and a table of ten thousand, apart from how much of it the CPU caches.
//!
//! Two things could still leak and do not:
//!
//! - *Which bucket is touched* shows in the cache. A guesser knows the digest of his guess, so a bucket taken from
//!   the digest itself would let him aim at one and learn whether real callers keep it warm. The bucket comes from
//!   SipHash under a key drawn for each table instead: where a guess lands says nothing about what is stored.
//! - *What a comparison finds* is folded into the result by masks. There is one branch, on the result as a whole,
//!   and the answer to the client tells that much anyway.
//!
//! The time does depend on the length of what is presented, which its sender knows.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher, RandomState},
};

use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::config::Credential;

/// A SHA-256 digest in words: four XORs compare it, where a loop over bytes would cost more than the hashing.
type Digest = [u64; 4];

const SLOTS: usize = 2;

/// Both digests that live here, in one cache line: reading one reads the other.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([Digest; SLOTS]);

/// Owner of a free slot. Its digest is all zeros, which no known input has, and if one is ever found, what it
/// matches is this, and so a miss.
const NOBODY: u32 = u32::MAX;

/// Pushing out this many others for one newcomer means that the key is unlucky. At the load that
/// [`TokenTable::build`] allows, a newcomer hardly ever needs twenty.
const MAX_KICKS: usize = 200;

/// The credentials of one config, ready to be looked up by token. Immutable; a reload builds a new one.
pub struct TokenTable {
    /// A power of two, so that a mask makes a hash an index.
    buckets: Box<[Bucket]>,
    /// Index into the credentials for every slot of `buckets`.
    owners: Box<[[u32; SLOTS]]>,
    key: RandomState,
}

impl TokenTable {
    /// Builds the table. The same digest given twice belongs to the first credential that has it.
    ///
    /// Costs about 64 to 130 bytes of memory a credential, and time in proportion to their number.
    pub fn build(credentials: &[Credential]) -> Self {
        // Two choices of two slots fill up to 0.897 before insertion begins to fail; stay between 0.4 and 0.8.
        let mut size = (credentials.len() * 5).div_ceil(8).next_power_of_two();
        loop {
            if let Some(table) = Self::try_build(credentials, size) {
                return table;
            }
            // Another key alone would do for a large table; a small one is also cheap to double.
            size *= 2;
        }
    }

    fn try_build(credentials: &[Credential], size: usize) -> Option<Self> {
        let mut table = Self {
            buckets: vec![Bucket([[0; 4]; SLOTS]); size].into(),
            owners: vec![[NOBODY; SLOTS]; size].into(),
            key: RandomState::new(),
        };
        let mut seen = HashSet::with_capacity(credentials.len());
        for (owner, credential) in (0..NOBODY).zip(credentials) {
            if seen.insert(&credential.digest) && !table.insert(words(&credential.digest), owner) {
                return None;
            }
        }
        Some(table)
    }

    /// Puts `digest` into a free slot of its two homes, pushing others to their second home if need be.
    fn insert(&mut self, mut digest: Digest, mut owner: u32) -> bool {
        let mut full = usize::MAX;
        for kick in 0..MAX_KICKS {
            let homes = self.homes(&digest);
            for home in homes {
                if let Some(slot) = self.owners[home].iter().position(|&owner| owner == NOBODY) {
                    self.buckets[home].0[slot] = digest;
                    self.owners[home][slot] = owner;
                    return true;
                }
            }
            // Who was just pushed out of `full` must not push its way back in.
            full = if homes[0] == full { homes[1] } else { homes[0] };
            let slot = kick % SLOTS;
            std::mem::swap(&mut digest, &mut self.buckets[full].0[slot]);
            std::mem::swap(&mut owner, &mut self.owners[full][slot]);
        }
        false
    }

    /// Both buckets where `digest` may live; they may be the same one.
    fn homes(&self, digest: &Digest) -> [usize; 2] {
        let mut hasher = self.key.build_hasher();
        for word in digest {
            hasher.write_u64(*word);
        }
        let hash = hasher.finish();
        // Halves of one hash are independent, and 2^32 buckets are more than `NOBODY` leaves credentials for.
        let mask = self.buckets.len() - 1;
        [hash as usize & mask, (hash >> 32) as usize & mask]
    }

    /// The credential whose token `presented` is: its index in the slice that the table was built from.
    ///
    /// Whether it has expired is for the caller to check, so that an expired one costs as long as a good one here.
    pub fn find(&self, presented: &[u8]) -> Option<usize> {
        self.find_digest(&Sha256::digest(presented).into())
    }

    /// The credential that has this digest, as [`TokenTable::find`] gives it: for what was admitted earlier.
    pub fn find_digest(&self, digest: &[u8; 32]) -> Option<usize> {
        let digest = &words(digest);
        let mut owner = NOBODY;
        for home in self.homes(digest) {
            for (stored, its_owner) in self.buckets[home].0.iter().zip(&self.owners[home]) {
                let differing = stored.iter().zip(digest).fold(0, |bits, (a, b)| bits | (a ^ b));
                owner.conditional_assign(its_owner, differing.ct_eq(&0));
            }
        }
        (owner != NOBODY).then_some(owner as usize)
    }
}

fn words(digest: &[u8; 32]) -> Digest {
    let (words, _) = digest.as_chunks();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::CallerLimits;

    fn credential(token: &[u8]) -> Credential {
        Credential {
            token_name: "any".into(),
            is_tenant: false,
            id: None,
            digest: Sha256::digest(token).into(),
            expires: None,
            roles: vec![],
            decoy: false,
            limits: CallerLimits::ALL,
        }
    }

    fn table(tokens: &[Vec<u8>]) -> TokenTable {
        TokenTable::build(&tokens.iter().map(|token| credential(token)).collect::<Vec<_>>())
    }

    fn numbered(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| format!("token-{i}").into_bytes()).collect()
    }

    #[test]
    fn an_empty_table_knows_nobody() {
        let table = TokenTable::build(&[]);
        assert_eq!(table.find(b""), None);
        assert_eq!(table.find(b"dev-token-123"), None);
    }

    #[test]
    fn every_number_of_tokens_up_to_two_hundred_is_found_whole() {
        for count in 1..=200 {
            let tokens = numbered(count);
            let table = table(&tokens);
            for (index, token) in tokens.iter().enumerate() {
                assert_eq!(table.find(token), Some(index), "token {index} of {count}");
            }
            assert_eq!(table.find(format!("token-{count}").as_bytes()), None);
        }
    }

    #[test]
    fn ten_thousand_tokens_fit_the_table_that_was_planned_for_them() {
        let tokens = numbered(10_000);
        let table = table(&tokens);
        assert_eq!(table.buckets.len(), 8_192, "512 KiB stay in the CPU's second cache; twice that may not");
        for (index, token) in tokens.iter().enumerate() {
            assert_eq!(table.find(token), Some(index));
        }
    }

    #[test]
    fn a_full_table_asks_for_another_one_instead_of_losing_a_token() {
        let credentials: Vec<_> = numbered(5).iter().map(|token| credential(token)).collect();
        assert!(TokenTable::try_build(&credentials, 2).is_none(), "five cannot fit into four slots");
    }

    #[test]
    fn the_same_secret_given_twice_is_the_first_ones() {
        let tokens = vec![b"same".to_vec(); 50];
        assert_eq!(table(&tokens).find(b"same"), Some(0));
    }

    #[test]
    fn what_is_stored_is_no_key() {
        let table = table(&[b"dev-token-123".to_vec()]);
        let digest = Sha256::digest(b"dev-token-123");
        assert_eq!(table.find(&digest), None, "the digest of a token is not the token");
    }

    #[test]
    fn differences_do_not_cancel_each_other() {
        let table = table(&[b"dev-token-123".to_vec()]);
        let mut digest: [u8; 32] = Sha256::digest(b"dev-token-123").into();
        assert_eq!(table.find_digest(&digest), Some(0));
        // The same bit of two words, in a table whose one bucket is everybody's.
        (digest[0], digest[8]) = (digest[0] ^ 1, digest[8] ^ 1);
        assert_eq!(table.find_digest(&digest), None);
    }

    #[test]
    fn a_free_slot_matches_nobody_even_by_its_own_digest() {
        let table = table(&[b"dev-token-123".to_vec()]);
        assert!(table.owners.as_flattened().contains(&NOBODY), "there is a free slot to match");
        assert_eq!(table.find_digest(&[0; 32]), None);
    }

    proptest! {
        #[test]
        fn any_set_of_tokens_is_found_and_nothing_near_it(
            tokens in prop::collection::hash_set(prop::collection::vec(any::<u8>(), 1..64), 1..100),
            strangers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 50),
            flip in any::<prop::sample::Index>(),
        ) {
            let tokens: Vec<_> = tokens.into_iter().collect();
            let table = table(&tokens);
            for (index, token) in tokens.iter().enumerate() {
                prop_assert_eq!(table.find(token), Some(index));

                let mut one_bit_off = token.clone();
                let bit = flip.index(token.len() * 8);
                one_bit_off[bit / 8] ^= 1 << (bit % 8);
                let shorter = token[..token.len() - 1].to_vec();
                let longer = [token.as_slice(), b"\0"].concat();
                for near in [one_bit_off, shorter, longer] {
                    let known = tokens.iter().position(|token| *token == near);
                    prop_assert_eq!(table.find(&near), known);
                }
            }
            for stranger in strangers {
                let known = tokens.iter().position(|token| *token == stranger);
                prop_assert_eq!(table.find(&stranger), known);
            }
        }
    }
}
