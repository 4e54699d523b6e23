//! Connections to servers that sessions hold: they have an owner and a bound, whichever door the session has.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use sluicegate::ledger::Resource;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    harness::{CI, Client, DEV, Gate, field, post, until},
    mcp::{Session, SseSession, call, request, text},
    process::Process,
    recorder::Recorder,
};

/// A server that speaks Streamable HTTP and answers calls, or takes notifications, only when it is told to.
struct Server {
    addr: SocketAddr,
    at: Arc<At>,
    go: watch::Sender<bool>,
}

/// What is at the server now.
#[derive(Default)]
struct At {
    calls: AtomicUsize,
    notices: AtomicUsize,
    streams: AtomicUsize,
    /// Streams that ever were there.
    listened: AtomicUsize,
    /// Notifications that were taken.
    taken: AtomicUsize,
}

impl Server {
    async fn start(streams: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (at, (go, gone)) = (Arc::new(At::default()), watch::channel(false));
        let of_task = Arc::clone(&at);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Client::new(stream), Arc::clone(&of_task), gone.clone(), streams));
            }
        });
        Self { addr, at, go }
    }

    fn config(&self) -> Value {
        json!({ "url": format!("http://{}/mcp", self.addr) })
    }
}

/// One more of what is at the server, until this is dropped.
struct One<'a>(&'a AtomicUsize);

impl<'a> One<'a> {
    fn more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut client: Client<TcpStream>, at: Arc<At>, mut go: watch::Receiver<bool>, streams: bool) {
    while client.buffer.windows(4).any(|window| window == b"\r\n\r\n") || client.more().await {
        if !client.buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            continue;
        }
        let head = client.head().await;
        if head.starts_with("GET") {
            if !streams {
                client.send("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            let _one = One::more(&at.streams);
            at.listened.fetch_add(1, Ordering::SeqCst);
            client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: \n\n").await;
            while client.more().await {}
            return;
        }
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body: Value = serde_json::from_slice(&client.exactly(length).await).unwrap_or_default();
        let result = match body["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": body["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "slow", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] }),
            "tools/call" => {
                let _one = One::more(&at.calls);
                tokio::select! {
                    _ = go.wait_for(|go| *go) => {}
                    _ = client.more() => return,
                }
                json!({ "content": [{ "type": "text", "text": "done" }] })
            }
            method => {
                if method == "notifications/message" {
                    let _one = One::more(&at.notices);
                    let _ = go.wait_for(|go| *go).await;
                    at.taken.fetch_add(1, Ordering::SeqCst);
                }
                client.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
        };
        let answer = json!({ "jsonrpc": "2.0", "id": body["id"], "result": result }).to_string();
        let length = answer.len();
        client
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s\r\nContent-Length: {length}\r\n\r\n{answer}"
            ))
            .await;
    }
}

async fn gate_before(server: &Server, requests: u64) -> Gate {
    let limits = json!({ "perCaller": { "requests": requests } });
    Gate::start(json!({ "proxy": { "limits": limits }, "mcpServers": { "slow": server.config() } })).await
}

fn used(gate: &Gate, resource: Resource) -> u64 {
    gate.gateway.shared().ledger.usage(resource).1
}

#[tokio::test]
async fn calls_over_sse_are_as_many_at_a_server_as_their_caller_may_have() {
    for (path, tool) in [("/slow/sse", "t"), ("/sse", "slow__t")] {
        let server = Server::start(false).await;
        let gate = gate_before(&server, 4).await;
        let mut sessions = Vec::new();
        for _ in 0..2 {
            sessions.push(SseSession::open(&gate, path, DEV).await);
        }
        // Whoever is refused learns of it on its stream; both sessions share what there is.
        for id in 1..=5 {
            for session in &sessions {
                session.post(&call(id, tool, json!({}))).await;
            }
        }
        let mut refused = 0;
        let mut answered = 0;
        until("four calls are at the server", || server.at.calls.load(Ordering::SeqCst) == 4).await;
        assert_eq!(used(&gate, Resource::ServerCalls), 4);
        // Nobody else is concerned.
        let mut other = SseSession::open(&gate, path, CI).await;
        other.post(&call(1, tool, json!({}))).await;
        until("the other's call is there, too", || server.at.calls.load(Ordering::SeqCst) == 5).await;
        server.go.send_replace(true);
        for session in &mut sessions {
            for _ in 0..5 {
                let answer = session.event().await;
                match answer["error"]["code"].as_u64() {
                    Some(429) => refused += 1,
                    _ => {
                        assert_eq!(text(&answer), "done", "{path}: {answer}");
                        answered += 1;
                    }
                }
            }
        }
        assert_eq!((refused, answered), (6, 4), "{path}");
        assert_eq!(text(&other.event().await), "done");
        until("nothing is held", || used(&gate, Resource::ServerCalls) == 0).await;
        assert_eq!(gate.upstream_errors(), 0, "that the caller has too many is no failure of the server");
        assert_eq!(sessions[0].call(tool, json!({})).await, "done");
    }
}

#[tokio::test]
async fn sessions_without_end_listen_at_a_server_as_often_as_their_caller_may() {
    let server = Server::start(true).await;
    let gate = gate_before(&server, 2).await;
    server.go.send_replace(true);
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let session = Session::open(&gate, "/mcp", DEV).await;
        // Streams take nothing from calls.
        assert_eq!(session.call("slow__t", json!({})).await, "done");
        sessions.push(session);
    }
    until("two listen", || server.at.streams.load(Ordering::SeqCst) == 2).await;
    assert_eq!(used(&gate, Resource::ServerStreams), 2);
    let other = Session::open(&gate, "/mcp", CI).await;
    assert_eq!(other.call("slow__t", json!({})).await, "done");
    until("the other listens, too", || server.at.streams.load(Ordering::SeqCst) == 3).await;
    // Who found no room listens later.
    let last = sessions.pop().unwrap();
    for session in sessions.into_iter().rev() {
        assert_eq!(session.delete().await, 204);
    }
    until("what is left listens", || server.at.listened.load(Ordering::SeqCst) == 4).await;
    assert_eq!(used(&gate, Resource::ServerStreams), 2);
    assert_eq!(last.call("slow__t", json!({})).await, "done");
}

