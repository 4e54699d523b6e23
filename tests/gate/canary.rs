//! A token may turn up anywhere in a request. Wherever a client puts it, it stays between the client and the gateway.
//!
//! What no gateway can hide: a request body is the server's, byte for byte; and a secret that the gateway has never
//! heard of, written into a field of its own, is to the gateway a field like any other. Such a field passes, since it
//! may well be what the server asks for. What is held back is every path that is not one of the config or the gateway,
//! whatever is in it, from the log; and from servers, the token that the request presents.

use serde_json::json;

use crate::{
    harness::{DEV, Gate, Upstream, get, post},
    recorder::Recorder,
};

/// A token of the config, with bytes that clients escape in a URL.
const VALID: &str = "canary-valid+0123456789/abcdef==";
const EXPIRED: &str = "canary-expired-0123456789abcdef";
/// Nobody's.
const INVALID: &str = "canary-invalid-0123456789abcdef";

async fn gate_before(server: &Recorder, query_token: bool) -> Gate {
    Gate::start(json!({
        "proxy": {
            "auth": {
                "kind": "bearer_token",
                "queryToken": query_token,
                "tokens": { "canary": VALID, "dev": DEV, "old": { "value": EXPIRED, "expires": "2020-01-01T00:00:00Z" } },
            },
            "admin": { "addr": "127.0.0.1:0" },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "own": { "url": server.url("/mcp"), "authTokens": ["dev"] },
            "docs": { "url": server.url("/mcp"), "public": true },
            "events": { "url": server.url("/sse") },
        },
    }))
    .await
}

fn escaped(token: &str) -> String {
    token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3d")
}

/// Asserts that `output` has the token in none of the forms that a client sent it in.
fn is_free_of(output: &str, token: &str, what: &str) {
    let output = output.to_ascii_lowercase();
    for form in [token.to_owned(), escaped(token)] {
        assert!(!output.contains(&form.to_ascii_lowercase()), "{what}: {output}");
    }
}

/// Fields that people put tokens into, in the ways that they do.
fn fields_with(token: &str) -> Vec<String> {
    let quoted = escaped(token);
    vec![
        format!("Authorization: Basic {token}"),
        format!("Authorization: {token}"),
        format!("Authorization: Token {token}"),
        format!("Proxy-Authorization: Bearer {token}"),
        format!("X-API-Key: {token}"),
        format!("X-Auth-Token: {token}"),
        format!("X-Custom: prefix {token} suffix"),
        format!("X-Authorization: Bearer {token}"),
        format!("Cookie: a=b; token={token}"),
        format!("Cookie: token={quoted}"),
        format!("Last-Event-ID: {token}"),
        format!("MCP-Protocol-Version: {token}"),
        format!("Mcp-Name: {token}"),
        format!("Mcp-Param-Key: {token}"),
        format!("User-Agent: curl {token}"),
        format!("Referer: https://gate.example/db/mcp?token={token}"),
        format!("Referer: https://gate.example/db/mcp?token={quoted}"),
        format!("X-Forwarded-For: {token}"),
        format!("X-Request-Id: {token}"),
        format!("traceparent: {token}"),
    ]
}

