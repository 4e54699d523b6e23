//! What callers who share a process can do to it, and through it to each other: nothing.

use serde_json::{Value, json};
use sluicegate::{identity::credential_key::CredentialKey, ledger::OwnerName, servers::SharedKey};

use crate::{
    harness::{CI, DEV, Gate, post, until},
    mcp::{Session, command, event, modern, modern_call, request, text},
};

/// [`shared_server.py`](shared_server.py) says what it is like.
async fn start() -> Gate {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/shared_server.py");
    let server = json!({ "command": "python3", "args": [server], "inheritEnv": ["PATH"] });
    Gate::start(json!({ "mcpServers": { "s": server } })).await
}

async fn asked(gate: &Gate, token: &str, method: &str, params: Value) -> (u16, Value) {
    let named = params["taskId"].as_str().map(|task| format!("Mcp-Name: {task}\r\n")).unwrap_or_default();
    let request = modern("/s/mcp", token, 1, method, params);
    let request = request.replacen("Mcp-Method:", &format!("{named}Mcp-Method:"), 1);
    let (status, _, body) = gate.ask(&request).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_decide_which_era_a_process_is_of_for_all() {
    let gate = start().await;
    let mut leaving = gate.client().await;
    leaving.send(modern("/s/mcp", DEV, 1, "server/discover", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("probed"))]).await;
    drop(leaving);
    // It hears of it from the gateway, in words of the era.
    until("the server heard of it", || gate.log.text().contains("cancelled in a")).await;
    assert!(gate.log.text().contains("cancelled in a probe"), "{}", gate.log.text());
    let (status, answer) = asked(&gate, CI, "tools/list", json!({})).await;
    assert_eq!((status, &answer["result"]["tools"][0]["name"]), (200, &json!("make")), "{answer}");
}

#[tokio::test]
async fn a_message_of_another_version_does_not_reach_a_process_that_callers_share() {
    let gate = start().await;
    for version in ["2025-11-25", "2099-01-01", "2026-07-28 "] {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let fields = format!("MCP-Protocol-Version: {version}\r\nMcp-Method: server/discover\r\n");
        let body = request(7, "server/discover", json!({ "_meta": meta }));
        let (status, _, body) = gate.ask(&post("/s/mcp", DEV, &fields, &body)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        if version.ends_with(' ') {
            assert_eq!((status, &body["error"]["code"]), (400, &json!(-32020)), "{body}");
            continue;
        }
        assert_eq!(
            (status, &body["id"], &body["error"]["code"]),
            (400, &json!(7), &json!(-32022)),
            "{version}"
        );
        assert_eq!(body["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": version }));
    }
    assert_eq!(asked(&gate, CI, "tools/list", json!({})).await.0, 200);
    assert!(!gate.log.text().contains("probed"), "none of them came there");
}

#[tokio::test]
async fn a_task_is_its_owners_and_another_caller_is_told_that_there_is_none() {
    let gate = start().await;
    let (_, made) = asked(&gate, CI, "tools/call", json!({ "name": "make", "arguments": {} })).await;
    assert_eq!(made["result"]["taskId"], "task-1");
    let (_, never) = asked(&gate, DEV, "tasks/get", json!({ "taskId": "task-9" })).await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel", "tasks/result"] {
        let (status, answer) = asked(&gate, DEV, method, json!({ "taskId": "task-1" })).await;
        assert_eq!((status, &answer), (200, &never), "{method}");
        assert_eq!(answer["error"]["code"], -32602);
    }
    assert_eq!(asked(&gate, DEV, "tasks/list", json!({})).await.0, 404);
    let filter = json!({ "notifications": { "taskIds": ["task-1"] } });
    assert_eq!(asked(&gate, DEV, "subscriptions/listen", filter).await.1["error"]["code"], -32602);
    assert!(!gate.log.text().contains("task-"), "the server was asked: {}", gate.log.text());

    for (method, status) in
        [("tasks/get", "working"), ("tasks/cancel", "cancelled"), ("tasks/get", "cancelled")]
    {
        let (_, answer) = asked(&gate, CI, method, json!({ "taskId": "task-1" })).await;
        assert_eq!(answer["result"]["status"], status, "{method}: {answer}");
    }
}

/// A command server behind a gateway with these limits.
async fn small(limits: Value) -> Gate {
    Gate::start(json!({ "proxy": { "limits": limits }, "mcpServers": { "small": command() } })).await
}

