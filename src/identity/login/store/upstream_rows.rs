//! The rows of what is kept for servers, in the file.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Row, Transaction, params, types::ValueRef};
use zeroize::Zeroizing;

use super::{
    bodies::{millis, moment},
    rows::{FileRows, SealedRow, Sealers, sealed},
};
use crate::identity::{
    login::{
        rows::UpstreamRows,
        upstream_changes::{MOST_CHANGES, UpstreamChange},
        upstream_row::{
            KeptClient, KeptFlow, KeptUpstream, PairId, UpstreamCounts, UpstreamOwner, UpstreamRow,
            UpstreamState,
        },
    },
    principal::Principal,
};

/// What a credential is sealed with beside its id, in SQL: as [`bound`].
pub(super) const UPSTREAM_BOUND: &str = "version || ' ' || owner || ' ' || server";
/// The same of a flow.
pub(super) const FLOW_BOUND: &str = "ends || ' ' || principal";
/// The same of a client.
pub(super) const CLIENT_BOUND: &str = "server || ' ' || issuer";

/// The columns of a credential, as [`SealedUpstream::read`] wants them.
const COLUMNS: &str =
    "id, owner, server, state, since, changed_at, ends, version, locked_until, body FROM upstream";

/// What stands open in the row of a credential, whether it opens or not.
pub(super) struct UpstreamName {
    pub(super) id: [u8; 32],
    pub(super) owner: String,
    pub(super) server: String,
}

/// The row of a credential.
pub(super) struct SealedUpstream {
    id: Vec<u8>,
    /// Bytes, as the next two: in a file that somebody has changed, they need not be texts.
    owner: Vec<u8>,
    server: Vec<u8>,
    state: Vec<u8>,
    since: i64,
    changed: i64,
    ends: Option<i64>,
    version: i64,
    locked_until: i64,
    body: Vec<u8>,
}

/// What stands in a column of text.
fn bytes(value: ValueRef<'_>) -> rusqlite::Result<Vec<u8>> {
    Ok(value.as_bytes()?.to_vec())
}

/// The same for people to see.
fn lossy(value: ValueRef<'_>) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(value.as_bytes()?).into_owned())
}

/// What the log calls a row: the table, and what the row says of itself, which somebody may have written.
fn named(table: &str, parts: [&[u8]; 2]) -> String {
    let [one, other] = parts.map(|part| {
        let part = String::from_utf8_lossy(&part[..part.len().min(200)]).into_owned();
        part.escape_debug().to_string()
    });
    format!("{table} {one} {other}")
}

impl SealedUpstream {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            owner: bytes(row.get_ref(1)?)?,
            server: bytes(row.get_ref(2)?)?,
            state: bytes(row.get_ref(3)?)?,
            since: row.get(4)?,
            changed: row.get(5)?,
            ends: row.get(6)?,
            version: row.get(7)?,
            locked_until: row.get(8)?,
            body: row.get(9)?,
        })
    }

    fn name(&self) -> String {
        named("upstream", [&self.owner, &self.server])
    }

    fn open(&self, sealers: &Sealers) -> Option<KeptUpstream> {
        let (owner, server) = (str::from_utf8(&self.owner).ok()?, str::from_utf8(&self.server).ok()?);
        let body =
            sealers.upstream.open(&self.id, bound(self.version, owner, server).as_bytes(), &self.body)?;
        if PairId::of(owner, server).0.as_slice() != self.id {
            return None;
        }
        let row = UpstreamRow {
            owner: owner.parse().ok()?,
            server: server.into(),
            state: UpstreamState::named(str::from_utf8(&self.state).ok()?)?,
            body,
            version: u64::try_from(self.version).ok()?,
            since: moment(self.since),
            changed: moment(self.changed),
            ends: self.ends.map(moment),
        };
        Some(KeptUpstream { row, locked_until: moment(self.locked_until) })
    }
}

/// What a credential is sealed with beside its id. That is a hash of owner and server, so that nothing can be cut elsewhere.
fn bound(version: i64, owner: &str, server: &str) -> String {
    format!("{version} {owner} {server}")
}