#[tokio::test]
async fn a_valid_token_stays_out_of_the_server_s_sight_wherever_else_the_request_repeats_it() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, true).await;
    let fields = fields_with(VALID);
    assert!(!fields.is_empty());
    for repeated in fields.iter().filter(|field| !field.starts_with("Authorization")) {
        let (status, _, body) =
            gate.ask(&get("/db/mcp", VALID, &format!("{repeated}\r\nX-Kept: 1\r\n"))).await;
        assert_eq!(status, 200, "{repeated}\n{body}");
        let seen = server.only();
        is_free_of(&seen, VALID, repeated);
        assert!(seen.contains("x-kept: 1\r\n"), "{seen}");
        server.forget();
    }
    let quoted = escaped(VALID);
    for query in [
        format!("access_token={VALID}"),
        format!("api_key={quoted}"),
        VALID.to_owned(),
        format!("{quoted}=1"),
        format!("a={quoted}&b={VALID}"),
    ] {
        let (status, _, body) = gate.ask(&get(&format!("/db/mcp?kept=1&{query}"), VALID, "")).await;
        assert_eq!(status, 200, "{query}\n{body}");
        let seen = server.only();
        is_free_of(&seen, VALID, &query);
        assert!(seen.starts_with("GET /mcp?kept=1 HTTP/1.1\r\n"), "{seen}");
        server.forget();
    }
    // Presented in the query only, repeated in a field.
    let request = get(
        &format!("/db/mcp?token={quoted}"),
        "",
        &format!("X-Custom: {VALID}\r\nReferer: /?token={quoted}\r\n"),
    )
    .replace("Authorization: Bearer \r\n", "");
    assert_eq!(gate.ask(&request).await.0, 200);
    is_free_of(&server.only(), VALID, "?token=");
    server.forget();
    // A public server needs no token and learns none.
    for request in [
        get("/docs/mcp", VALID, &format!("X-Custom: {VALID}\r\n")),
        get(&format!("/docs/mcp?token={VALID}"), DEV, &format!("X-Custom: {DEV}\r\n")),
        get(&format!("/docs/mcp?token={VALID}"), DEV, &format!("X-Custom: {VALID}\r\n")),
        get("/docs/mcp", VALID, &format!("X-Custom: {VALID}\r\n")).replace("Bearer ", "Token "),
        get(&format!("/docs/mcp?token={quoted}"), "", &format!("X-Custom: {VALID}\r\n"))
            .replace("Authorization: Bearer \r\n", ""),
    ] {
        assert_eq!(gate.ask(&request).await.0, 200, "{request}");
        is_free_of(&server.only(), VALID, &request);
        is_free_of(&server.only(), DEV, &request);
        server.forget();
    }
    let twice = format!("Authorization: Bearer {VALID}\r\nX-Custom: {VALID}\r\n");
    assert_eq!(gate.ask(&get("/docs/mcp", VALID, &twice)).await.0, 401);
    for query in [format!("token={VALID}"), format!("token={quoted}"), format!("token={DEV}")] {
        assert_eq!(gate.ask(&get(&format!("/db/mcp?{query}"), VALID, "")).await.0, 401, "{query}");
    }
    server.saw_nothing("which of two is the caller's is not known").await;
    gate.log.line("Public request", &[]).await;
    is_free_of(&gate.log.text(), VALID, "log");
    is_free_of(&gate.metrics(), VALID, "metrics");
}

