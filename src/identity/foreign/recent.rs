//! What was seen of tokens lately, within bounds.

use std::collections::HashMap;

use crate::identity::token_digest::TokenDigest;

/// Tokens of a generation at most.
const MOST: usize = 4096;

/// What was seen of tokens lately, by their digests: two generations, the older of which is forgotten once the younger is full.
pub struct Recent<T> {
    younger: HashMap<TokenDigest, T>,
    older: HashMap<TokenDigest, T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { younger: HashMap::new(), older: HashMap::new() }
    }
}

impl<T> Recent<T> {
    /// What was seen of a token.
    pub fn get(&self, digest: &TokenDigest) -> Option<&T> {
        self.younger.get(digest).or_else(|| self.older.get(digest))
    }

    /// Of which something was seen, what was seen last at the end.
    pub fn digests(&self) -> impl Iterator<Item = &TokenDigest> {
        self.older.keys().chain(self.younger.keys())
    }

    /// Now this was.
    pub fn insert(&mut self, digest: TokenDigest, value: T) {
        if self.younger.len() >= MOST {
            self.older = std::mem::take(&mut self.younger);
        }
        self.older.remove(&digest);
        self.younger.insert(digest, value);
    }

    /// It never was.
    pub fn remove(&mut self, digest: &TokenDigest) {
        self.younger.remove(digest);
        self.older.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_known_however_much_comes() {
        let mut recent = Recent::default();
        let digest = |number: usize| TokenDigest::of(&number.to_be_bytes());
        for number in 0..5 * MOST {
            recent.insert(digest(number), number);
            assert_eq!(
                recent.get(&digest(number.saturating_sub(MOST - 1))),
                Some(&number.saturating_sub(MOST - 1))
            );
            assert!(recent.younger.len() <= MOST && recent.older.len() <= MOST);
        }
        assert_eq!(recent.get(&digest(0)), None);
        let last = digest(5 * MOST - 1);
        recent.insert(last, 7);
        assert_eq!(recent.get(&last), Some(&7));
        recent.remove(&last);
        assert_eq!(recent.get(&last), None);
    }
}