#[tokio::test]
async fn notifications_wait_for_a_connection_and_are_not_kept_for_ever() {
    let server = Server::start(false).await;
    let gate = gate_before(&server, 4).await;
    let session = SseSession::open(&gate, "/slow/sse", DEV).await;
    until("the session is open", || used(&gate, Resource::ServerNotices) == 0).await;
    let notice = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": {} }).to_string();
    for _ in 0..8 {
        session.post(&notice).await;
    }
    until("four are at the server", || server.at.notices.load(Ordering::SeqCst) == 4).await;
    server.go.send_replace(true);
    until("the others follow", || server.at.taken.load(Ordering::SeqCst) == 8).await;
    until("nothing is held", || used(&gate, Resource::ServerNotices) == 0).await;

    server.go.send_replace(false);
    for _ in 0..5 {
        session.post(&notice).await;
    }
    let dropped = "A client's message was dropped: no connection to its server is free";
    let line = gate.log.line(dropped, &[("server", json!("slow"))]).await;
    assert_eq!(line["cause"], json!("server_notices: the caller's limit"));
    assert_eq!(server.at.notices.load(Ordering::SeqCst), 4);
    // A call is not held up by them.
    let mut session = session;
    assert_eq!(session.ask(&request(9, "tools/list", json!({}))).await["result"]["tools"][0]["name"], "t");
}

/// Connections that wait for a request are kept in place of requests that may run, and of nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_kept_to_many_servers_have_a_bound_in_all() {
    let server = Recorder::start().await;
    let servers: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("s{n}"), json!({ "url": server.url(&format!("/{n}")) }))).collect();
    let gate = Process::start(json!({
        "proxy": { "workers": 1, "limits": { "maxRequests": 20 } }, "mcpServers": servers
    }))
    .await;
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gate.id())).unwrap().count();
    let mut client = gate.client().await;
    let mut ask = async |path: &str| {
        client.send(post(path, DEV, "", "{}")).await;
        assert_eq!(client.response().await.0, 200);
    };
    ask("/s0/mcp").await;
    let with_one = descriptors();
    for n in 0..100 {
        ask(&format!("/s{n}/mcp")).await;
    }
    let with_many = descriptors();
    assert!(with_many <= with_one + 22, "{with_one}, and then {with_many}");
}
