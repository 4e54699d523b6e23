//! `/servers`: who may look and act, what is shown, and what stop, start and restart do to what runs.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{CI, Client, DEV, Gate, Upstream, field, get, open_stream, pause, post, soon, until},
    mcp::{
        INITIALIZE, Session, SseSession, call, command, demo, event, is_alive, is_gone, is_over, modern_call,
        text,
    },
};

const OPS: &str = "ops-token-0123456789abcdef";

fn config(servers: Value) -> Value {
    let tokens = json!({ "dev": DEV, "ci": CI, "ops": { "value": OPS, "roles": ["admin"] } });
    json!({
        "proxy": { "auth": { "tokens": tokens }, "admin": { "addr": "127.0.0.1:0" } },
        "mcpServers": servers,
    })
}

async fn start() -> Gate {
    Gate::start(config(json!({ "small": command() }))).await
}

/// What `/servers/{name}` shows.
async fn shown(gate: &Gate, name: &str) -> Value {
    let (status, _, body) = gate.ask(&get(&format!("/servers/{name}"), OPS, "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Does something to a server, and gives what it is then.
async fn act(gate: &Gate, name: &str, action: &str) -> Value {
    let (status, _, body) = gate.ask(&post(&format!("/servers/{name}/{action}"), OPS, "", "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn counts(gate: &Gate) -> Value {
    let (_, _, body) = gate.ask("GET /status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    serde_json::from_str::<Value>(&body).unwrap()["servers"].clone()
}

/// Asserts that a server that is stopped is out for now, and not gone.
fn is_out((status, head, body): (u16, String, String)) {
    assert!(status == 503 && body.contains(r#""unavailable""#), "{status} {body}");
    assert!(body.contains("This server is stopped") && !body.contains("capacity"), "{body}");
    assert!(field(&head, "retry-after").is_some(), "{head}");
}

#[tokio::test]
async fn who_may_not_manage_is_turned_away_and_changes_nothing() {
    let gate = start().await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    for (path, method) in [
        ("/servers", "GET"),
        ("/servers/small", "GET"),
        ("/servers/nobody", "GET"),
        ("/servers/small/stop", "POST"),
        ("/servers/small/start", "POST"),
        ("/servers/small/restart", "POST"),
    ] {
        let asked = |token: &str| match method {
            "GET" => get(path, token, ""),
            _ => post(path, token, "", ""),
        };
        let (status, head, body) = gate.ask(&asked(DEV)).await;
        assert!(status == 403 && body.contains("insufficient_scope"), "{path} {status} {body}");
        assert!(field(&head, "www-authenticate").unwrap().contains("insufficient_scope"), "{head}");
        assert_eq!(gate.ask(&asked("nobody")).await.0, 401, "{path}");
        let without = asked("x").replace("Authorization: Bearer x\r\n", "");
        let (status, head, _) = gate.ask(&without).await;
        assert!(status == 401 && field(&head, "www-authenticate").is_some(), "{path} {status}");
    }
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");

    assert_eq!(gate.ask(&get("/servers/nobody", OPS, "")).await.0, 404);
    for action in ["stop", "start", "restart"] {
        assert_eq!(gate.ask(&post(&format!("/servers/nobody/{action}"), OPS, "", "")).await.0, 404);
        let (status, head, _) = gate.ask(&get(&format!("/servers/small/{action}"), OPS, "")).await;
        assert_eq!(status, 405, "to look at something must not act: {head}");
    }
    assert_eq!(gate.ask(&post("/servers/small/explode", OPS, "", "")).await.0, 404);
    assert_eq!(gate.ask(&post("/servers", OPS, "", "")).await.0, 405);
}

#[tokio::test]
async fn the_admin_listener_asks_for_no_token() {
    let gate = start().await;
    let admin = gate.gateway.admin_addr().unwrap();
    let ask = async |request: &str| {
        let mut client = Client::new(TcpStream::connect(admin).await.unwrap());
        client.send(request).await;
        client.response().await
    };
    let (status, _, body) = ask("GET /servers HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &list["servers"][0]["name"]), (200, &json!("small")));
    let (status, _, body) =
        ask("POST /servers/small/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert!(status == 200 && body.contains(r#""stopped":true"#), "{status} {body}");
    is_out(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await);
    // A page in a browser must not reach it by a name of its own.
    let foreign = "POST /servers/small/start HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(foreign).await.0, 403);
}

#[tokio::test]
async fn what_is_shown_holds_nothing_secret() {
    const CANARY: &str = "canary-0123456789";
    let secret = json!({
        "files": { "command": "/no/such/program", "args": [CANARY], "env": { "KEY": CANARY }, "tags": ["local"] },
        "db": {
            "url": format!("http://127.0.0.1:1/{CANARY}/sse?key={CANARY}"),
            "headers": { "X-Key": CANARY }, "authTokens": ["dev"],
        },
        "own": { "inline": { "tools": [{ "name": "x", "command": "echo", "args": [CANARY], "env": { "K": CANARY } }] } },
    });
    let gate = Gate::start(config(secret)).await;
    // That it cannot be started is worth saying, and by what it was configured is not.
    assert_eq!(gate.ask(&post("/files/mcp", DEV, "", INITIALIZE)).await.0, 502);
    Session::open(&gate, "/mcp", DEV).await.tools().await;
    let (status, head, list) = gate.ask(&get("/servers", OPS, "")).await;
    assert_eq!((status, field(&head, "cache-control")), (200, Some("no-store")));
    let mut said = list.clone();
    for name in ["files", "db", "own"] {
        said += &shown(&gate, name).await.to_string();
    }
    assert!(!said.contains(CANARY), "{said}");
    let list: Value = serde_json::from_str(&list).unwrap();
    let list = list["servers"].as_array().unwrap();
    let of = |name: &str| list.iter().find(|server| server["name"] == name).unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!((&of("db")["origin"], &of("db")["transport"]), (&json!("http://127.0.0.1:1"), &json!("sse")));
    assert_eq!((&of("files")["transport"], &of("own")["transport"]), (&json!("stdio"), &json!("inline")));
    assert_eq!((&of("files")["tags"], &of("db")["authTokens"]), (&json!(["local"]), &json!(["dev"])));
    assert!(of("files")["problem"].is_string() && of("own")["problem"].is_null(), "{list:?}");
}

#[tokio::test]
async fn what_runs_is_counted() {
    let gate = Gate::start(config(json!({ "small": command(), "other": command() }))).await;
    assert_eq!(counts(&gate).await, json!({ "total": 2, "running": 2 }));
    let before = shown(&gate, "small").await;
    assert_eq!((&before["sessions"], &before["processes"]), (&json!(0), &json!(0)));
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let _other = SseSession::open(&gate, "/small/sse", CI).await;
    let now = shown(&gate, "small").await;
    assert_eq!((&now["sessions"], &now["processes"], &now["running"]), (&json!(2), &json!(2), &json!(true)));
    assert_eq!(session.delete().await, 204);
    soon("the end of one session and its process", async {
        while {
            let now = shown(&gate, "small").await;
            (&now["sessions"], &now["processes"]) != (&json!(1), &json!(1))
        } {
            pause().await;
        }
    })
    .await;
    assert_eq!(shown(&gate, "other").await["processes"], 0);
}

#[tokio::test]
async fn a_command_that_is_stopped_ends_with_all_that_it_serves_until_it_is_started() {
    let gate = start().await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let sse = SseSession::open(&gate, "/small/sse", CI).await;
    let all = Session::open(&gate, "/mcp", DEV).await;
    let _listening = all.listen().await;
    let shared = gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await.2;
    let pids = [
        session.pid().await,
        all.call("small__pid", json!({})).await.parse().unwrap(),
        text(&serde_json::from_str(&shared).unwrap()).parse().unwrap(),
    ];
    let mut stream = sse.stream;
    let mut waiting = session.sent(&call(1, "sleep", json!({}))).await;
    let mut waits_modern = gate.client().await;
    waits_modern.send(modern_call("/small/mcp", DEV, 2, "sleep", json!({}))).await;
    until("both calls run", || gate.log.text().matches("sleeping").count() == 2).await;

    let stopped = act(&gate, "small", "stop").await;
    assert_eq!((&stopped["running"], &stopped["stopped"]), (&json!(false), &json!(true)));
    is_over(&mut stream).await;
    for client in [&mut waiting, &mut waits_modern] {
        let (status, _, body) = client.response().await;
        // One that has waited for a second is a stream by now.
        assert!([502, 503, 404].contains(&status) || body.contains("\"error\""), "{status} {body}");
    }
    for pid in pids {
        is_gone(pid).await;
    }
    assert_eq!(counts(&gate).await, json!({ "total": 1, "running": 0 }));
    is_out(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await);
    is_out(gate.ask(&post("/small/mcp", DEV, &session.field, &call(1, "pid", json!({})))).await);
    is_out(gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await);
    is_out(gate.ask(&get("/small/sse", DEV, "")).await);
    assert_eq!(all.tools().await, [""; 0]);
    // That of the HTTP+SSE session too, which was not asked for its number.
    soon("the end of every process", async {
        while shown(&gate, "small").await["processes"] != 0 {
            pause().await;
        }
    })
    .await;

    let started = act(&gate, "small", "start").await;
    assert_eq!((&started["running"], &started["stopped"]), (&json!(true), &json!(false)));
    assert_eq!(counts(&gate).await, json!({ "total": 1, "running": 1 }));
    assert_eq!(session.post(&call(1, "pid", json!({}))).await.0, 404, "its session is over");
    let again = Session::open(&gate, "/small/mcp", DEV).await;
    assert!(is_alive(again.pid().await));
    assert!(all.tools().await.contains(&"small__echo".into()));
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await.0, 200);
}

#[tokio::test]
async fn a_remote_server_that_is_stopped_has_its_streams_ended() {
    let server = Upstream::bind().await;
    let gate = Gate::start(config(json!({ "db": { "url": server.url("/mcp") } }))).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    act(&gate, "db", "stop").await;
    is_over(&mut client).await;
    assert!(!behind.more().await, "the server's side is closed, too");
    is_out(gate.ask(&get("/db", DEV, "")).await);
    assert!(!server.was_reached().await);

    act(&gate, "db", "start").await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    act(&gate, "db", "restart").await;
    is_over(&mut client).await;
    assert!(!behind.more().await);
    open_stream(gate.addr, &server, DEV).await;
}

#[tokio::test]
async fn a_restart_brings_new_processes_to_every_caller() {
    let gate = start().await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let all = Session::open(&gate, "/mcp", DEV).await;
    let _listening = all.listen().await;
    let modern = async || {
        let (status, _, body) = gate.ask(&modern_call("/small/mcp", DEV, 1, "pid", json!({}))).await;
        assert_eq!(status, 200, "{body}");
        text(&serde_json::from_str(&body).unwrap())
    };
    let (own, of_all, shared) =
        (session.pid().await, all.call("small__pid", json!({})).await, modern().await);
    let now = act(&gate, "small", "restart").await;
    assert_eq!((&now["running"], &now["stopped"]), (&json!(true), &json!(false)));
    assert_ne!(modern().await, shared);
    is_gone(own).await;
    is_gone(shared.parse().unwrap()).await;
    assert_eq!(session.post(&call(1, "pid", json!({}))).await.0, 404);
    assert_ne!(Session::open(&gate, "/small/mcp", DEV).await.pid().await, own);
    // A session of all servers goes on, with a new process for this one.
    assert_ne!(all.call("small__pid", json!({})).await, of_all);
}

#[tokio::test]
async fn a_restart_among_all_servers_leaves_the_others_alone() {
    let demo = format!("http://{}/mcp", demo().await);
    let gate = Gate::start(config(json!({ "small": command(), "demo": { "url": demo } }))).await;
    let all = Session::open(&gate, "/mcp", DEV).await;
    let arguments = json!({ "n": 1000, "interval_ms": 10 });
    let _listening = all.listen().await;
    let mut counting = all.stream(&call(1, "demo__countdown", arguments)).await;
    assert_eq!(event(&mut counting).await["params"]["progress"], 1);
    act(&gate, "small", "restart").await;
    act(&gate, "small", "stop").await;
    for _ in 0..100 {
        assert_eq!(event(&mut counting).await["method"], "notifications/progress");
    }
    act(&gate, "demo", "stop").await;
    let failed = loop {
        let next = event(&mut counting).await;
        if next["method"].is_null() {
            break next;
        }
    };
    assert_eq!((&failed["id"], failed["error"]["code"].is_i64()), (&json!(1), true), "{failed}");
}

#[tokio::test]
async fn a_server_that_was_stopped_stays_so_when_the_config_changes() {
    let mut gate = start().await;
    act(&gate, "small", "stop").await;
    let mut changed = config(json!({ "small": command(), "other": command() }));
    gate.reload(changed.clone());
    is_out(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await);
    assert_eq!(counts(&gate).await, json!({ "total": 2, "running": 1 }));
    // Also with another command, or another filter.
    changed["mcpServers"]["small"]["env"]["GREETING"] = json!("good morning");
    gate.reload(changed.clone());
    is_out(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await);
    changed["mcpServers"]["small"]["options"] = json!({ "toolFilter": { "mode": "block", "list": ["pid"] } });
    gate.reload(changed);
    is_out(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await);
    act(&gate, "small", "start").await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");
    assert!(!session.tools().await.contains(&"pid".into()));
}

#[tokio::test]
async fn a_new_filter_on_the_same_command_leaves_it_running() {
    let mut gate = start().await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let pid = session.pid().await;
    let mut changed = config(json!({ "small": command() }));
    changed["mcpServers"]["small"]["options"] = json!({ "toolFilter": { "mode": "block", "list": ["pid"] } });
    gate.reload(changed);
    assert!(!session.tools().await.contains(&"pid".into()));
    assert!(is_alive(pid));
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "echo", json!({}))).await.0, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_shown_until_it_runs() {
    let mut gate = Gate::start(config(json!({ "small": { "command": "/no/such/program" } }))).await;
    assert_eq!(gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await.0, 502);
    let problem = shown(&gate, "small").await["problem"].to_string();
    assert!(problem.contains("No such file"), "{problem}");
    gate.reload(config(json!({ "small": command() })));
    Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(shown(&gate, "small").await["problem"], Value::Null);
}

#[tokio::test]
async fn a_restart_is_no_problem_once_the_server_runs_again() {
    let gate = start().await;
    Session::open(&gate, "/mcp", DEV).await;
    act(&gate, "small", "restart").await;
    Session::open(&gate, "/small/mcp", DEV).await;
    let now = shown(&gate, "small").await;
    assert_eq!((&now["running"], &now["problem"]), (&json!(true), &Value::Null));
}
