use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use test_basics::waiting::until;

use super::{
    super::{
        Logins,
        store::Opening,
        upstream_row::{MOST_CLIENTS, MOST_FLOWS_OF_ONE, MOST_OF_ONE},
    },
    *,
};
use crate::{
    config::{LoginStorage, LoginStore},
    secret::{Secret, SecretKey},
};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn open_with(config: &LoginStore, state: &Path) -> Logins {
    let logins = Logins::new().unwrap();
    let opening = Opening { now: &|| at(0), is_wanted: &|| true };
    logins.keep_store(logins.open_store(config, state, opening).unwrap());
    logins
}

fn open(storage: LoginStorage, state: &Path) -> Logins {
    open_with(&LoginStore { storage, ..LoginStore::default() }, state)
}

/// Gateways of each kind of store: one in memory, and two of one file.
fn each() -> impl Iterator<Item = (Vec<Arc<Logins>>, TempDir)> {
    [(LoginStorage::Memory, 1), (LoginStorage::File, 2)].into_iter().map(|(storage, gateways)| {
        let directory = TempDir::new().unwrap();
        let state = directory.path().join("state");
        ((0..gateways).map(|_| Arc::new(open(storage, &state))).collect(), directory)
    })
}

/// A place of two gateways.
struct Place {
    state: PathBuf,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { state: directory.path().join("state"), _directory: directory }
    }

    fn open(&self) -> Logins {
        open(LoginStorage::File, &self.state)
    }

    fn sql(&self) -> Connection {
        Connection::open(self.state.join("logins.db")).unwrap()
    }
}

fn rows(logins: &Logins) -> &Upstreams {
    logins.upstream().unwrap()
}

fn principal(name: &str) -> Principal {
    Principal::User(name.into())
}

fn of(name: &str) -> UpstreamOwner {
    UpstreamOwner::Principal(principal(name))
}

fn text(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn row(owner: &UpstreamOwner, server: &str, body: &str) -> UpstreamRow {
    UpstreamRow {
        owner: owner.clone(),
        server: server.into(),
        state: UpstreamState::Connected,
        body: text(body),
        version: 0,
        since: at(0),
        changed: at(1),
        ends: Some(at(3600)),
    }
}

async fn put(logins: &Logins, owner: &UpstreamOwner, server: &str, body: &str) -> u64 {
    rows(logins).put(row(owner, server, body), None).await.unwrap().unwrap()
}

async fn body(logins: &Logins, owner: &UpstreamOwner, server: &str) -> Option<String> {
    let row = rows(logins).get(owner, server).await.unwrap()?;
    Some(String::from_utf8(row.body.to_vec()).unwrap())
}

/// What twenty get who ask at the same time, at one gateway or the other.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    gateways: &[Arc<Logins>],
    ask: impl Fn(Arc<Logins>) -> F,
) -> Vec<T> {
    let asking: tokio::task::JoinSet<T> =
        (0..20).map(|n| ask(Arc::clone(&gateways[n % gateways.len()]))).collect();
    asking.join_all().await
}

