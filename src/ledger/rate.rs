//! How often something may happen.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): of each caller, one number is kept, the time at which the next
//! request would come if all had come evenly. A request may come before that time by as much as the burst allows.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// So many in so long; all of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many. Not zero.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// Nanoseconds from one to the next.
    fn interval(self) -> u64 {
        (nanos(self.per) / u64::from(self.count.max(1))).max(1)
    }
}

/// What a rate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateKey {
    /// Requests of one caller with a credential.
    Principal,
    /// Requests of one address.
    Peer,
    /// Requests for one server.
    Server,
    /// Credentials that are not good, of one address.
    AuthFailures,
    /// Attempts to log in, of one address with one name. It is not in the config.
    Logins,
}

impl RateKey {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Principal, Self::Peer, Self::Server, Self::AuthFailures, Self::Logins];

    /// As metrics and the log have it: its key in `proxy.rateLimits`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Peer => "peer",
            Self::Server => "server",
            Self::AuthFailures => "authFailures",
            Self::Logins => "logins",
        }
    }
}

/// What counts for one [`Rate`]. It is a number, so that a change of the rate keeps what was counted.
#[derive(Debug, Default)]
pub struct RateMeter(AtomicU64);

impl RateMeter {
    /// Counts one more, unless that would be too many. Then, how long to wait for the next one. `now` is the time since some
    /// moment that is the same in every call.
    pub fn take(&self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let (now, per, interval) = (nanos(now), nanos(rate.per), rate.interval());
        let latest = now.saturating_add(per);
        let mut next = self.0.load(Relaxed);
        loop {
            // A slower rate may have been there before. Of what it counted, no more than this one can count goes on.
            let counted = next.clamp(now, latest);
            let then = counted.saturating_add(interval);
            let wait = then.saturating_sub(latest);
            if wait > 0 && next == counted {
                return Err(Duration::from_nanos(wait));
            }
            let stored = if wait > 0 { counted } else { then };
            match self.0.compare_exchange_weak(next, stored, Relaxed, Relaxed) {
                Ok(_) if wait > 0 => return Err(Duration::from_nanos(wait)),
                Ok(_) => return Ok(()),
                Err(other) => next = other,
            }
        }
    }

    /// How long to wait for the next one, if one more would be too many now. Counts nothing.
    pub fn wait(&self, rate: Rate, now: Duration) -> Option<Duration> {
        let (now, per) = (nanos(now), nanos(rate.per));
        let latest = now.saturating_add(per);
        let counted = self.0.load(Relaxed).clamp(now, latest);
        let wait = counted.saturating_add(rate.interval()).saturating_sub(latest);
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    /// Whether it makes no difference any more what was counted.
    pub fn is_over(&self, now: Duration) -> bool {
        self.0.load(Relaxed) <= nanos(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PER_MINUTE: Rate = Rate { count: 3, per: Duration::from_secs(60) };

    #[test]
    fn all_may_come_at_once_and_then_one_at_a_time() {
        let (meter, at) = (RateMeter::default(), Duration::from_secs);
        for _ in 0..3 {
            assert_eq!(meter.take(PER_MINUTE, at(100)), Ok(()));
        }
        assert_eq!(meter.wait(PER_MINUTE, at(100)), Some(at(20)));
        assert_eq!(meter.take(PER_MINUTE, at(100)), Err(at(20)));
        assert_eq!(meter.take(PER_MINUTE, at(119)), Err(at(1)), "what was refused did not count");
        assert_eq!(meter.wait(PER_MINUTE, at(120)), None);
        assert_eq!(meter.take(PER_MINUTE, at(120)), Ok(()));
        assert_eq!(meter.take(PER_MINUTE, at(120)), Err(at(20)));
        assert!(!meter.is_over(at(179)) && meter.is_over(at(180)));
        for _ in 0..3 {
            assert_eq!(meter.take(PER_MINUTE, at(1_000)), Ok(()), "what is not used is not saved up");
        }
        assert!(meter.take(PER_MINUTE, at(1_000)).is_err());
    }

    #[test]
    fn another_rate_goes_on_with_what_was_counted() {
        let (meter, at) = (RateMeter::default(), Duration::from_secs);
        let hourly = Rate { count: 1, per: Duration::from_secs(3_600) };
        assert_eq!(meter.take(hourly, at(0)), Ok(()));
        assert_eq!(meter.take(hourly, at(1)), Err(at(3_599)));
        assert_eq!(meter.take(PER_MINUTE, at(1)), Err(at(20)), "no longer than the new rate has it");
        assert_eq!(meter.take(PER_MINUTE, at(21)), Ok(()));
        assert_eq!(meter.take(hourly, at(22)), Err(at(59)), "nor is more of it left for the one before");
    }

    proptest! {
        #[test]
        fn in_no_window_are_there_more_than_a_burst_and_its_even_rest(count in 1_u32..20, steps in prop::collection::vec(0_u64..400, 1..200)) {
            let rate = Rate { count, per: Duration::from_millis(1_000) };
            let (meter, mut now, mut taken) = (RateMeter::default(), 0, Vec::new());
            for step in steps {
                now += step;
                if meter.take(rate, Duration::from_millis(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (at, first) in taken.iter().enumerate() {
                for (more, last) in taken[at..].iter().enumerate() {
                    let most = u64::from(count) + (last - first) * u64::from(count) / 1_000;
                    prop_assert!(more as u64 <= most, "{} in {} ms", more + 1, last - first);
                }
            }
        }
    }
}
