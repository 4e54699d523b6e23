//! A member whose list fails is seen, and costs only that list.

use serde_json::{Value, json};

use super::{config, open, seen};
use crate::{
    harness::{DEV, Gate, post},
    mcp::{demo, request},
    scripted::{Scripted, answers, greets, response},
};

/// How a server answers `tools/list`.
type Reply = fn(&Value) -> Option<Vec<u8>>;

async fn beside_demo(reply: Reply) -> (Gate, Scripted) {
    let server = Scripted::start(move |asked| match asked["method"].as_str() {
        Some("initialize") => greets(asked, json!({ "tools": {} })),
        Some("tools/list") => reply(asked),
        _ => None,
    })
    .await;
    let demo = format!("http://{}/mcp", demo().await);
    let gate = Gate::start(json!({ "mcpServers": {
        "demo": { "url": demo }, "broken": { "url": server.url() },
    } }))
    .await;
    (gate, server)
}

fn problem(gate: &Gate, name: &str) -> Option<String> {
    gate.gateway.shared().live().entry(name).unwrap().health.problem()
}

#[tokio::test]
async fn a_list_that_fails_is_in_the_log_the_metrics_and_servers_and_the_others_are_there() {
    let replies: [(&str, Reply); 8] = [
        ("neither JSON nor an event stream", |_| {
            Some(response(200, "Content-Type: text/html\r\n", "<html>Please log in</html>"))
        }),
        ("answered 500", |_| Some(response(500, "Content-Type: text/plain\r\n", "no"))),
        ("error -32603", |asked| {
            answers(asked, json!({ "error": { "code": -32603, "message": "Please log in" } }))
        }),
        ("the result is no object", |asked| answers(asked, json!({ "result": [] }))),
        ("list is none", |asked| answers(asked, json!({ "result": { "tools": { "a": 1 } } }))),
        ("nextCursor is no string", |asked| {
            answers(asked, json!({ "result": { "tools": [], "nextCursor": 7 } }))
        }),
        ("compressed although identity was asked for", |_| {
            Some(response(200, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "x"))
        }),
        ("refused", |_| Some(response(307, "Location: /elsewhere\r\n", ""))),
    ];
    for (why, reply) in replies {
        let (gate, _server) = beside_demo(reply).await;
        let session = open(&gate).await;
        assert_eq!(seen(&session).await, ["demo"], "{why}");
        let missing = "A server's list is missing from all servers as one";
        let line = gate.log.line(missing, &[("server", json!("broken"))]).await;
        assert_eq!((&line["level"], &line["rpc_method"]), (&json!("WARN"), &json!("tools/list")));
        let shown = problem(&gate, "broken").unwrap_or_default();
        if why != "refused" {
            assert!(line["cause"].as_str().unwrap().contains(why) && shown.contains(why), "{line} {shown}");
        }
        assert!(!line.to_string().contains("log in") && !shown.contains("log in"), "{line} {shown}");
        assert_eq!(problem(&gate, "demo"), None);
        let counted = r#"sluicegate_upstream_errors_total{kind="upstream_"#;
        assert!(
            gate.metrics().lines().any(|line| line.starts_with(counted) && line.contains("broken")),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_list_that_comes_again_is_no_problem_any_more() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };
    let is_well = Arc::new(AtomicBool::new(false));
    let of_server = Arc::clone(&is_well);
    let server = Scripted::start(move |asked| match asked["method"].as_str() {
        Some("initialize") => greets(asked, json!({ "tools": {} })),
        Some("tools/list") if of_server.load(Relaxed) => {
            // Only what was asked for counts.
            answers(asked, json!({ "result": { "tools": [{ "name": "a" }], "resources": null } }))
        }
        Some("tools/list") => Some(response(500, "", "")),
        _ => None,
    })
    .await;
    let gate = Gate::start(json!({ "mcpServers": { "one": { "url": server.url() } } })).await;
    let session = open(&gate).await;
    session.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    let shown = problem(&gate, "one").unwrap();
    assert!(shown.contains("tools/list"), "{shown}");
    assert!(gate.gateway.shared().live().entry("one").unwrap().is_running(), "its calls pass");
    is_well.store(true, Relaxed);
    assert_eq!(session.tools().await, ["one__a"]);
    assert_eq!(problem(&gate, "one"), None);
}

#[tokio::test]
async fn tools_without_the_capability_are_listed_as_at_the_own_path() {
    let server = Scripted::start(|asked| match asked["method"].as_str() {
        Some("initialize") => greets(asked, json!({})),
        Some("tools/list") => answers(asked, json!({ "result": { "tools": [{ "name": "a" }] } })),
        _ => None,
    })
    .await;
    let mut config = config().await;
    config["mcpServers"]["shy"] = json!({ "url": server.url() });
    let gate = Gate::start(config).await;
    let listed = gate.ask(&post("/shy/mcp", DEV, "", &request(1, "tools/list", json!({})))).await;
    assert!(listed.2.contains(r#""name":"a""#), "{listed:?}");
    let session = open(&gate).await;
    assert_eq!(seen(&session).await, ["demo", "own", "shy", "small"]);
}