#[tokio::test]
async fn a_credential_is_of_one_owner_at_one_server_and_is_replaced_by_who_knows_it() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let (alice, everyone) = (of("alice"), UpstreamOwner::Everyone);
        let version = put(one, &alice, "github", "1").await;
        put(one, &alice, "notion", "2").await;
        put(one, &everyone, "github", "3").await;
        for (owner, server, wanted) in [
            (&alice, "github", Some("1")),
            (&alice, "notion", Some("2")),
            (&everyone, "github", Some("3")),
            (&everyone, "notion", None),
            (&of("bob"), "github", None),
            (&alice, "githu", None),
        ] {
            assert_eq!(body(other, owner, server).await.as_deref(), wanted, "{owner} {server}");
        }
        let kept = rows(other).get(&alice, "github").await.unwrap().unwrap();
        assert_eq!(kept, UpstreamRow { version, ..row(&alice, "github", "1") }, "as it was written");

        let next = rows(other).put(row(&alice, "github", "4"), Some(version)).await.unwrap().unwrap();
        assert_eq!(next, version + 1);
        // Who knows the one before, or none, writes nothing.
        for expected in [Some(version), None, Some(next + 1)] {
            let refused = rows(one).put(row(&alice, "github", "5"), expected).await.unwrap().unwrap_err();
            assert_eq!(refused.unwrap(), UpstreamRow { version: next, ..row(&alice, "github", "4") });
        }
        assert_eq!(rows(one).remove(&alice, "github").await.unwrap().unwrap().version, next);
        assert_eq!(rows(one).remove(&alice, "github").await.unwrap(), None);
        let refused = rows(one).put(row(&alice, "github", "6"), Some(next)).await.unwrap().unwrap_err();
        assert_eq!(refused, None, "it was disconnected meanwhile");
        // A new one is none of which anybody knows the version.
        assert!(put(one, &alice, "github", "7").await.abs_diff(next) > 100);

        let state = UpstreamState::Reconnect;
        let reconnect = UpstreamRow { state, ends: None, ..row(&of("bob"), "github", "") };
        rows(other).put(reconnect.clone(), None).await.unwrap().unwrap();
        let bobs = rows(one).of_owner(&of("bob")).await.unwrap();
        assert_eq!(bobs, [UpstreamRow { version: bobs[0].version, ..reconnect }]);
        let names = |all: &[UpstreamRow]| -> Vec<String> {
            all.iter().map(|row| format!("{} {} {}", row.owner, row.server, row.body.len())).collect()
        };
        let all = rows(one).all(10).await.unwrap();
        let of_all = ["everyone github 0", "user:alice github 0", "user:alice notion 0", "user:bob github 0"];
        assert_eq!(names(&all), of_all, "without bodies");
        assert_eq!(names(&rows(one).all(2).await.unwrap()), of_all[..2]);
        assert_eq!(
            names(&rows(one).of_owner(&alice).await.unwrap()),
            ["user:alice github 1", "user:alice notion 1"]
        );
        let counts = rows(other).counts().await.unwrap();
        let counts: Vec<_> =
            counts.iter().map(|(server, state, count)| (&**server, state.name(), *count)).collect();
        assert_eq!(
            counts,
            [("github", "connected", 2), ("github", "reconnect", 1), ("notion", "connected", 1)]
        );
    }
}

#[tokio::test]
async fn one_of_all_who_would_refresh_has_the_lock_until_it_writes_or_gives_it_back_or_is_gone() {
    for (gateways, _directory) in each() {
        let (one, other, alice) = (&gateways[0], gateways.last().unwrap(), of("alice"));
        let lock = async |logins: &Logins, now| rows(logins).lock(&alice, "github", at(now)).await.unwrap();
        assert!(!lock(one, 0).await, "there is nothing to refresh");
        let version = put(one, &alice, "github", "1").await;
        let all = at_once(&gateways, |logins| async move {
            rows(&logins).lock(&of("alice"), "github", at(0)).await.unwrap()
        });
        assert_eq!(all.await.iter().filter(|has_it| **has_it).count(), 1);
        assert!(!lock(other, 59).await && lock(other, 60).await, "whoever had it is gone");
        rows(one).unlock(&alice, "github").await.unwrap();
        assert!(lock(one, 60).await && !lock(other, 60).await);
        assert_eq!(
            rows(other).get(&alice, "github").await.unwrap().unwrap().version,
            version,
            "it is the same"
        );
        rows(one).put(row(&alice, "github", "2"), Some(version)).await.unwrap().unwrap();
        assert!(lock(other, 16).await, "whoever had it has written");
    }
}

#[tokio::test]
async fn a_flow_is_taken_once_by_whom_it_waits_for_and_the_oldest_of_one_gives_way() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        let begin = async |id: u8, who: &str, ends| {
            rows(one).begin_flow([id; 32], &principal(who), text(&format!("{who} {id}")), at(ends)).await
        };
        begin(1, "alice", 600).await.unwrap();
        let all =
            at_once(
                &gateways,
                |logins| async move { rows(&logins).take_flow([1; 32], at(599)).await.unwrap() },
            );
        let taken: Vec<_> = all.await.into_iter().flatten().collect();
        assert_eq!(taken, [text("alice 1")]);
        begin(2, "alice", 600).await.unwrap();
        assert_eq!(rows(other).take_flow([2; 32], at(600)).await.unwrap(), None, "it has ended");
        assert_eq!(rows(other).take_flow([2; 32], at(0)).await.unwrap(), None, "and is gone");
        assert_eq!(rows(other).take_flow([3; 32], at(0)).await.unwrap(), None);

        begin(99, "bob", 1).await.unwrap();
        for id in 0..=MOST_FLOWS_OF_ONE as u8 {
            begin(id, "alice", 600 + u64::from(id)).await.unwrap();
        }
        assert_eq!(rows(one).take_flow([0; 32], at(0)).await.unwrap(), None, "the oldest gave way");
        assert!(rows(one).take_flow([1; 32], at(0)).await.unwrap().is_some());
        assert!(rows(one).take_flow([99; 32], at(0)).await.unwrap().is_some(), "those of others did not");
    }
}

