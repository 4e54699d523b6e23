//! What one client may cost where the gateway keeps its session: how many, how long, how large.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;

use crate::{
    harness::{CI, DEV, Gate, field, get, post, until},
    mcp::{
        INITIALIZE, Session, SseSession, call, command, event, is_alive, is_gone, is_over, modern,
        modern_call, text,
    },
};

/// Largest message that is held as a whole.
const MOST: usize = 4 * 1024 * 1024;

async fn start(proxy: Value, idle: &str) -> Gate {
    let mut small = command();
    small["idleTimeout"] = json!(idle);
    Gate::start(json!({ "proxy": proxy, "mcpServers": { "small": small } })).await
}

async fn roomy() -> Gate {
    start(json!({}), "5m").await
}

async fn open(gate: &Gate) -> Session {
    Session::open(gate, "/small/mcp", DEV).await
}

#[tokio::test]
async fn there_are_as_many_sessions_as_the_limit_says_and_then_room_again() {
    let gate = start(json!({ "limits": { "maxSessions": 2 } }), "5m").await;
    let first = open(&gate).await;
    let second = SseSession::open(&gate, "/sse", CI).await;
    for request in [
        post("/small/mcp", DEV, "", INITIALIZE),
        post("/mcp", CI, "", INITIALIZE),
        get("/small/sse", DEV, "Accept: text/event-stream\r\n"),
    ] {
        let (status, head, body) = gate.ask(&request).await;
        assert!(status == 503 && body.contains(r#""unavailable""#), "{status} {body}");
        assert!(field(&head, "retry-after").is_some(), "{head}");
    }
    // Neither those that there are nor requests without a session are kept from anything.
    assert_eq!(first.call("echo", json!({ "text": "on" })).await, "on");
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "echo", json!({}))).await.0, 200);

    assert_eq!(first.delete().await, 204);
    until("room for one more", || gate.gateway.shared().sessions.len() == 1).await;
    let third = open(&gate).await;
    drop(second);
    until("room for one more", || gate.gateway.shared().sessions.len() == 1).await;
    // Not for the caller that has one already: what is left is kept for the other.
    Session::open(&gate, "/small/mcp", CI).await;
    assert_eq!(third.call("echo", json!({ "text": "on" })).await, "on");
}

#[tokio::test]
async fn a_call_that_needs_a_process_of_its_own_counts_as_a_session_does() {
    let gate = start(json!({ "limits": { "maxSessions": 1 } }), "5m").await;
    let logged = |tool: &str| {
        let level = json!({ "io.modelcontextprotocol/logLevel": "info" });
        let params = json!({ "name": tool, "arguments": {}, "_meta": level });
        modern("/small/mcp", DEV, 1, "tools/call", params)
    };
    let mut waiting = gate.client().await;
    waiting.send(logged("sleep")).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    assert_eq!(gate.ask(&logged("echo")).await.0, 503);
    drop(waiting);
    until("room again", || gate.gateway.shared().sessions.is_empty()).await;
    assert_eq!(gate.ask(&logged("echo")).await.0, 200);
}

#[tokio::test]
async fn a_call_with_a_process_of_its_own_opens_no_conversation_that_it_does_not_use() {
    let gate = start(json!({}), "5m").await;
    let used = || gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Sessions).1;
    let list = |meta: Value| modern("/mcp", DEV, 1, "tools/list", json!({ "_meta": meta }));
    let level = json!({ "io.modelcontextprotocol/logLevel": "info" });
    let (status, _, body) = gate.ask(&list(level)).await;
    assert_eq!(status, 200, "{body}");
    until("its own is over, and there is no other", || used() == 0).await;
    assert_eq!(gate.ask(&list(json!({}))).await.0, 200);
    assert_eq!(used(), 1, "this one is shared");
}

