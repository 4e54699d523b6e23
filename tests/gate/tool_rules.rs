//! A tool that a rule keeps from a caller is as if it did not exist, or says what it requires: on lists and calls, on every path.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    harness::{Client, Gate, SSE, Upstream, chunk, get, post, soon},
    mcp::{Session, call, command, modern, modern_call, names},
    process::Process,
    recorder::Recorder,
};

const USER: &str = "user-token-123-0123456789";
const ADMIN: &str = "admin-token-456-0123456789";
const LESS: &str = "less-token-789-0123456789";

const LISTED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"},{"name":"delete_all"},{"name":"admin_users"}]}}"#;

fn rules() -> Value {
    json!({
        "delete_*": { "roles": ["admin"] },
        "admin_*": { "roles": ["admin"], "hide": false },
    })
}

/// A token of two roles, one of one, and one with a credential of each; before a server over HTTP, a command, and tools of the
/// config.
fn config(url: &str) -> Value {
    let tool = |name: &str| json!({ "name": name, "command": "true" });
    let mut small = command();
    small["tools"] = json!({ "pid": { "roles": ["admin"] }, "echo": { "roles": ["admin"], "hide": false } });
    json!({
        "proxy": { "auth": { "tokens": {
            "user": { "value": USER, "roles": ["user"] },
            "both": [{ "value": ADMIN, "roles": ["user", "admin"] }, { "value": LESS, "roles": ["user"] }],
        } } },
        "mcpServers": {
            "db": { "url": url, "tools": rules() },
            "own": {
                "inline": { "tools": [tool("read"), tool("delete_all"), tool("admin_users")] }, "tools": rules(),
            },
            "small": small,
        },
    })
}

async fn asked(gate: &Gate, request: &str) -> (u16, Value) {
    let (status, _, body) = gate.ask(request).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn listed(gate: &Gate, path: &str, token: &str) -> Vec<String> {
    let (status, body) = asked(gate, &modern(path, token, 1, "tools/list", json!({}))).await;
    assert_eq!(status, 200, "{body}");
    names(&body)
}

fn is_unknown(answer: &(u16, Value)) {
    let message = answer.1["error"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Unknown tool: "), "{answer:?}");
}

fn is_forbidden(answer: &(u16, Value)) {
    let (status, body) = answer;
    let said = (&body["error"], &body["error_description"], &body["message"]);
    let role = json!("Requires admin role");
    assert_eq!((*status, said), (403, (&json!("tool_forbidden"), &role, &role)), "{answer:?}");
}

#[tokio::test]
async fn byte_for_byte_calls_stay_here_and_lists_come_without_them() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    for token in [USER, LESS] {
        is_unknown(&asked(&gate, &post("/db/mcp", token, "", &call(1, "delete_all", json!({})))).await);
        is_forbidden(&asked(&gate, &post("/db/mcp", token, "", &call(1, "admin_users", json!({})))).await);
    }
    server.saw_nothing("what a rule keeps from a caller").await;
    assert_eq!(asked(&gate, &post("/db/mcp", USER, "", &call(1, "read", json!({})))).await.0, 200);
    for tool in ["delete_all", "admin_users", "read"] {
        server.forget();
        assert_eq!(
            asked(&gate, &post("/db/mcp", ADMIN, "", &call(1, tool, json!({})))).await.0,
            200,
            "{tool}"
        );
        assert!(server.only().contains(tool));
    }
    let line = gate.log.line("Refused request", &[("reason", json!("tool_forbidden"))]).await;
    assert_eq!((&line["server"], &line["status"]), (&json!("db"), &json!(403)));
}

#[tokio::test]
async fn a_list_of_a_remote_server_has_what_is_hidden_from_nobody() {
    let server = Upstream::bind().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    for (token, wanted) in
        [(USER, &["admin_users", "read"][..]), (ADMIN, &["admin_users", "delete_all", "read"])]
    {
        let mut client = gate.client().await;
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        client.send(post("/db/mcp", token, "", list)).await;
        let mut behind = server.accept().await;
        behind.head().await;
        let length = LISTED.len();
        behind
            .send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{LISTED}"))
            .await;
        let (status, _, body) = client.response().await;
        assert_eq!(
            (status, names(&serde_json::from_str(&body).unwrap())),
            (200, wanted.iter().map(ToString::to_string).collect())
        );
    }
}

#[tokio::test]
async fn message_by_message_it_is_the_same_whoever_shares_what_is_behind() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    for path in ["/own/mcp", "/mcp?servers=own"] {
        let of = |tool: &str| if path == "/own/mcp" { tool.to_owned() } else { format!("own__{tool}") };
        let all = ["admin_users", "delete_all", "read"].map(of);
        let few = ["admin_users", "read"].map(of);
        for (token, wanted) in [(ADMIN, &all[..]), (USER, &few), (LESS, &few), (ADMIN, &all)] {
            assert_eq!(listed(&gate, path, token).await, wanted, "{path} {token}");
        }
        is_unknown(&asked(&gate, &modern_call(path, USER, 1, &of("delete_all"), json!({}))).await);
        is_forbidden(&asked(&gate, &modern_call(path, USER, 1, &of("admin_users"), json!({}))).await);
        assert_eq!(asked(&gate, &modern_call(path, ADMIN, 1, &of("admin_users"), json!({}))).await.0, 200);
    }
    // Callers of a command share its process, and have tools of their own.
    let tools = listed(&gate, "/small/mcp", ADMIN).await;
    assert!(tools.contains(&"pid".into()) && tools.contains(&"echo".into()), "{tools:?}");
    let tools = listed(&gate, "/small/mcp", USER).await;
    assert!(!tools.contains(&"pid".into()) && tools.contains(&"echo".into()), "{tools:?}");
    is_unknown(&asked(&gate, &modern_call("/small/mcp", USER, 1, "pid", json!({}))).await);
    is_forbidden(&asked(&gate, &modern_call("/small/mcp", USER, 1, "echo", json!({}))).await);
    assert_eq!(asked(&gate, &modern_call("/small/mcp", ADMIN, 1, "pid", json!({}))).await.0, 200);
}