#[tokio::test]
async fn a_registered_client_is_of_one_server_at_one_issuer() {
    for (gateways, _directory) in each() {
        let (one, other) = (&gateways[0], gateways.last().unwrap());
        rows(one).put_client("db", "https://a.example", text("1")).await.unwrap();
        rows(one).put_client("db", "https://b.example", text("2")).await.unwrap();
        rows(one).put_client("db", "https://b.example", text("3")).await.unwrap();
        let client = async |server: &str, issuer: &str| rows(other).client(server, issuer).await.unwrap();
        assert_eq!(client("db", "https://a.example").await, Some(text("1")));
        assert_eq!(client("db", "https://b.example").await, Some(text("3")));
        assert_eq!(client("web", "https://a.example").await, None);
        rows(other).remove_client("db", "https://a.example").await.unwrap();
        assert_eq!(client("db", "https://a.example").await, None);
    }
}

#[tokio::test]
async fn there_is_an_end_to_what_is_kept() {
    for (gateways, _directory) in each() {
        let (one, alice) = (&gateways[0], of("alice"));
        for server in 0..MOST_OF_ONE {
            put(one, &alice, &server.to_string(), "").await;
        }
        let more = |owner: &UpstreamOwner| rows(one).put(row(owner, "more", ""), None);
        assert_eq!(more(&alice).await, Err(NotKept::Full));
        assert!(more(&of("bob")).await.unwrap().is_ok(), "others have room");
        rows(one).remove(&alice, "0").await.unwrap().unwrap();
        assert!(more(&alice).await.unwrap().is_ok());
        for server in 0..=MOST_OF_ONE {
            put(one, &UpstreamOwner::Everyone, &server.to_string(), "").await;
        }
        let long = || Zeroizing::new(vec![0; LONGEST_BODY + 1]);
        let too_long = UpstreamRow { body: long(), ..row(&of("bob"), "db", "") };
        assert_eq!(rows(one).put(too_long, None).await, Err(NotKept::TooLong));
        assert_eq!(
            rows(one).begin_flow([0; 32], &principal("bob"), long(), at(0)).await,
            Err(NotKept::TooLong)
        );
        assert_eq!(rows(one).put_client("db", "", long()).await, Err(NotKept::TooLong));
    }
    // That many writes take a file long, and it is the same act.
    let memory = open(LoginStorage::Memory, Path::new(""));
    for server in 0..MOST_CLIENTS {
        rows(&memory).put_client(&server.to_string(), "https://a.example", text("")).await.unwrap();
    }
    let put_client =
        async |server: &str| rows(&memory).put_client(server, "https://a.example", text("")).await;
    assert_eq!(put_client("more").await, Err(NotKept::Full));
    assert_eq!(put_client("0").await, Ok(()), "one that is there");
}

#[tokio::test]
async fn what_one_process_writes_another_hears_of_and_itself_does_not() {
    let place = Place::new();
    let (one, other, alice) = (place.open(), place.open(), of("alice"));
    let (mut own, mut told) = (rows(&one).changes(), rows(&other).changes());
    let version = put(&one, &alice, "github", "1").await;
    put(&one, &UpstreamOwner::Everyone, "db", "2").await;
    told.wait_for(|number| *number == 2).await.unwrap();
    let (seen, changes) = rows(&other).changed_since(0);
    let mut changes = changes.unwrap();
    changes.sort_by_key(|change| change.owner.to_string());
    assert_eq!(
        changes[1],
        UpstreamChange { owner: alice.clone(), server: "github".into(), version: Some(version) }
    );
    assert_eq!(changes[0].owner, UpstreamOwner::Everyone);

    // A lock is nothing that has to be read again.
    assert!(rows(&one).lock(&alice, "github", at(0)).await.unwrap());
    rows(&one).remove(&alice, "github").await.unwrap().unwrap();
    told.wait_for(|number| *number == 3).await.unwrap();
    let gone = UpstreamChange { owner: alice.clone(), server: "github".into(), version: None };
    assert_eq!(rows(&other).changed_since(seen), (3, Some(vec![gone])));
    rows(&other).remove(&UpstreamOwner::Everyone, "db").await.unwrap().unwrap();
    own.wait_for(|number| *number == 1).await.unwrap();
    assert_eq!(*told.borrow(), 3, "what it did itself, it knows");

    // Traces of what was removed go.
    let traces = || -> i64 {
        place.sql().query_row("SELECT count(*) FROM upstream_gone", (), |row| row.get(0)).unwrap()
    };
    assert_eq!(traces(), 2);
    one.grants().unwrap().sweep(at(3600));
    until("they are forgotten", || traces() == 0).await;
}

