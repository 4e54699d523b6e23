//! Bytes that wait in memory: who has too many of them is told so, and nobody waits for anybody else for ever.

use serde_json::{Value, json};
use sluicegate::ledger::Resource;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{
    harness::{CI, Client, DEV, Gate, post, soon, until},
    mcp::{Session, call, command, modern, modern_call},
};

/// Two command servers behind a gateway with these limits.
async fn gate_with(limits: Value) -> Gate {
    let servers = json!({ "small": command(), "other": command() });
    Gate::start(json!({ "proxy": { "limits": limits }, "mcpServers": servers })).await
}

fn held(gate: &Gate) -> u64 {
    gate.gateway.shared().ledger.usage(Resource::Bytes).1
}

async fn echoes(gate: &Gate, path: &str, token: &str) -> u16 {
    soon("an echo", gate.ask(&modern_call(path, token, 1, "echo", json!({})))).await.0
}

#[tokio::test]
async fn answers_that_are_read_at_once_and_have_no_room_together_do_not_wait_for_each_other_for_ever() {
    let gate = gate_with(json!({ "maxHeldBytes": 16 << 20 })).await;
    let go = gate.dir.path().join("go");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let session = Session::open(&gate, "/small/mcp", DEV).await;
        let halves = call(1, "halves", json!({ "n": 3_900_000, "until": go }));
        let client = session.sent(&halves).await;
        waiting.push((session, client));
    }
    until("half of each is there", || held(&gate) > 8 * 1_900_000).await;
    // Not by messages: they would need room themselves.
    std::fs::write(&go, "").unwrap();
    let mut answers = JoinSet::new();
    let mut sessions = Vec::new();
    for (session, mut client) in waiting {
        answers.spawn(async move { client.response().await });
        sessions.push(session);
    }
    // Who was not here before is served, too.
    assert_eq!(echoes(&gate, "/other/mcp", CI).await, 200);
    let (mut whole, mut refused) = (0, 0);
    while let Some(answer) = soon("an answer to each", answers.join_next()).await {
        let (status, _, body) = answer.unwrap();
        match status {
            200 => whole += usize::from(body.len() > 3_900_000),
            429 | 503 => refused += 1,
            other => panic!("{other}: {body}"),
        }
    }
    assert!(whole >= 3 && whole + refused == 8, "{whole} whole, {refused} refused");
    gate.log.line("A server's message was dropped: no room to hold it", &[("server", json!("small"))]).await;
    until("nothing is held", || held(&gate) == 0).await;
    assert_eq!(sessions[0].call("echo", json!({ "text": "goes on" })).await, "goes on");
}