#[tokio::test]
async fn a_refused_request_leaves_no_trace_of_the_token_it_tried() {
    let server = Recorder::start().await;
    for query_token in [false, true] {
        let gate = gate_before(&server, query_token).await;
        for token in [VALID, EXPIRED, INVALID] {
            let quoted = escaped(token);
            let mut requests: Vec<String> = fields_with(token)
                .iter()
                .map(|fields| format!("GET /own/mcp HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n"))
                .collect();
            requests.push(get("/own/mcp", token, ""));
            for parameter in
                ["token", "access_token", "api_key", "key", "apikey", "auth", "sluicegate", "Token"]
            {
                requests.push(get(&format!("/own/mcp?{parameter}={token}"), "nobody", ""));
                requests.push(get(&format!("/own/mcp?{parameter}={quoted}"), "nobody", ""));
            }
            for place in [
                format!("Mcp-Session-Id: {token}"),
                format!("Last-Event-ID: {token}"),
                format!("Origin: https://{INVALID}.example"),
                format!("Expect: {token}"),
                format!("Transfer-Encoding: {token}"),
                format!("Connection: authorization, {INVALID}"),
            ] {
                requests.push(get("/own/mcp", "nobody", &format!("{place}\r\n")));
                requests.push(get("/own/mcp", DEV, &format!("{place}\r\n")));
            }
            requests.push(get("/own/mcp", DEV, "").replace("localhost", &format!("{INVALID}.example")));
            requests.push(get("/own/mcp", DEV, "").replace("localhost", &format!("{INVALID}@localhost")));
            requests.push(get("/own/mcp", DEV, "").replace("GET", &INVALID.to_uppercase()));
            requests.push(get("/own/mcp", DEV, "").replace("GET", INVALID));
            requests.push(get(&format!("/events/message?sessionId={token}&sluicegate={quoted}"), DEV, ""));
            for request in &requests {
                if request.contains("Last-Event-ID") && request.contains(DEV) {
                    continue;
                }
                let mut client = gate.client().await;
                client.send(request).await;
                let head = client.head().await;
                assert!(head.starts_with("HTTP/1.1 4"), "{request}\n{head}");
                is_free_of(&head, token, request);
                let body = match crate::harness::field(&head, "content-length") {
                    Some(length) => client.exactly(length.parse().unwrap()).await,
                    None => Vec::new(),
                };
                is_free_of(&String::from_utf8_lossy(&body), token, request);
            }
            gate.ask(&get("/mcp/sse", DEV, "")).await;
            gate.log.line("Refused request", &[("path", json!("/mcp/sse"))]).await;
            is_free_of(&gate.log.text(), token, "log");
            is_free_of(&gate.metrics(), token, "metrics");
        }
    }
    server.saw_nothing("every request was refused").await;
}

#[tokio::test]
async fn a_token_in_a_path_is_not_logged() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, false).await;
    let mut asked = 0;
    // One that the gateway knows, even if it opens nothing; one that the request presents; and one of another gateway's.
    for (token, presented) in [
        (VALID, None),
        (VALID, Some(DEV)),
        (EXPIRED, None),
        (DEV, Some(DEV)),
        (INVALID, Some(INVALID)),
        (INVALID, None),
        (INVALID, Some(DEV)),
    ] {
        let form = token.replace('/', "%2F");
        for path in [
            format!("/{form}"),
            format!("/{}/mcp", escaped(token)),
            format!("/db/mcp/{form}"),
            format!("/db/{form}/sse/"),
            format!("/.well-known/{form}"),
            format!("/token={form}"),
            format!("/db/mcp/Bearer%20{form}"),
            format!("/db;{form}/mcp"),
            format!("/db/mcp//{form}"),
            format!("/db/../{form}"),
            format!("/db/mcp&token={form}"),
            format!("/{token}"),
            // Glued to a word that the gateway knows.
            format!("/db/mcp+{form}"),
            format!("/db/mcp.{form}"),
            format!("/db/mcp-{form}"),
            format!("/db/mcp@{form}"),
            format!("/db/mcp%22{form}"),
            format!("/db/mcp|{form}"),
            format!("/db{form}/mcp"),
            format!("/{form}db/mcp"),
            format!("/servers/{form}/stop"),
            format!("/status/{form}"),
        ] {
            for method in ["GET", "OPTIONS", "TRACE"] {
                let mut request = get(&path, presented.unwrap_or_default(), "").replace("GET", method);
                if presented.is_none() {
                    request = request.replace("Authorization: Bearer \r\n", "");
                }
                let (status, head, body) = gate.ask(&request).await;
                assert_ne!(status, 200, "{request}");
                is_free_of(&head, token, &request);
                is_free_of(&body, token, &request);
                asked += 1;
            }
        }
    }
    crate::harness::until("every line", || gate.log.all().len() == asked).await;
    for token in [VALID, EXPIRED, DEV, INVALID] {
        is_free_of(&gate.log.text(), token, "log");
        is_free_of(&gate.log.text(), token.split('/').next().unwrap(), "log, in part");
    }
    server.saw_nothing("no path led anywhere").await;
}

