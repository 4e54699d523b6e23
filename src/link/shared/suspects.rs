//! Who may have ended a server that many callers share.
//!
//! A server that ends by itself does not say which caller caused it. So each owner is suspected that had to do with it in its
//! last seconds: most of all the owners of requests in flight and of cancelled ones (a caller that hangs up is not
//! cleared by that); less, those that it had just answered. A subscription counts for nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ledger::{Owner, OwnerName};

/// What happened longer ago did not end the server.
const LATELY: Duration = Duration::from_secs(10);
/// Owners that are remembered. Beyond, the one that was not seen for longest is forgotten.
const MOST: usize = 1024;

/// What an owner had to do with a server that ended, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Involvement {
    /// Lately it got an answer, or its subscription was taken.
    Recent,
    /// The server was at a request of its, or got a cancellation for one recently.
    InFlight,
}

/// Who had to do with the server, and when last.
#[derive(Default)]
pub(super) struct Suspects(HashMap<*const Owner, Suspect>);

struct Suspect {
    owner: Arc<Owner>,
    lately: Option<Instant>,
    at_work: Option<Instant>,
}

impl Suspect {
    fn last(&self) -> Option<Instant> {
        self.lately.max(self.at_work)
    }
}

impl Suspects {
    pub(super) fn note(&mut self, owner: &Arc<Owner>, how: Involvement) {
        let (key, now) = (Arc::as_ptr(owner), Instant::now());
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.retain(|_, suspect| is_lately(suspect.last(), now));
            let oldest = self.0.iter().min_by_key(|(_, suspect)| suspect.last()).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= MOST) {
                self.0.remove(&oldest);
            }
        }
        let new = || Suspect { owner: Arc::clone(owner), lately: None, at_work: None };
        let suspect = self.0.entry(key).or_insert_with(new);
        match how {
            Involvement::Recent => suspect.lately = Some(now),
            Involvement::InFlight => suspect.at_work = Some(now),
        }
    }

    /// Takes out all suspects, with what each had to do with the server.
    pub(super) fn take(&mut self) -> Vec<(OwnerName, Involvement)> {
        let now = Instant::now();
        let how = |suspect: &Suspect| {
            let at_work = is_lately(suspect.at_work, now).then_some(Involvement::InFlight);
            at_work.or_else(|| is_lately(suspect.lately, now).then_some(Involvement::Recent))
        };
        let suspects = std::mem::take(&mut self.0).into_values();
        suspects.filter_map(|suspect| Some((suspect.owner.name().clone(), how(&suspect)?))).collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn is_lately(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| now.saturating_duration_since(moment) < LATELY)
}
