//! Heads that two parsers could read differently, sizes beyond the limits, and how bodies are framed anew.

use serde_json::json;

use crate::{
    harness::{Client, DEV, Gate, field, get, post},
    recorder::Recorder,
};

async fn gate_before(server: &Recorder) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await
}

/// Sends bytes as they are and returns the status line's code; the connection need not outlive the answer.
async fn status(gate: &Gate, bytes: &[u8]) -> u16 {
    let mut client = gate.client().await;
    client.send(bytes).await;
    let head = client.head().await;
    head[9..12].parse().unwrap_or_else(|_| panic!("{head}"))
}

/// A request with a good token whose head has `fields` in place of nothing.
fn with(fields: &str) -> String {
    format!("POST /db/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n{fields}")
}

#[tokio::test]
async fn a_head_that_two_parsers_could_read_differently_is_refused() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let auth = format!("Authorization: Bearer {DEV}\r\n");
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let mut cases: Vec<(String, &[u16])> = vec![
        // Who is meant.
        (format!("GET /db/mcp HTTP/1.1\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.0\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost:\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: user@localhost\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: x@y/../z\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost/db\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost, other\r\n{auth}\r\n"), &[400]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost:port\r\n{auth}\r\n"), &[400, 403]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: rebound.example\r\n{auth}\r\n"), &[403]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost.evil.example\r\n{auth}\r\n"), &[403]),
        (format!("GET http://other/db/mcp HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"), &[400]),
        (format!("GET http://user:pw@localhost/db/mcp HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"), &[400]),
        (
            format!("GET http://rebound.example/db/mcp HTTP/1.1\r\nHost: rebound.example\r\n{auth}\r\n"),
            &[403],
        ),
        (
            format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n{auth}\r\n"),
            &[403],
        ),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n{auth}\r\n"), &[403]),
        (format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin:\r\n{auth}\r\n"), &[403]),
        // What is asked.
        (get("/db/mcp", DEV, "").replace("GET ", "get "), &[400]),
        (get("/db/mcp", DEV, "").replace("GET ", "TRACE "), &[405]),
        (get("/db/mcp", DEV, "").replace("GET ", "HEAD "), &[405]),
        (get("/db/mcp", DEV, "").replace("GET ", "PUT "), &[405]),
        (get("localhost:443", DEV, "").replace("GET ", "CONNECT "), &[400, 405]),
        (get("*", DEV, "").replace("GET ", "OPTIONS "), &[400]),
        (get("/db/mcp", DEV, "").replace(" HTTP/1.1", ""), &[400]),
        (get("/db/mcp", DEV, "").replace("HTTP/1.1", "HTTP/1.2"), &[400]),
        (get("/db/mcp", DEV, "").replace("HTTP/1.1", "http/1.1"), &[400]),
        (get("/db/mcp", DEV, "Expect: junk\r\n"), &[417]),
        // Where the body ends.
        (with("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"), &[400]),
        (with("Content-Length: 2, 2\r\n\r\n{}"), &[400]),
        (with("Content-Length: +2\r\n\r\n{}"), &[400]),
        (with("Content-Length: -1\r\n\r\n"), &[400]),
        (with("Content-Length: 0x2\r\n\r\n{}"), &[400]),
        (with("Content-Length:\r\n\r\n{}"), &[400]),
        (with("Content-Length: 99999999999999999999999\r\n\r\n{}"), &[400]),
        (with(&format!("Transfer-Encoding: identity, chunked\r\n\r\n{chunks}")), &[400]),
        (with(&format!("Transfer-Encoding: gzip, chunked\r\n\r\n{chunks}")), &[400]),
        (with(&format!("Transfer-Encoding: chunked, chunked\r\n\r\n{chunks}")), &[400]),
        (with(&format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")), &[400]),
        (with(&format!("Transfer-Encoding: xchunked\r\n\r\n{chunks}")), &[400]),
        (with(&format!("Transfer-Encoding: chunked, identity\r\n\r\n{chunks}")), &[400]),
        (
            with(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")).replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        // What a line is.
        (with("X-A : 1\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("X-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("X-A: 1\rX-B: 2\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("X-A: 1\0\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with(": 1\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("no colon\r\nContent-Length: 0\r\n\r\n"), &[400]),
        // What ends at this hop.
        (with("Connection: authorization\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("Connection: keep-alive, Host\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("Connection: x-forwarded-for\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("Connection: Mcp-Session-Id\r\nContent-Length: 0\r\n\r\n"), &[400]),
        (with("Connection: close\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n"), &[400]),
        // How much.
        (get(&format!("/db/mcp?{}", "a".repeat(9_000)), DEV, ""), &[414]),
        (get(&format!("/{}", "a".repeat(9_000)), DEV, ""), &[414]),
        (get("/db/mcp", DEV, &"X-A: 1\r\n".repeat(99)), &[431]),
        (get("/db/mcp", DEV, &format!("X-A: {}\r\n", "a".repeat(40_000))), &[431]),
    ];
    for path in [
        "/db//mcp",
        "//db/mcp",
        "/./db/mcp",
        "/db/./mcp",
        "/db/../db/mcp",
        "/x/../db/mcp",
        "/db/mcp/..",
        "/%2e/db/mcp",
        "/%2E%2E/db",
        "/db%2fmcp",
        "/db%2Fmcp",
        "/db%5cmcp",
        "/db\\mcp",
        "/db%00",
        "/db%0d%0a",
        "/db%7f",
        "/db%",
        "/db%zz",
        "/%252e/db",
        "/db/mcp#",
        "/db/mcp#/../admin",
        "/db/mcp?x=1#y",
        "db/mcp",
        "/db/m\u{e9}p",
    ] {
        cases.push((get(path, DEV, ""), &[400]));
    }
    for (request, wanted) in &cases {
        let got = status(&gate, request.as_bytes()).await;
        assert!(
            wanted.contains(&got),
            "{got} instead of {wanted:?} for {:?}",
            &request[..request.len().min(300)]
        );
    }
    server.saw_nothing("every head was refused").await;
}

#[tokio::test]
async fn a_refusal_of_the_gate_says_why_in_the_log_and_closes_where_the_end_of_a_request_is_in_doubt() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    client.send(with("Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")).await;
    let (status, head, body) = client.response().await;
    assert_eq!((status, field(&head, "connection")), (400, Some("close")), "{head}");
    assert!(body.contains("bad_request"), "{body}");
    assert_eq!(client.rest().await, b"");
    let line = gate.log.line("Refused request", &[("reason", json!("bad_request"))]).await;
    assert_eq!(line["cause"], "Transfer-Encoding is not chunked alone");
}

#[tokio::test]
async fn a_fragment_is_seen_wherever_the_request_stands_on_its_connection() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    client.send(get("/db/mcp", DEV, "X-Hash: #1\r\n")).await;
    assert_eq!(client.response().await.0, 200, "a # in a field is no fragment");
    client.send(get("/db/mcp#x", DEV, "")).await;
    assert_eq!(client.response().await.0, 400, "the second request of a connection");
    // RFC 9112 §2.2: a server ignores an empty line before the request line.
    let after_empty_line = format!("\r\n{}", get("/db/mcp#x", DEV, ""));
    assert_eq!(self::status(&gate, after_empty_line.as_bytes()).await, 400);
    // One byte at a time.
    let mut client = gate.client().await;
    for byte in get("/db/mcp#x", DEV, "").as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.response().await.0, 400);
    assert_eq!(server.requests().len(), 1);
}

/// RFC 9112 §2.2 lets a recipient take a bare LF for a line end, and who is in front of the gateway may not.
#[tokio::test]
async fn a_line_that_ends_with_a_line_feed_alone_is_refused_wherever_it_stands() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let request = post("/db/mcp", DEV, "X-A: 1\r\n", "{\n}");
    let (head, body) = request.split_at(request.len() - 3);
    let line_ends: Vec<usize> = head.match_indices("\r\n").map(|(at, _)| at).collect();
    for at in &line_ends {
        let request = format!("{}{}{body}", &head[..*at], &head[at + 1..]);
        assert_eq!(status(&gate, request.as_bytes()).await, 400, "{request:?}");
        let mut client = gate.client().await;
        for byte in request.as_bytes() {
            client.send([*byte]).await;
        }
        assert_eq!(client.response().await.0, 400, "{request:?}, byte by byte");
    }
    assert_eq!(status(&gate, head.replace("\r\n", "\n").as_bytes()).await, 400);
    // A body that has CRs enough for the head and an end like that of a head changes nothing.
    let hidden =
        post("/db/mcp", DEV, "", &format!("{{{}}}\r\n\r\n", "\r".repeat(8))).replacen("\r\n", "\n", 6);
    assert_eq!(status(&gate, hidden.as_bytes()).await, 400, "{hidden:?}");
    // Behind an empty line, on a connection that has served before.
    let mut client = gate.client().await;
    client.send(get("/health", DEV, "")).await;
    assert_eq!(client.response().await.0, 200);
    client.send(format!("\r\n{}", get("/db/mcp", DEV, "X-A: 1\n"))).await;
    let (refused, _, body) = client.response().await;
    assert_eq!(refused, 400, "{body}");
    server.saw_nothing("every head was refused").await;
    let line = gate.log.line("Refused request", &[("reason", json!("bad_request"))]).await;
    assert_eq!(line["cause"], "a line of the head ends with a LF alone");

    // A line feed of a body is none of the head's, also where it comes with it or in pieces.
    let mut client = gate.client().await;
    for _ in 0..2 {
        client.send(&request).await;
        assert_eq!(client.response().await.0, 200);
    }
    for byte in request.as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.response().await.0, 200);
    // The head in two pieces, of which the second is no more than its end, and a body that looks like another head.
    let request = post("/db/mcp", DEV, "", "{\n}\r\n\r\n");
    let (first, second) = request.split_at(request.find("\r\n\r\n").unwrap() + 2);
    client.send(first).await;
    client.send(second).await;
    assert_eq!(client.response().await.0, 200);
    client.send(format!("{request}{request}")).await;
    assert_eq!((client.response().await.0, client.response().await.0), (200, 200), "sent ahead");
}

/// hyper drops the length and keeps the chunks, as RFC 9112 §6.3 says; nobody behind the gateway sees both.
#[tokio::test]
async fn a_body_with_length_and_chunks_is_one_request_with_chunks() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let smuggled = get("/db/mcp", DEV, "X-Smuggled: 1\r\n");
    let request = with(&format!(
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}"
    ));
    let mut client = gate.client().await;
    client.send(request).await;
    let (status, head, _) = client.response().await;
    assert_eq!(status, 200, "{head}");
    client.rest().await;
    let seen = server.only();
    assert_eq!(
        (field(&seen, "content-length"), field(&seen, "transfer-encoding")),
        (None, Some("chunked")),
        "{seen}"
    );
}

/// hyper folds equal lengths into one (RFC 9110 §8.6 allows it); so the server gets one.
#[tokio::test]
async fn a_length_said_twice_is_said_once() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    assert_eq!(gate.ask(&with("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}")).await.0, 200);
    assert_eq!(server.only().matches("content-length").count(), 1, "{}", server.only());
}

#[tokio::test]
async fn an_upgrade_is_never_made_nor_asked_for() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let fields =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let mut client = gate.client().await;
    client.send(get("/db/mcp", DEV, fields)).await;
    let (status, head, _) = client.response().await;
    assert_eq!(status, 200, "{head}");
    let seen = server.only();
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(field(&seen, name), None, "{seen}");
    }

    let switching =
        Recorder::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nbytes").await;
    let gate = gate_before(&switching).await;
    let (status, head, body) =
        gate.ask(&get("/db/mcp", DEV, "Connection: Upgrade\r\nUpgrade: websocket\r\n")).await;
    assert_eq!(status, 502, "{head}{body}");
}

#[tokio::test]
async fn an_absolute_target_that_agrees_with_host_is_as_good_as_a_path() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let request = get("http://localhost/db/mcp?x=1", DEV, "");
    let (status, _, body) = gate.ask(&request).await;
    assert_eq!(status, 200, "{body}");
    assert!(server.only().starts_with("GET /mcp?x=1 HTTP/1.1\r\n"), "{}", server.only());
}

