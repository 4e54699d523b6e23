//! `sluicegate store`: on the file of a gateway that runs, and on one of which none does. And what becomes of the file when who writes
//! to it is killed, or the disk is full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod keys;
mod kills;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::{
    config::LoginStore,
    identity::{
        Principal,
        login::{
            Logins,
            store::Opening,
            upstream::{UpstreamOwner, UpstreamRow, UpstreamState, Upstreams},
        },
    },
    secret::{Secret, SecretKey},
};
use tempfile::TempDir;
use test_support::{
    harness::{DEV, Upstream, get, open_stream, passes, until},
    process::{Process, program, text},
    users::{CHEAP_HASHES, Tokens, bare, log_in},
};
use zeroize::Zeroizing;

/// A text that is in no output and in no file.
const CANARY: &str = "canary-of-a-token";

/// A directory for a config, and for the state of a gateway.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn file(&self) -> PathBuf {
        self.state().join("logins.db")
    }

    /// Two users, and one server.
    fn config(&self, url: &str) -> Value {
        let user = |hash: usize| json!({ "passwordHash": CHEAP_HASHES[hash] });
        json!({
            "proxy": {
                "stateDir": self.state(),
                "auth": {
                    "tokens": { "dev": { "value": DEV, "roles": ["admin"] } },
                    "users": { "alice": user(0), "bob": user(1) },
                    "sessions": { "reuseGrace": "1h" },
                },
            },
            "mcpServers": { "db": { "url": url } },
        })
    }

    /// The same with these keys.
    fn keyed(&self, url: &str, keys: &[&str]) -> Value {
        let mut config = self.config(url);
        let keys: Vec<_> = keys.iter().map(|key| format!("{key}{}", "-".repeat(32 - key.len()))).collect();
        config["proxy"]["auth"]["encryptionKey"] = json!(keys);
        config["proxy"]["auth"]["jwtSecret"] = json!("a secret of at least 32 characters");
        config
    }

    /// The config that commands are given.
    fn write(&self, config: &Value) -> PathBuf {
        let path = self.path("gate.json");
        fs::write(&path, text(config.clone())).unwrap();
        path
    }

    /// What the gateway of the test would write to, as another process.
    fn open(&self) -> Logins {
        open_with(&LoginStore::default(), &self.state())
    }

    /// As a gateway with these keys.
    fn open_keyed(&self, keys: &[&str]) -> Logins {
        let keys = keys.iter().map(|key| {
            let text = format!("{key}{}", "-".repeat(32 - key.len()));
            SecretKey::parse(&text).unwrap()
        });
        let config = LoginStore {
            jwt_secrets: vec![Secret::new("a secret of at least 32 characters".into())],
            encryption_keys: keys.collect(),
            ..LoginStore::default()
        };
        open_with(&config, &self.state())
    }

    /// Resolves once no process has the file any more.
    async fn closed(&self) {
        until("the end of the store", || !self.state().join("logins.db-wal").exists()).await;
    }
}

fn open_with(config: &LoginStore, state: &Path) -> Logins {
    let logins = Logins::new().unwrap();
    let opening = Opening { now: &SystemTime::now, is_wanted: &|| true };
    logins.keep_store(logins.open_store(config, state, opening).unwrap());
    logins
}

fn rows(logins: &Logins) -> &Upstreams {
    logins.upstream().unwrap()
}

fn of(name: &str) -> UpstreamOwner {
    UpstreamOwner::Principal(Principal::User(name.into()))
}

fn row(owner: &UpstreamOwner, server: &str, body: &str) -> UpstreamRow {
    let now = SystemTime::now();
    UpstreamRow {
        owner: owner.clone(),
        server: server.into(),
        state: UpstreamState::Connected,
        body: Zeroizing::new(body.as_bytes().to_vec()),
        version: 0,
        since: now,
        changed: now,
        ends: None,
    }
}

async fn connect(logins: &Logins, owner: &UpstreamOwner, server: &str) {
    rows(logins).put(row(owner, server, CANARY), None).await.unwrap().unwrap();
}

