//! The end of the process: what runs is finished, what does not finish is cut, and nothing new begins.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{CI, DEV, Upstream, field, get, open_stream, passes, post, soon},
    process::Process,
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

        // Two requests that are half here: one for the state of the gate, one for new work.
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
        assert!(TcpStream::connect(gate.addr).await.is_err(), "a new connection was taken");

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
    let began = Instant::now();
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "the grace was waited for");
    soon("the end of the used connection", used.rest()).await;
    soon("the end of the unused connection", unused.rest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_run_on_until_the_grace_is_over() {
    let server = Upstream::bind().await;
    let mut gate = gate_with("1s", &server).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
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
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
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
        let (mut client, _behind) = open_stream(gate.addr, &server, DEV).await;
        gate.signal(first);
        gate.log.line("Draining", &[]).await;
        let began = Instant::now();
        gate.signal(second);
        soon("the cut", client.rest()).await;
        assert_eq!(gate.exited().await, Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        gate.log.line("Stream closed", &[("reason", json!("drain"))]).await;
    }
}
