//! Command servers behind the gateway: a real process, real sockets, raw HTTP.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, field, get, pause, post, shutdown, soon, until},
    mcp::{INITIALIZE, Session, call, command, event, is_alive, is_gone, is_stream, modern_call, text},
    process::Process,
};

fn config() -> Value {
    json!({ "mcpServers": { "small": command() } })
}

async fn open(gate: &Gate) -> Session {
    let session = Session::open(gate, "/small/mcp", DEV).await;
    assert_eq!(session.greeting["result"]["serverInfo"]["name"], "small");
    session
}

#[tokio::test]
async fn a_client_initializes_lists_calls_and_leaves_and_the_process_goes_with_it() {
    let gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let (status, list) = session.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert!(status == 200 && list.contains(r#""echo""#), "{list}");
    assert_eq!(session.call("echo", json!({ "text": "grün" })).await, "grün");
    let pid = session.pid().await;
    assert!(is_alive(pid));

    assert_eq!(session.delete().await, 204);
    is_gone(pid).await;
    let (status, body) = session.post(&call(1, "pid", json!({}))).await;
    assert!(status == 404 && body.contains("session_not_found"), "{status} {body}");
}

#[tokio::test]
async fn the_process_sees_what_the_config_gives_it_and_nothing_else() {
    let gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let seen = session.call("env", json!({})).await;
    assert!(seen.contains("GREETING") && seen.contains("PATH"), "{seen}");
    // What the gateway itself has in these tests; a launcher of Python may add variables of its own.
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "HOME"] {
        assert!(std::env::var_os(name).is_some(), "{name}");
        assert!(!seen.split(' ').any(|seen| seen == name), "{seen}");
    }
}

#[tokio::test]
async fn every_session_has_a_process_of_its_own_and_belongs_to_its_caller() {
    let gate = Gate::start(config()).await;
    let (one, two) = (open(&gate).await, open(&gate).await);
    assert_ne!(one.pid().await, two.pid().await);
    for token in [CI, "nobody"] {
        let (status, ..) = gate.ask(&post("/small/mcp", token, &one.field, &call(1, "pid", json!({})))).await;
        assert_eq!(status, if token == CI { 404 } else { 401 });
    }
    let without = gate.ask(&post("/small/mcp", DEV, "", &call(1, "pid", json!({})))).await;
    assert!(without.0 == 400 && without.2.contains("session_required"), "{without:?}");
}

#[tokio::test]
async fn progress_and_log_messages_come_before_the_answer_that_they_belong_to() {
    let gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let mut client = session.stream(&call(3, "progress", json!({}))).await;
    for step in [1, 2] {
        let progress = event(&mut client).await;
        assert_eq!(progress["params"], json!({ "progressToken": "p3", "progress": step }));
    }
    assert_eq!(event(&mut client).await["id"], 3);
    assert_eq!(client.chunk().await, None, "the answer is the last");

    let mut client = session.stream(&call(4, "log", json!({}))).await;
    assert_eq!(event(&mut client).await["params"]["data"], "a line");
    assert_eq!(event(&mut client).await["id"], 4);
}

#[tokio::test]
async fn what_a_server_asks_its_client_is_answered_by_a_post_of_its_own() {
    let gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let mut client = session.stream(&call(5, "ask", json!({}))).await;
    let question = event(&mut client).await;
    assert_eq!((&question["method"], &question["id"]), (&json!("sampling/createMessage"), &json!(5)));
    let answer = json!({ "jsonrpc": "2.0", "id": 5, "result": { "model": "m" } }).to_string();
    assert_eq!(session.post(&answer).await.0, 202);
    let result = event(&mut client).await;
    assert_eq!(result["result"]["content"][0]["text"], r#"it said {"model": "m"}"#);
}

#[tokio::test]
async fn a_killed_process_is_an_error_for_everyone_who_waits() {
    let gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let pid = session.pid().await;
    let mut waiting = gate.client().await;
    waiting.send(post("/small/mcp", DEV, &session.field, &call(1, "sleep", json!({})))).await;
    gate.log.line("Server wrote to stderr", &[("server", json!("small")), ("line", json!("sleeping"))]).await;

    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    let (status, _, body) = waiting.response().await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    assert_eq!(session.post(&call(2, "pid", json!({}))).await.0, 404);
    assert_ne!(open(&gate).await.pid().await, pid);
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_time_out_and_is_told_that_nobody_waits() {
    let mut gate = Gate::start(config()).await;
    let session = open(&gate).await;
    // Only now, since the start may take longer.
    let mut brief = config();
    brief["mcpServers"]["small"]["timeout"] = json!("300ms");
    gate.reload(brief);
    let (status, body) = session.post(&call(9, "sleep", json!({}))).await;
    assert!(status == 504 && body.contains("upstream_timeout"), "{status} {body}");
    gate.log.line("Server wrote to stderr", &[("line", json!("cancelled 9"))]).await;
    gate.reload(config());
    assert_eq!(session.call("echo", json!({ "text": "still here" })).await, "still here");
}

#[tokio::test]
async fn a_token_taken_out_ends_its_sessions_and_their_processes() {
    let mut gate = Gate::start(config()).await;
    let pid = open(&gate).await.pid().await;
    let mut without = config();
    without["proxy"] = json!({ "auth": { "tokens": { "ci": CI } } });
    gate.reload(without);
    is_gone(pid).await;
}

#[tokio::test]
async fn a_public_command_serves_whoever_comes_until_it_is_public_no_more() {
    let mut public = config();
    public["mcpServers"]["small"]["public"] = json!(true);
    let mut gate = Gate::start(public).await;
    let anonymous = |request: String| request.replacen(&format!("Authorization: Bearer {DEV}\r\n"), "", 1);
    let (status, head, body) = gate.ask(&anonymous(post("/small/mcp", DEV, "", INITIALIZE))).await;
    assert_eq!(status, 200, "{body}");
    let field = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    let request = anonymous(post("/small/mcp", DEV, &field, &call(1, "pid", json!({}))));
    let (status, _, body) = gate.ask(&request).await;
    assert_eq!(status, 200, "{body}");
    let pid = text(&serde_json::from_str(&body).unwrap()).parse().unwrap();
    gate.reload(config());
    is_gone(pid).await;
    assert_eq!(gate.ask(&request).await.0, 401);
}

#[tokio::test]
async fn a_changed_command_ends_what_ran_and_an_unchanged_one_is_left_alone() {
    let mut gate = Gate::start(config()).await;
    let session = open(&gate).await;
    let pid = session.pid().await;
    let mut changed = config();
    changed["mcpServers"]["other"] = json!({ "url": "http://127.0.0.1:1/mcp" });
    gate.reload(changed.clone());
    assert_eq!(session.pid().await, pid);
    let field = session.field.clone();
    changed["mcpServers"]["small"]["env"]["GREETING"] = json!("good morning");
    gate.reload(changed);
    is_gone(pid).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, &field, &call(1, "pid", json!({})))).await.0, 404);
}

