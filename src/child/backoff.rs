//! When a command that fails may be started again.
//!
//! Each owner has a pause of its own: the failures of one owner delay no start of another. The pause of a process that
//! callers share does not grow: it would be for those who did not end it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::ledger::OwnerName;

/// How long the gateway waits for a command, and with starting it again.
#[derive(Debug, Clone)]
pub struct ProcessTimeouts {
    /// From the end of its standard input to SIGTERM. 5 s.
    pub after_stdin: Duration,
    /// From SIGTERM to SIGKILL. 5 s.
    pub after_sigterm: Duration,
    /// Before the start that follows one failure; doubles with each further one. 0.1 s.
    pub first_pause: Duration,
    /// The longest that it becomes. 30 s.
    pub longest_pause: Duration,
    /// How long a process has to live for the failures before it to be forgotten. 10 s.
    pub lived_well: Duration,
}

impl Default for ProcessTimeouts {
    fn default() -> Self {
        Self {
            after_stdin: Duration::from_secs(5),
            after_sigterm: Duration::from_secs(5),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            lived_well: Duration::from_secs(10),
        }
    }
}

/// The pauses of all owners whose processes failed lately.
#[derive(Default)]
pub(super) struct Backoffs(HashMap<OwnerName, Backoff>);

impl Backoffs {
    /// A process of `owner` that was started at `born` has ended, by itself if `failed`.
    pub(super) fn ended(
        &mut self,
        owner: &OwnerName,
        born: Instant,
        now: Instant,
        failed: bool,
        patience: &ProcessTimeouts,
    ) {
        if failed {
            // What is over is forgotten, so there are no more than owners whose processes fail.
            self.0.retain(|_, backoff| !backoff.is_over(now, patience));
            let backoff = self.0.entry(owner.clone()).or_default();
            backoff.ended(born, now, true, patience);
            // The caller that may have ended a shared process waits elsewhere; the others do not wait for it.
            if *owner == OwnerName::Gateway {
                backoff.failures = 1;
            }
        } else if let Some(backoff) = self.0.get_mut(owner) {
            backoff.ended(born, now, false, patience);
        }
    }

    /// How long the next start for `owner` has to wait.
    pub(super) fn wait(
        &self,
        owner: &OwnerName,
        now: Instant,
        patience: &ProcessTimeouts,
    ) -> Option<Duration> {
        self.0.get(owner)?.wait(now, patience)
    }

    /// Whether any of them counts.
    pub(super) fn is_any_left(&self, now: Instant, patience: &ProcessTimeouts) -> bool {
        self.0.values().any(|backoff| !backoff.is_over(now, patience))
    }

    /// No owner has to wait any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The pause after processes that ended by themselves: it doubles from one to the next.
#[derive(Default)]
struct Backoff {
    /// Failures in a row.
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// A process that was started at `born` has ended, by itself if `failed`.
    fn ended(&mut self, born: Instant, now: Instant, failed: bool, patience: &ProcessTimeouts) {
        // Sessions of one server tend to fall together; they are one failure, not as many as there were sessions.
        if self.last.is_some_and(|last| born < last) {
            return;
        }
        if now.duration_since(born) >= patience.lived_well {
            *self = Self::default();
        }
        if failed {
            self.failures = self.failures.saturating_add(1);
            self.last = Some(now);
        }
    }

    /// Whether its pause is over for so long that the next failure is a first one again.
    fn is_over(&self, now: Instant, patience: &ProcessTimeouts) -> bool {
        let over = patience.longest_pause + patience.lived_well;
        self.last.is_none_or(|last| now.duration_since(last) > over)
    }

    /// How long the next start has to wait.
    fn wait(&self, now: Instant, patience: &ProcessTimeouts) -> Option<Duration> {
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = patience.first_pause.saturating_mul(doubled).min(patience.longest_pause);
        let left = (self.last? + pause).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_its_longest_and_a_good_life_ends_it() {
        let patience = ProcessTimeouts::default();
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        assert_eq!(backoff.wait(now, &patience), None);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            backoff.ended(now, now, true, &patience);
            let pause = backoff.wait(now, &patience).unwrap();
            pauses.push(pause.as_millis());
            now += pause;
            assert_eq!(backoff.wait(now, &patience), None);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);

        let born = now;
        now += patience.lived_well;
        backoff.ended(born, now, true, &patience);
        assert_eq!(backoff.wait(now, &patience), Some(patience.first_pause));
    }

    #[test]
    fn the_pause_of_one_owner_is_no_other_owners() {
        let patience = ProcessTimeouts::default();
        let (dev, ops) = (OwnerName::Token("dev".into()), OwnerName::Token("ops".into()));
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        backoffs.ended(&dev, now, now, true, &patience);
        assert_eq!(backoffs.wait(&dev, now, &patience), Some(patience.first_pause));
        assert_eq!(backoffs.wait(&ops, now, &patience), None);
        let later = now + Duration::from_secs(60);
        backoffs.ended(&ops, later, later, true, &patience);
        assert_eq!(backoffs.0.len(), 1, "what is long over is forgotten");
        for _ in 0..3 {
            backoffs.ended(&OwnerName::Gateway, later, later, true, &patience);
            backoffs.ended(&ops, later, later, true, &patience);
        }
        assert_eq!(backoffs.wait(&OwnerName::Gateway, later, &patience), Some(patience.first_pause));
        backoffs.clear();
        assert_eq!(backoffs.wait(&ops, later, &patience), None);
    }

    #[test]
    fn processes_that_fall_together_are_one_failure_and_an_end_that_was_asked_for_is_none() {
        let patience = ProcessTimeouts::default();
        let mut backoff = Backoff::default();
        let born = Instant::now();
        let now = born + Duration::from_secs(1);
        backoff.ended(born, now, false, &patience);
        assert_eq!(backoff.wait(now, &patience), None);
        for _ in 0..100 {
            backoff.ended(born, now, true, &patience);
        }
        assert_eq!(backoff.wait(now, &patience), Some(patience.first_pause));
    }
}
