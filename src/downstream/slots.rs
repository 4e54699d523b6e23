//! Which client connections there may be, and which goes when there are too many.
//!
//! A connection costs a descriptor before anybody knows whose it is. So those that have not had an admitted request are
//! counted for their address, and are the first to go: beyond the limit, a newcomer takes the place of the oldest of the
//! address that has most of them. One that is idle therefore keeps nobody out; an address that opens them without end drives
//! out its own; and a health check is answered even when every place is taken.
//!
//! Of one address there may be so many. A newcomer beyond them takes the place of the oldest only if that had
//! [`PATIENCE`]; otherwise the newcomer is refused. If it always took the place, a crowd that arrives at once would end the
//! connections that are nearest to their first request, and nobody would be served. For the same reason a TLS handshake
//! beyond those that an address may have waits for its turn, and ends none but one that had as much time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use crate::{config::PerAddress, ledger::AddressBlock};

/// Names one connection: counted from the start of the process, so that an order to close it can never meet another.
pub type ConnectionId = u64;

/// How long a connection, or a handshake, is left alone though others of its address want its place.
const PATIENCE: Duration = Duration::from_secs(3);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The connections of the public listeners, or those of the admin listener.
pub struct Connections {
    limit: AtomicUsize,
    /// How many beyond the limit are accepted, for health checks.
    spare: usize,
    per_address: AtomicUsize,
    /// The same of those that are in their TLS handshake.
    handshakes: AtomicUsize,
    patience: Duration,
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
    by_age: BTreeMap<ConnectionId, Entry>,
    by_address: HashMap<AddressBlock, BTreeSet<ConnectionId>>,
    /// Those of them that are in their TLS handshake, and since when.
    handshakes: HashMap<AddressBlock, BTreeMap<ConnectionId, Instant>>,
    /// Those of them that wait for their turn in it, in their order. An address without any has no entry.
    waiting: HashMap<AddressBlock, VecDeque<(ConnectionId, oneshot::Sender<()>)>>,
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

struct Entry {
    connection: UnadmittedConnection,
    /// When it was accepted; `None` of one that had admitted requests before, which needs no time for its first.
    since: Option<Instant>,
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
    /// The address that had more than one may have; `None` if it made room for any other.
    pub beyond: Option<AddressBlock>,
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
            patience: PATIENCE,
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

    /// A connection of `address` was accepted and goes to `worker`. If there are too many, another one goes, or it is refused:
    /// `None`. A balancer may have as many as it likes.
    pub fn enter(
        self: &Arc<Self>,
        address: AddressBlock,
        is_balancer: bool,
        worker: usize,
    ) -> Option<ConnectionSlot> {
        let id = NEXT.fetch_add(1, Relaxed);
        let stranger = UnadmittedConnection { worker, address: (!is_balancer).then_some(address) };
        let mut unadmitted = self.unadmitted();
        let mut evicted = self.make_room(&mut unadmitted, stranger.address)?;
        let open = self.open.fetch_add(1, Relaxed) + 1;
        // The newest few always stay, for health checks.
        if evicted.is_none() && open > self.limit() && unadmitted.by_age.len() >= self.spare {
            evicted = unadmitted.first_to_go().and_then(|id| unadmitted.evict(id));
        }
        unadmitted.insert(id, stranger, Some(Instant::now()));
        drop(unadmitted);
        self.evict(evicted);
        Some(ConnectionSlot { connections: Arc::clone(self), id, stranger, is_admitted: false })
    }

    /// Whether there may be another of `address`: `None` if not, and otherwise the one that goes for it, if any has to.
    fn make_room(
        &self,
        unadmitted: &mut Unadmitted,
        address: Option<AddressBlock>,
    ) -> Option<Option<Evicted>> {
        let Some(oldest) = unadmitted.oldest_beyond(self.per_address.load(Relaxed), address) else {
            return Some(None);
        };
        let since = unadmitted.by_age.get(&oldest)?.since;
        if since.is_some_and(|since| since.elapsed() < self.patience) {
            return None;
        }
        Some(unadmitted.evict(oldest).map(|evicted| Evicted { beyond: address, ..evicted }))
    }

