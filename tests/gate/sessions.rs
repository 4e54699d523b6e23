//! Sessions belong to the caller who got them, for the server that gave them.

use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, Upstream, chunk, field, get, post},
    recorder::Recorder,
};

const OWN_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn servers(url: &str) -> Value {
    json!({ "a": { "url": url }, "b": { "url": url }, "open": { "url": url, "public": true } })
}

fn config(url: &str) -> Value {
    json!({ "mcpServers": servers(url) })
}

async fn recorder_with_session() -> Recorder {
    Recorder::answering(format!(
        "HTTP/1.1 200 OK\r\nMcp-Session-Id: {OWN_ID}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    ))
    .await
}

/// Opens a session and returns the id that the client sees.
async fn open(gate: &Gate, path: &str, token: &str) -> String {
    let (status, head, body) = gate.ask(&post(path, token, "", r#"{"method":"initialize"}"#)).await;
    assert_eq!(status, 200, "{body}");
    field(&head, "mcp-session-id").unwrap().to_owned()
}

fn in_session(method: &str, path: &str, token: &str, id: &str) -> String {
    get(path, token, &format!("Mcp-Session-Id: {id}\r\nContent-Length: 0\r\n")).replacen("GET", method, 1)
}

#[tokio::test]
async fn a_session_id_works_for_its_caller_and_is_unknown_to_anybody_else() {
    let server = recorder_with_session().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let id = open(&gate, "/a/mcp", DEV).await;
    assert_ne!(id, OWN_ID);
    assert!(id.bytes().all(|b| b.is_ascii_graphic()), "{id}");
    let anonymous = open(&gate, "/open/mcp", "nobody").await;
    server.forget();

    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(gate.ask(&in_session(method, "/a/mcp", DEV, &id)).await.0, 200);
        let seen = server.only();
        assert!(seen.starts_with(&format!("{method} /mcp HTTP/1.1\r\n")), "{seen}");
        assert_eq!(field(&seen, "mcp-session-id"), Some(OWN_ID), "{seen}");
        server.forget();
    }
    assert_eq!(gate.ask(&in_session("POST", "/open", "nobody", &anonymous)).await.0, 200);
    server.forget();

    let changed = |at: usize| {
        let mut bytes = id.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let foreign: Vec<(&str, &str, String)> = vec![
        ("/a/mcp", CI, id.clone()),
        ("/b/mcp", DEV, id.clone()),
        ("/open/mcp", DEV, id.clone()),
        ("/a/mcp", DEV, anonymous),
        ("/a/mcp", DEV, OWN_ID.to_owned()),
        ("/a/mcp", DEV, "1".to_owned()),
        ("/a/mcp", DEV, id[..id.len() - 1].to_owned()),
        ("/a/mcp", DEV, id[1..].to_owned()),
        ("/a/mcp", DEV, id[..22].to_owned()),
        ("/a/mcp", DEV, format!("{id}0")),
        ("/a/mcp", DEV, changed(0)),
        ("/a/mcp", DEV, changed(id.len() - 1)),
        ("/a/mcp", DEV, id.to_uppercase()),
    ];
    for (path, token, id) in foreign {
        for method in ["POST", "GET", "DELETE"] {
            let (status, head, body) = gate.ask(&in_session(method, path, token, &id)).await;
            assert_eq!(status, 404, "{method} {path} {id}\n{head}{body}");
            assert_eq!(field(&head, "www-authenticate"), None);
            // Codes of JSON-RPC are the servers' to give.
            assert!(!body.contains("jsonrpc"), "{body}");
        }
    }
    server.saw_nothing("no session was the caller's").await;
    let line = gate.log.line("Refused request", &[("reason", json!("session_not_found"))]).await;
    assert_eq!((&line["token_name"], &line["server"]), (&json!("ci"), &json!("a")));
}

#[tokio::test]
async fn a_session_survives_a_reload_and_with_a_key_also_another_gate() {
    let server = recorder_with_session().await;
    let mut gate = Gate::start(config(&server.url("/mcp"))).await;
    let id = open(&gate, "/a/mcp", DEV).await;
    let mut changed = config(&server.url("/mcp"));
    changed["mcpServers"]["c"] = json!({ "url": server.url("/other") });
    gate.reload(changed);
    assert_eq!(gate.ask(&in_session("POST", "/a/mcp", DEV, &id)).await.0, 200);

    let stranger = Gate::start(config(&server.url("/mcp"))).await;
    assert_eq!(
        stranger.ask(&in_session("POST", "/a/mcp", DEV, &id)).await.0,
        404,
        "each process has its own key"
    );

    let mut keyed = config(&server.url("/mcp"));
    keyed["proxy"] = json!({ "sessionKey": "one secret for all nodes of this gateway" });
    let (first, second) = (Gate::start(keyed.clone()).await, Gate::start(keyed).await);
    let id = open(&first, "/a/mcp", DEV).await;
    assert_eq!(second.ask(&in_session("POST", "/a/mcp", DEV, &id)).await.0, 200);
    assert_eq!(second.ask(&in_session("POST", "/a/mcp", CI, &id)).await.0, 404);
}

/// A client that speaks both eras may send the id of an older session along; a server of 2026-07-28 has none.
#[tokio::test]
async fn where_sessions_mean_nothing_a_foreign_id_is_dropped() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let fields =
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\nMcp-Session-Id: somebody-else-s\r\n";
    assert_eq!(gate.ask(&post("/a/mcp", DEV, fields, "{}")).await.0, 200);
    let seen = server.only();
    assert_eq!(field(&seen, "mcp-session-id"), None, "{seen}");
    assert_eq!(field(&seen, "mcp-protocol-version"), Some("2026-07-28"), "{seen}");
}

/// A request that begins a session belongs to none (MCP 2025-06-18, transports, "Session Management"): clients whose session
/// is over send its id along all the same, and would be told for ever that it is over.
#[tokio::test]
async fn initialize_begins_a_session_whatever_session_it_names() {
    let server = recorder_with_session().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let known = open(&gate, "/a/mcp", DEV).await;
    server.forget();
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let turned = r#"{"params":{"clientInfo":{"name":"c"}},"method": "initialize","id":"x"}"#;
    for named in [&*known, "", "0f8fad5b-d9cb", OWN_ID] {
        let fields = format!("Mcp-Session-Id: {named}\r\n");
        for body in [initialize, turned] {
            let chunked =
                post("/a/mcp", DEV, &fields, "").replace("Content-Length: 0", "Transfer-Encoding: chunked");
            for request in [post("/a/mcp", DEV, &fields, body), format!("{chunked}{}0\r\n\r\n", chunk(body))]
            {
                let (status, head, _) = gate.ask(&request).await;
                assert_eq!(status, 200, "{named}: {body}");
                assert!(field(&head, "mcp-session-id").is_some(), "{head}");
                let seen = server.only();
                assert_eq!(field(&seen, "mcp-session-id"), None, "{seen}");
                assert!(seen.contains(body), "{seen}");
                server.forget();
            }
        }
    }
    // Nothing else does, whatever it speaks of; nor anything that is no message.
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"initialize","method":"initialize"}}"#;
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"method":"initialize"}}"#;
    let two = r#"{"method":"initialize","method":"tools/call","id":1}"#;
    let notice = r#"{"jsonrpc":"2.0","method":"initialize"}"#;
    for body in [call, answer, two, notice, "\"initialize\"", ""] {
        let ask = |id: &str| post("/a/mcp", DEV, &format!("Mcp-Session-Id: {id}\r\n"), body);
        assert_eq!(gate.ask(&ask("0f8fad5b-d9cb")).await.0, 404, "{body}");
        server.saw_nothing(body).await;
        assert_eq!(gate.ask(&ask(&known)).await.0, 200, "{body}");
        let seen = server.only();
        assert_eq!(field(&seen, "mcp-session-id"), Some(OWN_ID), "{seen}");
        server.forget();
    }
    // A body that is not small is no such request, and is not waited for.
    let mut client = gate.client().await;
    let large = post("/a/mcp", DEV, "Mcp-Session-Id: 0f8fad5b-d9cb\r\n", "");
    client.send(large.replace("Content-Length: 0", "Content-Length: 65537")).await;
    assert_eq!(client.response().await.0, 404);
    server.saw_nothing("no session was the caller's").await;
}

