//! What a peer that stops, at each step, costs: little, and not for long.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    harness::{
        CI, Client, DEV, Gate, SSE, Upstream, chunk, get, open_stream, passes, pause, post, soon, until,
    },
    recorder::Recorder,
};

async fn gate_with(limits: Value, server: &Upstream) -> Gate {
    Gate::start(json!({
        "proxy": { "limits": limits },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    }))
    .await
}

#[tokio::test]
async fn a_client_that_sends_no_whole_head_is_cut() {
    let gate = gate_with(json!({ "headerTimeout": "300ms" }), &Upstream::bind().await).await;
    for part in ["", "G", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut client = gate.client().await;
        client.send(part).await;
        soon(part, client.rest()).await;
    }
    // Nor does it help to send something now and then.
    let mut client = gate.client().await;
    soon("the end of a connection with a trickle", async {
        while client.stream.write_all(b"G").await.is_ok() {
            pause().await;
        }
    })
    .await;
    // Nor on a connection that has served before.
    let mut client = gate.client().await;
    client.send(get("/health", DEV, "")).await;
    assert_eq!(client.response().await.0, 200);
    client.send("GET /health HTTP/1.1\r\nHost: loc").await;
    soon("the end of the second request", client.rest()).await;
    until("no connection is left", || gate.metrics().contains("sluicegate_connections_open 0")).await;
}

