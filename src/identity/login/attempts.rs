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
pub const RATE: Rate = Rate { count: 10, per: Duration::from_secs(60) };
/// How long somebody waits who tries a name that many try.
const DELAY: Duration = Duration::from_secs(1);
/// Names, and addresses with names, that are looked after at a time; and those before them, which are as many.
const MOST: usize = 50_000;

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
    meters: Mutex<Meters>,
}

/// Those of the last minute, and those of the minute before, of which nobody has tried any since. What is older is even again, and
/// forgotten. More than [`MOST`] make a minute shorter: neither memory nor the time of an attempt grows with them, and to be
/// forgotten costs that many attempts.
#[derive(Default)]
struct Meters {
    current: HashMap<u64, RateMeter>,
    before: HashMap<u64, RateMeter>,
    /// When `current` began.
    began: Duration,
}

impl Meters {
    fn take(&mut self, hash: u64, rate: Rate, now: Duration) -> Result<(), Duration> {
        if self.current.len() >= MOST || now.saturating_sub(self.began) >= RATE.per {
            self.before = std::mem::take(&mut self.current);
            self.began = now;
        }
        let before = &mut self.before;
        let meter = self.current.entry(hash).or_insert_with(|| before.remove(&hash).unwrap_or_default());
        meter.take(rate, now)
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self { began: Instant::now(), key: RandomState::new(), meters: Mutex::default() }
    }
}

impl Attempts {
    /// Two of `count` things, the same each time for this name. Which they are tells nothing to who does not know the key.
    pub fn any_two_of(&self, name: &str, count: usize) -> (usize, usize) {
        let hash = self.key.hash_one(("any", name));
        let of = |part: u32| part as usize % count.max(1);
        (of(hash as u32), of((hash >> 32) as u32))
    }

    /// Somebody at this address does what takes no name, at `now`; or may after a while. It may be done so often; what is looked
    /// after here has one rate, by the minute.
    pub fn note_address(&self, address: AddressBlock, rate: Rate, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        self.meters.lock().take(self.key.hash_one(address), rate, now)
    }

    /// Somebody at this address shows a named token where people log in, at `now`; or may after a while.
    pub fn note_token(&self, address: AddressBlock, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        self.meters.lock().take(self.key.hash_one(("token", address)), RATE, now)
    }

    /// Somebody at this address, who has a place among the comparisons, tries this name at `now`.
    pub fn note(&self, address: AddressBlock, name: &str, now: Instant) -> Attempt {
        let now = now.saturating_duration_since(self.began);
        let (of_both, of_name) = (self.key.hash_one((address, name)), self.key.hash_one(name));
        let mut meters = self.meters.lock();
        if let Err(wait) = meters.take(of_both, RATE, now) {
            return Attempt::Refused(wait);
        }
        match meters.take(of_name, RATE, now) {
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
    fn who_tries_again_within_a_minute_is_remembered_and_others_are_forgotten() {
        let attempts = Attempts::default();
        let at = |seconds| attempts.began + Duration::from_secs(seconds);
        for second in (0..300).step_by(50) {
            for _ in 0..10 {
                attempts.note(address(1), "alice", at(second));
            }
            attempts.note(address(2), &second.to_string(), at(second));
            let Attempt::Refused(_) = attempts.note(address(1), "alice", at(second)) else {
                panic!("at {second}")
            };
        }
        let meters = attempts.meters.lock();
        let left = (meters.current.len(), meters.before.len());
        assert_eq!(left, (6, 4), "alice and two others with their names, and the two before");
    }

    #[test]
    fn any_number_of_names_takes_no_more_than_so_much() {
        let attempts = Attempts::default();
        for name in 0..2 * MOST {
            attempts.note(address(2), &name.to_string(), attempts.began);
            let meters = attempts.meters.lock();
            assert!(meters.current.len() <= MOST && meters.before.len() <= MOST);
        }
        assert_eq!(attempts.meters.lock().before.len(), MOST);
    }
}
