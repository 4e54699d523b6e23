//! Tokens of which only their issuer knows what they are, or whether they were revoked: it is asked (RFC 7662), and what it said of a
//! token is known for a while, to all workers.
//!
//! A yes is one for `cacheTtl`. As long as something runs by the token, it is asked about again by then. A no is kept shorter, and only
//! so that what is sent again costs the issuer nothing. One question about a token is on its way at a time, whoever wants to know.
//!
//! Whoever sends tokens that nobody knows has the issuer asked at a rate that it can bear, and takes nothing of that from those whose
//! token was good when it was last asked about, nor from those of another address.
//!
//! The token itself is kept as long as it may have to be asked about, since there is no other way to ask.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::{sync::watch, task::spawn_local, time::timeout};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    answer::{self, Answer},
    jwt::{LONGEST, NotTaken},
    recent::Recent,
    source::{Ask, NotFetched, Source},
    token_endpoint::basic,
    verified::VerifiedJwt,
};
use crate::{
    clock::Clock,
    config::{Introspection, Issuer},
    identity::token_digest::TokenDigest,
    ledger::{AddressBlock, Rate, RateMeter},
};

/// How long a question may take.
const MOST_TIME: Duration = Duration::from_secs(5);
/// How long a no is kept.
const REFUSED: Duration = Duration::from_secs(10);
/// How long nothing is asked once the issuer could not be reached, and not about one token once nothing came of a question about it.
const PAUSE: Duration = Duration::from_secs(1);
/// How long nothing is asked again about the token of something that runs, once it was asked about.
const RETRY: Duration = Duration::from_secs(5);
/// How long what runs goes on beyond the time of the last yes, if nobody can say more.
const UNSURE: Duration = Duration::from_secs(5 * 60);
/// Tokens that nobody knows: how often one is asked about.
const NEW_TOKENS: Rate = Rate { count: 50, per: Duration::from_secs(1) };
/// The same of one address.
const NEW_TOKENS_OF_ONE: Rate = Rate { count: 20, per: Duration::from_secs(1) };
/// Questions on their way at a time, those of them about tokens that nobody knows, and of these those of one address.
const MOST_ASKED: (usize, usize, usize) = (64, 32, 8);
/// Addresses of which it is known how many tokens they sent that nobody knew.
const MOST_ADDRESSES: usize = 4096;

/// Asks one issuer.
pub struct Introspector {
    issuer: Arc<Issuer>,
    /// Members of answers that `assign` asks about.
    members: Arc<BTreeSet<String>>,
    source: Arc<dyn Source>,
    clock: Arc<Clock>,
    /// Questions about tokens that nobody knows.
    new_tokens: RateMeter,
    state: Mutex<State>,
}

/// What an issuer said of a token that is good.
pub struct Verdict {
    digest: TokenDigest,
    token: Zeroizing<Vec<u8>>,
    /// What the token says itself, if it is a JWT, else what its issuer says.
    said: VerifiedJwt,
    is_jwt: bool,
    /// Until then the last yes is one, in milliseconds.
    good_until: AtomicU64,
    /// Before that, it is not asked about again for the sake of what runs.
    not_again_before: AtomicU64,
    /// It is none any more.
    is_revoked: AtomicBool,
}

/// Why nobody can say whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaid {
    /// The issuer does not answer.
    NoAnswer(NotFetched),
    /// It does not answer this client.
    Refused,
    /// What it answers is no answer.
    Unreadable,
    /// There are too many questions.
    TooMany,
}

impl Unsaid {
    /// As the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAnswer(why) => why.name(),
            Self::Refused => "it refuses to answer, perhaps because of clientId or clientSecret",
            Self::Unreadable => "the answer is not a JSON object of at most 16 KiB",
            Self::TooMany => "too many tokens that nobody knows are asked about",
        }
    }
}

impl Unsaid {
    /// Whether it came of a question about the token, which whoever sends such tokens has asked.
    pub fn was_asked(self) -> bool {
        !matches!(self, Self::TooMany | Self::NoAnswer(NotFetched::Unreachable))
    }
}

