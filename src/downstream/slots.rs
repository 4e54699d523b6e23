//! Which client connections there may be, and which goes when there are too many.
//!
//! A connection costs a descriptor before anybody knows whose it is. So those that have not had an admitted request are
//! counted for their address, and are the first to go: beyond the limit, a newcomer takes the place of the oldest of the
//! address that has most of them. One that is idle, or that stalls in its handshake, therefore keeps nobody out; an
//! address that opens them without end drives out its own; and a health check is answered even when every place is taken.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{config::PerAddress, ledger::AddressBlock};

/// Names one connection: counted from the start of the process, so that an order to close it can never meet another.
pub type ConnectionId = u64;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The connections of the public listeners, or those of the admin listener.
pub struct Connections {
    limit: AtomicUsize,
    /// How many beyond the limit are accepted, for health checks.
    spare: usize,
    per_address: AtomicUsize,
    /// The same of those that are in their TLS handshake.
    handshakes: AtomicUsize,
    open: AtomicUsize,
    /// Those of them that had an admitted request.
    admitted: AtomicUsize,
    unadmitted: Mutex<Unadmitted>,
    left: Notify,
    on_evicted: OnceLock<OnEvicted>,
}

/// Carries out that a connection has to go.
type OnEvicted = Box<dyn Fn(Evicted) + Send + Sync>;

/// Connections that have not had an admitted request.
#[derive(Default)]
struct Unadmitted {
    /// The oldest first.
    by_age: BTreeMap<ConnectionId, UnadmittedConnection>,
    by_address: HashMap<AddressBlock, BTreeSet<ConnectionId>>,
    /// Those of them that are in their TLS handshake.
    handshakes: HashMap<AddressBlock, BTreeSet<ConnectionId>>,
    /// Addresses by how many they have.
    by_count: BTreeSet<(usize, AddressBlock)>,
}

#[derive(Clone, Copy)]
struct UnadmittedConnection {
    /// Index of the worker that serves it.
    worker: usize,
    /// Where it came from; `None` if that is a balancer, which may have as many as it likes.
    address: Option<AddressBlock>,
}

/// One connection's place among the others; dropping it leaves.
pub struct ConnectionSlot {
    connections: Arc<Connections>,
    id: ConnectionId,
    stranger: UnadmittedConnection,
    is_admitted: bool,
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
    /// Room for `limit` connections, and for `spare` more that have not had an admitted request. Of one address,
    /// `per_address` may be without one.
    pub fn new(limit: usize, spare: usize, per_address: PerAddress) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            spare,
            per_address: AtomicUsize::new(per_address.connections),
            handshakes: AtomicUsize::new(per_address.handshakes),
            open: AtomicUsize::new(0),
            admitted: AtomicUsize::new(0),
            unadmitted: Mutex::default(),
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
        self.handshakes.store(per_address.handshakes, Relaxed);
        // There may be room now.
        self.left.notify_waiters();
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
        let address = (!is_balancer).then_some(address);
        let mut unadmitted = self.unadmitted();
        // The newest few always stay, for health checks.
        let goes = unadmitted.oldest_beyond(self.per_address.load(Relaxed), address).or_else(|| {
            let is_full = open > self.limit() && unadmitted.by_age.len() >= self.spare;
            is_full.then(|| unadmitted.first_to_go()).flatten()
        });
        let stranger = UnadmittedConnection { worker, address };
        unadmitted.insert(id, stranger);
        let evicted = goes.and_then(|id| unadmitted.evict(id));
        drop(unadmitted);
        self.evict(evicted);
        ConnectionSlot { connections: Arc::clone(self), id, stranger, is_admitted: false }
    }

    fn evict(&self, evicted: Option<Evicted>) {
        if let (Some(evicted), Some(evict)) = (evicted, self.on_evicted.get()) {
            evict(evicted);
        }
    }

    fn unadmitted(&self) -> MutexGuard<'_, Unadmitted> {
        // Nothing that could panic runs under the lock.
        self.unadmitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unadmitted {
    fn insert(&mut self, id: ConnectionId, stranger: UnadmittedConnection) {
        self.by_age.insert(id, stranger);
        let Some(address) = stranger.address else { return };
        let of_address = self.by_address.entry(address).or_default();
        self.by_count.remove(&(of_address.len(), address));
        of_address.insert(id);
        self.by_count.insert((of_address.len(), address));
    }

    /// The oldest of `address`, if there are `most` of it.
    fn oldest_beyond(&self, most: usize, address: Option<AddressBlock>) -> Option<ConnectionId> {
        let of_address = self.by_address.get(&address?).filter(|of_address| of_address.len() >= most)?;
        of_address.first().copied()
    }

    /// The oldest of the address that has most, so that who opens one after the other drives out its own; of all, where no
    /// address has more than one.
    fn first_to_go(&self) -> Option<ConnectionId> {
        let heaviest = self.by_count.last().filter(|(count, _)| *count > 1);
        let of_heaviest = heaviest.and_then(|(_, address)| self.by_address.get(address)?.first());
        of_heaviest.or_else(|| self.by_age.first_key_value().map(|(id, _)| id)).copied()
    }

    fn evict(&mut self, id: ConnectionId) -> Option<Evicted> {
        Some(Evicted { worker: self.remove(id)?.worker, id })
    }

    /// A connection begins its handshake. Returns the one that has to go for it, if its address has `most`.
    fn shakes(&mut self, id: ConnectionId, address: AddressBlock, most: usize) -> Option<ConnectionId> {
        let of_address = self.handshakes.entry(address).or_default();
        let goes = of_address.first().filter(|_| of_address.len() >= most).copied();
        of_address.insert(id);
        goes
    }

    /// Its handshake is over, or it is gone.
    fn has_shaken(&mut self, id: ConnectionId, address: AddressBlock) {
        if let Some(of_address) = self.handshakes.get_mut(&address) {
            of_address.remove(&id);
            if of_address.is_empty() {
                self.handshakes.remove(&address);
            }
        }
    }

    /// Removes a connection, if it is here.
    fn remove(&mut self, id: ConnectionId) -> Option<UnadmittedConnection> {
        let stranger = self.by_age.remove(&id)?;
        if let Some(address) = stranger.address {
            self.has_shaken(id, address);
        }
        if let Some(address) = stranger.address
            && let Some(of_address) = self.by_address.get_mut(&address)
        {
            self.by_count.remove(&(of_address.len(), address));
            of_address.remove(&id);
            match of_address.len() {
                0 => drop(self.by_address.remove(&address)),
                count => drop(self.by_count.insert((count, address))),
            }
        }
        Some(stranger)
    }
}