#[tokio::test]
async fn neither_a_stream_nor_its_end_betrays_the_token() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/sse") } } })).await;
    let mut client = gate.client().await;
    client.send(get("/db/sse", DEV, &format!("X-Copy: {DEV}\r\n"))).await;
    let mut behind = server.accept().await;
    is_free_of(&behind.head().await, DEV, "upstream");
    behind.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    behind.send("event: endpoint\ndata: /message?sessionId=1\n\n").await;
    client.head().await;
    is_free_of(&String::from_utf8(client.chunk().await.unwrap()).unwrap(), DEV, "endpoint");
    drop(behind);
    drop(client);
    gate.log.line("Stream closed", &[]).await;
    is_free_of(&gate.log.text(), DEV, "log");
    is_free_of(&gate.metrics(), DEV, "metrics");
}

/// What the log shows of a request beside its path: tool, trace and host.
#[tokio::test]
async fn a_token_in_the_place_of_a_tool_a_trace_or_a_host_is_not_logged() {
    // The shortest that passes without a warning, one of the form of a trace id, and one of the form of a host.
    const SHORT: &str = "k3y0123456789abc";
    const HEX: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const DOTTED: &str = "abcd.efgh.ijkl.mnop";
    let server = Recorder::start().await;
    let own = Recorder::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n\
         {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
    )
    .await;
    let gate = Gate::start(json!({
        "proxy": {
            "auth": {
                "kind": "bearer_token",
                "tokens": { "short": SHORT, "hex": HEX, "dotted": DOTTED, "canary": VALID },
            },
            "admin": { "addr": "127.0.0.1:0" },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "read": { "url": own.url("/mcp"), "options": { "toolFilter": { "mode": "block", "list": ["nothing"] } } },
            "docs": { "url": server.url("/mcp"), "public": true },
        },
    }))
    .await;
    let mut asked = 0;
    for token in [SHORT, HEX, DOTTED, VALID] {
        let call = |name: &str| {
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name } })
                .to_string()
        };
        let mut requests = Vec::new();
        for name in [token.to_owned(), escaped(token), format!("db__{token}"), format!("x {token} y")] {
            let fields = format!("Mcp-Method: tools/call\r\nMcp-Name: {name}\r\n");
            let encoded = format!(
                "Mcp-Method: tools/call\r\nMcp-Name: =?base64?{}?=\r\n",
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &name)
            );
            for path in ["/db/mcp", "/docs/mcp", "/read/mcp", "/mcp"] {
                requests.push(post(path, token, &fields, &call("x")));
                requests.push(post(path, token, &encoded, &call("x")));
                requests.push(post(path, token, "", &call(&name)));
            }
        }
        let trace = format!("traceparent: 00-{HEX}-00f067aa0ba902b7-01\r\n");
        if token == HEX {
            requests.push(post("/db/mcp", token, &trace, "{}"));
            requests.push(post("/db/mcp", "nobody", &trace, "{}"));
            requests.push(post("/docs/mcp", token, &trace, "{}"));
        }
        for host in [token.to_owned(), format!("{token}:8080")] {
            requests.push(get("/db/mcp", "nobody", "").replace("localhost", &host));
            requests.push(get("/db/mcp", token, "").replace("localhost", &host));
        }
        for host in [format!("{token}.example"), format!("a.{token}")] {
            requests.push(get("/db/mcp", token, "").replace("localhost", &host));
        }
        for request in &requests {
            gate.ask(request).await;
            asked += 1;
        }
        gate.ask(&get("/db/mcp", token, "X-Last: 1\r\n")).await;
        asked += 1;
    }
    crate::harness::until("every line", || gate.log.all().len() >= asked).await;
    for token in [SHORT, HEX, DOTTED, VALID] {
        is_free_of(&gate.log.text(), token, "log");
    }
    is_free_of(&gate.metrics(), SHORT, "metrics");
    // A name that is none is still there.
    gate.ask(&post("/db/mcp", SHORT, "Mcp-Method: tools/call\r\nMcp-Name: query\r\n", "{}")).await;
    gate.log.line("Authenticated request", &[("tool", json!("query"))]).await;
}
