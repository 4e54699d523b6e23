//! Clients of MCP, of each era and transport, and servers for them: for tests that are about messages.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};
use sluicegate::demo;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Client, DEV, Gate, field, get, post, until};

/// A command server: [`stdio_server.py`](stdio_server.py) says what it can do.
pub fn command() -> Value {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/stdio_server.py");
    json!({ "command": "python3", "args": [server], "env": { "GREETING": "hello" }, "inheritEnv": ["PATH"] })
}

/// The demo server, until the test ends. It speaks both eras and both transports, and knows nothing of the gateway.
pub async fn demo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(demo::serve(listener, std::future::pending()));
    addr
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}},"clientInfo":{"name":"t","version":"1"}}}"#;
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

pub fn request(id: u64, method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// A call of a tool whose progress token is `p`, and the id.
pub fn call(id: u64, tool: &str, arguments: Value) -> String {
    let meta = json!({ "progressToken": format!("p{id}") });
    request(id, "tools/call", json!({ "name": tool, "arguments": arguments, "_meta": meta }))
}

/// A session over Streamable HTTP, as its client sees it.
pub struct Session {
    addr: SocketAddr,
    path: String,
    token: &'static str,
    /// The header field that names it.
    pub field: String,
    /// The answer to `initialize`.
    pub greeting: Value,
}

impl Session {
    /// Initializes at `path`, which may have a query.
    pub async fn open(gate: &Gate, path: &str, token: &'static str) -> Self {
        let (status, head, body) = gate.ask(&post(path, token, "", INITIALIZE)).await;
        assert_eq!(status, 200, "{body}");
        let session = Self {
            addr: gate.addr,
            path: path.to_owned(),
            token,
            field: format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap()),
            greeting: serde_json::from_str(&body).unwrap(),
        };
        assert_eq!(session.post(INITIALIZED).await, (202, String::new()));
        session
    }

    /// The same session, by another token.
    pub fn by(&self, token: &'static str) -> Self {
        let Self { addr, path, field, greeting, .. } = self;
        Self { addr: *addr, path: path.clone(), token, field: field.clone(), greeting: greeting.clone() }
    }

    pub async fn post(&self, body: &str) -> (u16, String) {
        let mut client = self.sent(body).await;
        let (status, _, body) = client.response().await;
        (status, body)
    }

    /// A POST on a connection of its own, whose answer is still to come.
    pub async fn sent(&self, body: &str) -> Client<TcpStream> {
        let mut client = self.client().await;
        client.send(post(&self.path, self.token, &self.field, body)).await;
        client
    }

    /// The answer to a request: JSON, or the last event of a stream if something came before it.
    pub async fn ask(&self, body: &str) -> Value {
        let (status, body) = self.post(body).await;
        assert_eq!(status, 200, "{body}");
        let last = body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
        serde_json::from_str(last.unwrap_or(&body)).unwrap()
    }

    /// Text of the result of a tool that answers without anything before.
    pub async fn call(&self, tool: &str, arguments: Value) -> String {
        text(&self.ask(&call(7, tool, arguments)).await)
    }

    pub async fn pid(&self) -> u32 {
        self.call("pid", json!({})).await.parse().unwrap()
    }

    /// Names of all tools, sorted.
    pub async fn tools(&self) -> Vec<String> {
        names(&self.ask(&request(1, "tools/list", json!({}))).await)
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.addr).await.unwrap())
    }

    /// A POST whose response is an event stream, behind its head.
    pub async fn stream(&self, body: &str) -> Client<TcpStream> {
        let mut client = self.sent(body).await;
        is_stream(&client.head().await);
        client
    }

    /// The stream of what the server sends of itself, behind its head.
    pub async fn listen(&self) -> Client<TcpStream> {
        let mut client = self.client().await;
        let fields = format!("Accept: text/event-stream\r\n{}", self.field);
        client.send(get(&self.path, self.token, &fields)).await;
        is_stream(&client.head().await);
        client
    }

    /// Status of a DELETE.
    pub async fn delete(&self) -> u16 {
        let mut client = self.client().await;
        client.send(get(&self.path, self.token, &self.field).replacen("GET", "DELETE", 1)).await;
        client.response().await.0
    }
}