/// Why a token is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotConfirmed {
    /// It is not good.
    NotTaken(NotTaken),
    /// It may be: come again.
    Unsaid(Unsaid),
}

/// What came of a question.
type Outcome = Result<Arc<Verdict>, NotConfirmed>;

/// A token that is to be asked about.
#[derive(Clone)]
pub struct AskedToken {
    /// By which it is known.
    pub digest: TokenDigest,
    /// All of it.
    pub token: Zeroizing<Vec<u8>>,
    /// What it says itself, if it is a JWT that is good but for what its issuer says.
    pub jwt: Option<VerifiedJwt>,
    /// Who sends it; nobody, where it is asked about for the sake of what runs.
    pub from: Option<AddressBlock>,
}

#[derive(Default)]
struct State {
    /// What was good when it was last asked about.
    good: Recent<Arc<Verdict>>,
    /// What was not, why, and until when it is not asked about again.
    bad: Recent<(SystemTime, NotTaken)>,
    /// What was good before a reload that changed how the issuer is asked.
    seen: Recent<()>,
    /// Of what nobody could say anything, why, and until when it is not asked about again.
    unsaid: Recent<(SystemTime, Unsaid)>,
    /// Questions on their way, and what comes of each.
    running: HashMap<TokenDigest, Running>,
    /// How many tokens that nobody knew addresses sent.
    addresses: HashMap<AddressBlock, RateMeter>,
    /// Nothing is asked until then, and why.
    paused: Option<(SystemTime, Unsaid)>,
}

/// A question on its way.
struct Running {
    outcome: watch::Receiver<Option<Outcome>>,
    is_new: bool,
    from: Option<AddressBlock>,
}

/// Whose turn it is.
enum Turn {
    /// Nobody's: it is known.
    Known(Outcome),
    /// Somebody asks; what comes of it comes here.
    Wait(watch::Receiver<Option<Outcome>>),
}

impl Introspector {
    /// One that asks by `source`, if the config has this issuer asked. Of what it answers, only `members` are kept.
    pub fn new(
        issuer: &Arc<Issuer>,
        members: &Arc<BTreeSet<String>>,
        source: &Arc<dyn Source>,
        clock: &Arc<Clock>,
        before: Option<&Self>,
    ) -> Option<Self> {
        let introspection = issuer.introspection.as_ref()?;
        let is_same_place = |before: &&Self| {
            let asked = before.issuer.introspection.as_ref();
            before.issuer.issuer == issuer.issuer && asked.is_some_and(|of| of.url == introspection.url)
        };
        let seen = before.filter(is_same_place).map(Self::seen).unwrap_or_default();
        Some(Self {
            issuer: Arc::clone(issuer),
            members: Arc::clone(members),
            source: Arc::clone(source),
            clock: Arc::clone(clock),
            new_tokens: RateMeter::default(),
            state: Mutex::new(State { seen, ..State::default() }),
        })
    }

    /// Those that were good when they were last asked about.
    fn seen(&self) -> Recent<()> {
        let state = self.state.lock();
        let mut seen = Recent::default();
        state.seen.digests().chain(state.good.digests()).for_each(|digest| seen.insert(*digest, ()));
        seen
    }

    /// Whether a reload left all of it as it was.
    pub fn is_same(&self, issuer: &Arc<Issuer>, members: &Arc<BTreeSet<String>>) -> bool {
        self.issuer == *issuer && self.members == *members
    }

    /// Who is asked.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Whether a token that is no JWT may be one of this issuer: others are not sent to it.
    pub fn may_have(&self, token: &[u8]) -> bool {
        let prefix = self.issuer.introspection.as_ref().and_then(|of| of.token_prefix.as_ref());
        is_token(token) && prefix.is_none_or(|prefix| token.starts_with(prefix.as_bytes()))
    }

    /// What is known of a token, if nothing has to be asked.
    pub fn known(&self, digest: &TokenDigest) -> Option<Outcome> {
        self.state.lock().known(digest, self.clock.now(), self.issuer.leeway)
    }

