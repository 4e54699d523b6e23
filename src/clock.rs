//! The time of day, as far as the end of a credential goes by it: it never goes back.
//!
//! What has expired must not come to life because somebody sets the clock of the machine back, or a virtual machine is put
//! back to an earlier state.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The latest time of day that was seen, and where the next one comes from.
pub struct Clock {
    source: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// In milliseconds, rounded up: whatever has expired at a moment that was seen has expired at this one.
    latest: AtomicU64,
}

impl Default for Clock {
    /// That of the system.
    fn default() -> Self {
        Self::by(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// One that goes by `source`.
    pub fn by(source: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { source: Box::new(source), latest: AtomicU64::new(0) }
    }

    /// The time of day, or the latest that was seen, if that is later.
    pub fn now(&self) -> SystemTime {
        let (now, seen) = self.look();
        let latest = self.latest.load(Ordering::Relaxed);
        if seen > latest {
            // Once a millisecond at most, over all threads.
            self.latest.fetch_max(seen, Ordering::Relaxed);
        }
        if seen < latest { UNIX_EPOCH + Duration::from_millis(latest) } else { now }
    }

    /// How far the time of day is behind the latest that was seen.
    pub fn behind(&self) -> Duration {
        let (_, seen) = self.look();
        Duration::from_millis(self.latest.load(Ordering::Relaxed).saturating_sub(seen))
    }

    fn look(&self) -> (SystemTime, u64) {
        let now = (self.source)();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        (now, u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_goes_on_and_never_back() {
        let nanos = Arc::new(AtomicU64::new(0));
        let of_clock = Arc::clone(&nanos);
        let clock = Clock::by(move || UNIX_EPOCH + Duration::from_nanos(of_clock.load(Ordering::Relaxed)));
        let set = |to: Duration| nanos.store(u64::try_from(to.as_nanos()).unwrap(), Ordering::Relaxed);
        let at = |since: Duration| UNIX_EPOCH + since;

        let first = Duration::from_nanos(1_000_000_000_300_001);
        set(first);
        assert_eq!((clock.now(), clock.behind()), (at(first), Duration::ZERO));
        let hour = Duration::from_secs(3_600);
        set(first - hour);
        assert!(clock.now() >= at(first), "what has expired is valid again");
        assert!(clock.now() < at(first + Duration::from_millis(1)));
        assert_eq!(clock.behind(), hour);
        set(first + hour);
        assert_eq!((clock.now(), clock.behind()), (at(first + hour), Duration::ZERO));
    }

    #[test]
    fn a_clock_before_1970_is_no_panic() {
        let clock = Clock::by(|| UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!((clock.now(), clock.behind()), (UNIX_EPOCH - Duration::from_secs(1), Duration::ZERO));
    }
}