/// A session over HTTP+SSE, as its client sees it.
pub struct SseSession {
    addr: SocketAddr,
    token: &'static str,
    pub stream: Client<TcpStream>,
    /// Where its messages go.
    pub url: String,
}

impl SseSession {
    /// Opens the stream at `path`, and initializes.
    pub async fn open(gate: &Gate, path: &str, token: &'static str) -> Self {
        let mut stream = gate.client().await;
        stream.send(get(path, token, "Accept: text/event-stream\r\n")).await;
        is_stream(&stream.head().await);
        let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
        let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
        let mut session = Self { addr: gate.addr, token, stream, url };
        session.post(INITIALIZE).await;
        assert_eq!(session.event().await["id"], 0);
        session.post(INITIALIZED).await;
        session
    }

    /// Posts a message, which must be taken.
    pub async fn post(&self, body: &str) {
        let mut client = Client::new(TcpStream::connect(self.addr).await.unwrap());
        client.send(post(&self.url, self.token, "", body)).await;
        let (status, _, body) = client.response().await;
        assert_eq!(status, 202, "{body}");
    }

    pub async fn event(&mut self) -> Value {
        event(&mut self.stream).await
    }

    /// The answer to a request, which must be the next event.
    pub async fn ask(&mut self, body: &str) -> Value {
        self.post(body).await;
        self.event().await
    }

    /// Text of the result of a tool that answers without anything before.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> String {
        text(&self.ask(&call(7, tool, arguments)).await)
    }
}

/// A request of MCP 2026-07-28, with what its headers repeat. `params` gets the `_meta` that it has to have.
pub fn modern(path: &str, token: &str, id: u64, method: &str, mut params: Value) -> String {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    let fields = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}");
    post(path, token, &fields, &request(id, method, params))
}

/// A call of MCP 2026-07-28, with the progress token 1.
pub fn modern_call(path: &str, token: &str, id: u64, tool: &str, arguments: Value) -> String {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } });
    modern(path, token, id, "tools/call", params)
}

/// The message of the next event.
pub async fn event(client: &mut Client<TcpStream>) -> Value {
    loop {
        let event = String::from_utf8(client.chunk().await.expect("an event")).unwrap();
        if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

/// Waits until the stream is over: broken off, or ended well where its session ended first.
pub async fn is_over(client: &mut Client<TcpStream>) {
    while !client.buffer.ends_with(b"\r\n0\r\n\r\n") && client.buffer != b"0\r\n\r\n" && client.more().await {
    }
}

/// Text of the result of a tool.
pub fn text(answer: &Value) -> String {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Names of the tools in a list, sorted.
pub fn names(list: &Value) -> Vec<String> {
    let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("{list}"));
    let mut names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Asserts that this is the head of an event stream that nothing on the way holds back.
pub fn is_stream(head: &str) {
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(field(head, "content-type"), Some("text/event-stream"), "{head}");
    assert_eq!(field(head, "cache-control"), Some("no-cache, no-transform"), "{head}");
}

pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub async fn is_gone(pid: u32) {
    until("the process is gone", || !is_alive(pid)).await;
}

/// Callers of MCP 2026-07-28 who all use the same id and the same progress token, and of whom each gets its own. They call
/// `echoes` in turn, and one `countdown`.
pub async fn equal_ids_do_not_mix(gate: &Gate, path: &str, echoes: &[&str], countdown: &str) {
    let mut callers = Vec::new();
    for n in 0..20 {
        let mut client = gate.client().await;
        let said = json!({ "text": format!("caller {n}") });
        client.send(modern_call(path, DEV, 1, echoes[n % echoes.len()], said)).await;
        callers.push(client);
    }
    for (n, client) in callers.iter_mut().enumerate() {
        let (status, _, body) = client.response().await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, text(&answer), &answer["id"]), (200, format!("caller {n}"), &json!(1)));
    }
    let mut client = gate.client().await;
    client.send(modern_call(path, DEV, 1, countdown, json!({ "n": 2, "interval_ms": 1 }))).await;
    client.head().await;
    for step in [1, 2] {
        let progress = event(&mut client).await;
        let params = &progress["params"];
        assert_eq!((&params["progressToken"], &params["progress"]), (&json!(1), &json!(step)));
    }
    assert_eq!(event(&mut client).await["id"], 1);
}
