//! What is known of credentials at this moment, so that a request need not ask the store: one look-up in one of a few maps.
//!
//! Tokens are here decrypted, of so many credentials at most; those that were used longest ago go, and are read again when they are
//! wanted. Which connection somebody has is remembered for longer, since what runs is asked by it whether it may go on.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::ready::{Missing, ReadyCredential};
use crate::identity::{Principal, credential_key::CredentialKey};

const SHARDS: usize = 16;
/// Credentials of which a shard has the tokens.
const MOST_READY: usize = 10_000 / SHARDS;
/// Of which it knows anything.
const MOST: usize = 128_000 / SHARDS;
/// The pauses between two tries to get one, where the first fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whose a credential is, or of what it is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Everyone,
    Principal(Principal),
    /// The SHA-256 of the token that is exchanged.
    Subject([u8; 32]),
}

/// One at a server as one config has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) server: u64,
    pub(super) whose: Whose,
}

/// What is known of it.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) is: Standing,
    /// Of the connection, if there is one.
    pub(super) key: Option<CredentialKey>,
    pub(super) ready: Option<Arc<ReadyCredential>>,
    /// From when on it is to be refreshed.
    pub(super) due: Option<SystemTime>,
    /// It could not be got, and is not tried before then.
    pub(super) pause: Option<Pause>,
    /// The server refused it, and it was refreshed for that.
    pub(super) refused: Option<SystemTime>,
    used: u32,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has looked.
    #[default]
    Unread,
    /// People have to act.
    Lacks(Missing),
    /// There is one.
    Held,
}

/// A time in which nothing is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: SystemTime,
    lasts: Duration,
    pub(super) why: &'static str,
}

impl Pause {
    /// The one after `before`, for this reason: twice as long, up to the longest.
    pub(super) fn after(before: Option<Self>, now: SystemTime, why: &'static str) -> Self {
        let lasts = before.map_or(FIRST_PAUSE, |before| (before.lasts * 2).min(LONGEST_PAUSE));
        Self::of(lasts, now, why)
    }

    /// One that lasts so long.
    pub(super) fn of(lasts: Duration, now: SystemTime, why: &'static str) -> Self {
        Self { until: now + lasts, lasts, why }
    }
}

/// What a request does that needs the credential.
#[derive(Debug)]
pub(super) enum Step {
    /// Sends it.
    Send(Arc<ReadyCredential>),
    /// Sends it, and has it refreshed meanwhile.
    Renew(Arc<ReadyCredential>),
    /// Waits until it is there.
    Wait,
    /// Fails for this reason: it was tried a moment ago.
    Fail(&'static str),
    /// Fails: people have to act.
    Lack(Missing),
}

impl Slot {
    /// There is none for now, or, without a pause, until people have acted.
    pub(super) fn lacking(missing: Missing, key: Option<CredentialKey>, pause: Option<Pause>) -> Self {
        Self { is: Standing::Lacks(missing), key, pause, ..Self::default() }
    }

    /// It is read again by whoever wants it. Which connection it was stays known, so that what runs by it is asked about that.
    pub(super) fn forget(&mut self) {
        *self = Self { key: self.key, used: self.used, ..Self::default() };
    }

    /// The credential, if nothing is to be done about it.
    pub(super) fn ready_at(&self, now: SystemTime) -> Option<Arc<ReadyCredential>> {
        let ready = self.ready.as_ref().filter(|ready| ready.is_good(now))?;
        let is_due = self.due.is_some_and(|due| due <= now);
        (self.is == Standing::Held && !is_due).then(|| Arc::clone(ready))
    }

    pub(super) fn step(&self, now: SystemTime) -> Step {
        let is_over = self.pause.is_some_and(|pause| pause.until <= now);
        let pause = self.pause.filter(|pause| now < pause.until);
        match (&self.is, &self.ready) {
            // With a pause, it is not for ever.
            (Standing::Lacks(_), _) if is_over => Step::Wait,
            (Standing::Lacks(missing), _) => Step::Lack(missing.clone()),
            (Standing::Held, Some(ready)) if ready.is_good(now) => {
                let is_due = self.due.is_some_and(|due| due <= now);
                let ready = Arc::clone(ready);
                if is_due && pause.is_none() { Step::Renew(ready) } else { Step::Send(ready) }
            }
            (Standing::Held | Standing::Unread, _) => pause.map_or(Step::Wait, |pause| Step::Fail(pause.why)),
        }
    }
}

/// All that is known.
#[derive(Default)]
pub(super) struct Known {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Place, Slot>,
    /// Slots that have a token.
    ready: usize,
    /// One more with each look.
    turn: u32,
    /// One more each time that people, or another process, have changed what somebody has.
    epoch: u64,
}

impl Known {
    fn shard(&self, place: &Place) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(place);
        &self.shards[usize::try_from(hash >> 32).unwrap_or_default() % SHARDS]
    }