impl ConnectionSlot {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Its TLS handshake begins, which is dear: of one address, so many at a time. A balancer may have as many as it likes.
    pub fn shakes(&self) {
        let Some(address) = self.stranger.address else { return };
        let mut unadmitted = self.connections.unadmitted();
        // Not if it has to go already.
        if !unadmitted.by_age.contains_key(&self.id) {
            return;
        }
        let goes = unadmitted.shakes(self.id, address, self.connections.handshakes.load(Relaxed));
        let evicted = goes.and_then(|id| unadmitted.evict(id));
        drop(unadmitted);
        self.connections.evict(evicted);
    }

    /// Its TLS handshake is over.
    pub fn has_shaken(&self) {
        if let Some(address) = self.stranger.address {
            self.connections.unadmitted().has_shaken(self.id, address);
        }
    }

    /// A request was admitted: from now on, the connection is counted for whoever sent it.
    pub fn admitted(&mut self) {
        self.connections.unadmitted().remove(self.id);
        if !std::mem::replace(&mut self.is_admitted, true) {
            self.connections.admitted.fetch_add(1, Relaxed);
        }
    }

    /// Whoever sent its requests is not admitted any more: it is a stranger's again, and among the first to go.
    pub fn refused(&mut self) {
        if std::mem::take(&mut self.is_admitted) {
            self.connections.admitted.fetch_sub(1, Relaxed);
            self.connections.unadmitted().insert(self.id, self.stranger);
        }
    }

