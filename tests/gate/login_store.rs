//! Logins outlive the process that they began with, hold at every gateway that has the file, and go on in memory while the file
//! cannot be written. The gateways are processes: some of them are killed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{DEV, Gate, Upstream, get, open_stream, passes, post, until},
    login::{bare, by_basic, futures},
    process::{Process, program, serve, text},
    recorder::Recorder,
};

const PASSWORD: &str = "password123-canary";
/// Users, so that each logs in seldom enough.
const USERS: usize = 40;

/// A hash that costs little: not the password is what these tests are about.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let params = Params::new(7168, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let (salt, mut hash) = (b"salt of a test", [0; 32]);
    argon2.hash_password_into(PASSWORD.as_bytes(), salt, &mut hash).unwrap();
    let [salt, hash] = [&salt[..], &hash].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    format!("$argon2id$v=19$m=7168,t=1,p=1${salt}${hash}")
});

/// A directory for the state of one gateway after the other, or of two.
struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.path().join("logins.db")
    }

    fn config(&self, url: &str) -> Value {
        let user = json!({ "passwordHash": *HASH, "roles": ["user"] });
        let users: serde_json::Map<_, _> = (0..USERS).map(|n| (format!("user{n}"), user.clone())).collect();
        json!({
            "proxy": {
                "stateDir": self.path(),
                "auth": {
                    "tokens": { "dev": { "value": DEV, "roles": ["admin"] } },
                    "users": users,
                    "sessions": { "reuseGrace": "1h", "perUser": 1000 },
                },
            },
            "mcpServers": { "db": { "url": url } },
        })
    }
}

struct Login {
    token: &'static str,
    refresh: String,
}

impl Login {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        // As all tokens of these tests are.
        Self { token: text("token").leak(), refresh: text("refreshToken") }
    }
}

