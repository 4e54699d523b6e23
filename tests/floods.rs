//! Floods of what anybody may send, from one address and from many, some of them never seen before: bad logins, registrations of
//! clients, requests for codes, forms of the login page, tokens that are none, of the gateway's own and of an issuer. Who has a good
//! token notices nothing, who has a password gets in, who is new is let in, and the gateway's memory stays where it was.
//!
//! Real time: this measures, and at full size it holds figures that the project promises.
//!
//! Small by default. The figures that the project promises come from the full size, and from a release build:
//!
//! ```text
//! cargo build --release
//! SLUICEGATE_BIN=target/release/sluicegate SLUICEGATE_FLOOD_SECONDS=60 SLUICEGATE_FLOOD_RATE=10000 \
//!     cargo test --test floods -- --nocapture
//! ```
//!
//! `SLUICEGATE_FLOODS=registrations,tokens` takes only those.

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
use sha2::{Digest as _, Sha256};
use test_support::{
    browser::{PLAIN, ask, form, link, query},
    harness::{Client, DEV, field, get, post},
    issuer::{Introspection, Signer, TestIssuer, active},
    numbered::{connect, from_env, percentile, raise_file_limit, server, status},
    process::Process,
    users::{HASH, bare, log_in, login},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle, Runtime},
    task::JoinSet,
};

/// Users whose passwords are guessed.
const KNOWN: usize = 20;
/// Connections of the flood: so many that those whose password is compared, or who wait, do not keep the others from trying.
const CONNECTIONS: usize = 600;
/// Addresses of the flood beside 127.0.0.1, which the good client has too, and beside those that come once.
const ADDRESSES: usize = 40;
/// How much more memory there may be in the last quarter of the flood than in the first.
const MOST_MEMORY: u64 = 8 << 20;

const CALLBACK: &str = "http://localhost:7777/callback";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// An attempt that is later than that is left out. Whoever attacks waits for the processors of the gateway here, and would send in one
/// burst what comes one by one from elsewhere.
const MOST_LATE: Duration = Duration::from_millis(3);

fn seconds() -> u64 {
    from_env("SLUICEGATE_FLOOD_SECONDS", 1) as u64
}

/// Attempts a second, of those that the flood is called by.
fn rate() -> usize {
    from_env("SLUICEGATE_FLOOD_RATE", 2_000)
}

fn is_full_size() -> bool {
    seconds() >= 60
}

fn config(server: SocketAddr, issuer: &TestIssuer) -> Value {
    let user = json!({ "passwordHash": HASH });
    let mut users = json!({ "good": user });
    for n in 0..KNOWN {
        users[format!("known-{n:02}")] = user.clone();
    }
    let secret = hex::encode(Sha256::digest("a secret of a client"));
    json!({
        "proxy": {
            "baseUrl": PLAIN,
            "auth": {
                "kind": "oauth",
                "tokens": { "dev": DEV },
                "users": users,
                "issuers": { "corp": issuer.config() },
                "clients": {
                    "portal": { "secretSha256": secret, "redirectUris": [CALLBACK] },
                    "phone": { "redirectUris": [CALLBACK] },
                },
            },
            // Addresses that come once are those of clients behind a balancer.
            "trustedProxies": ["127.0.0.0/8"],
            // As a gateway has it for which nobody has chosen anything.
            "rateLimits": {},
        },
        "mcpServers": { "db": { "url": format!("http://{server}/mcp") } },
    })
}

/// A kind of flood.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    /// What is sent in turn.
    requests: Vec<String>,
    /// Of so many of these it has its name, and its rate.
    counted: usize,
    /// What they may be answered with.
    statuses: &'static [usize],
    /// Half of it comes from addresses that nobody has seen before. Not guesses of passwords: each of those addresses may have one
    /// compared, so that a login then waits for as many as may wait, which takes as long as the machine is slow.
    is_from_everywhere: bool,
}