    /// What the issuer says of a token. To be called on a worker.
    pub async fn ask(self: &Arc<Self>, asked: &AskedToken) -> Outcome {
        loop {
            match self.turn(asked) {
                Turn::Known(outcome) => return outcome,
                Turn::Wait(mut outcome) => {
                    // `Err`: the worker of the question has ended before it.
                    if let Ok(outcome) = outcome.wait_for(Option::is_some).await
                        && let Some(outcome) = &*outcome
                    {
                        return outcome.clone();
                    }
                }
            }
        }
    }

    fn turn(self: &Arc<Self>, asked: &AskedToken) -> Turn {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if let Some(known) = state.known(&asked.digest, now, self.issuer.leeway) {
            return Turn::Known(known);
        }
        if let Some(running) = state.running.get(&asked.digest) {
            return Turn::Wait(running.outcome.clone());
        }
        let is_new = state.good.get(&asked.digest).is_none() && state.seen.get(&asked.digest).is_none();
        if let Err(why) = self.may_begin(&mut state, is_new, asked.from, now) {
            return Turn::Known(Err(NotConfirmed::Unsaid(why)));
        }
        let (question, outcome) = self.begin(&mut state, asked.clone(), is_new, None);
        drop(state);
        spawn_local(question.run());
        Turn::Wait(outcome)
    }

    /// Whether one more question may be on its way.
    fn may_begin(
        &self,
        state: &mut State,
        is_new: bool,
        from: Option<AddressBlock>,
        now: SystemTime,
    ) -> Result<(), Unsaid> {
        if let Some((until, why)) = state.paused
            && now < until
        {
            return Err(why);
        }
        let is_full = state.running.len() >= MOST_ASKED.0;
        if !is_new || is_full {
            return if is_full { Err(Unsaid::TooMany) } else { Ok(()) };
        }
        let new = || state.running.values().filter(|running| running.is_new);
        let of_one = || from.map_or(0, |from| new().filter(|running| running.from == Some(from)).count());
        if new().count() >= MOST_ASKED.1 || of_one() >= MOST_ASKED.2 {
            return Err(Unsaid::TooMany);
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        // What one address has too much of takes nothing of what there is for all.
        let may = from.is_none_or(|from| state.takes(from, since))
            && self.new_tokens.take(NEW_TOKENS, since).is_ok();
        if may { Ok(()) } else { Err(Unsaid::TooMany) }
    }

    /// A question that is on its way from now on. `again`: what was said before of a token by which something runs.
    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        asked: AskedToken,
        is_new: bool,
        again: Option<Arc<Verdict>>,
    ) -> (Question, watch::Receiver<Option<Outcome>>) {
        let (outcome, comes) = watch::channel(None);
        state.running.insert(asked.digest, Running { outcome: comes.clone(), is_new, from: asked.from });
        (Question { of: Arc::clone(self), asked, again, outcome }, comes)
    }

    /// Has the issuer asked again about a token by which something runs, if it is time, and waits for nothing. To be called on a
    /// worker.
    pub fn keep_asking(self: &Arc<Self>, verdict: &Arc<Verdict>) {
        let now = self.clock.now();
        let is_due = !verdict.is_good(now)
            && !verdict.is_revoked.load(Ordering::Relaxed)
            && millis(now) >= verdict.not_again_before.load(Ordering::Relaxed);
        if !is_due {
            return;
        }
        let mut state = self.state.lock();
        if let Some(known) = state.known(&verdict.digest, now, self.issuer.leeway) {
            // Somebody asked by another request of the same token.
            match known {
                Ok(other) if other.said.is_same(&verdict.said) => verdict.renew(other.good_until()),
                Err(NotConfirmed::Unsaid(_)) => {}
                _ => verdict.revoke(),
            }
            return;
        }
        let is_asked = state.running.contains_key(&verdict.digest);
        if !is_asked && self.may_begin(&mut state, false, None, now).is_ok() {
            verdict.not_again_before.store(millis(now + RETRY), Ordering::Relaxed);
            let jwt = verdict.is_jwt.then(|| verdict.said.clone());
            let asked = AskedToken { digest: verdict.digest, token: verdict.token.clone(), jwt, from: None };
            let (question, _) = self.begin(&mut state, asked, false, Some(Arc::clone(verdict)));
            drop(state);
            spawn_local(question.run());
        }
    }

