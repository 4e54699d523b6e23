//! What requests see: [`GatewayState`] outlives reloads, [`Live`] is built from one config and never changes.

mod live;
mod password;
pub mod recheck;
mod rechecks;
mod stranger_turns;
mod worker;

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Semaphore, watch};

use self::rechecks::Rechecks;
pub use self::{
    live::{CallerEntry, CountedCredential, Live, LoginUser, TokenSource},
    worker::{Evictable, Worker},
};
use crate::{
    config::Limits,
    credentials::Vault,
    downstream::slots::Connections,
    error::{Error, ErrorKind},
    identity::{
        Principal,
        login::{Logins, fingerprint::Fingerprint, grant_id::GrantId},
    },
    ledger::{Capacity, Ledger, Resource},
    memory::Memory,
    oauth::{Clients, NotAClient},
    observe::Observer,
    servers::{EndCause, ServerEntry},
    session::Registry,
};

/// Connections beyond the limit that are accepted, so that a health check is answered while every place is taken.
pub const SPARE_CONNECTIONS: usize = 32;

/// Requests by decoys, and sessions of theirs, that there are at a time.
pub const MOST_DECOYS: usize = 16;

/// What outlives a reload.
pub struct GatewayState {
    live: ArcSwap<Live>,
    /// Log and counters.
    pub observer: Arc<Observer>,
    /// Sessions that the gateway keeps.
    pub sessions: Registry,
    /// Logins of users.
    pub logins: Arc<Logins>,
    /// Credentials for servers.
    pub credentials: Arc<Vault>,
    /// Clients of the gateway as an authorization server.
    pub clients: Clients,
    /// Whom the identity provider is being asked about.
    pub rechecks: Rechecks,
    /// Who has how much of what the gateway has.
    pub ledger: Arc<Ledger>,
    /// What was in use, so that memory is given back.
    pub memory: Memory,
    /// Client connections of the public listeners.
    pub connections: Arc<Connections>,
    /// Places for what decoys have at a time.
    pub decoys: Arc<Semaphore>,
    phase: AtomicU8,
    /// The generation of what is admitted: one more with each change.
    changes: watch::Sender<u64>,
    /// Counts requests that lost what had admitted them.
    revoked: AtomicU64,
}

impl GatewayState {
    /// State of a gateway that starts with `live`.
    pub fn new(live: Live, ledger: Arc<Ledger>, observer: Arc<Observer>) -> Self {
        let Limits { max_connections, per_address, .. } = *live.limits;
        observer.metrics.cimd_reasons(NotAClient::names());
        Self {
            observer,
            sessions: Registry::default(),
            logins: Arc::clone(&live.logins),
            changes: live.vault.changes().clone(),
            credentials: Arc::clone(&live.vault),
            live: ArcSwap::from_pointee(live),
            clients: Clients::default(),
            rechecks: Rechecks::default(),
            ledger,
            memory: Memory::default(),
            connections: Connections::new(max_connections, SPARE_CONNECTIONS, per_address),
            decoys: Arc::new(Semaphore::new(MOST_DECOYS)),
            phase: AtomicU8::new(Phase::Serves as u8),
            revoked: AtomicU64::default(),
        }
    }

    /// What is admitted has changed: workers end what is not any more. Returns the generation that begins.
    pub fn note_change(&self) -> u64 {
        let mut generation = 0;
        self.changes.send_modify(|changes| {
            *changes += 1;
            generation = *changes;
        });
        generation
    }

    /// Fails if `live` is the config in force no more: for a request that is decided by it to its end, and whose credential took time to
    /// check. A reload ends only what is admitted, so what it took away meanwhile was not taken from this request.
    pub fn is_in_force(&self, live: &Arc<Live>) -> Result<(), Error> {
        match Arc::ptr_eq(live, &self.live()) {
            true => Ok(()),
            false => {
                Err(ErrorKind::Unavailable.with_cause("the config changed while the credential was checked"))
            }
        }
    }

    /// Whether a grant that has begun a moment ago is good. A reload puts its config in force, and then ends the grants that it does not
    /// keep. Either it ends this one, which was there, or its config is in force by now, and it is ended here. `has_ended_another`:
    /// whether one gave way to it.
    pub fn keeps_begun(
        &self,
        grant: GrantId,
        principal: &Principal,
        fingerprint: Fingerprint,
        has_ended_another: bool,
    ) -> bool {
        let is_kept = self.live().has_principal(principal, fingerprint);
        if let Some(grants) = self.logins.grants().filter(|_| !is_kept) {
            grants.withdraw(grant);
        }
        if has_ended_another || !is_kept {
            self.note_change();
        }
        is_kept
    }

    /// Ends what was begun with a server, but for requests that pass byte for byte: workers end those once the change is noted.
    pub fn end_server(&self, entry: &ServerEntry, cause: EndCause<'_>) {
        entry.end(cause, || self.sessions.close(&entry.server.name));
    }

    /// The generation of what is admitted.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Requests that lost what had admitted them, streams among them.
    pub fn revoked(&self) -> u64 {
        self.revoked.load(Ordering::Relaxed)
    }

    /// So many more did.
    pub fn count_revoked(&self, requests: u64) {
        self.revoked.fetch_add(requests, Ordering::Relaxed);
    }

    /// The config of this moment. Hold it for as long as decisions must agree, not across a wait.
    pub fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// Makes `live` the config of every request that begins from now on.
    pub fn swap(&self, live: Arc<Live>) {
        let limits = &live.limits;
        self.ledger.set_capacities(|resource| capacity(limits, resource));
        self.connections.set_limits(limits.max_connections, limits.per_address);
        self.live.store(live);
    }

    /// Whether balancers may send new clients.
    pub fn is_ready(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Serves as u8
    }

    /// Whether the gateway finishes what runs, and begins nothing.
    pub fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Drains as u8
    }

    /// Everything is served as before, and [`Self::is_ready`] says no.
    pub fn leave(&self) {
        self.phase.store(Phase::Leaves as u8, Ordering::Relaxed);
    }

    /// Nothing new is taken from now on.
    pub fn drain(&self) {
        self.phase.store(Phase::Drains as u8, Ordering::Relaxed);
    }
}

/// How near its end a gateway is.
enum Phase {
    Serves,
    Leaves,
    Drains,
}

/// How much of `resource` the limits allow.
pub fn capacity(limits: &Limits, resource: Resource) -> Capacity {
    let each = &limits.per_caller;
    let (total, per_owner) = match resource {
        Resource::Connections => (limits.max_connections as u64, each.connections),
        Resource::Sessions => (limits.max_sessions, each.sessions),
        Resource::Processes => (limits.max_processes, each.processes),
        Resource::Requests => (limits.max_requests, each.requests),
        Resource::Bytes => (limits.max_held_bytes, each.held_bytes),
        // Apart from each other: a stream that stays must not take the place of a call, nor a call that of the answer on
        // which it depends.
        Resource::ServerCalls => (limits.max_server_connections / 2, each.requests),
        Resource::ServerStreams | Resource::ServerNotices => {
            (limits.max_server_connections / 4, each.requests)
        }
    };
    Capacity { total, per_owner }
}