/// The kind that an issuer would have to be asked about.
const OPAQUE: &str = "opaque";
/// A token that the issuer knows.
const KNOWN_TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";
/// Where a number stands that no other attempt has.
const NUMBER: &str = "NNNNNNNNNNNNNNNN";
/// Where the name of one of those that there are stands.
const NAME: &str = "known-KK";
/// An address that nobody else has.
const ADDRESS: &str = "X-Forwarded-For: 2001:db8:PPPP:QQQQ::1\r\n";

/// As a client sends its user here.
fn authorization(client_id: &str) -> String {
    let asked = query(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", CALLBACK),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", NUMBER),
    ]);
    format!("/authorize?{asked}")
}

fn registration(redirect_uris: &[&str]) -> Value {
    json!({ "client_name": "A client", "redirect_uris": redirect_uris })
}

/// A browser at the login page: its cookie, and the field of the form.
async fn page(addr: SocketAddr) -> (String, String) {
    let got = ask(&mut connect(addr).await, &link("/oauth/login", "")).await;
    (format!("Cookie: {}\r\n", got.cookies()), got.hidden("csrf"))
}

/// All kinds.
async fn kinds(addr: SocketAddr, issuer: &TestIssuer) -> Vec<Kind> {
    let token = |prefix: &str, length: usize| format!("{prefix}{:A<length$}", format!("A{NUMBER}"));
    let mut client = connect(addr).await;
    let registered = ask(&mut client, &bare("/register", &registration(&[CALLBACK]))).await;
    let registered: Value = serde_json::from_str(&registered.body).unwrap();
    let id = registered["client_id"].as_str().unwrap();
    let (cookie, csrf) = page(addr).await;
    let guess =
        |pairs: &[(&str, &str)]| form("/oauth/login", &cookie, &[&[("csrf", &*csrf)], pairs].concat());
    let of_phone =
        |path, pairs: &[(&str, &str)]| form(path, "", &[&[("client_id", "phone")], pairs].concat());
    let unknown_cookie = format!("Cookie: sg-flow={NUMBER}; sg-login={}\r\n", token("", 70));

    let mut logins: Vec<_> = (0..10).map(|_| login(NAME, NUMBER)).collect();
    logins[5..].fill(login(&format!("nobody-{NUMBER}"), "a wrong one"));
    logins.push(bare("/auth/refresh", &json!({ "refreshToken": token("sgr_", 70) })));
    logins.push(post("/db", &token("sgs_", 240), "", "{}"));
    logins.push(post("/db", &token("", 43), "", "{}"));
    // Signed by the key of the issuer, but for another token; by one that there is not; for somebody else; out of time.
    let of_issuer = |header: Value, more: Value| {
        let token = issuer.sign(header, &issuer.claims("bob", more));
        let (message, _) = token.rsplit_once('.').unwrap();
        post("/db", &format!("{message}.{NUMBER}{:A<70}", ""), "", "{}")
    };
    let good = json!({ "typ": "at+jwt" });
    vec![
        Kind {
            name: "foreign",
            requests: vec![
                of_issuer(good.clone(), json!({})),
                of_issuer(good.clone(), json!({ "iss": "https://elsewhere.example" })),
                of_issuer(good.clone(), json!({ "exp": 1 })),
                of_issuer(json!({ "typ": "JWT" }), json!({ "nonce": "n" })),
                post("/db", &Signer::new("unknown").sign(good, &issuer.claims("bob", json!({}))), "", "{}"),
                post("/db", &token("eyJ", 700), "", "{}"),
            ],
            counted: 6,
            statuses: &[401, 429],
            is_from_everywhere: true,
        },
        Kind {
            name: OPAQUE,
            requests: vec![
                post("/db", &token("", 43), "", "{}"),
                post("/db", &token("corp_", 240), "", "{}"),
                post("/db", &token("eyJ", 700), "", "{}"),
            ],
            counted: 3,
            statuses: &[401, 429, 503],
            is_from_everywhere: true,
        },
        Kind {
            name: "logins",
            requests: logins,
            counted: 10,
            statuses: &[401, 429, 503],
            is_from_everywhere: false,
        },
        Kind {
            name: "registrations",
            requests: vec![
                bare("/register", &registration(&[&format!("https://{NUMBER}.example/callback")])),
                bare("/register", &registration(&[&format!("http://localhost/{NUMBER}")])),
                bare("/register", &registration(&[&format!("evil://{NUMBER}")])),
                bare("/register", &json!([NUMBER])),
            ],
            counted: 4,
            statuses: &[201, 400, 429],
            is_from_everywhere: true,
        },
        Kind {
            name: "authorizations",
            requests: vec![
                link(&authorization(id), ""),
                link(&authorization(id), &cookie),
                link(&authorization(id), &unknown_cookie),
                link(&authorization("phone"), ""),
                link(&authorization(&format!("nobody-{NUMBER}")), ""),
                link(&authorization(&token("sgc_", id.len() - 4)), ""),
            ],
            counted: 6,
            statuses: &[200, 400, 429],
            is_from_everywhere: true,
        },
        Kind {
            name: "forms",
            requests: vec![
                guess(&[("username", NAME), ("password", NUMBER)]),
                guess(&[("username", &format!("nobody-{NUMBER}")), ("password", "a wrong one")]),
                guess(&[("token", &token("", 43))]),
                form(
                    "/oauth/login",
                    "",
                    &[("csrf", &token("", 43)), ("username", NAME), ("password", NUMBER)],
                ),
                form(
                    "/oauth/consent",
                    &cookie,
                    &[("csrf", &csrf), ("flow", &token("", 300)), ("answer", "approve")],
                ),
            ],
            counted: 5,
            statuses: &[400, 403, 429, 503],
            is_from_everywhere: false,
        },
        Kind {
            name: "tokens",
            requests: vec![
                post("/db", &token("sga_", 320), "", "{}"),
                get("/db", &token("sga_", 320), "Accept: text/event-stream\r\n"),
                of_phone("/token", &[("grant_type", "refresh_token"), ("refresh_token", &token("sgr_", 70))]),
                of_phone(
                    "/token",
                    &[
                        ("grant_type", "authorization_code"),
                        ("code", &token("", 43)),
                        ("code_verifier", VERIFIER),
                    ],
                ),
                of_phone("/revoke", &[("token", &token("sga_", 320))]),
                form(
                    "/token",
                    "",
                    &[("client_id", "portal"), ("client_secret", NUMBER), ("grant_type", "x")],
                ),
                form(
                    "/oauth/introspect",
                    "",
                    &[("client_id", "portal"), ("client_secret", NUMBER), ("token", "x")],
                ),
            ],
            counted: 7,
            statuses: &[200, 400, 401, 429],
            is_from_everywhere: true,
        },
    ]
}

