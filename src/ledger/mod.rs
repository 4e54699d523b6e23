//! Who has how much of what the gateway has to give.
//!
//! Whatever a caller can make the gateway keep (a connection, a session, a process, a request, bytes in memory) is
//! counted for an [`Owner`]: the name of a token, or the address of a caller that needs none. What an owner may have
//! depends on what others need (`rule`), so no owner is refused because another one is greedy. Every count is a guard
//! ([`Share`]): it ends with the thing that it counts.
//!
//! Nothing here is locked on the way of a request: counters are atomic, and the look-up of an owner happens once per
//! connection or reload.

mod address;
mod pending;
mod rate;
mod room;
mod rule;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;

pub use self::{
    address::AddressBlock,
    pending::{Pending, PendingTable},
    rate::{Rate, RateKey, RateMeter},
    room::ByteRoom,
    rule::Limit,
};

/// How long an owner counts as active after it was last admitted.
const ACTIVE: u32 = 5 * 60;
/// Addresses that are remembered at most. Beyond that, those that hold nothing are forgotten early.
const MOST_ADDRESSES: usize = 65_536;
/// What an owner may have of the bytes that are kept for others, however many share them: a message of the usual size.
const LEAST_BYTES: u64 = 64 * 1024;
/// What the gateway itself may have of bytes at least, beside what callers have: a few messages of the largest kind.
const LEAST_OF_GATEWAY: u64 = 8 * 1024 * 1024;
/// [`Owner::last_active`] of an owner that was never active.
const NEVER: u32 = u32::MAX;

/// What there is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Client connections with an admitted request.
    Connections,
    /// Sessions that the gateway keeps, and views of all servers as one.
    Sessions,
    /// Processes of command servers and inline tools.
    Processes,
    /// Admitted requests that run, streams included.
    Requests,
    /// Bytes of messages and events that wait in memory.
    Bytes,
    /// Connections to servers on which sessions wait for the answers to their requests.
    ServerCalls,
    /// Connections to servers on which sessions listen.
    ServerStreams,
    /// Connections to servers on which sessions send what has no answer.
    ServerNotices,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Sessions,
        Self::Processes,
        Self::Requests,
        Self::Bytes,
        Self::ServerCalls,
        Self::ServerStreams,
        Self::ServerNotices,
    ];

    /// As the log and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sessions => "sessions",
            Self::Processes => "processes",
            Self::Requests => "requests",
            Self::Bytes => "held_bytes",
            Self::ServerCalls => "server_calls",
            Self::ServerStreams => "server_streams",
            Self::ServerNotices => "server_notices",
        }
    }
}

/// A number for each [`Resource`].
type PerResource = [AtomicU64; Resource::ALL.len()];

/// How much of a resource there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// In all.
    pub total: u64,
    /// For one owner, whatever is free; 0 is no such limit.
    pub per_owner: u64,
}

/// Who has something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnerName {
    /// The callers of one token.
    Token(Arc<str>),
    /// One user.
    User(Arc<str>),
    /// The callers of one tenant.
    Tenant(Arc<str>),
    /// A client of OAuth, for itself.
    Client(Arc<str>),
    /// Somebody of an issuer.
    Foreign(Arc<str>),
    /// Somebody of the identity provider.
    Idp(Arc<str>),
    /// Whoever uses the decoys of one token or tenant.
    Decoy(Arc<str>),
    /// Callers without a token, by their address.
    Address(AddressBlock),
    /// The gateway itself, for what callers share.
    Gateway,
}

/// What all workers write with each request, in cache lines of its own: what they only read would move between their caches
/// with it.
#[derive(Default)]
#[repr(align(128))]
struct Used(PerResource);

/// Counts of all owners.
#[derive(Default)]
struct Totals {
    used: Used,
    capacity: PerResource,
    per_owner: PerResource,
    /// Owners that were active lately, and those of them that are no address.
    active: AtomicU64,
    active_named: AtomicU64,
    /// Whether there ever was one that is no address.
    has_names: AtomicBool,
    /// Seconds since the gateway began, as of the last tick.
    now: AtomicU32,
}

/// One owner and what it has.
pub struct Owner {
    name: OwnerName,
    totals: Arc<Totals>,
    used: PerResource,
    /// As [`Totals::now`] was.
    last_active: AtomicU32,
    /// When a reader of it last gave up its message.
    gave_up: Mutex<Option<tokio::time::Instant>>,
    /// How often its requests come.
    pub request_rate: RateMeter,
    /// How often its credentials are not good.
    pub failure_rate: RateMeter,
}

