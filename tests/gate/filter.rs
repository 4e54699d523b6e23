//! A tool that is hidden is on no list and cannot be called, and nobody else notices the filter.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, post, soon, until},
    process::Process,
    recorder::Recorder,
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
const TOOLS: &str = r#"{"result": {"tools": [{"name":"read"},{"name":"drop"},{"x":1.0, "name":"find"}]}, "jsonrpc":"2.0","id":2}"#;
const SHOWN: &str =
    r#"{"result": {"tools": [{"name":"read"},{"x":1.0, "name":"find"}]}, "jsonrpc":"2.0","id":2}"#;
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn hiding(url: &str) -> Value {
    let options = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
    json!({ "mcpServers": { "db": { "url": url, "options": options } } })
}

async fn gate_before(url: &str) -> Gate {
    Gate::start(hiding(url)).await
}

fn call(name: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": { "name": name } }).to_string()
}

fn post_chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n{CHUNKED}\r\n")
}

#[tokio::test]
async fn a_call_of_a_hidden_tool_is_answered_as_by_a_server_without_it() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let spellings = [
        call("drop"),
        r#"{"params":{"name":"dr\u006fp","arguments":{"name":"read"}},"method":"tools\/call","id":"a"}"#
            .into(),
    ];
    let mut client = gate.client().await;
    for spelling in &spellings {
        client.send(post("/db/mcp", DEV, "", spelling)).await;
        let (status, head, body) = client.response().await;
        assert_eq!((status, field(&head, "content-type")), (200, Some("application/json")), "{body}");
        let answer = r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"Unknown tool: drop"}}"#;
        assert_eq!(body, answer, "{spelling}");
    }
    server.saw_nothing("calls of hidden tools").await;
    let line = gate.log.line("Refused request", &[("reason", json!("tool_not_allowed"))]).await;
    assert_eq!((&line["server"], &line["status"]), (&json!("db"), &json!(200)));
    assert!(!gate.log.text().contains("drop"), "what a request holds is not logged");

    // The connection serves on, and what is not hidden passes byte for byte.
    let allowed = r#" { "id" : 1, "method":"tools/call","params":{ "name":"read","arguments":{"name":"drop","n":1.0e2}}} "#;
    client.send(post("/db/mcp", DEV, "", allowed)).await;
    assert_eq!(client.response().await.0, 200);
    assert!(server.only().ends_with(allowed), "{}", server.only());
}

#[tokio::test]
async fn without_an_id_to_answer_the_status_says_it() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let notification = r#"{"method":"tools/call","params":{"name":"drop"}}"#;
    let (status, _, body) = gate.ask(&post("/db", DEV, "", notification)).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("tool_not_allowed"), "{body}");
    server.saw_nothing("a hidden tool").await;
}

#[tokio::test]
async fn a_body_that_servers_could_read_differently_is_refused() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    for body in [
        r#"{"method":"tools/list","method":"tools/call","id":1}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"read","n\u0061me":"drop"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"read"},"params":{"name":"drop"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":["drop"]}}"#,
        // As a server reads it that matches keys in any case, decodes no escapes, or takes lists for objects.
        r#"{"id":"a","method":"tools/call","params":{"Name":"drop"}}"#,
        r#"{"id":1,"Method":"tools/call","params":{"name":"drop"}}"#,
        r#"{"id":1,"m\u0065thod":"tools/call","params":{"name":"drop"}}"#,
        r#"{"id":1,"method":"Tools/Call","params":{"name":"drop"}}"#,
        r#"{"id":1,"method":"tools/call","params":["drop"]}"#,
        r#"[{"id":1,"method":"tools/call","params":{"name":"drop"}}]"#,
        "\u{feff}{\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"drop\"}}",
    ] {
        let (status, _, said) = gate.ask(&post("/db", DEV, "", body)).await;
        assert_eq!(status, 400, "{body}: {said}");
        assert!(said.contains("bad_request"), "{said}");
    }
    // In UTF-7, +ACI- is a quote, and this has a second name.
    let utf7 =
        r#"{"id":1,"method":"tools/call","params":{"name":"read","x":"+ACI,+ACI-name+ACI:+ACI-drop"}}"#;
    for fields in ["Content-Type: application/json; charset=utf-7\r\n", "Content-Encoding: gzip\r\n"] {
        let length = utf7.len();
        let request = format!(
            "POST /db HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\nContent-Length: {length}\r\n{fields}\r\n{utf7}"
        );
        assert_eq!(gate.ask(&request).await.0, 400, "{fields}");
    }
    server.saw_nothing("what cannot be decided on").await;
}

