//! By what tokens come that are of no grant: a client for itself, an issuer by the word of which a client acts. What one of them brought
//! before a config did not have it does not come back with it, also not after a restart: so it is kept which of them there were, and
//! when one was seen last to be gone.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

/// How long it is known that one is gone: no token is good for longer.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What tokens say of moments is as exact as this. One that comes of a source which was gone says that it was made so much later, if it
/// is not later yet; and a source that is gone again by then is gone so much later.
pub const A_SECOND: Duration = Duration::from_secs(1);

/// What a source is known by: a SHA-256 over what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(super) [u8; 32]);

impl SourceId {
    /// That of one of which these are the parts.
    pub fn of(parts: [&[u8]; 4]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // So that no two of them read as another two.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// What a config says of them.
#[derive(Debug)]
pub struct Sources {
    /// Those that it has.
    pub has: Vec<SourceId>,
    /// Those that this process has seen to be gone, and when it did last.
    pub gone: HashMap<SourceId, SystemTime>,
    /// When the config was put into force.
    pub now: SystemTime,
}

/// Which are gone, as the file has it, for requests to look at.
#[derive(Default)]
pub(super) struct GoneInFile {
    at: ArcSwap<HashMap<SourceId, SystemTime>>,
    changes: AtomicU64,
}

impl GoneInFile {
    pub(super) fn get(&self, id: &SourceId) -> Option<SystemTime> {
        self.at.load().get(id).copied()
    }

    /// How often one was gone of which that was not known.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// These are gone. Whether one of them was not known to be, or not since then.
    pub(super) fn put(&self, gone: Vec<(SourceId, SystemTime)>) -> bool {
        let before = self.at.load();
        let is_new = |(id, at): &(SourceId, SystemTime)| before.get(id).is_none_or(|known| known < at);
        let new: Vec<_> = gone.into_iter().filter(is_new).collect();
        let Some(last) = new.iter().map(|(_, at)| *at).max() else { return false };
        let mut all = HashMap::clone(&before);
        all.retain(|_, at| last < *at + KEPT);
        all.extend(new);
        self.at.store(all.into());
        self.changes.fetch_add(1, Ordering::Release);
        true
    }
}
