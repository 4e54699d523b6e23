//! A client of one transport on a server of the other. The server is another gateway with a command behind it, so everything
//! that a server may do passes twice: it asks its client, reports progress, and forgets sessions.

use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, get, post, until},
    mcp::{
        INITIALIZE, Session, SseSession, call, command, demo, equal_ids_do_not_mix, event, is_alive, is_gone,
        is_over, modern, modern_call, names, request, text,
    },
    recorder::Recorder,
};

const ADMIN: &str = "admin-token-0123456789abcdef";

/// The server behind the gateway: it takes one token, which is not one of the gateway's clients.
async fn far() -> Gate {
    let tokens = json!({ "ci": CI, "ops": { "value": ADMIN, "roles": ["admin"] } });
    Gate::start(json!({ "proxy": { "auth": { "tokens": tokens } }, "mcpServers": { "small": command() } }))
        .await
}

/// What that server can do is done by a client that has the gateway's token only.
fn config(far: &Gate, door: &str) -> Value {
    let transport = if door == "sse" { "sse" } else { "streamable-http" };
    json!({
        "proxy": { "auth": { "tokens": { "dev": DEV } } },
        "mcpServers": { "far": {
            "url": format!("http://{}/small/{door}", far.addr),
            "transportType": transport,
            "headers": { "Authorization": format!("Bearer {CI}") },
        } },
    })
}

/// Has the server forget its sessions, and end its processes.
async fn forget(far: &Gate) {
    let restart = post("/servers/small/restart", ADMIN, "", "");
    assert_eq!(far.ask(&restart).await.0, 200);
}

/// How often the server said this until now.
async fn count(far: &Gate, line: &str) -> usize {
    // Time enough for what it said before to come, too.
    let mark = Session::open(far, "/small/mcp", CI).await;
    assert_eq!(mark.call("note", json!({ "text": "mark" })).await, "noted");
    far.log.line("Server wrote to stderr", &[("line", json!("noted mark"))]).await;
    far.log.all().iter().filter(|logged| logged["line"] == line).count()
}

#[tokio::test]
async fn a_streamable_client_meets_an_sse_server() {
    let far = far().await;
    let gate = Gate::start(config(&far, "sse")).await;
    let session = Session::open(&gate, "/far/mcp", DEV).await;
    assert_eq!(session.greeting["result"]["serverInfo"]["name"], "small");
    assert!(session.tools().await.contains(&"echo".into()));
    assert_eq!(session.call("echo", json!({ "text": "grün" })).await, "grün");

    let mut client = session.stream(&call(3, "progress", json!({}))).await;
    for step in [1, 2] {
        assert_eq!(event(&mut client).await["params"], json!({ "progressToken": "p3", "progress": step }));
    }
    assert_eq!(event(&mut client).await["id"], 3);
    assert_eq!(client.chunk().await, None, "the answer is the last");

    let mut client = session.stream(&call(4, "log", json!({}))).await;
    assert_eq!(event(&mut client).await["params"]["data"], "a line");
    assert_eq!(event(&mut client).await["id"], 4);

    let mut client = session.stream(&call(5, "ask", json!({}))).await;
    let question = event(&mut client).await;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(session.post(&answer.to_string()).await.0, 202);
    assert_eq!(text(&event(&mut client).await), r#"it said {"model": "m"}"#);

    // What belongs to no request is kept until somebody listens.
    assert_eq!(session.call("after", json!({})).await, "told");
    assert_eq!(event(&mut session.listen().await).await["params"]["data"], "afterwards");

    let pid = session.pid().await;
    assert_eq!(session.delete().await, 204);
    is_gone(pid).await;
    assert_eq!(session.post(&call(6, "pid", json!({}))).await.0, 404);
}

#[tokio::test]
async fn an_sse_client_meets_a_streamable_server() {
    let far = far().await;
    let gate = Gate::start(config(&far, "mcp")).await;
    let mut session = SseSession::open(&gate, "/far/sse", DEV).await;
    assert!(session.url.starts_with("/far/message?sessionId="), "{}", session.url);
    let listed = session.ask(&request(1, "tools/list", json!({}))).await;
    assert!(names(&listed).contains(&"echo".into()), "{listed}");
    assert_eq!(session.call("echo", json!({ "text": "grün" })).await, "grün");

    session.post(&call(3, "progress", json!({}))).await;
    for step in [1, 2] {
        assert_eq!(session.event().await["params"], json!({ "progressToken": "p3", "progress": step }));
    }
    assert_eq!(session.event().await["id"], 3);

    session.post(&call(5, "ask", json!({}))).await;
    let question = session.event().await;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    session.post(&answer.to_string()).await;
    assert_eq!(text(&session.event().await), r#"it said {"model": "m"}"#);

    // The two come on connections of their own, in whichever order.
    session.post(&call(6, "after", json!({}))).await;
    let mut both = [session.event().await, session.event().await];
    both.sort_by_key(|message| message.get("id").is_none());
    assert_eq!((text(&both[0]).as_str(), &both[1]["params"]["data"]), ("told", &json!("afterwards")));

    let pid = session.call("pid", json!({})).await.parse().unwrap();
    assert!(is_alive(pid));
    drop(session);
    is_gone(pid).await;
}

#[tokio::test]
async fn a_client_of_2026_meets_an_sse_server_that_answers_it() {
    let demo = demo().await;
    let config = json!({ "mcpServers": { "far": { "url": format!("http://{demo}/sse") } } });
    let gate = Gate::start(config).await;
    let (status, _, body) = gate.ask(&modern("/far/mcp", DEV, 1, "tools/list", json!({}))).await;
    let listed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, names(&listed)), (200, ["clock", "countdown", "echo"].map(Into::into).into()));
    equal_ids_do_not_mix(&gate, "/far/mcp", &["echo"], "countdown").await;
}