    /// Whether what runs by a token may go on: nobody has said that it is not good any more, and it is not too long ago that
    /// somebody said that it is.
    pub fn lets_go_on(&self, verdict: &Verdict) -> bool {
        let last = verdict.good_until.load(Ordering::Relaxed);
        let until = last.saturating_add(u64::try_from(UNSURE.as_millis()).unwrap_or(u64::MAX));
        !verdict.is_revoked.load(Ordering::Relaxed) && millis(self.clock.now()) < until
    }

    /// What the issuer answers to a question.
    async fn answered(&self, asked: &AskedToken) -> Result<Answer, Unsaid> {
        let Some(introspection) = &self.issuer.introspection else { return Err(Unsaid::Refused) };
        let ask = question(introspection, &asked.token).ok_or(Unsaid::Refused)?;
        let asking = timeout(MOST_TIME, self.source.ask(&introspection.url, ask, answer::LONGEST));
        let answer = match asking.await.unwrap_or(Err(NotFetched::Timeout)) {
            Ok(answer) if answer.status == StatusCode::OK => answer,
            Ok(_) => return Err(Unsaid::Refused),
            Err(NotFetched::NotADocument) => return Err(Unsaid::Unreadable),
            Err(why) => return Err(Unsaid::NoAnswer(why)),
        };
        Answer::parse(&answer.body).ok_or(Unsaid::Unreadable)
    }

    /// Keeps what came of a question.
    fn conclude(
        &self,
        asked: &AskedToken,
        again: Option<&Arc<Verdict>>,
        answered: Result<Answer, Unsaid>,
    ) -> Outcome {
        let now = self.clock.now();
        let said = match (answered, &asked.jwt) {
            (Err(why), _) => Err(NotConfirmed::Unsaid(why)),
            (Ok(answer), None) => answer
                .said(&self.issuer, &self.members, now)
                .map(|said| (said.expires, said))
                .map_err(NotConfirmed::NotTaken),
            (Ok(answer), Some(jwt)) => answer
                .confirms(&self.issuer, &jwt.subject, now)
                .map(|ends| (ends.min(jwt.expires), jwt.clone()))
                .map_err(NotConfirmed::NotTaken),
        };
        let mut state = self.state.lock();
        let kept = state.good.get(&asked.digest).cloned();
        let before = || again.into_iter().chain(&kept);
        match said {
            Ok((ends, said)) => {
                let ttl = self.issuer.introspection.as_ref().map_or(Duration::ZERO, |of| of.cache_ttl);
                let good_until = (now + ttl).min(ends + self.issuer.leeway);
                // A token of which less is said than before, or something else, is another one to what runs by it.
                before().for_each(|verdict| match verdict.said.is_same(&said) {
                    true => verdict.renew(good_until),
                    false => verdict.revoke(),
                });
                let is_kept = |verdict: &&Arc<Verdict>| {
                    verdict.is_good(now) && verdict.said.expires + self.issuer.leeway > now
                };
                let verdict = before().find(is_kept).cloned().unwrap_or_else(|| {
                    Arc::new(Verdict {
                        digest: asked.digest,
                        token: asked.token.clone(),
                        said,
                        is_jwt: asked.jwt.is_some(),
                        good_until: AtomicU64::new(millis(good_until)),
                        not_again_before: AtomicU64::new(0),
                        is_revoked: AtomicBool::new(false),
                    })
                });
                state.bad.remove(&asked.digest);
                state.unsaid.remove(&asked.digest);
                state.good.insert(asked.digest, Arc::clone(&verdict));
                Ok(verdict)
            }
            Err(NotConfirmed::NotTaken(why)) => {
                before().for_each(|verdict| verdict.revoke());
                state.good.remove(&asked.digest);
                state.bad.insert(asked.digest, (now + REFUSED, why));
                Err(NotConfirmed::NotTaken(why))
            }
            Err(NotConfirmed::Unsaid(why)) => {
                // What it does not say of one token, in time or at all, it may say of another: only a host that is not there says nothing.
                if matches!(why, Unsaid::NoAnswer(NotFetched::Unreachable)) {
                    state.paused = Some((now + PAUSE, why));
                }
                state.unsaid.insert(asked.digest, (now + PAUSE, why));
                Err(NotConfirmed::Unsaid(why))
            }
        }
    }
}

