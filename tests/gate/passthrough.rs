//! What is the server's and the client's own passes byte for byte; what ends at a hop does not.

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, Upstream, field, get, post, soon},
    recorder::Recorder,
};

async fn gate_before(url: &str) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": { "url": url } } })).await
}

fn all<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

#[tokio::test]
async fn statuses_and_bodies_of_the_server_pass_as_they_are() {
    let body =
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32022,\"message\":\"\u{e9} \\u00e9\"}}\r\n";
    for status in [
        200, 201, 202, 207, 400, 402, 403, 404, 405, 406, 409, 410, 415, 421, 422, 429, 499, 500, 501, 503,
        504, 599,
    ] {
        let server = Recorder::answering(format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nRetry-After: 7\r\nAllow: POST\r\nWWW-Authenticate: Bearer resource_metadata=\"http://internal/\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (got, head, got_body) = gate.ask(&post("/db/mcp", DEV, "", "{}")).await;
        assert_eq!((got, got_body.as_str()), (status, body), "{head}");
        assert_eq!(field(&head, "retry-after"), Some("7"), "{head}");
        assert_eq!(field(&head, "allow"), Some("POST"), "{head}");
        assert_eq!(field(&head, "www-authenticate"), None, "{head}");
        let line = gate.log.line("Authenticated request", &[]).await;
        assert_eq!((&line["status"], line.get("reason")), (&json!(status), None));
    }
}

#[tokio::test]
async fn fields_that_mcp_gives_a_meaning_pass_untouched() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let fields = [
        "Accept: application/json, text/event-stream",
        "Accept-Encoding: gzip, deflate",
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: tools/call",
        "Mcp-Name: =?base64?w6k=?=",
        "Mcp-Param-Region: us-west1",
        "mcp-param-region: eu , two",
        "MCP-PARAM-Unknown:   spaced  inside  ",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "User-Agent: a client/1.0",
    ];
    let joined = fields.join("\r\n") + "\r\n";
    assert_eq!(gate.ask(&post("/db/mcp?q=%7E&r", DEV, &joined, "{}")).await.0, 200);
    let seen = server.only();
    assert!(seen.starts_with("POST /mcp?q=%7E&r HTTP/1.1\r\n"), "{seen}");
    let mut checked = 0;
    for wanted in fields {
        let (name, value) = wanted.split_once(':').unwrap();
        assert!(all(&seen, name).contains(&value.trim()), "{wanted}\n{seen}");
        checked += 1;
    }
    assert_eq!(checked, fields.len());
    assert_eq!(all(&seen, "mcp-param-region"), ["us-west1", "eu , two"]);
    assert_eq!(all(&seen, "host"), [server.addr.to_string()]);
    assert_eq!(field(&seen, "content-type"), Some("application/json"));
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again_and_that_is_no_redirect() {
    let filter = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
    for (options, url, path) in
        [(json!({}), "/mcp", "/db/mcp"), (filter, "/mcp", "/db/mcp"), (json!({}), "/sse", "/db/sse")]
    {
        let server = Recorder::answering(
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nLocation: /other\r\nContent-Length: 9\r\n\r\n",
        )
        .await;
        let gate =
            Gate::start(json!({ "mcpServers": { "db": { "url": server.url(url), "options": options } } }))
                .await;
        let mut client = gate.client().await;
        // Twice, so that neither side takes its length for that of a body.
        for _ in 0..2 {
            client.send(get(path, DEV, "If-None-Match: \"1\"\r\n")).await;
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
            assert_eq!((field(&head, "etag"), field(&head, "location")), (Some("\"1\""), None), "{head}");
            assert_eq!(field(&server.only(), "if-none-match"), Some("\"1\""));
            server.forget();
        }
    }
    for status in [300, 301, 302, 303, 305, 307, 308, 399] {
        let server = Recorder::answering(format!(
            "HTTP/1.1 {status} X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (got, _, body) = gate.ask(&get("/db/mcp", DEV, "")).await;
        assert!(got == 502 && body.contains("upstream_redirect"), "{status}: {got} {body}");
    }
}

/// With MCP 2026-07-28 a session id is noise, also where its version is not the first or only that is named.
#[tokio::test]
async fn the_version_is_read_alike_wherever_it_counts() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    for (versions, wanted) in [
        (&["2025-11-25"][..], 404),
        (&["2026-07-28"], 200),
        (&["2025-11-25", "2026-07-28"], 200),
        (&["2026-07-28", "2025-11-25"], 200),
    ] {
        let versions: String =
            versions.iter().map(|version| format!("MCP-Protocol-Version: {version}\r\n")).collect();
        let fields = format!("{versions}Mcp-Session-Id: noise\r\n");
        let (status, _, body) = gate.ask(&post("/db", DEV, &fields, "{}")).await;
        assert_eq!(status, wanted, "{versions}: {body}");
    }
}

#[tokio::test]
async fn options_says_of_each_path_what_is_served_there() {
    let server = Recorder::start().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mcp = "GET, POST, DELETE, OPTIONS";
    for (path, allowed) in [
        ("/db", mcp),
        ("/db/mcp", mcp),
        ("/mcp", mcp),
        ("/db/sse", "GET, OPTIONS"),
        ("/db/message", "POST, OPTIONS"),
        ("/message", "POST, OPTIONS"),
        ("/metrics", "GET, HEAD"),
        ("/servers", "GET, HEAD"),
        ("/servers/db", "GET, HEAD"),
        ("/servers/db/stop", "POST"),
        // Nothing is said of what there is not.
        ("/", mcp),
        ("/no/such/path", mcp),
        ("/absent/sse", "GET, OPTIONS"),
    ] {
        let (status, head, _) = gate.ask(&get(path, DEV, "").replacen("GET", "OPTIONS", 1)).await;
        assert_eq!((status, field(&head, "allow")), (204, Some(allowed)), "{path}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_served_is_told_which_are() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "mcpServers": { "new": { "url": server.url("/mcp") }, "old": { "url": server.url("/sse") } },
    }))
    .await;
    let mcp = "GET, POST, DELETE, OPTIONS";
    for (method, path, allowed) in [
        ("PUT", "/new/mcp", mcp),
        ("PUT", "/old/mcp", mcp),
        ("PATCH", "/mcp", mcp),
        ("POST", "/old/sse", "GET, OPTIONS"),
        ("DELETE", "/new/sse", "GET, OPTIONS"),
        ("POST", "/sse", "GET, OPTIONS"),
        ("GET", "/old/message", "POST, OPTIONS"),
        ("DELETE", "/new/message", "POST, OPTIONS"),
        ("GET", "/message", "POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/status", "GET, HEAD"),
    ] {
        let request = get(path, DEV, "Content-Length: 0\r\n").replacen("GET", method, 1);
        let (status, head, _) = gate.ask(&request).await;
        assert_eq!((status, field(&head, "allow")), (405, Some(allowed)), "{method} {path}");
    }
    server.saw_nothing("nothing is served there").await;
}

#[tokio::test]
async fn fields_of_one_hop_end_there_in_both_directions() {
    let server = Recorder::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nConnection: X-Hop-Two\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Hop-Two: 2\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nTrailer: X-T\r\nTE: trailers\r\nAlt-Svc: h3=\":443\"\r\nX-Kept: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n{}",
    )
    .await;
    let gate = gate_before(&server.url("/mcp")).await;
    let fields = "Connection: keep-alive, X-Hop\r\nConnection: X-Hop-Two\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Hop-Two: 2\r\nTE: trailers\r\nTrailer: X-T\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\nOrigin: http://localhost\r\nX-Kept: yes\r\n";
    let (status, head, _) = gate.ask(&get("/db/mcp", DEV, fields)).await;
    assert_eq!(status, 200);
    for name in [
        "x-hop",
        "x-hop-two",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
        "trailer",
        "te",
        "alt-svc",
    ] {
        assert_eq!(field(&head, name), None, "{head}");
    }
    assert!(!head.to_ascii_lowercase().contains("x-hop"), "{head}");
    assert_eq!(field(&head, "set-cookie"), None, "{head}");
    assert_eq!(field(&head, "x-kept"), Some("yes"));
    let seen = server.only();
    for name in [
        "connection",
        "keep-alive",
        "x-hop",
        "x-hop-two",
        "te",
        "trailer",
        "proxy-connection",
        "proxy-authorization",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "origin",
        "authorization",
    ] {
        assert_eq!(field(&seen, name), None, "{name}\n{seen}");
    }
    assert_eq!(field(&seen, "x-kept"), Some("yes"));
}

