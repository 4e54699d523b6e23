//! Grants in memory: all there are, or, beside a file, what was last read of it. Requests and streams look at nothing else.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    account::{Accounts, KeptAccount},
    acts::grants,
    code::{Code, CodeId},
    consent::{ConsentId, KeptConsent},
    fingerprint::Fingerprint,
    grant::Grant,
    grant_id::GrantId,
    kind::{ClientGrant, GrantKind, KindTag},
    refresh_token::RefreshToken,
    rows::{MOST, Rows},
    sources::{GoneInFile, Sources},
    spent::{Spent, SpentId},
    upstream_changes::UpstreamChanges,
    upstream_table::UpstreamTable,
    uses::Uses,
};
use crate::identity::principal::Principal;

/// How often what has ended is removed, at most.
const SWEEP: Duration = Duration::from_secs(10);
/// How long it stays before: until then, whatever runs by it has been asked whether it is over. And clocks of two gateways differ.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// How far what is written of the last use is behind, at most.
const USE_BEHIND: Duration = Duration::from_secs(300);

/// All rows; beside a file, grants and those that were revoked alone.
#[derive(Default)]
pub(super) struct Table {
    pub(super) grants: HashMap<GrantId, Grant>,
    by_principal: HashMap<Principal, HashSet<GrantId>>,
    /// Grants with a secret of their own.
    with_secret: HashSet<GrantId>,
    /// When the last token of each revoked grant ends.
    revoked: HashMap<GrantId, SystemTime>,
    /// Those that were revoked last. What is shown of the others has them not.
    recent: Vec<GrantId>,
    /// Those that were revoked here, while the file does not say so.
    pub(super) unwritten: HashSet<GrantId>,
    /// By what tokens come that are of no grant, while the file does not say so.
    pub(super) unwritten_sources: Option<Arc<Sources>>,
    codes: HashMap<CodeId, Code>,
    consents: HashMap<ConsentId, KeptConsent>,
    /// The same as those of the view.
    accounts: Arc<Accounts>,
    /// What was used up, by whose it is, and until when that is kept.
    spent: HashMap<Arc<str>, HashMap<SpentId, SystemTime>>,
    /// What is kept for servers.
    upstream: UpstreamTable,
    /// The latest end of those that are not kept any more.
    forgotten: Option<SystemTime>,
    swept: Option<SystemTime>,
    /// The time of day when that was last told.
    pub(super) now: Option<SystemTime>,
}

impl Table {
    fn remove(&mut self, id: GrantId) -> Option<Grant> {
        let grant = self.grants.remove(&id)?;
        if let Some(of_principal) = self.by_principal.get_mut(&grant.principal) {
            of_principal.remove(&id);
            if of_principal.is_empty() {
                self.by_principal.remove(&grant.principal);
            }
        }
        self.with_secret.remove(&id);
        Some(grant)
    }

    /// Forgets all others. Whether there were any.
    pub(super) fn keep_those(&mut self, those: &HashSet<GrantId>) -> bool {
        let gone: Vec<_> = self.grants.keys().filter(|id| !those.contains(id)).copied().collect();
        for id in &gone {
            self.remove(*id);
        }
        !gone.is_empty()
    }

    /// A grant as somebody else has left it.
    pub(super) fn insert(&mut self, grant: Grant) {
        if !self.revoked.contains_key(&grant.id) {
            if grant.own_secret.is_some() {
                self.with_secret.insert(grant.id);
            }
            match self.by_principal.get_mut(&grant.principal) {
                Some(of_principal) => drop(of_principal.insert(grant.id)),
                None => drop(self.by_principal.insert(grant.principal.clone(), [grant.id].into())),
            }
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

    /// It is revoked here, and the file does not say so yet.
    pub(super) fn note_unwritten(&mut self, ids: impl IntoIterator<Item = GrantId>) {
        // There are no more grants than that, so what is beyond has ended by itself.
        let room = MOST.saturating_sub(self.unwritten.len());
        self.unwritten.extend(ids.into_iter().take(room));
    }

    fn of<'a>(&'a self, principal: &Principal) -> impl Iterator<Item = &'a Grant> {
        let ids = self.by_principal.get(principal).into_iter().flatten();
        ids.filter_map(|id| self.grants.get(id))
    }
}