#[tokio::test]
async fn a_session_has_the_tools_of_whoever_began_it_and_a_credential_with_less_gets_no_further_by_it() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    for path in ["/own/mcp", "/mcp?servers=own", "/small/mcp"] {
        let tool = match path {
            "/small/mcp" => "pid",
            "/own/mcp" => "delete_all",
            _ => "own__delete_all",
        };
        let of_admin = Session::open(&gate, path, ADMIN).await;
        assert!(of_admin.tools().await.contains(&tool.to_owned()), "{path}");
        assert_eq!(of_admin.post(&call(1, tool, json!({}))).await.0, 200, "{path}");
        let with_less = of_admin.by(LESS);
        assert_eq!(with_less.post(&call(1, tool, json!({}))).await.0, 404, "{path}");
        // It has one of its own, in which the other has no more than it.
        let own = Session::open(&gate, path, LESS).await;
        for session in [&own, &own.by(ADMIN)] {
            assert!(!session.tools().await.contains(&tool.to_owned()), "{path}");
            let (_, body) = session.post(&call(1, tool, json!({}))).await;
            assert!(body.contains("Unknown tool"), "{path} {body}");
        }
    }
    let own = Session::open(&gate, "/own/mcp", USER).await;
    let (status, body) = own.post(&call(1, "admin_users", json!({}))).await;
    is_forbidden(&(status, serde_json::from_str(&body).unwrap()));
}

#[tokio::test]
async fn in_lazy_mode_a_hidden_tool_is_in_none_of_the_three() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["aggregate"] = json!({ "lazy": true });
    let gate = Gate::start(config).await;
    let session = Session::open(&gate, "/mcp?servers=own", USER).await;
    let list = session.call("tool_list", json!({})).await;
    assert!(!list.contains("delete_all") && list.contains("own__admin_users"), "{list}");
    assert_eq!(
        session.call("tool_schema", json!({ "name": "own__delete_all" })).await,
        "Unknown tool: own__delete_all"
    );
    let invoke = |name: &str| call(1, "tool_invoke", json!({ "name": name, "arguments": {} }));
    let (status, body) = session.post(&invoke("own__delete_all")).await;
    is_unknown(&(status, serde_json::from_str(&body).unwrap()));
    let (status, body) = session.post(&invoke("own__admin_users")).await;
    is_forbidden(&(status, serde_json::from_str(&body).unwrap()));
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_what_it_had_opened_and_nothing_else() {
    let server = Upstream::bind().await;
    let before = config(&server.url("/mcp"));
    let mut gate = Gate::start(before.clone()).await;
    let open = async |gate: &Gate, token: &str| {
        let mut client = gate.client().await;
        client.send(get("/db/mcp", token, "Accept: text/event-stream\r\n")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(SSE).await;
        client.head().await;
        (client, behind)
    };
    let (mut goes, _behind_goes) = open(&gate, ADMIN).await;
    let (mut stays, mut behind_stays) = open(&gate, USER).await;
    let session = Session::open(&gate, "/own/mcp", ADMIN).await;
    let other = Session::open(&gate, "/own/mcp", USER).await;
    let mut after = before.clone();
    after["proxy"]["auth"]["tokens"]["both"][0]["roles"] = json!(["user"]);
    gate.reload(after);
    soon("the stream of who had the role", goes.rest()).await;
    assert_eq!(session.post(&call(1, "read", json!({}))).await.0, 404, "its session had more");
    behind_stays.send(chunk("data: 1\n\n")).await;
    assert_eq!(read_event(&mut stays).await, "data: 1\n\n");
    assert_eq!(other.post(&call(1, "read", json!({}))).await.0, 200);
    is_unknown(&asked(&gate, &post("/db/mcp", ADMIN, "", &call(1, "delete_all", json!({})))).await);
}

#[tokio::test]
async fn an_admin_who_saw_all_loses_with_the_role_what_its_sessions_had() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["auth"]["adminSeesAll"] = json!(true);
    for rules in [json!({ "delete_*": { "roles": ["ops"] } }), json!({ "delete_*": { "users": [] } })] {
        config["mcpServers"]["own"]["tools"] = rules;
        let mut gate = Gate::start(config.clone()).await;
        let session = Session::open(&gate, "/own/mcp", ADMIN).await;
        assert_eq!(session.post(&call(1, "read", json!({}))).await.0, 200);
        let mut after = config.clone();
        after["proxy"]["auth"]["tokens"]["both"][0]["roles"] = json!(["user"]);
        gate.reload(after);
        assert_eq!(session.post(&call(2, "read", json!({}))).await.0, 404, "its session had every tool");
    }
}