#[tokio::test]
async fn over_http_sse_answers_come_in_the_stream_and_leaving_ends_the_process() {
    let gate = Gate::start(config()).await;
    let mut stream = gate.client().await;
    stream.send(get("/small/sse", DEV, "Accept: text/event-stream\r\n")).await;
    is_stream(&stream.head().await);
    let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
    assert!(url.starts_with("/small/message?sessionId="), "{url}");

    for (token, status) in [(CI, 404), (DEV, 202)] {
        assert_eq!(gate.ask(&post(&url, token, "", INITIALIZE)).await.0, status);
    }
    assert_eq!(event(&mut stream).await["result"]["serverInfo"]["name"], "small");
    assert_eq!(gate.ask(&post(&url, DEV, "", &call(1, "pid", json!({})))).await.0, 202);
    let pid = text(&event(&mut stream).await).parse().unwrap();
    assert!(is_alive(pid));
    drop(stream);
    is_gone(pid).await;
    assert_eq!(gate.ask(&post(&url, DEV, "", INITIALIZE)).await.0, 404);
}

#[tokio::test]
async fn a_token_in_the_query_opens_both_transports_where_the_config_takes_it() {
    let mut config = config();
    config["proxy"] = json!({ "auth": { "queryToken": true, "tokens": { "dev": DEV, "ci": CI } } });
    let gate = Gate::start(config).await;
    let bare = |request: String| request.replacen("Authorization: Bearer x\r\n", "", 1);
    for path in ["/small/mcp", "/mcp"] {
        let query = format!("{path}?token={DEV}");
        assert_eq!(gate.ask(&bare(post(&query, "x", "", INITIALIZE))).await.0, 200, "{path}");
    }
    for path in ["/small/sse", "/sse"] {
        let mut stream = gate.client().await;
        stream.send(bare(get(&format!("{path}?token={DEV}"), "x", ""))).await;
        is_stream(&stream.head().await);
        let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
        assert!(!opening.contains(DEV), "{opening}");
        let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
        assert_eq!(gate.ask(&bare(post(&url, "x", "", INITIALIZE))).await.0, 401);
        for (token, status) in [(CI, 404), (DEV, 202)] {
            let url = format!("{url}&token={token}");
            assert_eq!(gate.ask(&bare(post(&url, "x", "", INITIALIZE))).await.0, status, "{path}");
        }
        assert_eq!(event(&mut stream).await["id"], 0);
    }
    assert!(!gate.log.text().contains(DEV));
}

