//! What a reload leaves of the view that callers share of all servers, and what it costs.

use serde_json::{Value, json};
use sluicegate::ledger::Resource;

use super::asked;
use crate::{
    harness::{CI, DEV, Gate, until},
    mcp::{Session, command, demo, modern, modern_call, names, text},
};

/// All servers as one for two tokens, of which each may have two sessions, and a server that only the other one sees.
async fn config(other: &str) -> Value {
    let demo = format!("http://{}/mcp", demo().await);
    json!({
        "proxy": { "limits": { "perCaller": { "sessions": 2 } } },
        "mcpServers": {
            "small": command(), "demo": { "url": demo }, other: { "url": "http://127.0.0.1:9", "authTokens": ["ci"] },
        },
    })
}

async fn listed(gate: &Gate) -> Vec<String> {
    let (status, listed) = asked(gate, &modern("/mcp", DEV, 1, "tools/list", json!({}))).await;
    assert_eq!(status, 200, "{listed}");
    names(&listed)
}

async fn pid(gate: &Gate) -> String {
    let (status, answer) = asked(gate, &modern_call("/mcp", DEV, 1, "small__pid", json!({}))).await;
    assert_eq!(status, 200, "{answer}");
    text(&answer)
}

#[tokio::test]
async fn a_reload_leaves_the_shared_view_as_it_is_and_it_is_counted_once() {
    let mut config = config("a").await;
    let mut gate = Gate::start(config.clone()).await;
    let session = Session::open(&gate, "/mcp", DEV).await;
    let _stream = session.listen().await;
    let sessions = || gate.gateway.shared().ledger.usage(Resource::Sessions).1;
    let process = pid(&gate).await;
    assert_eq!(sessions(), 2);
    // A server that this caller does not see.
    let mut other = config.clone();
    other["mcpServers"]["b"] = other["mcpServers"]["a"].clone();
    gate.reload(other);
    assert_eq!(pid(&gate).await, process, "the same conversation");
    // One that it sees.
    config["mcpServers"]["demo"]["options"] = json!({ "toolFilter": { "mode": "allow", "list": ["clock"] } });
    gate.reload(config.clone());
    assert!(!listed(&gate).await.contains(&"demo__echo".into()));
    assert_eq!(pid(&gate).await, process);
    // Another view, of which the one before is not counted.
    config["proxy"]["aggregate"]["separator"] = json!(".");
    gate.reload(config.clone());
    assert!(listed(&gate).await.contains(&"small.pid".into()));
    // Whoever had it.
    config["proxy"]["auth"]["tokens"] = json!({ "ci": CI });
    gate.reload(config);
    until("nothing is counted", || gate.gateway.shared().ledger.usage(Resource::Sessions).1 == 0).await;
}

#[tokio::test]
async fn a_server_that_a_reload_mends_is_there_at_once_in_a_view_that_knew_it_broken() {
    let good = config("a").await;
    let mut broken = good.clone();
    broken["mcpServers"]["small"]["command"] = json!("false");
    broken["mcpServers"]["demo"]["url"] = json!("http://127.0.0.1:9/mcp");
    let mut gate = Gate::start(broken).await;
    let known = listed(&gate).await;
    assert!(!known.contains(&"small__echo".into()) && !known.contains(&"demo__echo".into()));
    gate.reload(good);
    let known = listed(&gate).await;
    assert!(known.contains(&"small__echo".into()) && known.contains(&"demo__echo".into()), "{known:?}");
}

/// A server whose tool repeats its argument in a header field of this name.
fn repeats(field: &str) -> Value {
    let schema =
        json!({ "type": "object", "properties": { "a": { "type": "string", "x-mcp-header": field } } });
    json!({ "inline": { "tools": [
        { "name": "t", "inputSchema": schema, "command": "echo", "args": ["{{a}}"] },
    ] } })
}

#[tokio::test]
async fn calls_are_checked_by_the_tools_that_a_reload_brought() {
    let of = |field| json!({ "mcpServers": { "own": repeats(field) } });
    let mut gate = Gate::start(of("One")).await;
    let called = async |gate: &Gate, field: &str| {
        let call = modern_call("/mcp", DEV, 1, "own__t", json!({ "a": "x" }));
        let call = call.replacen("\r\n", &format!("\r\nMcp-Param-{field}: x\r\n"), 1);
        asked(gate, &call).await.0
    };
    assert_eq!(called(&gate, "One").await, 200);
    gate.reload(of("Two"));
    assert_eq!((called(&gate, "Two").await, called(&gate, "One").await), (200, 400));
}