async fn read_event(client: &mut Client<tokio::net::TcpStream>) -> String {
    String::from_utf8(client.chunk().await.unwrap()).unwrap()
}

#[tokio::test]
async fn admin_passes_tool_rules_with_the_key_for_it() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["mcpServers"]["db"]["tools"] = json!({ "*": { "roles": ["nobody-has-it"] } });
    config["proxy"]["auth"]["adminSeesAll"] = json!(true);
    let mut gate = Gate::start(config.clone()).await;
    assert_eq!(asked(&gate, &post("/db/mcp", ADMIN, "", &call(1, "read", json!({})))).await.0, 200);
    is_unknown(&asked(&gate, &post("/db/mcp", USER, "", &call(1, "read", json!({})))).await);
    config["proxy"]["auth"]["adminSeesAll"] = json!(false);
    gate.reload(config);
    is_unknown(&asked(&gate, &post("/db/mcp", ADMIN, "", &call(1, "read", json!({})))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_in_a_config_that_is_refused_holds_all_the_same() {
    let server = Recorder::start().await;
    let mut before = config(&server.url("/mcp"));
    before["mcpServers"]["db"].as_object_mut().unwrap().remove("tools");
    let gate = Process::start(before.clone()).await;
    let ask = async || {
        let mut client = gate.client().await;
        client.send(post("/db/mcp", USER, "", &call(1, "delete_all", json!({})))).await;
        client.response().await.2
    };
    assert!(!ask().await.contains("Unknown tool"));
    let mut bad = before.clone();
    bad["mcpServers"]["db"]["tools"] = rules();
    bad["proxy"]["unheardOf"] = json!(1);
    gate.save(bad);
    soon("the rule", async {
        while !ask().await.contains("Unknown tool") {
            crate::harness::pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn explain_names_the_rule_and_what_it_requires() {
    let text = r#"{
  "proxy": { "auth": { "tokens": { "user": { "value": "user-token-123-0123456789", "roles": ["user"] } } } },
  "mcpServers": { "db": {
    "url": "http://127.0.0.1:1/mcp",
    "tools": {
      "delete_*": { "roles": ["admin"] },
      "admin_*": { "roles": ["admin", "ops"], "hide": false },
      "read": { "roles": ["user"] }
    }
  } }
}"#;
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("sluicegate.json"), text).unwrap();
    for (tool, code, said) in [
        (
            "delete_all",
            1,
            "(a call is answered as that of an unknown tool)\n  sluicegate.json:6:7: mcpServers.db.tools[…]: asks for what the caller does not have: Requires admin role",
        ),
        (
            "admin_users",
            1,
            "(403 tool_forbidden)\n  sluicegate.json:7:7: mcpServers.db.tools[…]: asks for what the caller does not have: Requires one of the roles admin, ops",
        ),
        ("read", 0, "sluicegate.json:8:7: mcpServers.db.tools.read: asks for what the caller has"),
        ("write", 0, "sluicegate.json:3:19: mcpServers.db: any valid caller may"),
    ] {
        let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        explain.current_dir(dir.path()).args(["explain", "-c", "sluicegate.json", "--as", "token:user"]);
        let explained = explain.args(["--server", "db", "--tool", tool]).output().unwrap();
        let printed =
            [explained.stdout, explained.stderr].map(|out| String::from_utf8(out).unwrap()).concat();
        assert!(printed.contains(said), "{tool}: {printed}");
        assert_eq!(explained.status.code(), Some(code), "{tool}: {printed}");
    }
}
