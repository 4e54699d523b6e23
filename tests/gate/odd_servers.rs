//! Servers that write what real servers write, and clients that do what real clients do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    harness::{CI, Client, DEV, Gate, SSE, Upstream, chunk, field, get, post, soon, until},
    mcp::{INITIALIZE, INITIALIZED, SseSession, call, event, is_over, modern_call, text},
};

fn odd() -> Value {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/odd_server.py");
    json!({ "command": "python3", "args": [server], "inheritEnv": ["PATH"] })
}

async fn gate() -> Gate {
    Gate::start(json!({ "mcpServers": { "odd": odd() } })).await
}

const ONLY_JSON: &str = "Accept: application/json\r\n";

/// A session of a client that takes nothing but JSON: `initialize` too is answered by a stream otherwise.
async fn session(gate: &Gate, path: &str) -> String {
    let (status, head, body) = gate.ask(&post(path, DEV, ONLY_JSON, INITIALIZE)).await;
    assert!(status == 200 && body.contains(r#""protocolVersion""#), "{head}{body}");
    let field = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    assert_eq!(gate.ask(&post(path, DEV, &field, INITIALIZED)).await.0, 202);
    field
}

/// What a call of this tool comes to: at the server's own path, among all servers, and without a session.
async fn everywhere(gate: &Gate, tool: &str) -> Vec<(u16, String)> {
    everywhere_with(gate, tool, json!({})).await
}

async fn everywhere_with(gate: &Gate, tool: &str, arguments: Value) -> Vec<(u16, String)> {
    let mut outcomes = Vec::new();
    for (path, tool) in [("/odd/mcp", tool.to_owned()), ("/mcp", format!("odd__{tool}"))] {
        let fields = format!("{}{ONLY_JSON}", session(gate, path).await);
        let (status, _, body) = gate.ask(&post(path, DEV, &fields, &call(7, &tool, arguments.clone()))).await;
        outcomes.push((status, body));
    }
    let alone = modern_call("/odd/mcp", DEV, 7, tool, arguments).replacen(
        "Host",
        "Accept: application/json\r\nHost",
        1,
    );
    let (status, _, body) = gate.ask(&alone).await;
    outcomes.push((status, body));
    outcomes
}

#[tokio::test]
async fn what_cannot_be_read_fails_its_own_call_at_once_and_the_session_goes_on() {
    let gate = gate().await;
    let session = session(&gate, "/odd/mcp").await;
    let mut waiting = gate.client().await;
    waiting.send(post("/odd/mcp", DEV, &session, &call(1, "wait", json!({})))).await;
    for tool in ["latin1", "cut"] {
        let (status, _, body) = gate.ask(&post("/odd/mcp", DEV, &session, &call(7, tool, json!({})))).await;
        assert!(status == 502 && body.contains("upstream_unreachable"), "{tool}: {status} {body}");
        let (status, _, body) = gate.ask(&post("/odd/mcp", DEV, &session, &call(7, "fine", json!({})))).await;
        assert_eq!(status, 200, "{body}");
        for (status, body) in everywhere(&gate, tool).await {
            assert!(status == 502 || body.contains(r#""error""#), "{tool}: {status} {body}");
        }
    }
    let line = gate.log.line("Server sent a message that cannot be read", &[("server", json!("odd"))]).await;
    assert_eq!(line["cause"], "not one JSON text");
    assert!(!gate.log.text().contains("Smorg"), "nothing of what it wrote");
    assert!(waiting.buffer.is_empty(), "the other call waits on");
}

/// A call that waits, of somebody who shares the process; what is written meanwhile, for a call of another; what the first
/// call comes to.
async fn held_while_another_has_written(gate: &Gate, line: &str) -> (u16, String) {
    let ask = |token, tool, arguments| {
        modern_call("/odd/mcp", token, 1, tool, arguments).replacen("Host", &format!("{ONLY_JSON}Host"), 1)
    };
    let mut holding = gate.client().await;
    holding.send(ask(CI, "hold", json!({}))).await;
    let held = gate.log.text().matches("holds").count();
    until("it is held", || gate.log.text().matches("holds").count() > held).await;
    let (status, _, body) = gate.ask(&ask(DEV, "write", json!({ "line": line }))).await;
    assert_eq!(status, 200, "{line}: {body}");
    // One after the other: what was written is read by then.
    assert_eq!(gate.ask(&ask(DEV, "release", json!({}))).await.0, 200);
    let (status, _, body) = holding.response().await;
    (status, body)
}

const GOOD: &str = r#"{"jsonrpc":"2.0","id":@ID,"result":{"content":[],"resultType":"complete"}}"#;

#[tokio::test]
async fn what_a_caller_makes_a_shared_process_write_fails_nobody_elses_call() {
    let gate = gate().await;
    for broken in [
        r#"{"jsonrpc":"2.0","result":{"x":"a"#,
        r#"{"jsonrpc":"2.0","id":nope,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":null,"foo":tru}"#,
        r#"{"result":{},"params":x}"#,
    ] {
        let (status, body) = held_while_another_has_written(&gate, &format!("{GOOD}\n{broken}")).await;
        assert!(status == 200 && body.contains("fine"), "{broken}: {status} {body}");
    }
    let batch = format!(r#"[{GOOD},{{"jsonrpc":"2.0","result":{{"x":ÿ}}}}]"#);
    let (status, body) = held_while_another_has_written(&gate, &batch).await;
    assert!(status == 200 && body.contains("fine"), "{status} {body}");
    gate.log.line("Server sent a message that cannot be read", &[("server", json!("odd"))]).await;
}

#[tokio::test]
async fn an_answer_with_two_ids_fails_its_call_at_once_wherever_it_was_asked() {
    let gate = gate().await;
    let lines = [
        r#"{"jsonrpc":"2.0","id":@ID,"id":"x","result":{"content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":"x","result":{"content":[]},"id":@ID}"#,
    ];
    for line in lines {
        for (status, body) in everywhere_with(&gate, "write", json!({ "line": line })).await {
            assert!(status == 502 || body.contains(r#""error""#), "{line}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn a_log_line_with_a_result_is_no_answer() {
    let gate = gate().await;
    for log in [r#"{"level":"info","result":ok}"#, r#"{"level":"info","error":ok,"id":null}"#] {
        let line = format!("{log}\n{GOOD}");
        for (status, body) in everywhere_with(&gate, "write", json!({ "line": line })).await {
            assert!(status == 200 && !body.contains(r#""error""#), "{log}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_found_whatever_stands_around_it_and_however_its_id_is_spelled() {
    let gate = gate().await;
    for tool in ["mark", "title", "batch", "noise", "string", "float", "power", "nobody"] {
        for (status, body) in everywhere(&gate, tool).await {
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &answer["id"], text(&answer)),
                (200, &json!(7), "fine".into()),
                "{tool}: {body}"
            );
        }
    }
    gate.log.line("Server answered what nobody asked", &[("server", json!("odd"))]).await;
}

#[tokio::test]
async fn progress_under_another_spelling_of_its_token_belongs_to_its_call() {
    let gate = gate().await;
    let fields = format!("{}Accept: text/event-stream\r\n", session(&gate, "/odd/mcp").await);
    for (id, token) in [(1, json!(1)), (2, json!("a"))] {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "string", "_meta": { "progressToken": token } } });
        let mut client = gate.client().await;
        client.send(post("/odd/mcp", DEV, &fields, &call.to_string())).await;
        client.head().await;
        assert_eq!(event(&mut client).await["params"]["progressToken"], token);
        assert_eq!(event(&mut client).await["id"], id);
    }
}

#[tokio::test]
async fn a_ping_of_a_servers_is_answered_where_its_client_listens_nowhere() {
    let gate = gate().await;
    let fields = session(&gate, "/odd/mcp").await;
    let (status, head, body) = gate.ask(&post("/odd/mcp", DEV, &fields, &call(7, "ping", json!({})))).await;
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head}{body}"));
    assert_eq!((status, text(&answer)), (200, "{}".into()));
}

#[tokio::test]
async fn a_client_that_takes_only_json_gets_json_however_much_is_said_before() {
    let gate = gate().await;
    for (status, body) in everywhere(&gate, "chatty").await {
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        assert_eq!((status, &answer["id"]), (200, &json!(7)), "{body}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_no_call_of_its_session() {
    let gate = gate().await;
    let fields = session(&gate, "/odd/mcp").await;
    let mut unread = gate.client().await;
    unread.send(get("/odd/mcp", DEV, &format!("Accept: text/event-stream\r\n{fields}"))).await;
    unread.head().await;
    // 8 MB, more than any buffer on the way takes.
    let only_json = format!("{fields}{ONLY_JSON}");
    let flood = gate.ask(&post("/odd/mcp", DEV, &only_json, &call(7, "flood", json!({})))).await;
    assert_eq!(flood.0, 200, "{}", flood.2);
    // What was handed out before it was cut is there, and then it ends.
    soon("the end of the stream", is_over(&mut unread)).await;
    gate.log.line("Stream closed", &[("reason", json!("slow_reader"))]).await;
}

#[tokio::test]
async fn initialize_begins_a_session_whatever_session_it_names() {
    let gate = gate().await;
    let known = session(&gate, "/odd/mcp").await;
    for named in
        ["Mcp-Session-Id: \r\n", "Mcp-Session-Id: 0f8fad5b-d9cb\r\n", &known.replacen(": ", ": A", 1)]
    {
        let fields = format!("{ONLY_JSON}{named}");
        let (status, head, body) = gate.ask(&post("/odd/mcp", DEV, &fields, INITIALIZE)).await;
        assert_eq!(status, 200, "{named}{body}");
        assert!(field(&head, "mcp-session-id").is_some_and(|id| !known.contains(id)), "{head}");
        let (status, ..) = gate.ask(&post("/odd/mcp", DEV, &fields, &call(7, "fine", json!({})))).await;
        assert_eq!(status, 404, "{named}: nothing else does");
    }
    // What Cursor and others take for "there is no such stream here".
    for path in ["/odd/mcp", "/mcp"] {
        let (status, head, _) = gate.ask(&get(path, DEV, "Accept: text/event-stream\r\n")).await;
        assert_eq!(status, 405, "{head}");
        assert!(field(&head, "allow").is_some(), "{head}");
    }
}

/// A server over HTTP+SSE that takes a call only when a second is there: what is sent one after the other never ends.
#[tokio::test]
async fn calls_to_an_http_sse_server_go_side_by_side_and_it_may_ask_meanwhile() {
    let server = Upstream::bind().await;
    let gate = Gate::start(
        json!({ "mcpServers": { "far": { "url": server.url("/sse"), "transportType": "sse" } } }),
    )
    .await;
    let opening = tokio::spawn({
        let initialize = post("/far/mcp", DEV, "", INITIALIZE);
        let mut client = gate.client().await;
        async move {
            client.send(initialize).await;
            client.response().await
        }
    });
    let mut events = server.accept().await;
    events.head().await;
    events.send(SSE).await;
    events.send(chunk("event: endpoint\ndata: /m\n\n")).await;
    let mut posts = server.accept().await;
    posted(&mut posts).await;
    let taken = "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    posts.send(taken).await;
    let hello = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
    events.send(chunk(&format!("data: {hello}\n\n"))).await;
    let (status, head, _) = opening.await.unwrap();
    assert_eq!(status, 200);
    let fields = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());

    let mut callers = Vec::new();
    let mut behind = Vec::new();
    for id in [1, 2] {
        let mut client = gate.client().await;
        client.send(post("/far/mcp", DEV, &fields, &call(id, "slow", json!({})))).await;
        callers.push(client);
        let mut peer = server.accept().await;
        assert_eq!(posted(&mut peer).await["id"], id);
        behind.push(peer);
    }
    events.send(chunk("data: ping\n\ndata: {\"id\":9,\"method\":\"roots/list\"}\n\n")).await;
    let mut listener = gate.client().await;
    listener.send(get("/far/mcp", DEV, &format!("Accept: text/event-stream\r\n{fields}"))).await;
    // With two calls and nobody who listened, it came to the newer call.
    callers[1].head().await;
    assert_eq!(event(&mut callers[1]).await["method"], "roots/list");
    let roots = json!({ "jsonrpc": "2.0", "id": 9, "result": { "roots": [] } }).to_string();
    assert_eq!(gate.ask(&post("/far/mcp", DEV, &fields, &roots)).await.0, 202);
    let mut peer = server.accept().await;
    assert_eq!(posted(&mut peer).await["id"], 9);
    for peer in behind.iter_mut().chain([&mut peer]) {
        peer.send(taken).await;
    }
    events.send(chunk("data: {\"id\":\"1\",\"result\":{}}\n\ndata: {\"id\":2.0,\"result\":{}}\n\n")).await;
    assert_eq!(callers[0].response().await.0, 200);
    assert_eq!(event(&mut callers[1]).await["id"], 2);
}

/// The body of a request.
async fn posted(peer: &mut Client<tokio::net::TcpStream>) -> Value {
    let head = peer.head().await;
    let body = peer.exactly(field(&head, "content-length").unwrap().parse().unwrap()).await;
    serde_json::from_slice(&body).unwrap()
}

/// A server over Streamable HTTP that knows no session for long, and says so as the TypeScript SDK's examples do; the URL, and
/// how often it was initialized. It takes the `good`th call.
async fn forgetful(good: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (began, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let of_task = Arc::clone(&began);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (began, calls) = (Arc::clone(&of_task), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut peer = Client::new(stream);
                while peer.more().await {
                    let head = peer.head().await;
                    let Some(length) = field(&head, "content-length").filter(|_| head.starts_with("POST"))
                    else {
                        peer.send("HTTP/1.1 405 X\r\nContent-Length: 0\r\n\r\n").await;
                        continue;
                    };
                    let body: Value =
                        serde_json::from_slice(&peer.exactly(length.parse().unwrap()).await).unwrap();
                    let (status, answer) = match body["method"].as_str() {
                        Some("initialize") => {
                            began.fetch_add(1, Relaxed);
                            let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "s", "version": "1" } });
                            (200, json!({ "jsonrpc": "2.0", "id": body["id"], "result": result }))
                        }
                        Some("tools/call") if calls.fetch_add(1, Relaxed) + 1 == good => {
                            (200, json!({ "jsonrpc": "2.0", "id": body["id"], "result": {} }))
                        }
                        Some("tools/call") => (
                            400,
                            json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": "Bad Request" } }),
                        ),
                        _ => (202, Value::Null),
                    };
                    let answer = if answer.is_null() { String::new() } else { answer.to_string() };
                    peer.send(format!(
                        "HTTP/1.1 {status} X\r\nMcp-Session-Id: s\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                        answer.len()
                    ))
                    .await;
                }
            });
        }
    });
    (url, began)
}

#[tokio::test]
async fn a_400_of_no_request_is_an_unknown_session_which_is_begun_again_once() {
    for (good, status, times) in [(2, 200, 2), (usize::MAX, 404, 2)] {
        let (url, began) = forgetful(good).await;
        // A client of the other transport: the gateway keeps the session, and so it is the one to begin another.
        let gate = Gate::start(json!({ "mcpServers": { "far": { "url": url } } })).await;
        let mut sse = SseSession::open(&gate, "/far/sse", DEV).await;
        let answer = sse.ask(&call(1, "pay", json!({}))).await;
        assert_eq!(began.load(Relaxed), times);
        if status == 200 {
            assert_eq!(answer["result"], json!({}));
            continue;
        }
        assert_eq!(answer["error"]["code"], 404, "{answer}");
        // The client's session is over, too.
        soon("the end of the session", is_over(&mut sse.stream)).await;
        let (status, ..) = gate.ask(&post(&sse.url, DEV, "", &call(2, "pay", json!({})))).await;
        assert_eq!(status, 404);
    }
}