#[tokio::test]
async fn an_answer_larger_than_its_caller_may_have_fails_at_once_and_nothing_else_does() {
    let gate = gate_with(json!({ "perCaller": { "heldBytes": 1 << 20 } })).await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let (status, body) = soon("a refusal", session.post(&call(1, "large", json!({ "n": 2 << 20 })))).await;
    assert!(status == 429 && body.contains(r#""caller_limit""#), "{status} {body}");
    assert_eq!(session.call("echo", json!({ "text": "goes on" })).await, "goes on");
    // The same where callers share the process.
    let large = modern_call("/small/mcp", DEV, 1, "large", json!({ "n": 2 << 20 }));
    assert_eq!(soon("a refusal", gate.ask(&large)).await.0, 429);
    assert_eq!(echoes(&gate, "/small/mcp", DEV).await, 200);
}

/// A client with a small window, so that what it does not read stays at the gateway.
async fn narrow(gate: &Gate) -> Client<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Client::new(socket.connect(gate.addr).await.unwrap())
}

#[tokio::test]
async fn answers_that_one_caller_leaves_unread_at_a_process_that_all_share_are_not_held_at_the_cost_of_others()
 {
    let gate = gate_with(json!({ "maxHeldBytes": 16 << 20 })).await;
    assert_eq!(echoes(&gate, "/small/mcp", CI).await, 200);
    let mut unread = Vec::new();
    let large = modern_call("/small/mcp", DEV, 1, "large", json!({ "n": 3_000_000 }));
    for _ in 0..20 {
        let mut client = narrow(&gate).await;
        client.send(&large).await;
        unread.push(client);
    }
    let refused = r#"auth_refused_total{reason="caller_limit"}"#;
    until("some are refused", || gate.metrics().contains(refused)).await;
    assert!(held(&gate) <= 16 << 20, "{}", held(&gate));
    for path in ["/small/mcp", "/other/mcp"] {
        assert_eq!(echoes(&gate, path, CI).await, 200);
        let some = modern_call(path, CI, 1, "large", json!({ "n": 1_000_000 }));
        assert_eq!(soon("an answer", gate.ask(&some)).await.0, 200);
    }
    drop(unread);
    until("nothing is held", || held(&gate) == 0).await;
    assert_eq!(echoes(&gate, "/small/mcp", DEV).await, 200);
}

#[tokio::test]
async fn a_subscription_names_a_thousand_resources_at_most() {
    let gate = gate_with(json!({})).await;
    let listen = |path: &str, count: usize, filler: usize| {
        let uris: Vec<_> = (0..count).map(|n| format!("note://{n}{}", "x".repeat(filler))).collect();
        let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": uris });
        modern(path, DEV, 1, "subscriptions/listen", json!({ "notifications": wanted }))
    };
    for path in ["/mcp", "/small/mcp"] {
        for (count, filler) in [(1001, 0), (900, 300)] {
            let (_, _, body) = gate.ask(&listen(path, count, filler)).await;
            assert!(body.contains("-32602") && body.contains("at most 1000 resources"), "{path}: {body}");
        }
        let mut client = gate.client().await;
        client.send(listen(path, 1000, 0)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        let event = crate::mcp::event(&mut client).await;
        assert_eq!(event["method"], "notifications/subscriptions/acknowledged", "{event}");
    }
}

/// A server that greets and then reads nothing more.
fn deaf() -> Value {
    let script = r#"read -r _; echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"deaf","version":"1"}}}'; exec sleep 600"#;
    json!({ "command": "sh", "args": ["-c", script], "inheritEnv": ["PATH"] })
}

#[tokio::test]
async fn a_session_whose_server_does_not_read_holds_a_few_messages_and_then_refuses() {
    let servers = json!({ "deaf": deaf(), "small": command() });
    let gate = Gate::start(json!({ "mcpServers": servers })).await;
    let session = Session::open(&gate, "/deaf/mcp", DEV).await;
    let filler = "x".repeat(1 << 20);
    let note = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"x":"{filler}"}}}}"#);
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        // What has no room is not read, and so not sent as a whole.
        let (mut client, request) = (gate.client().await, post("/deaf/mcp", DEV, &session.field, &note));
        waiting.spawn(async move {
            let (mut from, mut to) = client.stream.split();
            let send = async {
                let _ = to.write_all(request.as_bytes()).await;
                std::future::pending::<()>().await;
            };
            let mut head = vec![0; 12];
            tokio::select! {
                () = send => unreachable!(),
                read = from.read_exact(&mut head) => read.map(|_| String::from_utf8(head).unwrap()),
            }
        });
    }
    let mut refused = 0;
    while refused < 24 {
        let status = soon("an answer", waiting.join_next()).await.unwrap().unwrap().unwrap();
        assert!(held(&gate) <= 17 << 20, "{}", held(&gate));
        refused += usize::from(status == "HTTP/1.1 503");
        assert!(status.ends_with("503") || status.ends_with("202"), "{status}");
    }
    assert!(held(&gate) > 14 << 20, "the others wait on: {}", held(&gate));
    // Another session of the same caller has its own.
    let other = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(other.call("echo", json!({ "text": "hears" })).await, "hears");
    drop(waiting);
    assert_eq!(session.delete().await, 204);
    until("nothing is held", || held(&gate) == 0).await;
}