/// What is sent, made once, since whoever attacks must not need more of the machine than the gateway.
struct Attempts {
    kind: Kind,
    /// Each as it is, and, if it is to be, with an address that comes once; where what stands in it.
    made: Vec<(Vec<u8>, [Option<usize>; 3])>,
}

impl Attempts {
    fn new(kind: Kind) -> Self {
        let with_address = |request: &String| match kind.is_from_everywhere {
            true => request.replacen("\r\n", &format!("\r\n{ADDRESS}"), 1),
            false => request.clone(),
        };
        let all = kind.requests.iter().flat_map(|request| [request.clone(), with_address(request)]);
        let found = |request: String| {
            let places = [NUMBER, "known-KK", "PPPP:QQQQ"].map(|mark| request.find(mark));
            (request.into_bytes(), places)
        };
        let made = all.map(found).collect();
        Self { kind, made }
    }

    /// Whether it is one of those that the flood is called by.
    fn is_counted(&self, number: usize) -> bool {
        number % self.made.len() / 2 < self.kind.counted
    }

    fn write(&self, number: usize, out: &mut Vec<u8>) {
        let (request, [at_number, at_name, at_address]) = &self.made[number % self.made.len()];
        out.clear();
        out.extend_from_slice(request);
        let mut put = |at: usize, text: String| out[at..at + text.len()].copy_from_slice(text.as_bytes());
        at_number.iter().for_each(|at| put(*at, format!("{number:016x}")));
        // Known names take turns as well.
        at_name.iter().for_each(|at| put(at + 6, format!("{:02}", number / self.made.len() % KNOWN)));
        let (high, low) = (number >> 16 & 0xffff, number & 0xffff);
        at_address.iter().for_each(|at| put(*at, format!("{high:04x}:{low:04x}")));
    }
}