    /// Ends handshakes that others of their address have waited for long enough. For each tick of a worker.
    pub fn tick(&self) {
        let evicted = self.unadmitted().overdue(self.patience);
        evicted.into_iter().for_each(|evicted| self.evict(Some(evicted)));
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
    fn insert(&mut self, id: ConnectionId, connection: UnadmittedConnection, since: Option<Instant>) {
        self.by_age.insert(id, Entry { connection, since });
        let Some(address) = connection.address else { return };
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
        Some(Evicted { worker: self.remove(id)?.connection.worker, id, beyond: None })
    }

    /// A connection is to begin its handshake. If its address has `most` of those, it waits for what is returned.
    fn shakes(
        &mut self,
        id: ConnectionId,
        address: AddressBlock,
        most: usize,
    ) -> Option<oneshot::Receiver<()>> {
        let of_address = self.handshakes.entry(address).or_default();
        if of_address.len() < most {
            of_address.insert(id, Instant::now());
            return None;
        }
        let (turn, waits) = oneshot::channel();
        self.waiting.entry(address).or_default().push_back((id, turn));
        Some(waits)
    }

    /// Its handshake is over, or it is gone. The next one has its turn.
    fn has_shaken(&mut self, id: ConnectionId, address: AddressBlock) {
        let Some(of_address) = self.handshakes.get_mut(&address) else { return };
        let was_one = of_address.remove(&id).is_some();
        if let Some(waiting) = self.waiting.get_mut(&address) {
            if was_one && let Some((next, turn)) = waiting.pop_front() {
                of_address.insert(next, Instant::now());
                // One that is about to leave lets the next one in when it does.
                let _ = turn.send(());
            } else {
                waiting.retain(|(waits, _)| *waits != id);
            }
            if waiting.is_empty() {
                self.waiting.remove(&address);
            }
        }
        if of_address.is_empty() {
            self.handshakes.remove(&address);
        }
    }

    /// Takes out the handshakes that had `patience`, as many of an address as wait there.
    fn overdue(&mut self, patience: Duration) -> Vec<Evicted> {
        let mut overdue = Vec::new();
        for (address, waiting) in &self.waiting {
            let of_address = self.handshakes.get(address).into_iter().flatten();
            let stalled = of_address.filter(|(_, since)| since.elapsed() >= patience);
            overdue.extend(stalled.take(waiting.len()).map(|(id, _)| (*id, *address)));
        }
        let evict = |(id, address)| Some(Evicted { beyond: Some(address), ..self.evict(id)? });
        overdue.into_iter().filter_map(evict).collect()
    }

    /// Removes a connection, if it is here.
    fn remove(&mut self, id: ConnectionId) -> Option<Entry> {
        let entry = self.by_age.remove(&id)?;
        if let Some(address) = entry.connection.address {
            self.has_shaken(id, address);
        }
        if let Some(address) = entry.connection.address
            && let Some(of_address) = self.by_address.get_mut(&address)
        {
            self.by_count.remove(&(of_address.len(), address));
            of_address.remove(&id);
            match of_address.len() {
                0 => drop(self.by_address.remove(&address)),
                count => drop(self.by_count.insert((count, address))),
            }
        }
        Some(entry)
    }
}

impl ConnectionSlot {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Its TLS handshake is to begin, which is dear: of one address, so many at a time. If there are as many, it begins when what
    /// is returned is ready. A balancer may have as many as it likes.
    pub fn shakes(&self) -> Option<oneshot::Receiver<()>> {
        let address = self.stranger.address?;
        let mut unadmitted = self.connections.unadmitted();
        // Not if it has to go already.
        if !unadmitted.by_age.contains_key(&self.id) {
            return None;
        }
        unadmitted.shakes(self.id, address, self.connections.handshakes.load(Relaxed))
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
            self.connections.unadmitted().insert(self.id, self.stranger, None);
        }
    }