/// Reads the message URL that an HTTP+SSE stream opens with.
async fn message_url(
    gate: &Gate,
    server: &Upstream,
    token: &str,
    endpoint: &str,
) -> (String, [Box<dyn std::any::Any>; 2]) {
    let mut client = gate.client().await;
    client.send(get("/a/sse", token, "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n")).await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert_eq!(field(&head, "accept-encoding"), Some("identity"), "{head}");
    assert_eq!(head.matches("accept-encoding").count(), 1, "neither the client's nor the config's: {head}");
    behind.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: keep-alive\r\nContent-Length: 5000\r\n\r\n").await;
    behind.send(format!(": hello\r\nevent: endpoint\r\ndata: {endpoint}\r\n\r\n")).await;
    let head = client.head().await;
    assert_eq!(field(&head, "content-length"), None, "{head}");
    let mut events = String::new();
    while !events.ends_with("\r\n\r\n") {
        events.push_str(&String::from_utf8(client.chunk().await.unwrap()).unwrap());
    }
    let url = events.strip_prefix(": hello\r\nevent: endpoint\r\ndata: ").unwrap().trim_end().to_owned();
    // Later events pass as they are.
    let later = "event: message\ndata: {\"endpoint\":\"/elsewhere\"}\n\n";
    behind.send(later).await;
    assert_eq!(client.chunk().await.unwrap(), later.as_bytes());
    (url, [Box::new(client), Box::new(behind)])
}

/// The server's side of one message POST.
async fn take_message(server: &Upstream) -> String {
    let mut behind = server.accept().await;
    let head = behind.head().await;
    behind.exactly(field(&head, "content-length").unwrap().parse().unwrap()).await;
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\nConnection: close\r\n\r\nAccepted").await;
    head
}

