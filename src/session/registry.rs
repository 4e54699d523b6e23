//! All sessions of the gateway, by id.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;

use super::SessionHandle;
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

/// Sessions that run, by server: what one of these costs to count, list or end does not depend on the others. Looked at once
/// per request of a session, never per event.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<HashMap<Arc<str>, SessionsOfServer>>>);

/// Of one server, which has at least one. A session has no handle while it begins, nor has a single call, which nobody comes
/// back to.
type SessionsOfServer = HashMap<SessionId, Option<SessionHandle>>;

/// A place in the registry; dropping it leaves.
pub struct Registered {
    registry: Registry,
    server: Arc<str>,
    id: SessionId,
    share: Share,
}

impl Registry {
    /// A place for a session with `server`, or for a call that costs as much as one. `share` counts it for its owner.
    pub fn add(&self, id: SessionId, server: Arc<str>, share: Share) -> Registered {
        self.0.lock().entry(Arc::clone(&server)).or_default().insert(id, None);
        Registered { registry: self.clone(), server, id, share }
    }

    /// The session of this id with this server.
    pub fn find(&self, id: SessionId, server: &str) -> Option<SessionHandle> {
        self.0.lock().get(server)?.get(&id)?.clone()
    }

    /// Sessions with `server`.
    pub fn count(&self, server: &str) -> usize {
        self.0.lock().get(server).map_or(0, HashMap::len)
    }

    /// Sessions with each server that has any.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.0.lock().iter().map(|(server, sessions)| (server.to_string(), sessions.len())).collect()
    }

    /// Ends the sessions with `server`.
    pub fn close(&self, server: &str) {
        let handles: Vec<_> =
            self.0.lock().get(server).into_iter().flat_map(HashMap::values).flatten().cloned().collect();
        handles.iter().for_each(SessionHandle::close);
    }

    /// All of them.
    pub fn len(&self) -> usize {
        self.0.lock().values().map(HashMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
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
    pub(super) fn lead_to(&self, handle: SessionHandle) {
        if let Some(place) = self.registry.0.lock().get_mut(&self.server).and_then(|of| of.get_mut(&self.id))
        {
            *place = Some(handle);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut entries = self.registry.0.lock();
        let Some(sessions) = entries.get_mut(&self.server) else { return };
        sessions.remove(&self.id);
        if sessions.is_empty() {
            entries.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Resource;

    #[test]
    fn sessions_are_counted_for_their_server_and_leave_nothing_behind() {
        let registry = Registry::default();
        let add = |server: &str| {
            let share = Owner::unlimited().take(Resource::Sessions).unwrap();
            registry.add(SessionId::random().unwrap(), server.into(), share)
        };
        let (first, second, other) = (add("db"), add("db"), add("files"));
        assert_eq!(["db", "files", "none"].map(|server| registry.count(server)), [2, 1, 0]);
        drop(first);
        assert_eq!((registry.count("db"), registry.len()), (1, 2));
        assert_eq!(registry.counts(), [("db".into(), 1), ("files".into(), 1)].into());
        drop((second, other));
        assert!(registry.is_empty());
    }

    #[test]
    fn an_id_reads_as_it_was_written_and_nothing_else_does() {
        let id = SessionId::random().unwrap();
        assert!(SessionId::parse(id.to_string().as_bytes()) == Some(id));
        for other in ["", "0", "+0000000000000000000000000000001", "zz", "é"] {
            assert!(SessionId::parse(other.as_bytes()).is_none(), "{other}");
        }
    }
}
