//! The rows of the file, in a transaction.

use std::{collections::HashSet, time::SystemTime};

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{
    bodies::{self, millis, moment},
    sealed::ColumnSealer,
};
use crate::identity::{
    login::{
        account::KeptAccount,
        code::{Code, CodeId},
        consent::{ConsentId, KeptConsent},
        grant::Grant,
        grant_id::GrantId,
        keys::{Keys, NoKey, Purpose},
        kind::KindTag,
        rows::Rows,
        sources::{A_SECOND, KEPT, SourceId, Sources},
        spent::{Spent, SpentId},
        table::LINGER,
    },
    principal::Principal,
};

/// Rows that one transaction takes away.
pub(super) const PORTION: i64 = 1_000;

/// What seals the column of each table.
pub(super) struct Sealers {
    pub(super) grants: ColumnSealer,
    pub(super) revocations: ColumnSealer,
    pub(super) codes: ColumnSealer,
    pub(super) consents: ColumnSealer,
    pub(super) accounts: ColumnSealer,
    pub(super) upstream: ColumnSealer,
    pub(super) flows: ColumnSealer,
    pub(super) clients: ColumnSealer,
}

impl Sealers {
    pub(super) fn new(keys: &Keys) -> Result<Self, NoKey> {
        let sealer = |purpose| ColumnSealer::new(keys, purpose);
        Ok(Self {
            grants: sealer(Purpose::StoredGrants)?,
            revocations: sealer(Purpose::StoredRevocations)?,
            codes: sealer(Purpose::StoredCodes)?,
            consents: sealer(Purpose::StoredConsents)?,
            accounts: sealer(Purpose::StoredAccounts)?,
            upstream: sealer(Purpose::StoredUpstream)?,
            flows: sealer(Purpose::StoredFlows)?,
            clients: sealer(Purpose::StoredClients)?,
        })
    }
}

/// A row whose column is sealed.
pub(super) struct SealedRow {
    pub(super) id: Vec<u8>,
    /// Bytes: in a file that somebody has changed, it need not be a text.
    pub(super) owner: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl SealedRow {
    /// That of a row which has these three in its first columns.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let owner = row.get_ref(1)?.as_bytes()?.to_vec();
        Ok(Self { id: row.get(0)?, owner, body: row.get(2)? })
    }

    /// What the log calls it.
    pub(super) fn name(&self, table: &str) -> String {
        format!("{table} {}", hex::encode(&self.id[..self.id.len().min(8)]))
    }

    /// The same with what it is bound to.
    pub(super) fn full_name(&self, table: &str) -> String {
        let bound = String::from_utf8_lossy(&self.owner[..self.owner.len().min(200)]).into_owned();
        format!("{} {}", self.name(table), bound.escape_debug())
    }

    fn principal(&self) -> Option<Principal> {
        str::from_utf8(&self.owner).ok()?.parse().ok()
    }

    pub(super) fn grant(&self, sealers: &Sealers) -> Option<Grant> {
        let text = sealers.grants.open(&self.id, &self.owner, &self.body)?;
        let is_its = |grant: &Grant| row_id(grant.id).as_slice() == self.id;
        // One that is as long as those of the first version may be of this one: the id says what it is.
        let first = bodies::first_grant(self.principal()?, &text).filter(is_its);
        first.or_else(|| bodies::grant(self.principal()?, &text).filter(is_its))
    }

    pub(super) fn revocation(&self, sealers: &Sealers) -> Option<(GrantId, SystemTime)> {
        let text = sealers.revocations.open(&self.id, &self.owner, &self.body)?;
        let (id, ends) = text.split_first_chunk()?;
        Some((GrantId::new(*id), moment(i64::from_be_bytes(ends.try_into().ok()?))))
    }

    fn code(&self, sealers: &Sealers) -> Option<Code> {
        let text = sealers.codes.open(&self.id, &self.owner, &self.body)?;
        bodies::code(self.principal()?, &text)
    }

    fn consent(&self, sealers: &Sealers) -> Option<KeptConsent> {
        let text = sealers.consents.open(&self.id, &self.owner, &self.body)?;
        let kept = bodies::consent(self.principal()?, &text)?;
        (kept.consent.id().0.as_slice() == self.id).then_some(kept)
    }

    pub(super) fn account(&self, sealers: &Sealers) -> Option<KeptAccount> {
        let text = sealers.accounts.open(&self.id, &self.owner, &self.body)?;
        bodies::account(self.principal()?, &text)
    }
}