/// All owners.
pub struct Ledger {
    totals: Arc<Totals>,
    owners: Mutex<HashMap<OwnerName, Arc<Owner>>>,
    gateway: Arc<Owner>,
    began: Instant,
}

/// Bytes and what counts them.
struct Counted {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Some of a resource, which its owner has until this is dropped.
#[derive(Debug)]
pub struct Share {
    owner: Arc<Owner>,
    resource: Resource,
    amount: u64,
}

impl Ledger {
    /// A ledger without any shares.
    pub fn new(capacities: impl Fn(Resource) -> Capacity) -> Self {
        let totals = Arc::default();
        let gateway = Owner::new(OwnerName::Gateway, &totals);
        let ledger = Self { totals, owners: Mutex::default(), gateway, began: Instant::now() };
        ledger.set_capacities(capacities);
        ledger
    }

    /// Changes how much there is. What owners have beyond it stays theirs.
    pub fn set_capacities(&self, capacities: impl Fn(Resource) -> Capacity) {
        for resource in Resource::ALL {
            let Capacity { total, per_owner } = capacities(resource);
            self.totals.capacity[resource as usize].store(total, Relaxed);
            self.totals.per_owner[resource as usize].store(per_owner, Relaxed);
        }
    }

    /// How much of a resource there is, and how much is used.
    pub fn usage(&self, resource: Resource) -> (u64, u64) {
        let at = resource as usize;
        (self.totals.capacity[at].load(Relaxed), self.totals.used.0[at].load(Relaxed))
    }

    /// The owner of this name.
    pub fn owner(&self, name: OwnerName) -> Arc<Owner> {
        if name == OwnerName::Gateway {
            return Arc::clone(&self.gateway);
        }
        let mut owners = self.owners.lock();
        if let Some(owner) = owners.get(&name) {
            return Arc::clone(owner);
        }
        if owners.len() >= MOST_ADDRESSES {
            let now = self.now();
            owners.retain(|_, owner| Arc::strong_count(owner) > 1 || owner.is_metered(now));
            // Few may be left to forget: not for each that comes is all of it looked at.
            if owners.len() > MOST_ADDRESSES / 4 * 3 {
                owners.retain(|_, owner| Arc::strong_count(owner) > 1);
            }
        }
        if let OwnerName::Token(_)
        | OwnerName::User(_)
        | OwnerName::Tenant(_)
        | OwnerName::Client(_)
        | OwnerName::Foreign(_)
        | OwnerName::Idp(_) = name
        {
            self.totals.has_names.store(true, Relaxed);
        }
        let owner = Owner::new(name.clone(), &self.totals);
        owners.insert(name, Arc::clone(&owner));
        owner
    }

    /// The gateway itself, and others: so many at most.
    pub fn owners(&self, most: usize) -> Vec<Arc<Owner>> {
        let owners = self.owners.lock();
        [&self.gateway].into_iter().chain(owners.values()).take(most).cloned().collect()
    }

    /// The gateway itself, which owns what callers share.
    pub fn gateway(&self) -> &Arc<Owner> {
        &self.gateway
    }

    /// The time of its meters.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets time pass. Call it about once a second.
    pub fn tick(&self, now: Instant) {
        /// Ticks between two counts of who is active.
        const COUNT_EVERY: u64 = 10;
        let seconds = now.saturating_duration_since(self.began).as_secs();
        let before = self.totals.now.swap(u32::try_from(seconds).unwrap_or(NEVER - 1), Relaxed);
        if seconds / COUNT_EVERY != u64::from(before) / COUNT_EVERY {
            self.count_active();
        }
    }

    /// Forgets owners that have nothing and were not active lately, and counts the others.
    fn count_active(&self) {
        let before = [&self.totals.active, &self.totals.active_named].map(|count| count.load(Relaxed));
        let (mut active, mut named, now) = (0_u64, 0_u64, self.now());
        self.owners.lock().retain(|name, owner| {
            let is_active = owner.is_active();
            active += u64::from(is_active);
            named += u64::from(is_active && !matches!(name, OwnerName::Address(_)));
            is_active || Arc::strong_count(owner) > 1 || owner.is_metered(now)
        });
        // Who became active meanwhile counts, too; one that counts twice for a moment takes nothing from the others.
        self.totals.active.fetch_add(active.wrapping_sub(before[0]), Relaxed);
        self.totals.active_named.fetch_add(named.wrapping_sub(before[1]), Relaxed);
    }
}

impl Owner {
    /// One in a ledger of its own, without limits.
    pub fn unlimited() -> Arc<Self> {
        let any = Capacity { total: u64::MAX, per_owner: 0 };
        Arc::clone(Ledger::new(|_| any).gateway())
    }