/// What others than change `own` did to credentials after change `seen`; `None` if it is more than is remembered.
pub(super) fn changes_of_others(
    tx: &Transaction<'_>,
    seen: i64,
    own: i64,
) -> rusqlite::Result<Option<Vec<UpstreamChange>>> {
    let most = MOST_CHANGES as i64 + 1;
    let mut changes = Vec::new();
    for select in [
        "SELECT owner, server, NULL FROM upstream_gone WHERE changed > ?1 AND changed <> ?2 LIMIT ?3",
        "SELECT owner, server, version FROM upstream WHERE changed > ?1 AND changed <> ?2 LIMIT ?3",
    ] {
        let mut select = tx.prepare(select)?;
        let mut rows = select.query(params![seen, own, most])?;
        while let Some(row) = rows.next()? {
            let (owner, server) = (bytes(row.get_ref(0)?)?, bytes(row.get_ref(1)?)?);
            let version: Option<i64> = row.get(2)?;
            // What names nobody is nobody's, and nobody has it in memory.
            let (Ok(owner), Ok(server)) = (str::from_utf8(&owner), str::from_utf8(&server)) else { continue };
            let Ok(owner) = owner.parse() else { continue };
            let version = version.and_then(|version| u64::try_from(version).ok());
            changes.push(UpstreamChange { owner, server: server.into(), version });
        }
    }
    Ok((changes.len() <= MOST_CHANGES).then_some(changes))
}

