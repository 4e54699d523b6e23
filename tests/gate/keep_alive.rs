//! Event streams that are silent get comments: between events, wherever bytes pass, and nowhere else.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, get, open_stream, passes, post, soon},
    tls::{Identity, connected, h2_stream, http2},
};

const COMMENT: &[u8] = b":\n\n";
/// In configs of these tests.
const SHORT: &str = "100ms";

async fn gate_before(server: &Upstream, proxy: Value, of_server: Value) -> Gate {
    let mut db = json!({ "url": server.url("/mcp") });
    let mut whole = json!({ "workers": 1, "keepAlive": SHORT });
    for (to, from) in [(&mut db, of_server), (&mut whole, proxy)] {
        to.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
    }
    Gate::start(json!({ "proxy": whole, "mcpServers": { "db": db, "clock": { "url": server.url("/mcp"), "keepAlive": SHORT } } })).await
}

/// Waits for so long that a silent stream would have had a comment twice over: another one has.
async fn silence(gate: &Gate, server: &Upstream) {
    let mut client = gate.client().await;
    client.send(get("/clock", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    for _ in 0..3 {
        assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
    }
}

/// The next piece that is no comment; how many came before it.
async fn event(
    client: &mut Client<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
) -> (String, usize) {
    let mut comments = 0;
    loop {
        let piece = client.chunk().await.expect("the stream goes on");
        if piece != COMMENT {
            return (String::from_utf8(piece).unwrap(), comments);
        }
        comments += 1;
    }
}

#[tokio::test]
async fn a_silent_stream_gets_comments_between_its_events_and_none_inside_of_one() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server, json!({}), json!({})).await;
    for line_end in ["\n", "\r\n", "\r"] {
        let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
        for _ in 0..2 {
            assert_eq!(client.chunk().await.as_deref(), Some(COMMENT), "before the first event");
        }
        behind.send(chunk(&format!("data: 1{line_end}{line_end}"))).await;
        assert_eq!(event(&mut client).await.0, format!("data: 1{line_end}{line_end}"));
        assert_eq!(client.chunk().await.as_deref(), Some(COMMENT), "behind an event");

        // An event, a chunk, and a line end that are not over.
        for (first, second) in [
            (chunk(&format!("data: 2{line_end}")), chunk(&format!("data: 3{line_end}{line_end}"))),
            (chunk("data: 2"), chunk(&format!("{line_end}{line_end}"))),
            (
                format!("14\r\ndata: 2{line_end}{line_end}"),
                format!("{}\r\n", ":".repeat(20 - 7 - 2 * line_end.len())),
            ),
            (
                chunk(&format!("data: 2{line_end}{line_end}")).strip_suffix('\n').unwrap().to_owned(),
                "\n".to_owned(),
            ),
        ] {
            // Whatever is on its way is here, and the next silence begins.
            behind.send(chunk(&format!("data: mark{line_end}{line_end}"))).await;
            event(&mut client).await;
            behind.send(&first).await;
            let mut seen = loop {
                let seen = String::from_utf8(client.buffer.clone()).unwrap();
                match seen.find(&first) {
                    Some(at) => break seen[at..].to_owned(),
                    None => assert!(client.more().await),
                }
            };
            silence(&gate, &server).await;
            behind.send(&second).await;
            client.buffer.clear();
            let whole = format!("{first}{second}");
            while !seen.starts_with(&whole) {
                assert!(whole.starts_with(&seen), "{seen:?} is not {whole:?}");
                assert!(client.more().await);
                seen.push_str(std::str::from_utf8(&std::mem::take(&mut client.buffer)).unwrap());
            }
            client.buffer = seen.split_off(whole.len()).into_bytes();
            // Of the third, the last event is still open.
            behind.send(chunk(&format!("{line_end}{line_end}"))).await;
            event(&mut client).await;
        }
        behind.send("0\r\n\r\n").await;
        while let Some(piece) = client.chunk().await {
            assert_eq!(piece, COMMENT);
        }
    }
}

#[tokio::test]
async fn what_is_no_event_stream_or_has_a_length_or_is_compressed_gets_none() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server, json!({}), json!({})).await;
    for fields in [
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
        "Content-Type: text/event-streams\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Type: text/event-stream\r\nContent-Length: 30\r\n",
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Content-Type: application/json\r\n",
        PARTIAL,
    ] {
        let mut client = gate.client().await;
        client.send(post("/db", DEV, "", "{}")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        let status = if fields == PARTIAL { "206 Partial Content" } else { "200 OK" };
        behind.send(format!("HTTP/1.1 {status}\r\n{fields}\r\n")).await;
        client.head().await;
        silence(&gate, &server).await;
        behind.send(chunk("data: 1\n\n")).await;
        client.more().await;
        assert!(!client.buffer.contains(&b':') || !client.buffer.starts_with(b"3\r\n"), "{fields}");
        assert!(client.buffer.windows(9).any(|piece| piece == b"data: 1\n\n"), "{fields}");
        assert!(!client.buffer.windows(3).any(|piece| piece == COMMENT), "{fields}");
    }
}

