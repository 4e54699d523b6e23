//! Grants in memory: all there are, or, beside a file, what was last read of it. Requests and streams look at nothing else.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    fingerprint::Fingerprint,
    grant::{self, Grant, GrantRows},
    grant_id::GrantId,
    refresh_token::RefreshToken,
};

/// How often what has ended is removed, at most.
const SWEEP: Duration = Duration::from_secs(10);
/// How long it stays before: until then, whatever runs by it has been asked whether it is over. And clocks of two gateways differ.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// Grants by their ids.
#[derive(Default)]
pub(super) struct Table {
    pub(super) grants: HashMap<GrantId, Grant>,
    by_user: HashMap<Arc<str>, HashSet<GrantId>>,
    /// When the last token of each revoked grant ends.
    revoked: HashMap<GrantId, SystemTime>,
    /// Those that were revoked last. What is shown of the others has them not.
    recent: Vec<GrantId>,
    /// Those that were revoked here, while the file does not say so.
    pub(super) unwritten: HashSet<GrantId>,
    swept: Option<SystemTime>,
    /// The time of day when that was last told.
    pub(super) now: Option<SystemTime>,
}

impl Table {
    fn remove(&mut self, id: GrantId) -> Option<Grant> {
        let grant = self.grants.remove(&id)?;
        if let Some(of_user) = self.by_user.get_mut(&grant.user) {
            of_user.remove(&id);
            if of_user.is_empty() {
                self.by_user.remove(&grant.user);
            }
        }
        Some(grant)
    }

    /// A grant as somebody else has left it.
    pub(super) fn insert(&mut self, grant: Grant) {
        if !self.revoked.contains_key(&grant.id) {
            self.by_user.entry(Arc::clone(&grant.user)).or_default().insert(grant.id);
            self.grants.insert(grant.id, grant);
        }
    }

    /// A grant is revoked, whether it is known or not; its tokens end at `tokens_end` at the latest.
    pub(super) fn end(&mut self, id: GrantId, tokens_end: SystemTime) {
        self.remove(id);
        if self.revoked.insert(id, tokens_end).is_none() {
            self.recent.push(id);
        }
    }
}

impl GrantRows for Table {
    type Error = Infallible;

    fn get(&mut self, id: GrantId) -> Result<Option<Grant>, Infallible> {
        Ok(self.grants.get(&id).cloned())
    }

    fn of_user(&mut self, user: &str) -> Result<Vec<(GrantId, SystemTime)>, Infallible> {
        let ids = self.by_user.get(user).into_iter().flatten();
        Ok(ids.filter_map(|id| Some((*id, self.grants.get(id)?.rotated))).collect())
    }

    fn count(&mut self) -> Result<usize, Infallible> {
        Ok(self.grants.len() + self.revoked.len())
    }

    fn put(&mut self, grant: &Grant) -> Result<(), Infallible> {
        self.insert(grant.clone());
        Ok(())
    }

    fn move_to_revoked(&mut self, grant: &Grant) -> Result<(), Infallible> {
        self.end(grant.id, grant.tokens_end);
        Ok(())
    }
}

/// Most revoked grants that are copied for each one that is revoked. The others are copied once for so many.
const RECENT: usize = 512;

/// Which grants are revoked, for requests to look at.
#[derive(Clone, Default)]
struct Revoked {
    settled: Arc<HashSet<GrantId>>,
    recent: HashSet<GrantId>,
}

/// The table, and what of it requests look at.
#[derive(Default)]
pub(super) struct View {
    table: Mutex<Table>,
    revoked: ArcSwap<Revoked>,
}

impl View {
    /// Changes the table, and lets requests see which grants are revoked then.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock();
        let (all, recent) = (table.revoked.len(), table.recent.len());
        let changed = change(&mut table);
        let added = table.recent.len() - recent;
        // A sweep takes some out.
        if table.revoked.len() != all + added || table.recent.len() > RECENT {
            table.recent.clear();
            let settled = Arc::new(table.revoked.keys().copied().collect());
            self.revoked.store(Arc::new(Revoked { settled, recent: HashSet::new() }));
        } else if added > 0 {
            let settled = Arc::clone(&self.revoked.load().settled);
            let recent = table.recent.iter().copied().collect();
            self.revoked.store(Arc::new(Revoked { settled, recent }));
        }
        changed
    }

    /// Whether a grant was revoked while tokens of it have not ended.
    pub(super) fn is_revoked(&self, id: GrantId) -> bool {
        let revoked = self.revoked.load();
        revoked.recent.contains(&id) || revoked.settled.contains(&id)
    }

    /// Whether a grant is there and not over; `None` if nothing is known of it.
    pub(super) fn has(&self, id: GrantId, now: SystemTime) -> Option<bool> {
        let table = self.table.lock();
        let is_revoked = table.revoked.contains_key(&id).then_some(false);
        is_revoked.or_else(|| table.grants.get(&id).map(|grant| now < grant.over()))
    }

    /// Who a refresh token is of, if it ever was one.
    pub(super) fn user_of(&self, token: &RefreshToken) -> Option<Arc<str>> {
        let table = self.table.lock();
        let grant = table.grants.get(&token.grant);
        let is_of_known = token.is_of_known(grant.map(|grant| &grant.secret));
        grant.filter(|_| is_of_known).map(|grant| Arc::clone(&grant.user))
    }

    /// Ends the grants of users that `keeps` does not keep.
    pub(super) fn keep(&self, keeps: impl Fn(&str, Fingerprint) -> bool, has_file: bool) {
        self.change(|table| {
            let gone = |grant: &&Grant| !keeps(&grant.user, grant.fingerprint);
            let gone: Vec<_> = table.grants.values().filter(gone).map(|grant| grant.id).collect();
            for id in &gone {
                let Ok(_) = grant::revoke(table, *id);
            }
            if has_file {
                table.unwritten.extend(gone);
            }
        });
    }

    /// Removes what has ended by itself.
    pub(super) fn sweep(&self, now: SystemTime) {
        self.change(|table| {
            table.now = Some(now);
            if table.swept.is_some_and(|swept| now < swept + SWEEP) {
                return;
            }
            let is_over = |grant: &&Grant| grant.over() + LINGER <= now;
            let over: Vec<_> = table.grants.values().filter(is_over).map(|grant| grant.id).collect();
            for id in over {
                table.remove(id);
            }
            table.revoked.retain(|_, end| now < *end);
            table.swept = Some(now);
        });
    }
}
