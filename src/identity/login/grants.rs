//! Grants: what logins began. A grant is one login of one user, with all the tokens that come of it; a logout ends it.
//!
//! They are kept in memory. What ended before its tokens did is in the set of revoked ones, which each request with a session
//! token looks at.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    refresh_token::{GrantSecret, RefreshToken},
};
use crate::{config::LoginTerms, secret::Secret};

/// Grants, and those that were revoked, at most. Each grant has its place among the revoked from the beginning, so that there is
/// always room to revoke one.
const MOST: usize = 100_000;
/// How often what has ended is removed, at most.
const SWEEP: Duration = Duration::from_secs(10);

/// What a login or a refresh gives.
#[derive(Debug)]
pub struct Issued {
    /// Name of the user.
    pub user: Arc<str>,
    /// Which grant it is of.
    pub grant: GrantId,
    /// Of the user's password at the login.
    pub fingerprint: Fingerprint,
    /// The next refresh token.
    pub refresh_token: Secret,
    /// When the session token that goes with it is to end.
    pub expires: SystemTime,
    /// When the grant ends, whatever is refreshed.
    pub grant_ends: SystemTime,
}

/// Why a grant cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBegun {
    /// There are as many as there may be.
    Full,
    /// The system has no randomness to give.
    NoRandomness,
}

/// Why a refresh token brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRefreshed {
    /// No grant knows it, or its time is over.
    Invalid,
    /// It was used before, by somebody else maybe: its grant is revoked.
    Replayed(Arc<str>),
}

struct Grant {
    user: Arc<str>,
    fingerprint: Fingerprint,
    secret: GrantSecret,
    /// Of the refresh token that is good.
    generation: u32,
    /// When that was made.
    rotated: SystemTime,
    /// Until when the refresh token is good.
    refresh_ends: SystemTime,
    /// When the last of its session tokens ends.
    tokens_end: SystemTime,
    ends: SystemTime,
}

impl Grant {
    /// From when on nothing of it is good any more.
    fn is_over(&self, now: SystemTime) -> bool {
        now >= self.ends || now >= self.refresh_ends && now >= self.tokens_end
    }

    fn issue(&mut self, grant: GrantId, terms: &LoginTerms, now: SystemTime) -> Issued {
        let expires = (now + terms.access_ttl).min(self.ends);
        self.tokens_end = self.tokens_end.max(expires);
        Issued {
            user: Arc::clone(&self.user),
            grant,
            fingerprint: self.fingerprint,
            refresh_token: RefreshToken::make(grant, self.generation, &self.secret),
            expires,
            grant_ends: self.ends,
        }
    }
}

#[derive(Default)]
struct Table {
    grants: HashMap<GrantId, Grant>,
    /// The grants of each user, the one that was refreshed longest ago first.
    by_user: HashMap<Arc<str>, Vec<GrantId>>,
    /// When the last token of each revoked grant ends.
    revoked: HashMap<GrantId, SystemTime>,
    swept: Option<SystemTime>,
}

impl Table {
    fn remove(&mut self, id: GrantId) -> Option<Grant> {
        let grant = self.grants.remove(&id)?;
        if let Some(of_user) = self.by_user.get_mut(&grant.user) {
            of_user.retain(|known| *known != id);
            if of_user.is_empty() {
                self.by_user.remove(&grant.user);
            }
        }
        Some(grant)
    }

    /// Ends a grant before its time. Whose it was; `None` if there is none.
    fn revoke(&mut self, id: GrantId) -> Option<Arc<str>> {
        let grant = self.remove(id)?;
        self.revoked.insert(id, grant.tokens_end);
        Some(grant.user)
    }

    /// Removes what has ended by itself.
    fn sweep(&mut self, now: SystemTime) {
        let over: Vec<_> =
            self.grants.iter().filter(|(_, grant)| grant.is_over(now)).map(|(id, _)| *id).collect();
        for id in over {
            self.remove(id);
        }
        self.revoked.retain(|_, end| now < *end);
        self.swept = Some(now);
    }
}

/// All grants.
#[derive(Default)]
pub struct Grants {
    table: Mutex<Table>,
    /// What requests look at: the keys of `revoked`.
    revoked: ArcSwap<HashSet<GrantId>>,
}

