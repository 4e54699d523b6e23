//! Passwords that come with each request, by `Basic`, and that were compared a while ago.
//!
//! A hash costs as much as a thousand calls, so a password that was right stays right for some minutes. It is known by a MAC of
//! the user, the password and the hash: another hash in the config is another MAC, and nothing of a password is kept. What was
//! wrong is not kept, so that guesses fill no table. Requests that bring the same at once wait for one comparison.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::keys::NoKey;
use crate::secret::Secret;

/// How long a password that was right is not compared again.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Passwords that are kept at most. A user has one at a time.
const MOST: usize = 4_096;

/// A user, a password and a hash, as a MAC.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trial([u8; 32]);

/// What was compared lately, and what is being compared.
pub struct Verdicts {
    key: hmac::Key,
    /// What was right, and when it has to be compared again.
    right: RwLock<HashMap<Trial, Instant>>,
    /// What is being compared, and what comes of it.
    running: Mutex<HashMap<Trial, watch::Receiver<Option<bool>>>>,
}

/// What somebody has to do who wants to know.
pub enum Turn<'a> {
    /// Nothing: the password is right.
    Right,
    /// To compare it.
    Compare(Comparison<'a>),
    /// To wait until somebody else has compared it; then to ask again, if that one has left before.
    Wait(watch::Receiver<Option<bool>>),
}

/// A comparison for which others may wait, until it is dropped.
pub struct Comparison<'a> {
    of: &'a Verdicts,
    trial: Trial,
    verdict: watch::Sender<Option<bool>>,
}

impl Verdicts {
    /// Fails if the system has no randomness to give.
    pub fn new() -> Result<Self, NoKey> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|_| NoKey)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        Ok(Self { key, right: RwLock::default(), running: Mutex::default() })
    }

    /// The one of this user, password and hash.
    pub fn trial(&self, user: &[u8], password: &[u8], hash: &Secret) -> Trial {
        let mut mac = hmac::Context::with_key(&self.key);
        // Each with its length, so that no two of them run together.
        for part in [user, password, hash.expose().as_bytes()] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let mut trial = Trial([0; 32]);
        trial.0.copy_from_slice(mac.sign().as_ref());
        trial
    }

    /// Whether it was right, not too long before `now`.
    pub fn has(&self, trial: &Trial, now: Instant) -> bool {
        self.right.read().get(trial).is_some_and(|end| now < *end)
    }

    /// Whose turn it is to compare.
    pub fn turn(&self, trial: Trial, now: Instant) -> Turn<'_> {
        let mut running = self.running.lock();
        // It may have been compared a moment ago.
        if self.has(&trial, now) {
            return Turn::Right;
        }
        match running.entry(trial) {
            Entry::Occupied(other) => Turn::Wait(other.get().clone()),
            Entry::Vacant(free) => {
                let (verdict, waits) = watch::channel(None);
                free.insert(waits);
                Turn::Compare(Comparison { of: self, trial, verdict })
            }
        }
    }

    fn keep(&self, trial: Trial, now: Instant) {
        let mut right = self.right.write();
        if right.len() >= MOST {
            right.retain(|_, end| now < *end);
        }
        if right.len() >= MOST
            && let Some(oldest) = right.iter().min_by_key(|(_, end)| **end).map(|(trial, _)| *trial)
        {
            right.remove(&oldest);
        }
        right.insert(trial, now + KEPT);
    }
}

impl Comparison<'_> {
    /// Says what came of it.
    pub fn end(self, is_right: bool, now: Instant) {
        if is_right {
            self.of.keep(self.trial, now);
        }
        // Nobody may wait.
        let _ = self.verdict.send(Some(is_right));
    }
}

impl Drop for Comparison<'_> {
    fn drop(&mut self) {
        self.of.running.lock().remove(&self.trial);
    }
}

