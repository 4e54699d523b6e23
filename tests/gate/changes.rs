//! What a caller is told whose request waits while whoever runs the gateway changes something.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::ledger::Resource;
use tokio::net::TcpStream;

use crate::{
    harness::{CI, Client, DEV, Gate, Upstream, field, open_stream, post, shutdown, soon, until},
    mcp::{INITIALIZE, Session, call, command, is_over, modern_call},
};

const OPS: &str = "ops-token-0123456789abcdef";

/// A server that answers, and one that does not; each with one setting.
fn config(setting: &str) -> Value {
    let mut small = command();
    small["env"] = json!({ "SETTING": setting });
    let silent = json!({
        "command": "sh", "args": ["-c", "echo began >&2; exec sleep 60"],
        "env": { "SETTING": setting }, "inheritEnv": ["PATH"],
    });
    let tokens = json!({ "dev": DEV, "ci": CI, "ops": { "value": OPS, "roles": ["admin"] } });
    json!({
        "proxy": { "auth": { "tokens": tokens }, "admin": { "addr": "127.0.0.1:0" } },
        "mcpServers": { "small": small, "silent": silent },
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Stop,
    Restart,
    Reload,
    Remove,
}

impl Change {
    async fn happens(self, gate: &mut Gate) {
        match self {
            Self::Stop | Self::Restart => {
                let action = format!("{self:?}").to_lowercase();
                for server in ["small", "silent"] {
                    let path = format!("/servers/{server}/{action}");
                    assert_eq!(gate.ask(&post(&path, OPS, "", "")).await.0, 200);
                }
            }
            Self::Reload => gate.reload(config("another")),
            Self::Remove => {
                let mut config = config("one");
                config["mcpServers"] = json!({});
                config["proxy"]["allowEmpty"] = json!(true);
                gate.reload(config);
            }
        }
    }
}

fn count(gate: &Gate, stderr: &str) -> usize {
    let is_it = |line: &&Value| line["msg"] == "Server wrote to stderr" && line["line"] == stderr;
    gate.log.all().iter().filter(is_it).count()
}

/// What `waiting` is told, which must not be laid to the server.
async fn told(gate: &Gate, what: &str, change: Change, mut waiting: Client<TcpStream>) {
    let (status, head, body) = waiting.response().await;
    let (expected, code) = match change {
        Change::Remove => (404, r#""not_found""#),
        _ => (503, r#""unavailable""#),
    };
    assert!(status == expected && body.contains(code), "{what}, {change:?}: {status} {body}");
    assert_eq!(field(&head, "retry-after").is_some(), status == 503, "{what}, {change:?}: {head}");
    assert_eq!(gate.upstream_errors(), 0, "{what}, {change:?}");
}

#[tokio::test]
async fn a_request_that_waits_for_what_is_changed_is_told_to_come_again_and_not_that_the_server_failed() {
    for change in [Change::Stop, Change::Restart, Change::Reload, Change::Remove] {
        let mut gate = Gate::start(config("one")).await;
        let session = Session::open(&gate, "/small/mcp", DEV).await;
        let in_session = session.sent(&call(5, "sleep", json!({}))).await;
        let (mut alone, mut first) = (gate.client().await, gate.client().await);
        alone.send(modern_call("/small/mcp", DEV, 1, "sleep", json!({}))).await;
        first.send(post("/silent/mcp", DEV, "", INITIALIZE)).await;
        until("all wait", || (count(&gate, "sleeping"), count(&gate, "began")) == (2, 1)).await;
        change.happens(&mut gate).await;
        told(&gate, "a call of a session", change, in_session).await;
        told(&gate, "a call that stands alone", change, alone).await;
        told(&gate, "initialize", change, first).await;
    }
}

#[tokio::test]
async fn a_stream_that_a_stop_ends_is_no_end_that_the_server_made() {
    let mut gate = Gate::start(config("one")).await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let mut listening = session.listen().await;
    let mut alone = gate.client().await;
    let request = modern_call("/small/mcp", DEV, 1, "burst", json!({}));
    alone
        .send(request.replacen("\r\n\r\n", "\r\nAccept: application/json, text/event-stream\r\n\r\n", 1))
        .await;
    alone.head().await;
    Change::Stop.happens(&mut gate).await;
    is_over(&mut listening).await;
    is_over(&mut alone).await;
    let closed = |line: &&Value| line["msg"] == "Stream closed";
    until("both are told of", || gate.log.all().iter().filter(closed).count() == 2).await;
    for line in gate.log.all().iter().filter(closed) {
        assert_eq!(line["reason"], "drain", "{line}");
    }
    assert!(gate.metrics().contains(r#"stream_cut_total{reason="drain"} 2"#));
}

#[tokio::test]
async fn who_loses_a_server_while_it_waits_is_not_told_that_its_token_is_bad() {
    let server = Upstream::bind().await;
    let config = |tokens: Value, servers: Value| json!({ "proxy": { "auth": { "tokens": tokens }, "allowEmpty": true }, "mcpServers": servers });
    let both = json!({ "dev": DEV, "ci": CI });
    let open = json!({ "db": { "url": server.url("/mcp") }, "small": command() });
    let mut closed = open.clone();
    closed["db"]["authTokens"] = json!(["ci"]);
    closed["small"]["authTokens"] = json!(["ci"]);
    for (mut after, status, code) in [
        (config(both.clone(), closed), 403, "insufficient_scope"),
        (config(both.clone(), json!({})), 404, "not_found"),
        (config(json!({ "ci": CI }), open.clone()), 401, "invalid_token"),
    ] {
        let mut gate = Gate::start(config(both.clone(), open.clone())).await;
        let (mut bytes, mut messages) = (gate.client().await, gate.client().await);
        bytes.send(post("/db/mcp", DEV, "", "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        messages.send(modern_call("/small/mcp", DEV, 1, "sleep", json!({}))).await;
        until("it waits", || count(&gate, "sleeping") == 1).await;
        after["proxy"]["allowEmpty"] = json!(true);
        gate.reload(after);
        for waiting in [&mut bytes, &mut messages] {
            let (seen, _, body) = waiting.response().await;
            assert!(seen == status && body.contains(code), "{status} {code}: {seen} {body}");
        }
    }
}

#[tokio::test]
async fn a_body_that_a_shutdown_does_not_wait_for_is_answered_and_its_client_did_not_leave() {
    let gate = Gate::start(config("one")).await;
    let mut client = gate.client().await;
    let whole = post("/small/mcp", DEV, "", INITIALIZE);
    client.send(&whole[..whole.len() - 5]).await;
    let shared = gate.gateway.shared().clone();
    until("it is there", || shared.ledger.usage(Resource::Requests).1 == 1).await;
    shutdown(gate.gateway, Duration::from_millis(50)).await;
    let (status, _, body) = client.response().await;
    assert!(status == 503 && body.contains(r#""unavailable""#), "{status} {body}");
    gate.log.line("Refused request", &[("status", json!(503)), ("reason", json!("unavailable"))]).await;
}

/// Workers say up to which change they have ended what is not admitted any more. From then on, the count of what was ended is
/// right, without a wait.
#[tokio::test]
async fn once_a_change_is_applied_every_request_that_it_revokes_is_counted() {
    let server = Upstream::bind().await;
    let config =
        |token: &str| json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "authTokens": [token] } } });
    let mut gate = Gate::start(config("dev")).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(open_stream(gate.addr, &server, DEV).await);
    }
    let shared = std::sync::Arc::clone(gate.gateway.shared());
    let before = *shared.changes().borrow();
    gate.reload(config("ci"));
    let generation = *shared.changes().borrow();
    assert!(generation > before, "a reload is a change");
    soon("the change", gate.gateway.wait_applied(generation)).await;
    assert_eq!(shared.revoked(), 6);
    for (mut client, _behind) in streams {
        is_over(&mut client).await;
    }
}