#[tokio::test]
async fn configured_headers_are_added_and_replace_what_the_client_sent() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": {
        "url": server.url("/mcp?key=own"),
        "headers": { "X-Team": "core", "Authorization": "Bearer upstream-credential", "Accept-Encoding": "identity", "X-Forwarded-For": "gate" },
    } } }))
    .await;
    let fields = "X-Team: mine\r\nx-team: again\r\nAccept-Encoding: gzip\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: x-team\r\n";
    assert_eq!(gate.ask(&get("/db/mcp?a=1", DEV, fields)).await.0, 200);
    let seen = server.only();
    assert!(seen.starts_with("GET /mcp?key=own HTTP/1.1\r\n"), "{seen}");
    assert_eq!(all(&seen, "x-team"), ["core"]);
    assert_eq!(all(&seen, "authorization"), ["Bearer upstream-credential"]);
    assert_eq!(all(&seen, "accept-encoding"), ["identity"]);
    assert_eq!(all(&seen, "x-forwarded-for"), ["gate"]);
    assert!(!gate.log.text().contains("upstream-credential"));
}

#[tokio::test]
async fn a_compressed_body_stays_compressed() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len()).into_bytes();
    response.extend_from_slice(gzip);
    let server = Recorder::answering(response).await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(post("/db/mcp", DEV, "Accept-Encoding: gzip\r\n", "{}")).await;
    let head = client.head().await;
    assert_eq!(
        (field(&head, "content-encoding"), field(&head, "content-length")),
        (Some("gzip"), Some("22")),
        "{head}"
    );
    assert_eq!(client.exactly(gzip.len()).await, gzip);
}

