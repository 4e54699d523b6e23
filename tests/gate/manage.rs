//! `/servers`: what an operator sees and does.

use serde_json::{Value, json};

use crate::harness::{DEV, Gate, get, post};

const OPS: &str = "ops-token-0123456789abcdef";

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

async fn gate(servers: Value) -> Gate {
    let tokens = json!({ "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } });
    let proxy = json!({ "auth": { "kind": "bearer_token", "tokens": tokens } });
    Gate::start(json!({ "proxy": proxy, "mcpServers": servers })).await
}

fn small() -> Value {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/stdio_server.py");
    json!({ "command": "python3", "args": [server], "inheritEnv": ["PATH"] })
}

async fn seen(gate: &Gate, request: &str) -> Value {
    let (status, _, body) = gate.ask(request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_stopped_server_has_no_session_and_takes_none_until_it_is_started() {
    let gate = gate(json!({ "small": small() })).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 200);
    let one = seen(&gate, &get("/servers/small", OPS, "")).await;
    assert_eq!((&one["running"], &one["sessions"], &one["processes"]), (&json!(true), &json!(1), &json!(1)));

    let stopped = seen(&gate, &post("/servers/small/stop", OPS, "", "")).await;
    assert_eq!((&stopped["running"], &stopped["stopped"]), (&json!(false), &json!(true)));
    let (status, head, _) = gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await;
    assert!(status == 503 && head.contains("retry-after"), "{head}");
    gate.log.line("Server process ended", &[("server", json!("small"))]).await;

    seen(&gate, &post("/servers/small/start", OPS, "", "")).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 200);
    let (status, ..) = gate.ask(&post("/servers/small/stop", DEV, "", "")).await;
    assert_eq!(status, 403, "a token without the role");
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_shown_until_it_runs() {
    let mut gate = gate(json!({ "small": { "command": "/no/such/program" } })).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 502);
    let problem = seen(&gate, &get("/servers/small", OPS, "")).await["problem"].to_string();
    assert!(problem.contains("No such file"), "{problem}");

    let tokens = json!({ "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } });
    let proxy = json!({ "auth": { "kind": "bearer_token", "tokens": tokens } });
    gate.reload(json!({ "proxy": proxy, "mcpServers": { "small": small() } }));
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 200);
    assert_eq!(seen(&gate, &get("/servers/small", OPS, "")).await["problem"], Value::Null);
}

#[tokio::test]
async fn a_restart_is_no_problem_once_the_server_runs_again() {
    let gate = gate(json!({ "small": small() })).await;
    assert_eq!(gate.ask(&post("/mcp", DEV, "", INITIALIZE)).await.0, 200);
    seen(&gate, &post("/servers/small/restart", OPS, "", "")).await;
    gate.log.line("Server left out of all servers as one", &[("server", json!("small"))]).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 200);
    let one = seen(&gate, &get("/servers/small", OPS, "")).await;
    assert_eq!((&one["running"], &one["problem"]), (&json!(true), &Value::Null));
}
