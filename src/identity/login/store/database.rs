//! The file in which logins are kept: SQLite, with what is secret sealed.

use std::{
    collections::HashSet,
    fs,
    io::ErrorKind::AlreadyExists,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior::Immediate,
    config::DbConfig, params,
};

use super::{
    bodies::{millis, moment},
    fault::StoreFault,
    files::Files,
    opening::Opening,
    resealing::{Resealed, seal_anew},
    rows::{FileRows, SealedRow, Sealers},
    sealed::ColumnSealer,
    upstream_rows::changes_of_others,
};
use crate::{
    identity::login::{
        account::KeptAccount,
        keys::{Keys, NoKey, Purpose},
        sources::SourceId,
        table::{LINGER, View},
    },
    secret::SecretKey,
    state_dir::{self, ANY_BY_OTHERS},
};

/// Its name.
pub(super) const NAME: &str = "logins.db";
/// By which SQLite and `file` tell that it is one of these: "sglg".
const APPLICATION: i32 = 0x7367_6c67;
/// How long one may not have looked and yet have missed nothing: what was ended stays longer than that.
const AWAY: Duration = Duration::from_secs(LINGER.as_secs() / 2);
/// How long another gateway that writes is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// What leads from each version of the schema to the next. Never backwards, and none is ever changed.
pub(super) const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    CREATE TABLE codes (
        id BLOB PRIMARY KEY,       -- SHA-256 of the code
        principal TEXT NOT NULL,
        ends INTEGER NOT NULL,     -- from then on it is forgotten
        body BLOB NOT NULL         -- sealed
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX codes_principal ON codes (principal);
    CREATE INDEX codes_ends ON codes (ends);
    CREATE TABLE consents (
        id BLOB PRIMARY KEY,       -- SHA-256 of principal, client, host and place
        principal TEXT NOT NULL,
        ends INTEGER NOT NULL,     -- from then on it is forgotten
        body BLOB NOT NULL         -- sealed
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX consents_principal ON consents (principal);
    CREATE INDEX consents_ends ON consents (ends);
",
    "
    CREATE TABLE accounts (
        id BLOB PRIMARY KEY,       -- SHA-256 of the principal
        principal TEXT NOT NULL,
        ends INTEGER NOT NULL,     -- from then on it is forgotten, if the principal has no grant
        body BLOB NOT NULL,        -- sealed
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX accounts_ends ON accounts (ends);
    CREATE INDEX accounts_changed ON accounts (changed);
",
    "
    CREATE TABLE spent (
        id BLOB PRIMARY KEY,       -- SHA-256 of whose it is, and of what may be used once
        owner TEXT NOT NULL,
        ends INTEGER NOT NULL      -- from then on it is forgotten
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spent_owner ON spent (owner);
    CREATE INDEX spent_ends ON spent (ends);
",
    "
    CREATE TABLE upstream (
        id BLOB PRIMARY KEY,       -- SHA-256 of owner and server
        owner TEXT NOT NULL,
        server TEXT NOT NULL,
        state TEXT NOT NULL,
        since INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        ends INTEGER,              -- of what is sent to the server
        version INTEGER NOT NULL,
        locked_until INTEGER NOT NULL,
        body BLOB NOT NULL,        -- sealed
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX upstream_owner ON upstream (owner, server);
    CREATE INDEX upstream_server ON upstream (server, state);
    CREATE INDEX upstream_changed ON upstream (changed);
    CREATE TABLE upstream_gone (   -- what was removed, for others to read
        id BLOB PRIMARY KEY,
        owner TEXT NOT NULL,
        server TEXT NOT NULL,
        ends INTEGER NOT NULL,     -- from then on it is forgotten
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX upstream_gone_ends ON upstream_gone (ends);
    CREATE INDEX upstream_gone_changed ON upstream_gone (changed);
    CREATE TABLE flows (
        id BLOB PRIMARY KEY,       -- SHA-256 of what somebody comes back with
        principal TEXT NOT NULL,
        ends INTEGER NOT NULL,
        body BLOB NOT NULL         -- sealed
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX flows_principal ON flows (principal, ends);
    CREATE INDEX flows_ends ON flows (ends);
    CREATE TABLE clients (
        id BLOB PRIMARY KEY,       -- SHA-256 of server and issuer
        server TEXT NOT NULL,
        issuer TEXT NOT NULL,
        body BLOB NOT NULL         -- sealed
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX clients_server ON clients (server);
",
    "
    ALTER TABLE store ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0; -- the latest end of what was taken out of spent
    CREATE TABLE sources (
        id BLOB PRIMARY KEY,       -- SHA-256 of that by which tokens without a grant come
        has INTEGER NOT NULL,      -- whether the config had it when it was looked at last
        gone INTEGER NOT NULL,     -- when a config was seen last that did not have it; 0: never
        changed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sources_changed ON sources (changed);
",
];

/// Whether there is a file that may hold logins.
pub(super) fn is_used(directory: &Path) -> bool {
    directory.join(NAME).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// All files of a database there.
fn paths(directory: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| directory.join(format!("{NAME}{end}")))
}

/// What is wrong with the files of a database there, if something is. Nothing is opened.
pub(super) fn check_files(directory: &Path) -> Result<(), StoreFault> {
    for path in paths(directory) {
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
    sealer.open(ROW, b"", &secret).map(|_| ()).ok_or_else(|| wrong_key(&path))
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
    files: Files,
    sealers: Sealers,
    /// Of this file alone: what fingerprints and proofs of grants are made with.
    pub(super) secret: SecretKey,
    /// Of the keys of session tokens.
    pub(super) salt: Vec<u8>,
    /// Number of the last change that was read.
    seen: i64,
    /// Number of the last change that was made here.
    own: i64,
    /// Rows that did not open when somebody asked for them.
    faults: Vec<String>,
    /// What tells whether somebody else has written.
    version: i64,
    /// When that was asked last: by a clock that nobody sets, and by one that goes on while the machine sleeps.
    asked: (Instant, SystemTime),
    /// Whether it was not asked for so long that what others ended meanwhile may be gone without a trace.
    was_away: bool,
}

/// What was read of what changed.
#[derive(Default)]
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
        opening: Opening<'_>,
    ) -> Result<Self, StoreFault> {
        let directory = fs::canonicalize(directory).map_err(|error| StoreFault::of(directory, error))?;
        let path = directory.join(NAME);
        opening.go_on()?;
        match state_dir::write_new(&path, 0o600, "") {
            Err(error) if error.kind() != AlreadyExists => return Err(StoreFault::of(&path, error)),
            _ => check_files(&directory)?,
        }
        let fault = |error: rusqlite::Error| StoreFault::of(&path, error);
        let mut connection = connect(&path)?;
        let version = check_version(&connection, &path, migrations.len())?;
        write_ahead(&connection).map_err(|why| StoreFault::of(&path, why))?;
        write_through(&connection, &path)?;
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
        let (secret, salt) = begin(&tx, &store, &path, (opening.now)())?;
        opening.go_on()?;
        tx.commit().map_err(fault)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(fault)?;

        let mut database = Self::of(connection, &directory, keys, secret, salt)?;
        database.seal_anew().map_err(fault)?;
        // So that what the file says of itself is in it. If somebody reads meanwhile, it is there later.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = database.connection.query_row(checkpoint, (), |_| Ok(()));
        Ok(database)
    }

    /// Opens the file that is in `directory`, and changes nothing of it. Of `keys`, that which sealed it seals what is written.
    pub(super) fn open_as_it_is(directory: &Path, keys: &Keys) -> Result<Self, StoreFault> {
        let directory = fs::canonicalize(directory).map_err(|error| StoreFault::of(directory, error))?;
        let path = directory.join(NAME);
        let fault = |error: rusqlite::Error| StoreFault::of(&path, error);
        let connection = connect_as_it_is(&directory)?;
        let version = check_version(&connection, &path, MIGRATIONS.len())?;
        if version < MIGRATIONS.len() {
            return Err(StoreFault::of(
                &path,
                format!(
                    "was written by an older gateway (version {version} of the schema, and this one has {}); start this one with it \
                     first",
                    MIGRATIONS.len()
                ),
            ));
        }
        let read = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
        let (sealed, salt) =
            connection.query_row("SELECT secret, salt FROM store", (), read).map_err(fault)?;
        let store = ColumnSealer::new(keys, Purpose::Store).map_err(|NoKey| no_key(&path))?;
        let secret = secret_of(&store, &sealed, &path)?;
        let keys = keys.beginning_with(store.position(&sealed).unwrap_or_default());
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(fault)?;
        Self::of(connection, &directory, &keys, secret, salt)
    }

    fn of(
        connection: Connection,
        directory: &Path,
        keys: &Keys,
        secret: SecretKey,
        salt: Vec<u8>,
    ) -> Result<Self, StoreFault> {
        let path = directory.join(NAME);
        Ok(Self {
            files: Files::of(paths(directory)).map_err(|error| StoreFault::of(&path, error))?,
            sealers: Sealers::new(keys).map_err(|NoKey| no_key(&path))?,
            connection,
            path,
            secret,
            salt,
            seen: -1,
            own: -1,
            faults: Vec::new(),
            version: 0,
            asked: (Instant::now(), SystemTime::now()),
            was_away: false,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is written is found by others; or the file of which that is not so.
    pub(super) fn is_in_place(&self) -> Result<(), String> {
        self.files.are_in_place()
    }

    /// Seals with the first key what another has sealed, so that the other is not needed any more.
    fn seal_anew(&mut self) -> rusqlite::Result<Resealed> {
        seal_anew(&mut self.connection, &self.sealers)
    }

    /// The same with the first of these keys. What the file says of itself is last: as long as something is sealed with another key,
    /// a command seals with that.
    pub(super) fn rekey(&mut self, keys: &Keys) -> Result<Resealed, StoreFault> {
        let fault = |error: rusqlite::Error| StoreFault::of(&self.path, error);
        let no_key = |NoKey| no_key(&self.path);
        self.sealers = Sealers::new(keys).map_err(no_key)?;
        let done = seal_anew(&mut self.connection, &self.sealers).map_err(fault)?;
        let store = ColumnSealer::new(keys, Purpose::Store).map_err(no_key)?;
        let tx = self.connection.transaction_with_behavior(Immediate).map_err(fault)?;
        seal_row_of_store(&tx, &store, &self.path)?;
        tx.commit().map_err(fault)?;
        Ok(done)
    }

    /// Does something to the rows, all of it or nothing.
    pub(super) fn write<T>(
        &mut self,
        now: SystemTime,
        work: impl FnOnce(&mut FileRows<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let tx = self.connection.transaction_with_behavior(Immediate)?;
        let mut rows = FileRows { tx: &tx, sealers: &self.sealers, now, changed: None, faults: Vec::new() };
        let done = work(&mut rows)?;
        let FileRows { changed, faults, .. } = rows;
        tx.commit()?;
        self.own = changed.unwrap_or(self.own);
        self.faults.extend(faults);
        Ok(done)
    }

    /// Rows that did not open when somebody asked for them, since this was asked.
    pub(super) fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// Whether somebody else has written since this was asked.
    pub(super) fn has_news(&mut self) -> rusqlite::Result<bool> {
        let version = self.connection.query_row("PRAGMA data_version", (), |row| row.get(0))?;
        let (now, before) = ((Instant::now(), SystemTime::now()), self.asked);
        let slept = now.1.duration_since(before.1).unwrap_or_default();
        self.was_away |= (now.0 - before.0).max(slept) > AWAY;
        self.asked = now;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }

    /// Reads what has changed into the table; after a long while all of it, so that what is there no more is none there either.
    pub(super) fn follow(&mut self, view: &View) -> rusqlite::Result<News> {
        let is_all = self.was_away;
        let since = if is_all { i64::MIN } else { self.seen };
        let tx = self.connection.transaction()?;
        let (changed, salt): (i64, Vec<u8>) =
            tx.query_row("SELECT changed, salt FROM store", (), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut faults = Vec::new();
        let mut grants = Vec::new();
        let mut revoked = Vec::new();
        let mut accounts = Vec::new();
        let mut gone_sources = Vec::new();
        if is_all || changed != self.seen {
            let mut select = tx.prepare("SELECT id, principal, body FROM grants WHERE changed > ?1")?;
            for row in select.query_map([since], SealedRow::read)? {
                let row = row?;
                match row.grant(&self.sealers) {
                    Some(grant) => grants.push(grant),
                    None => faults.push(row.name("grants")),
                }
            }
            let mut select = tx.prepare("SELECT id, '', body FROM revoked WHERE changed > ?1")?;
            for row in select.query_map([since], SealedRow::read)? {
                let row = row?;
                match row.revocation(&self.sealers) {
                    Some(revocation) => revoked.push(revocation),
                    None => faults.push(row.name("revoked")),
                }
            }
            let mut select = tx.prepare("SELECT id, principal, body FROM accounts WHERE changed > ?1")?;
            for row in select.query_map([since], SealedRow::read)? {
                let row = row?;
                match row.account(&self.sealers) {
                    // What it takes to ask the provider is read when it is asked.
                    Some(account) => accounts.push(KeptAccount { keep: None, ..account }),
                    None => faults.push(row.name("accounts")),
                }
            }
            let mut select = tx.prepare("SELECT id, gone FROM sources WHERE changed > ?1 AND gone > 0")?;
            let source = |row: &Row<'_>| Ok((SourceId(row.get(0)?), moment(row.get(1)?)));
            for source in select.query_map([since], source)? {
                gone_sources.push(source?);
            }
        }
        if self.seen >= 0 && (is_all || changed != self.seen) {
            // What this process wrote itself, it knows.
            let of_others = if is_all { None } else { changes_of_others(&tx, self.seen, self.own)? };
            match of_others {
                Some(changes) => view.upstream_changes.note(changes),
                None => view.upstream_changes.note_all(),
            }
        }
        drop(tx);
        let mut has_revoked = !revoked.is_empty() | view.gone_sources.put(gone_sources);
        // Before their grants, which are nothing without them.
        if is_all {
            let those: HashSet<_> = accounts.iter().map(|kept| &kept.account.principal).collect();
            view.accounts.keep_those(|principal| those.contains(principal));
        }
        accounts.into_iter().for_each(|account| view.accounts.put(account));
        view.change(|table| {
            if is_all {
                has_revoked |= table.keep_those(&grants.iter().map(|grant| grant.id).collect());
            }
            for (id, ends) in revoked {
                table.end(id, ends);
            }
            for grant in grants {
                table.insert(grant);
            }
        });
        (self.seen, self.was_away) = (changed, false);
        let has_salt = self.salt != salt;
        self.salt = salt;
        Ok(News { has_revoked, has_salt, faults })
    }
}

/// A connection to the file. What is refused after this stays byte for byte as it is.
fn connect(path: &Path) -> Result<Connection, StoreFault> {
    let connected = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    connected().map_err(|error: rusqlite::Error| StoreFault::of(path, error))
}

/// The same to what is in `directory`, if that is a file of logins.
pub(super) fn connect_as_it_is(directory: &Path) -> Result<Connection, StoreFault> {
    check_files(directory)?;
    let directory = fs::canonicalize(directory).map_err(|error| StoreFault::of(directory, error))?;
    let path = directory.join(NAME);
    let connection = connect(&path)?;
    check_version(&connection, &path, MIGRATIONS.len())?;
    write_through(&connection, &path)?;
    Ok(connection)
}

/// Has SQLite wait for the disk before it says that something is written.
fn write_through(connection: &Connection, path: &Path) -> Result<(), StoreFault> {
    let done = connection.pragma_update(None, "synchronous", "FULL");
    done.map_err(|error| StoreFault::of(path, error))
}

/// There is no file.
pub(super) fn none(directory: &Path) -> StoreFault {
    StoreFault::of(
        &directory.join(NAME),
        "there is none: no gateway has kept logins there. If one has elsewhere, name its `stateDir` in the config, or set \
         STATE_DIRECTORY as its service does",
    )
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
    let moved = copy_into(connection, &new).and_then(|_| fs::rename(&new, &to));
    moved.map_err(|error| {
        // Best effort: what is left has a name that nothing looks for.
        let _ = fs::remove_file(&new);
        fault(error)
    })
}

/// A copy in a new file, on the disk, and how long it is.
pub(super) fn copy_into(connection: &Connection, new: &Path) -> std::io::Result<u64> {
    // SQLite writes into an empty file that is there.
    state_dir::write_new(new, 0o600, "")?;
    connection.execute("VACUUM INTO ?1", [new.to_string_lossy()]).map_err(std::io::Error::other)?;
    let file = fs::File::open(new)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The file's own secret.
fn secret_of(sealer: &ColumnSealer, sealed: &[u8], path: &Path) -> Result<SecretKey, StoreFault> {
    let secret = sealer.open(ROW, b"", sealed).ok_or_else(|| wrong_key(path))?;
    Ok(SecretKey::new(secret.as_slice().try_into().map_err(|_| wrong_key(path))?))
}

/// Seals with the first key what the file says of itself.
fn seal_row_of_store(tx: &Transaction<'_>, sealer: &ColumnSealer, path: &Path) -> Result<(), StoreFault> {
    let fault = |error: rusqlite::Error| StoreFault::of(path, error);
    let sealed: Vec<u8> = tx.query_row("SELECT secret FROM store", (), |row| row.get(0)).map_err(fault)?;
    if !sealer.is_by_first(&sealed) {
        let secret = secret_of(sealer, &sealed, path)?;
        let sealed = sealer.seal(ROW, b"", secret.expose()).map_err(|NoKey| no_key(path))?;
        tx.execute("UPDATE store SET secret = ?1", [sealed]).map_err(fault)?;
    }
    Ok(())
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
        let sealed = sealer.seal(ROW, b"", secret.expose()).map_err(no_key)?;
        tx.execute(
            "INSERT INTO store (one, secret, salt, changed, latest) VALUES (1, ?1, ?2, 0, ?3)",
            params![sealed, salt, millis(now)],
        )
        .map_err(fault)?;
        return Ok((secret, salt));
    };
    let secret = secret_of(sealer, &sealed, path)?;
    seal_row_of_store(tx, sealer, path)?;
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