#[tokio::test]
async fn a_body_leaves_framed_as_it_came() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", r#"{"id":1}"#)).await.0, 200);
    let seen = server.only();
    assert_eq!(
        (field(&seen, "content-length"), field(&seen, "transfer-encoding")),
        (Some("8"), None),
        "{seen}"
    );
    assert!(seen.ends_with("\r\n\r\n{\"id\":1}"), "{seen}");
    server.forget();

    // Extensions and trailers are the hop's own.
    let request = with(
        "Transfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n3;ext=1\r\n{\"a\r\n5\r\n\":1} \r\n0\r\nX-T: 1\r\n\r\n",
    );
    assert_eq!(gate.ask(&request).await.0, 200);
    let seen = server.only();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\n");
    assert_eq!(
        (field(&head, "content-length"), field(&head, "transfer-encoding")),
        (None, Some("chunked")),
        "{seen}"
    );
    assert_eq!(field(&head, "trailer"), None, "{seen}");
    assert!(!body.contains("ext") && !body.contains("X-T"), "{body}");
    let sizes_aside: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(sizes_aside, "{\"a\":1} ", "{body}");
    server.forget();

    assert_eq!(gate.ask(&get("/db/mcp", DEV, "")).await.0, 200);
    let seen = server.only();
    assert_eq!((field(&seen, "content-length"), field(&seen, "transfer-encoding")), (None, None), "{seen}");
    server.forget();

    assert_eq!(gate.ask(&with("Content-Length: 0\r\n\r\n")).await.0, 200);
    assert_eq!(field(&server.only(), "content-length"), Some("0"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_however_it_is_framed() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": { "limits": { "maxBodyBytes": 1000 } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", &"x".repeat(1000))).await.0, 200);
    server.forget();

    // The declared length is enough: neither is the body awaited, nor does the server hear of it.
    let mut client = gate.client().await;
    client.send(with("Content-Length: 1001\r\n\r\n")).await;
    let (status, head, body) = client.response().await;
    assert_eq!((status, field(&head, "connection")), (413, Some("close")), "{head}");
    assert!(body.contains("payload_too_large"), "{body}");
    server.saw_nothing("the length was declared").await;

    let mut client = gate.client().await;
    client.send(with(&format!("Transfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n", "x".repeat(1001)))).await;
    assert_eq!(client.response().await.0, 413);
    gate.log.line("Refused request", &[("reason", json!("payload_too_large"))]).await;
}

#[tokio::test]
async fn requests_that_were_sent_ahead_are_answered_in_order() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let mut client: Client<_> = gate.client().await;
    client
        .send(format!(
            "{}{}{}",
            get("/db/mcp?n=1", DEV, ""),
            get("/nope", DEV, ""),
            get("/db/mcp?n=2", DEV, "")
        ))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.response().await.0);
    }
    assert_eq!(statuses, [200, 404, 200]);
    assert_eq!(server.requests().len(), 2);
}
