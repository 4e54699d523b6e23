//! A gateway, servers and clients for tests. Servers and clients speak raw bytes, so that a test decides what is on the
//! wire, and when.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sluicegate::{
    clock::Clock,
    config::{self, LogFormat, Snapshot},
    gateway::{Gateway, Prepared},
    observe::{Log, Metrics, Observer},
    upstream::internet::Internet,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Tests wait through the harness, whatever else they take from it.
pub use test_basics::waiting::{PATIENCE, pause, soon, until};

/// What the gateway logged, as bytes.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }

    /// Every line, each of which must be one JSON object.
    pub fn all(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first line with this message and, where `key` is given, this value; waits for it.
    pub async fn line(&self, msg: &str, fields: &[(&str, Value)]) -> Value {
        let found = || {
            self.all()
                .into_iter()
                .find(|line| line["msg"] == msg && fields.iter().all(|(key, value)| line[*key] == *value))
        };
        let mut line = None;
        until(&format!("log line {msg} {fields:?}"), || {
            line = found();
            line.is_some()
        })
        .await;
        line.unwrap()
    }
}

impl Lines {
    /// The first line in which this field has this value; waits for it.
    pub async fn line_with(&self, key: &str, value: &str) -> Value {
        let mut line = None;
        until(&format!("log line with {key} {value}"), || {
            line = self.all().into_iter().find(|line| line[key] == value);
            line.is_some()
        })
        .await;
        line.unwrap()
    }
}

/// A gateway with a config file of its own.
pub struct Gate {
    pub gateway: Gateway,
    pub addr: SocketAddr,
    pub log: Lines,
    pub observer: Arc<Observer>,
    pub dir: TempDir,
}

impl Gate {
    /// Starts a gateway on a free loopback port. `config` is the file, in which `addr` defaults to port 0, `workers` to
    /// 2, and the token named `dev` to `DEV`, `ci` to `CI`.
    pub async fn start(config: Value) -> Self {
        Self::start_pausing(config, Duration::ZERO).await
    }

    /// The same, with `pause` between two log lines about one topic.
    pub async fn start_pausing(config: Value, pause: Duration) -> Self {
        Self::start_by(config, pause, Clock::default()).await
    }

    /// Starts a gateway whose documents of clients come from this Internet.
    pub async fn start_in(config: Value, internet: Arc<dyn Internet>) -> Self {
        Self::start_as(config, Duration::ZERO, Clock::default(), |prepared| prepared.in_internet(internet))
    }

    /// The same, with credentials that expire by `clock`.
    pub async fn start_by(config: Value, pause: Duration, clock: Clock) -> Self {
        Self::start_as(config, pause, clock, |prepared| prepared)
    }

    fn start_as(
        config: Value,
        pause: Duration,
        clock: Clock,
        prepare: impl FnOnce(Prepared) -> Prepared,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let snapshot = load(&dir, config);
        let log = Lines::default();
        let metrics = Metrics::new().unwrap();
        let sink = Log::start(
            config::Level::Debug,
            LogFormat::Json,
            false,
            Box::new(log.clone()),
            metrics.log_lines_dropped.clone(),
        );
        // Most tests look for the line of one request among many of its kind.
        let observer = Arc::new(Observer::new(sink.unwrap(), metrics).pausing(pause));
        let prepared = Prepared::new(Arc::new(snapshot), Arc::clone(&observer), clock).unwrap();
        let gateway = prepare(prepared).open().unwrap();
        let addr = gateway.addrs()[0];
        Self { gateway, addr, log, observer, dir }
    }