impl Rows for Table {
    type Error = Infallible;
    type Upstream = UpstreamTable;

    fn upstream(&mut self) -> &mut UpstreamTable {
        &mut self.upstream
    }

    fn get(&mut self, id: GrantId) -> Result<Option<Grant>, Infallible> {
        Ok(self.grants.get(&id).cloned())
    }

    fn of_principal(
        &mut self,
        principal: &Principal,
        kind: KindTag,
    ) -> Result<Vec<(GrantId, SystemTime)>, Infallible> {
        let grants = self.of(principal).filter(|grant| grant.kind.tag() == kind);
        Ok(grants.map(|grant| (grant.id, grant.rotated)).collect())
    }

    fn count(&mut self) -> Result<usize, Infallible> {
        Ok(self.grants.len() + self.revoked.len())
    }

    fn put(&mut self, grant: &Grant) -> Result<(), Infallible> {
        self.insert(grant.clone());
        Ok(())
    }

    fn move_to_revoked(&mut self, grant: &Grant) -> Result<(), Infallible> {
        self.end(grant.id, self.now.map_or(grant.tokens_end, |now| grant.revoked_until(now)));
        Ok(())
    }

    fn code(&mut self, id: CodeId) -> Result<Option<Code>, Infallible> {
        Ok(self.codes.get(&id).cloned())
    }

    fn codes_of(&mut self, principal: &Principal) -> Result<Vec<(CodeId, SystemTime)>, Infallible> {
        let codes = self.codes.iter().filter(|(_, code)| code.principal == *principal);
        Ok(codes.map(|(id, code)| (*id, code.made)).collect())
    }

    fn count_codes(&mut self) -> Result<usize, Infallible> {
        Ok(self.codes.len())
    }

    fn put_code(&mut self, id: CodeId, code: &Code) -> Result<(), Infallible> {
        self.codes.insert(id, code.clone());
        Ok(())
    }

    fn consents_of(&mut self, principal: &Principal) -> Result<Vec<KeptConsent>, Infallible> {
        let given = self.consents.values().filter(|given| given.consent.principal == *principal);
        Ok(given.cloned().collect())
    }

    fn put_consent(&mut self, consent: &KeptConsent) -> Result<(), Infallible> {
        self.consents.insert(consent.consent.id(), consent.clone());
        Ok(())
    }

    fn remove_consent(&mut self, id: ConsentId) -> Result<(), Infallible> {
        self.consents.remove(&id);
        Ok(())
    }

    fn account(&mut self, principal: &Principal) -> Result<Option<KeptAccount>, Infallible> {
        Ok(self.accounts.kept(principal))
    }

    fn count_accounts(&mut self) -> Result<usize, Infallible> {
        Ok(self.accounts.count())
    }

    fn put_account(&mut self, kept: &KeptAccount) -> Result<(), Infallible> {
        self.accounts.put(kept.clone());
        Ok(())
    }

    fn remove_account(&mut self, principal: &Principal) -> Result<(), Infallible> {
        self.accounts.remove(principal);
        Ok(())
    }

    fn is_spent(&mut self, id: SpentId) -> Result<bool, Infallible> {
        Ok(self.spent.values().any(|of_one| of_one.contains_key(&id)))
    }

    fn count_spent(&mut self, owner: &str) -> Result<usize, Infallible> {
        Ok(self.spent.get(owner).map_or(0, HashMap::len))
    }

    fn count_spent_of_all(&mut self, prefix: &str) -> Result<usize, Infallible> {
        let all = self.spent.iter().filter(|(owner, _)| owner.starts_with(prefix));
        Ok(all.map(|(_, of_one)| of_one.len()).sum())
    }

