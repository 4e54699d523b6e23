//! How fast a body has to come.

use std::time::{Duration, Instant};

use crate::config::Limits;

/// Bodies of so many bytes are small: they have a time in all, and are read whole before a server gets the request.
pub const SMALL: u64 = 64 * 1024;
/// Time over which the rate of a body is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// How fast one body has to come. What is asked of it depends on how much it is to be.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Longest silence.
    silence: Duration,
    /// Longest time for all of it.
    total: Option<Duration>,
    /// Least bytes in each time of this length.
    least: Option<(u64, Duration)>,
}

/// It is slower than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

impl Pace {
    /// Any, as long as it is never silent for longer than this.
    pub fn never_silent_for(silence: Duration) -> Self {
        Self { silence, total: None, least: None }
    }

    /// That of a client's request body, of `length` bytes if a length was declared.
    pub fn of_request(limits: &Limits, length: Option<u64>) -> Self {
        let silence = limits.body_timeout;
        if length.is_some_and(|length| length <= SMALL) {
            return Self { silence, total: Some(limits.small_body_timeout), least: None };
        }
        let window = WINDOW.min(silence);
        // Rounded up, so that a rate is asked for however short the time is.
        let least = u128::from(limits.min_body_rate) * window.as_millis();
        let least = u64::try_from(least.div_ceil(1000)).unwrap_or(u64::MAX);
        Self { silence, total: None, least: (least > 0).then_some((least, window)) }
    }

    /// A body that begins at `now`.
    pub fn begin(self, now: Instant) -> Progress {
        Progress { pace: self, began: now, window: now, before: 0, last: now, received: 0 }
    }
}

/// How far a body has come.
#[derive(Debug)]
pub struct Progress {
    pace: Pace,
    began: Instant,
    /// When the time began over which its rate is taken, and what had come before.
    window: Instant,
    before: u64,
    /// When something came last.
    last: Instant,
    received: u64,
}

impl Progress {
    /// Its sender is waited for again, after others had been.
    pub fn resume(&mut self, now: Instant) {
        (self.window, self.before, self.last) = (now, self.received, now);
    }

    /// So many bytes have come. Says how long it is until it has to be asked again, whatever comes.
    pub fn look(&mut self, now: Instant, received: u64) -> Result<Duration, Late> {
        if received > self.received {
            (self.last, self.received) = (now, received);
        }
        let mut end = self.last + self.pace.silence;
        if let Some(total) = self.pace.total {
            end = end.min(self.began + total);
        }
        if let Some((least, window)) = self.pace.least {
            if now >= self.window + window {
                if self.received - self.before < least {
                    return Err(Late);
                }
                (self.window, self.before) = (now, self.received);
            }
            end = end.min(self.window + window);
        }
        let left = end.saturating_duration_since(now);
        if left.is_zero() { Err(Late) } else { Ok(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"mcpServers": {}}"#).unwrap();
        crate::config::load(file.path(), &|_| None).snapshot.unwrap().limits
    }

    /// When a body is late that brings `bytes` each second, if it is within two minutes.
    fn late_after(pace: Pace, bytes: u64) -> Option<u64> {
        let now = Instant::now();
        let mut progress = pace.begin(now);
        (1..120).find(|second| {
            progress.look(now + SECOND * u32::try_from(*second).unwrap(), bytes * second).is_err()
        })
    }

    #[test]
    fn a_small_body_has_a_time_in_all_and_a_large_one_a_rate() {
        let of = |length| Pace::of_request(&limits(), length);
        for (length, bytes, late) in [
            (Some(SMALL), 1, Some(30)),
            (Some(SMALL), 10_000, Some(30)),
            (Some(SMALL + 1), 1_023, Some(10)),
            (Some(SMALL + 1), 1_024, None),
            (None, 1_023, Some(10)),
            (None, 1_024, None),
            (None, 0, Some(10)),
        ] {
            assert_eq!(late_after(of(length), bytes), late, "{length:?}, {bytes} bytes a second");
        }
        assert_eq!(late_after(Pace::never_silent_for(SECOND * 5), 1), None);
        assert_eq!(late_after(Pace::never_silent_for(SECOND * 5), 0), Some(5));
    }

    #[test]
    fn a_rate_of_zero_is_any_and_a_short_silence_is_a_short_time_for_the_rate() {
        let any = Limits { min_body_rate: 0, ..limits() };
        assert_eq!(late_after(Pace::of_request(&any, None), 1), None);
        assert_eq!(late_after(Pace::of_request(&any, None), 0), Some(30));
        let short = Limits { body_timeout: SECOND * 3, ..limits() };
        assert_eq!(late_after(Pace::of_request(&short, None), 1_023), Some(3));
        assert_eq!(late_after(Pace::of_request(&short, None), 1_024), None);
    }

    #[test]
    fn a_time_in_which_others_were_waited_for_is_not_the_sender_s() {
        let now = Instant::now();
        let mut progress = Pace::of_request(&limits(), None).begin(now);
        assert!(progress.look(now + SECOND, 5_000).is_ok());
        progress.resume(now + SECOND * 100);
        assert_eq!(progress.look(now + SECOND * 101, 5_000), Ok(SECOND * 9));
        assert_eq!(progress.look(now + SECOND * 110, 5_000 + 10_239), Err(Late));
        progress.resume(now + SECOND * 200);
        assert!(progress.look(now + SECOND * 210, 30_000).is_ok());
    }
}