    /// The connection speaks for another address than the one that it came from, and counts for that one from now on. Says
    /// whether that may have another.
    #[must_use]
    pub fn speaks_for(&mut self, address: AddressBlock) -> bool {
        self.stranger.address = Some(address);
        let mut unadmitted = self.connections.unadmitted();
        // Not if it has to go already.
        let Some(entry) = unadmitted.remove(self.id) else { return true };
        let Some(evicted) = self.connections.make_room(&mut unadmitted, Some(address)) else { return false };
        unadmitted.insert(self.id, self.stranger, entry.since);
        drop(unadmitted);
        self.connections.evict(evicted);
        true
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

    fn enter(connections: &Arc<Connections>, last: u8, worker: usize) -> ConnectionSlot {
        connections.enter(address(last), false, worker).unwrap()
    }

    /// Connections, and which of them had to go.
    fn connections(
        limit: usize,
        spare: usize,
        per_address: usize,
    ) -> (Arc<Connections>, std::sync::mpsc::Receiver<Evicted>) {
        patient(limit, spare, per_address, PATIENCE)
    }

    /// The same with another patience.
    fn patient(
        limit: usize,
        spare: usize,
        per_address: usize,
        patience: Duration,
    ) -> (Arc<Connections>, std::sync::mpsc::Receiver<Evicted>) {
        let mut connections = Connections::new(limit, spare, most(per_address));
        Arc::get_mut(&mut connections).unwrap().patience = patience;
        let (evict, evicted) = std::sync::mpsc::channel();
        connections.on_evicted(move |goes| evict.send(goes).unwrap());
        (connections, evicted)
    }

    #[test]
    fn beyond_the_limit_the_oldest_stranger_goes_and_who_was_admitted_stays() {
        let (connections, evicted) = connections(3, 2, 100);
        let mut admitted = enter(&connections, 1, 0);
        admitted.admitted();
        let oldest = enter(&connections, 2, 1);
        let second = enter(&connections, 3, 0);
        assert_eq!((evicted.try_iter().count(), connections.open()), (0, 3));
        let third = enter(&connections, 4, 0);
        let fourth = enter(&connections, 5, 0);
        let gone: Vec<_> = evicted.try_iter().collect();
        let goes = |worker, place: &ConnectionSlot| Evicted { worker, id: place.id(), beyond: None };
        assert_eq!(gone, [goes(1, &oldest), goes(0, &second)], "each goes once");
        drop((oldest, second, third, fourth, admitted));
        assert_eq!(connections.open(), 0);
        assert!(connections.unadmitted().by_age.is_empty() && connections.unadmitted().by_address.is_empty());
    }

    #[test]
    fn when_all_were_admitted_the_newest_strangers_stay_for_health_checks() {
        let (connections, evicted) = connections(1, 2, 100);
        let mut admitted = enter(&connections, 1, 0);
        admitted.admitted();
        let strangers: Vec<_> = (2..5).map(|last| enter(&connections, last, 0)).collect();
        let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        assert_eq!(gone, [strangers[0].id()]);
    }

    #[test]
    fn an_address_drives_out_its_own_and_no_other() {
        let (connections, evicted) = patient(100, 1, 2, Duration::ZERO);
        let goes = || evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>();
        let mut other = enter(&connections, 1, 0);
        let first = enter(&connections, 2, 0);
        let mut second = enter(&connections, 2, 0);
        assert!(goes().is_empty());
        let third = enter(&connections, 2, 0);
        assert_eq!(goes(), [first.id()]);
        second.admitted();
        let fourth = enter(&connections, 2, 0);
        assert!(goes().is_empty(), "who was admitted is no stranger");
        let mut balancer = connections.enter(address(2), true, 0).unwrap();
        assert!(goes().is_empty(), "a balancer may have many");
        assert!(balancer.speaks_for(address(3)));
        assert!(goes().is_empty());
        // Whom a balancer speaks for may not.
        assert!(other.speaks_for(address(2)));
        assert_eq!(goes(), [third.id()]);
        drop(fourth);
    }

    #[test]
    fn a_newcomer_beyond_what_its_address_may_have_ends_none_that_had_no_time() {
        let (connections, evicted) = connections(100, 1, 2);
        let (first, mut second) = (enter(&connections, 1, 0), enter(&connections, 1, 0));
        assert!(connections.enter(address(1), false, 0).is_none());
        let other = enter(&connections, 2, 0);
        let mut balancer = connections.enter(address(3), true, 0).unwrap();
        assert!(!balancer.speaks_for(address(1)), "whom a balancer speaks for is refused, too");
        drop(balancer);
        assert_eq!((connections.open(), evicted.try_iter().count()), (3, 0));
        second.admitted();
        let third = enter(&connections, 1, 0);
        assert!(connections.enter(address(1), false, 0).is_none());
        drop((first, second, third, other));
        assert!(connections.unadmitted().by_address.is_empty() && connections.open() == 0);
    }

    fn has_turn(turn: &mut Option<oneshot::Receiver<()>>) -> bool {
        turn.as_mut().is_none_or(|turn| turn.try_recv().is_ok())
    }

    #[test]
    fn of_an_address_so_many_shake_hands_at_once_and_the_next_waits_for_its_turn() {
        let (connections, evicted) = connections(100, 1, 100);
        let shake = |last, is_balancer| {
            let place = connections.enter(address(last), is_balancer, 0).unwrap();
            let turn = place.shakes();
            (place, turn)
        };
        let (_other, first, second) = (shake(1, false), shake(2, false), shake(2, false));
        assert!(first.1.is_none() && second.1.is_none());
        let (mut third, mut fourth, fifth) = (shake(2, false), shake(2, false), shake(2, false));
        assert!(!has_turn(&mut third.1));
        first.0.has_shaken();
        assert!(has_turn(&mut third.1) && !has_turn(&mut fourth.1), "in their order, one for one");
        drop(fifth);
        assert!(!has_turn(&mut fourth.1), "who waited and left had no place");
        drop(second);
        assert!(has_turn(&mut fourth.1));
        let balancers: Vec<_> = (0..3).map(|_| shake(3, true)).collect();
        assert!(balancers.iter().all(|(_, turn)| turn.is_none()), "a balancer may have many");
        connections.tick();
        assert_eq!(evicted.try_iter().count(), 0);
        drop((_other, first, third, fourth, balancers));
        let unadmitted = connections.unadmitted();
        assert!(unadmitted.handshakes.is_empty() && unadmitted.waiting.is_empty());
    }

    #[test]
    fn a_handshake_that_others_wait_for_ends_when_it_had_its_time() {
        let (connections, evicted) = patient(100, 1, 100, Duration::ZERO);
        let goes = || evicted.try_iter().map(|goes| (goes.id, goes.beyond)).collect::<Vec<_>>();
        let shake = |last| {
            let place = enter(&connections, last, 0);
            let turn = place.shakes();
            (place, turn)
        };
        let (first, second, alone) = (shake(1), shake(1), shake(2));
        connections.tick();
        assert!(goes().is_empty(), "nobody waits");
        let mut third = shake(1);
        connections.tick();
        assert_eq!(goes(), [(first.0.id(), Some(address(1)))], "no more than wait");
        assert!(has_turn(&mut third.1));
        drop((first, second, third, alone));
        assert!(connections.unadmitted().handshakes.is_empty());
    }

    #[test]
    fn beyond_the_limit_an_address_that_opens_without_end_drives_out_its_own() {
        let (connections, evicted) = connections(3, 2, 100);
        let patient = enter(&connections, 1, 0);
        let mut flood: Vec<_> = (0..10).map(|_| enter(&connections, 2, 0)).collect();
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
        let mut places: Vec<_> = (0..10).map(|last| enter(&connections, last, 0)).collect();
        places.iter_mut().for_each(ConnectionSlot::admitted);
        connections.set_limits(2, most(100));
        assert!(now_or_never(std::pin::pin!(connections.room())).is_some());
        let strangers: Vec<_> = (0..2).map(|last| enter(&connections, last, 0)).collect();
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
        let mut removed = enter(&connections, 1, 0);
        removed.admitted();
        let other = enter(&connections, 2, 0);
        removed.refused();
        let third = enter(&connections, 3, 0);
        let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        assert_eq!(gone, [removed.id()]);
        drop((removed, other, third));
        assert_eq!(connections.admitted.load(Relaxed), 0);
    }

    #[test]
    fn connections_of_all_listeners_have_ids_of_their_own() {
        let enter = || enter(&Connections::new(1, 1, most(1)), 1, 0).id();
        assert_ne!(enter(), enter());
    }

    #[tokio::test]
    async fn accepting_waits_only_for_those_that_are_on_their_way_out() {
        let connections = Connections::new(1, 1, most(100));
        let mut places: Vec<_> = (0..3).map(|last| enter(&connections, last, 0)).collect();
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
