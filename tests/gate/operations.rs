//! What was asked of which server, how long its answer took, and how a request is found again: in the log, in the metrics,
//! and in what the client gets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, SSE, Upstream, chunk, field, get, post, until},
    mcp::{INITIALIZE, Session, call, command, event, modern_call, request},
    recorder::Recorder,
};

const EVENTS_FIRST: &str = "Accept: text/event-stream, application/json\r\n";

/// How often this was observed.
fn count(gate: &Gate, server: &str, method: &str) -> u64 {
    let series = format!(
        "sluicegate_server_operation_duration_seconds_count{{rpc_method=\"{method}\",server=\"{server}\"}} "
    );
    let metrics = gate.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

async fn counted(gate: &Gate, server: &str, method: &str, times: u64) {
    until(&format!("{server} {method} counted {times} times"), || count(gate, server, method) == times).await;
}

#[tokio::test]
async fn a_call_through_all_servers_is_told_by_the_server_that_it_is_for() {
    let gate = Gate::start(json!({ "mcpServers": { "files": command(), "files__old": command() } })).await;
    let session = Session::open(&gate, "/mcp", DEV).await;
    session.ask(&call(1, "files__echo", json!({ "text": "secret" }))).await;
    let line = gate.log.line("Authenticated request", &[("tool", json!("echo"))]).await;
    assert_eq!((&line["server"], &line["rpc_method"]), (&json!("files"), &json!("tools/call")), "{line}");
    assert_eq!((&line["path"], &line["rpc_error"]), (&json!("/mcp"), &Value::Null), "{line}");

    // Longer names win, as in calls; an error is told by its code.
    session.ask(&call(2, "files__old__none", json!({}))).await;
    let line = gate.log.line("Authenticated request", &[("tool", json!("none"))]).await;
    assert_eq!((&line["server"], &line["rpc_error"]), (&json!("files__old"), &json!(-32602)), "{line}");

    // What leads nowhere is asked of all; its name stays inside its line.
    session.ask(&call(3, "a\"b\n\u{202e}", json!({}))).await;
    let line = gate.log.line("Authenticated request", &[("tool", json!("a\"b\n\u{202e}"))]).await;
    assert_eq!((&line["server"], &line["rpc_error"]), (&json!("mcp"), &json!(-32602)), "{line}");
    session.ask(&call(4, &"x".repeat(5000), json!({}))).await;
    gate.log.line("Authenticated request", &[("tool", json!("x".repeat(256)))]).await;

    let (status, ..) = gate.ask(&modern_call("/mcp", DEV, 1, "files__pid", json!({}))).await;
    assert_eq!(status, 200);
    let line = gate.log.line("Authenticated request", &[("tool", json!("pid"))]).await;
    assert_eq!(line["server"], "files", "{line}");

    counted(&gate, "files", "tools/call", 2).await;
    counted(&gate, "files__old", "tools/call", 1).await;
    counted(&gate, "mcp", "tools/call", 2).await;
    counted(&gate, "mcp", "initialize", 1).await;
    counted(&gate, "mcp", "notifications/initialized", 1).await;
    assert!(!gate.metrics().contains("echo") && !gate.log.text().contains("secret"));
}

#[tokio::test]
async fn where_messages_are_read_a_line_says_what_was_asked_and_which_error_answered() {
    let gate = Gate::start(json!({ "mcpServers": { "files": command() } })).await;
    let session = Session::open(&gate, "/files/mcp", DEV).await;
    session.ask(&request(1, "evil/method", json!({}))).await;
    let line = gate.log.line("Authenticated request", &[("rpc_method", json!("other"))]).await;
    assert!(line["rpc_error"].is_i64() && line.get("tool").is_none(), "{line}");
    session.ask(&request(2, "tools/list", json!({}))).await;
    gate.log.line("Authenticated request", &[("rpc_method", json!("tools/list"))]).await;

    // An answer is told of whichever way it comes.
    let mut client = session.client().await;
    let fields = format!("{EVENTS_FIRST}{}", session.field);
    client.send(post("/files/mcp", DEV, &fields, &call(3, "none", json!({})))).await;
    client.head().await;
    assert_eq!(event(&mut client).await["error"]["code"], -32602);
    let line = gate.log.line("Stream closed", &[("tool", json!("none"))]).await;
    assert_eq!(line["rpc_error"], -32602, "{line}");
    counted(&gate, "files", "other", 1).await;

    let (status, ..) = gate.ask(&modern_call("/files/mcp", DEV, 1, "nothing", json!({}))).await;
    let line = gate.log.line("Authenticated request", &[("tool", json!("nothing"))]).await;
    assert_eq!((&line["rpc_error"], &line["status"]), (&json!(-32602), &json!(status)), "{line}");
}

/// The head of an answer says nothing about how long a server takes.
#[tokio::test]
async fn an_operation_takes_as_long_as_its_answer() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({
        "mcpServers": { "db": { "url": server.url("/mcp") }, "files": command() }
    }))
    .await;
    // Byte for byte.
    let mut client = gate.client().await;
    let fields = "Mcp-Method: tools/call\r\nMcp-Name: =?base64?d2V0dGVyL2vDtmxu?=\r\n";
    client.send(post("/db/mcp", DEV, fields, "{}")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    let line = gate.log.line("Authenticated request", &[("server", json!("db"))]).await;
    assert_eq!((&line["rpc_method"], &line["tool"]), (&json!("tools/call"), &json!("wetter/köln")), "{line}");
    assert_eq!(count(&gate, "db", "tools/call"), 0, "it is not over");
    behind.send(chunk("data: 1\n\n")).await;
    behind.send("0\r\n\r\n").await;
    assert!(client.chunk().await.is_some() && client.chunk().await.is_none());
    counted(&gate, "db", "tools/call", 1).await;

    // By messages: the server answers once its client has told it something.
    let session = Session::open(&gate, "/files/mcp", DEV).await;
    let mut asked = session.stream(&call(1, "ask", json!({}))).await;
    event(&mut asked).await;
    assert_eq!(count(&gate, "files", "tools/call"), 0, "it is not over");
    assert_eq!(session.post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await.0, 202);
    event(&mut asked).await;
    counted(&gate, "files", "tools/call", 1).await;

    // A listening stream is no operation, whatever its head says, and a method that is made up is no label.
    client.send(get("/db/mcp", DEV, "Mcp-Method: tools/list\r\n")).await;
    assert_eq!(count(&gate, "db", "tools/list"), 0);
    assert!(!gate.metrics().contains("rpc_method=\"evil"));
}