#[tokio::test]
async fn a_row_that_is_moved_or_put_back_opens_nothing_and_is_named_and_stays() {
    let place = Place::new();
    let (logins, alice, bob) = (place.open(), of("alice"), of("bob"));
    let status = logins.status();
    let version = put(&logins, &alice, "github", "alice's").await;
    put(&logins, &bob, "github", "bob's").await;
    rows(&logins).put_client("github", "https://a.example", text("1")).await.unwrap();
    rows(&logins).begin_flow([1; 32], &principal("alice"), text("1"), at(600)).await.unwrap();
    let older: Vec<u8> = {
        let sql = place.sql();
        let select = "SELECT body FROM upstream WHERE owner = 'user:alice'";
        sql.query_row(select, (), |row| row.get(0)).unwrap()
    };
    rows(&logins).put(row(&alice, "github", "newer"), Some(version)).await.unwrap().unwrap();

    // An older body in the row of the newer one.
    place.sql().execute("UPDATE upstream SET body = ?1 WHERE owner = 'user:alice'", [older]).unwrap();
    assert_eq!(body(&logins, &alice, "github").await, None);
    let last = || status.borrow().last_fault.clone().unwrap_or_default();
    assert_eq!(&*last(), "upstream user:alice github");
    // What is alice's, as bob's: by its columns, by its body; for another server, and of nobody.
    for (sql, left) in [
        ("UPDATE upstream SET owner = 'user:bob' WHERE owner = 'user:alice'", "bob's"),
        (
            "UPDATE upstream SET body = (SELECT body FROM upstream WHERE owner = 'user:alice') WHERE owner = 'user:bob'",
            "alice's",
        ),
        (
            "UPDATE upstream SET id = x'00' WHERE owner = 'user:bob';
             UPDATE upstream SET id = (SELECT id FROM theirs WHERE owner = 'user:bob') WHERE owner = 'user:alice'",
            "",
        ),
        ("UPDATE upstream SET server = 'git' WHERE owner = 'user:alice'", "bob's"),
        ("UPDATE upstream SET owner = CAST(x'ff' AS TEXT) WHERE owner = 'user:alice'", "bob's"),
        ("UPDATE upstream SET state = 'free' WHERE owner = 'user:alice'", "bob's"),
    ] {
        let place = Place::new();
        let logins = place.open();
        put(&logins, &alice, "github", "alice's").await;
        put(&logins, &bob, "github", "bob's").await;
        let moved = place.sql();
        moved.execute_batch("CREATE TEMP TABLE theirs AS SELECT id, owner FROM upstream").unwrap();
        moved.execute_batch(sql).unwrap();
        let mut found = Vec::new();
        for owner in [&alice, &bob] {
            found.extend(body(&logins, owner, "github").await);
        }
        assert_eq!(found.concat(), left, "{sql}");
        let all = rows(&logins).all(10).await.unwrap();
        assert_eq!(all.len(), found.len(), "{sql}: {all:?}");
        assert!(logins.status().borrow().faults > 0, "{sql}");
        let count: i64 = place.sql().query_row("SELECT count(*) FROM upstream", (), |row| row.get(0)).unwrap();
        assert_eq!(count, 2, "{sql}: nothing is removed");
    }
    for sql in ["UPDATE flows SET principal = 'user:bob'", "UPDATE clients SET issuer = 'https://b.example'"]
    {
        place.sql().execute_batch(sql).unwrap();
    }
    assert_eq!(rows(&logins).take_flow([1; 32], at(0)).await.unwrap(), None);
    assert_eq!(&*last(), "flows user:bob ");
    assert_eq!(rows(&logins).client("github", "https://a.example").await.unwrap(), None);
    assert_eq!(&*last(), "clients github https://b.example");
    // Whoever connects anew has a new one.
    put(&logins, &alice, "github", "anew").await;
    assert_eq!(body(&logins, &alice, "github").await.as_deref(), Some("anew"));
}

