//! Tools that the config itself defines: each call runs a command, and nothing else.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{DEV, Gate, field, until},
    mcp::{Session, SseSession, call, is_alive, is_gone, modern, modern_call, names, request, text},
};

/// A shell command that adds its own child's number to the file `PID`, and does not end.
const ENDLESS: &str = "sleep 1000 & echo $! >> \"$PID\"; wait";

/// `arguments` says which arguments its command got; `fails` fails; `endless` runs until it is killed.
fn config(dir: &TempDir) -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "text": { "type": "string", "maxLength": 100 }, "n": { "type": "integer", "minimum": 1 } },
        "required": ["text"],
        "additionalProperties": false,
    });
    let show = "import json, os, sys; print(json.dumps([sys.argv[1:], sorted(os.environ)]))";
    let pid = json!({ "PID": dir.path().join("pid") });
    json!({ "mcpServers": { "own": { "inline": { "description": "Tools of the house", "tools": [
        { "name": "arguments", "description": "Says what it got", "inputSchema": schema, "command": "python3",
          "args": ["-c", show, "{{text}}", "--n={{n}}"], "env": { "KEY": "of-the-config" } },
        { "name": "fails", "command": "sh", "args": ["-c", "echo out; echo why >&2; exit 3"] },
        { "name": "brief", "command": "sh", "args": ["-c", ENDLESS], "env": pid, "timeout": "300ms" },
        { "name": "endless", "command": "sh", "args": ["-c", ENDLESS], "env": pid, "timeout": "60s" },
    ] } } } })
}

async fn start() -> (Gate, TempDir) {
    let dir = TempDir::new().unwrap();
    (Gate::start(config(&dir)).await, dir)
}

async fn open(gate: &Gate) -> Session {
    Session::open(gate, "/own/mcp", DEV).await
}

/// What the command of `arguments` got.
fn got(said: &str) -> Value {
    serde_json::from_str::<Value>(said).unwrap()[0].clone()
}

/// The numbers of what `endless` started, once it did so `count` times.
async fn started(dir: &TempDir, count: usize) -> Vec<u32> {
    let path = dir.path().join("pid");
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    until("the command started", || read().matches('\n').count() == count).await;
    let pids: Vec<u32> = read().lines().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    pids
}

#[tokio::test]
async fn tools_of_the_config_are_listed_and_called() {
    let (gate, _dir) = start().await;
    let session = open(&gate).await;
    let greeting = &session.greeting["result"];
    assert_eq!(greeting["serverInfo"]["name"], "own");
    assert_eq!(
        (&greeting["protocolVersion"], &greeting["instructions"]),
        (&json!("2025-11-25"), &json!("Tools of the house"))
    );
    assert_eq!(session.tools().await, ["arguments", "brief", "endless", "fails"]);
    let listed = session.ask(&request(1, "tools/list", json!({}))).await;
    let tool = &listed["result"]["tools"][0];
    assert_eq!(
        (&tool["description"], &tool["inputSchema"]["required"]),
        (&json!("Says what it got"), &json!(["text"]))
    );
    assert!(
        !listed.to_string().contains("python3") && !listed.to_string().contains("of-the-config"),
        "{listed}"
    );
    assert_eq!(
        got(&session.call("arguments", json!({ "text": "grün", "n": 3 })).await),
        json!(["grün", "--n=3"])
    );
    assert_eq!(session.ask(&call(1, "none", json!({}))).await["error"]["code"], -32602);
    assert_eq!(session.delete().await, 204);
    assert_eq!(session.post(&call(1, "fails", json!({}))).await.0, 404);
}

#[tokio::test]
async fn an_argument_stays_one_argument_and_no_shell_sees_it() {
    let (gate, dir) = start().await;
    let session = open(&gate).await;
    let mark = dir.path().join("mark");
    for said in [
        format!("; touch {}", mark.display()),
        format!("$(touch {})", mark.display()),
        format!("`touch {}`", mark.display()),
        "a  b\t'c' \"d\" *".into(),
        "{{n}}".into(),
        "line\nline".into(),
        String::new(),
    ] {
        let arguments = json!({ "text": said, "n": 1 });
        assert_eq!(got(&session.call("arguments", arguments).await), json!([said, "--n=1"]));
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_whole_number_with_a_fraction_of_nought_is_an_integer() {
    let (gate, _dir) = start().await;
    let session = open(&gate).await;
    for n in ["5.0", "5e0", "0.5e1", "50E-1"] {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"arguments","arguments":{{"text":"x","n":{n}}}}}}}"#
        );
        assert_eq!(got(&text(&session.ask(&call).await)), json!(["x", "--n=5"]), "{n}");
    }
    let answer = session.ask(&call(1, "arguments", json!({ "text": "x", "n": 5.5 }))).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
}

