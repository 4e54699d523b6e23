//! What the gateway waits for on behalf of callers that nobody knows: bodies of logins that are not here yet, documents that
//! strangers name.
//!
//! Whoever waits costs little, so anybody can be many. There is a bounded number of places, of one address and in all, and a
//! newcomer always gets one: the place of one that waits for long, of the address that has most. So what does not end keeps nobody
//! out, and an address that begins many drives out its own.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::AddressBlock;

/// All that wait for something of one kind.
pub struct PendingTable {
    most: usize,
    of_one_address: usize,
    places: Arc<Mutex<Places>>,
}

#[derive(Default)]
struct Places {
    /// The oldest first.
    taken: VecDeque<Taken>,
    next: u64,
}

struct Taken {
    id: u64,
    address: AddressBlock,
    /// Dropped, so that the one that has the place sees that another has it.
    _ends: oneshot::Sender<()>,
}

/// The place of one, until it is dropped.
pub struct Pending {
    of: Arc<Mutex<Places>>,
    id: u64,
    ended: oneshot::Receiver<()>,
}

impl PendingTable {
    /// One with so many places, and so many of one address.
    pub fn new(most: usize, of_one_address: usize) -> Self {
        Self { most, of_one_address, places: Arc::default() }
    }

    /// A place for one that comes from this address.
    pub fn begin(&self, address: AddressBlock) -> Pending {
        let (ends, ended) = oneshot::channel();
        let mut places = self.places.lock();
        let taken = &mut places.taken;
        let of_address = taken.iter().filter(|taken| taken.address == address).count();
        let gives_way = if of_address >= self.of_one_address {
            Some(address)
        } else if taken.len() >= self.most {
            Some(AddressBlock::gives_way(taken.iter().map(|taken| taken.address), address))
        } else {
            None
        };
        let oldest = gives_way.and_then(|of| taken.iter().position(|taken| taken.address == of));
        if let Some(oldest) = oldest {
            taken.remove(oldest);
        }
        let id = places.next;
        places.next += 1;
        places.taken.push_back(Taken { id, address, _ends: ends });
        Pending { of: Arc::clone(&self.places), id, ended }
    }

    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.places.lock().taken.len()
    }
}

impl Pending {
    /// What comes of `waiting`; `None` if another got the place before.
    pub async fn during<T>(mut self, waiting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = waiting => Some(done),
            _ = &mut self.ended => None,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let taken = &mut self.of.lock().taken;
        if let Ok(at) = taken.binary_search_by_key(&self.id, |taken| taken.id) {
            taken.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, net::IpAddr};

    use super::*;

    const MOST: usize = 256;
    const OF_ONE_ADDRESS: usize = 16;

    fn table() -> PendingTable {
        PendingTable::new(MOST, OF_ONE_ADDRESS)
    }

    fn address(network: u8, last: u8) -> AddressBlock {
        IpAddr::from([192, 0, network, last]).into()
    }

    /// Whether it still has its place.
    fn has_place(place: &mut Pending) -> bool {
        place.ended.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[tokio::test]
    async fn an_address_that_begins_many_drives_out_its_own() {
        let pending = table();
        let mut other = pending.begin(address(2, 1));
        let mut many: Vec<_> = (0..OF_ONE_ADDRESS + 2).map(|_| pending.begin(address(1, 1))).collect();
        assert_eq!(many.remove(0).during(std::future::pending::<()>()).await, None);
        let have_places: Vec<_> = many.iter_mut().map(has_place).collect();
        assert_eq!(have_places, [&[false][..], &[true; OF_ONE_ADDRESS]].concat());
        assert!(has_place(&mut other));
        assert_eq!(many.pop().unwrap().during(ready(7)).await, Some(7));
        drop(many);
        assert_eq!(pending.count(), 1);
    }

    #[test]
    fn where_all_places_are_taken_a_network_of_many_addresses_gives_way_to_any_other() {
        let pending = table();
        let mut crowd: Vec<_> = (0..=255).map(|last| pending.begin(address(1, last))).collect();
        assert_eq!((crowd.len(), pending.count()), (MOST, MOST));
        let mut others: Vec<_> = (2..10).map(|network| pending.begin(address(network, 1))).collect();
        crowd.extend((0..=255).map(|last| pending.begin(address(1, last))));
        assert!(others.iter_mut().all(has_place), "and comes back in vain");
        assert_eq!(crowd.iter_mut().filter_map(|place| has_place(place).then_some(())).count(), MOST - 8);
        assert_eq!(pending.count(), MOST);
    }

    #[test]
    fn where_nobody_has_more_than_others_any_one_gives_way_and_who_waits_is_not_driven_out_by_order() {
        let pending = table();
        let mut before: Vec<_> = (0..=255).map(|network| pending.begin(address(network, 1))).collect();
        let mut newcomers = Vec::new();
        for number in 0..=255 {
            let mut newcomer = pending.begin(IpAddr::from([198, number, 100, 1]).into());
            assert!(has_place(&mut newcomer), "each finds room");
            newcomers.push(newcomer);
        }
        assert_eq!(pending.count(), MOST);
        // As many as there are places have come since, and a good part of those that waited has its place.
        let left = before.iter_mut().filter_map(|place| has_place(place).then_some(())).count();
        assert!((30..200).contains(&left), "{left}");
    }
}