fn modern(id: u64, tool: &str, arguments: Value) -> String {
    modern_call("/small/mcp", DEV, id, tool, arguments)
}

#[tokio::test]
async fn from_2026_on_callers_share_a_process_and_each_gets_its_own_answer() {
    let gate = Gate::start(config()).await;
    let mut pids = Vec::new();
    for _ in 0..2 {
        let (status, head, body) = gate.ask(&modern(1, "pid", json!({}))).await;
        assert_eq!((status, field(&head, "mcp-session-id")), (200, None), "{body}");
        pids.push(text(&serde_json::from_str(&body).unwrap()));
    }
    assert_eq!(pids[0], pids[1]);
    // Twenty at a time, all with the same id.
    let mut callers = Vec::new();
    for n in 0..20 {
        let mut client = gate.client().await;
        client.send(modern(1, "echo", json!({ "text": format!("caller {n}") }))).await;
        callers.push(client);
    }
    for (n, client) in callers.iter_mut().enumerate() {
        let (status, _, body) = client.response().await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["id"], text(&body)), (200, &json!(1), format!("caller {n}")));
    }

    let mut client = gate.client().await;
    client.send(modern(1, "progress", json!({}))).await;
    client.head().await;
    assert_eq!(event(&mut client).await["params"]["progressToken"], 1);
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_its_own_request_and_no_other() {
    let gate = Gate::start(config()).await;
    let mut leaving = gate.client().await;
    leaving.send(modern(1, "sleep", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    drop(leaving);
    until("the server heard of it", || gate.log.text().contains("cancelled")).await;
    let (status, _, body) = gate.ask(&modern(1, "echo", json!({ "text": "on" }))).await;
    assert_eq!((status, text(&serde_json::from_str(&body).unwrap())), (200, "on".into()));
}

#[tokio::test]
async fn headers_that_say_something_else_than_the_body_are_refused_before_the_process_sees_it() {
    let gate = Gate::start(config()).await;
    let request = modern(1, "echo", json!({})).replace("Mcp-Name: echo", "Mcp-Name: die");
    let (status, _, body) = gate.ask(&request).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error"]["code"], &body["id"]), (400, &json!(-32020), &json!(1)));
    let request = modern(1, "echo", json!({})).replace("tools/call", "tools/fail");
    assert_eq!(gate.ask(&request).await.0, 404, "an unknown method");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_a_bad_gateway_that_the_log_explains() {
    let gate = Gate::start(json!({ "mcpServers": { "small": { "command": "/no/such/program" } } })).await;
    let (status, _, body) = gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    assert!(!body.contains("no/such"), "{body}");
    gate.log.line("Authenticated request", &[("status", json!(502))]).await;
}

#[tokio::test]
async fn shutdown_leaves_no_process_behind() {
    let gate = Gate::start(config()).await;
    let pid = open(&gate).await.pid().await;
    let Gate { gateway, .. } = gate;
    soon("the end", shutdown(gateway, std::time::Duration::from_secs(5))).await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn an_inline_command_and_what_it_started_end_with_a_gate_that_is_killed() {
    // In a config, a dollar sign is two.
    let script = "sleep 1000 & echo $! $$$$ > pids.new; mv pids.new pids; wait";
    let dir = tempfile::TempDir::new().unwrap();
    let script = format!("cd {}; {script}", dir.path().display());
    let tool = json!({ "name": "wait", "command": "sh", "args": ["-c", script], "timeout": "20m" });
    let gate = Process::start(json!({ "mcpServers": { "tools": { "inline": { "tools": [tool] } } } })).await;
    let mut client = gate.client().await;
    client.send(post("/tools/mcp", DEV, "", INITIALIZE)).await;
    let (_, head, _) = client.response().await;
    let session = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    client.send(post("/tools/mcp", DEV, &session, &call(1, "wait", json!({})))).await;
    let pids = dir.path().join("pids");
    until("the command runs", || pids.exists()).await;

    gate.signal(Signal::KILL);
    for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
        is_gone(pid.parse().unwrap()).await;
    }
}

/// The config with `env` hidden.
fn without_env() -> Value {
    let mut config = config();
    config["mcpServers"]["small"]["options"] = json!({ "toolFilter": { "mode": "block", "list": ["env"] } });
    config
}

#[tokio::test]
async fn a_changed_tool_filter_holds_in_a_session_that_began_before_it() {
    let mut gate = Gate::start(config()).await;
    let session = open(&gate).await;
    assert!(session.call("env", json!({})).await.contains("GREETING"));
    gate.reload(without_env());
    let (_, refused) = session.post(&call(1, "env", json!({}))).await;
    assert!(refused.contains("Unknown tool"), "{refused}");
    assert_eq!(session.call("echo", json!({ "text": "there" })).await, "there");
}

#[tokio::test]
async fn a_changed_tool_filter_holds_in_sessions_with_all_servers_that_began_before_it() {
    let mut gate = Gate::start(config()).await;
    let session = Session::open(&gate, "/mcp", DEV).await;
    assert!(session.call("small__env", json!({})).await.contains("GREETING"));
    gate.reload(without_env());
    let (_, refused) = session.post(&call(1, "small__env", json!({}))).await;
    assert!(refused.contains("Unknown tool"), "{refused}");
    assert_eq!(session.call("small__echo", json!({ "text": "there" })).await, "there");
}

#[tokio::test]
async fn a_client_that_leaves_before_its_session_begins_leaves_no_process() {
    // To the config, two dollars are one.
    let script = "echo $$$$ >&2; cat > /dev/null";
    let server = json!({ "command": "sh", "args": ["-c", script], "timeout": "1m" });
    let gate = Gate::start(json!({ "mcpServers": { "small": server } })).await;
    let mut client = gate.client().await;
    client.send(post("/small/mcp", DEV, "", INITIALIZE)).await;
    let line = gate.log.line("Server wrote to stderr", &[("server", json!("small"))]).await;
    let pid = line["line"].as_str().unwrap().parse().unwrap();
    assert!(is_alive(pid));
    drop(client);
    is_gone(pid).await;
}

#[tokio::test]
async fn a_token_that_expires_takes_nothing_from_another_of_its_name() {
    let expires = std::time::SystemTime::now() + std::time::Duration::from_secs(3);
    let expires = humantime::format_rfc3339_millis(expires).to_string();
    let mut config = config();
    config["proxy"] = json!({ "auth": { "tokens": { "dev": [{ "value": CI, "expires": expires }, DEV] } } });
    let gate = Gate::start(config).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
    let fields = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n";
    let list = |token| post("/mcp", token, fields, &list.to_string());
    let (status, _, body) = gate.ask(&list(CI)).await;
    assert!(status == 200 && body.contains("small__echo"), "{status} {body}");
    soon("the end of the older token", async {
        while gate.ask(&list(CI)).await.0 != 401 {
            pause().await;
        }
    })
    .await;
    let (status, _, body) = gate.ask(&list(DEV)).await;
    assert!(status == 200 && body.contains("small__echo"), "{status} {body}");
}

#[tokio::test]
async fn a_process_that_ignores_every_wish_outlives_the_grace_of_a_shutdown_by_nothing() {
    let script = "trap '' TERM; sleep 1000 & echo $$$$ $! >&2; wait; wait; wait";
    let server = json!({ "command": "sh", "args": ["-c", script], "timeout": "1m" });
    let gate = Gate::start(json!({ "mcpServers": { "small": server } })).await;
    let mut client = gate.client().await;
    client.send(post("/small/mcp", DEV, "", INITIALIZE)).await;
    let line = gate.log.line("Server wrote to stderr", &[("server", json!("small"))]).await;
    let family: Vec<u32> =
        line["line"].as_str().unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    let Gate { gateway, .. } = gate;
    soon("the end", shutdown(gateway, std::time::Duration::from_millis(500))).await;
    assert!(!is_alive(family[0]));
    until("its child is gone", || !is_running(family[1])).await;
}

/// Whether it is more than a zombie that waits for whoever adopted it.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
