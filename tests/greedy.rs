//! A caller that takes all it can get, in each way that there is, beside one that takes little: the modest one notices
//! nothing, and the gateway's memory stays where it was.
//!
//! Real time: these tests measure, and at full size they hold figures that the project promises.
//!
//! Small by default. The figures that the project promises come from the full size:
//!
//! ```text
//! cargo build --release
//! SLUICEGATE_BIN=target/release/sluicegate SLUICEGATE_GREEDY_SECONDS=10 \
//!     cargo test --test greedy -- --nocapture --test-threads=1
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_rustls::TlsConnector;

use test_support::{
    harness::{Client, DEV, SSE, field, get, post, soon},
    process::Process,
    tls::Identity,
};

/// One of these tests at a time: each measures.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How much more memory the gateway may have than when it was idle.
const MOST_MEMORY: u64 = 256 << 20;
/// The token of the modest caller; the greedy one has `DEV`.
const MODEST: &str = "modest-token-0123456789abcdef";
/// Whoever looks at memory.
const WATCH: &str = "watch-token-0123456789abcdef";

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// How long an attack runs. At full size, the promised ratio is asserted, not only printed.
fn seconds() -> u64 {
    std::env::var("SLUICEGATE_GREEDY_SECONDS").map_or(1, |seconds| seconds.parse().unwrap())
}

fn is_full_size() -> bool {
    seconds() >= 10
}

/// A server that answers each POST with `{}`, and each GET with an event stream that says nothing.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(Client::new(stream)));
        }
    });
    addr
}

async fn answer(mut client: Client<TcpStream>) {
    while let Some(head) = client.next_head().await {
        if head.starts_with("GET ") {
            let _ = client.stream.write_all(SSE.as_bytes()).await;
            let _ = client.stream.read_u8().await;
            return;
        }
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        client.exactly(length).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        if client.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A gateway with small limits, a server reached byte for byte, five commands and a public one.
async fn gate(tls: Option<Value>) -> Process {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/stdio_server.py");
    let command = json!({ "command": "python3", "args": [script], "inheritEnv": ["PATH"] });
    let mut servers = json!({ "db": { "url": format!("http://{}/mcp", server().await) } });
    for n in 0..5 {
        servers[format!("s{n}")] = command.clone();
    }
    servers["open"] = command;
    servers["open"]["public"] = json!(true);
    let mut config = json!({
        "proxy": {
            "auth": { "kind": "bearer_token", "tokens": {
                "greedy": DEV, "modest": MODEST, "watch": { "value": WATCH, "roles": ["admin"] },
            } },
            "limits": { "maxConnections": 400, "maxSessions": 20, "maxProcesses": 40, "upstreamTimeout": "20s" },
        },
        "mcpServers": servers,
    });
    if let Some(tls) = tls {
        config["proxy"]["tls"] = tls;
    }
    Process::start(config).await
}

/// A request of MCP 2026-07-28 that calls a tool.
fn modern(path: &str, token: &str, tool: &str, arguments: &Value) -> String {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": arguments, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    } });
    let fields =
        format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
    post(path, token, &fields, &body.to_string())
}

/// A legacy call whose progress token is its id.
fn call(id: usize, tool: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
        "name": tool, "arguments": { "text": "x" }, "_meta": { "progressToken": id },
    } })
    .to_string()
}

/// How a caller fared.
#[derive(Default)]
struct Fared {
    failed: Vec<String>,
    took: Vec<Duration>,
}

impl Fared {
    fn at(&mut self, part: f64) -> Duration {
        self.took.sort();
        self.took[((self.took.len() - 1) as f64 * part) as usize]
    }
}