    fn new(name: OwnerName, totals: &Arc<Totals>) -> Arc<Self> {
        let (totals, used) = (Arc::clone(totals), PerResource::default());
        let last_active = AtomicU32::new(NEVER);
        Arc::new(Self {
            name,
            totals,
            used,
            last_active,
            gave_up: Mutex::default(),
            request_rate: RateMeter::default(),
            failure_rate: RateMeter::default(),
        })
    }

    /// Who it is.
    pub fn name(&self) -> &OwnerName {
        &self.name
    }

    /// How much it has.
    pub fn used(&self, resource: Resource) -> u64 {
        self.used[resource as usize].load(Relaxed)
    }

    /// Notes that a request of the owner was admitted: what is free is shared with it from now on.
    pub fn note_active(&self) {
        let (now, last) = (self.totals.now.load(Relaxed), self.last_active.load(Relaxed));
        if last == now || self.name == OwnerName::Gateway {
            return;
        }
        let was_active = is_lately(last, now);
        // Of several workers that note it at once, one counts.
        if self.last_active.compare_exchange(last, now, Relaxed, Relaxed).is_ok() && !was_active {
            self.totals.active.fetch_add(1, Relaxed);
            if !self.is_address() {
                self.totals.active_named.fetch_add(1, Relaxed);
            }
        }
    }

    fn is_active(&self) -> bool {
        is_lately(self.last_active.load(Relaxed), self.totals.now.load(Relaxed))
    }

    /// Whether it is a caller without a credential.
    pub fn is_address(&self) -> bool {
        matches!(self.name, OwnerName::Address(_))
    }

    fn is_metered(&self, now: Duration) -> bool {
        !self.request_rate.is_over(now) || !self.failure_rate.is_over(now)
    }

    /// One more of `resource`, if the owner may have it.
    pub fn take(self: &Arc<Self>, resource: Resource) -> Result<Share, Limit> {
        self.take_some(resource, 1)
    }

    /// So many of `resource`, if the owner may have them.
    ///
    /// Judged before it is counted: what is refused takes nothing from other owners, not even for a moment.
    pub fn take_some(self: &Arc<Self>, resource: Resource, amount: u64) -> Result<Share, Limit> {
        let at = resource as usize;
        let (own, all) = (&self.used[at], &self.totals.used.0[at]);
        let mine = add_if(own, amount, |mine| self.decide(resource, amount, all.load(Relaxed), mine))?;
        if let Err(limit) = add_if(all, amount, |used| self.decide(resource, amount, used, mine)) {
            own.fetch_sub(amount, Relaxed);
            return Err(limit);
        }
        Ok(Share { owner: Arc::clone(self), resource, amount })
    }

    /// Whether the owner may have one more of what is there `capacity` times in some place that callers share, where all have
    /// `used` of it and the owner `mine`. The rule is that of all resources.
    pub fn may_have(&self, capacity: usize, used: usize, mine: usize) -> Result<(), Limit> {
        let [capacity, used, mine] =
            [capacity, used, mine].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        rule::decide(self.among_others(rule::Claim {
            capacity,
            used,
            mine,
            amount: 1,
            ..rule::Claim::NOTHING
        }))
    }

    /// Whether others have been active lately.
    pub fn has_others(&self) -> bool {
        self.among_others(rule::Claim::NOTHING).others > 0
    }

    /// Some of `resource`, whether or not the owner may have it: for what exists already.
    pub fn hold(self: &Arc<Self>, resource: Resource, amount: u64) -> Share {
        let mut share = Share { owner: Arc::clone(self), resource, amount: 0 };
        share.set(amount);
        share
    }

    /// Whether the owner may have a byte more.
    pub fn has_room(&self) -> Result<(), Limit> {
        let (used, mine) = self.counted(Resource::Bytes);
        self.decide(Resource::Bytes, 1, used, mine)
    }

    /// Whether the owner may have bytes that it can do without: half of what it may have in all.
    pub fn has_room_to_spare(&self) -> bool {
        let (used, mine) = self.counted(Resource::Bytes);
        self.decide(Resource::Bytes, 1, used.saturating_mul(2), mine.saturating_mul(2)).is_ok()
    }

