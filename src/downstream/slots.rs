//! Which client connections there may be, and which goes when there are too many.
//!
//! A connection costs a descriptor before anybody knows whose it is. So those that have not had an admitted request are
//! counted for their address, and are the first to go: beyond the limit, a newcomer takes the place of one of the address
//! that has most of them. One that is idle, or that stalls in its handshake, therefore keeps nobody out; an address that
//! opens them without end drives out its own; and a health check is answered even when every place is taken.
//!
//! Of one address, so many TLS handshakes have a turn at once, from a whole ClientHello on: what has sent less holds none.
//! Others wait. Whoever has a turn goes for nobody. If each newcomer took the place of the oldest, a crowd that arrives at
//! once would end the handshakes that are nearest to their end, and nobody would be served. While others wait, a turn ends
//! after a moment, and the handshake goes on without; so those that stall keep nobody waiting for long.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::unadmitted::{Age, Stranger, Unadmitted};
pub use super::unadmitted::{ConnectionId, Evicted};
use crate::{config::PerAddress, ledger::AddressBlock};

/// How long a handshake keeps its turn while others of its address wait, at least: turns are passed on by ticks, and those that one
/// tick gave are over at the next.
const PATIENCE: Duration = Duration::from_millis(200);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The connections of the public listeners, or those of the admin listener.
pub struct Connections {
    limit: AtomicUsize,
    /// How many beyond the limit are accepted, for health checks.
    spare: usize,
    per_address: AtomicUsize,
    open: AtomicUsize,
    /// Those of them that had an admitted request.
    admitted: AtomicUsize,
    unadmitted: Mutex<Unadmitted>,
    left: Notify,
    on_evicted: OnceLock<OnEvicted>,
}

/// Carries out that a connection has to go.
type OnEvicted = Box<dyn Fn(Evicted) + Send + Sync>;

/// One connection's place among the others; dropping it leaves.
pub struct ConnectionSlot {
    connections: Arc<Connections>,
    stranger: Stranger,
    age: Age,
    is_admitted: bool,
}

