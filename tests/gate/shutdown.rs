//! The end of the process: what runs is finished, what does not finish is cut, and nothing new begins.

use std::{
    io::BufRead as _,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{
        CI, Client, DEV, Gate, SSE, Upstream, chunk, field, get, open_stream, passes, pause, post, soon,
    },
    mcp::{Session, SseSession, call, command, event, is_over, is_stream, modern, text as said},
    process::{Process, serve, text},
    recorder::Recorder,
};

async fn gate_with(grace: &str, server: &Upstream) -> Process {
    Process::start(config(grace, server)).await
}

fn config(grace: &str, server: &Upstream) -> Value {
    json!({
        "proxy": { "shutdownGrace": grace, "workers": 1 },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    })
}

/// A call at `addr` for `db` whose answer has begun as an event stream: the client's side and the server's.
async fn open_call(
    addr: std::net::SocketAddr,
    server: &Upstream,
    token: &str,
) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = Client::new(TcpStream::connect(addr).await.unwrap());
    client.send(post("/db", token, "Accept: application/json, text/event-stream\r\n", CALL)).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.exactly(CALL.len()).await;
    behind.send(SSE).await;
    client.head().await;
    (client, behind)
}

/// No new connection is taken.
async fn refuses_connections(addr: std::net::SocketAddr) {
    soon("a connection that is refused", async {
        while TcpStream::connect(addr).await.is_ok() {
            pause().await;
        }
    })
    .await;
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask"}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"role":"assistant"}}"#;
const CANCELLED: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;

/// A pipe whose reader hangs: it is full after some hundred lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_does_not_keep_the_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    let mut config = config("1s", &Upstream::bind().await);
    config["proxy"]["log"] = json!({ "level": "debug" });
    std::fs::write(&path, text(config)).unwrap();
    let (unread, written) = std::io::pipe().unwrap();
    let mut gate = serve(&path).stdout(written).spawn().unwrap();
    let mut lines = std::io::BufReader::new(unread);
    let mut line = String::new();
    while !line.contains("Listening") {
        line.clear();
        lines.read_line(&mut line).unwrap();
    }
    let line: Value = serde_json::from_str(&line).unwrap();
    let addr = line["url"].as_str().unwrap().rsplit_once('/').unwrap().1;
    let mut client = Client::new(TcpStream::connect(addr).await.unwrap());
    for _ in 0..1_000 {
        client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(client.response().await.0, 200);
    }
    kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
    let ended = soon("the end of the process", async {
        loop {
            if let Some(status) = gate.try_wait().unwrap() {
                return status;
            }
            pause().await;
        }
    })
    .await;
    assert_eq!(ended.code(), Some(0));
    drop(lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_runs_is_finished_and_then_the_process_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Upstream::bind().await;
        let mut gate = gate_with("30s", &server).await;
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.exactly(2).await;

        // Two requests that are half here: one for the state of the gateway, one for new work.
        let mut probe = gate.client().await;
        probe.send("GET /health/ready HTTP/1.1\r\nHost: localhost\r\n").await;
        let mut late = gate.client().await;
        let request = get("/db", CI, "");
        late.send(request.strip_suffix("\r\n").unwrap()).await;
        let mut live = gate.client().await;
        live.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n").await;
        assert_eq!(gate.get("/health/ready", DEV).await.0, 200);

        gate.signal(signal);
        gate.log.line("Draining", &[]).await;
        probe.send("\r\n").await;
        let (status, head, body) = probe.response().await;
        assert_eq!(status, 503, "{body}");
        assert_eq!(field(&head, "connection"), Some("close"));
        live.send("\r\n").await;
        assert_eq!(live.response().await.0, 200);
        late.send("\r\n").await;
        let (status, head, body) = late.response().await;
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("unavailable"), "{body}");
        assert!(field(&head, "retry-after").is_some(), "{head}");
        // Nobody can be asked anything: the client takes no events.
        refuses_connections(gate.addr).await;

        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        let (status, head, body) = client.response().await;
        assert_eq!((status, body.as_str()), (200, "{}"));
        assert_eq!(field(&head, "connection"), Some("close"));
        assert_eq!(gate.exited().await, Some(0));
        gate.log.line("Stopped", &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_hold_up_nothing() {
    let server = Upstream::bind().await;
    let mut gate = gate_with("30s", &server).await;
    let (mut used, mut unused) = (gate.client().await, gate.client().await);
    used.send(get("/health", DEV, "")).await;
    assert_eq!(used.response().await.0, 200);
    // Sooner than the grace is over.
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    soon("the end of the used connection", used.rest()).await;
    soon("the end of the unused connection", unused.rest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_run_on_until_the_grace_is_over() {
    let server = Upstream::bind().await;
    let mut gate = gate_with("1s", &server).await;
    let (mut client, mut behind) = open_call(gate.addr, &server, DEV).await;
    gate.signal(Signal::TERM);
    gate.log.line("Draining", &[]).await;
    passes(&mut behind, &mut client, "data: still here\n\n").await;
    let rest = String::from_utf8(soon("the cut", client.rest()).await).unwrap();
    assert!(!rest.contains('0'), "an end was made up: {rest:?}");
    assert_eq!(gate.exited().await, Some(0));
    gate.log.line("Stream closed", &[("reason", json!("drain"))]).await;
    gate.log.line("Stopped", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_in_time_ends_whole() {
    let server = Upstream::bind().await;
    let mut gate = gate_with("30s", &server).await;
    let (mut client, mut behind) = open_call(gate.addr, &server, DEV).await;
    gate.signal(Signal::TERM);
    gate.log.line("Draining", &[]).await;
    passes(&mut behind, &mut client, "data: last\n\n").await;
    behind.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    assert_eq!(gate.exited().await, Some(0));
    gate.log.line("Stream closed", &[("reason", json!("upstream_end"))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_does_not_wait() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)]
    {
        let server = Upstream::bind().await;
        let mut gate = gate_with("10m", &server).await;
        let (mut client, _behind) = open_call(gate.addr, &server, DEV).await;
        gate.signal(first);
        gate.log.line("Draining", &[]).await;
        gate.signal(second);
        soon("the cut", client.rest()).await;
        assert_eq!(gate.exited().await, Some(0));
        gate.log.line("Stream closed", &[("reason", json!("drain"))]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_out_while_the_gate_drains_ends_its_streams() {
    let server = Upstream::bind().await;
    let mut config = config("60s", &server);
    config["proxy"]["auth"] = json!({ "tokens": { "dev": DEV, "ci": CI } });
    let mut gate = Process::start(config.clone()).await;
    let (mut removed, to_removed) = open_call(gate.addr, &server, CI).await;
    let (mut stays, mut to_stays) = open_call(gate.addr, &server, DEV).await;
    gate.signal(Signal::TERM);
    gate.log.line("Draining", &[]).await;
    config["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("ci");
    gate.save(config);
    gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
    while removed.more().await {}
    drop(to_removed);
    passes(&mut to_stays, &mut stays, "data: still\n\n").await;
    drop((stays, to_stays));
    assert_eq!(gate.exited().await, Some(0));
}

/// A command that ignores that its input ends, and SIGTERM, beside a stream that does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_does_not_wait_for_processes_either() {
    let server = Upstream::bind().await;
    let mut config = config("10m", &server);
    let script = "trap '' TERM; cat; while :; do sleep 1; done";
    config["mcpServers"]["deaf"] = json!({ "command": "sh", "args": ["-c", script], "timeout": "10m" });
    let mut gate = Process::start(config).await;
    let (stream, behind) = open_call(gate.addr, &server, DEV).await;
    let mut waiting = gate.client().await;
    waiting.send(post("/deaf/mcp", DEV, "", crate::mcp::INITIALIZE)).await;
    gate.log.line("Server process started", &[]).await;
    gate.signal(Signal::TERM);
    gate.log.line("Draining", &[]).await;
    gate.signal(Signal::TERM);
    // Real time: otherwise it takes the ten seconds in which a process may leave by itself, and those cannot be set.
    let began = Instant::now();
    assert_eq!(gate.exited().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(9), "it waited for the process");
    drop((stream, behind, waiting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_leaves_is_not_ready_and_serves_on() {
    let server = Recorder::start().await;
    let config = |delay: &str| {
        json!({
            "proxy": { "shutdownDelay": delay },
            "mcpServers": { "db": { "url": server.url("/mcp") } }
        })
    };
    let mut gate = Process::start(config("10m")).await;
    gate.signal(Signal::TERM);
    gate.log.line("Leaving: not ready, and still serving", &[]).await;
    assert_eq!(gate.get("/health/ready", DEV).await.0, 503);
    assert_eq!(gate.get("/health/live", DEV).await.0, 200);
    // A balancer that kept a connection would send the next request when it is too late.
    for _ in 0..2 {
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", CALL)).await;
        let (status, head, _) = client.response().await;
        assert_eq!((status, field(&head, "connection")), (200, Some("close")));
        assert!(client.rest().await.is_empty(), "it is closed");
    }
    assert!(!gate.log.text().contains("Draining"));
    // The second one does not wait for the first.
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));

    let mut gate = Process::start(config("10ms")).await;
    gate.signal(Signal::INT);
    assert_eq!(gate.exited().await, Some(0));
    let log = gate.log.text();
    assert!(log.find("Leaving") < log.find("Draining") && log.contains("Stopped"), "{log}");
}

#[tokio::test]
async fn streams_that_only_listen_do_not_hold_up_a_shutdown() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": {
        "db": { "url": server.url("/mcp") }, "files": command()
    } }))
    .await;
    let (mut bytes, _behind) = open_stream(gate.addr, &server, DEV).await;
    let session = Session::open(&gate, "/files/mcp", DEV).await;
    let mut own = session.listen().await;
    let mut sse = SseSession::open(&gate, "/files/sse", DEV).await;
    let mut subscribed = gate.client().await;
    let listen = modern("/files/mcp", DEV, 1, "subscriptions/listen", json!({ "notifications": {} }));
    subscribed.send(&listen).await;
    is_stream(&subscribed.head().await);

    gate.gateway.drain();
    soon("the end of the drain", gate.gateway.drained()).await;
    for stream in [&mut bytes, &mut own, &mut sse.stream, &mut subscribed] {
        is_over(stream).await;
    }
    for path in ["/db", "/files/mcp", "/files/sse"] {
        let request =
            gate.log.line("Authenticated request", &[("path", json!(path)), ("method", json!("GET"))]).await;
        let id = ("request_id", request["request_id"].clone());
        gate.log.line("Stream closed", &[id, ("reason", json!("drain"))]).await;
    }
}

/// The server asks the client to sample, and answers the call once it has.
#[tokio::test]
async fn a_call_that_runs_can_still_be_answered_by_its_client() {
    let gate = Gate::start(json!({ "mcpServers": { "files": command() } })).await;
    let session = Session::open(&gate, "/files/mcp", DEV).await;
    let mut own = session.listen().await;
    let mut sse = SseSession::open(&gate, "/files/sse", DEV).await;
    let mut asked = session.stream(&call(1, "ask", json!({}))).await;
    assert_eq!(event(&mut asked).await["method"], "sampling/createMessage");
    sse.post(&call(1, "ask", json!({}))).await;
    assert_eq!(sse.event().await["method"], "sampling/createMessage");

    gate.gateway.drain();
    let drained = tokio::spawn(gate.gateway.drained());
    assert_eq!(session.post(&call(2, "echo", json!({ "text": "new" }))).await.0, 503);
    assert_eq!(session.post(CANCELLED).await.0, 202);
    sse.post(ANSWER).await;
    assert!(said(&sse.event().await).contains("assistant"));
    // The last call: its client hears it, and then nothing is waited for.
    let mut second = session.sent(&call(3, "ask", json!({}))).await;
    assert_eq!(second.response().await.0, 503);
    soon("the end of the drain", drained).await.unwrap();
    is_over(&mut asked).await;
    is_over(&mut own).await;
}

#[tokio::test]
async fn a_call_that_passes_byte_for_byte_can_still_be_answered_by_its_client() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({
        "mcpServers": { "db": { "url": server.url("/mcp"), "options": { "toolFilter": { "mode": "block", "list": ["none"] } } } }
    }))
    .await;
    let (mut call, mut behind) = open_call(gate.addr, &server, DEV).await;
    gate.gateway.drain();
    let drained = tokio::spawn(gate.gateway.drained());
    for refused in [post("/db", DEV, "", CALL), post("/db", DEV, "", ""), get("/db", DEV, "")] {
        let (status, _, body) = gate.ask(&refused).await;
        assert_eq!(status, 503, "{refused}: {body}");
    }
    for taken in [ANSWER, CANCELLED] {
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", taken)).await;
        // What was refused above may have connected, and sent nothing.
        let mut at_server = server.accept().await;
        while !at_server.more().await {
            at_server = server.accept().await;
        }
        at_server.head().await;
        assert_eq!(at_server.exactly(taken.len()).await, taken.as_bytes());
        at_server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.response().await.0, 202);
    }
    behind.send(chunk("data: answered\n\n")).await;
    behind.send("0\r\n\r\n").await;
    assert_eq!(call.chunk().await.unwrap(), b"data: answered\n\n");
    soon("the end of the drain", drained).await.unwrap();
    // Nobody is waited for any more.
    refuses_connections(gate.addr).await;
}

/// Of a call over HTTP+SSE that passes byte for byte, the gateway sees a POST that is answered with 202, and nothing
/// else until the answer comes on the stream: a stream that is silent may be one that somebody waits on.
#[tokio::test]
async fn a_call_over_http_sse_that_passes_byte_for_byte_is_answered_in_a_drain() {
    // Each message comes by a connection of its own.
    const TAKEN: &str = "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let server = Upstream::bind().await;
    let gate =
        Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/sse"), "transportType": "sse" } } }))
            .await;
    let mut stream = gate.client().await;
    stream.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    behind.send(chunk("event: endpoint\ndata: /message?session=1\n\n")).await;
    stream.head().await;
    let endpoint = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = endpoint.split_once("data: ").unwrap().1.trim_end().to_owned();
    let mut client = gate.client().await;
    client.send(post(&url, DEV, "", CALL)).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    assert_eq!(at_server.exactly(CALL.len()).await, CALL.as_bytes());
    at_server.send(TAKEN).await;
    assert_eq!(client.response().await.0, 202);

    gate.gateway.drain();
    let drained = tokio::spawn(gate.gateway.drained());
    // The server asks, the client answers, and then so does the server.
    passes(&mut behind, &mut stream, "data: {\"method\":\"sampling/createMessage\",\"id\":1}\n\n").await;
    assert_eq!(gate.ask(&post(&url, DEV, "", CALL)).await.0, 503);
    let mut client = gate.client().await;
    client.send(post(&url, DEV, "", ANSWER)).await;
    let mut at_server = server.accept().await;
    while !at_server.more().await {
        at_server = server.accept().await;
    }
    at_server.head().await;
    assert_eq!(at_server.exactly(ANSWER.len()).await, ANSWER.as_bytes());
    at_server.send(TAKEN).await;
    assert_eq!(client.response().await.0, 202);
    passes(&mut behind, &mut stream, "data: {\"id\":1,\"result\":{}}\n\n").await;
    assert!(!drained.is_finished(), "the stream may have another call");
    behind.send("0\r\n\r\n").await;
    assert_eq!(stream.chunk().await, None);
    soon("the end of the drain", drained).await.unwrap();
}