/// Writes until the gateway ends the connection.
async fn flood(behind: &mut Client<tokio::net::TcpStream>) {
    let block = chunk(&"x".repeat(16 * 1024));
    while behind.stream.write_all(block.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_one_that_has_nothing_to_take_is_not() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "slowReaderTimeout": "500ms" }), &server).await;
    let (mut quiet, mut behind_quiet) = open_stream(gate.addr, &server, DEV).await;
    let (stuck, mut behind) = open_stream(gate.addr, &server, DEV).await;
    SockRef::from(&stuck.stream).set_recv_buffer_size(16 << 10).unwrap();
    soon("the end of the server's stream", flood(&mut behind)).await;
    gate.log.line("Stream closed", &[("reason", json!("slow_reader"))]).await;
    assert!(gate.metrics().contains(r#"sluicegate_stream_cut_total{reason="slow_reader"} 1"#));
    drop(stuck);
    passes(&mut behind_quiet, &mut quiet, "data: 1\n\n").await;
}

#[tokio::test]
async fn what_a_client_did_not_take_is_not_kept_once_it_is_cut() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "slowReaderTimeout": "500ms" }), &server).await;
    let (mut stuck, mut behind) = open_stream(gate.addr, &server, DEV).await;
    SockRef::from(&stuck.stream).set_recv_buffer_size(16 << 10).unwrap();
    soon("the end of the server's stream", flood(&mut behind)).await;
    gate.log.line("Stream closed", &[("reason", json!("slow_reader"))]).await;
    // It meets a reset, not the rest and an end.
    let ended = loop {
        let mut piece = [0; 4096];
        match soon("the end", stuck.stream.read(&mut piece)).await {
            Ok(0) => break None,
            Ok(_) => {}
            Err(e) => break Some(e.kind()),
        }
    };
    assert_eq!(ended, Some(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_client_that_takes_little_at_a_time_is_not_cut() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "slowReaderTimeout": "1s" }), &server).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    SockRef::from(&client.stream).set_recv_buffer_size(16 << 10).unwrap();
    tokio::spawn(async move { flood(&mut behind).await });
    // Real time: three times as long as a client may take nothing.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        client.exactly(32 * 1024).await;
        pause().await;
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (server, patient) = (Upstream::bind().await, Upstream::bind().await);
    let gate = Gate::start(json!({
        "proxy": { "limits": { "upstreamTimeout": "300ms" } },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "slow": { "url": patient.url("/mcp"), "timeout": "30s" }
        }
    }))
    .await;
    let mut waits = gate.client().await;
    waits.send(post("/slow", DEV, "", "{}")).await;
    let mut behind_slow = patient.accept().await;
    behind_slow.head().await;

    for half in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.exactly(2).await;
        behind.send(half).await;
        let (status, _, body) = client.response().await;
        assert_eq!(status, 504, "{body}");
        assert!(body.contains("upstream_timeout"), "{body}");
        assert_eq!(soon("the end of the server's connection", behind.rest()).await, b"");
        // The client did nothing wrong: its connection serves on.
        client.send(get("/health", CI, "")).await;
        assert_eq!(client.response().await.0, 200);
    }
    // Time-outs are for silence before the head; a stream may be silent as long as it likes.
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    // Real time: a silence that is longer than the time-out is what is tried.
    tokio::time::sleep(Duration::from_secs(1)).await;
    passes(&mut behind, &mut client, "data: late\n\n").await;

    behind_slow.exactly(2).await;
    behind_slow.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(waits.response().await.0, 200, "the server's own timeout wins");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_502_and_one_that_does_not_pick_up_is_504() {
    let nobody = Upstream::bind().await;
    let closed = nobody.url("/mcp");
    drop(nobody);
    // It accepts connections, and then does not shake hands.
    let mute = Upstream::bind().await;
    let gate = Gate::start(json!({
        "proxy": { "limits": { "connectTimeout": "300ms" } },
        "mcpServers": {
            "closed": { "url": closed },
            "mute": { "url": mute.url("/mcp").replace("http:", "https:") }
        }
    }))
    .await;
    let (status, _, body) = gate.ask(&post("/closed", DEV, "", "{}")).await;
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("upstream_unreachable"), "{body}");
    let (status, _, body) = gate.ask(&post("/mute", DEV, "", "{}")).await;
    assert_eq!(status, 504, "{body}");
    assert!(body.contains("upstream_timeout"), "{body}");
    let metrics = gate.metrics();
    for (server, kind) in [("closed", "upstream_unreachable"), ("mute", "upstream_timeout")] {
        let counted = format!(r#"sluicegate_upstream_errors_total{{kind="{kind}",server="{server}"}} 1"#);
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_and_the_server_gets_no_whole_request() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "maxBodyBytes": 100 }), &server).await;
    let (status, _, body) = gate.ask(&post("/db", DEV, "", &"x".repeat(101))).await;
    assert_eq!(status, 413, "{body}");
    let mut client = gate.client().await;
    let head = format!("POST /db HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n");
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk(&"x".repeat(101)))).await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 413, "{body}");
    soon("the end of the client's connection", client.rest()).await;
    // One that fits goes through.
    let mut client = gate.client().await;
    client.send(post("/db", DEV, "", &"x".repeat(100))).await;
    loop {
        let mut behind = server.accept().await;
        if behind.more().await && behind.head().await.contains("content-length: 100\r\n") {
            behind.exactly(100).await;
            behind.send(SSE.replace("event-stream", "plain") + "0\r\n\r\n").await;
            break;
        }
    }
    assert_eq!(client.response().await.0, 200);
}

#[tokio::test]
async fn the_head_of_a_server_s_answer_is_bounded_with_all_that_comes_before_it() {
    let ask = async |response: String| {
        let server = Recorder::answering(response).await;
        let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
        let (status, _, body) = gate.ask(&get("/db", DEV, "")).await;
        (status, body, gate.log.line("Authenticated request", &[]).await)
    };
    const END: &str = "Content-Length: 2\r\n\r\nok";
    let fields = |count: usize| format!("X-A: {}\r\n", "a".repeat(993)).repeat(count);
    let interim = |fields: &str| format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n");
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}{END}");
    for (response, passes) in [
        (ok(&fields(60)), true),
        (ok(&fields(80)), false),
        (interim(&fields(30)) + &ok(&fields(30)), true),
        (interim(&fields(30)) + &interim(&fields(30)) + &ok(&fields(10)), false),
        (interim("").repeat(3) + &ok(""), true),
        (interim("").repeat(100) + &ok(""), false),
    ] {
        let (status, body, line) = ask(response).await;
        if passes {
            assert_eq!((status, body.as_str()), (200, "ok"));
        } else {
            assert_eq!((status, &line["reason"]), (502, &json!("upstream_unreachable")), "{line}");
            assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("head")), "{line}");
        }
    }
}