impl FileRows<'_> {
    /// What rows of credentials say; what does not open is noted.
    fn opened(&mut self, rows: Vec<SealedUpstream>) -> Vec<KeptUpstream> {
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows {
            match row.open(self.sealers) {
                Some(kept) => opened.push(kept),
                None => self.faults.push(row.name()),
            }
        }
        opened
    }

    /// The rows of this owner, or of all, for this server, or for all: also those that do not open.
    pub(super) fn credential_names(
        &mut self,
        owner: Option<&str>,
        server: Option<&str>,
    ) -> rusqlite::Result<Vec<UpstreamName>> {
        let mut select = self.tx.prepare(
            "SELECT id, owner, server FROM upstream WHERE (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR server = ?2) \
             ORDER BY owner, server",
        )?;
        let rows = select.query_map(params![owner, server], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, lossy(row.get_ref(1)?)?, lossy(row.get_ref(2)?)?))
        })?;
        let mut names = Vec::new();
        for row in rows {
            let (id, owner, server) = row?;
            // One of another length is none that was written here.
            names.extend(id.try_into().ok().map(|id| UpstreamName { id, owner, server }));
        }
        Ok(names)
    }

    /// For which server, and at which issuer, each client is registered.
    pub(super) fn client_names(&mut self) -> rusqlite::Result<Vec<([u8; 32], String, String)>> {
        let mut select = self.tx.prepare("SELECT id, server, issuer FROM clients ORDER BY server, issuer")?;
        let rows = select.query_map((), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, lossy(row.get_ref(1)?)?, lossy(row.get_ref(2)?)?))
        })?;
        let mut names = Vec::new();
        for row in rows {
            let (id, server, issuer) = row?;
            names.extend(id.try_into().ok().map(|id| (id, server, issuer)));
        }
        Ok(names)
    }

    fn count_of(&self, table: &str) -> rusqlite::Result<usize> {
        let count = format!("SELECT count(*) FROM {table}");
        let count: i64 = self.tx.prepare(&count)?.query_row((), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

impl UpstreamRows for FileRows<'_> {
    type Error = rusqlite::Error;

    fn credential(&mut self, id: PairId) -> rusqlite::Result<Option<KeptUpstream>> {
        let select = format!("SELECT {COLUMNS} WHERE id = ?1");
        let row = self.tx.prepare(&select)?.query_row([id.0], SealedUpstream::read).optional()?;
        Ok(self.opened(row.into_iter().collect()).pop())
    }

    fn credentials_of(&mut self, owner: &UpstreamOwner) -> rusqlite::Result<Vec<UpstreamRow>> {
        let mut select = self.tx.prepare(&format!("SELECT {COLUMNS} WHERE owner = ?1 ORDER BY server"))?;
        let rows = select.query_map([owner.to_string()], SealedUpstream::read)?;
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        Ok(self.opened(rows).into_iter().map(|kept| kept.row).collect())
    }

    fn all_credentials(&mut self, most: usize) -> rusqlite::Result<Vec<UpstreamRow>> {
        let mut select = self.tx.prepare(&format!("SELECT {COLUMNS} ORDER BY owner, server LIMIT ?1"))?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = select.query([most])?;
        let mut all = Vec::new();
        // One after the other: bodies are not needed, but to see whether they open.
        while let Some(row) = rows.next()? {
            let kept = self.opened(vec![SealedUpstream::read(row)?]).pop();
            all.extend(kept.map(|kept| UpstreamRow { body: Zeroizing::default(), ..kept.row }));
        }
        Ok(all)
    }

    fn credential_counts(&mut self) -> rusqlite::Result<UpstreamCounts> {
        let mut select = self
            .tx
            .prepare("SELECT server, state, count(*) FROM upstream GROUP BY server, state ORDER BY 1, 2")?;
        let mut rows = select.query(())?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            let (server, state) = (bytes(row.get_ref(0)?)?, bytes(row.get_ref(1)?)?);
            let count = usize::try_from(row.get::<_, i64>(2)?).unwrap_or_default();
            let state = str::from_utf8(&state).ok().and_then(UpstreamState::named);
            if let (Ok(server), Some(state)) = (str::from_utf8(&server), state) {
                counts.push((server.into(), state, count));
            }
        }
        Ok(counts)
    }

    fn count_credentials(&mut self) -> rusqlite::Result<usize> {
        self.count_of("upstream")
    }

    fn count_credentials_of(&mut self, owner: &UpstreamOwner) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM upstream WHERE owner = ?1";
        let count: i64 = self.tx.prepare(count)?.query_row([owner.to_string()], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn put_credential(&mut self, KeptUpstream { row, locked_until }: &KeptUpstream) -> rusqlite::Result<()> {
        let (id, owner) = (PairId::of_credential(&row.owner, &row.server), row.owner.to_string());
        let version = i64::try_from(row.version)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let bound = bound(version, &owner, &row.server);
        let body = sealed(&self.sealers.upstream, &id.0, &bound, Some(&row.body))?;
        let changed = self.change()?;
        self.tx.prepare("DELETE FROM upstream_gone WHERE id = ?1")?.execute([id.0])?;
        let mut insert = self.tx.prepare(
            "INSERT OR REPLACE INTO upstream VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        let (since, changed_at, ends) = (millis(row.since), millis(row.changed), row.ends.map(millis));
        let (server, state, locked_until) = (&*row.server, row.state.name(), millis(*locked_until));
        insert
            .execute(params![
                id.0,
                owner,
                server,
                state,
                since,
                changed_at,
                ends,
                version,
                locked_until,
                body,
                changed
            ])
            .map(|_| ())
    }

    fn lock_credential(&mut self, id: PairId, until: SystemTime) -> rusqlite::Result<()> {
        let mut update = self.tx.prepare("UPDATE upstream SET locked_until = ?2 WHERE id = ?1")?;
        update.execute(params![id.0, millis(until)]).map(|_| ())
    }

    fn remove_credential(&mut self, id: PairId) -> rusqlite::Result<()> {
        if !self.tx.prepare("SELECT 1 FROM upstream WHERE id = ?1")?.exists([id.0])? {
            return Ok(());
        }
        let changed = self.change()?;
        // Whoever does not go by a time of day does it now.
        let now = millis(self.now.max(SystemTime::now()));
        let mut insert = self.tx.prepare(
            "INSERT OR REPLACE INTO upstream_gone SELECT id, owner, server, ?2, ?3 FROM upstream WHERE id = ?1",
        )?;
        insert.execute(params![id.0, now, changed])?;
        self.tx.prepare("DELETE FROM upstream WHERE id = ?1")?.execute([id.0]).map(|_| ())
    }

    fn flow(&mut self, id: [u8; 32]) -> rusqlite::Result<Option<KeptFlow>> {
        let read = |row: &Row<'_>| Ok((SealedRow::read(row)?, row.get::<_, i64>(3)?));
        let select = "SELECT id, principal, body, ends FROM flows WHERE id = ?1";
        let Some((row, ends)) = self.tx.prepare(select)?.query_row([id], read).optional()? else {
            return Ok(None);
        };
        let open = || {
            let principal = str::from_utf8(&row.owner).ok()?;
            let bound = format!("{ends} {principal}");
            let body = self.sealers.flows.open(&row.id, bound.as_bytes(), &row.body)?;
            Some(KeptFlow { principal: principal.parse().ok()?, ends: moment(ends), body })
        };
        let opened = open();
        if opened.is_none() {
            self.faults.push(named("flows", [&row.owner, b""]));
        }
        Ok(opened)
    }

    fn flows_of(&mut self, principal: &Principal) -> rusqlite::Result<Vec<([u8; 32], SystemTime)>> {
        let mut select = self.tx.prepare("SELECT id, ends FROM flows WHERE principal = ?1")?;
        let rows = select.query_map([principal.to_string()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
        })?;
        let mut flows = Vec::new();
        for row in rows {
            let (id, ends) = row?;
            flows.extend(id.try_into().ok().map(|id| (id, moment(ends))));
        }
        Ok(flows)
    }

    fn count_flows(&mut self) -> rusqlite::Result<usize> {
        self.count_of("flows")
    }

    fn put_flow(
        &mut self,
        id: [u8; 32],
        KeptFlow { principal, ends, body }: &KeptFlow,
    ) -> rusqlite::Result<()> {
        let (principal, ends) = (principal.to_string(), millis(*ends));
        let body = sealed(&self.sealers.flows, &id, &format!("{ends} {principal}"), Some(body))?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO flows VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![id, principal, ends, body]).map(|_| ())
    }

    fn remove_flow(&mut self, id: [u8; 32]) -> rusqlite::Result<()> {
        self.tx.prepare("DELETE FROM flows WHERE id = ?1")?.execute([id]).map(|_| ())
    }

    fn client(&mut self, id: PairId) -> rusqlite::Result<Option<KeptClient>> {
        let read = |row: &Row<'_>| {
            let [server, issuer] = [bytes(row.get_ref(0)?)?, bytes(row.get_ref(1)?)?];
            Ok((server, issuer, row.get::<_, Vec<u8>>(2)?))
        };
        let select = "SELECT server, issuer, body FROM clients WHERE id = ?1";
        let Some((server, issuer, body)) = self.tx.prepare(select)?.query_row([id.0], read).optional()?
        else {
            return Ok(None);
        };
        let open = || {
            let (server, issuer) = (str::from_utf8(&server).ok()?, str::from_utf8(&issuer).ok()?);
            let body = self.sealers.clients.open(&id.0, format!("{server} {issuer}").as_bytes(), &body)?;
            let is_its = PairId::of(server, issuer) == id;
            is_its.then(|| KeptClient { server: server.into(), issuer: issuer.into(), body })
        };
        let opened = open();
        if opened.is_none() {
            self.faults.push(named("clients", [&server, &issuer]));
        }
        Ok(opened)
    }

    fn count_clients(&mut self) -> rusqlite::Result<usize> {
        self.count_of("clients")
    }

    fn put_client(&mut self, KeptClient { server, issuer, body }: &KeptClient) -> rusqlite::Result<()> {
        let id = PairId::of(server, issuer);
        let body = sealed(&self.sealers.clients, &id.0, &format!("{server} {issuer}"), Some(body))?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO clients VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![id.0, &**server, &**issuer, body]).map(|_| ())
    }

    fn remove_client(&mut self, id: PairId) -> rusqlite::Result<()> {
        self.tx.prepare("DELETE FROM clients WHERE id = ?1")?.execute([id.0]).map(|_| ())
    }
}