/// What became of the attempts.
struct Flood {
    next: AtomicUsize,
    counted: AtomicUsize,
    /// By their status.
    answers: Vec<AtomicUsize>,
    other: Mutex<Option<String>>,
    hung_up: AtomicUsize,
}

impl Flood {
    fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            answers: (0..600).map(|_| AtomicUsize::new(0)).collect(),
            other: Mutex::default(),
            hung_up: AtomicUsize::new(0),
        }
    }

    fn count(&self, answer: &[u8], statuses: &[usize]) {
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse::<usize>().unwrap();
        self.answers[status].fetch_add(1, Ordering::Relaxed);
        if !statuses.contains(&status) {
            *self.other.lock().unwrap() = Some(String::from_utf8_lossy(answer).into_owned());
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
    let counted = attempts.kind.counted as f64 / attempts.kind.requests.len() as f64;
    let each = Duration::from_secs(1).mul_f64(counted / rate() as f64);
    let mut stream = open(addr, from).await.stream;
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    loop {
        let number = flood.next.fetch_add(1, Ordering::Relaxed);
        let due = began + each.mul_f64(number as f64);
        tokio::time::sleep_until(due.into()).await;
        if due.elapsed() > MOST_LATE {
            continue;
        }
        attempts.write(number, &mut request);
        answer.clear();
        let mut is_open = stream.write_all(&request).await.is_ok();
        while is_open && !is_whole(&answer) {
            is_open = stream.read_buf(&mut answer).await.unwrap_or_default() > 0;
        }
        if is_open {
            flood.count(&answer, attempts.kind.statuses);
            flood.counted.fetch_add(usize::from(attempts.is_counted(number)), Ordering::Relaxed);
        } else {
            flood.hung_up.fetch_add(1, Ordering::Relaxed);
        }
        if !is_open || memchr::memmem::find(&answer, b"connection: close").is_some() {
            stream = open(addr, from).await.stream;
        }
    }
}

/// How long calls took, in order.
struct Calls(Vec<Duration>);

impl Calls {
    /// A percentile of each sixth of the time, and the middle one of them: what else the machine does in one moment is no cost of a
    /// flood that lasts.
    fn percentile(&self, percent: usize) -> Duration {
        let of_sixth = |calls: &[Duration]| {
            let mut calls = calls.to_vec();
            calls.sort_unstable();
            percentile(&calls, percent)
        };
        let mut sixths: Vec<_> = self.0.chunks(self.0.len().div_ceil(6)).map(of_sixth).collect();
        sixths.sort_unstable();
        percentile(&sixths, 50)
    }
}

/// The good client: calls by its token, its login and what it let a client have in turn, on a connection that is kept and on new
/// ones.
async fn calls(addr: SocketAddr, tokens: &[String], until: Instant) -> Calls {
    let mut took = Vec::new();
    let mut kept = connect(addr).await;
    while Instant::now() < until {
        let number = took.len();
        let token = &tokens[number % tokens.len()];
        let began = Instant::now();
        // Each of the tokens comes both ways.
        let status = match number % 7 {
            6 => status(&mut connect(addr).await, token).await,
            _ => status(&mut kept, token).await,
        };
        took.push(began.elapsed());
        assert_eq!(status, 200, "call {number} of the good client");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Calls(took)
}

/// Somebody with a password and an address that nobody else has comes now and then: logs in, registers a client, lets it in. How
/// long each login took.
async fn newcomers(addr: SocketAddr, until: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let mut client = open(addr, Ipv4Addr::new(127, 0, 1, 1)).await;
        log_in(&mut client, "good").await;
        took.push(began.elapsed());
        let registered = ask(&mut client, &bare("/register", &registration(&[CALLBACK]))).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        let registered: Value = serde_json::from_str(&registered.body).unwrap();
        let id = registered["client_id"].as_str().unwrap();
        let page = ask(&mut client, &link(&authorization(id), "")).await;
        assert!(page.status == 200 && page.asks_for("password"), "{page:?}");
        // More often than ten times a minute it would be refused itself.
        tokio::time::sleep_until(until.min(began + Duration::from_secs(7)).into()).await;
    }
    took.sort_unstable();
    took
}

/// An access token of a client that the owner of a token let in.
async fn let_in(addr: SocketAddr) -> String {
    let mut client = connect(addr).await;
    let page = ask(&mut client, &link(&authorization("phone"), "")).await;
    let flow_cookie = format!("Cookie: {}\r\n", page.cookies());
    let fields = [("csrf", &*page.hidden("csrf")), ("flow", &page.hidden("flow")), ("token", DEV)];
    let page = ask(&mut client, &form("/oauth/login", &flow_cookie, &fields)).await;
    // That of the request is set anew with each page of it.
    let both = format!("Cookie: {}\r\n", page.cookies());
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let fields = [("csrf", &*csrf), ("flow", &flow), ("answer", "approve"), ("scope:mcp", "on")];
    let done = ask(&mut client, &form("/oauth/consent", &both, &fields)).await;
    let code = done.answer("code").unwrap_or_else(|| panic!("{done:?}"));
    let fields = [
        ("client_id", "phone"),
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = ask(&mut client, &form("/token", "", &fields)).await;
    let tokens: Value = serde_json::from_str(&tokens.body).unwrap();
    tokens["access_token"].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned()
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

/// A server that refuses all that it is asked and does nothing else. What a good client of the gateway loses while this is attacked
/// is what the machine cannot do at the same time: whoever attacks has no other machine here.
async fn refusing_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(Client::new(stream)));
        }
    });
    addr
}