    fn forgotten_until(&mut self) -> Result<Option<SystemTime>, Infallible> {
        Ok(self.forgotten)
    }

    fn put_spent(&mut self, Spent { id, owner, until, .. }: &Spent) -> Result<(), Infallible> {
        self.spent.entry(Arc::clone(owner)).or_default().insert(*id, *until);
        Ok(())
    }

    fn put_revoked(&mut self, id: GrantId, ends: SystemTime) -> Result<(), Infallible> {
        self.end(id, ends);
        Ok(())
    }
}

/// A grant, for whoever it is of to see.
#[derive(Debug, Clone)]
pub struct GrantSummary {
    /// What it is called where people see it.
    pub shown_id: String,
    /// What it is for.
    pub kind: GrantKind,
    /// When it began.
    pub began: SystemTime,
    /// When something came by it last, to the minute.
    pub used: SystemTime,
    /// When it is over, if nobody refreshes it.
    pub ends: SystemTime,
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
pub(super) struct View {
    table: Mutex<Table>,
    revoked: ArcSwap<Revoked>,
    pub(super) uses: Uses,
    pub(super) accounts: Arc<Accounts>,
    /// What others wrote of credentials for servers, which are not here.
    pub(super) upstream_changes: UpstreamChanges,
    pub(super) gone_sources: GoneInFile,
}

impl Default for View {
    fn default() -> Self {
        let accounts = Arc::<Accounts>::default();
        let table = Table { accounts: Arc::clone(&accounts), ..Table::default() };
        Self {
            table: Mutex::new(table),
            revoked: ArcSwap::default(),
            uses: Uses::default(),
            accounts,
            upstream_changes: UpstreamChanges::default(),
            gone_sources: GoneInFile::default(),
        }
    }
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

    /// What a grant is for that is neither revoked nor over, within `None` if it is; `None` if nothing is known of it.
    pub(super) fn kind(&self, id: GrantId, now: SystemTime) -> Option<Option<GrantKind>> {
        let table = self.table.lock();
        if table.revoked.contains_key(&id) {
            return Some(None);
        }
        table.grants.get(&id).map(|grant| (now < grant.over()).then(|| grant.kind.clone()))
    }

    /// Who a refresh token is of, if it ever was one of a grant of this kind. `is_by_key` says whether the key made it.
    pub(super) fn principal_of(
        &self,
        token: &RefreshToken,
        kind: KindTag,
        is_by_key: bool,
    ) -> Option<Principal> {
        let table = self.table.lock();
        let grant = table.grants.get(&token.grant)?;
        let is_its = grant.kind.tag() == kind && grant.is_proved_by(token, is_by_key);
        is_its.then(|| grant.principal.clone())
    }

    /// Whether there is a grant with a secret of its own.
    pub(super) fn has_own_secrets(&self) -> bool {
        !self.table.lock().with_secret.is_empty()
    }

    /// A grant that is there.
    pub(super) fn grant(&self, id: GrantId) -> Option<Grant> {
        self.table.lock().grants.get(&id).cloned()
    }

    /// The grants of a principal that are not over, the one that began last first.
    pub(super) fn list(&self, principal: &Principal, now: SystemTime) -> Vec<GrantSummary> {
        let table = self.table.lock();
        let there = table.of(principal).filter(|grant| now < grant.over());
        let mut list: Vec<_> = there.map(|grant| self.summary(grant)).collect();
        list.sort_by(|one, other| other.began.cmp(&one.began).then(one.shown_id.cmp(&other.shown_id)));
        list
    }

    /// The grants of clients that others than `own` have and that are not over: of so many, those that began last, with whom each is
    /// of; and how many there are.
    pub(super) fn of_others(
        &self,
        own: &Principal,
        most: usize,
        now: SystemTime,
    ) -> (Vec<(Principal, GrantSummary)>, usize) {
        let table = self.table.lock();
        let is_shown = |grant: &&Grant| {
            grant.kind.tag() == KindTag::Client && grant.principal != *own && now < grant.over()
        };
        let mut there: Vec<_> = table.grants.values().filter(is_shown).collect();
        let count = there.len();
        let last_first = |grant: &&Grant| Reverse((grant.began, grant.id.bytes()));
        // Logins wait for the table meanwhile: only those that are shown are sorted.
        if most < count {
            there.select_nth_unstable_by_key(most, last_first);
            there.truncate(most);
        }
        there.sort_unstable_by_key(last_first);
        (there.iter().map(|grant| (grant.principal.clone(), self.summary(grant))).collect(), count)
    }