#[tokio::test]
async fn a_streamable_server_that_forgot_the_session_gets_a_new_one_and_runs_the_call_once() {
    let far = far().await;
    let gate = Gate::start(config(&far, "mcp")).await;
    let mut session = SseSession::open(&gate, "/far/sse", DEV).await;
    let before = session.call("pid", json!({})).await;
    forget(&far).await;
    assert_eq!(session.call("note", json!({ "text": "once" })).await, "noted");
    let after = session.call("pid", json!({})).await;
    assert_ne!(before, after);
    far.log.line("Server wrote to stderr", &[("line", json!("noted once"))]).await;
    assert_eq!(count(&far, "noted once").await, 1);
    // The new session is like the old one: the server may still ask its client.
    session.post(&call(5, "ask", json!({}))).await;
    assert_eq!(session.event().await["method"], "sampling/createMessage");
}

#[tokio::test]
async fn an_sse_server_that_ends_the_stream_ends_the_session() {
    let far = far().await;
    let gate = Gate::start(config(&far, "sse")).await;
    let session = Session::open(&gate, "/far/mcp", DEV).await;
    let mut waiting = session.sent(&call(1, "sleep", json!({}))).await;
    far.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    forget(&far).await;
    let (status, _, body) = waiting.response().await;
    // The server may tell of its end before it ends.
    let was_told = status == 200 && body.contains("\"error\":{\"code\":502");
    assert!(was_told || status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    assert_eq!(session.post(&call(2, "pid", json!({}))).await.0, 404, "the client has to initialize again");
    assert_eq!(count(&far, "sleeping").await, 1, "what may have run is not repeated");
    assert_eq!(Session::open(&gate, "/far/mcp", DEV).await.call("echo", json!({ "text": "on" })).await, "on");
}

#[tokio::test]
async fn a_call_that_may_have_run_is_not_repeated() {
    let far = far().await;
    let gate = Gate::start(config(&far, "mcp")).await;
    let mut session = SseSession::open(&gate, "/far/sse", DEV).await;
    let failed = session.ask(&call(1, "die", json!({}))).await;
    assert_eq!(failed["id"], 1);
    assert!(
        failed["error"]["code"].as_i64().unwrap() > 0,
        "not one of the codes of JSON-RPC or MCP: {failed}"
    );
    // The session went with the process. The next call did not run when that was noticed, and runs in a new one.
    assert_eq!(session.call("note", json!({ "text": "next" })).await, "noted");
    far.log.line("Server wrote to stderr", &[("line", json!("noted next"))]).await;
    assert_eq!(count(&far, "noted next").await, 1);
}

#[tokio::test]
async fn the_server_gets_its_own_credentials_and_not_the_callers() {
    let recorder = Recorder::start().await;
    let server = |transport: &str| {
        json!({
            "url": recorder.url("/x"), "transportType": transport, "timeout": "2s",
            "headers": { "Authorization": "Bearer of-the-server", "X-Team": "core" },
        })
    };
    let servers = json!({ "one": server("sse"), "two": server("streamable-http") });
    let gate = Gate::start(json!({ "mcpServers": servers })).await;
    let fields = format!("Cookie: a={DEV}\r\nX-Api-Key: {DEV}\r\nX-Mine: 1\r\n");
    // The recorder is no MCP server, so nothing comes of either.
    assert_eq!(gate.ask(&post("/one/mcp", DEV, &fields, INITIALIZE)).await.0, 502);
    let mut stream = gate.client().await;
    stream.send(get("/two/sse", DEV, &fields)).await;
    stream.head().await;
    let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end();
    assert_eq!(gate.ask(&post(url, DEV, &fields, INITIALIZE)).await.0, 202);
    assert_eq!(event(&mut stream).await["error"]["code"], 502);

    let seen = recorder.requests();
    assert!(seen[0].starts_with("GET /x ") && seen[1].starts_with("POST /x "), "{seen:#?}");
    for request in &seen {
        assert!(!request.contains(DEV) && !request.contains("X-Mine"), "{request}");
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains("authorization: bearer of-the-server\r\n"), "{request}");
        assert!(lower.contains("x-team: core\r\n"), "{request}");
        assert_eq!(lower.matches("authorization:").count(), 1, "{request}");
    }
}