    /// The connection speaks for another address than the one that it came from, and counts for that one from now on.
    pub fn speaks_for(&mut self, address: AddressBlock) {
        self.stranger.address = Some(address);
        let mut unadmitted = self.connections.unadmitted();
        // Not if it has to go already.
        if unadmitted.remove(self.id).is_none() {
            return;
        }
        let goes = unadmitted.oldest_beyond(self.connections.per_address.load(Relaxed), Some(address));
        unadmitted.insert(self.id, self.stranger);
        let evicted = goes.and_then(|id| unadmitted.evict(id));
        drop(unadmitted);
        self.connections.evict(evicted);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.unadmitted().remove(self.id);
        if self.is_admitted {
            self.connections.admitted.fetch_sub(1, Relaxed);
        }
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

    fn most(connections: usize) -> PerAddress {
        PerAddress { connections, handshakes: 2 }
    }

    /// Connections, and which of them had to go.
    fn connections(
        limit: usize,
        spare: usize,
        per_address: usize,
    ) -> (Arc<Connections>, std::sync::mpsc::Receiver<Evicted>) {
        let connections = Connections::new(limit, spare, most(per_address));
        let (evict, evicted) = std::sync::mpsc::channel();
        connections.on_evicted(move |goes| evict.send(goes).unwrap());
        (connections, evicted)
    }

    #[test]
    fn beyond_the_limit_the_oldest_stranger_goes_and_who_was_admitted_stays() {
        let (connections, evicted) = connections(3, 2, 100);
        let mut admitted = connections.enter(address(1), false, 0);
        admitted.admitted();
        let oldest = connections.enter(address(2), false, 1);
        let second = connections.enter(address(3), false, 0);
        assert_eq!((evicted.try_iter().count(), connections.open()), (0, 3));
        let third = connections.enter(address(4), false, 0);
        let fourth = connections.enter(address(5), false, 0);
        let gone: Vec<_> = evicted.try_iter().collect();
        let goes = |worker, place: &ConnectionSlot| Evicted { worker, id: place.id() };
        assert_eq!(gone, [goes(1, &oldest), goes(0, &second)], "each goes once");
        drop((oldest, second, third, fourth, admitted));
        assert_eq!(connections.open(), 0);
        assert!(connections.unadmitted().by_age.is_empty() && connections.unadmitted().by_address.is_empty());
    }

    #[test]
    fn when_all_were_admitted_the_newest_strangers_stay_for_health_checks() {
        let (connections, evicted) = connections(1, 2, 100);
        let mut admitted = connections.enter(address(1), false, 0);
        admitted.admitted();
        let strangers: Vec<_> = (2..5).map(|last| connections.enter(address(last), false, 0)).collect();
        let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        assert_eq!(gone, [strangers[0].id()]);
    }

    #[test]
    fn an_address_drives_out_its_own_and_no_other() {
        let (connections, evicted) = connections(100, 1, 2);
        let goes = || evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>();
        let mut other = connections.enter(address(1), false, 0);
        let first = connections.enter(address(2), false, 0);
        let mut second = connections.enter(address(2), false, 0);
        assert!(goes().is_empty());
        let third = connections.enter(address(2), false, 0);
        assert_eq!(goes(), [first.id()]);
        second.admitted();
        let fourth = connections.enter(address(2), false, 0);
        assert!(goes().is_empty(), "who was admitted is no stranger");
        let mut balancer = connections.enter(address(2), true, 0);
        assert!(goes().is_empty(), "a balancer may have many");
        balancer.speaks_for(address(3));
        assert!(goes().is_empty());
        // Whom a balancer speaks for may not.
        other.speaks_for(address(2));
        assert_eq!(goes(), [third.id()]);
        drop(fourth);
    }

    #[test]
    fn of_an_address_so_many_shake_hands_at_once_and_the_oldest_of_those_goes() {
        let (connections, evicted) = connections(100, 1, 100);
        let goes = || evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>();
        let enter = |last, is_balancer| {
            let place = connections.enter(address(last), is_balancer, 0);
            place.shakes();
            place
        };
        let (other, first, second) = (enter(1, false), enter(2, false), enter(2, false));
        first.has_shaken();
        let third = enter(2, false);
        assert!(goes().is_empty(), "two of three");
        let fourth = enter(2, false);
        assert_eq!(goes(), [second.id()], "who has shaken hands is not the one");
        drop(third);
        let fifth = enter(2, false);
        let balancers: Vec<_> = (0..3).map(|_| enter(3, true)).collect();
        assert!(goes().is_empty(), "who left has room made, and a balancer may have many");
        drop((other, first, second, fourth, fifth, balancers));
        assert!(connections.unadmitted().handshakes.is_empty());
    }

    #[test]
    fn beyond_the_limit_an_address_that_opens_without_end_drives_out_its_own() {
        let (connections, evicted) = connections(3, 2, 100);
        let patient = connections.enter(address(1), false, 0);
        let mut flood: Vec<_> = (0..10).map(|_| connections.enter(address(2), false, 0)).collect();
        let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        let oldest: Vec<_> = flood.iter().take(8).map(ConnectionSlot::id).collect();
        assert_eq!(gone, oldest);
        flood.clear();
        drop(patient);
        assert!(connections.unadmitted().by_count.is_empty());
    }

    #[tokio::test]
    async fn a_limit_that_is_lowered_below_what_is_open_leaves_room_for_health_checks() {
        let (connections, _evicted) = connections(10, 1, 100);
        let mut places: Vec<_> = (0..10).map(|last| connections.enter(address(last), false, 0)).collect();
        places.iter_mut().for_each(ConnectionSlot::admitted);
        connections.set_limits(2, most(100));
        assert!(now_or_never(std::pin::pin!(connections.room())).is_some());
        let strangers: Vec<_> = (0..2).map(|last| connections.enter(address(last), false, 0)).collect();
        let waiting = connections.room();
        tokio::pin!(waiting);
        assert!(now_or_never(waiting.as_mut()).is_none());
        connections.set_limits(20, most(100));
        assert!(now_or_never(waiting.as_mut()).is_some(), "a limit that is raised is room");
        drop(strangers);
    }

    #[test]
    fn who_is_not_admitted_any_more_is_a_stranger_again_and_goes_first() {
        let (connections, evicted) = connections(2, 1, 100);
        let mut removed = connections.enter(address(1), false, 0);
        removed.admitted();
        let other = connections.enter(address(2), false, 0);
        removed.refused();
        let third = connections.enter(address(3), false, 0);
        let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        assert_eq!(gone, [removed.id()]);
        drop((removed, other, third));
        assert_eq!(connections.admitted.load(Relaxed), 0);
    }

    #[test]
    fn connections_of_all_listeners_have_ids_of_their_own() {
        let enter = || Connections::new(1, 1, most(1)).enter(address(1), false, 0).id();
        assert_ne!(enter(), enter());
    }

    #[tokio::test]
    async fn accepting_waits_only_for_those_that_are_on_their_way_out() {
        let connections = Connections::new(1, 1, most(100));
        let mut places: Vec<_> = (0..3).map(|last| connections.enter(address(last), false, 0)).collect();
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
