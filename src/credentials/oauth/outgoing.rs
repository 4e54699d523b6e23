//! How authorization servers are asked: so many at a time, so long, and from where they may be.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use crate::{
    clock::Clock,
    identity::foreign::source::{Ask, IssuerAnswer, NotFetched, Source},
    upstream::{
        internet::Internet,
        issuers::{Issuers, NamedIssuers},
    },
};

/// Questions on their way at a time: in all, and of one place.
const MOST: (usize, usize) = (32, 4);
/// Who may wait for a turn, or for an answer.
const MOST_WAITING: usize = 1024;
/// How long a question may take, with the wait for its turn.
const MOST_TIME: Duration = Duration::from_secs(10);
/// How long somebody waits until they may ask.
const MOST_WAIT: Duration = Duration::from_secs(10);
/// How long the answer to what uses something up is awaited: an issuer that changes refresh tokens has forgotten the one that was sent.
const TIME_OF_TOKENS: Duration = Duration::from_secs(40);
/// Bytes of an answer at most.
const LONGEST: usize = 64 << 10;

/// Where a place may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At any address: the config names it, or says that it may be.
    Anywhere,
    /// At an address of the public Internet: a server names it.
    Public,
}

/// Asks authorization servers, all of them.
pub struct Outgoing {
    anywhere: Arc<dyn Source>,
    public: Arc<dyn Source>,
    clock: Arc<Clock>,
    all: Semaphore,
    /// Those that are asked, by origin.
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outgoing")
    }
}

impl Outgoing {
    /// What asks over the network. What is asked for by a time ends by this clock.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self::by(Arc::new(Issuers::default()), Arc::new(NamedIssuers::default()), clock)
    }

    /// The same, where what servers name is of this Internet: for tests.
    pub fn in_internet(internet: Arc<dyn Internet>, clock: Arc<Clock>) -> Self {
        Self::by(Arc::new(Issuers::default()), Arc::new(NamedIssuers::of(internet)), clock)
    }

    /// What asks by these: what may be anywhere by the first, what has to be public by the second.
    pub fn by(anywhere: Arc<dyn Source>, public: Arc<dyn Source>, clock: Arc<Clock>) -> Self {
        let (all, waiting) = (Semaphore::new(MOST.0), AtomicUsize::new(0));
        Self { anywhere, public, clock, all, places: Mutex::default(), waiting }
    }

    /// The clock by which tokens end.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is answered there.
    pub(super) async fn ask(&self, reach: Reach, url: &Url, ask: Ask) -> Result<IssuerAnswer, NotFetched> {
        self.in_turn(url, MOST_TIME, async { self.source(reach).ask(url, ask, LONGEST).await }).await
    }

    /// The same of what uses something up, as a refresh token or a code: it is awaited for longer, since what comes must not be lost.
    pub(super) async fn ask_once(
        &self,
        reach: Reach,
        url: &Url,
        ask: Ask,
    ) -> Result<IssuerAnswer, NotFetched> {
        self.in_turn(url, TIME_OF_TOKENS, async { self.source(reach).ask(url, ask, LONGEST).await }).await
    }

    /// The head of what is answered there.
    pub(super) async fn head(
        &self,
        reach: Reach,
        url: &Url,
        ask: Ask,
        most: Duration,
    ) -> Result<(StatusCode, HeaderMap), NotFetched> {
        self.in_turn(url, most, async { self.source(reach).head(url, ask).await }).await
    }

    fn source(&self, reach: Reach) -> &dyn Source {
        match reach {
            Reach::Anywhere => &*self.anywhere,
            Reach::Public => &*self.public,
        }
    }

    /// Who waits for one place keeps nobody from others: a turn among all is taken last.
    async fn in_turn<T>(
        &self,
        url: &Url,
        most: Duration,
        asking: impl Future<Output = Result<T, NotFetched>>,
    ) -> Result<T, NotFetched> {
        let _waits = Waits::begin(&self.waiting).ok_or(NotFetched::Busy)?;
        let place = Place::of(&self.places, url);
        let turn = async { (place.turns.acquire().await, self.all.acquire().await) };
        // Who had no turn has asked nothing: the time for an answer begins with the question.
        let _turn = timeout(MOST_WAIT, turn).await.map_err(|_| NotFetched::Busy)?;
        timeout(most, asking).await.unwrap_or(Err(NotFetched::Timeout))
    }

    /// How many places are asked at present.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.lock().len()
    }
}

/// One who waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place that is asked, by one who asks there.
struct Place<'a> {
    of: &'a Mutex<HashMap<String, Arc<Semaphore>>>,
    name: String,
    turns: Arc<Semaphore>,
}

impl<'a> Place<'a> {
    fn of(of: &'a Mutex<HashMap<String, Arc<Semaphore>>>, url: &Url) -> Self {
        let name = url.origin().ascii_serialization();
        let turns =
            Arc::clone(of.lock().entry(name.clone()).or_insert_with(|| Semaphore::new(MOST.1).into()));
        Self { of, name, turns }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut of = self.of.lock();
        // The map's and this one: nobody else asks there.
        if Arc::strong_count(&self.turns) == 2 {
            of.remove(&self.name);
        }
    }
}