/// What names the row of an account.
fn account_row(principal: &Principal) -> [u8; 32] {
    Sha256::digest(principal.to_string()).into()
}

fn row_id(id: GrantId) -> [u8; 32] {
    Sha256::digest(id.bytes()).into()
}

/// The rows of the file, in a transaction.
pub(super) struct FileRows<'a> {
    pub(super) tx: &'a Transaction<'a>,
    pub(super) sealers: &'a Sealers,
    pub(super) now: SystemTime,
    /// Number of this change, if it is one.
    pub(super) changed: Option<i64>,
    /// Rows that did not open.
    pub(super) faults: Vec<String>,
}

impl FileRows<'_> {
    /// The number of this change.
    pub(super) fn change(&mut self) -> rusqlite::Result<i64> {
        if let Some(changed) = self.changed {
            return Ok(changed);
        }
        let update = "UPDATE store SET changed = changed + 1, latest = max(latest, ?1) RETURNING changed";
        let changed = self.tx.query_row(update, [millis(self.now)], |row| row.get(0))?;
        Ok(*self.changed.insert(changed))
    }

    /// Writes something that says nothing, to see whether that is possible.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        self.change().map(|_| ())
    }

    /// Removes what has ended by itself. Whether there may be more.
    pub(super) fn sweep(&mut self) -> rusqlite::Result<bool> {
        let before = millis(self.now).saturating_sub(LINGER.as_millis() as i64);
        let mut is_more = false;
        self.tx.prepare(
            "UPDATE store SET forgotten = ends FROM (SELECT max(ends) AS ends FROM spent WHERE ends <= ?1) \
             WHERE ends > forgotten",
        )?.execute([before])?;
        for (table, end) in [
            ("grants", "over"),
            ("revoked", "ends"),
            ("codes", "ends"),
            ("consents", "ends"),
            ("spent", "ends"),
            ("flows", "ends"),
            ("upstream_gone", "ends"),
        ] {
            let is_over = format!("SELECT id FROM {table} WHERE {end} <= ?1 LIMIT {PORTION}");
            if self.tx.prepare(&is_over)?.exists([before])? {
                self.change()?;
                let delete = format!("DELETE FROM {table} WHERE id IN ({is_over})");
                is_more |= self.tx.execute(&delete, [before])? as i64 == PORTION;
            }
        }
        let long_ago = millis(self.now).saturating_sub(KEPT.as_millis() as i64);
        self.tx.execute("DELETE FROM sources WHERE has = 0 AND gone <= ?1", [long_ago])?;
        // Who has no grant any more is forgotten. The others are looked at again the next time.
        let is_over = format!(
            "SELECT id FROM accounts WHERE ends <= ?1 AND NOT EXISTS \
             (SELECT 1 FROM grants WHERE grants.principal = accounts.principal) LIMIT {PORTION}"
        );
        if self.tx.prepare(&is_over)?.exists([before])? {
            self.change()?;
            let delete = format!("DELETE FROM accounts WHERE id IN ({is_over})");
            is_more |= self.tx.execute(&delete, [before])? as i64 == PORTION;
        }
        Ok(is_more)
    }

    /// Writes which sources of tokens a config has. One that it does not have, and the one before had, is gone from then on; that may
    /// have been while no gateway ran.
    pub(super) fn keep_sources(&mut self, Sources { has, gone, now }: &Sources) -> rusqlite::Result<()> {
        let changed = self.change()?;
        let had: Vec<[u8; 32]> = {
            let mut select = self.tx.prepare("SELECT id FROM sources WHERE has = 1")?;
            select.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        };
        let has: HashSet<_> = has.iter().copied().collect();
        let lost = had.into_iter().map(SourceId).filter(|id| !has.contains(id) && !gone.contains_key(id));
        let gone = gone.iter().map(|(id, at)| (*id, *at)).chain(lost.map(|id| (id, *now)));
        let mut insert = self.tx.prepare(
            "INSERT INTO sources VALUES (?1, 0, ?2, ?3) ON CONFLICT (id) DO UPDATE SET has = 0, \
             gone = CASE WHEN excluded.gone > gone THEN max(excluded.gone, gone + ?4) ELSE gone END, \
             changed = excluded.changed",
        )?;
        let a_second = A_SECOND.as_millis() as i64;
        for (SourceId(id), at) in gone {
            insert.execute(params![id, millis(at), changed, a_second])?;
        }
        let mut insert = self
            .tx
            .prepare("INSERT INTO sources VALUES (?1, 1, 0, ?2) ON CONFLICT (id) DO UPDATE SET has = 1")?;
        for SourceId(id) in has {
            insert.execute(params![id, changed])?;
        }
        Ok(())
    }

    fn one(&self, select: &str, id: &[u8; 32]) -> rusqlite::Result<Option<SealedRow>> {
        self.tx.prepare(select)?.query_row([id], SealedRow::read).optional()
    }

    fn all(&self, select: &str, principal: &Principal) -> rusqlite::Result<Vec<SealedRow>> {
        let mut select = self.tx.prepare(select)?;
        select.query_map([principal.to_string()], SealedRow::read)?.collect()
    }

    /// Writes a code or a consent, which are in tables that are alike.
    fn put_sealed(
        &mut self,
        table: &str,
        sealer: &ColumnSealer,
        id: &[u8; 32],
        principal: &Principal,
        ends: SystemTime,
        text: Option<&[u8]>,
    ) -> rusqlite::Result<()> {
        let owner = principal.to_string();
        let body = sealed(sealer, id, &owner, text)?;
        self.change()?;
        let mut insert =
            self.tx.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4)"))?;
        insert.execute(params![id, owner, millis(ends), body]).map(|_| ())
    }

    fn remove(&mut self, delete: &str, id: &[u8; 32]) -> rusqlite::Result<()> {
        self.change()?;
        self.tx.prepare(delete)?.execute([id]).map(|_| ())
    }
}

