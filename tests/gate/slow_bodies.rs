//! Clients that send a request body slowly: what is small occupies no server, and what is slow is cut.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    harness::{Client, DEV, Gate, Upstream, chunk, field, post, soon},
    tls::{Identity, connected},
};

async fn gate_with(limits: Value, server: &Upstream) -> Gate {
    Gate::start(json!({
        "proxy": { "limits": limits },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "own": { "inline": { "tools": [{ "name": "t", "command": "true", "inputSchema": { "type": "object" } }] } }
        }
    }))
    .await
}

/// Sends `piece` again and again, never silent for long, until the gateway answers; then returns the answer.
async fn trickle<T>(client: &mut Client<T>, piece: &str) -> (u16, String, String)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let trickling = async {
        loop {
            tokio::select! {
                biased;
                more = client.more() => {
                    assert!(more, "closed without an answer");
                    return;
                }
                // Real time: a client that sends little at a time is what this is about.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            // It may be closed by now; then there is an answer to read.
            let _ = client.stream.write_all(piece.as_bytes()).await;
        }
    };
    soon("an answer", trickling).await;
    client.response().await
}

/// A head that says how the body is framed.
fn head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n{framing}\r\n\r\n")
}

#[tokio::test]
async fn a_small_body_that_trickles_is_cut_and_no_server_hears_of_it() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "smallBodyTimeout": "300ms" }), &server).await;
    for path in ["/db", "/own/mcp"] {
        for length in [1_000, 65_536] {
            let mut client = gate.client().await;
            client.send(head(path, &format!("Content-Length: {length}"))).await;
            let (status, head, body) = trickle(&mut client, " ").await;
            assert_eq!((status, field(&head, "connection")), (408, Some("close")), "{path}: {body}");
            assert!(body.contains("request_timeout"), "{body}");
            soon("the end of the client's connection", client.rest()).await;
            assert!(!server.was_reached().await, "{path}");
        }
    }
    gate.log.line("Refused request", &[("reason", json!("request_timeout"))]).await;
}

#[tokio::test]
async fn half_a_small_body_is_answered_with_408_and_no_server_hears_of_it() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "bodyTimeout": "300ms" }), &server).await;
    let mut client = gate.client().await;
    let request = post("/db", DEV, "", "0123456789");
    client.send(&request[..request.len() - 5]).await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 408, "{body}");
    soon("the end of the client's connection", client.rest()).await;
    assert!(!server.was_reached().await);
}

#[tokio::test]
async fn half_a_large_body_is_answered_with_408_and_the_server_learns_of_it() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({ "bodyTimeout": "300ms" }), &server).await;
    let mut client = gate.client().await;
    client.send(head("/db", "Content-Length: 65537") + "01234").await;
    let mut behind = server.accept().await;
    assert_eq!(field(&behind.head().await, "content-length"), Some("65537"));
    let (status, head, body) = client.response().await;
    assert_eq!(status, 408, "{body}");
    assert_eq!(field(&head, "connection"), Some("close"));
    soon("the end of the client's connection", client.rest()).await;
    assert_eq!(soon("the end of the server's connection", behind.rest()).await, b"01234");
}

#[tokio::test]
async fn a_large_body_and_one_of_unknown_length_have_a_rate() {
    let server = Upstream::bind().await;
    let limits = json!({ "bodyTimeout": "300ms", "minBodyRate": 100_000 });
    let gate = gate_with(limits, &server).await;
    for (framing, piece) in
        [("Content-Length: 65537", "x".to_owned()), ("Transfer-Encoding: chunked", chunk("x"))]
    {
        let mut client = gate.client().await;
        client.send(head("/db", framing)).await;
        let mut behind = server.accept().await;
        behind.head().await;
        let (status, _, body) = trickle(&mut client, &piece).await;
        assert_eq!(status, 408, "{framing}: {body}");
        soon("the end of the server's connection", behind.rest()).await;
    }
    // Where messages pass, too.
    let mut client = gate.client().await;
    client.send(head("/own/mcp", "Transfer-Encoding: chunked")).await;
    assert_eq!(trickle(&mut client, &chunk(" ")).await.0, 408);
}