    /// Saves another config and has the gateway take it, as the watcher would.
    pub fn reload(&mut self, config: Value) {
        let snapshot = load(&self.dir, config);
        self.gateway.reload(&snapshot).unwrap();
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.addr).await.unwrap())
    }

    /// One request on a connection of its own: status, head, body.
    pub async fn ask(&self, request: &str) -> (u16, String, String) {
        let mut client = self.client().await;
        client.send(request).await;
        client.response().await
    }

    pub fn metrics(&self) -> String {
        self.observer.metrics.encode().unwrap()
    }

    /// Failures that were laid to servers, of whatever kind.
    pub fn upstream_errors(&self) -> u64 {
        let metrics = self.metrics();
        let counts = metrics.lines().filter(|line| line.starts_with("sluicegate_upstream_errors_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

/// Tokens that every gateway of these tests knows, unless its config names its own.
pub const DEV: &str = "dev-token-0123456789abcdef";
pub const CI: &str = "ci-token-0123456789abcdef";

/// Tokens of [`operators`].
pub const OPS: &str = "ops-token-0123456789abcdef";
pub const SCRAPER: &str = "scraper-token-0123456789abcdef";

/// Tokens of a caller and of both kinds of operators.
pub fn operators() -> Value {
    json!({
        "dev": DEV,
        "ops": { "value": OPS, "roles": ["admin"] },
        "prometheus": { "value": SCRAPER, "roles": ["metrics"] },
    })
}

/// Fills in what most tests do not care about.
pub fn with_defaults(mut config: Value) -> Value {
    let proxy =
        config.as_object_mut().unwrap().entry("proxy").or_insert_with(|| json!({})).as_object_mut().unwrap();
    proxy.entry("addr").or_insert(json!("127.0.0.1:0"));
    proxy.entry("name").or_insert(json!("test gate"));
    proxy.entry("workers").or_insert(json!(2));
    // Most tests that try bad tokens try many, all from one address.
    proxy.entry("rateLimits").or_insert(json!({ "authFailures": "off" }));
    proxy.entry("auth").or_insert(json!({ "kind": "bearer_token", "tokens": { "dev": DEV, "ci": CI } }));
    config
}

fn load(dir: &TempDir, config: Value) -> Snapshot {
    let path: PathBuf = dir.path().join("sluicegate.json");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(with_defaults(config).to_string().as_bytes()).unwrap();
    drop(file);
    let loaded = config::load(&path, &|_| None);
    loaded.snapshot.unwrap_or_else(|| panic!("{:#?}", loaded.problems))
}

/// A client that sends bytes and reads bytes.
pub struct Client<T> {
    pub stream: T,
    /// Read and not yet looked at.
    pub buffer: Vec<u8>,
}

impl<T: AsyncRead + tokio::io::AsyncWrite + Unpin> Client<T> {
    pub fn new(stream: T) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more; false at the end (or reset) of the connection.
    pub async fn more(&mut self) -> bool {
        self.buffer.reserve(16 * 1024);
        soon("bytes from the peer", self.stream.read_buf(&mut self.buffer)).await.is_ok_and(|n| n > 0)
    }

    /// Everything up to and including `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.buffer.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            assert!(
                self.more().await,
                "the peer closed before {end:?}; got {:?}",
                self.buffer.escape_ascii().to_string()
            );
        }
    }

    /// Exactly `n` bytes.
    pub async fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert!(self.more().await, "the peer closed after {} of {n} bytes", self.buffer.len());
        }
        self.buffer.drain(..n).collect()
    }

    /// Whatever comes until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// A message head, with its empty line.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// The head of the next request, however late it comes; `None` if the connection ends first.
    pub async fn next_head(&mut self) -> Option<String> {
        while !self.buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            if !self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0) {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// One response whose body has a length or chunks: status, head, body without chunk framing.
    pub async fn response(&mut self) -> (u16, String, String) {
        let head = self.head().await;
        let status = head[9..12].parse().unwrap();
        let lower = head.to_ascii_lowercase();
        let body = if let Some(length) = field(&head, "content-length") {
            self.exactly(length.parse().unwrap()).await
        } else if lower.contains("transfer-encoding: chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await {
                body.extend_from_slice(&chunk);
            }
            body
        } else {
            Vec::new()
        };
        (status, head, String::from_utf8(body).unwrap())
    }

    /// The next chunk; `None` is the last one, behind its trailers.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.until("\r\n").await;
        let size = line.trim_end().split(';').next().unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            while self.until("\r\n").await != "\r\n" {}
            return None;
        }
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        Some(chunk)
    }
}

/// Value of a header field in a message head.
pub fn field<'a>(head: &'a str, name: &'a str) -> Option<&'a str> {
    fields(head, name).next()
}

/// The values of all fields of a name.
pub fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.lines().skip(1).filter_map(move |line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A server behind the gateway whose side of each connection the test plays itself.
pub struct Upstream {
    listener: TcpListener,
    pub addr: SocketAddr,
}

impl Upstream {
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The next connection of the gateway.
    pub async fn accept(&self) -> Client<TcpStream> {
        let (stream, _) = soon("a connection from the gateway", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    /// Whether the gateway has tried to connect: for tests that nothing reaches a server. Call it after the gateway
    /// answered.
    pub async fn was_reached(&self) -> bool {
        tokio::select! {
            biased;
            _ = self.listener.accept() => true,
            () = tokio::task::yield_now() => false,
        }
    }
}

/// A request head for `path` with a bearer token, and whatever further fields (each with its line end).
pub fn get(path: &str, token: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}

/// A POST of `body` with a bearer token, and whatever further fields (each with its line end).
pub fn post(path: &str, token: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}

/// How a server begins an event stream.
pub const SSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// `text` as one chunk.
pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// An event stream through the gateway at `addr`, of the server `db`: the client's side and the server's, both behind their
/// heads.
pub async fn open_stream(
    addr: SocketAddr,
    server: &Upstream,
    token: &str,
) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = Client::new(TcpStream::connect(addr).await.unwrap());
    client.send(get("/db", token, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (client, behind)
}

/// One event from the server's side of a stream to the client's.
pub async fn passes(behind: &mut Client<TcpStream>, client: &mut Client<TcpStream>, event: &str) {
    behind.send(chunk(event)).await;
    assert_eq!(client.chunk().await.as_deref(), Some(event.as_bytes()));
}

/// Ends a gateway as a signal does: drain for as long as `grace`, then cut.
pub async fn shutdown(gateway: Gateway, grace: Duration) {
    gateway.drain();
    // Real time: the grace is what is left of it.
    let began = Instant::now();
    let _ = tokio::time::timeout(grace, gateway.drained()).await;
    gateway.stop(grace.saturating_sub(began.elapsed()), std::future::pending()).await;
}
