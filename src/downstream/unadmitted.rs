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
    /// TLS handshakes of one address that may have a turn at once.
    pub(super) most_handshakes: usize,
    /// How long a handshake keeps its turn while others of its address wait.
    pub(super) patience: Duration,
    /// The oldest first.
    pub(super) by_age: BTreeMap<Age, Stranger>,
    pub(super) by_address: HashMap<AddressBlock, OfAddress>,
    /// Addresses by how many they have.
    pub(super) by_count: BTreeSet<(usize, AddressBlock)>,
    /// Those of them of which handshakes wait.
    waiting: HashSet<AddressBlock>,
}

/// Those of one address. Each is in one of these.
#[derive(Default)]
pub(super) struct OfAddress {
    /// Those of which no whole ClientHello has come, and all of a listener without TLS.
    silent: BTreeSet<Age>,
    /// Those whose ClientHello is here, and waits until its handshake has a turn.
    waiting: BTreeMap<Age, oneshot::Sender<()>>,
    /// Those whose handshakes have a turn, and since when.
    running: BTreeMap<Age, Instant>,
    /// Those that had one: the handshake takes long, or is over and the first request is still to come.
    past: BTreeSet<Age>,
    /// Whether the next turn is the newest's.
    newest_is_next: bool,
}

impl OfAddress {
    fn count(&self) -> usize {
        self.silent.len() + self.waiting.len() + self.running.len() + self.past.len()
    }

    /// The oldest of those of which there are most, so that a flood of one kind ends its own. The less came of a connection, the
    /// more it counts. One that has a turn goes only if there is no other.
    fn first_to_go(&self) -> Option<Age> {
        let (_, oldest) = [
            (self.past.len(), self.past.first()),
            (2 * self.waiting.len(), self.waiting.first_key_value().map(|(age, _)| age)),
            (4 * self.silent.len(), self.silent.first()),
        ]
        .into_iter()
        .max_by_key(|(weight, _)| *weight)?;
        oldest.or_else(|| self.running.first_key_value().map(|(age, _)| age)).copied()
    }

    fn remove(&mut self, age: Age) {
        let _ = self.silent.remove(&age)
            || self.waiting.remove(&age).is_some()
            || self.running.remove(&age).is_some()
            || self.past.remove(&age);
    }

    /// Gives turns to handshakes that wait, as many as may have one: to the oldest and to the newest alternately. If more come
    /// than have turns, the oldest have waited for so long that their clients are about to give up.
    fn give_turns(&mut self, most: usize) {
        while self.running.len() < most
            && let Some((age, turn)) =
                if self.newest_is_next { self.waiting.pop_last() } else { self.waiting.pop_first() }
        {
            self.newest_is_next = !self.newest_is_next;
            self.running.insert(age, Instant::now());
            // One that is about to leave makes room for the next when it does.
            let _ = turn.send(());
        }
    }

    /// Takes the turns of handshakes that have had theirs for so long, of as many as wait. They go on without.
    fn end_turns(&mut self, patience: Duration) {
        let mut needed = self.waiting.len();
        self.running.retain(|age, since| {
            let ends = needed > 0 && since.elapsed() >= patience;
            if ends {
                needed -= 1;
                self.past.insert(*age);
            }
            !ends
        });
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

    /// Adds a connection; `has_shaken_hands` if its TLS handshake is over.
    pub(super) fn insert(&mut self, age: Age, stranger: Stranger, has_shaken_hands: bool) {
        self.by_age.insert(age, stranger);
        let Some(address) = stranger.address else { return };
        let of_address = self.by_address.entry(address).or_default();
        self.by_count.remove(&(of_address.count(), address));
        if has_shaken_hands { &mut of_address.past } else { &mut of_address.silent }.insert(age);
        self.by_count.insert((of_address.count(), address));
    }

    /// Removes a connection, if it is here. If its handshake had a turn, another has it.
    pub(super) fn remove(&mut self, age: Age) -> Option<Stranger> {
        let stranger = self.by_age.remove(&age)?;
        if let Some(address) = stranger.address
            && let Some(of_address) = self.by_address.get_mut(&address)
        {
            self.by_count.remove(&(of_address.count(), address));
            of_address.remove(age);
            of_address.give_turns(self.most_handshakes);
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

    /// If there are `most` of `address`, takes out the first to go.
    pub(super) fn evict_beyond(&mut self, most: usize, address: Option<AddressBlock>) -> Option<Evicted> {
        let of_address = self.by_address.get(&address?).filter(|of_address| of_address.count() >= most)?;
        let goes = of_address.first_to_go()?;
        Some(Evicted { beyond: address, ..self.evict(goes)? })
    }

    /// Takes out the first to go of the address that has most, so that who opens one after the other drives out its own; the
    /// oldest of all, where no address has more than one.
    pub(super) fn evict_first(&mut self) -> Option<Evicted> {
        let heaviest = self.by_count.last().filter(|(count, _)| *count > 1);
        let of_heaviest = heaviest.and_then(|(_, address)| self.by_address.get(address)?.first_to_go());
        let goes = of_heaviest.or_else(|| self.by_age.first_key_value().map(|(age, _)| *age))?;
        self.evict(goes)
    }

    /// The ClientHello of a connection is here. If as many handshakes of its address have turns as may, it waits for what is
    /// returned.
    pub(super) fn begin_handshake(
        &mut self,
        age: Age,
        address: AddressBlock,
    ) -> Option<oneshot::Receiver<()>> {
        let (turn, waits) = oneshot::channel();
        if let Some(of_address) = self.by_address.get_mut(&address)
            // One that has to go already waits for that.
            && of_address.silent.remove(&age)
        {
            if of_address.waiting.is_empty() && of_address.running.len() < self.most_handshakes {
                of_address.running.insert(age, Instant::now());
                return None;
            }
            of_address.waiting.insert(age, turn);
            self.waiting.insert(address);
        }
        Some(waits)
    }

    /// Where handshakes wait, has them take the place of those that have had their turn for long enough. For each tick.
    pub(super) fn pass_turns(&mut self) {
        self.waiting.retain(|address| {
            self.by_address.get_mut(address).is_some_and(|of_address| {
                // More may run since a reload.
                of_address.give_turns(self.most_handshakes);
                of_address.end_turns(self.patience);
                of_address.give_turns(self.most_handshakes);
                !of_address.waiting.is_empty()
            })
        });
    }
}