#[tokio::test]
async fn header_fields_must_say_what_the_body_says() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    for fields in [
        "Mcp-Method: tools/list\r\n",
        "Mcp-Method: tools/call\r\nMcp-Name: find\r\n",
        "Mcp-Name: =?base64?ZHJvcA==?=\r\n",
        "Mcp-Name: read\r\nMcp-Name: drop\r\n",
    ] {
        let (status, _, body) = gate.ask(&post("/db", DEV, fields, &call("read"))).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["error"]["code"], &body["id"]),
            (400, &json!(-32020), &json!("a")),
            "{fields}"
        );
    }
    server.saw_nothing("a name that differs").await;
    let agreeing = "Mcp-Method: tools/call\r\nMcp-Name: =?base64?cmVhZA==?=\r\n";
    assert_eq!(gate.ask(&post("/db", DEV, agreeing, &call("read"))).await.0, 200);
    server.only();
}

#[tokio::test]
async fn what_header_fields_say_without_a_body_is_refused() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let bodies = ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n"];
    for fields in [
        "Mcp-Method: tools/call\r\nMcp-Name: drop\r\n",
        "Mcp-Method: tools/call\r\n",
        "Mcp-Method: ping\r\n",
        "Mcp-Name: drop\r\n",
        "Mcp-Name: \r\n",
        "Mcp-Method: \r\nMcp-Method: \r\n",
    ] {
        for method in ["GET", "DELETE", "POST"] {
            for body in bodies {
                let request = get("/db", DEV, fields).replacen("GET", method, 1);
                let request = format!("{}{body}", request.strip_suffix("\r\n").unwrap());
                assert_eq!(gate.ask(&request).await.0, 400, "{request}");
            }
        }
        // Nor beside a message that has no such thing.
        let response = post("/db", DEV, fields, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        assert_eq!(gate.ask(&response).await.0, 400, "{fields}");
    }
    let named = post("/db", DEV, "Mcp-Name: drop\r\n", r#"{"id":1,"method":"tools/list"}"#);
    assert_eq!(gate.ask(&named).await.0, 400, "a name that the body does not have");
    server.saw_nothing("a call in header fields alone").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(gate.ask(&get("/db", DEV, "").replacen("GET", method, 1)).await.0, 200, "{method}");
        server.forget();
    }
    // Other requests have a name as well (MCP 2026-07-28).
    for (name, body) in [
        ("p", r#"{"id":1,"method":"prompts/get","params":{"name":"p"}}"#),
        ("file:///x", r#"{"id":1,"method":"resources/read","params":{"uri":"file:///x"}}"#),
        ("t1", r#"{"id":1,"method":"tasks/get","params":{"taskId":"t1"}}"#),
    ] {
        let request = post("/db", DEV, &format!("Mcp-Name: {name}\r\n"), body);
        assert_eq!(gate.ask(&request).await.0, 200, "{body}");
        assert!(server.only().ends_with(body));
        server.forget();
    }
}

#[tokio::test]
async fn a_line_that_is_no_field_of_an_event_ends_the_stream() {
    let list = TOOLS;
    for lines in [
        list.to_owned(),
        format!("Data: {list}"),
        format!("data : {list}"),
        format!(" data: {list}"),
        format!("\u{feff}\u{feff}data: {list}"),
        format!("x\ndata\u{a0}: {list}"),
        format!("datum: {list}"),
        format!("event x: {list}"),
        format!(": x\u{2028}data: {list}"),
        format!("id: x\u{2029}data: {list}"),
        format!("event: x\u{85}data: {list}"),
        format!("retry: 1\u{b}data: {list}"),
        format!(": x\u{c}data: {list}"),
        format!(": x\u{1c}data: {list}"),
        format!(": x\0data: {list}"),
    ] {
        for status in [200, 400] {
            let server = Upstream::bind().await;
            let gate = gate_before(&server.url("/mcp")).await;
            for request in
                [post("/db", DEV, "", LIST), get("/db", DEV, ""), post("/db", DEV, "", &call("read"))]
            {
                let mut client = gate.client().await;
                client.send(request).await;
                let mut behind = server.accept().await;
                behind.head().await;
                behind.send(SSE.replace("200", &status.to_string())).await;
                behind.send(chunk(": ok\n\n")).await;
                behind.send(chunk(&format!("{lines}\n\n"))).await;
                let rest = String::from_utf8(soon("the end", client.rest()).await).unwrap();
                assert!(!rest.contains("drop") && !rest.ends_with("0\r\n\r\n"), "{lines:?}: {rest}");
            }
            gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
        }
    }
}

#[tokio::test]
async fn a_hidden_name_behind_huge_arguments_leaves_the_server_without_an_end() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(post_chunked("/db")).await;
    client.send(chunk(r#"{"id":5,"method":"tools/call","params":{"arguments":{"blob":""#)).await;
    let block = chunk(&"x".repeat(64 * 1024));
    for _ in 0..4 {
        client.send(&block).await;
    }
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "it began while the name was unknown");
    client.send(chunk("\"},\"name\":\"dr")).await;
    client.send(chunk("op\"")).await;
    client.send(chunk("}}")).await;
    client.send("0\r\n\r\n").await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""id":5,"error":{"code":-32602"#), "{body}");

    let seen = String::from_utf8(soon("the end of the server's connection", behind.rest()).await).unwrap();
    assert!(seen.contains(r#""arguments":{"blob":""#) && seen.contains("xxx"), "the beginning went on");
    assert!(!seen.contains("op\"") && !seen.contains("0\r\n\r\n"), "neither the name nor an end");
}

#[tokio::test]
async fn a_server_that_answers_early_does_not_get_a_hidden_name_either() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(post_chunked("/db")).await;
    client.send(chunk(r#"{"id":5,"method":"tools/call","params":{"arguments":{"blob":""#)).await;
    client.send(chunk(&"x".repeat(64 * 1024))).await;
    let mut behind = server.accept().await;
    behind.send(SSE).await;
    behind.send(chunk("data: early\n\n")).await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"data: early\n\n");
    client.send(chunk("\"},\"name\":\"drop\"}}")).await;
    let seen = String::from_utf8(soon("the end of the server's connection", behind.rest()).await).unwrap();
    assert!(
        seen.contains("\"blob\":\"") && !seen.contains("drop"),
        "the beginning went on, the name did not"
    );
    assert_eq!(soon("the end of the client's connection", client.rest()).await, b"", "broken off, not ended");
}

#[tokio::test]
async fn lists_come_without_hidden_tools_as_a_body_and_as_an_event() {
    let json = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nETag: x\r\nContent-Length: {}\r\n\r\n{TOOLS}",
        TOOLS.len()
    );
    let before = "id: 1\r\ndata: {\"method\":\"notifications/message\"}\r\n\r\nevent: message\r\ndata: ";
    let events = format!("{SSE}{}0\r\n\r\n", chunk(&format!("{before}{TOOLS}\r\n\r\n: end\r\n")));
    for (response, wanted) in
        [(json, SHOWN.to_owned()), (events, format!("{before}{SHOWN}\r\n\r\n: end\r\n"))]
    {
        let server = Recorder::answering(response.clone()).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (status, head, body) = gate.ask(&post("/db", DEV, "Accept-Encoding: gzip\r\n", LIST)).await;
        assert_eq!((status, body), (200, wanted), "{head}");
        assert_eq!(field(&head, "etag"), None);
        assert_eq!(field(&server.only(), "accept-encoding"), Some("identity"));

        // A body that answers another request streams through, whatever it looks like. A stream may carry other answers.
        let (_, head, body) = gate.ask(&post("/db", DEV, "", &call("read"))).await;
        let wanted = if response.starts_with(SSE) { SHOWN } else { TOOLS };
        assert!(body.contains(wanted), "{head}{body}");

        // What a stream is resumed with may be a list.
        let (_, head, body) = gate.ask(&get("/db", DEV, "Last-Event-ID: 1\r\n")).await;
        assert!(body.contains(SHOWN), "{head}{body}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_not_passed_on() {
    let compressed = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx";
    let server = Recorder::answering(compressed).await;
    let gate = gate_before(&server.url("/mcp")).await;
    assert_eq!(gate.ask(&post("/db", DEV, "", LIST)).await.0, 502);

    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(post("/db", DEV, "", LIST)).await;
    let mut behind = server.accept().await;
    behind.until(LIST).await;
    behind
        .send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    behind.send(chunk(r#"{"result":{"tools":[{"name":""#)).await;
    let block = chunk(&"x".repeat(1024 * 1024));
    for _ in 0..5 {
        use tokio::io::AsyncWriteExt as _;
        // The gateway may hang up in the middle.
        let _ = behind.stream.write_all(block.as_bytes()).await;
    }
    let (status, _, body) = client.response().await;
    assert_eq!(status, 502, "a list of 5 MiB");
    assert!(body.contains("upstream_unreadable"), "{body}");
}

/// The client's and the server's end of an HTTP+SSE stream, and the URL for messages.
async fn open_sse(gate: &Gate, server: &Upstream) -> (Client<TcpStream>, Client<TcpStream>, String) {
    let mut client = gate.client().await;
    client.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    behind.send(chunk("event: endpoint\ndata: /message?s=1\n\n")).await;
    client.head().await;
    let event = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    let url = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    (client, behind, url)
}

#[tokio::test]
async fn over_http_and_sse_lists_are_shortened_on_the_stream_and_calls_refused_at_the_message_url() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/sse")).await;
    let (mut client, mut behind, url) = open_sse(&gate, &server).await;
    let other = format!("event: message\ndata: {{\"id\":1,\"result\":{{\"content\":{TOOLS}}}}}\n\n");
    behind.send(chunk(&other)).await;
    assert_eq!(client.chunk().await.unwrap(), other.as_bytes());
    behind.send(chunk(": ping\n\n")).await;
    assert_eq!(client.chunk().await.unwrap(), b": ping\n\n");
    behind.send(chunk(&format!("event: message\ndata: {TOOLS}\n\n"))).await;
    let mut list = Vec::new();
    while !list.ends_with(b"\n\n") {
        list.extend(client.chunk().await.unwrap());
    }
    assert_eq!(String::from_utf8(list).unwrap(), format!("event: message\ndata: {SHOWN}\n\n"));

    let (status, _, body) = gate.ask(&post(&url, DEV, "", &call("drop"))).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("tool_not_allowed"), "{body}");
    // The next connection that comes, if the refused call's was not made in vain, is that of the allowed one.
    let allowed = call("read");
    let mut poster = gate.client().await;
    poster.send(post(&url, DEV, "", &allowed)).await;
    loop {
        let mut behind = server.accept().await;
        if behind.more().await {
            let request = behind.until(&allowed).await;
            assert!(request.starts_with("POST /message?s=1 HTTP/1.1\r\n"), "{request}");
            behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
            break;
        }
    }
    assert_eq!(poster.response().await.0, 202);
}

#[tokio::test]
async fn a_server_without_a_filter_gets_anything() {
    let server = Recorder::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{TOOLS}",
        TOOLS.len()
    ))
    .await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    for body in ["not json", &call("drop"), "[]"] {
        let (status, _, list) = gate.ask(&post("/db", DEV, "", body)).await;
        assert_eq!((status, list.as_str()), (200, TOOLS));
        assert!(server.only().ends_with(body));
        server.forget();
    }
}

/// A call through a gateway of its own, whose name is behind arguments of this size.
///
/// 64 MiB, since it has to go through unoptimised builds too; 1 GiB with `SLUICEGATE_LARGE=1`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_huge_call_streams_through_the_filter_in_memory_that_does_not_grow() {
    const BLOCK: usize = 64 * 1024;
    const MOST_GROWTH: u64 = 8 << 20;
    let large = std::env::var_os("SLUICEGATE_LARGE").is_some();
    let blocks = (if large { 1 << 30 } else { 64 << 20 }) / BLOCK;

    let server = Upstream::bind().await;
    let gate = Process::start(hiding(&server.url("/mcp"))).await;
    // A first call pays for what is allocated once.
    let mut client = gate.client().await;
    client.send(post("/db", DEV, "", &call("read"))).await;
    let mut behind = server.accept().await;
    behind.until(&call("read")).await;
    behind.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.response().await.0, 200);
    let before = gate.memory("VmRSS");

    let begun = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&begun);
    let far_side = tokio::spawn(async move {
        let mut behind = server.accept().await;
        behind.head().await;
        let mut hash = Sha256::new();
        while let Some(piece) = behind.chunk().await {
            hash.update(&piece);
            seen.store(true, Ordering::Relaxed);
        }
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        hash.finalize()
    });

    let mut hash = Sha256::new();
    client.send(post_chunked("/db")).await;
    let opening = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"blob":""#;
    hash.update(opening);
    client.send(chunk(opening)).await;
    let text = "\u{e9}\\n\\u00e9 text ".repeat(BLOCK / 16);
    assert_eq!(text.len(), BLOCK);
    let block = chunk(&text);
    for number in 0..blocks {
        hash.update(&text);
        client.send(&block).await;
        // The blocks differ, so that none can be lost or swapped.
        let mark = format!("{number:08}");
        hash.update(&mark);
        client.send(chunk(&mark)).await;
    }
    until("the first byte upstream, before the last byte in", || begun.load(Ordering::Relaxed)).await;
    let closing = r#""},"name":"read"}}"#;
    hash.update(closing);
    client.send(chunk(closing)).await;
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.2, "ok");
    assert_eq!(far_side.await.unwrap(), hash.finalize(), "the same bytes on the far side");
    let grown = gate.memory("VmHWM").saturating_sub(before);
    println!("{} MiB through; peak memory grew by {} KiB", (blocks * BLOCK) >> 20, grown >> 10);
    assert!(grown <= MOST_GROWTH, "peak memory grew by {grown} bytes");
}
