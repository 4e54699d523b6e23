//! A server for tests of links over HTTP: the test plays its side of every exchange, or gives it a function that does.

use std::{cell::RefCell, future::Future, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::link::{FromServer, Link, ToServer, awaited::Callers, remote::server::HttpServer};
use crate::{
    config::{HttpTarget, McpTransport},
    error::Error,
    ledger::Owner,
    mcp::message::{Id, Message},
    upstream::{Origin, Pool, client::Client},
};

/// Awaits `future`, and fails with `what` instead of hanging.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The place that `url` names, with the time-outs of a patient gateway.
pub(super) fn http_server(url: &str, transport: McpTransport) -> HttpServer {
    let url: url::Url = url.parse().unwrap();
    let headers = vec![(HeaderName::from_static("x-team"), HeaderValue::from_static("blue"))];
    HttpServer {
        health: Arc::default(),
        client: Client {
            origin: Arc::new(Origin::new(&url, None, &mut Default::default()).unwrap()),
            pool: Rc::new(Pool::default()),
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
        },
        target: HttpTarget {
            url,
            transport,
            headers,
            ca_pem: None,
            pass_query: true,
            pass_last_event_id: None,
            cookies: false,
        },
        owner: Owner::unlimited(),
        report: Arc::new(|_| {}),
        line: Default::default(),
        credential: None,
        callers: Callers::One,
    }
}

/// The built-in demo server, for as long as the runtime lives; its address.
pub(super) async fn demo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(crate::demo::serve(listener, std::future::pending()));
    addr
}

pub(super) fn message(value: Value) -> Message {
    Message::parse(value.to_string().into()).unwrap()
}

pub(super) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(super) fn initialize(id: u64) -> Value {
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    });
    request(id, "initialize", params)
}

pub(super) fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// What a server answers to `initialize`.
pub(super) fn welcome(id: &Value) -> Value {
    let result = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": { "name": "s", "version": "1" } });
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

pub(super) fn result(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } })
}

impl Link {
    pub(super) async fn say(&self, value: Value) {
        let message = ToServer::Message(message(value).into());
        soon("the link takes a message", self.to_server.send(message)).await.unwrap();
    }

    pub(super) async fn hear(&mut self) -> FromServer {
        soon("something from the server", self.from_server.recv()).await.expect("the link is over")
    }

    /// The next message and what it is about.
    pub(super) async fn message(&mut self) -> (Value, Option<Id>) {
        match self.hear().await {
            FromServer::Message { message, about } => {
                (serde_json::from_slice(message.text()).unwrap(), about)
            }
            other => panic!("no message: {other:?}"),
        }
    }

    /// The next thing is that request `id` failed.
    pub(super) async fn failure(&mut self, id: u64) -> Error {
        match self.hear().await {
            FromServer::Failed { id: failed, error } => {
                assert_eq!(failed, Id::number(id), "{error}");
                error
            }
            other => panic!("no failure: {other:?}"),
        }
    }

    /// The next thing, and the last, is that the conversation is over.
    pub(super) async fn end(&mut self) -> String {
        let FromServer::Ended { cause } = self.hear().await else { panic!("not over") };
        assert!(soon("the end", self.from_server.recv()).await.is_none());
        cause.into_owned()
    }
}

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) head: String,
    /// `Null` if there was none.
    pub(super) body: Value,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1")
    }

    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
}

pub(super) struct Upstream {
    listener: TcpListener,
    pub(super) url: String,
}

impl Upstream {
    pub(super) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp?key=1", listener.local_addr().unwrap());
        Self { listener, url }
    }

    pub(super) fn http_server(&self, transport: McpTransport) -> HttpServer {
        http_server(&self.url, transport)
    }

    pub(super) async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        Peer { stream, buffer: Vec::new() }
    }

    /// The next request on a new connection.
    pub(super) async fn request(&self) -> (Peer, Request) {
        let (stream, _) = soon("a connection", self.listener.accept()).await.unwrap();
        let mut peer = Peer { stream, buffer: Vec::new() };
        let request = soon("a request", peer.next()).await.expect("the connection closed");
        (peer, request)
    }

    /// Has `handler` answer everything; what it leaves unanswered waits for ever. Returns what came so far.
    pub(super) fn answer_with(
        self,
        handler: impl FnMut(&Request) -> Option<String> + 'static,
    ) -> Rc<RefCell<Vec<Request>>> {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (of_task, handler) = (Rc::clone(&seen), Rc::new(RefCell::new(handler)));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let (seen, handler) = (Rc::clone(&of_task), Rc::clone(&handler));
                tokio::task::spawn_local(async move {
                    let mut peer = Peer { stream, buffer: Vec::new() };
                    while let Some(request) = peer.next().await {
                        let answer = (handler.borrow_mut())(&request);
                        seen.borrow_mut().push(request);
                        match answer {
                            Some(answer) => peer.send(answer).await,
                            None => peer.closed().await,
                        }
                    }
                });
            }
        });
        seen
    }
}

/// A connection of the gateway.
pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// The next request; `None` once the connection is closed.
    pub(super) async fn next(&mut self) -> Option<Request> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
                let mut request = Request { head, body: Value::Null };
                let length: usize = request.field("content-length").map_or(0, |n| n.parse().unwrap());
                if self.buffer.len() >= end + 4 + length {
                    let body: Vec<u8> = self.buffer.drain(..end + 4 + length).skip(end + 4).collect();
                    if length > 0 {
                        request.body = serde_json::from_slice(&body).unwrap();
                    }
                    return Some(request);
                }
            }
            if !self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0) {
                return None;
            }
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that left is told apart by what it does, not by what can be written to it.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// One event of a stream that was begun with [`EVENTS`].
    pub(super) async fn event(&mut self, event: &str) {
        self.send(chunk(event)).await;
    }

    pub(super) async fn message(&mut self, value: Value) {
        self.event(&format!("data: {value}\n\n")).await;
    }

    pub(super) async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0) {}
    }
}

/// How an event stream begins.
pub(super) const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// How it ends.
pub(super) const LAST_CHUNK: &str = "0\r\n\r\n";
pub(super) const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

pub(super) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A response with a body of JSON; `fields` each with their line end.
pub(super) fn json_with(status: u16, fields: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

pub(super) fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}
