//! The keys of an issuer, as all workers share them.
//!
//! They are fetched when a token needs them, once for all that wait. Then they stay as long as their host says, within bounds, and
//! whatever happens to that host they stay in use: an issuer that is down does not lock out everybody that it admitted. Whoever sends
//! tokens that name keys which do not exist has a fetch begin once in half a minute, and keeps no one waiting.
//!
//! A fetch is a task of the worker that began it, so it goes on when the one who asked has left. If that worker ends before, the next
//! who comes begins anew.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::spawn_local,
    time::{Instant, timeout},
};
use url::Url;

use super::{
    jwks::KeySet,
    jwt::{NotTaken, UnverifiedJwt},
    source::{NotFetched, Source, keys_of},
    verified::VerifiedJwt,
};
use crate::config::Issuer;

/// How long a fetch may take in all, and somebody waits for it.
const MOST_TIME: Duration = Duration::from_secs(5);
/// How long keys are fresh at least and at most, whatever their host says.
const FRESH: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60));
/// How long they are fresh if their host does not say.
const FRESH_UNSAID: Duration = Duration::from_secs(60 * 60);
/// How long no other fetch begins once there are keys, for whatever reason.
const PAUSE: Duration = Duration::from_secs(30);
/// How long none begins after one that failed, while there are none.
const FAILED: Duration = Duration::from_secs(5);
/// Who may wait for the keys of one issuer at a time.
const MOST_WAITING: usize = 64;

/// The keys of an issuer.
#[derive(Clone)]
pub struct IssuerKeys {
    issuer: Arc<Issuer>,
    shared: Arc<Shared>,
}

/// Keys that were fetched.
#[derive(Debug)]
pub struct FetchedKeys {
    keys: KeySet,
    at: Instant,
    stale_from: Instant,
}

/// What is known of the key that a token names.
#[derive(Debug)]
pub enum Known {
    /// It is one of these.
    Keys(Arc<FetchedKeys>),
    /// It may come.
    Wait(Waiting),
    /// The issuer has no such key, as far as anybody knows.
    Refused,
    /// No keys of the issuer are known.
    Unavailable,
}

/// Why a token is not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotVerified {
    /// It is not taken.
    NotTaken(NotTaken),
    /// It may be good, but the keys of its issuer were never fetched: come again.
    NoKeys,
}

impl From<NotTaken> for NotVerified {
    fn from(why: NotTaken) -> Self {
        Self::NotTaken(why)
    }
}

/// How it stands with the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysStatus {
    /// How many there are, and how old they are; `None`: they were never fetched.
    pub keys: Option<(usize, Duration)>,
    /// Why the last fetch failed, if it did.
    pub failed: Option<NotFetched>,
}

struct Shared {
    /// `iss`, byte for byte.
    issuer: Arc<str>,
    jwks_url: Option<Url>,
    source: Arc<dyn Source>,
    good: ArcSwapOption<FetchedKeys>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The fetch that runs: it is over when its sender is dropped.
    running: Option<watch::Receiver<()>>,
    /// When the last one began.
    began: Option<Instant>,
    /// When and why the last one failed, if it did.
    failed: Option<(Instant, NotFetched)>,
    waiting: usize,
}

impl State {
    fn may_begin(&self, now: Instant, has_keys: bool) -> bool {
        self.running.is_none()
            && match has_keys {
                true => self.began.is_none_or(|began| now >= began + PAUSE),
                false => self.failed.is_none_or(|(at, _)| now >= at + FAILED),
            }
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKeys({})", self.issuer.name)
    }
}

impl IssuerKeys {
    /// None so far, of those that come from `source`.
    pub fn new(issuer: Arc<Issuer>, source: Arc<dyn Source>) -> Self {
        let shared = Shared {
            issuer: Arc::clone(&issuer.issuer),
            jwks_url: issuer.jwks_url.clone(),
            source,
            good: ArcSwapOption::empty(),
            state: Mutex::default(),
        };
        Self { issuer, shared: Arc::new(shared) }
    }

    /// The same keys, if a reload left the issuer where it was: what else the config says of it may have changed.
    pub fn of_reload(&self, issuer: &Arc<Issuer>) -> Option<Self> {
        let is_same_place = self.shared.issuer == issuer.issuer && self.shared.jwks_url == issuer.jwks_url;
        is_same_place.then(|| Self { issuer: Arc::clone(issuer), shared: Arc::clone(&self.shared) })
    }

    /// Whose they are.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// How it stands with them.
    pub fn status(&self) -> KeysStatus {
        let good = self.shared.good.load();
        KeysStatus {
            keys: good.as_ref().map(|good| (good.keys.len(), good.at.elapsed())),
            failed: self.shared.state.lock().failed.map(|(_, why)| why),
        }
    }

    /// Whether it is one of those that were fetched last.
    pub fn has(&self, id: &str) -> bool {
        self.shared.good.load().as_ref().is_some_and(|good| good.keys.has(id))
    }

    /// Whether the key of this id is there, and fresh: for tokens that were verified by it, so that nothing else is looked up for
    /// them.
    pub fn has_fresh(&self, id: &str) -> bool {
        let good = self.shared.good.load();
        good.as_ref().is_some_and(|good| good.keys.has(id) && Instant::now() < good.stale_from)
    }

    /// What is known of the key of this id. Begins a fetch if one is due; who gets keys that are not fresh any more does not wait
    /// for it. To be called on a worker.
    pub fn known(&self, id: &str) -> Known {
        let now = Instant::now();
        if let Some(good) = &*self.shared.good.load()
            && now < good.stale_from
            && good.keys.has(id)
        {
            return Known::Keys(Arc::clone(good));
        }
        self.shared.look(id, now)
    }

