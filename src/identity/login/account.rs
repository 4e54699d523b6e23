//! What is known of somebody of the identity provider: what that said of them, and what it takes to ask it again.
//!
//! One for each principal. It is there as long as a grant of theirs is, and without it none of their grants opens anything: by the
//! config in force, it says whether they are still let in, and what they may do.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::{fingerprint::Fingerprint, sealed_token::LEEWAY};
use crate::{identity::principal::Principal, secret::Secret};

/// How long one is kept that has no grant: as long as a code of theirs may be waiting for its client, and longer.
const KEPT: Duration = Duration::from_secs(3600);
/// How long the provider is not asked about somebody again, whatever came of it.
const PAUSE: Duration = Duration::from_secs(30);
/// Bytes of what they are called.
const LONGEST_DISPLAY: usize = 320;
/// Bytes of what is said of them, as JSON.
const LONGEST_CLAIMS: usize = 1024;
/// Bytes of what it takes to ask again. What is longer is not kept, so that they log in again.
const LONGEST_KEEP: usize = 8 * 1024;

/// Somebody, as the identity provider knows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Who.
    pub principal: Principal,
    /// By which provider: of another one, it is somebody else.
    pub fingerprint: Fingerprint,
    /// What pages and the log call them.
    pub display: Arc<str>,
    /// What the provider says of them.
    pub claims: Map<String, Value>,
    /// Names of the claims of which all is known that it says: those that are not in `claims` it does not say.
    pub known: BTreeSet<String>,
    /// When it said so last.
    pub checked: SystemTime,
}

/// One, with what only who asks the provider needs.
#[derive(Debug, Clone)]
pub struct KeptAccount {
    /// Who.
    pub account: Arc<Account>,
    /// What it takes to ask again, if that can be.
    pub keep: Option<Secret>,
    /// When the provider was asked last, whether it answered or not.
    pub asked: SystemTime,
}

/// Whether the provider is to be asked about somebody.
#[derive(Debug)]
pub enum Claimed {
    /// Nobody knows them here.
    Gone,
    /// It has said lately what it says of them.
    Fresh,
    /// It was asked a moment ago, and has not answered yet, or not to any purpose.
    Asked,
    /// Yes, with this.
    Due(KeptAccount),
}

impl KeptAccount {
    /// One of whom the provider says this now.
    pub fn new(account: Account, keep: Option<Secret>) -> Self {
        let asked = account.checked;
        Self { account: Arc::new(account), keep: keep.filter(is_kept), asked }
    }

    /// The same, of whom the provider is asked by this from now on.
    pub fn asked_by(&self, next: Secret) -> Self {
        Self { keep: Some(next).filter(is_kept), ..self.clone() }
    }

    /// Whether a row has room for it.
    pub(super) fn fits(&self) -> bool {
        let claims = serde_json::to_vec(&self.account.claims).map_or(usize::MAX, |text| text.len());
        self.account.display.len() <= LONGEST_DISPLAY && claims <= LONGEST_CLAIMS
    }

    /// From when on it is forgotten, if there is no grant.
    pub(super) fn kept_until(&self) -> SystemTime {
        self.account.checked + KEPT
    }

    /// Whether the provider is not to be asked at the moment. A time in the future is one of a clock that was wrong.
    pub(super) fn was_asked_lately(&self, now: SystemTime) -> bool {
        now < self.asked + PAUSE && self.asked <= now + LEEWAY
    }

    /// Whether it has answered when it was asked last.
    pub(super) fn was_answered(&self) -> bool {
        self.asked <= self.account.checked
    }
}

fn is_kept(keep: &Secret) -> bool {
    keep.expose().len() <= LONGEST_KEEP
}

impl Account {
    /// Whether it is longer ago than `recheck` that the provider said this.
    pub fn is_due(&self, recheck: Duration, now: SystemTime) -> bool {
        now >= self.checked + recheck || self.checked > now + LEEWAY
    }

    /// Whether it is known what the provider says of all of these claims. What it says of one that nobody asked about when it was asked
    /// last was not kept.
    pub fn knows<'a>(&self, mut claims: impl Iterator<Item = &'a str>) -> bool {
        claims.all(|name| self.known.contains(name))
    }
}