    /// What `look` finds in a slot; `None` if there is none.
    pub(super) fn get<T>(&self, place: &Place, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        let mut shard = self.shard(place).lock();
        shard.turn = shard.turn.wrapping_add(1);
        let turn = shard.turn;
        let slot = shard.slots.get_mut(place)?;
        slot.used = turn;
        Some(look(slot))
    }

    /// To be taken before the store is read: what was read is true as long as it is the same.
    pub(super) fn epoch(&self, place: &Place) -> u64 {
        self.shard(place).lock().epoch
    }

    /// Changes a slot by what was read since `epoch`, unless it may have changed meanwhile.
    pub(super) fn change_since<T>(
        &self,
        epoch: u64,
        place: &Place,
        change: impl FnOnce(&mut Slot) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(place).lock();
        (shard.epoch == epoch).then(|| shard.change(place, change))
    }

    /// The store has something else now, or may have: what was read before is not to be believed. `change` says what it has, as far as
    /// that was written since `epoch`, with nothing in between; else it is read again by whoever wants it.
    pub(super) fn supersede(&self, epoch: u64, place: &Place, change: impl FnOnce(&mut Slot)) {
        let mut shard = self.shard(place).lock();
        let is_last = shard.epoch == epoch;
        shard.epoch += 1;
        shard.change(place, |slot| match is_last {
            true => change(slot),
            false => slot.forget(),
        });
    }

    /// Nobody knows what the store has: what was read before is not to be believed, and it is read again.
    pub(super) fn doubt(&self, place: &Place) {
        let mut shard = self.shard(place).lock();
        shard.epoch += 1;
        shard.change(place, Slot::forget);
    }

    /// Changes a slot, which is there from now on.
    pub(super) fn change<T>(&self, place: &Place, change: impl FnOnce(&mut Slot) -> T) -> T {
        self.shard(place).lock().change(place, change)
    }

    /// Nothing is known any more of this server.
    pub(super) fn forget_server(&self, server: u64) {
        self.forget(|place| place.server == server);
    }

    fn forget(&self, is_meant: impl Fn(&Place) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let mut gone = 0;
            shard.slots.retain(|place, slot| {
                let goes = is_meant(place);
                gone += usize::from(goes && slot.ready.is_some());
                !goes
            });
            shard.ready -= gone;
        }
    }

    /// Those of a server of which something is known.
    pub(super) fn of_server(&self, server: u64) -> Vec<Whose> {
        let places = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let of_server = shard.slots.keys().filter(|place| place.server == server);
            of_server.map(|place| place.whose.clone()).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(places).collect()
    }
}

impl Shard {
    fn change<T>(&mut self, place: &Place, change: impl FnOnce(&mut Slot) -> T) -> T {
        self.turn = self.turn.wrapping_add(1);
        let slot = self.slots.entry(place.clone()).or_default();
        let had = slot.ready.is_some();
        let changed = change(slot);
        slot.used = self.turn;
        let has = slot.ready.is_some();
        self.ready = self.ready + usize::from(has) - usize::from(had);
        self.make_room();
        changed
    }