impl Connections {
    /// Room for `limit` connections, and for `spare` more that have not had an admitted request. Of one address,
    /// `per_address` may be without one.
    pub fn new(limit: usize, spare: usize, per_address: PerAddress) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            spare,
            per_address: AtomicUsize::new(per_address.connections),
            open: AtomicUsize::new(0),
            admitted: AtomicUsize::new(0),
            unadmitted: Mutex::new(Unadmitted::new(per_address.handshakes, PATIENCE)),
            left: Notify::new(),
            on_evicted: OnceLock::new(),
        })
    }

    /// From now on, `evict` is called for each connection that has to go.
    pub fn on_evicted(&self, evict: impl Fn(Evicted) + Send + Sync + 'static) {
        // Only the first counts, and there is only one.
        let _ = self.on_evicted.set(Box::new(evict));
    }

    /// Changes the limits. Connections that are open stay.
    pub fn set_limits(&self, limit: usize, per_address: PerAddress) {
        self.limit.store(limit, Relaxed);
        self.per_address.store(per_address.connections, Relaxed);
        self.unadmitted.lock().most_handshakes = per_address.handshakes;
        // There may be room now.
        self.left.notify_waiters();
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Those of them that had an admitted request.
    pub fn admitted(&self) -> usize {
        self.admitted.load(Relaxed)
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Waits until another connection can be accepted. It seldom has to: who is evicted leaves in moments.
    pub async fn room(&self) {
        loop {
            let left = self.left.notified();
            // Those that are on their way out count twice over for this moment. If more were admitted than there may be by
            // now, the newest strangers still have their places.
            let most = self.limit().max(self.admitted.load(Relaxed)) + 2 * self.spare;
            if self.open() < most {
                return;
            }
            left.await;
        }
    }

    /// A connection of `address` was accepted and goes to `worker`. If there are too many, another one goes. A balancer may have
    /// as many as it likes.
    pub fn enter(
        self: &Arc<Self>,
        address: AddressBlock,
        is_balancer: bool,
        worker: usize,
    ) -> ConnectionSlot {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        let id = NEXT.fetch_add(1, Relaxed);
        let worker = u32::try_from(worker).unwrap_or(u32::MAX);
        let stranger = Stranger { id, worker, address: (!is_balancer).then_some(address) };
        let mut unadmitted = self.unadmitted.lock();
        let mut evicted = unadmitted.evict_beyond(self.per_address.load(Relaxed), stranger.address);
        // The newest few always stay, for health checks.
        if evicted.is_none() && open > self.limit() && unadmitted.by_age.len() >= self.spare {
            evicted = unadmitted.evict_first();
        }
        unadmitted.insert(id, stranger, false);
        drop(unadmitted);
        self.evict(evicted);
        ConnectionSlot { connections: Arc::clone(self), stranger, age: id, is_admitted: false }
    }

    /// Passes the turns of handshakes on that others of their address have waited for long enough. For each tick of a worker.
    pub fn tick(&self) {
        self.unadmitted.lock().pass_turns();
    }

    fn evict(&self, evicted: Option<Evicted>) {
        if let (Some(evicted), Some(evict)) = (evicted, self.on_evicted.get()) {
            evict(evicted);
        }
    }
}

impl ConnectionSlot {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.stranger.id
    }

    /// Whether it is a balancer's, which may have as many as it likes, and names no client.
    pub fn is_of_balancer(&self) -> bool {
        self.stranger.address.is_none()
    }

    /// Its ClientHello is here. The answer to it is dear, so of one address, so many have a turn at a time. If there are as many,
    /// the handshake goes on when what is returned yields; an error is that it has to go, which a signal says in a moment. A
    /// balancer may have as many as it likes.
    pub fn begin_handshake(&self) -> Option<oneshot::Receiver<()>> {
        let address = self.stranger.address?;
        self.connections.unadmitted.lock().begin_handshake(self.age, address)
    }

    /// Its TLS handshake is over: it is as good as new, since its first request is still to come.
    pub fn end_handshake(&mut self) {
        if self.stranger.address.is_some() {
            let mut unadmitted = self.connections.unadmitted.lock();
            // Not if it has to go already.
            if unadmitted.remove(self.age).is_some() {
                self.age = NEXT.fetch_add(1, Relaxed);
                unadmitted.insert(self.age, self.stranger, true);
            }
        }
    }

    /// A request was admitted: from now on, the connection is counted for whoever sent it.
    pub fn admitted(&mut self) {
        self.connections.unadmitted.lock().remove(self.age);
        if !std::mem::replace(&mut self.is_admitted, true) {
            self.connections.admitted.fetch_add(1, Relaxed);
        }
    }

    /// The caller of its requests is not admitted any more: it counts as one without an admitted request again.
    pub fn refused(&mut self) {
        if std::mem::take(&mut self.is_admitted) {
            self.connections.admitted.fetch_sub(1, Relaxed);
            self.connections.unadmitted.lock().insert(self.age, self.stranger, false);
        }
    }

    /// The connection speaks for another address than the one that it came from, and counts for that one from now on.
    pub fn speaks_for(&mut self, address: AddressBlock) {
        self.stranger.address = Some(address);
        let mut unadmitted = self.connections.unadmitted.lock();
        // Not if it has to go already.
        if unadmitted.remove(self.age).is_none() {
            return;
        }
        let evicted = unadmitted.evict_beyond(self.connections.per_address.load(Relaxed), Some(address));
        unadmitted.insert(self.age, self.stranger, false);
        drop(unadmitted);
        self.connections.evict(evicted);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.unadmitted.lock().remove(self.age);
        if self.is_admitted {
            self.connections.admitted.fetch_sub(1, Relaxed);
        }
        self.connections.open.fetch_sub(1, Relaxed);
        self.connections.left.notify_waiters();
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
