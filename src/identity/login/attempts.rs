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

use crate::ledger::AddressBlock;

/// Attempts that may come at once.
const BURST: u32 = 10;
/// How often there may be another one.
const EACH: Duration = Duration::from_secs(6);
/// How long somebody waits who tries a name that many try.
const DELAY: Duration = Duration::from_secs(1);
/// Names, and addresses with names, that are remembered at most.
const MOST: usize = 100_000;

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

/// Who has tried lately. For each, the moment up to which the attempts so far would last at one each six seconds (the
/// generic cell rate algorithm).
pub struct Attempts {
    began: Instant,
    /// By hashes under a key of this process, so that nobody chooses who shares an entry.
    key: RandomState,
    until: Mutex<HashMap<u64, Duration>>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { began: Instant::now(), key: RandomState::new(), until: Mutex::default() }
    }
}

impl Attempts {
    /// One of `count` things, the same each time for this name. Which one it is tells nothing to who does not know the key.
    pub fn any_of(&self, name: &str, count: usize) -> usize {
        let hash = self.key.hash_one(("any", name));
        usize::try_from(hash % count.max(1) as u64).unwrap_or_default()
    }

    /// Somebody at this address tries this name at `now`.
    pub fn note(&self, address: AddressBlock, name: &str, now: Instant) -> Attempt {
        let now = now.saturating_duration_since(self.began);
        let (of_both, of_name) = (self.key.hash_one((address, name)), self.key.hash_one(name));
        let mut until = self.until.lock();
        if until.len() >= MOST {
            until.retain(|_, until| *until > now);
            // More than this cannot be compared in the meantime anyway.
            if until.len() >= MOST {
                until.clear();
            }
        }
        if let Err(wait) = take(&mut until, of_both, now) {
            return Attempt::Refused(wait);
        }
        match take(&mut until, of_name, now) {
            Ok(()) => Attempt::Now,
            Err(_) => Attempt::After(DELAY),
        }
    }
}

/// Counts one, or says after which time there may be one.
fn take(until: &mut HashMap<u64, Duration>, key: u64, now: Duration) -> Result<(), Duration> {
    let last = until.entry(key).or_default();
    let begins = (*last).max(now);
    let allowed = now + EACH * (BURST - 1);
    if begins > allowed {
        return Err(begins - allowed);
    }
    *last = begins + EACH;
    Ok(())
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
        assert_eq!(attempts.note(address(1), "alice", at(0)), Attempt::Refused(EACH));
        assert_eq!(attempts.note(address(1), "bob", at(0)), Attempt::Now);
        assert_eq!(
            attempts.note(address(2), "alice", at(0)),
            Attempt::After(DELAY),
            "slowed, and not refused"
        );
        assert_eq!(attempts.note(address(1), "alice", at(5)), Attempt::Refused(Duration::from_secs(1)));
        assert_eq!(attempts.note(address(1), "alice", at(6)), Attempt::Now);
        assert_eq!(attempts.note(address(1), "alice", at(6)), Attempt::Refused(EACH));
        assert_eq!(attempts.note(address(2), "alice", at(600)), Attempt::Now);
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory_and_keeps_nobody_out() {
        let attempts = Attempts::default();
        for name in 0..300_000 {
            let now = attempts.began + Duration::from_millis(name / 10);
            assert_eq!(attempts.note(address(1), &name.to_string(), now), Attempt::Now);
        }
        assert!(attempts.until.lock().len() <= MOST + 2);
        assert_eq!(
            attempts.note(address(1), "alice", attempts.began + Duration::from_secs(30)),
            Attempt::Now
        );
    }
}
