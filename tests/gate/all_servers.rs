//! All servers as one, at `/mcp`, `/sse` and `/message`: a command, a remote server and tools of the config, behind one
//! session or none.

mod apps;
mod broken_lists;
mod grants;
mod patience;
mod reloads;

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, field, get, pause, post, soon, until},
    mcp::{
        INITIALIZE, Session, SseSession, call, command, demo, equal_ids_do_not_mix, event, is_alive, is_gone,
        modern, modern_call, names, request, text,
    },
};

fn inline() -> Value {
    let schema =
        json!({ "type": "object", "properties": { "who": { "type": "string" } }, "required": ["who"] });
    json!({ "inline": { "tools": [
        { "name": "greet", "inputSchema": schema, "command": "echo", "args": ["good day,", "{{who}}"] },
    ] } })
}

/// A command, a remote server, and tools of the config. On a busy machine the command takes long to start, and the others are
/// not to answer without it.
async fn config() -> Value {
    let demo = format!("http://{}/mcp", demo().await);
    json!({
        "proxy": { "aggregate": { "discoveryTimeout": "20s" } },
        "mcpServers": { "small": command(), "demo": { "url": demo, "tags": ["web"] }, "own": inline() },
    })
}

/// The same with `aggregate`.
async fn config_with(aggregate: Value) -> Value {
    let mut config = config().await;
    config["proxy"]["aggregate"] = aggregate;
    config
}

async fn open(gate: &Gate) -> Session {
    Session::open(gate, "/mcp", DEV).await
}

/// Of which servers a session lists tools.
async fn seen(session: &Session) -> Vec<String> {
    let mut servers: Vec<_> =
        session.tools().await.iter().map(|tool| tool.split("__").next().unwrap().to_owned()).collect();
    servers.dedup();
    servers
}

async fn asked(gate: &Gate, request: &str) -> (u16, Value) {
    let (status, _, body) = gate.ask(request).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
}

const UNKNOWN: i64 = -32602;

/// Asserts that a call is answered as one of a tool that nobody has heard of.
async fn is_unknown(session: &Session, tool: &str) {
    let answer = session.ask(&call(1, tool, json!({}))).await;
    let expected = json!({ "code": UNKNOWN, "message": format!("Unknown tool: {tool}") });
    assert_eq!(answer["error"], expected, "{answer}");
}

#[tokio::test]
async fn tools_of_every_server_are_listed_and_called_by_server_and_name() {
    let gate = Gate::start(config().await).await;
    let session = open(&gate).await;
    assert_eq!(session.greeting["result"]["serverInfo"]["name"], "test gate");
    let tools = session.tools().await;
    for tool in ["small__echo", "small__pid", "demo__echo", "demo__countdown", "own__greet"] {
        assert!(tools.iter().any(|listed| listed == tool), "{tool}: {tools:?}");
    }
    assert_eq!(session.call("small__echo", json!({ "text": "here" })).await, "here");
    assert_eq!(session.call("demo__echo", json!({ "text": "there" })).await, "there");
    assert_eq!(session.call("own__greet", json!({ "who": "you" })).await, "good day, you\n");
    for tool in ["echo", "none__echo", "small__", "__echo"] {
        if tool == "small__" {
            // The server that it leads to says so itself.
            assert_eq!(session.ask(&call(1, tool, json!({}))).await["error"]["code"], UNKNOWN);
        } else {
            is_unknown(&session, tool).await;
        }
    }
    assert_eq!(session.delete().await, 204);
    assert_eq!(session.post(&call(1, "demo__clock", json!({}))).await.0, 404);
}