impl fmt::Debug for Introspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Introspector({})", self.issuer.name)
    }
}

/// Those that are the same one are equal.
impl PartialEq for Introspector {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl State {
    fn known(&self, digest: &TokenDigest, now: SystemTime, leeway: Duration) -> Option<Outcome> {
        if let Some((until, why)) = self.bad.get(digest)
            && now < *until
        {
            return Some(Err(NotConfirmed::NotTaken(*why)));
        }
        let is_good = |verdict: &&Arc<Verdict>| verdict.is_good(now) && verdict.said.expires + leeway > now;
        let good = self.good.get(digest).filter(is_good).map(|verdict| Ok(Arc::clone(verdict)));
        let unsaid = || self.unsaid.get(digest).filter(|(until, _)| now < *until);
        good.or_else(|| unsaid().map(|(_, why)| Err(NotConfirmed::Unsaid(*why))))
    }

    /// Whether one more token that nobody knows may come from this address.
    fn takes(&mut self, from: AddressBlock, since: Duration) -> bool {
        if self.addresses.len() >= MOST_ADDRESSES && !self.addresses.contains_key(&from) {
            self.addresses.retain(|_, meter| !meter.is_over(since));
            if self.addresses.len() >= MOST_ADDRESSES {
                return true;
            }
        }
        self.addresses.entry(from).or_default().take(NEW_TOKENS_OF_ONE, since).is_ok()
    }
}

impl Verdict {
    /// What is said of whoever has the token.
    pub fn said(&self) -> &VerifiedJwt {
        &self.said
    }

    /// Whether the last yes is still one.
    pub fn is_good(&self, now: SystemTime) -> bool {
        !self.is_revoked.load(Ordering::Relaxed) && millis(now) < self.good_until.load(Ordering::Relaxed)
    }

    fn good_until(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.good_until.load(Ordering::Relaxed))
    }

    fn renew(&self, good_until: SystemTime) {
        self.good_until.store(millis(good_until), Ordering::Relaxed);
    }

    fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }
}

/// Never the token.
impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verdict")
    }
}

/// Those that are the same one are equal.
impl PartialEq for Verdict {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// A question on its way. It is over when this is dropped.
struct Question {
    of: Arc<Introspector>,
    asked: AskedToken,
    again: Option<Arc<Verdict>>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Question {
    async fn run(self) {
        let answered = self.of.answered(&self.asked).await;
        let outcome = self.of.conclude(&self.asked, self.again.as_ref(), answered);
        // Nobody may wait.
        let _ = self.outcome.send(Some(outcome));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.of.state.lock().running.remove(&self.asked.digest);
    }
}

/// The question about a token: RFC 7662 §2.1, by `client_secret_basic` (RFC 6749 §2.3.1).
fn question(introspection: &Introspection, token: &[u8]) -> Option<Ask> {
    let Introspection { client_id, client_secret, .. } = introspection;
    let authorization = basic(client_id, client_secret)?;
    let token = Zeroizing::new(form_urlencoded::byte_serialize(token).collect::<String>());
    let form = Zeroizing::new(format!("token={}&token_type_hint=access_token", *token));
    Some(Ask::form(form, Some(authorization)))
}

/// Whether it has the form of a token (RFC 6750 §2.1), and is none of the gateway's own, which nobody else is to see.
fn is_token(token: &[u8]) -> bool {
    let body = token.iter().rposition(|byte| *byte != b'=').map_or(&[][..], |last| &token[..=last]);
    let is_own = match token {
        [b's', b'g', b'_', ..] => true,
        [b's', b'g', kind, b'_', ..] => kind.is_ascii_lowercase(),
        _ => false,
    };
    !is_own
        && !body.is_empty()
        && token.len() <= LONGEST
        && body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