/// What came of the comparison that somebody else made; `None` if that one left before.
pub async fn awaited(mut verdict: watch::Receiver<Option<bool>>) -> Option<bool> {
    verdict.wait_for(Option::is_some).await.ok().and_then(|verdict| *verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn compare(verdicts: &Verdicts, trial: Trial, now: Instant) -> Comparison<'_> {
        let Turn::Compare(comparison) = verdicts.turn(trial, now) else { panic!("nobody compares it") };
        comparison
    }

    #[test]
    fn what_was_right_is_known_for_a_while_and_what_was_wrong_never() {
        let (verdicts, now) = (Verdicts::new().unwrap(), Instant::now());
        let trial = verdicts.trial(b"alice", b"secret", &hash("h"));
        compare(&verdicts, trial, now).end(false, now);
        assert!(!verdicts.has(&trial, now));
        drop(compare(&verdicts, trial, now));
        assert!(!verdicts.has(&trial, now));
        compare(&verdicts, trial, now).end(true, now);
        assert!(verdicts.has(&trial, now + KEPT - Duration::from_nanos(1)));
        assert!(!verdicts.has(&trial, now + KEPT));
        assert!(matches!(verdicts.turn(trial, now), Turn::Right));
        assert!(matches!(verdicts.turn(trial, now + KEPT), Turn::Compare(_)));
    }

    #[test]
    fn another_user_password_or_hash_is_another_trial() {
        let verdicts = Verdicts::new().unwrap();
        let trial = verdicts.trial(b"ab", b"cd", &hash("ef"));
        assert!(trial == verdicts.trial(b"ab", b"cd", &hash("ef")));
        for (user, password, of) in [
            ("a", "bcd", "ef"),
            ("abc", "d", "ef"),
            ("ab", "cde", "f"),
            ("ab", "cd", "eg"),
            ("ab", "ce", "ef"),
        ] {
            assert!(trial != verdicts.trial(user.as_bytes(), password.as_bytes(), &hash(of)), "{user}");
        }
        assert!(
            trial != Verdicts::new().unwrap().trial(b"ab", b"cd", &hash("ef")),
            "each process has its key"
        );
    }

    #[tokio::test]
    async fn one_compares_what_several_want_to_know() {
        let (verdicts, now) = (Verdicts::new().unwrap(), Instant::now());
        let trial = verdicts.trial(b"alice", b"secret", &hash("h"));
        let waits = |verdicts: &Verdicts| {
            let Turn::Wait(waits) = verdicts.turn(trial, now) else { panic!("somebody compares it") };
            waits
        };
        for verdict in [true, false] {
            let other = verdicts.trial(b"bob", &[u8::from(verdict)], &hash("h"));
            let comparison = compare(&verdicts, other, now);
            let Turn::Wait(waiting) = verdicts.turn(other, now) else { panic!("somebody compares it") };
            comparison.end(verdict, now);
            assert_eq!(awaited(waiting).await, Some(verdict));
        }
        let comparison = compare(&verdicts, trial, now);
        let waiting = waits(&verdicts);
        drop(comparison);
        assert_eq!(awaited(waiting).await, None, "whoever compared it has left");
        drop(compare(&verdicts, trial, now));
    }

    #[test]
    fn no_more_are_kept_than_may_be_and_the_oldest_go_first() {
        let (verdicts, now) = (Verdicts::new().unwrap(), Instant::now());
        let trial = |number: usize| verdicts.trial(&number.to_le_bytes(), b"x", &hash("h"));
        for number in 0..=MOST {
            verdicts.keep(trial(number), now + Duration::from_millis(number as u64));
        }
        let later = now + Duration::from_millis(MOST as u64);
        assert_eq!(verdicts.right.read().len(), MOST);
        assert!(!verdicts.has(&trial(0), later) && verdicts.has(&trial(1), later));
        let end = later + KEPT;
        verdicts.keep(trial(0), end);
        assert_eq!(verdicts.right.read().len(), 1, "what has ended makes room");
    }
}