async fn pid(gate: &Gate, token: &str) -> String {
    let (status, _, body) = gate.ask(&modern_call("/small/mcp", token, 1, "pid", json!({}))).await;
    assert_eq!(status, 200, "{body}");
    text(&serde_json::from_str(&body).unwrap())
}

fn is_apart(gate: &Gate, token: &str) -> bool {
    let live = gate.gateway.shared().live();
    live.entry("small").unwrap().shared_links.quarantine().has(&OwnerName::Token(token.into()))
}

#[tokio::test]
async fn who_only_listened_when_a_process_ended_goes_on_to_share() {
    let gate = small(json!({})).await;
    let mut listening = gate.client().await;
    let filter = json!({ "notifications": { "toolsListChanged": true } });
    listening.send(modern("/small/mcp", DEV, 1, "subscriptions/listen", filter)).await;
    listening.head().await;
    assert_eq!(event(&mut listening).await["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(gate.ask(&modern_call("/small/mcp", CI, 1, "die", json!({}))).await.0, 502);
    assert_eq!(event(&mut listening).await["error"]["code"], 502);
    assert_eq!((is_apart(&gate, "dev"), is_apart(&gate, "ci")), (false, true));
    assert_ne!(pid(&gate, DEV).await, pid(&gate, CI).await, "who called has one of its own");
}

#[tokio::test]
async fn a_subscription_that_ends_the_process_is_its_callers_and_the_others_wait_for_nothing() {
    let gate = small(json!({})).await;
    let poison = json!({ "notifications": { "resourceSubscriptions": ["note://poison"] } });
    let listen = || modern("/small/mcp", DEV, 1, "subscriptions/listen", poison.clone());
    assert_eq!(gate.ask(&listen()).await.0, 502);
    assert!(is_apart(&gate, "dev"));
    let shared = pid(&gate, CI).await;
    for _ in 0..2 {
        assert_eq!(gate.ask(&listen()).await.0, 502);
        assert_eq!(pid(&gate, CI).await, shared, "it ends its own");
    }
}

#[tokio::test]
async fn who_calls_and_hangs_up_before_the_process_ends_does_not_end_the_next_one() {
    let gate = small(json!({})).await;
    let mut leaving = gate.client().await;
    leaving.send(modern_call("/small/mcp", DEV, 1, "grudge", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("bearing a grudge"))]).await;
    drop(leaving);
    until("it is known who left", || is_apart(&gate, "dev")).await;
    assert_ne!(pid(&gate, DEV).await, pid(&gate, CI).await);
    assert!(!is_apart(&gate, "ci"));
}

#[tokio::test]
async fn who_can_have_no_process_of_its_own_does_not_come_back_to_that_of_the_others() {
    let gate = small(json!({ "perCaller": { "sessions": 1 } })).await;
    let _session = Session::open(&gate, "/small/mcp", DEV).await;
    let die = modern_call("/small/mcp", DEV, 1, "die", json!({}));
    assert_eq!(gate.ask(&die).await.0, 502);
    let mut modest = gate.client().await;
    modest.send(modern_call("/small/mcp", CI, 1, "sleep", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    let (status, head, body) = gate.ask(&die).await;
    assert_eq!(status, 429, "{body}");
    assert!(head.to_lowercase().contains("retry-after:"), "{head}");
    drop(modest);
    // Nobody else is there: it may, once.
    until("nobody else is there", || {
        let live = gate.gateway.shared().live();
        live.entry("small").unwrap().shared_links.is_unused(&SharedKey::Everyone(CredentialKey::STATIC))
    })
    .await;
    assert_eq!(gate.ask(&die).await.0, 502);
    assert_eq!(gate.ask(&die).await.0, 429);
}

#[tokio::test]
async fn who_may_have_no_process_of_its_own_shares_all_the_same() {
    let gate = small(json!({ "perCaller": { "sessions": 1 } })).await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "die", json!({}))).await.0, 502);
    assert!(is_apart(&gate, "dev"));
    let shared = pid(&gate, CI).await;
    assert_eq!(pid(&gate, DEV).await, shared);
    // With room again, it has one.
    assert_eq!(session.delete().await, 204);
    until("room again", || gate.gateway.shared().sessions.is_empty()).await;
    assert_ne!(pid(&gate, DEV).await, shared);
}
