//! What all servers' credentials share: where they are kept, what is known of them, who is asked for them, and who is being asked.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{sync::watch, task::spawn_local, time::timeout};

use super::{
    known::{Known, Place},
    oauth::Outgoing,
    ready::{Missing, NotReady, ReadyCredential},
};
use crate::{
    clock::Clock,
    config::Level,
    identity::login::{
        Logins,
        upstream::{UpstreamOwner, Upstreams},
    },
    observe::{Group, Observer, Topic},
    upstream::internet::Internet,
};

/// How long somebody waits for a credential.
const PATIENCE: Duration = Duration::from_secs(12);

/// What comes of getting a credential.
pub(super) type Outcome = Result<Arc<ReadyCredential>, NotReady>;
/// A credential on its way.
pub(super) type Flying = watch::Receiver<Option<Outcome>>;

/// What all servers' credentials share. There is one, which outlives reloads.
pub struct Vault {
    pub(super) logins: Arc<Logins>,
    outgoing: ArcSwap<Outgoing>,
    pub(super) observer: Arc<Observer>,
    pub(super) clock: Arc<Clock>,
    pub(super) known: Known,
    /// Those that are being got. Who asks for the same waits for the same.
    flights: Mutex<HashMap<Place, Flying>>,
    /// How many tasks are at it that a stop waits for.
    running: watch::Sender<usize>,
    /// The generation of what is admitted, which is the gateway's.
    changes: watch::Sender<u64>,
    numbers: AtomicU64,
}

impl Vault {
    /// One whose credentials are kept with `logins`, and end by `clock`.
    pub fn new(logins: &Arc<Logins>, observer: &Arc<Observer>, clock: &Arc<Clock>) -> Self {
        Self {
            logins: Arc::clone(logins),
            outgoing: ArcSwap::from_pointee(Outgoing::new(Arc::clone(clock))),
            observer: Arc::clone(observer),
            clock: Arc::clone(clock),
            known: Known::default(),
            flights: Mutex::default(),
            running: watch::Sender::default(),
            changes: watch::Sender::default(),
            numbers: AtomicU64::default(),
        }
    }

    /// What is told when something changes that admits requests: a credential, or, by the gateway, a config.
    pub fn changes(&self) -> &watch::Sender<u64> {
        &self.changes
    }

    /// What asks authorization servers.
    pub fn outgoing(&self) -> Arc<Outgoing> {
        self.outgoing.load_full()
    }

    /// Has what servers name come from this Internet, and not from the one that there is: for tests.
    pub fn in_internet(&self, internet: Arc<dyn Internet>) {
        self.outgoing.store(Arc::new(Outgoing::in_internet(internet, Arc::clone(&self.clock))));
    }

    /// Where credentials are kept; `None` while logins are not.
    pub fn upstreams(&self) -> Option<&Upstreams> {
        self.logins.upstream()
    }

    /// Resolves once nothing is being got or written: for the end of the gateway. A refresh token that was used must not be lost.
    pub async fn settle(&self) {
        // It cannot be gone, since this has it.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// What runs is to be looked at: a credential by which some of it runs is gone.
    pub(super) fn note_change(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }

    /// A number that no other server of any config has, and no other token that is in memory alone.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    /// As long as the guard lives, [`Self::settle`] waits.
    pub(super) fn run(self: &Arc<Self>) -> Running {
        self.running.send_modify(|running| *running += 1);
        Running(Arc::clone(self))
    }

    /// What comes of getting the credential at `place`, which `fly` does, unless somebody is at it. That is a task of the worker, which
    /// goes on when whoever waited has left: an issuer may give another refresh token each time, and take the one before for stolen.
    pub(super) fn join<F>(self: &Arc<Self>, place: &Place, fly: impl FnOnce() -> F) -> Flying
    where
        F: Future<Output = Outcome> + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flying) = flights.get(place) {
            return flying.clone();
        }
        let (done, flying) = watch::channel(None);
        flights.insert(place.clone(), flying.clone());
        drop(flights);
        let flight = Flight { of: self.run(), place: place.clone() };
        let landing = fly();
        drop(spawn_local(async move {
            let outcome = landing.await;
            // First, so that who looks again begins anew.
            drop(flight);
            done.send_replace(Some(outcome));
        }));
        flying
    }

    /// People have to act before there is a credential. A peer repeats what it does not get.
    pub(super) fn tell_missing(&self, server: &str, owner: &UpstreamOwner, missing: &Missing) {
        self.observer.metrics.upstream_auth(server, "missing");
        if let Some(line) = self.observer.recurring(Topic::MissingCredential(Group::of(server))) {
            line.display("principal", owner).text("server", server).plain("cause", missing.name()).send();
        }
    }

    /// What became of a credential.
    pub(super) fn tell(
        &self,
        told: Told,
        server: &str,
        owner: &UpstreamOwner,
        issuer: Option<&str>,
        cause: Option<&str>,
    ) {
        self.observer.metrics.upstream_auth(server, told.result());
        let (level, msg) = told.line();
        let line = self.observer.log.line(level, msg).display("principal", owner).text("server", server);
        line.opt("issuer", issuer).opt_plain("cause", cause).send();
    }
}

/// What became of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Connected,
    Refreshed,
    Lost,
    Disconnected,
    Failed,
}

impl Told {
    fn result(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refreshed => "refreshed",
            Self::Lost => "lost",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
        }
    }

    fn line(self) -> (Level, &'static str) {
        match self {
            Self::Connected => (Level::Info, "Upstream credential connected"),
            Self::Refreshed => (Level::Debug, "Upstream credential refreshed"),
            Self::Lost => (Level::Warn, "Upstream credential lost"),
            Self::Disconnected => (Level::Info, "Upstream credential disconnected"),
            Self::Failed => (Level::Warn, "Upstream credential cannot be got at present"),
        }
    }
}

/// One task that the end of the gateway waits for.
pub(super) struct Running(Arc<Vault>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// One that is being got, also until its worker is gone.
struct Flight {
    of: Running,
    place: Place,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.of.0.flights.lock().remove(&self.place);
    }
}

/// What comes of it, for one who waits.
pub(super) async fn landed(mut flying: Flying) -> Outcome {
    const LATE: NotReady = NotReady::Unavailable("whoever gives the credential takes too long");
    const BROKEN: NotReady = NotReady::Unavailable("the worker that got the credential ended");
    match timeout(PATIENCE, flying.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(BROKEN)),
        Ok(Err(_)) => Err(BROKEN),
        Err(_) => Err(LATE),
    }
}