/// How the modest caller reaches the gateway.
#[derive(Clone)]
struct Door {
    addr: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    async fn open(&self) -> Client<Box<dyn Duplex>> {
        let stream = connect(self.addr).await.stream;
        match &self.tls {
            None => Client::new(Box::new(stream)),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
                Client::new(Box::new(connected.unwrap()))
            }
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The modest caller: one request at a time of each kind, now and then a session and a new connection.
async fn modest(door: Door, until: Instant) -> Fared {
    let mut fared = Fared::default();
    let mut turn = 0_usize;
    let mut kept = door.open().await;
    while Instant::now() < until {
        let began = Instant::now();
        let outcome = match turn % 4 {
            0 => ask(&mut kept, &post("/db", MODEST, "", "{}")).await,
            1 => ask(&mut kept, &modern("/s0/mcp", MODEST, "echo", &json!({ "text": "x" }))).await,
            2 => ask(&mut door.open().await, &post("/db", MODEST, "", "{}")).await,
            _ => {
                ask(&mut kept, &modern("/mcp?servers=s0", MODEST, "s0__echo", &json!({ "text": "x" }))).await
            }
        };
        fared.took.push(began.elapsed());
        match outcome {
            Ok((200, ..)) => {}
            Ok((status, _, body)) => fared.failed.push(format!("{turn}: {status} {body}")),
            Err(e) => {
                fared.failed.push(format!("{turn}: {e}"));
                kept = door.open().await;
            }
        }
        // Now and then a session, whose process takes longer to start than anything else here takes.
        if turn.is_multiple_of(40)
            && let Err(e) = session(&door).await
        {
            fared.failed.push(format!("{turn}: session: {e}"));
        }
        turn += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fared
}

/// Begins a session, uses and ends it.
async fn session(door: &Door) -> Result<(), String> {
    let (path, token) = ("/s1/mcp", MODEST);
    let mut client = door.open().await;
    let (status, head, body) = ask(&mut client, &post(path, token, "", INITIALIZE)).await?;
    if status != 200 {
        return Err(format!("{status} {body}"));
    }
    let id = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    ask(&mut client, &post(path, token, &id, INITIALIZED)).await?;
    let (status, _, body) = ask(&mut client, &post(path, token, &id, &call(1, "echo"))).await?;
    ask(&mut client, &get(path, token, &id).replacen("GET", "DELETE", 1)).await?;
    if status == 200 { Ok(()) } else { Err(format!("{status} {body}")) }
}

async fn connect(addr: SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Client::new(stream)
}

/// One request; an error instead of a panic if the connection ends.
async fn ask<T>(client: &mut Client<T>, request: &str) -> Result<(u16, String, String), String>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    client.stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    match tokio::time::timeout(Duration::from_secs(30), client.stream.read_buf(&mut client.buffer)).await {
        Ok(Ok(1..)) => Ok(client.response().await),
        Ok(_) => Err("the connection was closed".into()),
        Err(_) => Err("no answer in 30 s".into()),
    }
}

/// What the gateway counts once an attack meets what should hold it: a metric, and its least value.
struct Bitten(&'static str, f64);

/// Somebody was told to wait for what others need.
const REFUSED: Bitten = Bitten(r#"sluicegate_auth_refused_total{reason="caller_limit"}"#, 1.0);

/// Runs `attack` beside the modest caller, which ran alone before. `bitten` shows that the attack was one.
async fn beside(
    name: &str,
    gate: Process,
    bitten: Bitten,
    attack: impl AsyncFn(SocketAddr, Arc<AtomicUsize>),
) {
    through(name, &gate, None, bitten, attack).await;
}

async fn through(
    name: &str,
    gate: &Process,
    tls: Option<Arc<ClientConfig>>,
    Bitten(metric, least): Bitten,
    attack: impl AsyncFn(SocketAddr, Arc<AtomicUsize>),
) {
    let door = Door { addr: gate.addr, tls };
    let time = Duration::from_secs(seconds());
    // Processes are started, caches are warm.
    modest(door.clone(), Instant::now() + time / 2).await;
    let idle = gate.memory("VmRSS");
    let mut alone = modest(door.clone(), Instant::now() + time).await;
    assert!(alone.failed.is_empty(), "alone: {:?}", alone.failed);

    let attempts = Arc::new(AtomicUsize::new(0));
    let (addr, of_attack) = (gate.addr, Arc::clone(&attempts));
    let mut most = 0;
    let (mut fared, counted) = {
        let attacking = Box::pin(attack(addr, of_attack));
        let watching = async {
            let mut every = tokio::time::interval(Duration::from_millis(50));
            loop {
                every.tick().await;
                most = most.max(gate.memory("VmRSS"));
            }
        };
        let of_modest = door.clone();
        let modest = tokio::spawn(async move {
            // Not while the attack only begins.
            tokio::time::sleep(time / 2).await;
            modest(of_modest, Instant::now() + time).await
        });
        // A busy machine may not have come as far by then.
        let counted = async {
            loop {
                let counted = metric_at(&door, metric).await;
                if counted >= least {
                    return counted;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let modest = async { (modest.await.unwrap(), soon("the attack meets a limit", counted).await) };
        tokio::select! {
            fared = modest => fared,
            () = async { tokio::join!(attacking, watching); } => unreachable!("watching has no end"),
        }
    };
    let (was, is) = (alone.at(0.99), fared.at(0.99));
    println!(
        "{name:<24} {:>6} attempts, {metric} {counted}; modest: {} requests, {} failed, p50 {:?} -> {:?}, p99 {was:?} -> {is:?}; memory {:+} KiB",
        attempts.load(Ordering::Relaxed),
        fared.took.len(),
        fared.failed.len(),
        alone.at(0.5),
        fared.at(0.5),
        (most as i64 - idle as i64) / 1024,
    );
    assert!(fared.failed.is_empty(), "{name}: {:?}", &fared.failed[..fared.failed.len().min(5)]);
    assert!(most < idle + MOST_MEMORY, "{name}: {most} bytes, and {idle} when idle");
    if is_full_size() {
        // Less than that is the machine's noise.
        assert!(is <= 2 * was.max(Duration::from_millis(10)), "{name}: p99 {was:?} -> {is:?}");
    }
}

async fn metric_at(door: &Door, name: &str) -> f64 {
    let (status, _, text) = ask(&mut door.open().await, &get("/metrics", WATCH, "")).await.unwrap();
    assert_eq!(status, 200, "{text}");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// Keeps doing something until the test ends.
async fn forever() {
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections() {
    let _alone = ALONE.lock().await;
    beside(
        "silent connections",
        gate(None).await,
        Bitten("sluicegate_connections_evicted_total", 1.0),
        async |addr, attempts| {
            let mut open = std::collections::VecDeque::new();
            loop {
                open.push_back(TcpStream::connect(addr).await.unwrap());
                attempts.fetch_add(1, Ordering::Relaxed);
                if open.len() > 1_000 {
                    open.pop_front();
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_sessions() {
    let _alone = ALONE.lock().await;
    beside("anonymous sessions", gate(None).await, REFUSED, async |addr, attempts| {
        let request = post("/open/mcp", "", "", INITIALIZE).replacen("Authorization: Bearer \r\n", "", 1);
        let mut client = connect(addr).await;
        loop {
            ask(&mut client, &request).await.unwrap();
            attempts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_of_some_servers() {
    let _alone = ALONE.lock().await;
    beside(
        "views of some servers",
        gate(None).await,
        Bitten(r#"sluicegate_capacity_used{resource="sessions"}"#, 8.0),
        async |addr, attempts| {
            let mut client = connect(addr).await;
            for subset in (1..32).cycle() {
                let names: Vec<_> =
                    (0..5).filter(|n| subset >> n & 1 == 1).map(|n| format!("s{n}")).collect();
                let (path, tool) =
                    (format!("/mcp?servers={}", names.join(",")), format!("{}__echo", names[0]));
                ask(&mut client, &modern(&path, DEV, &tool, &json!({ "text": "x" }))).await.unwrap();
                attempts.fetch_add(1, Ordering::Relaxed);
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_broken() {
    let _alone = ALONE.lock().await;
    beside(
        "broken processes",
        gate(None).await,
        Bitten(r#"sluicegate_child_restarts_total{server="s2"}"#, 1.0),
        async |addr, attempts| {
            let mut client = connect(addr).await;
            loop {
                // One of its own, and the one that callers share.
                for request in
                    [post("/s1/mcp", DEV, "", INITIALIZE), modern("/s2/mcp", DEV, "die", &json!({}))]
                {
                    let (_, head, _) = ask(&mut client, &request).await.unwrap();
                    if let Some(id) = field(&head, "mcp-session-id") {
                        let id = format!("Mcp-Session-Id: {id}\r\n");
                        ask(&mut client, &post("/s1/mcp", DEV, &id, &call(1, "die"))).await.unwrap();
                    }
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_abandoned() {
    let _alone = ALONE.lock().await;
    beside("abandoned calls", gate(None).await, Bitten(r#"sluicegate_capacity_used{resource="held_bytes"}"#, 65_536.0), async |addr, attempts| {
        let mut client = connect(addr).await;
        let (_, head, _) = ask(&mut client, &post("/s1/mcp", DEV, "", INITIALIZE)).await.unwrap();
        let id = field(&head, "mcp-session-id").unwrap().to_owned();
        let fields = format!(
            "Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\nAccept: text/event-stream, application/json\r\n"
        );
        for number in 1..500 {
            let mut client = connect(addr).await;
            client.send(post("/s1/mcp", DEV, &fields, &call(number, "burst"))).await;
            client.head().await;
            attempts.fetch_add(1, Ordering::Relaxed);
        }
        forever().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_requests_without_end() {
    let _alone = ALONE.lock().await;
    beside("streams", gate(None).await, REFUSED, async |addr, attempts| {
        let mut open = Vec::new();
        loop {
            let mut client = connect(addr).await;
            client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
            attempts.fetch_add(1, Ordering::Relaxed);
            if client.head().await.starts_with("HTTP/1.1 200 ") {
                open.push(client);
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_that_come_slowly() {
    let _alone = ALONE.lock().await;
    beside(
        "large slow messages",
        gate(None).await,
        Bitten(r#"sluicegate_capacity_used{resource="held_bytes"}"#, 4_194_304.0),
        async |addr, attempts| {
            let text = "x".repeat((4 << 20) - 1024);
            let request: Arc<str> = modern("/open/mcp", DEV, "echo", &json!({ "text": text })).into();
            for _ in 0..100 {
                let (request, attempts) = (Arc::clone(&request), Arc::clone(&attempts));
                tokio::spawn(async move {
                    let mut client = connect(addr).await;
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let (last, first) = (request.len() - 1, 0);
                    // All of it but the end, as fast as it is taken; then nothing.
                    let _ = client.stream.write_all(&request.as_bytes()[first..last]).await;
                    forever().await;
                });
            }
            forever().await;
        },
    )
    .await;
}

/// One HTTP/2 connection, on which a hundred messages of 4 MiB arrive and none ends.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_on_one_http2_connection() {
    let _alone = ALONE.lock().await;
    let identity = Identity::new();
    let gate = gate(Some(identity.config())).await;
    let trust = identity.client_config(&[], rustls::DEFAULT_VERSIONS);
    let bitten = Bitten(r#"sluicegate_capacity_used{resource="held_bytes"}"#, 4_194_304.0);
    Box::pin(through("HTTP/2 messages", &gate, Some(trust), bitten, async |addr, attempts| {
        let mut connection = open_http2(addr, &identity).await;
        for _ in 0..100 {
            let request = Request::post("https://localhost/open/mcp").body(Blanks(255)).unwrap();
            soon("room for a stream", connection.ready()).await.unwrap();
            tokio::spawn(connection.send_request(request));
            attempts.fetch_add(1, Ordering::Relaxed);
        }
        forever().await;
    }))
    .await;
}

/// Blanks, which may be in front of a message and are part of it: almost 4 MiB of them, and then no end.
struct Blanks(usize);

impl hyper::body::Body for Blanks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.0 == 0 {
            return Poll::Pending;
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 16 * 1024])))))
    }
}

async fn open_http2(addr: SocketAddr, identity: &Identity) -> http2::SendRequest<Blanks> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let stream = identity.connect(stream, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}