#[tokio::test]
async fn an_initialize_whose_answer_begins_early_is_measured_to_its_end() {
    let script = "read -r line; sleep 2; echo '{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"serverInfo\":{\"name\":\"slow\",\"version\":\"1\"}}}'; cat > /dev/null";
    let gate = Gate::start(json!({ "mcpServers": { "slow": { "command": "sh", "args": ["-c", script], "inheritEnv": ["PATH"] } } })).await;
    let (status, ..) = gate.ask(&post("/slow/mcp", DEV, EVENTS_FIRST, INITIALIZE)).await;
    assert_eq!(status, 200);
    counted(&gate, "slow", "initialize", 1).await;
    let sum = "sluicegate_server_operation_duration_seconds_sum{rpc_method=\"initialize\",server=\"slow\"} ";
    let metrics = gate.metrics();
    let sum = metrics.lines().find_map(|line| line.strip_prefix(sum)).unwrap();
    assert!(Duration::from_secs_f64(sum.parse().unwrap()) >= Duration::from_secs(2), "{sum}");
}

#[tokio::test]
async fn every_answer_says_which_request_it_answers() {
    let server =
        Recorder::answering("HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Length: 2\r\n\r\n{}").await;
    let streams = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": {
        "db": { "url": server.url("/mcp") }, "streams": { "url": streams.url("/mcp") }, "files": command()
    } }))
    .await;
    let mut client = gate.client().await;
    for (request, status) in [
        (post("/db/mcp", DEV, "X-Request-Id: mine\r\n", "{}"), 200),
        (post("/files/mcp", DEV, "", INITIALIZE), 200),
        (post("/files/mcp", DEV, "", "{}"), 400),
        (post("/db/mcp", "unknown-token-0123456789", "", "{}"), 401),
        (get("/none", DEV, ""), 404),
        (get("/db//mcp", DEV, ""), 400),
        (get("/health", DEV, ""), 200),
        (get("/db", DEV, "Origin: https://evil.example\r\n"), 403),
        (get("/db", DEV, "").replacen("GET", "OPTIONS", 1), 204),
    ] {
        client.send(&request).await;
        let (got, head, body) = client.response().await;
        assert_eq!(got, status, "{request}{body}");
        let ids: Vec<_> = crate::harness::fields(&head, "x-request-id").collect();
        assert_eq!(ids.len(), 1, "{head}");
        gate.log.line_with("request_id", ids[0]).await;
        if head.contains("application/json") && body.contains("request_id") {
            assert!(body.contains(ids[0]), "{body}");
        }
        if field(&head, "connection") == Some("close") {
            client = gate.client().await;
        }
    }
    // A response that leaves hyper has it too.
    client.send(get("/streams", DEV, "")).await;
    let mut behind = streams.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    let head = client.head().await;
    gate.log.line_with("request_id", field(&head, "x-request-id").unwrap()).await;
}