#[tokio::test]
async fn bodies_of_any_framing_arrive_whole() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    ] {
        let server = Recorder::answering(response).await;
        let gate = gate_before(&server.url("/mcp")).await;
        let (status, head, body) = gate.ask(&post("/db/mcp", DEV, "", "{}")).await;
        assert_eq!((status, body.as_str()), (200, "hello world"), "{head}");
    }
    // Until the server closes.
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let mut client = gate.client().await;
    client.send(get("/db/mcp", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send("HTTP/1.0 200 OK\r\n\r\nhello world").await;
    drop(behind);
    assert_eq!(client.response().await.2, "hello world");
}

/// Asks once and checks the refusal that stands in for the server, in the answer, the log and the metrics.
async fn failed(gate: &Gate, status: u16, error: &str) {
    let (got, head, body) = soon("an answer", gate.ask(&post("/db/mcp", DEV, "", "{}"))).await;
    assert_eq!(got, status, "{head}{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"], error);
    assert_eq!(field(&head, "www-authenticate"), None);
    let line = gate.log.line("Authenticated request", &[("reason", json!(error))]).await;
    assert_eq!(
        (&line["status"], &line["request_id"], &line["level"]),
        (&json!(status), &body["request_id"], &json!("WARN"))
    );
    let series = format!("sluicegate_upstream_errors_total{{kind=\"{error}\",server=\"db\"}} 1");
    assert!(gate.metrics().contains(&series), "{series}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_nor_passed_on() {
    for status in [301, 302, 303, 307, 308] {
        let target = Upstream::bind().await;
        let server = Recorder::answering(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            target.url("/x")
        ))
        .await;
        failed(&gate_before(&server.url("/mcp")).await, 502, "upstream_redirect").await;
        assert!(!target.was_reached().await);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_502() {
    let closed = Upstream::bind().await.url("/mcp");
    failed(&gate_before(&closed).await, 502, "upstream_unreachable").await;

    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
    ] {
        let server = Recorder::answering(garbage).await;
        failed(&gate_before(&server.url("/mcp")).await, 502, "upstream_unreachable").await;
        assert_eq!(server.requests().len(), 1, "a request that may have arrived is not repeated: {garbage}");
    }

    // The server reads the request and hangs up.
    let server = Upstream::bind().await;
    let gate = gate_before(&server.url("/mcp")).await;
    let hang_up = async {
        let mut behind = server.accept().await;
        behind.head().await;
    };
    tokio::join!(failed(&gate, 502, "upstream_unreachable"), hang_up);
    assert!(!server.was_reached().await, "not repeated");
}

#[tokio::test]
async fn a_server_that_is_silent_past_its_timeout_is_504() {
    let server = Upstream::bind().await;
    for config in [
        json!({ "proxy": { "limits": { "upstreamTimeout": "200ms" } }, "mcpServers": { "db": { "url": server.url("/mcp") } } }),
        json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "timeout": "200ms" } } }),
    ] {
        let gate = Gate::start(config).await;
        let keep = async {
            let mut behind = server.accept().await;
            behind.head().await;
            // A head that never ends is silence too.
            behind.send("HTTP/1.1 200 OK\r\nX-A: ").await;
            behind.exactly(2).await;
            assert!(!behind.more().await, "the gateway closes what it gave up");
        };
        tokio::join!(failed(&gate, 504, "upstream_timeout"), keep);
    }
}