pub(super) fn sealed(
    sealer: &ColumnSealer,
    id: &[u8],
    owner: &str,
    text: Option<&[u8]>,
) -> rusqlite::Result<Vec<u8>> {
    let sealed = text.and_then(|text| sealer.seal(id, owner.as_bytes(), text).ok());
    sealed.ok_or_else(|| rusqlite::Error::ToSqlConversionFailure("it cannot be sealed".into()))
}

impl Rows for FileRows<'_> {
    type Error = rusqlite::Error;
    type Upstream = Self;

    fn upstream(&mut self) -> &mut Self {
        self
    }

    fn get(&mut self, id: GrantId) -> rusqlite::Result<Option<Grant>> {
        let row = self.one("SELECT id, principal, body FROM grants WHERE id = ?1", &row_id(id))?;
        Ok(row.and_then(|row| row.grant(self.sealers)))
    }

    fn of_principal(
        &mut self,
        principal: &Principal,
        kind: KindTag,
    ) -> rusqlite::Result<Vec<(GrantId, SystemTime)>> {
        let select = "SELECT id, principal, body FROM grants WHERE principal = ?1 ORDER BY rotated";
        let rows = self.all(select, principal)?;
        let grants = rows.iter().filter_map(|row| row.grant(self.sealers));
        let of_kind = grants.filter(|grant| grant.kind.tag() == kind);
        Ok(of_kind.map(|grant| (grant.id, grant.rotated)).collect())
    }

    fn count(&mut self) -> rusqlite::Result<usize> {
        let count = "SELECT (SELECT count(*) FROM grants) + (SELECT count(*) FROM revoked)";
        let count: i64 = self.tx.prepare(count)?.query_row((), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn put(&mut self, grant: &Grant) -> rusqlite::Result<()> {
        let (id, owner) = (row_id(grant.id), grant.principal.to_string());
        let text = bodies::of_grant(grant);
        let body = sealed(&self.sealers.grants, &id, &owner, text.as_ref().map(|text| &text[..]))?;
        let changed = self.change()?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let (rotated, over) = (millis(grant.rotated), millis(grant.over()));
        insert.execute(params![id, owner, rotated, over, body, changed]).map(|_| ())
    }

    fn move_to_revoked(&mut self, grant: &Grant) -> rusqlite::Result<()> {
        self.tx.prepare("DELETE FROM grants WHERE id = ?1")?.execute([row_id(grant.id)])?;
        self.put_revoked(grant.id, grant.revoked_until(self.now))
    }

    fn code(&mut self, id: CodeId) -> rusqlite::Result<Option<Code>> {
        let row = self.one("SELECT id, principal, body FROM codes WHERE id = ?1", &id.0)?;
        Ok(row.and_then(|row| row.code(self.sealers)))
    }

    fn codes_of(&mut self, principal: &Principal) -> rusqlite::Result<Vec<(CodeId, SystemTime)>> {
        let rows = self.all("SELECT id, principal, body FROM codes WHERE principal = ?1", principal)?;
        let code = |row: &SealedRow| {
            Some((CodeId(row.id.as_slice().try_into().ok()?), row.code(self.sealers)?.made))
        };
        Ok(rows.iter().filter_map(code).collect())
    }

    fn count_codes(&mut self) -> rusqlite::Result<usize> {
        let count: i64 = self.tx.prepare("SELECT count(*) FROM codes")?.query_row((), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn put_code(&mut self, id: CodeId, code: &Code) -> rusqlite::Result<()> {
        let (sealers, text) = (self.sealers, bodies::of_code(code));
        let text = text.as_ref().map(|text| &text[..]);
        self.put_sealed("codes", &sealers.codes, &id.0, &code.principal, code.kept_until(), text)
    }

    fn consents_of(&mut self, principal: &Principal) -> rusqlite::Result<Vec<KeptConsent>> {
        let rows = self.all("SELECT id, principal, body FROM consents WHERE principal = ?1", principal)?;
        Ok(rows.iter().filter_map(|row| row.consent(self.sealers)).collect())
    }

    fn put_consent(&mut self, kept: &KeptConsent) -> rusqlite::Result<()> {
        let (id, principal) = (kept.consent.id(), &kept.consent.principal);
        let (sealers, text) = (self.sealers, bodies::of_consent(kept));
        let text = text.as_ref().map(|text| &text[..]);
        self.put_sealed("consents", &sealers.consents, &id.0, principal, kept.kept_until(), text)
    }

    fn remove_consent(&mut self, id: ConsentId) -> rusqlite::Result<()> {
        self.remove("DELETE FROM consents WHERE id = ?1", &id.0)
    }

    fn account(&mut self, principal: &Principal) -> rusqlite::Result<Option<KeptAccount>> {
        let select = "SELECT id, principal, body FROM accounts WHERE id = ?1";
        let row = self.one(select, &account_row(principal))?;
        Ok(row.and_then(|row| row.account(self.sealers)).filter(|kept| kept.account.principal == *principal))
    }

    fn count_accounts(&mut self) -> rusqlite::Result<usize> {
        let count: i64 = self.tx.prepare("SELECT count(*) FROM accounts")?.query_row((), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn put_account(&mut self, kept: &KeptAccount) -> rusqlite::Result<()> {
        let principal = &kept.account.principal;
        let (id, owner, text) = (account_row(principal), principal.to_string(), bodies::of_account(kept));
        let body = sealed(&self.sealers.accounts, &id, &owner, text.as_ref().map(|text| &text[..]))?;
        let changed = self.change()?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO accounts VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![id, owner, millis(kept.kept_until()), body, changed]).map(|_| ())
    }

    fn remove_account(&mut self, principal: &Principal) -> rusqlite::Result<()> {
        self.remove("DELETE FROM accounts WHERE id = ?1", &account_row(principal))
    }

    fn is_spent(&mut self, id: SpentId) -> rusqlite::Result<bool> {
        self.tx.prepare("SELECT 1 FROM spent WHERE id = ?1")?.exists([id.0])
    }

    fn count_spent(&mut self, owner: &str) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM spent WHERE owner = ?1";
        let count: i64 = self.tx.prepare(count)?.query_row([owner], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn count_spent_of_all(&mut self, prefix: &str) -> rusqlite::Result<usize> {
        // No text that begins so is behind this one: no text has the last character of all.
        let (from, to) = (prefix, format!("{prefix}{}", char::MAX));
        let count = "SELECT count(*) FROM spent WHERE owner >= ?1 AND owner < ?2";
        let count: i64 = self.tx.prepare(count)?.query_row([from, &to], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn forgotten_until(&mut self) -> rusqlite::Result<Option<SystemTime>> {
        let until: i64 = self.tx.prepare("SELECT forgotten FROM store")?.query_row((), |row| row.get(0))?;
        Ok((until > 0).then(|| moment(until)))
    }

    fn put_spent(&mut self, Spent { id, owner, until, .. }: &Spent) -> rusqlite::Result<()> {
        self.change()?;
        let mut insert = self.tx.prepare("INSERT INTO spent VALUES (?1, ?2, ?3)")?;
        insert.execute(params![id.0, owner, millis(*until)]).map(|_| ())
    }

    fn put_revoked(&mut self, id: GrantId, ends: SystemTime) -> rusqlite::Result<()> {
        let (row, ends) = (row_id(id), millis(ends));
        let text = [&id.bytes()[..], &ends.to_be_bytes()].concat();
        let body = sealed(&self.sealers.revocations, &row, "", Some(&text))?;
        let changed = self.change()?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO revoked VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![row, ends, body, changed]).map(|_| ())
    }
}