    /// What the issuer says by this token, if it is taken. Waits for keys if it has to.
    pub async fn verify(
        &self,
        token: UnverifiedJwt<'_>,
        now: SystemTime,
    ) -> Result<VerifiedJwt, NotVerified> {
        token.check(&self.issuer, now)?;
        let keys = self.keys_with(token.key_id().ok_or(NotTaken::UnknownKey)?).await?;
        keys.verify(token, &self.issuer, now).map_err(Into::into)
    }

    /// The same, for one who does not wait: gives the token back if it has to.
    pub fn verify_now<'a>(
        &self,
        token: UnverifiedJwt<'a>,
        now: SystemTime,
    ) -> Result<Result<VerifiedJwt, NotVerified>, UnverifiedJwt<'a>> {
        if let Err(why) = token.check(&self.issuer, now) {
            return Ok(Err(why.into()));
        }
        match self.known(token.key_id().unwrap_or_default()) {
            Known::Keys(keys) => Ok(keys.verify(token, &self.issuer, now).map_err(Into::into)),
            Known::Wait(_) => Err(token),
            Known::Refused => Ok(Err(NotTaken::UnknownKey.into())),
            Known::Unavailable => Ok(Err(NotVerified::NoKeys)),
        }
    }

    /// The keys among which is that of this id. Waits for them if it has to.
    pub async fn keys_with(&self, id: &str) -> Result<Arc<FetchedKeys>, NotVerified> {
        let known = timeout(MOST_TIME, async {
            loop {
                match self.known(id) {
                    Known::Wait(waiting) => waiting.ended().await,
                    known => return known,
                }
            }
        });
        match known.await {
            Ok(Known::Keys(keys)) => Ok(keys),
            Ok(Known::Refused) => Err(NotTaken::UnknownKey.into()),
            Ok(Known::Unavailable | Known::Wait(_)) => Err(NotVerified::NoKeys),
            Err(_) if self.shared.good.load().is_some() => Err(NotTaken::UnknownKey.into()),
            Err(_) => Err(NotVerified::NoKeys),
        }
    }
}

impl FetchedKeys {
    /// The keys.
    pub fn set(&self) -> &KeySet {
        &self.keys
    }

    /// What the issuer says by this token, if it is taken.
    pub fn verify(
        &self,
        token: UnverifiedJwt<'_>,
        issuer: &Issuer,
        now: SystemTime,
    ) -> Result<VerifiedJwt, NotTaken> {
        token.verify(issuer, &self.keys, now)
    }

    /// Whether one of them has signed it, by one of these algorithms. What it says is not looked at.
    pub(in crate::identity) fn check_signature(
        &self,
        token: &UnverifiedJwt<'_>,
        algorithms: &[Algorithm],
    ) -> Result<(), NotTaken> {
        token.check_signature(&self.keys, algorithms)
    }
}

impl Shared {
    /// What is known under the lock, where all who come at once see the same.
    fn look(self: &Arc<Self>, id: &str, now: Instant) -> Known {
        let mut state = self.state.lock();
        let good = self.good.load_full();
        let is_known = good.as_ref().is_some_and(|good| good.keys.has(id));
        let is_fresh = good.as_ref().is_some_and(|good| now < good.stale_from);
        let mut begun = None;
        if !(is_known && is_fresh) && state.may_begin(now, good.is_some()) {
            let (ends, ended) = watch::channel(());
            (state.running, state.began) = (Some(ended), Some(now));
            begun = Some(Fetch { of: Arc::clone(self), is_done: false, _ends: ends });
        }
        let has_keys = good.is_some();
        let known = match (good, &state.running) {
            (Some(good), _) if is_known => Known::Keys(good),
            (_, Some(ended)) if state.waiting < MOST_WAITING => {
                let ended = ended.clone();
                state.waiting += 1;
                Known::Wait(Waiting { of: Arc::clone(self), ended })
            }
            // It is being looked for, and nobody can say yet what comes of it.
            (_, Some(_)) => Known::Unavailable,
            _ if has_keys => Known::Refused,
            _ => Known::Unavailable,
        };
        drop(state);
        if let Some(fetch) = begun {
            spawn_local(fetch.run());
        }
        known
    }
}

/// A fetch that runs. It is over when this is dropped.
struct Fetch {
    of: Arc<Shared>,
    is_done: bool,
    _ends: watch::Sender<()>,
}

impl Fetch {
    async fn run(mut self) {
        let Shared { issuer, jwks_url, source, .. } = &*self.of;
        let fetching = timeout(MOST_TIME, keys_of(issuer, jwks_url.as_ref(), &**source));
        let fetched = fetching.await.unwrap_or(Err(NotFetched::Timeout));
        let now = Instant::now();
        let mut state = self.of.state.lock();
        match fetched {
            Ok((keys, fresh_for)) => {
                let fresh_for = fresh_for.unwrap_or(FRESH_UNSAID).clamp(FRESH.0, FRESH.1);
                let good = FetchedKeys { keys, at: now, stale_from: now + fresh_for };
                self.of.good.store(Some(Arc::new(good)));
                state.failed = None;
            }
            Err(why) => state.failed = Some((now, why)),
        }
        drop(state);
        self.is_done = true;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut state = self.of.state.lock();
        state.running = None;
        if !self.is_done {
            // It counts for nothing: its worker has ended.
            state.began = None;
        }
    }
}

/// One who waits for a fetch, of those that may.
pub struct Waiting {
    of: Arc<Shared>,
    ended: watch::Receiver<()>,
}

impl Waiting {
    /// Returns when the fetch is over.
    pub async fn ended(mut self) {
        // Nothing is ever sent.
        let _ = self.ended.changed().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.of.state.lock().waiting -= 1;
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}
