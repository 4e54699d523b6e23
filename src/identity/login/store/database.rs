//! The file in which logins are kept: SQLite, with what is secret sealed.

use std::{
    fs,
    io::ErrorKind::AlreadyExists,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior::Immediate,
    config::DbConfig, params,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{fault::StoreFault, sealed::ColumnSealer};
use crate::{
    identity::login::{
        fingerprint::Fingerprint,
        grant::{Grant, GrantRows},
        grant_id::GrantId,
        keys::{Keys, NoKey, Purpose},
        refresh_token::GrantSecret,
        table::{LINGER, View},
    },
    secret::SecretKey,
    state_dir::{self, ANY_BY_OTHERS},
};

/// Its name.
pub(super) const NAME: &str = "logins.db";
/// By which SQLite and `file` tell that it is one of these: "sglg".
const APPLICATION: i32 = 0x7367_6c67;
/// How long another gateway that writes is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Rows that one transaction takes away.
const PORTION: i64 = 1_000;

/// What leads from each version of the schema to the next. Never backwards, and none is ever changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        secret BLOB NOT NULL,      -- sealed
        salt BLOB NOT NULL,        -- of the keys of session tokens
        changed INTEGER NOT NULL,  -- number of the last change
        latest INTEGER NOT NULL    -- the latest time of day of a change, in ms
    ) STRICT;
    CREATE TABLE grants (
        id BLOB PRIMARY KEY,       -- SHA-256 of the grant's
        principal TEXT NOT NULL,
        rotated INTEGER NOT NULL,
        over INTEGER NOT NULL,
        body BLOB NOT NULL,        -- sealed
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX grants_principal ON grants (principal, rotated);
    CREATE INDEX grants_over ON grants (over);
    CREATE INDEX grants_changed ON grants (changed);
    CREATE TABLE revoked (
        id BLOB PRIMARY KEY,       -- SHA-256 of the grant's
        ends INTEGER NOT NULL,
        body BLOB NOT NULL,        -- sealed
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revoked_ends ON revoked (ends);
    CREATE INDEX revoked_changed ON revoked (changed);
"];

/// Whether there is a file that may hold logins.
pub(super) fn is_used(directory: &Path) -> bool {
    directory.join(NAME).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// What is wrong with the files of a database there, if something is. Nothing is opened.
pub(super) fn check_files(directory: &Path) -> Result<(), StoreFault> {
    for name in [NAME.to_owned(), format!("{NAME}-wal"), format!("{NAME}-shm")] {
        let path = directory.join(name);
        match state_dir::check_own(&path, ANY_BY_OTHERS) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreFault::of(&path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is wrong with what a database says of itself, if something is. Nothing is made or changed: what a gateway that runs has
/// not yet moved into the file is not seen.
pub(super) fn check(directory: &Path, keys: &Keys) -> Result<(), StoreFault> {
    let path = directory.join(NAME);
    if !is_used(directory) {
        return Ok(());
    }
    let fault = |error: rusqlite::Error| StoreFault::of(&path, error);
    let real = fs::canonicalize(&path).map_err(|error| StoreFault::of(&path, error))?;
    let uri: String = real.to_string_lossy().chars().flat_map(escaped).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{uri}?immutable=1"), flags).map_err(fault)?;
    check_version(&connection, &path, MIGRATIONS.len())?;
    let sealed = |row: &Row<'_>| row.get::<_, Vec<u8>>(0);
    let stored = connection.query_row("SELECT secret FROM store", (), sealed).optional();
    // Without the table, there is nothing yet.
    let Ok(Some(secret)) = stored else { return Ok(()) };
    let sealer = ColumnSealer::new(keys, Purpose::Store).map_err(|NoKey| no_key(&path))?;
    sealer.open(ROW, "", &secret).map(|_| ()).ok_or_else(|| wrong_key(&path))
}

fn escaped(c: char) -> Vec<char> {
    match c {
        '%' => "%25".chars().collect(),
        '?' => "%3f".chars().collect(),
        '#' => "%23".chars().collect(),
        c => vec![c],
    }
}

/// What names the only row of `store`.
const ROW: &[u8] = b"1";

fn wrong_key(path: &Path) -> StoreFault {
    StoreFault::of(
        path,
        "was sealed by another `encryptionKey`; put that back, or name it behind the new one, as in `[new, old]`. Nothing was \
         changed. To end all logins, remove the file",
    )
}

fn no_key(path: &Path) -> StoreFault {
    StoreFault::of(path, "the system gives no random numbers, or the cryptography fails")
}

fn check_version(connection: &Connection, path: &Path, known: usize) -> Result<usize, StoreFault> {
    let fault = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => StoreFault::of(
            path,
            "is no database, or a broken one; put back a good copy, or remove the file, which ends all logins",
        ),
        _ => StoreFault::of(path, error),
    };
    let number = |pragma: &str| connection.query_row(pragma, (), |row| row.get::<_, i64>(0)).map_err(fault);
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if tables > 0 && application != i64::from(APPLICATION) {
        return Err(StoreFault::of(path, "is a database of something else; name another `stateDir`"));
    }
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > known {
        return Err(StoreFault::of(
            path,
            format!(
                "was written by a newer gateway (version {version} of the schema, and this one knows {known}). Nothing was \
                 changed: start that one, or move the file away, which ends all logins"
            ),
        ));
    }
    Ok(version)
}

/// The file, open.
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    grants: ColumnSealer,
    revocations: ColumnSealer,
    /// Of this file alone: what fingerprints of passwords are made with.
    pub(super) secret: SecretKey,
    /// Of the keys of session tokens.
    pub(super) salt: Vec<u8>,
    /// Number of the last change that was read.
    seen: i64,
    /// What tells whether somebody else has written.
    version: i64,
}

/// What was read of what changed.
pub(super) struct News {
    /// Whether a grant was revoked.
    pub(super) has_revoked: bool,
    /// Whether session tokens have other keys now.
    pub(super) has_salt: bool,
    /// Rows that do not open.
    pub(super) faults: Vec<String>,
}

impl Database {
    /// Opens the file in `directory`, and makes it if there is none. What `keys` do not open stays as it is.
    pub(super) fn open(
        directory: &Path,
        keys: &Keys,
        migrations: &[&str],
        now: SystemTime,
    ) -> Result<Self, StoreFault> {
        let directory = fs::canonicalize(directory).map_err(|error| StoreFault::of(directory, error))?;
        let path = directory.join(NAME);
        match state_dir::write_new(&path, 0o600, "") {
            Err(error) if error.kind() != AlreadyExists => return Err(StoreFault::of(&path, error)),
            _ => check_files(&directory)?,
        }
        let fault = |error: rusqlite::Error| StoreFault::of(&path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
        // What is refused below stays byte for byte as it is.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fault)?;
        connection.busy_timeout(BUSY).map_err(fault)?;
        connection.pragma_update(None, "trusted_schema", false).map_err(fault)?;
        let version = check_version(&connection, &path, migrations.len())?;
        write_ahead(&connection).map_err(|why| StoreFault::of(&path, why))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
        if (1..migrations.len()).contains(&version) {
            copy(&connection, &path, version)?;
        }

        let store = ColumnSealer::new(keys, Purpose::Store).map_err(|NoKey| no_key(&path))?;
        let tx = connection.transaction_with_behavior(Immediate).map_err(fault)?;
        // Another gateway may have been first.
        let version = check_version(&tx, &path, migrations.len())?;
        for migration in &migrations[version..] {
            tx.execute_batch(migration).map_err(fault)?;
        }
        if version < migrations.len() {
            tx.pragma_update(None, "application_id", APPLICATION).map_err(fault)?;
            tx.pragma_update(None, "user_version", migrations.len() as i64).map_err(fault)?;
        }
        let (secret, salt) = begin(&tx, &store, &path, now)?;
        tx.commit().map_err(fault)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(fault)?;

        let sealer = |purpose| ColumnSealer::new(keys, purpose).map_err(|NoKey| no_key(&path));
        let mut database = Self {
            grants: sealer(Purpose::StoredGrants)?,
            revocations: sealer(Purpose::StoredRevocations)?,
            connection,
            path: path.clone(),
            secret,
            salt,
            seen: -1,
            version: 0,
        };
        database.seal_anew().map_err(fault)?;
        // So that what the file says of itself is in it. If somebody reads meanwhile, it is there later.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = database.connection.query_row(checkpoint, (), |_| Ok(()));
        Ok(database)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Seals with the first key what another has sealed, so that the other is not needed any more.
    fn seal_anew(&mut self) -> rusqlite::Result<()> {
        let Self { connection, grants, revocations, .. } = self;
        for (table, owner, sealer) in [("grants", "principal", &*grants), ("revoked", "''", &*revocations)] {
            let select =
                format!("SELECT id, {owner}, body FROM {table} WHERE id > ?1 ORDER BY id LIMIT {PORTION}");
            let update = format!("UPDATE {table} SET body = ?2 WHERE id = ?1");
            let mut last = Vec::new();
            loop {
                let tx = connection.transaction_with_behavior(Immediate)?;
                let rows: Vec<SealedRow> = tx
                    .prepare(&select)?
                    .query_map([&last], SealedRow::read)?
                    .collect::<rusqlite::Result<_>>()?;
                for SealedRow { id, owner, body } in rows.iter().filter(|row| !sealer.is_by_first(&row.body))
                {
                    let opened = sealer.open(id, owner, body);
                    if let Some(Ok(body)) = opened.map(|text| sealer.seal(id, owner, &text)) {
                        tx.execute(&update, params![id, body])?;
                    }
                }
                tx.commit()?;
                let Some(row) = rows.into_iter().next_back() else { break };
                last = row.id;
            }
        }
        Ok(())
    }

    /// Does something to the rows, all of it or nothing.
    pub(super) fn write<T>(
        &mut self,
        now: SystemTime,
        work: impl FnOnce(&mut FileRows<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let tx = self.connection.transaction_with_behavior(Immediate)?;
        let mut rows =
            FileRows { tx: &tx, grants: &self.grants, revocations: &self.revocations, now, changed: None };
        let done = work(&mut rows)?;
        tx.commit()?;
        Ok(done)
    }

    /// Whether somebody else has written since this was asked.
    pub(super) fn has_news(&mut self) -> rusqlite::Result<bool> {
        let version = self.connection.query_row("PRAGMA data_version", (), |row| row.get(0))?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }

    /// Reads what has changed into the table.
    pub(super) fn follow(&mut self, view: &View) -> rusqlite::Result<News> {
        let tx = self.connection.transaction()?;
        let (changed, salt): (i64, Vec<u8>) =
            tx.query_row("SELECT changed, salt FROM store", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut faults = Vec::new();
        let mut grants = Vec::new();
        let mut revoked = Vec::new();
        if changed != self.seen {
            let mut select = tx.prepare("SELECT id, principal, body FROM grants WHERE changed > ?1")?;
            for row in select.query_map([self.seen], SealedRow::read)? {
                let row = row?;
                match row.grant(&self.grants) {
                    Some(grant) => grants.push(grant),
                    None => faults.push(row.name("grants")),
                }
            }
            let mut select = tx.prepare("SELECT id, '', body FROM revoked WHERE changed > ?1")?;
            for row in select.query_map([self.seen], SealedRow::read)? {
                let row = row?;
                match row.revocation(&self.revocations) {
                    Some(revocation) => revoked.push(revocation),
                    None => faults.push(row.name("revoked")),
                }
            }
        }
        drop(tx);
        let has_revoked = !revoked.is_empty();
        view.change(|table| {
            for (id, ends) in revoked {
                table.end(id, ends);
            }
            for grant in grants {
                table.insert(grant);
            }
        });
        self.seen = changed;
        let has_salt = self.salt != salt;
        self.salt = salt;
        Ok(News { has_revoked, has_salt, faults })
    }
}

/// Has SQLite write ahead. Of gateways that begin at once, only one can, and the others are not waited for by SQLite itself.
fn write_ahead(connection: &Connection) -> Result<(), String> {
    let began = std::time::Instant::now();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => return Err("SQLite cannot write ahead there; name a `stateDir` on another disk".into()),
            Err(error) if began.elapsed() > BUSY => return Err(error.to_string()),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Keeps what is there as `logins.db.vN` before it becomes another version.
fn copy(connection: &Connection, path: &Path, version: usize) -> Result<(), StoreFault> {
    let to = path.with_file_name(format!("{NAME}.v{version}"));
    let fault = |error: std::io::Error| StoreFault::of(&to, error);
    let new = path.with_file_name(state_dir::temporary(NAME).map_err(fault)?);
    // SQLite writes into an empty file that is there.
    state_dir::write_new(&new, 0o600, "").map_err(fault)?;
    let copied = connection.execute("VACUUM INTO ?1", [new.to_string_lossy()]);
    let moved = copied.map_err(std::io::Error::other).and_then(|_| {
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &to)
    });
    moved.map_err(|error| {
        // Best effort: what is left has a name that nothing looks for.
        let _ = fs::remove_file(&new);
        fault(error)
    })
}

/// What the file says of itself, which it is told if it is new.
fn begin(
    tx: &Transaction<'_>,
    sealer: &ColumnSealer,
    path: &Path,
    now: SystemTime,
) -> Result<(SecretKey, Vec<u8>), StoreFault> {
    let fault = |error: rusqlite::Error| StoreFault::of(path, error);
    let no_key = |NoKey| no_key(path);
    let new_salt = || {
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).map(|()| salt).map_err(|_| no_key(NoKey))
    };
    let read =
        |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?));
    let stored =
        tx.query_row("SELECT secret, salt, latest FROM store", (), read).optional().map_err(fault)?;
    let Some((sealed, salt, latest)) = stored else {
        let (secret, salt) = (SecretKey::random().map_err(|_| no_key(NoKey))?, new_salt()?);
        let sealed = sealer.seal(ROW, "", secret.expose()).map_err(no_key)?;
        tx.execute("INSERT INTO store VALUES (1, ?1, ?2, 0, ?3)", params![sealed, salt, millis(now)])
            .map_err(fault)?;
        return Ok((secret, salt));
    };
    let secret = sealer.open(ROW, "", &sealed).ok_or_else(|| wrong_key(path))?;
    let secret = SecretKey::new(secret.as_slice().try_into().map_err(|_| wrong_key(path))?);
    if !sealer.is_by_first(&sealed) {
        let sealed = sealer.seal(ROW, "", secret.expose()).map_err(no_key)?;
        tx.execute("UPDATE store SET secret = ?1", [sealed]).map_err(fault)?;
    }
    // The clock went back, and what was revoked may have been forgotten because it was over then: no session token of before
    // may open.
    if moment(latest) <= now + LINGER {
        return Ok((secret, salt));
    }
    let salt = new_salt()?;
    tx.execute("UPDATE store SET salt = ?1, latest = ?2, changed = changed + 1", params![salt, millis(now)])
        .map_err(fault)?;
    Ok((secret, salt))
}

/// A row whose column is sealed.
struct SealedRow {
    id: Vec<u8>,
    owner: String,
    body: Vec<u8>,
}

impl SealedRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, owner: row.get(1)?, body: row.get(2)? })
    }

    /// What the log calls it.
    fn name(&self, table: &str) -> String {
        format!("{table} {}", hex::encode(&self.id[..self.id.len().min(8)]))
    }

    fn grant(&self, sealer: &ColumnSealer) -> Option<Grant> {
        let text = sealer.open(&self.id, &self.owner, &self.body)?;
        let (id, rest) = text.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (rotated, rest) = rest.split_first_chunk()?;
        let (refresh_ends, rest) = rest.split_first_chunk()?;
        let (tokens_end, rest) = rest.split_first_chunk()?;
        let (ends, rest) = rest.split_first_chunk()?;
        let moment = |bytes: &[u8; 8]| moment(i64::from_be_bytes(*bytes));
        let grant = Grant {
            id: GrantId::new(*id),
            user: self.owner.strip_prefix(USER)?.into(),
            fingerprint: Fingerprint::new(*fingerprint),
            secret: GrantSecret::new(*secret),
            generation: u32::from_be_bytes(*generation),
            rotated: moment(rotated),
            refresh_ends: moment(refresh_ends),
            tokens_end: moment(tokens_end),
            ends: moment(ends),
        };
        (rest.is_empty() && row_id(grant.id).as_slice() == self.id).then_some(grant)
    }

    fn revocation(&self, sealer: &ColumnSealer) -> Option<(GrantId, SystemTime)> {
        let text = sealer.open(&self.id, &self.owner, &self.body)?;
        let (id, ends) = text.split_first_chunk()?;
        Some((GrantId::new(*id), moment(i64::from_be_bytes(ends.try_into().ok()?))))
    }
}

/// What a principal begins with that is a user.
const USER: &str = "user:";

fn row_id(id: GrantId) -> [u8; 32] {
    Sha256::digest(id.bytes()).into()
}

fn millis(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn moment(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// The rows of the file, in a transaction.
pub(super) struct FileRows<'a> {
    tx: &'a Transaction<'a>,
    grants: &'a ColumnSealer,
    revocations: &'a ColumnSealer,
    now: SystemTime,
    /// Number of this change, if it is one.
    changed: Option<i64>,
}

impl FileRows<'_> {
    /// The number of this change.
    fn change(&mut self) -> rusqlite::Result<i64> {
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
        for (table, end) in [("grants", "over"), ("revoked", "ends")] {
            let is_over = format!("SELECT id FROM {table} WHERE {end} <= ?1 LIMIT {PORTION}");
            if self.tx.prepare(&is_over)?.exists([before])? {
                self.change()?;
                let delete = format!("DELETE FROM {table} WHERE id IN ({is_over})");
                is_more |= self.tx.execute(&delete, [before])? as i64 == PORTION;
            }
        }
        Ok(is_more)
    }

    fn seal(&self, sealer: &ColumnSealer, id: &[u8], owner: &str, text: &[u8]) -> rusqlite::Result<Vec<u8>> {
        let failed = |NoKey| rusqlite::Error::ToSqlConversionFailure("it cannot be sealed".into());
        sealer.seal(id, owner, text).map_err(failed)
    }
}

impl GrantRows for FileRows<'_> {
    type Error = rusqlite::Error;

    fn get(&mut self, id: GrantId) -> rusqlite::Result<Option<Grant>> {
        let mut select = self.tx.prepare("SELECT id, principal, body FROM grants WHERE id = ?1")?;
        let row = select.query_row([row_id(id)], SealedRow::read).optional()?;
        Ok(row.and_then(|row| row.grant(self.grants)))
    }

    fn of_user(&mut self, user: &str) -> rusqlite::Result<Vec<(GrantId, SystemTime)>> {
        let mut select = self
            .tx
            .prepare("SELECT id, principal, body FROM grants WHERE principal = ?1 ORDER BY rotated")?;
        let rows = select.query_map([format!("{USER}{user}")], SealedRow::read)?;
        let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        let grants = rows.iter().filter_map(|row| row.grant(self.grants));
        Ok(grants.map(|grant| (grant.id, grant.rotated)).collect())
    }

    fn count(&mut self) -> rusqlite::Result<usize> {
        let count = "SELECT (SELECT count(*) FROM grants) + (SELECT count(*) FROM revoked)";
        let count: i64 = self.tx.prepare(count)?.query_row((), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn put(&mut self, grant: &Grant) -> rusqlite::Result<()> {
        let (id, owner) = (row_id(grant.id), format!("{USER}{}", grant.user));
        let mut text = Zeroizing::new(Vec::with_capacity(92));
        text.extend(grant.id.bytes());
        text.extend(grant.fingerprint.bytes());
        text.extend(grant.secret.bytes());
        text.extend(grant.generation.to_be_bytes());
        for moment in [grant.rotated, grant.refresh_ends, grant.tokens_end, grant.ends] {
            text.extend(millis(moment).to_be_bytes());
        }
        let body = self.seal(self.grants, &id, &owner, &text)?;
        let changed = self.change()?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let (rotated, over) = (millis(grant.rotated), millis(grant.over()));
        insert.execute(params![id, owner, rotated, over, body, changed]).map(|_| ())
    }

    fn move_to_revoked(&mut self, grant: &Grant) -> rusqlite::Result<()> {
        let id = row_id(grant.id);
        let ends = millis(grant.tokens_end);
        let text = [&grant.id.bytes()[..], &ends.to_be_bytes()].concat();
        let body = self.seal(self.revocations, &id, "", &text)?;
        let changed = self.change()?;
        self.tx.prepare("DELETE FROM grants WHERE id = ?1")?.execute([id])?;
        let mut insert = self.tx.prepare("INSERT OR REPLACE INTO revoked VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![id, ends, body, changed]).map(|_| ())
    }
}