async fn refuse(mut client: Client<TcpStream>) {
    while let Some(head) = client.next_head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        client.exactly(length).await;
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}";
        if client.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Begins to attack.
fn attack_by_many(target: SocketAddr, kind: Kind, attackers: &Handle) -> (Arc<Flood>, JoinSet<()>) {
    let (flood, attempts) = (Arc::new(Flood::new()), Arc::new(Attempts::new(kind)));
    let began = Instant::now();
    let mut attacks = JoinSet::new();
    for index in 0..CONNECTIONS {
        let attack = attack(Arc::clone(&flood), Arc::clone(&attempts), target, index, began);
        attacks.spawn_on(attack, attackers);
    }
    (flood, attacks)
}

/// One flood of a gateway that has seen none yet.
async fn flood(index: usize, name: &str, runtimes: &Runtimes) {
    let attackers = runtimes.attackers.handle();
    let issuer = TestIssuer::start().await;
    let introspection = Introspection::start().await;
    introspection.says(KNOWN_TOKEN, active("bob", json!({})));
    let mut config = config(server().await, &issuer);
    if name == OPAQUE {
        config["proxy"]["auth"]["issuers"]["corp"]["introspection"] = introspection.config();
    }
    let gate = Process::start(config).await;
    let addr = gate.addr;
    let kind = kinds(addr, &issuer).await.remove(index);
    let time = Duration::from_secs(seconds());
    let session = log_in(&mut connect(addr).await, "good").await.session;
    let jwt = issuer.token("alice", json!({}));
    introspection.says(&jwt, active("alice", json!({})));
    let mut tokens = vec![DEV.to_owned(), session, let_in(addr).await, jwt];
    tokens.extend((name == OPAQUE).then(|| KNOWN_TOKEN.to_owned()));
    calls(addr, &tokens, Instant::now() + time / 8).await;
    let alone = calls(addr, &tokens, Instant::now() + time / 2).await;
    let idle = gate.memory("VmRSS");

    let other = runtimes.other_server.spawn(refusing_server()).await.unwrap();
    let (_, mut attacks) = attack_by_many(other, kind.clone(), attackers);
    calls(addr, &tokens, Instant::now() + time / 8).await;
    let elsewhere = calls(addr, &tokens, Instant::now() + time / 2).await;
    attacks.shutdown().await;

    let began = Instant::now();
    let (flood, mut attacks) = attack_by_many(addr, kind, attackers);
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
    let (beside, logins, memory) = tokio::join!(calls(addr, &tokens, end), newcomers(addr, end), memory);
    let secs = began.elapsed().as_secs_f64();
    // Before the gateway goes.
    attacks.shutdown().await;
    let answers = flood.answers.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
    let answers: Vec<_> = answers.filter(|(_, count)| *count > 0).collect();
    let tried: usize = answers.iter().map(|(_, count)| count).sum();
    let counted = flood.counted.load(Ordering::Relaxed) as f64 / secs;
    let (was, is) = (elsewhere.percentile(99), beside.percentile(99));
    println!(
        "{name}: {secs:.1} s of {counted:.0} a second and {:.0} others; by status {answers:?}; {} hung up",
        (tried as f64 / secs) - counted,
        flood.hung_up.load(Ordering::Relaxed),
    );
    println!(
        "  good client: {} calls, 0 failed; alone p50 {:?} p99 {:?}, another server attacked p50 {:?} p99 {was:?}, \
         the gateway attacked p50 {:?} p99 {is:?} ({:.2} x)",
        beside.0.len(),
        alone.percentile(50),
        alone.percentile(99),
        elsewhere.percentile(50),
        beside.percentile(50),
        is.as_secs_f64() / was.as_secs_f64(),
    );
    println!("  newcomers beside: {}, 0 failed, longest login {:?}", logins.len(), percentile(&logins, 100));
    println!(
        "  memory in KiB: {} idle, by quarters of the flood {:?}",
        idle / 1024,
        memory.map(|bytes| bytes / 1024)
    );
    let asked = introspection.asked_in_all();
    println!("  the issuer was asked {asked} times");
    // Fifty at once, and then fifty a second.
    assert!(asked as f64 <= 50.0 * (began.elapsed().as_secs_f64() + 3.0), "{name}: {asked}");
    let other = flood.other.lock().unwrap();
    assert!(tried > 100 && other.is_none(), "{name}: {tried} {other:?}");
    assert!(memory[3] < memory[0].max(memory[1]) + MOST_MEMORY, "{name}: {memory:?}");
    if is_full_size() {
        assert!(counted > 0.9 * rate() as f64, "{name}: too few to say anything: {counted}");
        // One call of a hundred takes as long as that now and then when nobody attacks anything.
        let most = 2 * was.max(alone.percentile(99)).max(Duration::from_millis(2));
        assert!(is <= most, "{name}: p99 {was:?} -> {is:?}");
    }
}

