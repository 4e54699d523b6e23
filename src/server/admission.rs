//! Which client connections there may be, and which goes when there are too many.
//!
//! A connection costs a descriptor before anybody knows whose it is. So those that have not had an admitted request are
//! counted for their address, and are the first to go: beyond the limit, a newcomer takes the place of the oldest of them.
//! One that is idle, or that stalls in its handshake, therefore keeps nobody out, and a health check is answered even
//! when every place is taken.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::ledger::AddressBlock;

/// Names one connection: counted from the start of the process, so that an order to close it can never meet another.
pub type ConnectionId = u64;

/// The connections of the public listeners, or those of the admin listener.
pub struct Connections {
    limit: AtomicUsize,
    /// How many beyond the limit are accepted, for health checks.
    spare: usize,
    per_address: AtomicUsize,
    open: AtomicUsize,
    next: AtomicU64,
    unadmitted: Mutex<Unadmitted>,
    left: Notify,
}

/// Connections that have not had an admitted request.
#[derive(Default)]
struct Unadmitted {
    /// The oldest first: the worker that serves it, and its address.
    by_age: BTreeMap<ConnectionId, (usize, AddressBlock)>,
    by_address: HashMap<AddressBlock, BTreeSet<ConnectionId>>,
}

/// One connection's place among the others; dropping it leaves.
pub struct Place {
    connections: Arc<Connections>,
    id: ConnectionId,
}

/// A connection that has to go, and the worker that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Index of the worker.
    pub worker: usize,
    /// Which of its connections.
    pub id: ConnectionId,
}

impl Connections {
    /// Room for `limit` connections, and for `spare` more that can only ask for the gate's health. Of one address,
    /// `per_address` may be without an admitted request.
    pub fn new(limit: usize, spare: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            spare,
            per_address: AtomicUsize::new(per_address),
            open: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            unadmitted: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Changes the limits. Connections that are open stay.
    pub fn set_limits(&self, limit: usize, per_address: usize) {
        self.limit.store(limit, Relaxed);
        self.per_address.store(per_address, Relaxed);
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Waits until another connection can be accepted. It seldom has to: who is evicted leaves in moments.
    pub async fn room(&self) {
        loop {
            let left = self.left.notified();
            // Those that are on their way out count twice over for this moment.
            if self.open() < self.limit() + 2 * self.spare {
                return;
            }
            left.await;
        }
    }

    /// A connection of `address` was accepted and goes to `worker`. Says which one goes in its stead, if there are too many.
    /// A balancer may have as many as it likes.
    pub fn enter(
        self: &Arc<Self>,
        address: AddressBlock,
        is_balancer: bool,
        worker: usize,
    ) -> (Place, Option<Evicted>) {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        let id = self.next.fetch_add(1, Relaxed);
        let place = Place { connections: Arc::clone(self), id };
        let mut unadmitted = self.unadmitted();
        let of_address = unadmitted.by_address.entry(address).or_default();
        let goes = if !is_balancer && of_address.len() >= self.per_address.load(Relaxed) {
            of_address.first().copied()
        } else {
            None
        };
        of_address.insert(id);
        let goes = goes.or_else(|| {
            let oldest = || unadmitted.by_age.first_key_value().map(|(id, _)| *id);
            (open > self.limit() + self.spare).then(oldest).flatten()
        });
        unadmitted.by_age.insert(id, (worker, address));
        let evicted = goes.and_then(|id| Some(Evicted { worker: unadmitted.remove(id)?, id }));
        drop(unadmitted);
        (place, evicted)
    }

    fn unadmitted(&self) -> MutexGuard<'_, Unadmitted> {
        // Nothing that could panic runs under the lock.
        self.unadmitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unadmitted {
    /// Removes a connection, if it is here; returns its worker.
    fn remove(&mut self, id: ConnectionId) -> Option<usize> {
        let (worker, address) = self.by_age.remove(&id)?;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.remove(&id);
            if of_address.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(worker)
    }
}

impl Place {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// A request was admitted: from now on, the connection is counted for whoever sent it.
    pub fn admitted(&self) {
        self.connections.unadmitted().remove(self.id);
    }

    /// The connection speaks for another address than the one that it came from.
    pub fn speaks_for(&self, address: AddressBlock) {
        let mut unadmitted = self.connections.unadmitted();
        if let Some(worker) = unadmitted.remove(self.id) {
            unadmitted.by_age.insert(self.id, (worker, address));
            unadmitted.by_address.entry(address).or_default().insert(self.id);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.unadmitted().remove(self.id);
        self.connections.open.fetch_sub(1, Relaxed);
        self.connections.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(last: u8) -> AddressBlock {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn beyond_the_limit_the_oldest_stranger_goes_and_who_was_admitted_stays() {
        let connections = Connections::new(2, 1, 100);
        let (admitted, _) = connections.enter(address(1), false, 0);
        admitted.admitted();
        let (oldest, _) = connections.enter(address(2), false, 1);
        let (spare, goes) = connections.enter(address(3), false, 0);
        assert_eq!((goes, connections.open()), (None, 3));
        let (fourth, goes) = connections.enter(address(4), false, 0);
        assert_eq!(goes, Some(Evicted { worker: 1, id: oldest.id() }));
        let (fifth, goes) = connections.enter(address(5), false, 0);
        assert_eq!(goes, Some(Evicted { worker: 0, id: spare.id() }), "each goes once");
        drop((oldest, spare, fourth, fifth, admitted));
        assert_eq!(connections.open(), 0);
        assert!(connections.unadmitted().by_age.is_empty() && connections.unadmitted().by_address.is_empty());
    }

    #[test]
    fn an_address_drives_out_its_own_and_no_other() {
        let connections = Connections::new(100, 1, 2);
        let (other, _) = connections.enter(address(1), false, 0);
        let (first, _) = connections.enter(address(2), false, 0);
        let (second, goes) = connections.enter(address(2), false, 0);
        assert_eq!(goes, None);
        let (third, goes) = connections.enter(address(2), false, 0);
        assert_eq!(goes.map(|goes| goes.id), Some(first.id()));
        second.admitted();
        assert_eq!(connections.enter(address(2), false, 0).1, None, "who was admitted is no stranger");
        assert_eq!(connections.enter(address(2), true, 0).1, None, "nor is a balancer");
        other.speaks_for(address(2));
        assert_eq!(connections.enter(address(2), false, 0).1.map(|goes| goes.id), Some(other.id()));
        drop(third);
    }

    #[tokio::test]
    async fn accepting_waits_only_for_those_that_are_on_their_way_out() {
        let connections = Connections::new(1, 1, 100);
        let mut places: Vec<_> = (0..3).map(|last| connections.enter(address(last), false, 0).0).collect();
        let waiting = connections.room();
        tokio::pin!(waiting);
        assert!(now_or_never(waiting.as_mut()).is_none(), "two were evicted, and are still open");
        drop(places.pop());
        assert!(now_or_never(waiting.as_mut()).is_some());
    }

    fn now_or_never<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(ready) => Some(ready),
            std::task::Poll::Pending => None,
        }
    }
}
