//! Bodies pass as they come, in both directions, and end as they ended.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::{
    Client, DEV, Gate, SSE, Upstream, chunk, field, get, open_stream, passes, pause, post, soon,
};

async fn gate_before(server: &Upstream) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await
}

/// A request whose body the client sends chunk by chunk.
fn post_chunked() -> String {
    format!(
        "POST /db HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}

/// Asks for an event stream and returns both sides before the server said anything.
async fn asked(gate: &Gate, server: &Upstream) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = gate.client().await;
    client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    (client, behind)
}

#[tokio::test]
async fn the_head_goes_out_before_any_byte_of_the_body() {
    for framing in ["Transfer-Encoding: chunked\r\n", "Content-Length: 7\r\n", ""] {
        for kind in ["text/event-stream", "application/json"] {
            let server = Upstream::bind().await;
            let gate = gate_before(&server).await;
            let (mut client, mut behind) = asked(&gate, &server).await;
            behind.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n")).await;
            let head = soon("the head alone", client.head()).await;
            assert_eq!(field(&head, "content-type"), Some(kind), "{framing}");
            assert!(client.buffer.is_empty(), "{framing}");
        }
    }
}

#[tokio::test]
async fn a_request_body_passes_before_it_is_complete_and_the_answer_may_overtake_it() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    client.send(post_chunked()).await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));

    client.send(chunk("one")).await;
    assert_eq!(behind.chunk().await.unwrap(), b"one");
    behind.send(SSE).await;
    client.head().await;
    passes(&mut behind, &mut client, "data: early\n\n").await;
    client.send(chunk("two")).await;
    assert_eq!(behind.chunk().await.unwrap(), b"two");
    passes(&mut behind, &mut client, "data: between\n\n").await;
    client.send("0\r\n\r\n").await;
    assert_eq!(behind.chunk().await, None);
    passes(&mut behind, &mut client, "data: late\n\n").await;
    behind.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
}

/// Its buffers are small, which a large answer would suffer from.
#[tokio::test]
async fn a_connection_that_was_opened_for_a_stream_serves_nothing_else() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    // It is not closed for being idle while a busy machine goes on.
    let refused = "HTTP/1.1 405 Method Not Allowed\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n";
    let mut client = gate.client().await;
    for (accept, is_for_stream) in [("text/event-stream", true), ("*/*", false)] {
        client.send(get("/db", DEV, &format!("Accept: {accept}\r\n"))).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(refused).await;
        assert_eq!(client.response().await.0, 405);
        client.send(post("/db", DEV, "", "{}")).await;
        if is_for_stream {
            assert_eq!(behind.rest().await, b"");
            behind = server.accept().await;
        }
        assert!(behind.head().await.starts_with("POST"), "{accept}");
        behind.exactly(2).await;
        behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.response().await.0, 202);
    }
}

/// Writes until the other side takes nothing more for a while; returns how much payload it took in whole chunks.
async fn write_until_stuck(server: &mut Client<TcpStream>) -> usize {
    const PAYLOAD: usize = 16 * 1024;
    let block = chunk(&"x".repeat(PAYLOAD));
    let mut taken = 0;
    while let Ok(written) =
        // Real time: that a write waits has no event.
        tokio::time::timeout(Duration::from_millis(500), server.stream.write_all(block.as_bytes()))
                .await
    {
        written.unwrap();
        taken += PAYLOAD;
        assert!(taken < 64 << 20, "nothing slows the server down");
    }
    taken
}

#[tokio::test]
async fn a_server_is_slowed_down_to_the_speed_of_its_client() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    // Small buffers of the kernel, so that what is measured is the gateway.
    SockRef::from(&client.stream).set_recv_buffer_size(64 << 10).unwrap();
    SockRef::from(&behind.stream).set_send_buffer_size(64 << 10).unwrap();
    let taken = write_until_stuck(&mut behind).await;
    assert!(taken < 16 << 20, "{taken} bytes taken for a client that reads nothing");

    // The client reads again, and gets all of it.
    let mut seen = 0;
    while seen < taken {
        seen += client.chunk().await.expect("the stream goes on").len();
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_servers_connection_at_once() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;

    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    drop(client);
    assert_eq!(soon("the end, in the middle of a stream", behind.rest()).await, b"");
    gate.log.line("Stream closed", &[("reason", json!("client_gone"))]).await;

    let (client, mut behind) = asked(&gate, &server).await;
    drop(client);
    assert_eq!(soon("the end, before any answer", behind.rest()).await, b"");
    gate.log.line("Authenticated request", &[("reason", json!("client_gone")), ("status", json!(499))]).await;
}