fn store(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("store").args(arguments).arg("-c").arg(config).env_remove("STATE_DIRECTORY");
    let output = command.output().unwrap();
    for written in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(written).contains(CANARY), "{arguments:?}");
    }
    output
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what has to end well, and returns what it writes to standard output.
fn done(config: &Path, arguments: &[&str]) -> String {
    let output = store(config, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", words(&output.stderr));
    assert_eq!(words(&output.stderr), "", "{arguments:?}");
    words(&output.stdout)
}

/// Runs what has to fail, and returns what it says.
fn failed(config: &Path, arguments: &[&str], code: i32) -> String {
    let output = store(config, arguments);
    let said = words(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", words(&output.stdout));
    said
}

fn listed(config: &Path, arguments: &[&str]) -> Vec<Value> {
    let printed = done(config, &[&["list", "--json"], arguments].concat());
    serde_json::from_str::<Vec<Value>>(&printed).unwrap()
}

/// Who has what by a list.
fn pairs(listed: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    listed
        .iter()
        .map(|one| format!("{} {} {}", text(&one["principal"]), text(&one["kind"]), text(&one["server"])))
        .collect()
}

async fn refresh(gate: &Process, token: &str) -> u16 {
    let mut client = gate.client().await;
    client.send(bare("/auth/refresh", &json!({ "refreshToken": token }))).await;
    client.response().await.0
}

async fn status(gate: &Process, token: &str) -> u16 {
    let mut client = gate.client().await;
    client.send(get("/db", token, "")).await;
    client.response().await.0
}

async fn stop(mut gate: Process) {
    gate.signal(Signal::TERM);
    gate.exited().await;
}

#[tokio::test]
async fn what_a_command_ends_ends_at_a_gateway_that_runs_and_the_rest_goes_on() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let config = place.config(&server.url("/mcp"));
    let path = place.write(&config);
    let gate = Process::start(config).await;
    let alice = log_in(&mut gate.client().await, "alice").await;
    let bob = log_in(&mut gate.client().await, "bob").await;
    let other = place.open();
    for (owner, server) in [
        (of("alice"), "github"),
        (of("alice"), "notion"),
        (of("bob"), "github"),
        (UpstreamOwner::Everyone, "jira"),
    ] {
        connect(&other, &owner, server).await;
    }

    let all = listed(&path, &[]);
    assert_eq!(
        pairs(&all),
        [
            "user:alice session ",
            "user:bob session ",
            "everyone server jira",
            "user:alice server github",
            "user:alice server notion",
            "user:bob server github"
        ]
    );
    assert_eq!(all[3]["state"], "connected");
    for key in ["since", "changed"] {
        humantime::parse_rfc3339(all[3][key].as_str().unwrap()).unwrap();
    }
    assert_eq!(
        pairs(&listed(&path, &["--server", "github"])),
        ["user:alice server github", "user:bob server github"]
    );
    let of_bob = ["user:bob session ", "user:bob server github"];
    assert_eq!(pairs(&listed(&path, &["--principal", "user:bob"])), of_bob);
    assert_eq!(pairs(&listed(&path, &["--principal", "everyone"])), ["everyone server jira"]);
    let table = done(&path, &["list", "--principal", "user:alice"]);
    assert!(table.starts_with("WHO "), "{table}");
    assert!(
        table.contains("server github") && table.contains("session") && !table.contains("bob"),
        "{table}"
    );

    let (mut lost, mut behind_lost) = open_stream(gate.addr, &server, &alice.session).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, &bob.session).await;
    passes(&mut behind_lost, &mut lost, "data: 1\n\n").await;
    let said = done(&path, &["revoke", "--principal", "user:alice"]);
    assert!(said.starts_with("user:alice: 1 grant ended"), "{said}");
    assert_eq!(lost.rest().await, b"", "nothing more came");
    assert_eq!(status(&gate, &alice.session).await, 401);
    assert_eq!(refresh(&gate, &alice.refresh).await, 401);
    let said = done(&path, &["revoke", "--principal", "user:alice"]);
    assert!(said.starts_with("user:alice: has no login"), "{said}");
    assert_eq!(
        pairs(&listed(&path, &["--principal", "user:alice"])).len(),
        2,
        "what she is connected to stays"
    );

    let mut told = rows(&other).changes();
    told.borrow_and_update();
    let said = done(&path, &["disconnect", "--principal", "user:alice", "--server", "github"]);
    assert_eq!(said, "user:alice: disconnected from github; the issuer was not told\n");
    told.changed().await.unwrap();
    assert_eq!(rows(&other).get(&of("alice"), "github").await.unwrap(), None);
    assert!(
        done(&path, &["disconnect", "--principal", "everyone"])
            .starts_with("everyone: disconnected from jira;")
    );
    assert!(
        done(&path, &["disconnect", "--principal", "everyone"]).starts_with("everyone: was not connected")
    );
    assert_eq!(pairs(&listed(&path, &["--server", "github"])), ["user:bob server github"]);

    passes(&mut behind_kept, &mut kept, "data: 2\n\n").await;
    assert_eq!(refresh(&gate, &bob.refresh).await, 200);
}