#[tokio::test]
async fn a_token_taken_out_closes_the_leg_to_the_server() {
    let far = far().await;
    for door in ["sse", "mcp"] {
        let config = config(&far, door);
        let mut gate = Gate::start(config.clone()).await;
        let (pid, mut stream) = if door == "sse" {
            let session = Session::open(&gate, "/far/mcp", DEV).await;
            (session.pid().await, session.listen().await)
        } else {
            let mut session = SseSession::open(&gate, "/far/sse", DEV).await;
            (session.call("pid", json!({})).await.parse().unwrap(), session.stream)
        };
        assert!(is_alive(pid));
        let mut without = config;
        without["proxy"] = json!({ "auth": { "tokens": { "ci": CI } } });
        gate.reload(without);
        is_over(&mut stream).await;
        is_gone(pid).await;
        until("the far end has no session left", || far.gateway.shared().sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn among_all_servers_too_a_session_that_ends_ends_at_the_server() {
    let far = far().await;
    for door in ["sse", "mcp"] {
        let config = config(&far, door);
        let mut gate = Gate::start(config.clone()).await;
        let session = Session::open(&gate, "/mcp", DEV).await;
        assert_eq!(session.call("far__echo", json!({ "text": "on" })).await, "on");
        assert_eq!(far.gateway.shared().sessions.len(), 1);
        assert_eq!(session.delete().await, 204);
        until("the far end has no session left", || far.gateway.shared().sessions.is_empty()).await;

        let session = Session::open(&gate, "/mcp", DEV).await;
        let pid = session.call("far__pid", json!({})).await.parse().unwrap();
        let mut without = config;
        without["mcpServers"]["far"]["roles"] = json!(["nobody-has"]);
        gate.reload(without);
        is_gone(pid).await;
        until("the far end has no session left", || far.gateway.shared().sessions.is_empty()).await;
        assert_eq!(session.tools().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_bad_gateway() {
    let servers = json!({
        "one": { "url": "http://127.0.0.1:1/sse" }, "two": { "url": "http://127.0.0.1:1/mcp" },
    });
    let gate = Gate::start(json!({ "mcpServers": servers })).await;
    let (status, _, body) = gate.ask(&post("/one/mcp", DEV, "", INITIALIZE)).await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    let (status, _, body) = gate.ask(&modern_call("/one/mcp", DEV, 1, "echo", json!({}))).await;
    assert!(status == 502 && body.contains("upstream_unreachable"), "{status} {body}");
    // The session of an HTTP+SSE client begins before its server is asked for anything.
    let mut stream = gate.client().await;
    stream.send(get("/two/sse", DEV, "")).await;
    stream.head().await;
    let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end();
    assert_eq!(gate.ask(&post(url, DEV, "", INITIALIZE)).await.0, 202);
    assert_eq!(event(&mut stream).await["error"]["code"], 502);
}