#[tokio::test]
async fn over_http_sse_it_is_the_same() {
    let gate = Gate::start(config().await).await;
    let mut session = SseSession::open(&gate, "/sse", DEV).await;
    assert!(session.url.starts_with("/message?sessionId="), "{}", session.url);
    let tools = names(&session.ask(&request(1, "tools/list", json!({}))).await);
    assert!(tools.contains(&"small__echo".into()) && tools.contains(&"demo__echo".into()), "{tools:?}");
    assert_eq!(session.call("small__echo", json!({ "text": "here" })).await, "here");
    assert_eq!(session.call("demo__echo", json!({ "text": "there" })).await, "there");
    assert_eq!(session.call("own__greet", json!({ "who": "you" })).await, "good day, you\n");
    session.post(&call(9, "small__ask", json!({}))).await;
    let question = session.event().await;
    assert_eq!(question["method"], "sampling/createMessage");
    session
        .post(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } }).to_string())
        .await;
    assert_eq!(text(&session.event().await), r#"it said {"model": "m"}"#);

    let pid = session.call("small__pid", json!({})).await.parse().unwrap();
    assert!(is_alive(pid));
    let url = session.url.clone();
    drop(session);
    is_gone(pid).await;
    assert_eq!(gate.ask(&post(&url, DEV, "", INITIALIZE)).await.0, 404);
}

#[tokio::test]
async fn progress_logs_questions_and_changes_come_to_the_call_that_they_belong_to() {
    let gate = Gate::start(config().await).await;
    let session = open(&gate).await;
    for (id, tool, arguments) in
        [(3, "small__progress", json!({})), (4, "demo__countdown", json!({ "n": 2, "interval_ms": 1 }))]
    {
        let mut client = session.stream(&call(id, tool, arguments)).await;
        for step in [1, 2] {
            let progress = event(&mut client).await;
            assert_eq!(progress["params"]["progressToken"], format!("p{id}"), "{tool}");
            assert_eq!(progress["params"]["progress"], step, "{tool}");
        }
        assert_eq!(event(&mut client).await["id"], id, "{tool}");
        assert_eq!(client.chunk().await, None, "the answer is the last");
    }

    let mut client = session.stream(&call(5, "small__log", json!({}))).await;
    assert_eq!(event(&mut client).await["params"]["data"], "a line");
    assert_eq!(event(&mut client).await["id"], 5);

    let mut client = session.stream(&call(6, "small__change", json!({}))).await;
    assert_eq!(event(&mut client).await["method"], "notifications/tools/list_changed");
    assert_eq!(event(&mut client).await["id"], 6);

    // The server asks under the id of the call; the client sees another, since two servers may choose the same.
    let mut client = session.stream(&call(7, "small__ask", json!({}))).await;
    let question = event(&mut client).await;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(session.post(&answer.to_string()).await.0, 202);
    let result = event(&mut client).await;
    assert_eq!((&result["id"], text(&result)), (&json!(7), r#"it said {"model": "m"}"#.to_owned()));
}

#[tokio::test]
async fn prompts_and_resources_lead_to_the_server_that_has_them() {
    let gate = Gate::start(config().await).await;
    let session = open(&gate).await;
    let prompts = session.ask(&request(1, "prompts/list", json!({}))).await;
    assert_eq!(prompts["result"]["prompts"], json!([{ "name": "small__greeting" }]));
    let got = session.ask(&request(2, "prompts/get", json!({ "name": "small__greeting" }))).await;
    assert_eq!(got["result"]["description"], "greeting");
    let resources = session.ask(&request(3, "resources/list", json!({}))).await;
    assert_eq!(resources["result"]["resources"][0]["uri"], "note://small");
    let read = session.ask(&request(4, "resources/read", json!({ "uri": "note://small" }))).await;
    assert_eq!(read["result"]["contents"][0]["text"], "a note");
    let unknown = session.ask(&request(5, "resources/read", json!({ "uri": "note://none" }))).await;
    assert_eq!(unknown["error"]["code"], -32002, "of two, only one has resources");
}

#[tokio::test]
async fn clients_that_choose_the_same_ids_get_their_own_answers() {
    let gate = Gate::start(config().await).await;
    let (one, two) = (open(&gate).await, open(&gate).await);
    let mut callers = Vec::new();
    for (n, session) in [&one, &two].into_iter().cycle().take(2).enumerate() {
        for server in ["small", "demo"] {
            // One id in both sessions; in a session, one for each server.
            let id = if server == "small" { 1 } else { 2 };
            let body = call(id, &format!("{server}__echo"), json!({ "text": format!("{server} for {n}") }));
            callers.push((id, format!("{server} for {n}"), session.sent(&body).await));
        }
    }
    for (id, said, mut client) in callers {
        let (_, _, body) = client.response().await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&answer["id"], text(&answer)), (&json!(id), said));
    }
    assert_ne!(
        one.call("small__pid", json!({})).await,
        two.call("small__pid", json!({})).await,
        "before 2026-07-28 every session has its own process"
    );
}