#[tokio::test]
async fn without_a_gateway_it_is_the_same_and_the_next_one_knows() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let config = place.config(&server.url("/mcp"));
    let path = place.write(&config);
    let gate = Process::start(config.clone()).await;
    let Tokens { session, refresh: ended } = log_in(&mut gate.client().await, "alice").await;
    let bob = log_in(&mut gate.client().await, "bob").await;
    gate.signal(Signal::KILL);
    drop(gate);
    assert_eq!(pairs(&listed(&path, &[])), ["user:alice session ", "user:bob session "]);
    done(&path, &["revoke", "--principal", "user:alice"]);
    let gate = Process::start(config).await;
    assert_eq!(status(&gate, &session).await, 401);
    assert_eq!(refresh(&gate, &ended).await, 401);
    assert_eq!(refresh(&gate, &bob.refresh).await, 200);
}

#[tokio::test]
async fn a_backup_of_a_gateway_that_runs_is_whole_and_is_put_back_as_it_was() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let config = place.config(&server.url("/mcp"));
    let path = place.write(&config);
    let gate = Process::start(config.clone()).await;
    let login = log_in(&mut gate.client().await, "alice").await;
    {
        let other = place.open();
        connect(&other, &of("alice"), "github").await;
        let to = place.path("copy.db");
        let said = done(&path, &["backup", to.to_str().unwrap()]);
        assert!(said.contains("sealed as it is") && said.contains("keys.json"), "{said}");
        assert_eq!(to.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(&to).unwrap();
        assert_eq!(memchr::memmem::find(&bytes, CANARY.as_bytes()), None);
        let said = failed(&path, &["backup", to.to_str().unwrap()], 1);
        assert!(said.contains("is there already, and stays as it is"), "{said}");
        assert_eq!(fs::read(&to).unwrap(), bytes);
        let nowhere = place.path("no/such/copy.db");
        failed(&path, &["backup", nowhere.to_str().unwrap()], 1);
        let mut names: Vec<_> = fs::read_dir(place.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["copy.db", "gate.json", "state"], "nothing is left behind");
    }
    // What was ended since is back with the copy, as docs/operate.md says.
    assert!(done(&path, &["revoke", "--principal", "user:alice"]).contains("1 grant"));
    stop(gate).await;
    for entry in fs::read_dir(place.state()).unwrap() {
        let entry = entry.unwrap().path();
        if entry.file_name().unwrap().to_string_lossy().starts_with("logins.db") {
            fs::remove_file(entry).unwrap();
        }
    }
    fs::copy(place.path("copy.db"), place.file()).unwrap();
    let gate = Process::start(config).await;
    assert_eq!(refresh(&gate, &login.refresh).await, 200);
    assert_eq!(pairs(&listed(&path, &["--server", "github"])), ["user:alice server github"]);
}

#[tokio::test]
async fn what_no_config_names_is_removed_by_prune_and_a_dry_run_removes_nothing() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let config = place.config(&server.url("/mcp"));
    let path = place.write(&config);
    {
        let other = place.open();
        connect(&other, &of("alice"), "gone").await;
        connect(&other, &of("\u{1b}[31mmallory"), "gone").await;
        let body = Zeroizing::new(CANARY.as_bytes().to_vec());
        rows(&other).put_client("gone", "https://issuer.example", body).await.unwrap();
    }
    let dry = done(&path, &["prune", "--dry-run"]);
    let mut lines: Vec<_> = dry.lines().collect();
    assert_eq!(lines.pop().unwrap(), "2 connections and 1 registration would be removed");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "registration for gone at https://issuer.example",
            "user:\\u{1b}[31mmallory at gone",
            "user:alice at gone"
        ]
    );
    assert_eq!(done(&path, &["prune", "--dry-run"]), dry);
    assert!(done(&path, &["prune"]).ends_with("2 connections and 1 registration removed\n"));
    assert_eq!(done(&path, &["prune"]), "0 connections and 0 registrations removed\n");
    assert!(listed(&path, &[]).is_empty());
}

