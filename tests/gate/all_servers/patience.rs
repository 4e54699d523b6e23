//! Every time-out that is configured holds where all servers are one.

use serde_json::{Value, json};
use sluicegate::servers::Backend;

use super::{config, open};
use crate::{
    harness::{DEV, Gate, field, post, until},
    mcp::{INITIALIZE, Session, call, command, is_alive, is_gone, request},
};

/// Processes that run for a server.
fn processes(gate: &Gate, name: &str) -> usize {
    let live = gate.gateway.shared().live();
    let Backend::Stdio(supervisors) = &live.entry(name).unwrap().backend else { panic!("no command") };
    supervisors.running()
}

#[tokio::test]
async fn a_call_takes_no_longer_than_the_timeout_of_its_server() {
    let config = config().await;
    let mut gate = Gate::start(config.clone()).await;
    let (all, one) = (open(&gate).await, Session::open(&gate, "/small/mcp", DEV).await);
    // Only now, since the start may take longer.
    let mut brief = config.clone();
    brief["mcpServers"]["small"]["timeout"] = json!("300ms");
    gate.reload(brief);
    for (session, tool) in [(&all, "small__sleep"), (&one, "sleep")] {
        let (status, body) = session.post(&call(1, tool, json!({}))).await;
        assert!(status == 504 && body.contains("upstream_timeout"), "{tool} {status} {body}");
    }
    until("both servers heard of it", || gate.log.text().matches("cancelled").count() == 2).await;
    assert!(!gate.gateway.shared().live().entry("small").unwrap().is_running());
    gate.reload(config);
    let session = open(&gate).await;
    assert_eq!(session.call("small__echo", json!({ "text": "on" })).await, "on");
    assert!(gate.gateway.shared().live().entry("small").unwrap().is_running());
}

#[tokio::test]
async fn a_session_with_all_servers_lasts_as_long_as_sessions_do() {
    let mut config = config().await;
    config["proxy"]["sessions"] = json!({ "timeout": "1s" });
    let gate = Gate::start(config).await;
    // Its client sends nothing more, not even that it has the answer.
    let (status, head, body) = gate.ask(&post("/mcp", DEV, "", INITIALIZE)).await;
    assert_eq!(status, 200, "{body}");
    until("the session is gone", || gate.gateway.shared().sessions.is_empty()).await;
    until("its process is gone", || processes(&gate, "small") == 0).await;
    let session = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    let late = post("/mcp", DEV, &session, &request(1, "tools/list", json!({})));
    assert_eq!(gate.ask(&late).await.0, 404);
}

#[tokio::test]
async fn a_session_with_all_servers_lasts_as_long_as_that_of_any_of_them() {
    let mut config = config().await;
    config["proxy"]["sessions"] = json!({ "timeout": "1s" });
    config["mcpServers"]["small"]["idleTimeout"] = json!("1h");
    config["mcpServers"]["brief"] = command();
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    let pid = async |server: &str| -> u32 {
        session.call(&format!("{server}__pid"), json!({})).await.parse().unwrap()
    };
    let (small, brief) = (pid("small").await, pid("brief").await);
    // One goes when its own time is over, and is there again when it is needed.
    is_gone(brief).await;
    assert!(is_alive(small));
    until("it is counted no more", || processes(&gate, "brief") == 0).await;
    assert_eq!((pid("small").await, processes(&gate, "brief")), (small, 0));
    assert_ne!(pid("brief").await, brief);
}

#[tokio::test]
async fn a_process_that_never_answers_initialize_is_given_up() {
    let mut config = config().await;
    config["mcpServers"]["silent"] = json!({ "command": "sleep", "args": ["1000"], "timeout": "1s" });
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    until("its process is gone", || processes(&gate, "silent") == 0).await;
    let problem: Option<String> = gate.gateway.shared().live().entry("silent").unwrap().health.problem();
    assert_eq!(problem.as_deref(), Some("no answer to initialize in time"));
    let line: Value = gate
        .log
        .line("Server left out of all servers as one", &[("cause", json!("no answer to initialize in time"))])
        .await;
    assert_eq!(line["server"], "silent");
    assert_eq!(session.call("small__echo", json!({ "text": "on" })).await, "on");
}
