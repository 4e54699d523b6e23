//! Callers that may have ended a process that they shared with others.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{ledger::OwnerName, link::shared::Involvement};

/// How long a caller is kept apart, and for how long it is remembered that it was there when a process ended.
const APART: Duration = Duration::from_secs(10 * 60);
/// Suspicion on which a caller is kept apart.
const ENOUGH: u32 = 4;
/// Callers that are remembered. Beyond, the one that was not there for longest is forgotten.
const MOST: usize = 4096;

/// Callers that may have ended a process that they shared with others. They get one of their own for a while, so that
/// one who ends processes ends its own, and the others have theirs.
///
/// Whose request the process was at is kept apart at once. Whom it had answered shortly before is kept apart when that is
/// so for the second time where nobody was nearer to it, and else for the fourth.
#[derive(Debug, Clone, Default)]
pub struct Quarantine(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there may be any: most servers never break, and every request asks.
    any: AtomicBool,
    known: Mutex<HashMap<OwnerName, SuspectRecord>>,
}

#[derive(Debug)]
struct SuspectRecord {
    suspicion: u32,
    /// Ends of processes for which it alone is enough.
    times: u32,
    last: Instant,
}

impl SuspectRecord {
    fn is_apart(&self) -> bool {
        self.suspicion >= ENOUGH && self.last.elapsed() < APART
    }
}

impl Quarantine {
    /// Notes who had to do with a process that has ended; gives those that are kept apart from now on.
    pub fn note(&self, suspects: &[(OwnerName, Involvement)]) -> Vec<OwnerName> {
        let mut known = self.0.known.lock();
        known.retain(|_, known| known.last.elapsed() < APART);
        let is_anyone_at_work = suspects.iter().any(|(_, how)| *how == Involvement::InFlight);
        let mut quarantine = Vec::new();
        // Who shares nothing breaks nothing of others.
        for (name, how) in suspects.iter().filter(|(name, _)| *name != OwnerName::Gateway) {
            if known.len() >= MOST && !known.contains_key(name) {
                let oldest = known.iter().min_by_key(|(_, known)| known.last).map(|(name, _)| name.clone());
                if let Some(oldest) = oldest {
                    known.remove(&oldest);
                }
            }
            let new = || SuspectRecord { suspicion: 0, times: 0, last: Instant::now() };
            let known = known.entry(name.clone()).or_insert_with(new);
            known.suspicion = known.suspicion.saturating_add(match how {
                Involvement::InFlight => ENOUGH,
                Involvement::Recent if is_anyone_at_work => ENOUGH / 4,
                Involvement::Recent => ENOUGH / 2,
            });
            known.last = Instant::now();
            if known.is_apart() {
                known.times = known.times.saturating_add(1);
                quarantine.push(name.clone());
            }
        }
        self.0.any.store(!known.is_empty(), Relaxed);
        quarantine
    }

    /// Whether `name` is kept apart.
    pub fn has(&self, name: &OwnerName) -> bool {
        self.0.any.load(Relaxed) && self.0.known.lock().get(name).is_some_and(SuspectRecord::is_apart)
    }

    /// Whether `name` is kept apart for the end of more than one process.
    pub fn has_again(&self, name: &OwnerName) -> bool {
        self.0.known.lock().get(name).is_some_and(|known| known.is_apart() && known.times > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> OwnerName {
        OwnerName::Token(name.into())
    }

    #[test]
    fn whose_request_it_was_is_apart_at_once_and_who_was_near_when_that_comes_again() {
        use Involvement::{InFlight, Recent};
        let quarantine = Quarantine::default();
        let (dev, ops, ci) = (name("dev"), name("ops"), name("ci"));
        let first = quarantine.note(&[
            (dev.clone(), InFlight),
            (ops.clone(), Recent),
            (OwnerName::Gateway, InFlight),
        ]);
        assert!(first.iter().eq([&dev]));
        assert!(quarantine.has(&dev) && !quarantine.has(&ops) && !quarantine.has(&OwnerName::Gateway));
        assert!(!quarantine.has_again(&dev));
        quarantine.note(&[(dev.clone(), InFlight), (ops.clone(), Recent)]);
        assert!(quarantine.has_again(&dev) && !quarantine.has(&ops));
        // Nobody else is nearer: it is one of these.
        assert_eq!(quarantine.note(&[(ops.clone(), Recent), (ci.clone(), Recent)]), [ops]);
        assert_eq!(quarantine.note(&[(ci.clone(), Recent)]), [ci]);
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let quarantine = Quarantine::default();
        for number in 0..=MOST {
            quarantine.note(&[(name(&number.to_string()), Involvement::InFlight)]);
        }
        assert_eq!(quarantine.0.known.lock().len(), MOST);
        assert!(!quarantine.has(&name("0")) && quarantine.has(&name("1")));
    }
}