#[tokio::test]
async fn messages_of_http_sse_come_back_through_the_gate() {
    for (endpoint, upstream) in [
        ("/message?sessionId=7d3c&x=%2F%20'~", "/message?sessionId=7d3c&x=%2F%20'~"),
        ("message?session_id=1", "/base/message?session_id=1"),
        ("/messages/?session_id=abc", "/messages/?session_id=abc"),
        ("/m?token=theirs&sluicegate=x", "/m?token=theirs&sluicegate=x"),
        ("/m", "/m"),
        ("ABSOLUTE/post?id=1", "/post?id=1"),
    ] {
        let server = Upstream::bind().await;
        let gate = Gate::start(json!({
            "proxy": { "auth": { "kind": "bearer_token", "queryToken": true, "tokens": { "dev": DEV, "ci": CI } } },
            "mcpServers": {
                "a": { "url": server.url("/base/sse"), "headers": { "Accept-Encoding": "gzip" } },
                "b": { "url": server.url("/base/sse") },
            },
        }))
        .await;
        let endpoint = endpoint.replace("ABSOLUTE", &server.url(""));
        let (url, _streams) = message_url(&gate, &server, DEV, &endpoint).await;
        assert!(url.starts_with("/a/message?"), "{url}");

        let request = post(&url, DEV, "", r#"{"id":1}"#);
        let (answer, seen) = tokio::join!(gate.ask(&request), take_message(&server));
        assert_eq!((answer.0, answer.2.as_str()), (202, "Accepted"));
        assert!(seen.starts_with(&format!("POST {upstream} HTTP/1.1\r\n")), "{seen}");

        // A client that knows only query tokens puts its own behind the URL that it was given.
        let request =
            post(&format!("{url}&token={DEV}"), "", "", "{}").replace("Authorization: Bearer \r\n", "");
        let (answer, seen) = tokio::join!(gate.ask(&request), take_message(&server));
        assert_eq!(answer.0, 202);
        assert!(seen.starts_with(&format!("POST {upstream} HTTP/1.1\r\n")), "{seen}");

        let other_server = url.replacen("/a/", "/b/", 1);
        let (kept, lost) = url.split_at(url.len() - 1);
        let forged = format!("{kept}{}", if lost == "A" { "B" } else { "A" });
        let shifted = url.replacen('?', "?x=1&", 1);
        for (url, token) in [
            (&url, CI),
            (&other_server, DEV),
            (&forged, DEV),
            (&kept.to_owned(), DEV),
            (&shifted, DEV),
            (&"/a/message?sessionId=1".to_owned(), DEV),
            (&"/a/message".to_owned(), DEV),
        ] {
            let (status, _, body) = gate.ask(&post(url, token, "", "{}")).await;
            assert_eq!(status, 404, "{url}\n{body}");
        }
        assert!(!server.was_reached().await, "{endpoint}");
    }
}

#[tokio::test]
async fn a_server_cannot_send_messages_elsewhere() {
    let other = Upstream::bind().await;
    for endpoint in [
        other.url("/message"),
        "http://evil.example/message".to_owned(),
        "//evil.example/message".to_owned(),
        "https://127.0.0.1/message".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
    ] {
        let server = Upstream::bind().await;
        let gate = Gate::start(json!({ "mcpServers": { "a": { "url": server.url("/sse") } } })).await;
        let mut client = gate.client().await;
        client.send(get("/a/sse", DEV, "")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.head().await;
        let event = format!("event: endpoint\ndata: {endpoint}\n\n");
        behind.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        let rest = String::from_utf8(client.rest().await).unwrap();
        assert!(!rest.contains("message"), "{rest}");
        assert!(!rest.ends_with("0\r\n\r\n"), "broken off, not ended: {rest}");
        let line = gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
        assert!(line["cause"].as_str().unwrap().contains("another origin"), "{line}");
        assert!(!gate.log.text().contains("evil.example"));
    }
    assert!(!other.was_reached().await);
}

#[tokio::test]
async fn each_endpoint_has_its_own_methods_and_no_message_goes_without_a_session() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "mcpServers": { "new": { "url": server.url("/mcp") }, "old": { "url": server.url("/sse") } },
    }))
    .await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (path, status) in [
        ("/new/message?sluicegate=x", 404),
        ("/new/message?sessionId=x", 404),
        ("/message?sessionId=x", 404),
        ("/old/mcp", 400),
        ("/mcp", 400),
    ] {
        assert_eq!(gate.ask(&post(path, DEV, "", ping)).await.0, status, "{path}");
    }
    for (method, path) in [
        ("POST", "/old/sse"),
        ("DELETE", "/old/sse"),
        ("GET", "/old/message"),
        ("PUT", "/new/mcp"),
        ("POST", "/new/sse"),
        ("PUT", "/old/mcp"),
        ("GET", "/message"),
    ] {
        let request = get(path, DEV, "Content-Length: 0\r\n").replacen("GET", method, 1);
        assert_eq!(gate.ask(&request).await.0, 405, "{method} {path}");
    }
    server.saw_nothing("nothing is served there").await;
}