#[tokio::test]
async fn a_server_that_breaks_off_breaks_off_the_clients_stream() {
    let heads = [SSE, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n"];
    for head in heads {
        let server = Upstream::bind().await;
        let gate = gate_before(&server).await;
        let (mut client, mut behind) = asked(&gate, &server).await;
        behind.send(head).await;
        client.head().await;
        let event = "data: 1\n\n";
        behind.send(if head == SSE { chunk(event) } else { event.to_owned() }).await;
        client.until(event).await;
        drop(behind);
        let rest = String::from_utf8(soon("the end", client.rest()).await).unwrap();
        assert!(!rest.contains('0'), "{head}: an end was made up: {rest:?}");
        gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
    }
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_stream_behind_the_last_good_one() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    behind.send("this is no chunk size\r\n").await;
    let rest = String::from_utf8(soon("the end", client.rest()).await).unwrap();
    assert!(!rest.contains('0'), "an end was made up: {rest:?}");
    assert_eq!(soon("the end of the server's connection", behind.rest()).await, b"");
    let line = gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
    assert_eq!(line["cause"], "a chunk size is not a hexadecimal number");
}

#[tokio::test]
async fn every_framing_brings_the_same_body_and_leaves_both_connections_usable() {
    let bodies = [
        ("Content-Length: 11\r\n\r\nhello world", "hello world"),
        ("Content-Length: 0\r\n\r\n", ""),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        (
            "Transfer-Encoding: chunked\r\n\r\n00b;name=value;q=\"x\"\r\nhello world\r\n0;last\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n",
            "hello world",
        ),
        (
            "Content-Type: text/event-stream\r\nContent-Length: 18\r\n\r\ndata: a\n\ndata: b\n\n",
            "data: a\n\ndata: b\n\n",
        ),
        (
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n9;x\r\ndata: b\n\n\r\n0\r\nX-Sum: 1\r\n\r\n",
            "data: a\n\ndata: b\n\n",
        ),
    ];
    for by_byte in [false, true] {
        let server = Upstream::bind().await;
        let gate = gate_before(&server).await;
        let mut client = gate.client().await;
        let mut behind = None;
        for (response, expected) in bodies {
            client.send(get("/db", DEV, "")).await;
            // The first request opens the server's connection; all others arrive on the same one.
            if behind.is_none() {
                behind = Some(server.accept().await);
            }
            let behind = behind.as_mut().unwrap();
            behind.head().await;
            let response = format!("HTTP/1.1 200 OK\r\n{response}");
            if by_byte {
                for byte in response.as_bytes() {
                    behind.send([*byte]).await;
                    tokio::task::yield_now().await;
                }
            } else {
                behind.send(&response).await;
            }
            let (status, head, body) = soon(&response, client.response()).await;
            assert_eq!((status, body.as_str()), (200, expected), "{response:?} gave {head:?}");
            assert_eq!(field(&head, "x-sum"), None, "a trailer became a header field");
        }
        assert!(!server.was_reached().await, "one connection was enough");
    }
}

/// The bytes that a client gets of a chunked body, framing and all; the connection goes on.
async fn raw_body(client: &mut Client<TcpStream>) -> String {
    let mut raw = String::new();
    while !raw.ends_with("\r\n0\r\n\r\n") {
        raw += &client.until("\r\n").await;
        assert!(raw.len() < 1000, "{raw:?}");
    }
    raw
}

#[tokio::test]
async fn extensions_and_trailers_of_a_server_s_chunks_are_for_the_gate_alone() {
    // An intermediary has no use for what it does not know (RFC 9112 §7.1.1), and a parser that reads it otherwise than the
    // gateway reads another body.
    let first = "5;a=b\r\nhello\r\n";
    let rest = "006;x=\"y;z\"\r\n world\r\n1\r\n!\r\nA;q\r\n0123456789\r\n000;last;\r\nX-Trailer: 1\r\nSet-Cookie: a=1\r\n\r\n";
    let clean = "5\r\nhello\r\n06\r\n world\r\n1\r\n!\r\nA\r\n0123456789\r\n0\r\n\r\n";
    for by_byte in [false, true] {
        let server = Upstream::bind().await;
        let gate = gate_before(&server).await;
        let mut client = gate.client().await;
        client.send(get("/db", DEV, "")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        for round in 0..2 {
            if round > 0 {
                client.send(get("/db", DEV, "")).await;
                behind.head().await;
            }
            // The first chunk comes with the head, or behind it.
            behind.send(if by_byte { SSE.to_owned() } else { format!("{SSE}{first}") }).await;
            client.head().await;
            if by_byte {
                for byte in format!("{first}{rest}").as_bytes() {
                    behind.send([*byte]).await;
                    tokio::task::yield_now().await;
                }
            } else {
                behind.send(&rest).await;
            }
            assert_eq!(soon("the body", raw_body(&mut client)).await, clean);
        }
        assert!(!server.was_reached().await, "both connections are used again");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole() {
    for kind in ["text/plain", "text/event-stream"] {
        let server = Upstream::bind().await;
        let gate = gate_before(&server).await;
        let mut client = gate.client().await;
        for _ in 0..2 {
            client.send(get("/db", DEV, "")).await;
            let mut behind = server.accept().await;
            behind.head().await;
            behind.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\ndata: 1\n\n")).await;
            drop(behind);
            let (status, _, body) = client.response().await;
            assert_eq!((status, body.as_str()), (200, "data: 1\n\n"), "{kind}");
        }
    }
}

#[tokio::test]
async fn events_that_arrive_together_or_in_pieces_all_arrive_in_order() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let events: Vec<String> = (0..100).map(|n| format!("id: {n}\ndata: {{\"n\":{n}}}\n\n")).collect();
    let sent: String = events.iter().map(|event| chunk(event)).collect();
    let expected = events.concat();

    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    behind.send(format!("{sent}0\r\n\r\n")).await;
    let mut together = Vec::new();
    while let Some(chunk) = client.chunk().await {
        together.extend(chunk);
    }
    assert_eq!(String::from_utf8(together).unwrap(), expected);

    // On the same connection of the client, a byte at a time.
    client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
    behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    let writer = tokio::spawn(async move {
        for byte in format!("{sent}0\r\n\r\n").into_bytes() {
            behind.send([byte]).await;
            tokio::task::yield_now().await;
        }
    });
    let mut pieces = Vec::new();
    while let Some(chunk) = client.chunk().await {
        pieces.extend(chunk);
    }
    assert_eq!(String::from_utf8(pieces).unwrap(), expected);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_fails_no_request() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    for n in 0..50 {
        client.send(post("/db", DEV, "", "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.exactly(2).await;
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        let (status, _, body) = client.response().await;
        assert_eq!(status, 200, "request {n}: {body}");
        drop(behind);
    }
}

#[tokio::test]
async fn responses_without_a_body_leave_the_connections_in_step() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    client.send(get("/db", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 500\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 304 "), "{head}");

    client.send(get("/db", DEV, "")).await;
    behind.head().await;
    behind.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");

    client.send(post("/db", DEV, "", "{}")).await;
    behind.head().await;
    behind.exactly(2).await;
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.0, 202);

    // MCP has no HEAD; the gateway's own pages do, and send no body.
    client.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.send(get("/health", DEV, "")).await;
    assert_eq!(client.response().await.2, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn interim_responses_are_for_the_gate_alone() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let (mut client, mut behind) = asked(&gate, &server).await;
    behind.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    behind.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n").await;
    behind.send("Content-Length: 2\r\n\r\n{}").await;
    let (status, head, body) = client.response().await;
    assert_eq!((status, body.as_str()), (200, "{}"), "{head}");
    assert_eq!(field(&head, "link"), None);
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    let request = post("/db", DEV, "Expect: 100-continue\r\n", "{}");
    client.send(request.strip_suffix("{}").unwrap()).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("{}").await;
    let mut behind = server.accept().await;
    assert_eq!(field(&behind.head().await, "expect"), None);
    assert_eq!(behind.exactly(2).await, b"{}");
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.0, 202);
}

/// Bytes without a pattern that chunking could hide.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

const LARGE: usize = 64 << 20;

#[tokio::test]
async fn a_large_body_with_a_length_comes_back_as_it_went() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let echo = tokio::spawn(async move {
        let mut behind = server.accept().await;
        let head = behind.head().await;
        assert_eq!(field(&head, "content-length"), Some(LARGE.to_string().as_str()));
        behind.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")).await;
        let first = std::mem::take(&mut behind.buffer);
        behind.send(&first).await;
        let (mut from, mut to) = behind.stream.split();
        let mut rest = tokio::io::AsyncReadExt::take(&mut from, (LARGE - first.len()) as u64);
        tokio::io::copy(&mut rest, &mut to).await.unwrap();
    });
    let sent = noise(LARGE);
    let (from, mut to) = TcpStream::connect(gate.addr).await.unwrap().into_split();
    let head = post("/db", DEV, "", "").replace("Content-Length: 0", &format!("Content-Length: {LARGE}"));
    to.write_all(head.as_bytes()).await.unwrap();
    let body = sent.clone();
    let writer = tokio::spawn(async move { to.write_all(&body).await.map(|()| to) });
    let mut client = Client::new(tokio::io::join(from, tokio::io::sink()));
    client.head().await;
    let received = soon("the whole body", client.exactly(LARGE)).await;
    assert!(received == sent, "the body changed on its way");
    echo.await.unwrap();
    drop(writer.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_large_chunked_body_comes_back_as_it_went() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let echo = tokio::spawn(async move {
        let mut behind = server.accept().await;
        behind.head().await;
        let mut body = Vec::with_capacity(LARGE);
        while let Some(chunk) = behind.chunk().await {
            body.extend(chunk);
        }
        behind.send(SSE.replace("event-stream", "plain")).await;
        for piece in body.chunks(70_001) {
            behind.send(format!("{:x}\r\n", piece.len())).await;
            behind.send(piece).await;
            behind.send("\r\n").await;
        }
        behind.send("0\r\n\r\n").await;
        behind
    });
    let sent = noise(LARGE);
    let mut client = gate.client().await;
    client.send(post_chunked()).await;
    for piece in sent.chunks(123_457) {
        client.send(format!("{:x}\r\n", piece.len())).await;
        client.send(piece).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    client.head().await;
    let mut received = Vec::with_capacity(LARGE);
    while let Some(chunk) = client.chunk().await {
        received.extend(chunk);
    }
    assert!(received == sent, "the body changed on its way");
    drop(echo.await.unwrap());
}

#[tokio::test]
async fn requests_sent_ahead_wait_behind_a_stream_and_are_answered_in_order() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    let stream = get("/db", DEV, "Accept: text/event-stream\r\n");
    client.send(format!("{stream}{}{}", post("/db", DEV, "", "{}"), get("/health", DEV, ""))).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    passes(&mut behind, &mut client, "data: 2\n\n").await;
    behind.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    let mut behind = server.accept().await;
    assert!(behind.head().await.starts_with("POST /mcp "));
    behind.exactly(2).await;
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.0, 202);
    assert_eq!(client.response().await.2, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn a_client_that_leaves_with_a_request_sent_ahead_still_ends_its_stream() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server).await;
    let mut client = gate.client().await;
    let stream = get("/db", DEV, "Accept: text/event-stream\r\n");
    client.send(format!("{stream}{}", get("/health", DEV, ""))).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    drop(client);
    // A server that speaks now and then, as they do; the gateway learns that nobody listens.
    soon("the end of the server's connection", async {
        while behind.stream.write_all(chunk(": ping\n\n").as_bytes()).await.is_ok() {
            pause().await;
        }
    })
    .await;
}
