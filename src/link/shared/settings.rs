//! How a shared server is kept, and what it costs.

use std::{rc::Rc, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{suspects::Involvement, table};
use crate::ledger::{Owner, OwnerName, Share};

/// Is given who may have ended a server; gives who is not to go on there.
pub type OnLost = Rc<dyn Fn(&[(OwnerName, Involvement)]) -> Vec<OwnerName>>;

/// How a shared server is kept.
pub struct SharedLinkSettings {
    /// How long it stays open without a request in flight.
    pub idle: Duration,
    /// How many requests of all callers it may have in flight.
    pub requests: usize,
    /// What it costs its owner, if it has one. It ends for good then, once it is idle and nobody is attached.
    pub lease: Lease,
    /// Learns who may have ended the server when that ended by itself; says who is not to go on here.
    pub on_lost: OnLost,
}

impl SharedLinkSettings {
    /// For a server without an owner, whose ends are not reported.
    pub fn new(idle: Duration) -> Self {
        Self { idle, requests: table::REQUESTS, lease: Lease::default(), on_lost: Rc::new(|_| Vec::new()) }
    }
}

/// What a shared server costs its owner. It can be taken away where the place is needed for another.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<Mutex<Option<Share>>>);

impl Lease {
    /// A lease that is paid for by `share`.
    pub fn new(share: Share) -> Self {
        Self(Arc::new(Mutex::new(Some(share))))
    }

    /// Who pays.
    pub fn owner(&self) -> Option<Arc<Owner>> {
        self.0.lock().as_ref().map(|share| Arc::clone(share.owner()))
    }

    /// Ends the lease.
    pub fn end(&self) {
        self.0.lock().take();
    }
}
