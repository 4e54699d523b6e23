//! The connections that have not had an admitted request: which of them goes first, and whose TLS handshake runs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::ledger::AddressBlock;

/// Names one connection: counted from the start of the process, so that an order to close it can never meet another.
pub type ConnectionId = u64;

/// Connections in the order in which they go: the id of one, until its handshake is over; then it counts as new.
pub(super) type Age = ConnectionId;

/// A connection that has not had an admitted request.
#[derive(Clone, Copy)]
pub(super) struct Stranger {
    /// Which connection.
    pub(super) id: ConnectionId,
    /// Index of the worker that serves it.
    pub(super) worker: u32,
    /// Where it came from; `None` if that is a balancer, which may have as many as it likes.
    pub(super) address: Option<AddressBlock>,
}

/// A connection that has to go, and the worker that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Index of the worker.
    pub worker: usize,
    /// Which of its connections.
    pub id: ConnectionId,
    /// The address that has more than it may; `None` if room is made for any other.
    pub beyond: Option<AddressBlock>,
}

/// All of them.
pub(super) struct Unadmitted {
    /// TLS handshakes of one address that may run at once.
    pub(super) most_handshakes: usize,
    /// How long a handshake may run while others of its address wait.
    pub(super) patience: Duration,
    /// The oldest first.
    pub(super) by_age: BTreeMap<Age, Stranger>,
    pub(super) by_address: HashMap<AddressBlock, OfAddress>,
    /// Addresses by how many they have.
    pub(super) by_count: BTreeSet<(usize, AddressBlock)>,
    /// Those of them of which handshakes wait.
    waiting: HashSet<AddressBlock>,
}

/// Those of one address.
#[derive(Default)]
pub(super) struct OfAddress {
    /// Those whose handshakes run, and since when.
    running: BTreeMap<Age, Instant>,
    /// The others.
    quiet: BTreeSet<Age>,
    /// Those of the others that wait until their handshake may run.
    waiting: BTreeMap<Age, oneshot::Sender<()>>,
}

impl OfAddress {
    fn count(&self) -> usize {
        self.running.len() + self.quiet.len()
    }

    fn oldest(&self) -> Option<Age> {
        let (quiet, running) = (self.quiet.first(), self.running.first_key_value().map(|(age, _)| age));
        quiet.into_iter().chain(running).min().copied()
    }

    /// Has handshakes begin that wait, as many as may run.
    fn begin_waiting(&mut self, most: usize) {
        while self.running.len() < most
            && let Some((age, turn)) = self.waiting.pop_first()
        {
            self.quiet.remove(&age);
            self.running.insert(age, Instant::now());
            // One that is about to leave makes room for the next when it does.
            let _ = turn.send(());
        }
    }
}

impl Unadmitted {
    pub(super) fn new(most_handshakes: usize, patience: Duration) -> Self {
        Self {
            most_handshakes,
            patience,
            by_age: BTreeMap::new(),
            by_address: HashMap::new(),
            by_count: BTreeSet::new(),
            waiting: HashSet::new(),
        }
    }

    pub(super) fn insert(&mut self, age: Age, stranger: Stranger) {
        self.by_age.insert(age, stranger);
        let Some(address) = stranger.address else { return };
        let of_address = self.by_address.entry(address).or_default();
        self.by_count.remove(&(of_address.count(), address));
        of_address.quiet.insert(age);
        self.by_count.insert((of_address.count(), address));
    }

    /// Removes a connection, if it is here. If its handshake ran, that of another begins.
    pub(super) fn remove(&mut self, age: Age) -> Option<Stranger> {
        let stranger = self.by_age.remove(&age)?;
        if let Some(address) = stranger.address
            && let Some(of_address) = self.by_address.get_mut(&address)
        {
            self.by_count.remove(&(of_address.count(), address));
            of_address.quiet.remove(&age);
            of_address.running.remove(&age);
            of_address.waiting.remove(&age);
            of_address.begin_waiting(self.most_handshakes);
            if of_address.waiting.is_empty() {
                self.waiting.remove(&address);
            }
            match of_address.count() {
                0 => drop(self.by_address.remove(&address)),
                count => drop(self.by_count.insert((count, address))),
            }
        }
        Some(stranger)
    }

    pub(super) fn evict(&mut self, age: Age) -> Option<Evicted> {
        let Stranger { id, worker, .. } = self.remove(age)?;
        Some(Evicted { worker: worker as usize, id, beyond: None })
    }

    /// If there are `most` of `address`, takes out the oldest whose handshake does not run: another one must not end what is
    /// about to be over.
    pub(super) fn evict_beyond(&mut self, most: usize, address: Option<AddressBlock>) -> Option<Evicted> {
        let of_address = self.by_address.get(&address?).filter(|of_address| of_address.count() >= most)?;
        let goes = of_address.quiet.first().copied().or_else(|| of_address.oldest())?;
        Some(Evicted { beyond: address, ..self.evict(goes)? })
    }

    /// Takes out the oldest of the address that has most, so that who opens one after the other drives out its own; of all,
    /// where no address has more than one.
    pub(super) fn evict_first(&mut self) -> Option<Evicted> {
        let heaviest = self.by_count.last().filter(|(count, _)| *count > 1);
        let of_heaviest = heaviest.and_then(|(_, address)| self.by_address.get(address)?.oldest());
        let goes = of_heaviest.or_else(|| self.by_age.first_key_value().map(|(age, _)| *age))?;
        self.evict(goes)
    }

    /// A connection is to begin its handshake. If its address has as many of those as it may, it waits for what is returned.
    pub(super) fn begin_handshake(
        &mut self,
        age: Age,
        address: AddressBlock,
    ) -> Option<oneshot::Receiver<()>> {
        let (turn, waits) = oneshot::channel();
        if let Some(of_address) = self.by_address.get_mut(&address)
            // One that has to go already waits for that.
            && of_address.quiet.contains(&age)
        {
            if of_address.waiting.is_empty() && of_address.running.len() < self.most_handshakes {
                of_address.quiet.remove(&age);
                of_address.running.insert(age, Instant::now());
                return None;
            }
            of_address.waiting.insert(age, turn);
            self.waiting.insert(address);
        }
        Some(waits)
    }

    /// Takes out the handshakes that others of their address have waited for long enough: of each address as many as wait. For
    /// each tick.
    pub(super) fn evict_overdue(&mut self) -> Vec<Evicted> {
        let mut overdue = Vec::new();
        for address in &self.waiting {
            let Some(of_address) = self.by_address.get_mut(address) else { continue };
            // More may run since a reload.
            of_address.begin_waiting(self.most_handshakes);
            let stalled = of_address.running.iter().filter(|(_, since)| since.elapsed() >= self.patience);
            overdue.extend(stalled.take(of_address.waiting.len()).map(|(age, _)| (*age, *address)));
        }
        self.waiting.retain(|address| {
            self.by_address.get(address).is_some_and(|of_address| !of_address.waiting.is_empty())
        });
        let evict = |(age, address)| Some(Evicted { beyond: Some(address), ..self.evict(age)? });
        overdue.into_iter().filter_map(evict).collect()
    }
}
