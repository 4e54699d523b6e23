//! How often somebody may try to log in.
//!
//! Ten times a minute from one address with one name. A name alone is never locked, since anybody could lock it; whoever
//! tries it too often, from wherever, waits.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ledger::{AddressBlock, Rate, RateMeter};

/// Attempts of one address with one name, and of one name before it is slowed.
const RATE: Rate = Rate { count: 10, per: Duration::from_secs(60) };
/// How long somebody waits who tries a name that many try.
const DELAY: Duration = Duration::from_secs(1);
/// Names, and addresses with names, that are remembered at most. Only attempts that have a place among the comparisons are noted, so
/// that a minute brings fewer than this.
const MOST: usize = 20_000;

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is made now.
    Now,
    /// It is made after a while.
    After(Duration),
    /// It is not made; another may be after this time.
    Refused(Duration),
}

/// Who has tried lately.
pub struct Attempts {
    began: Instant,
    /// By hashes under a key of this process, so that nobody chooses who shares an entry.
    key: RandomState,
    meters: Mutex<HashMap<u64, RateMeter>>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { began: Instant::now(), key: RandomState::new(), meters: Mutex::default() }
    }
}

impl Attempts {
    /// One of `count` things, the same each time for this name. Which one it is tells nothing to who does not know the key.
    pub fn any_of(&self, name: &str, count: usize) -> usize {
        let hash = self.key.hash_one(("any", name));
        usize::try_from(hash % count.max(1) as u64).unwrap_or_default()
    }

    /// Somebody at this address, who has a place among the comparisons, tries this name at `now`.
    pub fn note(&self, address: AddressBlock, name: &str, now: Instant) -> Attempt {
        let now = now.saturating_duration_since(self.began);
        let (of_both, of_name) = (self.key.hash_one((address, name)), self.key.hash_one(name));
        let mut meters = self.meters.lock();
        if meters.len() >= MOST {
            meters.retain(|_, meter| !meter.is_over(now));
        }
        if let Err(wait) = meters.entry(of_both).or_default().take(RATE, now) {
            return Attempt::Refused(wait);
        }
        match meters.entry(of_name).or_default().take(RATE, now) {
            Ok(()) => Attempt::Now,
            Err(_) => Attempt::After(DELAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(last: u8) -> AddressBlock {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn an_address_tries_a_name_ten_times_a_minute_and_others_are_not_refused() {
        let attempts = Attempts::default();
        let at = |seconds| attempts.began + Duration::from_secs(seconds);
        for _ in 0..10 {
            assert_eq!(attempts.note(address(1), "alice", at(0)), Attempt::Now);
        }
        let each = RATE.per / RATE.count;
        assert_eq!(attempts.note(address(1), "alice", at(0)), Attempt::Refused(each));
        assert_eq!(attempts.note(address(1), "bob", at(0)), Attempt::Now);
        assert_eq!(
            attempts.note(address(2), "alice", at(0)),
            Attempt::After(DELAY),
            "slowed, and not refused"
        );
        assert_eq!(attempts.note(address(1), "alice", at(5)), Attempt::Refused(Duration::from_secs(1)));
        assert_eq!(attempts.note(address(1), "alice", at(6)), Attempt::Now);
        assert_eq!(attempts.note(address(1), "alice", at(6)), Attempt::Refused(each));
        assert_eq!(attempts.note(address(2), "alice", at(600)), Attempt::Now);
    }

    #[test]
    fn names_that_nobody_tries_any_more_are_forgotten_and_others_are_not() {
        let attempts = Attempts::default();
        let at = |seconds| attempts.began + Duration::from_secs(seconds);
        for _ in 0..10 {
            attempts.note(address(1), "alice", at(100));
        }
        for name in 0..MOST / 2 {
            attempts.note(address(2), &name.to_string(), at(0));
        }
        assert!(attempts.meters.lock().len() > MOST);
        assert!(matches!(attempts.note(address(1), "alice", at(101)), Attempt::Refused(_)));
        assert_eq!(attempts.meters.lock().len(), 2);
    }
}
