//! What others have written of credentials for servers, so that what a process has of them in memory goes.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::upstream_row::UpstreamOwner;

/// Changes that are remembered at most.
pub(super) const MOST_CHANGES: usize = 4_096;

/// What another process has done to a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamChange {
    /// Whose it is.
    pub owner: UpstreamOwner,
    /// Name of the server.
    pub server: Arc<str>,
    /// Its version from now on; `None`: it was removed.
    pub version: Option<u64>,
}

/// The last changes by other processes.
#[derive(Default)]
pub(super) struct UpstreamChanges {
    /// How many there were.
    number: watch::Sender<u64>,
    recent: Mutex<VecDeque<UpstreamChange>>,
}

impl UpstreamChanges {
    /// These were made, in this order.
    pub(super) fn note(&self, changes: Vec<UpstreamChange>) {
        if changes.is_empty() {
            return;
        }
        let mut recent = self.recent.lock();
        let added = changes.len() as u64;
        recent.extend(changes);
        let beyond = recent.len().saturating_sub(MOST_CHANGES);
        recent.drain(..beyond);
        self.number.send_modify(|number| *number += added);
    }

    /// More than that was changed, and nobody knows what.
    pub(super) fn note_all(&self) {
        let mut recent = self.recent.lock();
        recent.clear();
        self.number.send_modify(|number| *number += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// How many there were, and those after the first `seen`; `None` if that is not known, so that any may have changed.
    pub(super) fn since(&self, seen: u64) -> (u64, Option<Vec<UpstreamChange>>) {
        let recent = self.recent.lock();
        let number = *self.number.borrow();
        let behind = usize::try_from(number.saturating_sub(seen)).unwrap_or(usize::MAX);
        let known = recent.len().checked_sub(behind);
        (number, known.map(|known| recent.range(known..).cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_told_or_that_it_is_not_known() {
        let changes = UpstreamChanges::default();
        let change =
            |version| UpstreamChange { owner: UpstreamOwner::Everyone, server: "db".into(), version };
        let mut told = changes.subscribe();
        assert!(!told.has_changed().unwrap());
        changes.note(Vec::new());
        assert!(!told.has_changed().unwrap(), "nothing has happened");
        changes.note(vec![change(Some(1)), change(None)]);
        assert!(told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), 2);
        assert_eq!(changes.since(0), (2, Some(vec![change(Some(1)), change(None)])));
        assert_eq!(changes.since(1), (2, Some(vec![change(None)])));
        assert_eq!(changes.since(2), (2, Some(Vec::new())));

        changes.note((0..MOST_CHANGES as u64).map(|version| change(Some(version))).collect());
        let (number, missed) = changes.since(1);
        assert_eq!((number, missed), (2 + MOST_CHANGES as u64, None));
        assert_eq!(changes.since(2).1.unwrap().len(), MOST_CHANGES);
        changes.note_all();
        assert_eq!(changes.since(number), (number + 1, None));
        assert_eq!(changes.since(number + 1), (number + 1, Some(Vec::new())));
    }
}