#[tokio::test]
async fn a_session_that_its_server_refuses_takes_no_place() {
    let gate = Gate::start(json!({
        "proxy": { "limits": { "maxSessions": 1 } },
        "mcpServers": { "small": command(), "absent": { "command": "/no/such/program" } },
    }))
    .await;
    for _ in 0..3 {
        assert_eq!(gate.ask(&post("/absent/mcp", DEV, "", INITIALIZE)).await.0, 502);
    }
    until("no session is left", || gate.gateway.shared().sessions.is_empty()).await;
    open(&gate).await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_and_its_process_with_it() {
    let gate = start(json!({}), "1s").await;
    let session = open(&gate).await;
    let pid = session.pid().await;
    // Real time: a session that ends at once would be one that nobody can use.
    let began = Instant::now();
    is_gone(pid).await;
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(session.post(&call(1, "pid", json!({}))).await.0, 404);

    // The process that callers of 2026 share, too.
    let (_, _, body) = gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await;
    is_gone(text(&serde_json::from_str(&body).unwrap()).parse().unwrap()).await;
    let (status, ..) = gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await;
    assert_eq!(status, 200, "the next caller has a new one");
}

#[tokio::test]
async fn who_listens_or_waits_is_not_idle() {
    let gate = start(json!({}), "1s").await;
    // Each is in use before the next begins: a busy machine may take a second for all of them.
    let listens = open(&gate).await;
    let stream = listens.listen().await;
    let waits = open(&gate).await;
    let pid = waits.pid().await;
    let _waiting = waits.sent(&call(1, "sleep", json!({}))).await;
    let pids = [listens.pid().await, pid];
    let mut over_sse = SseSession::open(&gate, "/small/sse", DEV).await;
    // One that nobody uses is the clock.
    for _ in 0..2 {
        let idle = open(&gate).await.pid().await;
        is_gone(idle).await;
    }
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    assert_eq!(over_sse.call("echo", json!({ "text": "on" })).await, "on");
    assert_eq!(listens.call("echo", json!({ "text": "on" })).await, "on");
    assert_eq!(waits.call("echo", json!({ "text": "on" })).await, "on");
    drop(stream);
    is_gone(pids[0]).await;
}

#[tokio::test]
async fn a_second_stream_takes_the_place_of_the_first() {
    let gate = roomy().await;
    let session = open(&gate).await;
    let mut first = session.listen().await;
    let mut second = session.listen().await;
    is_over(&mut first).await;
    assert_eq!(session.call("after", json!({})).await, "told");
    assert_eq!(event(&mut second).await["params"]["data"], "afterwards");
}

#[tokio::test]
async fn a_message_of_four_mebibytes_passes_and_a_larger_one_is_refused() {
    let gate = roomy().await;
    let session = open(&gate).await;
    let of_size = |size: usize| {
        let without = call(7, "echo", json!({ "text": "" })).len();
        call(7, "echo", json!({ "text": "x".repeat(size - without) }))
    };
    let answer = session.ask(&of_size(MOST)).await;
    assert!(text(&answer).len() > MOST - 200);

    let too_large = of_size(MOST + 1);
    let mut client = session.client().await;
    // By its length, before it is sent.
    let request = post("/small/mcp", DEV, &session.field, &too_large);
    client.send(&request[..request.len() - too_large.len()]).await;
    let (status, head, body) = client.response().await;
    assert!(status == 413 && body.contains("payload_too_large"), "{status} {body}");
    assert_eq!(field(&head, "connection"), Some("close"));
    // And without a length, once it is too large.
    let mut client = session.client().await;
    let head = format!(
        "POST /small/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n{}Transfer-Encoding: chunked\r\n\r\n",
        session.field
    );
    client.send(format!("{head}{:x}\r\n{too_large}", MOST + 2)).await;
    assert_eq!(client.response().await.0, 413);
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_reaches_no_server() {
    let gate = roomy().await;
    let session = open(&gate).await;
    let sse = SseSession::open(&gate, "/small/sse", DEV).await;
    let note = call(1, "note", json!({ "text": "seen" }));
    let batch = format!("[{note}]");
    let twice = format!("{note}{note}");
    let of_two_minds =
        note.replacen(r#""method":"tools/call""#, r#""method":"tools/call","method":"ping""#, 1);
    assert_ne!(note, of_two_minds);
    for body in [
        "",
        "note",
        "{",
        &note[..note.len() - 1],
        "[]",
        &batch,
        "\"text\"",
        "1",
        "null",
        "{}",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":1}"#,
        &twice,
        &of_two_minds,
    ] {
        for request in [
            post("/small/mcp", DEV, &session.field, body),
            post(&sse.url, DEV, "", body),
            post("/small/mcp", DEV, "", body),
            post("/mcp", DEV, "", body),
        ] {
            let (status, _, answer) = gate.ask(&request).await;
            assert!(status == 400 && answer.contains("not_a_message"), "{body:?}: {status} {answer}");
        }
    }
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");
    assert!(!gate.log.text().contains("noted"), "a server saw it");
}

#[tokio::test]
async fn a_request_with_the_id_of_one_that_runs_is_refused() {
    let gate = roomy().await;
    let session = open(&gate).await;
    let _waiting = session.sent(&call(1, "sleep", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    let (status, body) = session.post(&call(1, "echo", json!({}))).await;
    assert!(status == 400 && body.contains("duplicate_id"), "{status} {body}");
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");
}

#[tokio::test]
async fn methods_and_sessions_that_do_not_fit_the_endpoint_are_told_so() {
    let gate = roomy().await;
    let session = open(&gate).await;
    for (request, status) in [
        (get("/small/mcp", DEV, ""), 405),
        (get("/small/mcp", DEV, "").replacen("GET", "DELETE", 1), 400),
        (get("/small/mcp", DEV, "Mcp-Session-Id: made-up\r\n"), 404),
        (get("/small/mcp", DEV, "MCP-Protocol-Version: 2026-07-28\r\n"), 405),
        (get("/small/mcp", DEV, &session.field).replacen("GET", "PUT", 1), 405),
        (post("/small/sse", DEV, "", INITIALIZE), 405),
        (get("/small/message", DEV, ""), 405),
        (post("/small/message", DEV, "", INITIALIZE), 404),
        (post("/small/message?sessionId=made-up", DEV, "", INITIALIZE), 404),
    ] {
        let (got, _, body) = gate.ask(&request).await;
        assert_eq!(got, status, "{request}: {body}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_stops_nobody_else() {
    let gate = start(json!({ "limits": { "slowReaderTimeout": "500ms" } }), "5m").await;
    let other = open(&gate).await;
    let session = open(&gate).await;
    let pid = session.pid().await;
    let stuck = session.sent(&call(1, "flood", json!({}))).await;
    SockRef::from(&stuck.stream).set_recv_buffer_size(16 << 10).unwrap();
    assert_eq!(other.call("echo", json!({ "text": "on" })).await, "on");
    gate.log.line("Stream closed", &[("reason", json!("slow_reader"))]).await;
    assert_eq!(
        session.delete().await,
        204,
        "the session is still there: its client may have lost the stream only"
    );
    is_gone(pid).await;

    // On HTTP+SSE the stream is the session.
    let mut session = SseSession::open(&gate, "/small/sse", DEV).await;
    let pid = session.call("pid", json!({})).await.parse().unwrap();
    SockRef::from(&session.stream.stream).set_recv_buffer_size(16 << 10).unwrap();
    session.post(&call(1, "flood", json!({}))).await;
    is_gone(pid).await;
    assert_eq!(other.call("echo", json!({ "text": "on" })).await, "on");
}
