//! A flood of logins and tokens that are not good, from one address and from many: who has a good token notices nothing, who has a
//! password gets in, and the gateway's memory stays where it was.
//!
//! Real time: this measures, and at full size it holds figures that the project promises.
//!
//! Small by default. The figures that the project promises come from the full size, and from a release build:
//!
//! ```text
//! cargo build --release
//! SLUICEGATE_BIN=target/release/sluicegate SLUICEGATE_FLOOD_SECONDS=60 SLUICEGATE_FLOOD_RATE=10000 \
//!     cargo test --test bad_logins -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use test_support::{
    harness::{Client, DEV, post},
    numbered::{connect, from_env, percentile, raise_file_limit, server, status},
    process::Process,
    users::{HASH, bare, log_in, login},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// Users whose passwords are guessed.
const KNOWN: usize = 20;
/// Connections of the flood: so many that those whose password is compared, or who wait, do not keep the others from trying.
const CONNECTIONS: usize = 600;
/// Addresses of the flood beside 127.0.0.1, which the good client has too.
const ADDRESSES: usize = 40;
/// Of so many attempts, [`LOGINS`] are logins: half of them by names that there are. One of each of the others is by a refresh
/// token, a session token and a token that are none.
const ATTEMPTS: usize = 13;
const LOGINS: usize = 10;
/// How much more memory there may be in the last quarter of the flood than in the first.
const MOST_MEMORY: u64 = 8 << 20;

fn seconds() -> u64 {
    from_env("SLUICEGATE_FLOOD_SECONDS", 2) as u64
}

/// Logins a second.
fn rate() -> usize {
    from_env("SLUICEGATE_FLOOD_RATE", 2_000)
}

fn is_full_size() -> bool {
    seconds() >= 60
}

fn config(server: SocketAddr) -> Value {
    let user = json!({ "passwordHash": HASH });
    let mut users = json!({ "good": user });
    for n in 0..KNOWN {
        users[format!("known-{n:02}")] = user.clone();
    }
    json!({
        "proxy": {
            "auth": { "tokens": { "dev": DEV }, "users": users },
            // As a gateway has it for which nobody has chosen anything.
            "rateLimits": {},
        },
        "mcpServers": { "db": { "url": format!("http://{server}/mcp") } },
    })
}

/// What attempts look like, but for a number in each that no other has: in front of it and behind it. Made once, since whoever
/// attacks must not need more of the machine than the gateway.
struct Attempts([[Vec<u8>; 2]; ATTEMPTS]);

/// Where the number stands, and what is as long as one.
const NUMBER: &str = "NNNNNNNNNNNNNNNN";

impl Attempts {
    fn new() -> Self {
        let token = |length| format!("{:A<length$}", format!("A{NUMBER}"));
        let of_kind = |kind: usize| {
            let request = match kind {
                // The name is one of the known ones, the password another each time.
                kind if kind < LOGINS / 2 => login(&format!("known-{:02}", kind), NUMBER),
                kind if kind < LOGINS => login(&format!("nobody-{NUMBER}"), "a wrong one"),
                10 => bare("/auth/refresh", &json!({ "refreshToken": format!("sgr_{}", token(70)) })),
                11 => post("/db", &format!("sgs_{}", token(240)), "", "{}"),
                _ => post("/db", &token(43), "", "{}"),
            };
            let (front, behind) = request.split_once(NUMBER).unwrap();
            [front, behind].map(|part| part.as_bytes().to_vec())
        };
        Self(std::array::from_fn(of_kind))
    }

    fn write(&self, number: usize, out: &mut Vec<u8>) {
        let [front, behind] = &self.0[number % ATTEMPTS];
        out.clear();
        out.extend_from_slice(front);
        // Known names take turns as well.
        if let Some(at) = memchr::memmem::find(out, b"known-") {
            let name = number / ATTEMPTS % KNOWN;
            out[at + 6] = b'0' + (name / 10) as u8;
            out[at + 7] = b'0' + (name % 10) as u8;
        }
        out.extend_from_slice(format!("{number:016x}").as_bytes());
        out.extend_from_slice(behind);
    }
}