#[tokio::test]
async fn a_command_that_cannot_be_done_says_why_and_changes_nothing() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let config = place.config(&server.url("/mcp"));
    let path = place.write(&config);
    let [list, revoke] = [&["list"][..], &["revoke", "--principal", "user:alice"]];
    let all = [list, revoke, &["disconnect", "--principal", "everyone"], &["prune"], &["rekey"]];
    let to = place.path("copy.db");
    let backup = ["backup", to.to_str().unwrap()];
    for arguments in all.into_iter().chain([&backup[..]]) {
        let said = failed(&path, arguments, 1);
        assert!(!place.file().exists(), "{said}");
    }
    drop(place.open());
    place.closed().await;
    let before = fs::read(place.file()).unwrap();
    let is_same = || assert_eq!(fs::read(place.file()).unwrap(), before);

    // Nothing that is read on the way to the file may be wrong.
    let mut mistaken = config.clone();
    mistaken["mcpServers"]["db"]["no such key"] = json!(1);
    place.write(&mistaken);
    all.iter().for_each(|arguments| drop(failed(&path, arguments, 2)));
    let mut memory = config.clone();
    memory["proxy"]["auth"]["storage"] = json!("memory");
    place.write(&memory);
    for arguments in all {
        let said = failed(&path, arguments, 2);
        assert!(said.contains("in memory"), "{said}");
    }
    place.write(&place.keyed(&server.url("/mcp"), &["b"]));
    fs::rename(place.state().join("keys.json"), place.path("keys.json")).unwrap();
    for arguments in all {
        let said = failed(&path, arguments, 1);
        assert!(said.contains("another `encryptionKey`") && !said.contains("b-----"), "{said}");
    }
    fs::rename(place.path("keys.json"), place.state().join("keys.json")).unwrap();
    place.write(&config);
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o755)).unwrap();
    for arguments in all.into_iter().chain([&backup[..]]) {
        let said = failed(&path, arguments, 1);
        assert!(said.contains("other users may look into it"), "{said}");
    }
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o700)).unwrap();
    for arguments in [
        &["revoke"][..],
        &["revoke", "--principal", "alice"],
        &["revoke", "--principal", "everyone"],
        &["disconnect"],
        &["list", "--principal", "somebody"],
        &["backup"],
        &["no-such-command"],
    ] {
        failed(&path, arguments, 2);
    }
    assert!(!to.exists());
    is_same();
    // As an older gateway left it, and as a newer one did.
    let set = |version: i64| {
        let sql = rusqlite::Connection::open(place.file()).unwrap();
        sql.pragma_update(None, "user_version", version).unwrap();
    };
    for (version, word) in [(1, "older gateway"), (99, "newer gateway")] {
        set(version);
        for arguments in all {
            let said = failed(&path, arguments, 1);
            assert!(said.contains(word), "{said}");
        }
    }
}

#[tokio::test]
async fn a_row_that_does_not_open_is_named_and_the_others_are_shown() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let path = place.write(&place.config(&server.url("/mcp")));
    {
        let other = place.open();
        connect(&other, &of("alice"), "github").await;
        connect(&other, &of("bob"), "github").await;
        let sql = rusqlite::Connection::open(place.file()).unwrap();
        let mv = "UPDATE upstream SET body = (SELECT body FROM upstream WHERE owner = 'user:alice') WHERE owner = 'user:bob'";
        sql.execute_batch(mv).unwrap();
    }
    let output = store(&path, &["list", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        pairs(&serde_json::from_slice::<Vec<_>>(&output.stdout).unwrap()),
        ["user:alice server github"]
    );
    let said = words(&output.stderr);
    assert!(said.contains("1 row does not open"), "{said}");
    assert!(said.contains("upstream user:bob github") && !said.contains("alice"), "{said}");
    // It can be removed, and nothing else removes it.
    assert!(done(&path, &["disconnect", "--principal", "user:bob"]).starts_with("user:bob: disconnected"));
    assert_eq!(pairs(&listed(&path, &[])), ["user:alice server github"]);
}