#[tokio::test]
async fn the_separator_is_configured() {
    let gate = Gate::start(config_with(json!({ "separator": "." })).await).await;
    let session = open(&gate).await;
    assert!(session.tools().await.contains(&"demo.echo".into()));
    assert_eq!(session.call("demo.echo", json!({ "text": "x" })).await, "x");
    is_unknown(&session, "demo__echo").await;
}

#[tokio::test]
async fn flat_names_follow_the_configured_rule_where_two_servers_have_the_same() {
    // Both `demo` and `small` have `echo`.
    let gate = Gate::start(config_with(json!({ "mode": "flat" })).await).await;
    let session = open(&gate).await;
    let tools = session.tools().await;
    assert!(tools.contains(&"greet".into()) && tools.contains(&"clock".into()), "{tools:?}");
    assert!(!tools.iter().any(|tool| tool.contains("echo")), "{tools:?}");
    is_unknown(&session, "echo").await;
    gate.log
        .line("Two servers offer the same name", &[("name", json!("echo")), ("other", json!("small"))])
        .await;
    assert_eq!(session.call("greet", json!({ "who": "you" })).await, "good day, you\n");

    let gate = Gate::start(config_with(json!({ "mode": "flat", "onCollision": "first" })).await).await;
    let session = open(&gate).await;
    assert_eq!(session.tools().await.iter().filter(|tool| *tool == "echo").count(), 1);
    // It is that of `demo`, which insists on a text.
    assert_eq!(session.call("echo", json!({})).await, "text must be a string");

    let gate = Gate::start(config_with(json!({ "mode": "flat", "onCollision": "prefix" })).await).await;
    // A client need not list before it calls.
    let session = open(&gate).await;
    assert_eq!(session.call("demo__echo", json!({ "text": "there" })).await, "there");
    assert_eq!(session.call("small__echo", json!({})).await, "");
    is_unknown(&session, "echo").await;
}

#[tokio::test]
async fn three_tools_stand_for_all_where_the_config_says_so() {
    let gate = Gate::start(config_with(json!({ "lazy": true })).await).await;
    let session = open(&gate).await;
    assert_eq!(session.tools().await, ["tool_invoke", "tool_list", "tool_schema"]);
    let listed = session.call("tool_list", json!({})).await;
    for tool in ["small__echo", "demo__clock: Tells the time, in UTC.", "own__greet"] {
        assert!(listed.contains(tool), "{listed}");
    }
    let found = session.call("tool_list", json!({ "query": "the time" })).await;
    assert!(found.contains("demo__clock") && !found.contains("small"), "{found}");
    let schema: Value =
        serde_json::from_str(&session.call("tool_schema", json!({ "name": "own__greet" })).await).unwrap();
    assert_eq!(
        (&schema["name"], &schema["inputSchema"]["required"]),
        (&json!("own__greet"), &json!(["who"]))
    );
    let invoke = json!({ "name": "own__greet", "arguments": { "who": "you" } });
    assert_eq!(session.call("tool_invoke", invoke).await, "good day, you\n");
    let mut client =
        session.stream(&call(4, "tool_invoke", json!({ "name": "small__progress", "arguments": {} }))).await;
    assert_eq!(event(&mut client).await["params"]["progressToken"], "p4");
}