/// Statuses that an attempt may have.
const STATUSES: [&[u8; 3]; 3] = [b"401", b"429", b"503"];

/// What became of the attempts.
#[derive(Default)]
struct Flood {
    next: AtomicUsize,
    logins: AtomicUsize,
    answers: [AtomicUsize; 3],
    others: Mutex<Vec<String>>,
    hung_up: AtomicUsize,
}

impl Flood {
    fn count(&self, answer: &[u8]) {
        match STATUSES.iter().position(|status| answer.get(9..12) == Some(*status)) {
            Some(index) => drop(self.answers[index].fetch_add(1, Ordering::Relaxed)),
            None => self.others.lock().unwrap().push(String::from_utf8_lossy(answer).into_owned()),
        }
    }
}

/// Whether all of an answer has come.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = &answer[..end + 2];
    let at = memchr::memmem::find(head, b"content-length: ").expect("a length") + 16;
    let length = head[at..].split(|byte| *byte == b'\r').next().unwrap();
    let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
    answer.len() >= end + 4 + length
}

async fn open(addr: SocketAddr, from: Ipv4Addr) -> Client<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Client::new(stream)
}

/// One connection of the flood. All of them together keep the pace, and what is not sent in time is left out.
async fn attack(flood: Arc<Flood>, attempts: Arc<Attempts>, addr: SocketAddr, index: usize, began: Instant) {
    // A third comes from one address.
    let last = if index.is_multiple_of(3) { 1 } else { 2 + index % ADDRESSES };
    let from = Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap());
    let each = Duration::from_secs(1).mul_f64(LOGINS as f64 / ATTEMPTS as f64 / rate() as f64);
    let mut stream = open(addr, from).await.stream;
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    loop {
        let number = flood.next.fetch_add(1, Ordering::Relaxed);
        let due = began + each.mul_f64(number as f64);
        if due.elapsed() > Duration::from_secs(1) {
            continue;
        }
        tokio::time::sleep_until(due.into()).await;
        attempts.write(number, &mut request);
        answer.clear();
        let mut is_open = stream.write_all(&request).await.is_ok();
        while is_open && !is_whole(&answer) {
            is_open = stream.read_buf(&mut answer).await.unwrap_or_default() > 0;
        }
        if is_open {
            flood.count(&answer);
            flood.logins.fetch_add(usize::from(number % ATTEMPTS < LOGINS), Ordering::Relaxed);
        } else {
            flood.hung_up.fetch_add(1, Ordering::Relaxed);
        }
        if !is_open || memchr::memmem::find(&answer, b"connection: close").is_some() {
            stream = open(addr, from).await.stream;
        }
    }
}

/// The good client: calls by its token and by its login in turn, on a connection that is kept and on new ones.
async fn calls(addr: SocketAddr, tokens: &[String], until: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut kept = connect(addr).await;
    while Instant::now() < until {
        let number = took.len();
        let token = &tokens[number % tokens.len()];
        let began = Instant::now();
        let status = match number % 4 {
            3 => status(&mut connect(addr).await, token).await,
            _ => status(&mut kept, token).await,
        };
        took.push(began.elapsed());
        assert_eq!(status, 200, "call {number} of the good client");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took.sort_unstable();
    took
}

/// Somebody with a password and an address that nobody else has logs in, now and then; how long each login took.
async fn logins(addr: SocketAddr, until: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let mut client = open(addr, Ipv4Addr::new(127, 0, 1, 1)).await;
        log_in(&mut client, "good").await;
        took.push(began.elapsed());
        // More often than ten times a minute it would be refused itself.
        tokio::time::sleep_until(until.min(began + Duration::from_secs(7)).into()).await;
    }
    took.sort_unstable();
    took
}