    /// A quarter goes at once, so that it is seldom looked for.
    fn make_room(&mut self) {
        let turn = self.turn;
        let age = |slot: &Slot| turn.wrapping_sub(slot.used);
        if self.ready > MOST_READY {
            let mut ages: Vec<_> = self.slots.values().filter(|slot| slot.ready.is_some()).map(age).collect();
            let (_, oldest_to_stay, _) = ages.select_nth_unstable(MOST_READY * 3 / 4);
            let oldest_to_stay = *oldest_to_stay;
            for slot in self.slots.values_mut().filter(|slot| age(slot) > oldest_to_stay) {
                self.ready -= usize::from(slot.ready.take().is_some());
            }
        }
        if self.slots.len() > MOST {
            // What has no connection is known again by a look.
            self.slots.retain(|_, slot| slot.key.is_some());
            if self.slots.len() > MOST {
                let mut ages: Vec<_> = self.slots.values().map(age).collect();
                let (_, oldest_to_stay, _) = ages.select_nth_unstable(MOST * 3 / 4);
                let oldest_to_stay = *oldest_to_stay;
                self.slots.retain(|_, slot| age(slot) <= oldest_to_stay);
            }
            self.ready = self.slots.values().filter(|slot| slot.ready.is_some()).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn ready(ends: Option<SystemTime>) -> Arc<ReadyCredential> {
        Arc::new(ReadyCredential {
            fields: Vec::new(),
            env: Vec::new(),
            key: CredentialKey::of_caller([1; 16]),
            version: 1,
            got: at(0),
            ends,
        })
    }

    fn place(number: usize) -> Place {
        Place { server: 7, whose: Whose::Principal(Principal::User(number.to_string().into())) }
    }

    #[test]
    fn a_request_waits_only_for_what_it_cannot_do_without() {
        let slot = |is, ready, due, pause| Slot { is, ready, due, pause, ..Slot::default() };
        let pause = Some(Pause::after(None, at(50), "it is down"));
        let held = || (Standing::Held, Some(ready(Some(at(100)))), Some(at(40)));
        let (is, credential, due) = held();
        let fresh = slot(is, credential, due, None);
        assert!(matches!(fresh.step(at(39)), Step::Send(_)) && fresh.ready_at(at(39)).is_some());
        assert!(matches!(fresh.step(at(40)), Step::Renew(_)) && fresh.ready_at(at(40)).is_none());
        assert!(matches!(fresh.step(at(100)), Step::Wait));
        let (is, credential, due) = held();
        let failing = slot(is, credential, due, pause);
        assert!(matches!(failing.step(at(50)), Step::Send(_)), "what is there is used to its end");
        assert!(matches!(failing.step(at(51)), Step::Renew(_)));
        let late = slot(Standing::Held, Some(ready(Some(at(50)))), None, pause);
        assert!(matches!(late.step(at(50)), Step::Fail("it is down")));
        assert!(matches!(late.step(at(51)), Step::Wait));
        let lost = slot(Standing::Lacks(Missing::Reconnect), None, None, None);
        assert!(matches!(lost.step(at(0)), Step::Lack(Missing::Reconnect)));
        let refused = slot(Standing::Lacks(Missing::Reconnect), None, None, pause);
        assert!(matches!(refused.step(at(50)), Step::Lack(_)) && matches!(refused.step(at(51)), Step::Wait));
        assert!(matches!(Slot::default().step(at(0)), Step::Wait));
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let mut pause = None;
        let lasts: Vec<_> = (0..8)
            .map(|_| {
                pause = Some(Pause::after(pause, at(0), ""));
                pause.unwrap().until.duration_since(at(0)).unwrap().as_secs()
            })
            .collect();
        assert_eq!(lasts, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn tokens_that_were_used_longest_ago_go_and_which_connection_it_is_stays_known() {
        let known = Known::default();
        let has = |number| known.get(&place(number), |slot| slot.ready.is_some()).unwrap();
        for number in 0..3 * MOST_READY * SHARDS {
            known.change(&place(number), |slot| {
                slot.is = Standing::Held;
                slot.key = Some(CredentialKey::of_caller([1; 16]));
                slot.ready = Some(ready(None));
            });
            // It is in use all the time.
            assert!(has(0), "{number}");
        }
        let shards = known.shards.iter().map(Mutex::lock);
        for shard in shards {
            let counted = shard.slots.values().filter(|slot| slot.ready.is_some()).count();
            assert_eq!(shard.ready, counted);
            assert!(counted <= MOST_READY);
        }
        let number = 3 * MOST_READY * SHARDS - 1;
        assert!(has(number) && !has(1));
        assert!(known.get(&place(1), |slot| slot.key.is_some()).unwrap());
        assert_eq!(known.of_server(7).len(), 3 * MOST_READY * SHARDS);
        known.forget_server(7);
        assert!(known.get(&place(number), |_| ()).is_none() && known.of_server(7).is_empty());
    }

    #[test]
    fn what_is_known_is_bounded_whatever_asks() {
        let known = Known::default();
        for number in 0..2 * MOST * SHARDS {
            known.change(&place(number), |slot| slot.is = Standing::Lacks(Missing::Awaiting));
        }
        assert!(known.of_server(7).len() <= MOST * SHARDS);
    }
}