/// Of a part, the beginning is somewhere else.
const PARTIAL: &str =
    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 1-9/9\r\n";

#[tokio::test]
async fn a_byte_order_mark_behind_a_comment_that_came_first_is_taken_out() {
    let server = Upstream::bind().await;
    let gate = gate_before(&server, json!({}), json!({})).await;
    let marked = "\u{feff}data: 1\n\n";
    // By the relay, and where the server's framing cannot pass, by hyper.
    for head in [SSE.to_owned(), SSE.replace("Transfer-Encoding: chunked\r\n", "")] {
        let framed = |data: &str| if head == SSE { chunk(data) } else { data.to_owned() };
        for is_silent in [true, false] {
            let mut client = gate.client().await;
            client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
            let mut behind = server.accept().await;
            behind.head().await;
            if is_silent {
                behind.send(&head).await;
                client.head().await;
                assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
                behind.send(framed(marked)).await;
                assert_eq!(event(&mut client).await.0, "data: 1\n\n");
            } else {
                behind.send(format!("{head}{}", framed(marked))).await;
                client.head().await;
                assert_eq!(event(&mut client).await.0, marked);
            }
            // In the middle of a stream it is the server's.
            behind.send(framed(marked)).await;
            assert_eq!(event(&mut client).await.0, marked);
            if is_silent {
                assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
            }
        }
    }
    // What cannot be taken out ends the stream, which its client opens again.
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
    behind.send("3\r\n\u{feff}\r\n").await;
    while client.more().await {}
    gate.log.line("Stream closed", &[("reason", json!("upstream_lost"))]).await;
}

#[tokio::test]
async fn zero_is_none_and_a_server_s_own_silence_wins() {
    let server = Upstream::bind().await;
    let off = gate_before(&server, json!({}), json!({ "keepAlive": "0s" })).await;
    let (mut client, mut behind) = open_stream(off.addr, &server, DEV).await;
    silence(&off, &server).await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;

    let on = gate_before(&server, json!({ "keepAlive": "0s" }), json!({ "keepAlive": SHORT })).await;
    let (mut client, _behind) = open_stream(on.addr, &server, DEV).await;
    assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
}

async fn next(body: &mut Incoming) -> Bytes {
    soon("a frame", body.frame()).await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn streams_that_do_not_leave_hyper_get_them_too() {
    let server = Upstream::bind().await;
    let identity = Identity::new();
    let tls = json!({ "tls": identity.config(), "allowedHosts": ["localhost"] });
    let gate = gate_before(&server, tls, json!({})).await;

    let mut http2 = http2(&gate, &identity).await;
    let (mut response, mut behind) = h2_stream(&mut http2, &server).await;
    assert_eq!(next(response.body_mut()).await, COMMENT);
    behind.send(chunk("data: 1\n\n")).await;
    while next(response.body_mut()).await != "data: 1\n\n" {}
    assert_eq!(next(response.body_mut()).await, COMMENT);

    // HTTP/1.1 within TLS, by the relay and, where the server's framing cannot pass, by hyper.
    for head in [SSE.to_owned(), SSE.replace("Transfer-Encoding: chunked\r\n", "")] {
        let mut client = Client::new(connected(&gate, &identity, &["http/1.1"]).await);
        client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(&head).await;
        client.head().await;
        assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
        let is_chunked = head.contains("chunked");
        behind.send(if is_chunked { chunk("data: 1\n\n") } else { "data: 1\n\n".to_owned() }).await;
        assert_eq!(event(&mut client).await.0, "data: 1\n\n");
        behind.send(if is_chunked { chunk("data: 2\n") } else { "data: 2\n".to_owned() }).await;
        while event(&mut client).await.0 != "data: 2\n" {}
    }
}

#[tokio::test]
async fn a_stream_whose_endpoint_event_is_rewritten_gets_them_before_and_behind_it() {
    let server = Upstream::bind().await;
    let sse = json!({ "transportType": "sse", "url": server.url("/sse") });
    let gate = gate_before(&server, json!({}), sse).await;
    let mut client = gate.client().await;
    client.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
    behind.send(chunk("event: endpoint\ndata: /message?s=1\n\n")).await;
    let mut endpoint = String::new();
    while !endpoint.contains("sluicegate=") {
        endpoint.push_str(&event(&mut client).await.0);
    }
    assert_eq!(client.chunk().await.as_deref(), Some(COMMENT));
}