/// A moment as it is written: what is compared has to be the same when it is read again.
pub(super) fn in_millis(moment: SystemTime) -> SystemTime {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// All of them, for requests to look at. It has a lock of its own: it is looked at while something else is decided.
#[derive(Default)]
pub(super) struct Accounts {
    known: RwLock<HashMap<Principal, KeptAccount>>,
    changes: AtomicU64,
}

impl Accounts {
    pub(super) fn get(&self, principal: &Principal) -> Option<Arc<Account>> {
        self.known.read().get(principal).map(|kept| Arc::clone(&kept.account))
    }

    pub(super) fn kept(&self, principal: &Principal) -> Option<KeptAccount> {
        self.known.read().get(principal).cloned()
    }

    pub(super) fn count(&self) -> usize {
        self.known.read().len()
    }

    /// How often something was said of somebody that differs from what was said before.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn put(&self, kept: KeptAccount) {
        let mut known = self.known.write();
        let account = Arc::clone(&kept.account);
        let before = known.insert(account.principal.clone(), kept).map(|before| before.account);
        let is_same = |before: &Account| {
            before.claims == account.claims
                && before.known == account.known
                && before.fingerprint == account.fingerprint
        };
        if before.is_some_and(|before| !is_same(&before)) {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn remove(&self, principal: &Principal) {
        if self.known.write().remove(principal).is_some() {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Forgets those who have no grant, after a while.
    pub(super) fn sweep(&self, has_grant: impl Fn(&Principal) -> bool, now: SystemTime) {
        let mut known = self.known.write();
        known.retain(|principal, kept| has_grant(principal) || now < kept.kept_until());
    }

    /// Forgets all others.
    pub(super) fn keep_those(&self, those: impl Fn(&Principal) -> bool) {
        let mut known = self.known.write();
        let before = known.len();
        known.retain(|principal, _| those(principal));
        if known.len() != before {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn account(email: &str, checked: SystemTime) -> KeptAccount {
        let Value::Object(claims) = json!({ "email": email }) else { unreachable!() };
        let account = Account {
            principal: Principal::Idp("google:1".into()),
            fingerprint: Fingerprint::new([1; 8]),
            display: email.into(),
            claims,
            known: BTreeSet::new(),
            checked,
        };
        KeptAccount::new(account, None)
    }

    #[test]
    fn the_provider_is_asked_again_after_a_while_and_not_twice_at_once() {
        let kept = account("a@corp.example", at(0));
        let hour = Duration::from_secs(3600);
        for (now, is_due) in [(at(0), false), (at(3_599), false), (at(3_600), true)] {
            assert_eq!(kept.account.is_due(hour, now), is_due);
        }
        assert!(kept.account.is_due(hour, at(0) - Duration::from_secs(120)), "a clock that was wrong");
        assert!(kept.was_asked_lately(at(29)) && !kept.was_asked_lately(at(30)));
        assert!(kept.was_answered() && !KeptAccount { asked: at(1), ..kept.clone() }.was_answered());
        assert!(!kept.was_asked_lately(at(0) - Duration::from_secs(120)));
    }

    #[test]
    fn who_has_opened_something_looks_anew_once_something_else_is_said() {
        let accounts = Accounts::default();
        accounts.put(account("a@corp.example", at(0)));
        accounts.put(account("a@corp.example", at(1)));
        assert_eq!(accounts.changes(), 0, "the same is said");
        accounts.put(account("a@other.example", at(1)));
        assert_eq!(accounts.changes(), 1);
        let principal = Principal::Idp("google:1".into());
        accounts.sweep(|_| true, at(99_999));
        accounts.sweep(|_| false, at(3_600));
        assert!(accounts.get(&principal).is_some() && accounts.count() == 1);
        accounts.sweep(|_| false, at(3_601));
        assert!(accounts.get(&principal).is_none());
        accounts.put(account("a@corp.example", at(0)));
        accounts.remove(&principal);
        assert_eq!(accounts.changes(), 2);
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        assert!(account("a@corp.example", at(0)).fits());
        assert!(!account(&"a".repeat(LONGEST_CLAIMS), at(0)).fits());
        let kept = account("a@corp.example", at(0));
        let keep = |length| Some(Secret::new("x".repeat(length)));
        let of = |keep| KeptAccount::new(Account::clone(&kept.account), keep).keep.is_some();
        assert!(of(keep(LONGEST_KEEP)) && !of(keep(LONGEST_KEEP + 1)));
        let next = |length| kept.asked_by(Secret::new("x".repeat(length))).keep.is_some();
        assert!(next(LONGEST_KEEP) && !next(LONGEST_KEEP + 1));
    }
}
