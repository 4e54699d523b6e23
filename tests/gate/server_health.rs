//! `/servers` says how each server fared when it was used last, however it was reached.

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, Upstream, get, post, until},
    mcp::{INITIALIZE, Session, call, command, demo},
    recorder::Recorder,
    scripted::{Scripted, answers, greets},
};

const OPS: &str = "ops-token-0123456789abcdef";

async fn start(servers: Value) -> Gate {
    let tokens = json!({ "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } });
    Gate::start(json!({ "proxy": { "auth": { "tokens": tokens } }, "mcpServers": servers })).await
}

async fn shown(gate: &Gate, name: &str) -> Value {
    let (status, _, body) = gate.ask(&get(&format!("/servers/{name}"), OPS, "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_server_that_is_reached_byte_for_byte_is_shown_as_it_fared_last() {
    let server = Upstream::bind().await;
    let gate = start(json!({ "db": { "url": server.url("/mcp") } })).await;
    let unused = shown(&gate, "db").await;
    assert_eq!(
        (&unused["running"], &unused["lastOk"], &unused["lastError"]),
        (&json!(true), &Value::Null, &Value::Null)
    );

    let answered = async |status: &str| {
        let mut client = gate.client().await;
        client.send(post("/db/mcp", DEV, "", INITIALIZE)).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")).await;
        client.response().await.0
    };
    assert_eq!(answered("200 OK").await, 200);
    let well = shown(&gate, "db").await;
    assert!(well["lastOk"].as_str().unwrap().ends_with('Z') && well["lastError"].is_null(), "{well}");

    // Nothing behind it, says what is in front of it.
    assert_eq!(answered("503 No").await, 503);
    let down = shown(&gate, "db").await;
    assert_eq!((&down["running"], &down["problem"]), (&json!(false), &json!("the server answered 503")));
    assert_eq!(down["lastOk"], well["lastOk"]);
    // An answer, even if it is no good one.
    assert_eq!(answered("500 No").await, 500);
    let back = shown(&gate, "db").await;
    assert_eq!((&back["running"], &back["problem"]), (&json!(true), &Value::Null));
    assert_eq!(back["lastError"]["cause"], "the server answered 500");
    assert_eq!(answered("404 No").await, 404);

    drop(server);
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", INITIALIZE)).await.0, 502);
    let gone = shown(&gate, "db").await;
    assert_eq!((&gone["running"], &gone["problem"]), (&json!(false), &gone["lastError"]["cause"]));
    assert!(gone["lastError"]["at"].as_str().unwrap().ends_with('Z'), "{gone}");
    let (_, _, status) = gate.ask("GET /status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(status.contains(r#""running":0"#), "{status}");
}

#[tokio::test]
async fn a_server_that_breaks_off_its_answers_is_not_well() {
    let server = Upstream::bind().await;
    let gate = start(json!({ "db": { "url": server.url("/mcp") } })).await;
    let by_length = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n";
    // Past hyper, and through it.
    let ways = [
        ("", by_length),
        ("Connection: close\r\n", by_length),
        ("", chunked),
        ("Connection: close\r\n", chunked),
    ];
    for (count, (fields, answer)) in ways.into_iter().enumerate() {
        let mut client = gate.client().await;
        client.send(post("/db/mcp", DEV, fields, "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.exactly(2).await;
        behind.send(answer).await;
        client.head().await;
        assert_eq!(shown(&gate, "db").await["running"], true, "it may yet be whole");
        drop(behind);
        client.rest().await;
        let broken = shown(&gate, "db").await;
        assert_eq!(broken["running"], false, "{broken}");
        assert_eq!(broken["problem"], broken["lastError"]["cause"]);
        assert_eq!(gate.upstream_errors(), count as u64 + 1);
    }
    // A client that leaves is no failure of the server's, and a whole answer ends what was wrong.
    let mut client = gate.client().await;
    client.send(post("/db/mcp", DEV, "", "{}")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.exactly(2).await;
    behind.send(by_length).await;
    client.head().await;
    drop(client);
    behind.rest().await;
    assert_eq!(shown(&gate, "db").await["running"], true);
    assert_eq!(gate.upstream_errors(), 4);
}

#[tokio::test]
async fn a_server_that_is_reached_by_messages_is_shown_as_it_fared_last() {
    let demo = format!("http://{}/mcp", demo().await);
    let servers = json!({
        "small": command(), "demo": { "url": demo }, "gone": { "url": "http://127.0.0.1:1/mcp" },
        "own": { "inline": { "tools": [
            { "name": "good", "command": "true" }, { "name": "bad", "command": "/no/such/program" },
        ] } },
    });
    let gate = start(servers).await;
    let session = Session::open(&gate, "/mcp", DEV).await;
    for name in ["small", "demo"] {
        let shown = shown(&gate, name).await;
        assert!(
            shown["running"] == true && shown["lastOk"].is_string() && shown["lastError"].is_null(),
            "{shown}"
        );
    }
    let gone = shown(&gate, "gone").await;
    assert!(gone["running"] == false && gone["lastOk"].is_null() && gone["problem"].is_string(), "{gone}");

    session.post(&call(1, "small__die", json!({}))).await;
    until("its end was noticed", || !gate.gateway.shared().live().entry("small").unwrap().is_running()).await;
    let died = shown(&gate, "small").await;
    assert!(died["lastOk"].is_string() && died["lastError"]["cause"].is_string(), "{died}");
    let own = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(own.call("echo", json!({ "text": "on" })).await, "on");
    let back = shown(&gate, "small").await;
    assert!(back["running"] == true && back["lastError"] == died["lastError"], "{back}");

    session.call("own__good", json!({})).await;
    session.call("own__bad", json!({})).await;
    let own = shown(&gate, "own").await;
    assert!(own["running"] == true && own["lastError"]["cause"].as_str().unwrap().contains("bad"), "{own}");
}

#[tokio::test]
async fn what_a_caller_may_not_is_no_problem_of_the_servers() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp"), "authTokens": ["dev"] } });
    let gate = start(servers).await;
    assert_eq!(gate.ask(&post("/db/mcp", OPS, "", INITIALIZE)).await.0, 403);
    assert_eq!(gate.ask(&get("/db/mcp", DEV, "").replacen("GET", "PATCH", 1)).await.0, 405);
    let shown = shown(&gate, "db").await;
    assert!(shown["running"] == true && shown["lastError"].is_null(), "{shown}");
}

#[tokio::test]
async fn where_the_gate_itself_speaks_it_says_what_it_is() {
    let server = Scripted::start(|asked| match asked["method"].as_str() {
        Some("initialize") => {
            let greeting = greets(asked, json!({ "tools": {} }))?;
            let greeting = String::from_utf8(greeting).unwrap();
            Some(greeting.replacen("\r\n", "\r\nMcp-Session-Id: s\r\n", 1).into())
        }
        Some("tools/list") => answers(asked, json!({ "result": { "tools": [] } })),
        _ => None,
    })
    .await;
    let gate = start(json!({
        "db": { "url": server.url() },
        "own": { "url": server.url(), "headers": { "User-Agent": "of-the-config/1" } },
    }))
    .await;
    let session = Session::open(&gate, "/mcp?servers=db", DEV).await;
    assert!(session.tools().await.is_empty());
    assert_eq!(session.delete().await, 204);
    until("it ended its session", || server.heads().iter().any(|head| head.starts_with("DELETE "))).await;
    let named = format!("\r\nuser-agent: sluicegate/{}\r\n", env!("CARGO_PKG_VERSION"));
    let heads = server.heads();
    assert!(heads.len() >= 4 && heads.iter().all(|head| head.contains(&named)), "{heads:#?}");
    // What the config says, wins; and a client that is passed on keeps its own name.
    Session::open(&gate, "/mcp?servers=own", DEV).await;
    gate.ask(&post("/db/mcp", DEV, "User-Agent: a-client/1\r\n", INITIALIZE)).await;
    let heads = server.heads().join("").to_ascii_lowercase();
    assert!(
        heads.contains("user-agent: of-the-config/1") && heads.contains("user-agent: a-client/1"),
        "{heads}"
    );
}
