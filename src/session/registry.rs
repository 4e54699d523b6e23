//! All sessions of the gate, by id.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Handle;
use crate::ledger::{Owner, Share};

/// Id of a session: random, so that it cannot be guessed even by who is allowed to use one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new id. Fails where the system has no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The id that was written so.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 32 || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        u128::from_str_radix(text, 16).ok().map(|id| Self(id.to_be_bytes()))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Sessions that run. Looked at once per request of a session, never per event.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<HashMap<SessionId, Entry>>>);

struct Entry {
    server: Arc<str>,
    /// `None` while it begins, and for a single call, which nobody comes back to.
    handle: Option<Handle>,
}

/// A place in the registry; dropping it leaves.
pub struct Registered {
    registry: Registry,
    id: SessionId,
    share: Share,
}

impl Registry {
    /// A place for a session with `server`, or for a call that costs as much as one. `share` counts it for its owner.
    pub fn add(&self, id: SessionId, server: Arc<str>, share: Share) -> Registered {
        self.entries().insert(id, Entry { server, handle: None });
        Registered { registry: self.clone(), id, share }
    }

    /// The session of this id with this server.
    pub fn find(&self, id: SessionId, server: &str) -> Option<Handle> {
        self.entries().get(&id).filter(|entry| *entry.server == *server)?.handle.clone()
    }

    /// Sessions with `server`.
    pub fn count(&self, server: &str) -> usize {
        self.entries().values().filter(|entry| *entry.server == *server).count()
    }

    /// Sessions with `server`, to end them.
    pub fn of(&self, server: &str) -> Vec<Handle> {
        let entries = self.entries();
        let with_it = entries.values().filter(|entry| *entry.server == *server);
        with_it.filter_map(|entry| entry.handle.clone()).collect()
    }

    /// All of them.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        // Nothing that could panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Id of the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whose it is.
    pub fn owner(&self) -> &Arc<Owner> {
        self.share.owner()
    }

    /// From now on, the session is found.
    pub(super) fn lead_to(&self, handle: Handle) {
        if let Some(entry) = self.registry.entries().get_mut(&self.id) {
            entry.handle = Some(handle);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.entries().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_was_written_and_nothing_else_does() {
        let id = SessionId::random().unwrap();
        assert!(SessionId::parse(id.to_string().as_bytes()) == Some(id));
        for other in ["", "0", "+0000000000000000000000000000001", "zz", "é"] {
            assert!(SessionId::parse(other.as_bytes()).is_none(), "{other}");
        }
    }
}