#[tokio::test]
async fn another_key_opens_it_and_seals_it_anew_at_the_next_start_and_nothing_of_it_is_in_the_files() {
    let place = Place::new();
    let keyed = |keys: &[u8]| LoginStore {
        jwt_secrets: vec![Secret::new("j".repeat(32))],
        encryption_keys: keys.iter().map(|byte| SecretKey::new([*byte; 32])).collect(),
        ..LoginStore::default()
    };
    let alice = of("alice");
    let reopen = async |keys: &[u8]| {
        until("nobody has the file", || !place.state.join("logins.db-wal").exists()).await;
        open_with(&keyed(keys), &place.state)
    };
    let first = reopen(&[1]).await;
    put(&first, &alice, "github", "canary-of-a-token").await;
    rows(&first).put_client("github", "https://a.example", text("canary-of-a-client")).await.unwrap();
    rows(&first).begin_flow([1; 32], &principal("alice"), text("canary-of-a-flow"), at(600)).await.unwrap();
    drop(first);
    drop(reopen(&[2, 1]).await);
    let last = reopen(&[2]).await;
    assert_eq!(body(&last, &alice, "github").await.as_deref(), Some("canary-of-a-token"));
    assert_eq!(
        rows(&last).client("github", "https://a.example").await.unwrap(),
        Some(text("canary-of-a-client"))
    );
    for file in std::fs::read_dir(&place.state).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert_eq!(memchr::memmem::find(&bytes, b"canary"), None);
    }
    assert_eq!(rows(&last).take_flow([1; 32], at(0)).await.unwrap(), Some(text("canary-of-a-flow")));
}

/// Something that is done to one of few rows.
#[derive(Debug, Clone)]
enum Step {
    /// Whether by who knows the version that is there, by who knows another, or by who knows of none.
    Put(usize, Option<bool>),
    Remove(usize),
    Lock(usize),
    Unlock(usize),
    Begin(u8),
    Take(u8),
    PutClient(usize),
    RemoveClient(usize),
    /// So many seconds pass.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pair = || 0..4_usize;
    let flow = || 0..4_u8;
    let step = prop_oneof![
        (pair(), prop::option::of(any::<bool>())).prop_map(|(pair, knows)| Step::Put(pair, knows)),
        pair().prop_map(Step::Remove),
        pair().prop_map(Step::Lock),
        pair().prop_map(Step::Unlock),
        flow().prop_map(Step::Begin),
        flow().prop_map(Step::Take),
        pair().prop_map(Step::PutClient),
        pair().prop_map(Step::RemoveClient),
        (1..20_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the steps are answered with, and what is there then, as far as both kinds of store have it alike: versions are random.
async fn answers(gateways: &[Arc<Logins>], steps: &[Step]) -> Vec<String> {
    let pair = |n: usize| ([of("alice"), UpstreamOwner::Everyone][n / 2].clone(), ["db", "web"][n % 2]);
    let (mut known, mut now) = (HashMap::<usize, u64>::new(), 0);
    let mut answers = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let rows = rows(&gateways[number % gateways.len()]);
        let text = text(&number.to_string());
        let answer = match step {
            Step::Put(n, knows) => {
                let (owner, server) = pair(*n);
                let expected = knows.map(|knows| known.get(n).copied().unwrap_or(7) + u64::from(!knows));
                let row = UpstreamRow { changed: at(now), ..row(&owner, server, &number.to_string()) };
                match rows.put(row, expected).await.unwrap() {
                    Ok(version) => {
                        known.insert(*n, version);
                        "put".to_owned()
                    }
                    Err(there) => format!("there is {:?}", there.map(|row| row.body)),
                }
            }
            Step::Remove(n) => {
                let (owner, server) = pair(*n);
                format!("removed {:?}", rows.remove(&owner, server).await.unwrap().map(|row| row.body))
            }
            Step::Lock(n) => {
                let (owner, server) = pair(*n);
                format!("locked {}", rows.lock(&owner, server, at(now)).await.unwrap())
            }
            Step::Unlock(n) => {
                let (owner, server) = pair(*n);
                format!("{:?}", rows.unlock(&owner, server).await)
            }
            Step::Begin(id) => {
                format!("{:?}", rows.begin_flow([*id; 32], &principal("alice"), text, at(now + 30)).await)
            }
            Step::Take(id) => format!("{:?}", rows.take_flow([*id; 32], at(now)).await),
            Step::PutClient(n) => {
                format!("{:?}", rows.put_client(pair(*n).1, "https://a.example", text).await)
            }
            Step::RemoveClient(n) => {
                format!("{:?}", rows.remove_client(pair(*n).1, "https://a.example").await)
            }
            Step::Wait(seconds) => {
                now += seconds;
                String::new()
            }
        };
        answers.push(answer);
    }
    for logins in gateways {
        let all = rows(logins).all(10).await.unwrap();
        let there = all.iter().map(|row| format!("{} {} {:?}", row.owner, row.server, row.changed));
        answers.push(there.collect());
    }
    answers.dedup();
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_memory_and_two_processes_on_one_file_answer_alike(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all: Vec<_> = each()
            .map(|(gateways, _directory)| runtime.block_on(answers(&gateways, &steps)))
            .collect();
        prop_assert_eq!(&all[0], &all[1]);
    }
}