fn runtime(threads: usize, nice: i32) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_all();
    runtime.on_thread_start(move || {
        // What cannot be had makes the flood no weaker.
        let _ = rustix::process::nice(nice);
    });
    runtime.build().unwrap()
}

#[test]
fn a_flood_of_bad_logins_takes_no_memory_and_others_do_not_notice_it() {
    raise_file_limit();
    // Who attacks has machines of their own; here, they have what gateway and good client leave.
    let (own, attackers) = (runtime(1, 0), runtime(2, 5));
    own.block_on(Box::pin(async {
        let gate = Process::start(config(server().await)).await;
        let addr = gate.addr;
        let time = Duration::from_secs(seconds());
        let tokens = [DEV.to_owned(), log_in(&mut connect(addr).await, "good").await.session];
        calls(addr, &tokens, Instant::now() + time / 8).await;
        let alone = calls(addr, &tokens, Instant::now() + (time / 2).min(Duration::from_secs(15))).await;
        let idle = gate.memory("VmRSS");

        let flood = Arc::new(Flood::default());
        let began = Instant::now();
        let attempts = Arc::new(Attempts::new());
        let mut attacks = JoinSet::new();
        for index in 0..CONNECTIONS {
            let attack = attack(Arc::clone(&flood), Arc::clone(&attempts), addr, index, began);
            attacks.spawn_on(attack, attackers.handle());
        }
        // Not while it only begins.
        tokio::time::sleep(time / 8).await;
        let end = Instant::now() + time;
        let memory = async {
            let mut quarters = [0; 4];
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                let quarter = 3 - (4.0 * left.as_secs_f64() / time.as_secs_f64()).min(3.0) as usize;
                quarters[quarter] = gate.memory("VmRSS").max(quarters[quarter]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            quarters
        };
        let (beside, logins, memory) = tokio::join!(calls(addr, &tokens, end), logins(addr, end), memory);
        let secs = began.elapsed().as_secs_f64();
        // Before the gateway goes.
        attacks.shutdown().await;
        let answers: Vec<_> = flood.answers.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let tried: usize = answers.iter().sum();
        let of_logins = flood.logins.load(Ordering::Relaxed) as f64 / secs;
        let (was, is) = (percentile(&alone, 99), percentile(&beside, 99));
        println!(
            "{secs:.1} s of {of_logins:.0} bad logins and {:.0} other bad tokens a second; {} were 401, {} 429, {} 503; {} hung up",
            (tried as f64 / secs) - of_logins,
            answers[0],
            answers[1],
            answers[2],
            flood.hung_up.load(Ordering::Relaxed),
        );
        println!(
            "good client: {} calls alone, {} beside, 0 failed; p50 {:?} -> {:?}, p99 {was:?} -> {is:?} ({:.2} x)",
            alone.len(),
            beside.len(),
            percentile(&alone, 50),
            percentile(&beside, 50),
            is.as_secs_f64() / was.as_secs_f64(),
        );
        println!("good logins beside: {}, 0 failed, longest {:?}", logins.len(), percentile(&logins, 100));
        println!(
            "memory in KiB: {} idle, by quarters of the flood {:?}",
            idle / 1024,
            memory.map(|bytes| bytes / 1024)
        );
        let others = flood.others.lock().unwrap();
        assert!(tried > 100 && others.is_empty(), "{tried} {:?}", others.first());
        assert!(memory[3] < memory[0].max(memory[1]) + MOST_MEMORY, "{memory:?}");
        if is_full_size() {
            assert!(of_logins > 0.9 * rate() as f64, "too few to say anything: {of_logins}");
            // Less than that is the machine's noise.
            assert!(is <= 2 * was.max(Duration::from_millis(5)), "p99 {was:?} -> {is:?}");
        }
    }));
    attackers.shutdown_background();
}