#[tokio::test]
async fn a_trace_goes_on_and_is_in_the_log() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{id}-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n");
    assert_eq!(gate.ask(&post("/db/mcp", DEV, &parent, "{}")).await.0, 200);
    let line = gate.log.line_with("trace_id", id).await;
    assert_eq!(line["status"], 200);
    let sent = server.only();
    assert!(sent.contains(&parent), "{sent}");
    // A refusal belongs to it as well.
    gate.ask(&post("/none", "unknown-token-0123456789", &parent, "{}")).await;
    assert_eq!(gate.log.line("Refused request", &[]).await["trace_id"], id);

    // Two of them, or one that is none, are no one's.
    let lines = gate.log.all().len();
    for broken in [format!("{parent}{parent}"), parent.replace("4bf", "\"bf"), parent.replace("00-", "ff-")] {
        assert_eq!(gate.ask(&post("/db/mcp", DEV, &broken, "{}")).await.0, 200);
    }
    until("the lines", || gate.log.all().len() == lines + 3).await;
    assert!(gate.log.all()[lines..].iter().all(|line| line.get("trace_id").is_none()));
}

/// Where messages pass, the request that a server gets is the gateway's own.
#[tokio::test]
async fn a_trace_goes_on_where_messages_pass() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    for (fields, goes_on) in [
        (format!("{parent}tracestate: a=b\r\ntracestate: c=d\r\n"), true),
        (format!("{parent}{parent}tracestate: a=b\r\n"), false),
        ("tracestate: a=b\r\n".to_owned(), false),
    ] {
        let mut stream = gate.client().await;
        stream.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
        stream.head().await;
        let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
        let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end();
        assert_eq!(gate.ask(&post(url, DEV, &fields, INITIALIZE)).await.0, 202);
        let mut behind = server.accept().await;
        let head = behind.head().await;
        assert_eq!(head.contains(&fields), goes_on, "{head}");
        assert_eq!(head.contains("trace"), goes_on, "{head}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_served_is_named_to_whoever_can_allow_it() {
    let gate = Gate::start(json!({ "mcpServers": {} })).await;
    let long = format!("{}.example", "a".repeat(5000));
    let deep = "a.".repeat(2000) + "example";
    for (host, shown) in [
        ("gate.example:8443", "gate.example:8443"),
        ("10.1.2.3:8443", "10.1.2.3:8443"),
        ("[fd00::1234:5678:9abc:def0]:8443", "[fd00::1234:5678:9abc:def0]:8443"),
        ("gate:8443", "gate:8443"),
        (&long, "aaaaaaa….example"),
        (&deep, "a.a.a.a.a.a.a.a.…"),
    ] {
        let (status, _, body) = gate.ask(&get("/db", DEV, "").replace("localhost", host)).await;
        assert_eq!(status, 403, "{body}");
        assert!(!body.contains(host), "{body}");
        let cause = format!(
            "Host \"{shown}\" is none of `proxy.allowedHosts`; add it there, or name the gateway as `proxy.baseUrl` does"
        );
        gate.log
            .line("Refused request", &[("reason", json!("forbidden_host")), ("cause", json!(cause))])
            .await;
    }
    // People paste tokens anywhere.
    for host in [DEV, "0123456789abcdef", "sk:0123456789", "a%2Bb"] {
        assert_eq!(gate.ask(&get("/db", "nobody", "").replace("localhost", host)).await.0, 403);
        let cause = format!(
            "Host, {} characters that are no name of a host, is none of `proxy.allowedHosts`; add it there, or name the \
             gateway as `proxy.baseUrl` does",
            host.len()
        );
        gate.log
            .line("Refused request", &[("reason", json!("forbidden_host")), ("cause", json!(cause))])
            .await;
    }
}