    /// What all have of it, and what this owner has.
    fn counted(&self, resource: Resource) -> (u64, u64) {
        let at = resource as usize;
        (self.totals.used.0[at].load(Relaxed), self.used[at].load(Relaxed))
    }

    /// Whether the owner may have `amount` more where all have `used` and it has `mine`.
    fn decide(&self, resource: Resource, amount: u64, used: u64, mine: u64) -> Result<(), Limit> {
        let (at, totals) = (resource as usize, &*self.totals);
        let is_gateway = self.name == OwnerName::Gateway;
        let capacity = totals.capacity[at].load(Relaxed);
        let (capacity, used) = match resource {
            // What is read where callers share something is on its way to one of them, who is asked then. Until then it is not
            // kept from anybody by what one of them has; it has a part of its own.
            Resource::Bytes if is_gateway => ((capacity / 4).max(LEAST_OF_GATEWAY), mine),
            _ => (capacity, used),
        };
        rule::decide(self.among_others(rule::Claim {
            capacity,
            own_limit: if is_gateway { 0 } else { totals.per_owner[at].load(Relaxed) },
            used,
            mine,
            amount,
            least: if resource == Resource::Bytes { LEAST_BYTES } else { 1 },
            ..rule::Claim::NOTHING
        }))
    }

    /// What is asked for, with what is known of who asks for it and who else there is.
    fn among_others(&self, ask: rule::Claim) -> rule::Claim {
        let (is_gateway, is_address) = (self.name == OwnerName::Gateway, self.is_address());
        let own = u64::from(!is_gateway && self.is_active());
        let others = self.totals.active.load(Relaxed).saturating_sub(own);
        let named = self.totals.active_named.load(Relaxed).saturating_sub(if is_address { 0 } else { own });
        rule::Claim {
            // The gateway has what others share, so nothing is kept from it.
            others: if is_gateway { 0 } else { others },
            others_named: named,
            is_address,
            has_names: self.totals.has_names.load(Relaxed),
            ..ask
        }
    }
}

/// Adds `amount` to a counter if that is allowed for what it holds, which is returned.
fn add_if(counter: &AtomicU64, amount: u64, decide: impl Fn(u64) -> Result<(), Limit>) -> Result<u64, Limit> {
    let mut held = counter.load(Relaxed);
    loop {
        decide(held)?;
        match counter.compare_exchange_weak(held, held.wrapping_add(amount), Relaxed, Relaxed) {
            Ok(_) => return Ok(held),
            Err(now) => held = now,
        }
    }
}

fn is_lately(last_active: u32, now: u32) -> bool {
    last_active != NEVER && now.saturating_sub(last_active) <= ACTIVE
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Share {
    /// `bytes`, which are counted as long as any part of them is in memory.
    pub fn of_bytes(share: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _share: Arc::clone(share) })
    }

    /// Whose it is.
    pub fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Counts it for another owner from now on, if that one may have it. What all have stays as it is, at every moment: who
    /// looks meanwhile sees it neither twice nor not at all.
    pub fn pass_to(&mut self, owner: &Arc<Owner>) -> Result<(), Limit> {
        if !Arc::ptr_eq(&self.owner.totals, &owner.totals) {
            // Another ledger, which has to count it as well.
            *self = owner.take_some(self.resource, self.amount)?;
        } else if !Arc::ptr_eq(&self.owner, owner) {
            let (used, mine) = owner.counted(self.resource);
            owner.decide(self.resource, self.amount, used.saturating_sub(self.amount), mine)?;
            let at = self.resource as usize;
            owner.used[at].fetch_add(self.amount, Relaxed);
            self.owner.used[at].fetch_sub(self.amount, Relaxed);
            self.owner = Arc::clone(owner);
        }
        Ok(())
    }

    /// Counts `amount` more, whether or not the owner may have it.
    pub fn grow(&mut self, amount: u64) {
        self.set(self.amount + amount);
    }

    /// Counts `amount` from now on, whether or not the owner may have it.
    pub fn set(&mut self, amount: u64) {
        // All workers write these counters, so what changes nothing is not worth a cache line.
        if amount == self.amount {
            return;
        }
        let at = self.resource as usize;
        // Wraps around for less, and so subtracts.
        let more = amount.wrapping_sub(self.amount);
        self.owner.totals.used.0[at].fetch_add(more, Relaxed);
        self.owner.used[at].fetch_add(more, Relaxed);
        self.amount = amount;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests;