#[tokio::test]
async fn arguments_nested_too_deep_are_an_error_and_no_empty_call() {
    let dir = TempDir::new().unwrap();
    let mark = dir.path().join("mark");
    let tool =
        json!({ "name": "any", "command": "touch", "args": [mark], "inputSchema": { "type": "object" } });
    let proxy = json!({ "aggregate": { "lazy": true } });
    let gate =
        Gate::start(json!({ "proxy": proxy, "mcpServers": { "own": { "inline": { "tools": [tool] } } } }))
            .await;
    let (own, lazy) = (open(&gate).await, Session::open(&gate, "/mcp", DEV).await);
    for depth in [126, 127, 128, 129, 1_000, 100_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let arguments = format!(r#"{{"x":{deep}}}"#);
        let call = |name: &str, arguments: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
            )
        };
        let invoked = format!(r#"{{"name":"own__any","arguments":{arguments}}}"#);
        let modern =
            modern_call("/own/mcp", DEV, 1, "any", json!({ "x": "deep" })).replace(r#""deep""#, &deep);
        let length = modern.split("\r\n\r\n").nth(1).unwrap().len();
        let modern: String = modern
            .split_inclusive("\r\n")
            .map(|line| match line.starts_with("Content-Length") {
                true => format!("Content-Length: {length}\r\n"),
                false => line.to_owned(),
            })
            .collect();
        let answers = [
            own.post(&call("any", &arguments)).await,
            lazy.post(&call("own__any", &arguments)).await,
            lazy.post(&call("tool_invoke", &invoked)).await,
            {
                let (status, _, body) = gate.ask(&modern).await;
                (status, body)
            },
        ];
        for (status, body) in answers {
            let is_error = status == 400 || body.contains(r#""isError":true"#) || body.contains(r#""error""#);
            assert!(is_error, "{depth} {status} {body}");
        }
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn the_list_is_whole_and_knows_no_cursor() {
    let (gate, _dir) = start().await;
    let session = open(&gate).await;
    let bogus = json!({ "cursor": "bogus" });
    let answer = session.ask(&request(1, "tools/list", bogus.clone())).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let (_, _, body) = gate.ask(&modern("/own/mcp", DEV, 1, "tools/list", bogus)).await;
    assert!(body.contains("-32602"), "{body}");
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_a_result_that_says_so_and_nothing_runs() {
    let (gate, _dir) = start().await;
    let session = open(&gate).await;
    for (arguments, what) in [
        (json!({}), "text"),
        (json!({ "text": 1 }), "text"),
        (json!({ "text": "x", "n": 0 }), "n"),
        (json!({ "text": "x", "n": "1; touch x" }), "n"),
        (json!({ "text": "x", "other": true }), "other"),
        (json!({ "text": "x".repeat(101) }), "text"),
        (json!([]), "object"),
        (json!({ "text": "a\u{0}b" }), ""),
    ] {
        let answer = session.ask(&call(1, "arguments", arguments.clone())).await;
        assert_eq!(answer["result"]["isError"], true, "{arguments}: {answer}");
        assert!(text(&answer).contains(what), "{arguments}: {answer}");
    }
}

#[tokio::test]
async fn a_command_that_fails_is_a_result_with_its_reason() {
    let (gate, _dir) = start().await;
    let answer = open(&gate).await.ask(&call(1, "fails", json!({}))).await;
    assert_eq!(answer["result"]["isError"], true);
    let content = answer["result"]["content"].to_string();
    assert!(content.contains("why") && content.contains('3'), "{answer}");
}

#[tokio::test]
async fn a_command_sees_its_own_variables_and_not_the_gates() {
    let (gate, _dir) = start().await;
    let said = open(&gate).await.call("arguments", json!({ "text": "x", "n": 1 })).await;
    let seen: Value = serde_json::from_str::<Value>(&said).unwrap()[1].clone();
    let seen = seen.as_array().unwrap();
    assert!(seen.contains(&json!("KEY")) && seen.contains(&json!("PATH")), "{seen:?}");
    // What cargo gives to these tests.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!seen.contains(&json!("CARGO_MANIFEST_DIR")), "{seen:?}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
    let (gate, dir) = start().await;
    let session = open(&gate).await;
    let answer = session.ask(&call(1, "brief", json!({}))).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    is_gone(pid).await;
    assert_eq!(
        got(&session.call("arguments", json!({ "text": "on", "n": 1 })).await),
        json!(["on", "--n=1"])
    );
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_killed() {
    // A client of 2026 leaves.
    let (gate, dir) = start().await;
    let mut leaving = gate.client().await;
    leaving.send(modern_call("/own/mcp", DEV, 1, "endless", json!({}))).await;
    let pid = started(&dir, 1).await[0];
    drop(leaving);
    is_gone(pid).await;

    // One of a session says so.
    let (gate, dir) = start().await;
    let session = open(&gate).await;
    let _waiting = session.sent(&call(1, "endless", json!({}))).await;
    let pid = started(&dir, 1).await[0];
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(session.post(cancelled).await.0, 202);
    is_gone(pid).await;

    // Or ends the session.
    let (gate, dir) = start().await;
    let session = open(&gate).await;
    let _waiting = session.sent(&call(1, "endless", json!({}))).await;
    let pid = started(&dir, 1).await[0];
    assert_eq!(session.delete().await, 204);
    is_gone(pid).await;

    // Or closes the stream that is its session.
    let (gate, dir) = start().await;
    let session = SseSession::open(&gate, "/own/sse", DEV).await;
    session.post(&call(1, "endless", json!({}))).await;
    let pid = started(&dir, 1).await[0];
    drop(session);
    is_gone(pid).await;
}

#[tokio::test]
async fn clients_of_2026_need_no_session() {
    let (gate, _dir) = start().await;
    let (status, head, body) = gate.ask(&modern("/own/mcp", DEV, 1, "server/discover", json!({}))).await;
    let found: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, field(&head, "mcp-session-id")), (200, None), "{body}");
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    let (status, _, body) = gate.ask(&modern("/own/mcp", DEV, 2, "tools/list", json!({}))).await;
    assert_eq!((status, names(&serde_json::from_str(&body).unwrap()).len()), (200, 4));
    let arguments = json!({ "text": "; true", "n": 2 });
    let (status, _, body) = gate.ask(&modern_call("/own/mcp", DEV, 3, "arguments", arguments)).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["id"], got(&text(&answer))), (200, &json!(3), json!(["; true", "--n=2"])));
    assert_eq!(answer["result"]["resultType"], "complete");
    let (_, _, body) = gate.ask(&modern_call("/own/mcp", DEV, 4, "arguments", json!({}))).await;
    assert!(body.contains(r#""isError":true"#), "{body}");
    let (status, _, body) = gate.ask(&modern("/own/mcp", DEV, 5, "prompts/list", json!({}))).await;
    assert!(status == 404 && body.contains("-32601"), "{status} {body}");
    let wrong =
        modern_call("/own/mcp", DEV, 6, "fails", json!({})).replace("Mcp-Name: fails", "Mcp-Name: brief");
    let (status, _, body) = gate.ask(&wrong).await;
    assert!(status == 400 && body.contains("-32020"), "{status} {body}");
}

#[tokio::test]
async fn clients_of_http_sse_are_served_too() {
    let (gate, _dir) = start().await;
    let mut session = SseSession::open(&gate, "/own/sse", DEV).await;
    assert_eq!(names(&session.ask(&request(1, "tools/list", json!({}))).await).len(), 4);
    let said = session.call("arguments", json!({ "text": "x", "n": 1 })).await;
    assert_eq!(got(&said), json!(["x", "--n=1"]));
    let answer = session.ask(&call(2, "arguments", json!({}))).await;
    assert_eq!(answer["result"]["isError"], true);
}

#[tokio::test]
async fn a_tool_filter_holds_here_too() {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir);
    config["mcpServers"]["own"]["options"] = json!({ "toolFilter": { "mode": "allow", "list": ["fails"] } });
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    assert_eq!(session.tools().await, ["fails"]);
    for id in [1, 2] {
        // As a tool that is not there.
        assert_eq!(session.ask(&call(id, "endless", json!({}))).await["error"]["code"], -32602);
    }
    let (_, _, body) = gate.ask(&modern_call("/own/mcp", DEV, 1, "endless", json!({}))).await;
    assert!(body.contains("-32602"), "{body}");
    let mut stream = SseSession::open(&gate, "/own/sse", DEV).await;
    assert_eq!(stream.ask(&call(1, "endless", json!({}))).await["error"]["code"], -32602);
    assert!(!dir.path().join("pid").exists(), "a command ran");
}

#[tokio::test]
async fn a_session_has_sixteen_calls_at_a_time_and_is_told_so() {
    let (gate, dir) = start().await;
    let session = open(&gate).await;
    let mut waiting = Vec::new();
    for id in 0..16 {
        waiting.push(session.sent(&call(id, "endless", json!({}))).await);
    }
    started(&dir, 16).await;
    let (status, head, body) = session.sent(&call(16, "endless", json!({}))).await.response().await;
    assert!(status == 429 && field(&head, "retry-after").is_some(), "{status} {body}");
    // The session still answers what needs no command.
    assert_eq!(session.ask(&request(20, "ping", json!({}))).await["result"], json!({}));
}

#[tokio::test]
async fn callers_of_2026_wait_for_their_turn() {
    let (gate, _dir) = start().await;
    let mut callers = Vec::new();
    for n in 1..=40 {
        let mut client = gate.client().await;
        client.send(modern_call("/own/mcp", DEV, 1, "arguments", json!({ "text": "x", "n": n }))).await;
        callers.push(client);
    }
    for (n, client) in callers.iter_mut().enumerate() {
        let (status, _, body) = client.response().await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(got(&text(&answer)), json!(["x", format!("--n={}", n + 1)]));
    }
}