/// Asks, and says what comes: `None` if the gateway is gone.
pub async fn try_ask(gate: &Process, request: &str) -> Option<(u16, Value)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(gate.addr).await.ok()?;
    stream.write_all(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // An answer that is cut off is none.
    if !body.is_empty() && serde_json::from_str::<Value>(body).is_err() && status == 200 {
        return None;
    }
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

async fn ask(gate: &Process, path: &str, body: Value) -> (u16, Value) {
    try_ask(gate, &bare(path, &body.to_string())).await.expect("an answer")
}

async fn log_in(gate: &Process, user: usize) -> Login {
    let body = json!({ "username": format!("user{user}"), "password": PASSWORD });
    let (status, answer) = ask(gate, "/auth/login", body).await;
    assert_eq!(status, 200, "{answer}");
    Login::of(&answer)
}

async fn refresh(gate: &Process, token: &str) -> (u16, Value) {
    ask(gate, "/auth/refresh", json!({ "refreshToken": token })).await
}

async fn log_out(gate: &Process, token: &str) -> u16 {
    ask(gate, "/auth/logout", json!({ "refreshToken": token })).await.0
}

async fn status(gate: &Process, token: &str) -> u16 {
    try_ask(gate, &post("/db", token, "", "{}")).await.expect("an answer").0
}

#[tokio::test]
async fn a_restart_keeps_logins_and_logouts_and_no_secret_is_in_the_files() {
    let (server, state) = (Recorder::start().await, State::new());
    let config = state.config(&server.url("/mcp"));
    let mut gate = Process::start(config.clone()).await;
    let (kept, ended) = (log_in(&gate, 0).await, log_in(&gate, 1).await);
    let next = Login::of(&refresh(&gate, &kept.refresh).await.1);
    assert_eq!(log_out(&gate, &ended.refresh).await, 204);
    let secrets = [kept.token, &kept.refresh, next.token, &next.refresh, ended.token, PASSWORD];
    for kind in [Signal::TERM, Signal::KILL] {
        for file in fs::read_dir(state.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
            for secret in secrets {
                let found = memchr::memmem::find(&bytes, secret.as_bytes());
                assert_eq!(found, None, "{} holds a secret", path.display());
            }
        }
        gate.signal(kind);
        gate.exited().await;
        gate = Process::start(config.clone()).await;
        assert_eq!(status(&gate, kept.token).await, 200, "{kind:?}");
        assert_eq!(status(&gate, ended.token).await, 401, "{kind:?}");
        assert_eq!(refresh(&gate, &ended.refresh).await.0, 401, "{kind:?}");
        let again = Login::of(&refresh(&gate, &kept.refresh).await.1);
        assert_eq!(again.refresh, next.refresh, "the same successor");
    }
    assert_eq!(gate.metric(DEV, "sluicegate_store_up").await as u64, 1);
    // Whom the config took away meanwhile does not come back with the next one.
    let mut without = config.clone();
    without["proxy"]["auth"]["users"].as_object_mut().unwrap().remove("user0");
    drop(gate);
    let gate = Process::start(without).await;
    assert_eq!(status(&gate, kept.token).await, 401);
    until("it is written", || {
        let count = |table: &str| -> i64 {
            let sql = Connection::open(state.file()).unwrap();
            sql.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
        };
        count("grants") == 0
    })
    .await;
    drop(gate);
    let gate = Process::start(config).await;
    assert_eq!(refresh(&gate, &next.refresh).await.0, 401);
    assert_eq!(status(&gate, next.token).await, 401);
}

#[tokio::test]
async fn a_gateway_without_users_or_with_logins_in_memory_makes_no_directory() {
    let (server, state) = (Recorder::start().await, State::new());
    let mut without = state.config(&server.url("/mcp"));
    without["proxy"]["auth"].as_object_mut().unwrap().remove("users");
    without["proxy"]["auth"].as_object_mut().unwrap().remove("sessions");
    let gate = Gate::start(without.clone()).await;
    assert_eq!(gate.ask(&get("/db", DEV, "")).await.0, 200);
    let mut memory = state.config(&server.url("/mcp"));
    memory["proxy"]["auth"]["storage"] = json!("memory");
    let first = Process::start(memory.clone()).await;
    let login = log_in(&first, 0).await;
    assert_eq!(status(&first, login.token).await, 200);
    drop(first);
    let second = Process::start(memory).await;
    assert_eq!(status(&second, login.token).await, 401, "it ended with the process");
    assert_eq!(refresh(&second, &login.refresh).await.0, 401);
    assert!(!state.path().exists());
}

#[tokio::test]
async fn two_gateways_on_one_file_rotate_once_and_a_logout_ends_streams_at_the_other() {
    let (server, state) = (Upstream::bind().await, State::new());
    let config = state.config(&server.url("/mcp"));
    // Both make what is missing at the same time.
    let (one, other) = tokio::join!(Process::start(config.clone()), Process::start(config));
    let (login, others) = (log_in(&one, 0).await, log_in(&other, 1).await);
    let both = [&one, &other];
    let answers = futures((0..100).map(|n| refresh(both[n % 2], &login.refresh))).await;
    let mut successors: Vec<_> = answers
        .iter()
        .map(|(status, answer)| {
            assert_eq!(*status, 200, "{answer}");
            answer["refreshToken"].as_str().unwrap()
        })
        .collect();
    successors.sort_unstable();
    successors.dedup();
    assert_eq!(successors.len(), 1, "one rotation, one successor");
    let (mut lost, mut behind_lost) = open_stream(other.addr, &server, login.token).await;
    let (mut kept, mut behind_kept) = open_stream(one.addr, &server, others.token).await;
    passes(&mut behind_lost, &mut lost, "data: 1\n\n").await;
    assert_eq!(log_out(&one, successors[0]).await, 204);
    assert_eq!(lost.rest().await, b"", "nothing more came");
    assert_eq!(try_ask(&other, &get("/db", login.token, "")).await.unwrap().0, 401);
    assert_eq!(refresh(&other, successors[0]).await.0, 401);
    passes(&mut behind_kept, &mut kept, "data: 2\n\n").await;
}

/// What a client knows of its login.
struct Known {
    /// The last that was acknowledged.
    login: Login,
    /// Whether a logout was sent.
    leaves: bool,
    /// Whether it was acknowledged.
    has_left: bool,
}

/// Logs in, refreshes and logs out until the gateway is gone. Counts what is acknowledged.
async fn use_it(gate: &Process, first_user: usize, acknowledged: &AtomicUsize) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    for turn in 0.. {
        let user = format!("user{}", first_user + turn % (USERS / 4));
        let body = json!({ "username": user, "password": PASSWORD });
        let Some((status, answer)) = try_ask(gate, &bare("/auth/login", &body.to_string())).await else {
            break;
        };
        if status == 200 {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            known.push(Known { login: Login::of(&answer), leaves: false, has_left: false });
        }
        // Too many of one user are refused after a while; there is enough to do with those that there are.
        let index = (turn * 7) % known.len().max(1);
        let Some(one) = known.get_mut(index).filter(|one| !one.leaves) else { continue };
        for _ in 0..3 {
            let body = json!({ "refreshToken": one.login.refresh });
            let Some((status, answer)) = try_ask(gate, &bare("/auth/refresh", &body.to_string())).await
            else {
                return known;
            };
            assert_eq!(status, 200, "{answer}");
            one.login = Login::of(&answer);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        if turn % 3 == 0 {
            one.leaves = true;
            let body = json!({ "refreshToken": one.login.refresh });
            let Some((status, _)) = try_ask(gate, &bare("/auth/logout", &body.to_string())).await else {
                break;
            };
            one.has_left = status == 204;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    known
}

/// `SLUICEGATE_KILLS=1000 cargo test --test gate killed` is the whole of it.
#[tokio::test]
async fn a_gateway_that_is_killed_has_lost_nothing_that_it_acknowledged() {
    let kills = std::env::var("SLUICEGATE_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let server = Recorder::start().await;
    let (mut refreshed, mut left) = (0, 0);
    let state = State::new();
    let config = state.config(&server.url("/mcp"));
    let mut gate = Process::start(config.clone()).await;
    for round in 0..kills {
        let acknowledged = AtomicUsize::new(0);
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let killed_after = usize::from(u16::from_le_bytes(random)) % 200;
        let kill = async {
            until("enough is acknowledged", || acknowledged.load(Ordering::Relaxed) >= killed_after).await;
            gate.signal(Signal::KILL);
        };
        let using = futures((0..4).map(|n| use_it(&gate, n * USERS / 4, &acknowledged)));
        let (all, ()) = tokio::join!(using, kill);
        gate.exited().await;
        gate = Process::start(config.clone()).await;
        for Known { login, leaves, has_left } in all.iter().flatten() {
            let (first, answer) = refresh(&gate, &login.refresh).await;
            if *has_left {
                left += 1;
                assert_eq!(first, 401, "round {round}: a logout was forgotten");
                assert_eq!(status(&gate, login.token).await, 401, "round {round}");
            } else if !leaves {
                refreshed += 1;
                assert_eq!(first, 200, "round {round}: a login was forgotten: {answer}");
                let (_, again) = refresh(&gate, &login.refresh).await;
                assert_eq!(again["refreshToken"], answer["refreshToken"], "round {round}: two successors");
                assert_eq!(status(&gate, login.token).await, 200, "round {round}");
            } else {
                // It was on its way: one or the other, and the same for all of it.
                assert_eq!(status(&gate, login.token).await, first, "round {round}");
            }
        }
    }
    println!("{kills} kills: {refreshed} logins refreshed, {left} logouts held");
    assert!(refreshed > 0);
}

/// The gateway may write no file beyond `bytes`.
fn limit_files(gate: &Process, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let pid = Pid::from_raw(gate.id().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_stops_logins_and_no_session_and_a_logout_holds_all_the_same() {
    let (server, state) = (Recorder::start().await, State::new());
    let config = state.config(&server.url("/mcp"));
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    fs::write(&path, text(config.clone())).unwrap();
    // What is beyond the limit is an error then, as on a full disk, and no signal.
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" serve -c "$1""#]).arg(program()).arg(&path);
    let mut gate = Process::run(command, dir, path).await;
    let (mine, leaving) = (log_in(&gate, 0).await, log_in(&gate, 1).await);
    limit_files(&gate, Some(1024));
    let body = json!({ "username": "user2", "password": PASSWORD });
    let (refused, answer) = ask(&gate, "/auth/login", body.clone()).await;
    assert_eq!((refused, &answer["error"]), (503, &json!("unavailable")));
    assert_eq!(refresh(&gate, &mine.refresh).await.0, 503);
    gate.log.line("Logins cannot be kept at present: nobody can log in or refresh", &[]).await;
    assert_eq!(status(&gate, mine.token).await, 200, "sessions go on");
    assert_eq!(log_out(&gate, &leaving.refresh).await, 503, "it is not written");
    assert_eq!(status(&gate, leaving.token).await, 401, "and it holds");
    assert_eq!(gate.metric(DEV, "sluicegate_store_up").await as u64, 0);
    limit_files(&gate, None);
    gate.log.line("Logins are kept again", &[]).await;
    assert_eq!(gate.metric(DEV, "sluicegate_store_up").await as u64, 1);
    assert_eq!(ask(&gate, "/auth/login", body).await.0, 200);
    assert_eq!(log_out(&gate, &leaving.refresh).await, 204);
    gate.signal(Signal::KILL);
    gate.exited().await;
    let gate = Process::start(config).await;
    assert_eq!(refresh(&gate, &leaving.refresh).await.0, 401, "it was written when it could be");
    assert_eq!(status(&gate, leaving.token).await, 401);
    assert_eq!(refresh(&gate, &mine.refresh).await.0, 200);
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn check(path: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("check").arg("-c").arg(path);
    command
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_no_start_and_check_says_so_and_makes_nothing() {
    let (server, state) = (Recorder::start().await, State::new());
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    let keyed = |key: &str| {
        let mut config = state.config(&server.url("/mcp"));
        config["proxy"]["auth"]["encryptionKey"] = json!(format!("{key}-0123456789-9876543210-abcdefgh"));
        config
    };
    fs::write(&path, text(keyed("a"))).unwrap();
    let (code, said) = run(&mut check(&path));
    assert_eq!(code, Some(0), "{said}");
    assert!(!state.path().exists());
    let mut gate = Process::start(keyed("a")).await;
    let login = log_in(&gate, 0).await;
    gate.signal(Signal::TERM);
    gate.exited().await;
    let before = fs::read(state.file()).unwrap();
    let same = || assert_eq!(fs::read(state.file()).unwrap(), before);

    fs::write(&path, text(keyed("b"))).unwrap();
    for (command, code) in [(&mut check(&path), 2), (&mut serve(&path), 1)] {
        let (exited, said) = run(command);
        assert_eq!(exited, Some(code), "{said}");
        assert!(
            said.contains("logins cannot be kept: ") && said.contains("another `encryptionKey`"),
            "{said}"
        );
        assert!(!said.contains("b-0123456789"), "{said}");
        same();
    }
    fs::write(&path, text(keyed("a"))).unwrap();
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (command, code) in [(&mut check(&path), 2), (&mut serve(&path), 1)] {
        let (exited, said) = run(command);
        assert!(exited == Some(code) && said.contains("other users may look into it"), "{said}");
    }
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let gate = Process::start(keyed("a")).await;
    assert_eq!(refresh(&gate, &login.refresh).await.0, 200, "nothing was lost by all that");
    drop(gate);
    Connection::open(state.file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for (command, code) in [(&mut check(&path), 2), (&mut serve(&path), 1)] {
        let (exited, said) = run(command);
        assert!(exited == Some(code) && said.contains("newer gateway"), "{said}");
    }
}

#[tokio::test]
async fn the_first_users_of_a_reload_cannot_log_in_without_a_store_and_the_rest_of_it_applies() {
    let (server, state) = (Recorder::start().await, State::new());
    let with = state.config(&server.url("/mcp"));
    let mut without = with.clone();
    without["proxy"]["auth"] = json!({ "tokens": { "dev": { "value": DEV, "roles": ["admin"] } } });
    let gate = Process::start(without).await;
    assert!(!state.path().exists());
    fs::create_dir(state.path()).unwrap();
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut more = with.clone();
    more["mcpServers"]["more"] = more["mcpServers"]["db"].clone();
    gate.save(more.clone());
    gate.log.line("Config reloaded", &[("servers", json!(2))]).await;
    let down = "Logins cannot be kept at present: nobody can log in or refresh";
    let line = gate.log.line(down, &[]).await;
    assert!(line["cause"].as_str().unwrap().contains("chmod 700"), "{line}");
    let body = json!({ "username": "user0", "password": PASSWORD });
    assert_eq!(ask(&gate, "/auth/login", body.clone()).await.0, 503);
    gate.answers("/more", DEV, 200).await;
    assert_eq!(gate.metric(DEV, "sluicegate_store_up").await as u64, 0);

    // It is tried again and again, whether somebody asks for it or not.
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o700)).unwrap();
    gate.log.line("Users can log in from now on", &[]).await;
    gate.log.line("Logins are kept again", &[]).await;
    assert_eq!(gate.metric(DEV, "sluicegate_store_up").await as u64, 1);
    let login = log_in(&gate, 0).await;
    assert_eq!(status(&gate, login.token).await, 200);
    let mut other = more;
    other["proxy"]["auth"]["storage"] = json!("memory");
    gate.save(other);
    let msg = "Changed keys that take effect at the next start";
    gate.log.line(msg, &[("keys", json!("auth.storage"))]).await;
    assert_eq!(status(&gate, login.token).await, 200);
}

/// Threads of this name that the gateway has.
fn threads(gate: &Process, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", gate.id())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// Whoever has the file for long, or a disk that does not answer, keeps logins waiting and nothing else.
#[tokio::test]
async fn what_a_config_takes_away_goes_while_the_store_of_its_first_users_is_still_waited_for() {
    let (server, state) = (Recorder::start().await, State::new());
    let mut with = state.config(&server.url("/mcp"));
    with["proxy"]["auth"]["schemes"] = json!(["bearer", "basic"]);
    let [login, taken] = {
        let mut before = Process::start(with.clone()).await;
        let logins = [log_in(&before, 0).await, log_in(&before, 1).await];
        before.signal(Signal::TERM);
        before.exited().await;
        logins
    };
    let mut without = with.clone();
    const GONE: &str = "gone-token-0123456789abcdef";
    without["proxy"]["auth"] =
        json!({ "tokens": { "dev": { "value": DEV, "roles": ["admin"] }, "gone": { "value": GONE } } });
    let gate = Process::start(without).await;
    gate.answers("/db", GONE, 200).await;
    let locked = Connection::open(state.file()).unwrap();
    locked.execute_batch("BEGIN EXCLUSIVE").unwrap();
    gate.save(with.clone());
    gate.answers("/db", GONE, 401).await;
    gate.log.line("Config reloaded", &[("tokens_removed", json!("gone"))]).await;
    let body = json!({ "username": "user0", "password": PASSWORD });
    assert_eq!(ask(&gate, "/auth/login", body.clone()).await.0, 503);
    assert_eq!(refresh(&gate, &login.refresh).await.0, 503);
    assert_eq!(status(&gate, login.token).await, 503, "who knows what it is worth");
    let basic = async |password: &str| try_ask(&gate, &by_basic("/db", "user0", password)).await.unwrap().0;
    assert_eq!(basic(PASSWORD).await, 200, "a password takes no store");
    assert_eq!(basic("another").await, 401);
    assert_eq!(log_out(&gate, &login.refresh).await, 503);
    let (refused, _) = ask(&gate, "/auth/logout", json!({ "token": login.token })).await;
    assert_eq!(refused, 503, "nobody knows of what");

    // Who goes meanwhile, and comes again, has no login of before. And however often that is, one thread waits for the file.
    let save = async |users: &[&str], round: usize| {
        let mut config = with.clone();
        config["proxy"]["auth"]["users"].as_object_mut().unwrap().retain(|name, _| users.contains(&&**name));
        let token = format!("round-{round}-token-0123456789abcdef").leak();
        config["proxy"]["auth"]["tokens"]["round"] = json!(token);
        gate.save(config);
        gate.answers("/db", token, 200).await;
    };
    for round in 0..6 {
        save(&["user0", "user1"], 2 * round).await;
        save(&["user0"], 2 * round + 1).await;
        assert!(threads(&gate, "store-open") <= 1);
    }
    save(&[], 12).await;
    save(&["user0", "user1"], 13).await;
    assert!(threads(&gate, "store-open") <= 1);
    locked.execute_batch("COMMIT").unwrap();
    gate.log.line("Users can log in from now on", &[]).await;
    assert_eq!(status(&gate, taken.token).await, 401);
    assert_eq!(refresh(&gate, &taken.refresh).await.0, 401);
    assert_eq!(ask(&gate, "/auth/login", body).await.0, 200);
}