struct Runtimes {
    /// The good client, those that are new, and the server that they call.
    own: Runtime,
    attackers: Runtime,
    other_server: Runtime,
}

#[test]
fn a_flood_of_what_anybody_may_send_takes_no_memory_and_others_do_not_notice_it() {
    raise_file_limit();
    let wanted = std::env::var("SLUICEGATE_FLOODS").unwrap_or_default();
    // Each has machines of their own. Here, whoever attacks has what the gateway, or the other server, and the good client leave.
    let runtimes = Runtimes { own: runtime(1, -10), attackers: runtime(2, 5), other_server: runtime(2, -10) };
    // What is asked from here, and the gateway that is started here.
    let _ = rustix::process::nice(-10);
    let names = runtimes.own.block_on(async {
        let issuer = TestIssuer::start().await;
        let gate = Process::start(config(server().await, &issuer)).await;
        let kinds = kinds(gate.addr, &issuer).await;
        kinds.into_iter().map(|kind| kind.name).collect::<Vec<_>>()
    });
    for (index, name) in names.iter().enumerate() {
        if wanted.is_empty() || wanted.split(',').any(|wanted| wanted == *name) {
            runtimes.own.block_on(Box::pin(flood(index, name, &runtimes)));
        }
    }
    runtimes.attackers.shutdown_background();
    runtimes.other_server.shutdown_background();
}