impl Grants {
    /// A user has logged in. If the user has as many grants as one may have, the one that was refreshed longest ago is revoked,
    /// which the second half of the answer says.
    pub fn begin(
        &self,
        user: &Arc<str>,
        fingerprint: Fingerprint,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<(Issued, bool), NotBegun> {
        let id = GrantId::random().map_err(|_| NotBegun::NoRandomness)?;
        let secret = GrantSecret::random().map_err(|_| NotBegun::NoRandomness)?;
        let mut table = self.table.lock();
        let mut is_beyond = false;
        while let Some(of_user) = table.by_user.get(user)
            && of_user.len() as u64 >= terms.per_user.max(1)
            && let Some(oldest) = of_user.first().copied()
        {
            is_beyond |= table.revoke(oldest).is_some();
        }
        if is_beyond {
            self.publish(&table);
        }
        if table.grants.len() + table.revoked.len() >= MOST {
            return Err(NotBegun::Full);
        }
        let ends = now + terms.max_age;
        let mut grant = Grant {
            user: Arc::clone(user),
            fingerprint,
            secret,
            generation: 0,
            rotated: now,
            refresh_ends: (now + terms.refresh_ttl).min(ends),
            tokens_end: now,
            ends,
        };
        let issued = grant.issue(id, terms, now);
        table.grants.insert(id, grant);
        table.by_user.entry(Arc::clone(user)).or_default().push(id);
        Ok((issued, is_beyond))
    }

    /// What comes of a refresh token: the next one. The one before the good one brings the same again for
    /// [`LoginTerms::reuse_grace`], since clients lose answers, and several processes of one refresh at once. Any other that the
    /// grant once had is a replay.
    pub fn refresh(
        &self,
        token: &RefreshToken,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Issued, NotRefreshed> {
        let mut table = self.table.lock();
        let table = &mut *table;
        let grant = table.grants.get_mut(&token.grant).ok_or(NotRefreshed::Invalid)?;
        if !token.is_of(&grant.secret) || now >= grant.ends {
            return Err(NotRefreshed::Invalid);
        }
        match grant.generation.checked_sub(token.generation) {
            Some(0) if now >= grant.refresh_ends => return Err(NotRefreshed::Invalid),
            Some(0) => {
                grant.generation = grant.generation.checked_add(1).ok_or(NotRefreshed::Invalid)?;
                grant.rotated = now;
                grant.refresh_ends = (now + terms.refresh_ttl).min(grant.ends);
                if let Some(of_user) = table.by_user.get_mut(&grant.user) {
                    of_user.retain(|known| *known != token.grant);
                    of_user.push(token.grant);
                }
            }
            Some(1) if now < grant.rotated + terms.reuse_grace => {}
            Some(_) => {
                let user = Arc::clone(&grant.user);
                table.revoke(token.grant);
                self.publish(table);
                return Err(NotRefreshed::Replayed(user));
            }
            None => return Err(NotRefreshed::Invalid),
        }
        Ok(grant.issue(token.grant, terms, now))
    }

    /// Who a refresh token is of, if it ever was one.
    pub fn user_of(&self, token: &RefreshToken) -> Option<Arc<str>> {
        let table = self.table.lock();
        let grant = table.grants.get(&token.grant)?;
        token.is_of(&grant.secret).then(|| Arc::clone(&grant.user))
    }

    /// Ends a grant. Whose it was; `None` if it had ended.
    pub fn revoke(&self, id: GrantId) -> Option<Arc<str>> {
        let mut table = self.table.lock();
        let user = table.revoke(id)?;
        self.publish(&table);
        Some(user)
    }

    /// Ends the grants of users that `keeps` does not keep. What a config takes away does not come back with the next one.
    pub fn keep(&self, keeps: impl Fn(&str, Fingerprint) -> bool) {
        let mut table = self.table.lock();
        let gone = |(id, grant): (&GrantId, &Grant)| (!keeps(&grant.user, grant.fingerprint)).then_some(*id);
        let gone: Vec<_> = table.grants.iter().filter_map(gone).collect();
        if !gone.is_empty() {
            for id in gone {
                table.revoke(id);
            }
            self.publish(&table);
        }
    }

    /// Removes what has ended by itself. Whether grants have: what runs by them has to end.
    pub fn sweep(&self, now: SystemTime) -> bool {
        let mut table = self.table.lock();
        if table.swept.is_some_and(|swept| now < swept + SWEEP) {
            return false;
        }
        let before = table.grants.len();
        table.sweep(now);
        self.publish(&table);
        table.grants.len() < before
    }

    /// Whether there is such a grant: neither revoked nor over.
    pub fn has(&self, id: GrantId) -> bool {
        self.table.lock().grants.contains_key(&id)
    }

    /// Whether a grant was revoked while tokens of it have not ended.
    pub fn is_revoked(&self, id: GrantId) -> bool {
        self.revoked.load().contains(&id)
    }

    fn publish(&self, table: &Table) {
        self.revoked.store(Arc::new(table.revoked.keys().copied().collect()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{super::keys::Keys, *};

    const TERMS: LoginTerms = LoginTerms {
        access_ttl: Duration::from_secs(900),
        refresh_ttl: Duration::from_secs(12 * 3600),
        max_age: Duration::from_secs(30 * 86_400),
        per_user: 3,
        reuse_grace: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint::of(&Keys::random().unwrap(), "hash").unwrap()
    }

    fn begin(grants: &Grants, user: &str, now: u64) -> Issued {
        grants.begin(&user.into(), fingerprint(), &TERMS, at(now)).unwrap().0
    }

    fn refresh(grants: &Grants, token: &Secret, now: u64) -> Result<Issued, NotRefreshed> {
        grants.refresh(&RefreshToken::parse(token.expose()).unwrap(), &TERMS, at(now))
    }

    #[test]
    fn a_hundred_refreshes_at_once_are_one_rotation_and_one_successor() {
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        let token = &login.refresh_token;
        let successors: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..100).map(|_| scope.spawn(|| refresh(&grants, token, 1).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().refresh_token).collect()
        });
        assert!(successors.iter().all(|successor| *successor == successors[0] && successor != token));
        // It is the only one that is good.
        let next = refresh(&grants, &successors[0], 2).unwrap();
        assert_eq!((next.grant, &*next.user), (login.grant, "alice"));
    }

    #[test]
    fn a_login_that_nobody_refreshed_is_over_with_its_last_token_and_is_there_until_then() {
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        let refresh_ends = 12 * 3600;
        assert!(!grants.sweep(at(refresh_ends - 1)) && grants.has(login.grant));
        assert!(!grants.sweep(at(refresh_ends)), "it is looked at now and then");
        assert!(grants.sweep(at(refresh_ends + 60)) && !grants.has(login.grant));
        assert!(!grants.sweep(at(refresh_ends + 120)));
        let other = begin(&grants, "alice", refresh_ends + 120);
        assert!(
            grants.revoke(other.grant).is_some()
                && !grants.has(other.grant)
                && grants.is_revoked(other.grant)
        );
    }

    #[test]
    fn a_token_used_again_later_ends_its_grant_and_one_just_before_does_not() {
        for (first, then, replay) in [(1, 11, true), (1, 10, false)] {
            let grants = Grants::default();
            let (login, others) = (begin(&grants, "alice", 0), begin(&grants, "alice", 0));
            let next = refresh(&grants, &login.refresh_token, first).unwrap();
            let again = refresh(&grants, &login.refresh_token, then);
            assert_eq!(grants.is_revoked(login.grant), replay);
            if replay {
                assert_eq!(again.unwrap_err(), NotRefreshed::Replayed("alice".into()));
                assert_eq!(refresh(&grants, &next.refresh_token, then).unwrap_err(), NotRefreshed::Invalid);
            } else {
                assert_eq!(again.unwrap().refresh_token, next.refresh_token);
            }
            assert!(
                !grants.is_revoked(others.grant) && refresh(&grants, &others.refresh_token, then).is_ok()
            );
        }
        // Within the time, but two generations ago.
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        let next = refresh(&grants, &login.refresh_token, 1).unwrap();
        refresh(&grants, &next.refresh_token, 2).unwrap();
        assert_eq!(
            refresh(&grants, &login.refresh_token, 3).unwrap_err(),
            NotRefreshed::Replayed("alice".into())
        );
    }

    #[test]
    fn a_forged_token_ends_nothing() {
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        let forged = RefreshToken::make(login.grant, 0, &GrantSecret::random().unwrap());
        for generation in [0, 1, 7] {
            let other = RefreshToken::make(login.grant, generation, &GrantSecret::random().unwrap());
            assert_eq!(refresh(&grants, &other, 1).unwrap_err(), NotRefreshed::Invalid);
        }
        assert!(grants.user_of(&RefreshToken::parse(forged.expose()).unwrap()).is_none());
        assert!(refresh(&grants, &login.refresh_token, 1).is_ok());
    }

    #[test]
    fn a_grant_ends_when_nobody_refreshes_it_and_at_its_own_end_in_any_case() {
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        assert_eq!((login.expires, login.grant_ends), (at(900), at(30 * 86_400)));
        assert_eq!(refresh(&grants, &login.refresh_token, 12 * 3600).unwrap_err(), NotRefreshed::Invalid);

        let mut last = begin(&grants, "alice", 0);
        for hour in (11..30 * 24).step_by(11) {
            last = refresh(&grants, &last.refresh_token, hour * 3600).unwrap();
        }
        let end = 30 * 86_400;
        let near = refresh(&grants, &last.refresh_token, end - 10).unwrap();
        assert_eq!((near.expires, near.grant_ends), (at(end), at(end)));
        assert_eq!(refresh(&grants, &near.refresh_token, end).unwrap_err(), NotRefreshed::Invalid);
        begin(&grants, "bob", end + 900);
        assert!(grants.sweep(at(end + 900)));
        let table = grants.table.lock();
        assert_eq!((table.grants.len(), table.by_user.len()), (1, 1), "what is over is removed");
    }

    #[test]
    fn who_has_too_many_loses_the_one_that_was_refreshed_longest_ago() {
        let grants = Grants::default();
        let logins = [0, 1, 2].map(|now| begin(&grants, "alice", now));
        refresh(&grants, &logins[0].refresh_token, 3).unwrap();
        begin(&grants, "bob", 4);
        let (_, is_beyond) = grants.begin(&"alice".into(), fingerprint(), &TERMS, at(5)).unwrap();
        assert!(is_beyond);
        assert_eq!(logins.map(|login| grants.is_revoked(login.grant)), [false, true, false]);
    }

    #[test]
    fn what_is_revoked_is_forgotten_once_its_tokens_have_ended() {
        let grants = Grants::default();
        let login = begin(&grants, "alice", 0);
        assert_eq!(grants.revoke(login.grant).as_deref(), Some("alice"));
        assert_eq!(grants.revoke(login.grant), None);
        assert!(!grants.sweep(at(899)), "it was over before");
        assert!(grants.is_revoked(login.grant));
        grants.sweep(at(960));
        assert!(!grants.is_revoked(login.grant));
    }

    #[test]
    fn grants_of_users_that_are_gone_are_revoked_for_good() {
        let grants = Grants::default();
        let (alice, bob) = (begin(&grants, "alice", 0), begin(&grants, "bob", 0));
        grants.keep(|user, _| user == "bob");
        grants.keep(|_, _| true);
        assert!(grants.is_revoked(alice.grant) && !grants.is_revoked(bob.grant));
        assert_eq!(refresh(&grants, &alice.refresh_token, 1).unwrap_err(), NotRefreshed::Invalid);
        grants.keep(|_, fingerprint| fingerprint != bob.fingerprint);
        assert!(grants.is_revoked(bob.grant));
    }

    #[test]
    fn no_grant_begins_that_could_not_be_revoked() {
        let grants = Grants::default();
        let terms = LoginTerms { per_user: 100, ..TERMS };
        let fingerprint = fingerprint();
        for user in 0..MOST / 100 {
            let user = user.to_string().into();
            for _ in 0..100 {
                grants.begin(&user, fingerprint, &terms, at(0)).unwrap();
            }
        }
        let user = "alice".into();
        assert_eq!(grants.begin(&user, fingerprint, &terms, at(1)).unwrap_err(), NotBegun::Full);
        grants.keep(|_, _| false);
        assert_eq!(grants.begin(&user, fingerprint, &terms, at(2)).unwrap_err(), NotBegun::Full);
        grants.sweep(at(961));
        grants.begin(&user, fingerprint, &terms, at(961)).unwrap();
    }
}