    /// All that are not over, by whom they are of; of one, that which began last first.
    pub(super) fn all(&self, now: SystemTime) -> Vec<(Principal, GrantSummary)> {
        let table = self.table.lock();
        let there = table.grants.values().filter(|grant| now < grant.over());
        let mut all: Vec<_> = there.map(|grant| (grant.principal.clone(), self.summary(grant))).collect();
        all.sort_by_cached_key(|(principal, grant)| {
            (principal.to_string(), Reverse(grant.began), grant.shown_id.clone())
        });
        all
    }

    fn summary(&self, grant: &Grant) -> GrantSummary {
        GrantSummary {
            shown_id: grant.id.shown(),
            kind: grant.kind.clone(),
            began: grant.began,
            used: self.used(grant),
            ends: grant.over(),
        }
    }

    /// The grant of a principal that is called so where people see it.
    pub(super) fn shown(&self, principal: &Principal, shown_id: &str) -> Option<(GrantId, GrantKind)> {
        let table = self.table.lock();
        let found = table.of(principal).find(|grant| grant.id.shown() == shown_id)?;
        Some((found.id, found.kind.clone()))
    }

    /// When something came by a grant last.
    pub(super) fn used(&self, grant: &Grant) -> SystemTime {
        self.uses.last(grant.id).map_or(grant.used, |used| used.max(grant.used))
    }

    /// The grants, `most` of them, of whose last use more is known than is written.
    pub(super) fn unwritten_uses(&self, most: usize) -> Vec<(GrantId, SystemTime)> {
        let table = self.table.lock();
        let behind = table.grants.values().filter_map(|grant| {
            let used = self.uses.last(grant.id)?;
            (used > grant.used + USE_BEHIND).then_some((grant.id, used))
        });
        behind.take(most).collect()
    }

    /// Ends the grants that `keeps` does not keep: of whom, and which client.
    pub(super) fn keep(
        &self,
        keeps: impl Fn(&Principal, Fingerprint, Option<&ClientGrant>) -> bool,
        has_file: bool,
    ) {
        self.change(|table| {
            let gone = |grant: &&Grant| {
                !keeps(&grant.principal, grant.fingerprint, grant.kind.client().map(|client| &**client))
            };
            let gone: Vec<_> = table.grants.values().filter(gone).map(|grant| grant.id).collect();
            for id in &gone {
                let Ok(()) = grants::end(table, *id);
            }
            if has_file {
                table.note_unwritten(gone);
            }
        });
    }

    /// Ends all grants of somebody who is let in no more.
    pub(super) fn end_of(&self, principal: &Principal, has_file: bool) {
        self.change(|table| {
            let all: Vec<_> = table.of(principal).map(|grant| grant.id).collect();
            for id in &all {
                let Ok(()) = grants::end(table, *id);
            }
            if has_file {
                table.note_unwritten(all);
            }
            table.accounts.remove(principal);
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
            table.codes.retain(|_, code| now < code.kept_until());
            table.consents.retain(|_, given| now < given.kept_until());
            table.accounts.sweep(|principal| table.by_principal.contains_key(principal), now);
            let forgotten = &mut table.forgotten;
            table.spent.retain(|_, of_one| {
                let (kept, over) = std::mem::take(of_one).into_iter().partition(|(_, until)| now < *until);
                *of_one = kept;
                *forgotten = over.into_values().chain(*forgotten).max();
                !of_one.is_empty()
            });
            table.upstream.sweep(now);
            table.swept = Some(now);
        });
    }
}
