use std::{
    fs,
    future::poll_fn,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, params};
use tempfile::TempDir;
use test_basics::waiting::until;

use super::{database::MIGRATIONS, directory::foreign_file_system, *};
use crate::{
    config::{LoginStorage, LoginTerms},
    identity::{
        Principal,
        login::{
            Logins,
            fingerprint::Fingerprint,
            grant_id::GrantId,
            grants::{GrantKind, Grants, Issued, NotRefreshed, NotWritten, RefreshOf, Token},
            refresh_token::{GrantSecret, RefreshToken},
            session_token::SessionClaims,
            spent::{NotSpent, Spent},
        },
    },
    secret::{Secret, SecretKey},
};

const DAY: u64 = 86_400;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A directory for the state of one gateway or several.
struct Place {
    state: PathBuf,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { state: directory.path().join("state"), _directory: directory }
    }

    fn open_with(&self, config: &LoginStore, now: u64) -> Result<Logins, String> {
        let logins = Logins::new().unwrap();
        let opening = Opening { now: &|| at(now), is_wanted: &|| true };
        match logins.open_store(config, &self.state, opening) {
            Ok(opened) => {
                logins.keep_store(opened);
                Ok(logins)
            }
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn open(&self, now: u64) -> Logins {
        self.open_with(&LoginStore::default(), now).unwrap()
    }

    fn fault(&self) -> String {
        self.open_with(&LoginStore::default(), 0).map(|_| ()).unwrap_err()
    }

    fn file(&self) -> PathBuf {
        self.state.join(database::NAME)
    }

    /// Resolves once no gateway has the file any more: only then all that is written is in it.
    async fn closed(&self) {
        until("the end of the store", || !self.state.join("logins.db-wal").exists()).await;
    }

    fn sql(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

fn grants(logins: &Logins) -> &Grants {
    logins.grants().unwrap()
}

fn fingerprint(logins: &Logins) -> Fingerprint {
    logins.fingerprint(&Secret::new("hash".into())).unwrap()
}

async fn begin(logins: &Logins, now: u64) -> Issued {
    let terms = LoginTerms::DEFAULT;
    grants(logins).begin(&"alice".into(), fingerprint(logins), &terms, at(now)).await.unwrap().0
}

async fn refresh(logins: &Logins, token: &Secret, now: u64) -> Result<Issued, NotRefreshed> {
    let token = RefreshToken::parse(token.expose()).unwrap();
    let anybody = Box::new(|_: &_, _, _: &_| Ok(()));
    grants(logins).refresh(token, RefreshOf::Session, anybody, &LoginTerms::DEFAULT, at(now)).await
}

async fn try_log_out(logins: &Logins, token: &Secret) -> Result<Option<Principal>, NotWritten> {
    let token = Token::Refresh(RefreshToken::parse(token.expose()).unwrap());
    grants(logins).revoke(vec![token], at(0)).await
}

async fn log_out(logins: &Logins, token: &Secret) -> Option<Principal> {
    try_log_out(logins, token).await.unwrap()
}

fn alice() -> Principal {
    Principal::User("alice".into())
}

fn session(logins: &Logins, issued: &Issued, now: u64) -> Secret {
    let claims = SessionClaims {
        user: Arc::clone(issued.principal.name().unwrap()),
        grant: issued.grant,
        fingerprint: issued.fingerprint,
        issued: at(now),
        expires: issued.expires,
        grant_ends: issued.grant_ends,
    };
    logins.seal(&claims).unwrap()
}

fn opens(logins: &Logins, token: &Secret, now: u64) -> bool {
    let claims = logins.sealers().unwrap().session.open(token.expose().as_bytes(), at(now));
    claims.is_some_and(|claims| !logins.grants().unwrap().is_revoked(claims.grant))
}

#[tokio::test]
async fn logins_and_logouts_outlive_the_process() {
    let place = Place::new();
    let first = place.open(0);
    let (kept, ended) = (begin(&first, 0).await, begin(&first, 0).await);
    let tokens = [&kept, &ended].map(|issued| session(&first, issued, 0));
    let next = refresh(&first, &kept.refresh_token, 1).await.unwrap();
    log_out(&first, &ended.refresh_token).await.unwrap();
    drop(first);

    let second = place.open(2);
    assert_eq!(fingerprint(&second), kept.fingerprint);
    assert_eq!(tokens.each_ref().map(|token| opens(&second, token, 2)), [true, false]);
    assert!(grants(&second).has(kept.grant, at(2)) && !grants(&second).has(ended.grant, at(2)));
    assert_eq!(refresh(&second, &ended.refresh_token, 2).await.unwrap_err(), NotRefreshed::Invalid);
    let again = refresh(&second, &kept.refresh_token, 3).await.unwrap();
    assert_eq!(again.refresh_token, next.refresh_token, "within the grace, the same successor");
    assert!(refresh(&second, &next.refresh_token, 4).await.is_ok());

    for name in ["", "keys.json", "logins.db"] {
        let mode = place.state.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if name.is_empty() { 0o700 } else { 0o600 }, "{name}");
    }
    for path in fs::read_dir(&place.state).unwrap() {
        let bytes = fs::read(path.unwrap().path()).unwrap();
        for secret in [&kept.refresh_token, &next.refresh_token, &tokens[0]] {
            let holds = |text: &[u8]| memchr::memmem::find(&bytes, text).is_some();
            assert!(!holds(secret.expose().as_bytes()) && !holds(&secret.expose().as_bytes()[4..30]));
        }
        assert!(memchr::memmem::find(&bytes, &kept.grant.bytes()).is_none(), "ids are hashes");
    }
}

#[tokio::test]
async fn two_gateways_have_the_same_logins_and_rotate_once() {
    let place = Place::new();
    let (one, other) = (place.open(0), place.open(0));
    let login = begin(&one, 0).await;
    let token = session(&one, &login, 0);
    assert!(opens(&other, &token, 1) && grants(&other).has(login.grant, at(1)));
    let (a, b) =
        tokio::join!(refresh(&one, &login.refresh_token, 1), refresh(&other, &login.refresh_token, 1));
    let (a, b) = (a.unwrap().refresh_token, b.unwrap().refresh_token);
    assert_eq!(a, b);

    let mut told = other.status();
    let before = told.borrow_and_update().revocations;
    assert_eq!(log_out(&one, &a).await, Some(alice()));
    assert!(!opens(&one, &token, 2));
    until("the other gateway knows", || !opens(&other, &token, 2)).await;
    assert!(told.borrow().revocations > before && !grants(&other).has(login.grant, at(2)));
    assert_eq!(refresh(&other, &a, 2).await.unwrap_err(), NotRefreshed::Invalid);

    // Before it has heard of it, too.
    let new = begin(&one, 3).await;
    assert_eq!(log_out(&other, &new.refresh_token).await, Some(alice()));
    assert_eq!(refresh(&one, &new.refresh_token, 4).await.unwrap_err(), NotRefreshed::Invalid);
}

#[tokio::test]
async fn another_key_opens_nothing_and_empties_nothing() {
    let place = Place::new();
    let key = |byte| SecretKey::new([byte; 32]);
    let with = |keys: &[u8]| LoginStore {
        jwt_secrets: vec![Secret::new("j".repeat(32))],
        encryption_keys: keys.iter().map(|byte| key(*byte)).collect(),
        ..LoginStore::default()
    };
    let first = place.open_with(&with(&[1]), 0).unwrap();
    let login = begin(&first, 0).await;
    drop(first);
    place.closed().await;
    let before = fs::read(place.file()).unwrap();
    let fault = place.open_with(&with(&[2]), 0).map(|_| ()).unwrap_err();
    assert!(fault.contains("logins.db: was sealed by another `encryptionKey`"), "{fault}");
    assert_eq!(super::fault(&with(&[2]), &place.state).unwrap().to_string(), fault, "check says so, too");
    assert_eq!(super::fault(&with(&[1]), &place.state), None);
    assert_eq!(fs::read(place.file()).unwrap(), before);
    assert!(!place.state.join("keys.json").exists(), "the config has all keys");

    // A key is replaced: for one start, both are there.
    let both = place.open_with(&with(&[2, 1]), 0).unwrap();
    let next = refresh(&both, &login.refresh_token, 1).await.unwrap();
    drop(both);
    let new = place.open_with(&with(&[2]), 0).unwrap();
    assert!(refresh(&new, &next.refresh_token, 2).await.is_ok());
    assert!(place.open_with(&with(&[1]), 0).is_err());
}

#[tokio::test]
async fn a_secret_that_is_replaced_ends_session_tokens_and_no_login() {
    let place = Place::new();
    let with = |secrets: &[&str]| LoginStore {
        jwt_secrets: secrets.iter().map(|secret| Secret::new(secret.repeat(32))).collect(),
        ..LoginStore::default()
    };
    let first = place.open_with(&with(&["a"]), 0).unwrap();
    let login = begin(&first, 0).await;
    let token = session(&first, &login, 0);
    let both = place.open_with(&with(&["b", "a"]), 0).unwrap();
    assert!(opens(&both, &token, 1));
    let new = place.open_with(&with(&["b"]), 0).unwrap();
    assert!(!opens(&new, &token, 1));
    assert!(refresh(&new, &login.refresh_token, 1).await.is_ok());
}

#[tokio::test]
async fn files_that_others_could_touch_are_not_used() {
    let place = Place::new();
    drop(place.open(0));
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (file, keys) = (place.file(), place.state.join("keys.json"));
    for (path, bad, good, told) in [
        (&place.state, 0o750, 0o700, "state: other users may look into it; `chmod 700`"),
        (&place.state, 0o701, 0o700, "StateDirectoryMode=0700"),
        (&file, 0o640, 0o600, "logins.db: other users may read it"),
        (&keys, 0o604, 0o600, "keys.json: other users may read it"),
    ] {
        chmod(path, bad);
        let fault = place.fault();
        assert!(fault.contains(told), "{fault}");
        assert_eq!(super::fault(&LoginStore::default(), &place.state).unwrap().to_string(), fault);
        chmod(path, good);
        drop(place.open(0));
    }
    let elsewhere = place.state.with_file_name("elsewhere");
    fs::rename(&place.state, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &place.state).unwrap();
    assert!(place.fault().contains("is a symbolic link"), "{}", place.fault());
    fs::remove_file(&place.state).unwrap();
    fs::rename(&elsewhere, &place.state).unwrap();
    fs::rename(&file, place.state.join("other")).unwrap();
    std::os::unix::fs::symlink("other", &file).unwrap();
    assert!(place.fault().contains("is a symbolic link, or no file"), "{}", place.fault());
}

#[tokio::test]
async fn what_is_no_store_of_this_version_stays_as_it_is() {
    let place = Place::new();
    drop(place.open(0));
    place.closed().await;
    let keys = fs::read(place.state.join("keys.json")).unwrap();
    fs::remove_file(place.state.join("keys.json")).unwrap();
    let lost = place.fault();
    assert!(lost.contains("keys.json: is gone, and logins.db is there"), "{lost}");
    assert!(!place.state.join("keys.json").exists(), "no others are made in their place");
    assert_eq!(super::fault(&LoginStore::default(), &place.state).unwrap().to_string(), lost);
    state_dir::write_new(&place.state.join("keys.json"), 0o600, std::str::from_utf8(&keys).unwrap()).unwrap();
    place.sql().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(place.file()).unwrap();
    let newer = place.fault();
    assert!(newer.contains("was written by a newer gateway (version 99"), "{newer}");
    assert_eq!(super::fault(&LoginStore::default(), &place.state).unwrap().to_string(), newer);
    assert_eq!(fs::read(place.file()).unwrap(), before);
    fs::write(place.file(), "nonsense ".repeat(1000)).unwrap();
    assert!(place.fault().contains("is no database"), "{}", place.fault());
    fs::remove_file(place.file()).unwrap();
    place.sql().execute_batch("CREATE TABLE of_others (x)").unwrap();
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(place.fault().contains("is a database of something else"), "{}", place.fault());
}

#[tokio::test]
async fn an_older_version_is_copied_before_it_becomes_a_newer_one() {
    let place = Place::new();
    let logins = place.open(0);
    let login = begin(&logins, 0).await;
    drop(logins);
    let kept = kept_keys::load(&place.state).unwrap();
    let keys = Secrets::of(&LoginStore::default(), kept).of_columns();
    let migrations = [MIGRATIONS, &["ALTER TABLE store ADD COLUMN more TEXT"]].concat();
    let opening = Opening { now: &|| at(0), is_wanted: &|| true };
    let mut database = Database::open(&place.state, &keys, &migrations, opening).unwrap();
    let view = View::default();
    database.follow(&view).unwrap();
    assert_eq!(view.kind(login.grant, at(1)), Some(Some(GrantKind::Session)));
    let version = |path: &Path| -> i64 {
        Connection::open(path).unwrap().query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
    };
    assert_eq!(version(&place.file()), migrations.len() as i64);
    let copy = place.state.join(format!("logins.db.v{}", MIGRATIONS.len()));
    assert_eq!(
        (version(&copy), copy.metadata().unwrap().permissions().mode() & 0o777),
        (MIGRATIONS.len() as i64, 0o600)
    );
    drop(database);
    fs::rename(copy, place.file()).unwrap();
    let _ = fs::remove_file(place.state.join("logins.db-wal"));
    let back = place.open(1);
    assert!(refresh(&back, &login.refresh_token, 1).await.is_ok(), "the copy is whole");
}

#[tokio::test]
async fn a_row_that_was_moved_to_another_user_does_not_open_and_is_named() {
    let place = Place::new();
    let logins = place.open(0);
    let (alice, other) = (begin(&logins, 0).await, begin(&logins, 0).await);
    let bob = grants(&logins)
        .begin(&"bob".into(), fingerprint(&logins), &LoginTerms::DEFAULT, at(0))
        .await
        .unwrap()
        .0;
    let sql = place.sql();
    let body = |principal: &str| -> Vec<u8> {
        let select = "SELECT body FROM grants WHERE principal = ?1";
        sql.query_row(select, [principal], |row| row.get(0)).unwrap()
    };
    sql.execute("UPDATE grants SET body = ?1 WHERE principal = 'user:bob'", params![body("user:alice")])
        .unwrap();
    assert_eq!(refresh(&logins, &bob.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
    let changes = "UPDATE grants SET principal = 'user:bob', changed = 1000 WHERE principal = 'user:alice'";
    sql.execute_batch(&format!("{changes}; UPDATE store SET changed = 1000")).unwrap();
    for moved in [&alice, &other] {
        assert_eq!(refresh(&logins, &moved.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
    }
    let status = logins.status();
    until("it is told", || status.borrow().faults == 2).await;
    assert!(status.borrow().last_fault.as_deref().unwrap().starts_with("grants "), "{status:?}");
    assert_eq!(status.borrow().down, None);
}

#[tokio::test]
async fn a_clock_that_jumps_brings_no_login_to_life() {
    for jump in [400 * DAY, 17 * 60] {
        let place = Place::new();
        let first = place.open(0);
        let (kept, ended) = (begin(&first, 0).await, begin(&first, 0).await);
        let tokens = [&kept, &ended].map(|issued| session(&first, issued, 0));
        log_out(&first, &ended.refresh_token).await.unwrap();
        // The clock is ahead, and what has ended by it is forgotten.
        grants(&first).sweep(at(jump));
        let revoked = || -> i64 {
            place.sql().query_row("SELECT count(*) FROM revoked", (), |row| row.get(0)).unwrap()
        };
        until("the sweep", || revoked() == 0).await;
        drop(first);
        // And is right again.
        let second = place.open(1);
        assert_eq!(tokens.each_ref().map(|token| opens(&second, token, 1)), [false, false], "{jump}");
        assert_eq!(refresh(&second, &ended.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
        // The login itself is there, unless it was over by the clock that was wrong.
        let refreshed = refresh(&second, &kept.refresh_token, 1).await;
        assert_eq!(refreshed.is_ok(), jump < 12 * 3600, "{jump}");
        // A clock that was behind: nothing of the future is good, and nothing is lost.
        drop(second);
        let third = place.open(0);
        let login = begin(&third, 400 * DAY).await;
        let token = session(&third, &login, 400 * DAY);
        assert!(!opens(&third, &token, 1));
        assert_eq!(refresh(&third, &login.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn what_nobody_awaits_any_more_while_another_gateway_writes_is_not_done() {
    let place = Place::new();
    let logins = place.open(0);
    let login = begin(&logins, 0).await;
    let other = place.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    {
        // Both are asked, and left: their clients have gone.
        let (mut refreshing, mut beginning) =
            (Box::pin(refresh(&logins, &login.refresh_token, 1)), Box::pin(begin(&logins, 1)));
        let asked = poll_fn(|cx| {
            Poll::Ready(refreshing.as_mut().poll(cx).is_pending() && beginning.as_mut().poll(cx).is_pending())
        });
        assert!(asked.await);
    }
    other.execute_batch("COMMIT").unwrap();
    let refreshed = refresh(&logins, &login.refresh_token, DAY / 4).await.unwrap();
    assert!(refreshed.is_new, "the one that nobody awaits has used up nothing");
    let count =
        || -> i64 { place.sql().query_row("SELECT count(*) FROM grants", (), |row| row.get(0)).unwrap() };
    assert_eq!(count(), 1);
}

#[tokio::test]
async fn a_user_who_is_taken_away_stays_away_if_the_process_is_killed_then() {
    let place = Place::new();
    let logins = place.open(0);
    let login = begin(&logins, 0).await;
    grants(&logins).keep(|_, _, _| false);
    let revoked =
        || -> i64 { place.sql().query_row("SELECT count(*) FROM revoked", (), |row| row.get(0)).unwrap() };
    until("the end of the login", || revoked() == 1).await;
    let other = place.open(1);
    assert_eq!(refresh(&other, &login.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
}

#[tokio::test]
async fn what_is_over_goes_in_portions() {
    let place = Place::new();
    let logins = place.open(0);
    let login = begin(&logins, 0).await;
    let sql = place.sql();
    sql.execute_batch(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 2500)
         INSERT INTO revoked SELECT CAST(x AS BLOB), 1, x'00', 0 FROM n",
    )
    .unwrap();
    let count = |table: &str| -> i64 {
        sql.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
    };
    grants(&logins).sweep(at(10));
    until("all of them are gone", || count("revoked") == 0).await;
    assert_eq!(count("grants"), 1, "what is not over stays");
    assert!(grants(&logins).has(login.grant, at(1)));
}

#[tokio::test]
async fn a_file_that_is_moved_or_replaced_keeps_nothing_until_it_is_back() {
    for name in ["logins.db", "logins.db-wal", "logins.db-shm"] {
        let place = Place::new();
        let logins = place.open(0);
        let (mine, leaving) = (begin(&logins, 0).await, begin(&logins, 0).await);
        let token = session(&logins, &mine, 0);
        let (path, away) = (place.state.join(name), place.state.join("away"));
        fs::rename(&path, &away).unwrap();
        assert_eq!(try_log_out(&logins, &leaving.refresh_token).await, Err(NotWritten), "{name}");
        assert!(!grants(&logins).has(leaving.grant, at(1)), "it holds here all the same");
        assert_eq!(refresh(&logins, &mine.refresh_token, 1).await.unwrap_err(), NotRefreshed::Down);
        let status = logins.status();
        let says = |word: &str| status.borrow().down.as_deref().is_some_and(|down| down.contains(word));
        assert!(says(&format!("{name}: it was moved or removed while")), "{status:?}");
        assert!(opens(&logins, &token, 1), "sessions go on");
        // Another file is none that was read: what it says was never looked at.
        fs::copy(&away, &path).unwrap();
        assert_eq!(refresh(&logins, &mine.refresh_token, 1).await.unwrap_err(), NotRefreshed::Down);
        assert!(says(&format!("{name}: another file was put in its place")), "{status:?}");
        fs::rename(&away, &path).unwrap();
        until("it is back", || status.borrow().down.is_none()).await;
        assert!(refresh(&logins, &mine.refresh_token, 1).await.is_ok());
        drop(logins);
        place.closed().await;
        let again = place.open(2);
        assert_eq!(refresh(&again, &leaving.refresh_token, 2).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn a_logout_that_could_not_be_written_is_written_later_wherever_the_login_began() {
    let place = Place::new();
    let (one, other) = (place.open(0), place.open(0));
    let (away, path) = (place.state.join("away"), place.file());
    // The other gateway reads nothing of it, and is asked by each of both tokens.
    fs::rename(&path, &away).unwrap();
    let status = other.status();
    until("it is away", || status.borrow().down.is_some()).await;
    fs::rename(&away, &path).unwrap();
    let (by_session, by_refresh) = (begin(&one, 0).await, begin(&one, 0).await);
    fs::rename(&path, &away).unwrap();
    let claims = other.opened(session(&one, &by_session, 0).expose().as_bytes()).unwrap();
    let token = RefreshToken::parse(by_refresh.refresh_token.expose()).unwrap();
    for token in [Token::Session(claims), Token::Refresh(token)] {
        assert_eq!(grants(&other).revoke(vec![token], at(1)).await, Err(NotWritten));
    }
    fs::rename(&away, &path).unwrap();
    let third = place.open(1);
    until("they are written", || {
        [&by_session, &by_refresh].iter().all(|login| grants(&third).is_revoked(login.grant))
    })
    .await;
    for login in [&by_session, &by_refresh] {
        assert_eq!(refresh(&third, &login.refresh_token, 2).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn a_row_of_nobody_is_a_fault_and_others_are_read() {
    let place = Place::new();
    let (one, other) = (place.open(0), place.open(0));
    let login = begin(&one, 0).await;
    until("the other gateway has it", || grants(&other).list(&alice(), at(0)).len() == 1).await;
    let sql = place.sql();
    let changes =
        "UPDATE grants SET principal = CAST(x'ff' AS TEXT), changed = 1000; UPDATE store SET changed = 1000";
    sql.execute_batch(changes).unwrap();
    let next = begin(&one, 1).await;
    let status = other.status();
    until("it is told", || status.borrow().faults == 1).await;
    assert_eq!(status.borrow().down, None);
    until("the next one", || grants(&other).list(&alice(), at(1)).len() == 2).await;
    assert_eq!(refresh(&other, &login.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
    assert!(refresh(&other, &next.refresh_token, 1).await.is_ok());
}

/// Makes the file what the first version of a gateway would have left of it, with one login.
fn as_the_first_version_left_it(place: &Place, secret: &GrantSecret) -> GrantId {
    use sha2::Digest as _;
    let kept = kept_keys::load(&place.state).unwrap();
    let keys = Secrets::of(&LoginStore::default(), kept).of_columns();
    let sql = place.sql();
    sql.execute_batch(
        "DROP TABLE codes; DROP TABLE consents; DROP TABLE accounts; DROP TABLE spent; DROP TABLE upstream; \
         DROP TABLE upstream_gone; DROP TABLE flows; DROP TABLE clients; DROP TABLE sources; \
         ALTER TABLE store DROP COLUMN forgotten; PRAGMA user_version = 1",
    )
    .unwrap();
    let id = GrantId::random().unwrap();
    let row_id: [u8; 32] = sha2::Sha256::digest(id.bytes()).into();
    let moment = |seconds| (at(seconds).duration_since(UNIX_EPOCH).unwrap().as_millis() as i64).to_be_bytes();
    let text = [
        &id.bytes()[..],
        &[5; 8],
        secret.bytes(),
        &3_u32.to_be_bytes(),
        &moment(0),
        &moment(DAY / 2),
        &moment(900),
        &moment(30 * DAY),
    ]
    .concat();
    let body = super::rows::Sealers::new(&keys).unwrap().grants.seal(&row_id, b"user:alice", &text).unwrap();
    let insert = "INSERT INTO grants VALUES (?1, 'user:alice', 0, ?2, ?3, 1)";
    sql.execute(insert, params![row_id, i64::from_be_bytes(moment(DAY)), body]).unwrap();
    sql.execute_batch("UPDATE store SET changed = 1").unwrap();
    id
}

#[tokio::test]
async fn a_login_of_the_first_version_goes_on_with_its_own_secret() {
    let place = Place::new();
    drop(place.open(0));
    place.closed().await;
    let secret = GrantSecret::new([9; 32]);
    let id = as_the_first_version_left_it(&place, &secret);
    let logins = place.open(1);
    assert!(place.state.join("logins.db.v1").exists(), "a copy of before");
    let old = RefreshToken::make(id, 3, &secret);
    let next = refresh(&logins, &old, 1).await.unwrap();
    assert_eq!(next.refresh_token, RefreshToken::make(id, 4, &secret));
    assert_eq!(refresh(&logins, &old, 2).await.unwrap().refresh_token, next.refresh_token);
    drop(logins);
    let again = place.open(3);
    assert!(refresh(&again, &next.refresh_token, 3).await.is_ok(), "as it was written by this version");
    assert_eq!(log_out(&again, &RefreshToken::make(id, 5, &secret)).await, Some(alice()));
    let other = RefreshToken::make(id, 5, &GrantSecret::new([8; 32]));
    assert_eq!(refresh(&again, &other, 4).await.unwrap_err(), NotRefreshed::Invalid);
}

#[test]
fn file_systems_of_several_machines_are_told_from_others() {
    for (kind, name) in [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0xff53_4d42_i64, "SMB")] {
        assert!(foreign_file_system(kind).unwrap().contains(name));
    }
    // As signed 32 bits, which some machines have.
    assert_eq!(foreign_file_system(0xff53_4d42_u32 as i32), Some("SMB"));
    // ext4, XFS, btrfs, tmpfs, overlay, ZFS
    for kind in [0xef53_i64, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
        assert_eq!(foreign_file_system(kind), None);
    }
}

#[test]
fn a_store_that_is_not_wanted_any_more_is_not_sealed_with_a_key_that_the_config_has_no_more() {
    let keyed = |byte| LoginStore {
        jwt_secrets: vec![Secret::new("j".repeat(32))],
        encryption_keys: vec![SecretKey::new([byte; 32])],
        ..LoginStore::default()
    };
    // It is given up at the first step, at the second, and so on, until it is opened.
    for steps in 0.. {
        let place = Place::new();
        let asked = std::cell::Cell::new(0);
        let is_wanted = || asked.replace(asked.get() + 1) < steps;
        let opening = Opening { now: &|| at(0), is_wanted: &is_wanted };
        let opened = Logins::new().unwrap().open_store(&keyed(1), &place.state, opening);
        if opened.is_ok() {
            assert!(steps > 3, "it is asked between the steps");
            return;
        }
        if steps == 0 {
            assert!(!place.state.exists());
        }
        place.open_with(&keyed(2), 0).unwrap();
    }
}

#[tokio::test]
async fn what_was_used_and_forgotten_by_a_clock_that_ran_ahead_is_not_taken_again() {
    let place = Place::new();
    let memory = LoginStore { storage: LoginStorage::Memory, ..LoginStore::default() };
    for store in [LoginStore::default(), memory] {
        let logins = place.open_with(&store, 0).unwrap();
        let spend = async |id: &[u8], until: u64, now: u64| {
            grants(&logins).spend(Spent::assertion("client a", id, at(until)), at(now)).await
        };
        assert_eq!(spend(b"1", 200, 0).await, Ok(()));
        assert_eq!(spend(b"1", 200, 1).await, Err(NotSpent::Again));
        // Another gateway of the file, or this one before it was started again, has its clock ten minutes ahead.
        assert_eq!(spend(b"2", 900, 600).await, Ok(()));
        grants(&logins).sweep(at(600));
        if store.storage == LoginStorage::File {
            let count =
                || place.sql().query_row("SELECT count(*) FROM spent", (), |row| row.get::<_, i64>(0));
            until("the first one to be forgotten", || count().unwrap() == 1).await;
        }
        assert_eq!(spend(b"1", 200, 30).await, Err(NotSpent::Forgotten));
        assert_eq!(spend(b"3", 200, 30).await, Err(NotSpent::Forgotten), "nobody knows");
        assert_eq!(spend(b"3", 201, 30).await, Ok(()));
        assert_eq!(spend(b"2", 900, 30).await, Err(NotSpent::Again));
    }
}

#[tokio::test]
async fn whoever_has_no_places_left_gives_back_all_the_same_and_each_network_has_its_own() {
    let logins = Logins::new().unwrap();
    let memory = LoginStore { storage: LoginStorage::Memory, ..LoginStore::default() };
    let opening = Opening { now: &|| at(0), is_wanted: &|| true };
    logins.keep_store(logins.open_store(&memory, std::path::Path::new("none"), opening).unwrap());
    let spend = async |spent| grants(&logins).spend(spent, at(0)).await;
    let of_client = |n: u32| Spent::assertion("client a", &n.to_be_bytes(), at(200));
    let mut n = 0;
    while spend(of_client(n)).await == Ok(()) {
        n += 1;
    }
    assert_eq!((n, spend(of_client(n)).await), (10_000, Err(NotSpent::Full)));
    assert_eq!(
        spend(of_client(0).to_give_back()).await,
        Err(NotSpent::Again),
        "it was used, wherever it comes"
    );
    assert_eq!(spend(of_client(n).to_give_back()).await, Ok(()));
    assert_eq!(spend(of_client(n)).await, Err(NotSpent::Again));
    let mut given_back = 1;
    while spend(of_client(n + given_back).to_give_back()).await == Ok(()) {
        given_back += 1;
    }
    assert_eq!(given_back, 1_000);
    let login = |network: u32, n: u32| {
        let address = std::net::Ipv4Addr::from_bits((network << 8) | (n % 200));
        Spent::login(std::net::IpAddr::from(address).into(), &format!("{network} {n}"), at(600))
    };
    let mut of_one = 0;
    while spend(login(1, of_one)).await == Ok(()) {
        of_one += 1;
    }
    assert_eq!((of_one, spend(login(2, 0)).await), (1_000, Ok(())));
}