#[tokio::test]
async fn a_client_selects_servers_by_name_or_by_tag() {
    let mut config = config().await;
    config["mcpServers"]["small"]["tags"] = json!(["web", "local"]);
    let gate = Gate::start(config).await;
    for (query, servers) in [
        ("?servers=small", &["small"][..]),
        ("?servers=own,demo", &["demo", "own"]),
        ("?servers=small,nobody", &["small"]),
        ("?servers=nobody", &[]),
        ("?tags=web", &["demo", "small"]),
        ("?tags=local,web", &["demo", "small"]),
        ("?tags=local,web&match=all", &["small"]),
        ("?tags=none", &[]),
    ] {
        let session = Session::open(&gate, &format!("/mcp{query}"), DEV).await;
        assert_eq!(seen(&session).await, servers, "{query}");
        // What is not selected cannot be called either.
        if !servers.contains(&"demo") {
            is_unknown(&session, "demo__clock").await;
        }
        let list = modern(&format!("/mcp{query}"), DEV, 1, "tools/list", json!({}));
        let (status, list) = asked(&gate, &list).await;
        let names = names(&list);
        assert_eq!(
            (status, names.iter().any(|name| name == "demo__clock")),
            (200, servers.contains(&"demo"))
        );
    }
    let mut session = SseSession::open(&gate, "/sse?servers=demo", DEV).await;
    let tools = names(&session.ask(&request(1, "tools/list", json!({}))).await);
    assert!(tools.iter().all(|tool| tool.starts_with("demo__")) && tools.len() == 3, "{tools:?}");

    for query in ["servers=small&tags=web", "servers=", "tags=web&match=some"] {
        for request in [
            post(&format!("/mcp?{query}"), DEV, "", INITIALIZE),
            get(&format!("/sse?{query}"), DEV, "Accept: text/event-stream\r\n"),
            modern(&format!("/mcp?{query}"), DEV, 1, "tools/list", json!({})),
        ] {
            let (status, body) = asked(&gate, &request).await;
            assert_eq!((status, &body["error"]), (400, &json!("bad_selector")), "{request}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_costs_only_itself() {
    let mut config = config_with(json!({ "discoveryTimeout": "300ms" })).await;
    let servers = &mut config["mcpServers"];
    servers["refuses"] = json!({ "url": "http://127.0.0.1:1/mcp" });
    servers["absent"] = json!({ "command": "/no/such/program" });
    servers["silent"] = json!({ "command": "sleep", "args": ["1000"] });
    config["proxy"]["admin"] = json!({ "addr": "127.0.0.1:0" });
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    // One that is slow to begin joins later, as on a busy machine the command may be.
    soon("all that work", async { while seen(&session).await != ["demo", "own", "small"] {} }).await;
    assert_eq!(session.call("demo__echo", json!({ "text": "on" })).await, "on");
    let (status, body) = session.post(&call(1, "refuses__x", json!({}))).await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");

    let admin = gate.gateway.admin_addr().unwrap();
    let mut client = crate::harness::Client::new(tokio::net::TcpStream::connect(admin).await.unwrap());
    client.send("GET /servers HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (_, _, body) = client.response().await;
    let shown: Value = serde_json::from_str(&body).unwrap();
    let problem = |name: &str| {
        let servers = shown["servers"].as_array().unwrap();
        servers.iter().find(|server| server["name"] == name).unwrap()["problem"].clone()
    };
    for name in ["refuses", "absent", "silent"] {
        assert!(problem(name).is_string(), "{name}: {shown}");
    }
    assert_eq!((problem("small"), problem("demo")), (Value::Null, Value::Null), "{shown}");

    client.send("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (_, _, body) = client.response().await;
    let shown: Value = serde_json::from_str(&body).unwrap();
    let mut down: Vec<_> =
        shown["servers"]["down"].as_array().unwrap().iter().map(Value::to_string).collect();
    down.sort();
    assert_eq!(down, [r#""absent""#, r#""refuses""#, r#""silent""#]);
    let (_, _, open_to_all) = gate.ask("GET /status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!open_to_all.contains("down") && !open_to_all.contains("absent"), "{open_to_all}");
}

#[tokio::test]
async fn a_server_that_dies_fails_its_calls_and_comes_back() {
    let gate = Gate::start(config().await).await;
    let session = open(&gate).await;
    let (status, body) = session.post(&call(1, "small__die", json!({}))).await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    assert_eq!(session.call("demo__echo", json!({ "text": "on" })).await, "on");
    // That its tools are there again is told here, and not on the way of an answer.
    let _listening = session.listen().await;
    // Not dialled by every call, yet by one of the next seconds.
    let answered = soon("an answer of the new process", async {
        loop {
            let (status, body) = session.post(&call(1, "small__echo", json!({ "text": "back" }))).await;
            if status == 200 {
                return body;
            }
            assert_eq!(status, 502, "{body}");
            pause().await;
        }
    });
    assert_eq!(text(&serde_json::from_str(&answered.await).unwrap()), "back");
}

#[tokio::test]
async fn from_2026_on_all_servers_are_called_without_a_session() {
    let gate = Gate::start(config().await).await;
    let (status, head, body) = gate.ask(&modern("/mcp", DEV, 1, "server/discover", json!({}))).await;
    let discovered: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, field(&head, "mcp-session-id")), (200, None), "{body}");
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(discovered["result"]["resultType"], "complete");

    let (status, listed) = asked(&gate, &modern("/mcp", DEV, 1, "tools/list", json!({}))).await;
    assert_eq!((status, &listed["result"]["cacheScope"]), (200, &json!("private")));
    assert!(names(&listed).contains(&"own__greet".into()), "{listed}");

    for (tool, arguments, said) in [
        ("small__echo", json!({ "text": "here" }), "here"),
        ("demo__echo", json!({ "text": "there" }), "there"),
        ("own__greet", json!({ "who": "you" }), "good day, you\n"),
    ] {
        let (status, answer) = asked(&gate, &modern_call("/mcp", DEV, 1, tool, arguments)).await;
        assert_eq!((status, &answer["id"]), (200, &json!(1)), "{answer}");
        assert_eq!((text(&answer).as_str(), &answer["result"]["resultType"]), (said, &json!("complete")));
    }

    equal_ids_do_not_mix(&gate, "/mcp", &["small__echo", "demo__echo"], "demo__countdown").await;

    // The name in the header is the one that the client knows.
    let wrong =
        modern_call("/mcp", DEV, 1, "demo__echo", json!({})).replace("Mcp-Name: demo", "Mcp-Name: small");
    let (status, answer) = asked(&gate, &wrong).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32020)));
}

#[tokio::test]
async fn from_2026_on_a_caller_that_leaves_has_its_call_cancelled() {
    let gate = Gate::start(config().await).await;
    let mut leaving = gate.client().await;
    leaving.send(modern_call("/mcp", DEV, 1, "small__sleep", json!({}))).await;
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    drop(leaving);
    until("the server heard of it", || gate.log.text().contains("cancelled")).await;
    let (_, answer) =
        asked(&gate, &modern_call("/mcp", DEV, 1, "small__echo", json!({ "text": "on" }))).await;
    assert_eq!(text(&answer), "on");
}

#[tokio::test]
async fn where_one_server_is_older_clients_fall_back_to_a_session() {
    let mut config = config().await;
    config["mcpServers"]["small"]["env"]["LEGACY"] = json!("1");
    let gate = Gate::start(config).await;
    let (status, answer) = asked(&gate, &modern("/mcp", DEV, 1, "server/discover", json!({}))).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!(-32601)), "as an older server answers");
    let session = open(&gate).await;
    assert_eq!(seen(&session).await, ["demo", "own", "small"]);
    // Without the older one there is no need to.
    let discover = modern("/mcp?servers=demo,own", DEV, 1, "server/discover", json!({}));
    assert_eq!(asked(&gate, &discover).await.0, 200);
}