#[tokio::test]
async fn a_body_that_is_slow_and_never_silent_for_long_arrives() {
    let server = Upstream::bind().await;
    let gate =
        gate_with(json!({ "bodyTimeout": "1s", "upstreamTimeout": "1s", "minBodyRate": 0 }), &server).await;
    // A small one, as a whole: by its length, and with what came with the head.
    let mut client = gate.client().await;
    let request = post("/db", DEV, "", "01234567");
    let (begin, rest) = request.split_at(request.len() - 7);
    client.send(begin).await;
    for byte in rest.bytes() {
        assert!(!server.was_reached().await);
        // Real time: slower than the time-out for silence is short.
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.send([byte]).await;
    }
    let mut behind = server.accept().await;
    assert_eq!(field(&behind.head().await, "content-length"), Some("8"));
    assert_eq!(behind.exactly(8).await, b"01234567");
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.response().await.0, 202);

    // One of unknown length, as it comes.
    let mut client = gate.client().await;
    client.send(head("/db", "Transfer-Encoding: chunked")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    for byte in "01234567".bytes() {
        let text = char::from(byte).to_string();
        client.send(chunk(&text)).await;
        assert_eq!(behind.chunk().await.unwrap(), text.as_bytes());
        // Real time: slower than the time-out for silence is short.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(behind.chunk().await, None);
    behind.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.response().await.0, 202);
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() {
    let server = Upstream::bind().await;
    let gate = gate_with(json!({}), &server).await;
    for framing in ["Content-Length: 4", "Content-Length: 70000", "Transfer-Encoding: chunked"] {
        let mut client = gate.client().await;
        client.send(head("/db", &format!("Expect: 100-continue\r\n{framing}"))).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "), "{framing}");
        client
            .send(if framing.contains("chunked") {
                "4\r\nbody\r\n0\r\n\r\n".to_owned()
            } else {
                "body".to_owned()
            })
            .await;
        if framing.ends_with("70000") {
            client.send("x".repeat(70_000 - 4)).await;
        }
        let mut behind = server.accept().await;
        let head = behind.head().await;
        assert_eq!(field(&head, "expect"), None, "{head}");
        behind.until("body").await;
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await;
        assert_eq!(client.response().await.0, 200, "{framing}");
    }
    // Who may not come in is told so before it sends anything.
    let mut client = gate.client().await;
    client.send(head("/db", "Expect: 100-continue\r\nContent-Length: 4").replace(DEV, "wrong")).await;
    assert_eq!(client.response().await.0, 401);
}

/// A body that comes in pieces.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn so_it_is_over_http2() {
    let server = Upstream::bind().await;
    let identity = Identity::new();
    let gate = Gate::start(json!({
        "proxy": {
            "tls": identity.config(),
            "allowedHosts": ["localhost"],
            "limits": { "smallBodyTimeout": "300ms", "bodyTimeout": "300ms", "minBodyRate": 100_000 }
        },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    }))
    .await;
    let stream = connected(&gate, &identity, &["h2"]).await;
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for length in [Some("1000"), None] {
        let (pieces, source) = mpsc::channel::<Bytes>(1);
        let mut request =
            Request::post("https://localhost/db").header("authorization", format!("Bearer {DEV}"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let answer = tokio::spawn(client.clone().send_request(request.body(Pieces(source)).unwrap()));
        let trickling = tokio::spawn(async move {
            while pieces.send(Bytes::from_static(b"x")).await.is_ok() {
                // Real time: as above.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut behind: Option<Client<TcpStream>> = None;
        if length.is_none() {
            behind = Some(server.accept().await);
        }
        let response = soon("an answer", answer).await.unwrap().unwrap();
        assert_eq!(response.status(), 408, "{length:?}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("request_timeout"));
        match behind {
            Some(mut behind) => drop(soon("the end of the server's connection", behind.rest()).await),
            None => assert!(!server.was_reached().await),
        }
        trickling.abort();
    }
}
