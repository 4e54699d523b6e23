//! Clients that ask before they send a body, over HTTP/2 (RFC 9110 §10.1.1): who is let in is told to go on, and nobody else is.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Request, Response};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{
    harness::{DEV, Gate, Upstream, field, soon},
    streaming::noise,
    tls::Identity,
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;

async fn gate_before(server: &Upstream, identity: &Identity) -> Gate {
    Gate::start(json!({
        "proxy": { "tls": identity.config(), "allowedHosts": ["localhost"], "limits": { "maxBodyBytes": 1_000_000, "smallBodyTimeout": "60s", "bodyTimeout": "60s" } },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "own": { "inline": { "tools": [{ "name": "t", "command": "true", "inputSchema": { "type": "object" } }] } }
        }
    }))
    .await
}

type Http2 = SendRequest<Bytes>;

async fn connected(gate: &Gate, identity: &Identity, builder: &Builder) -> Http2 {
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    SockRef::from(&tcp).set_recv_buffer_size(64 << 10).unwrap();
    let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn head(path: &str, token: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

const ASKS: (&str, &str) = ("expect", "100-continue");

/// A client that sent no more than a head so far.
struct Asked {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

async fn asked(client: &Http2, head: Request<()>) -> Asked {
    let mut client = soon("room for a stream", client.clone().ready()).await.unwrap();
    let (answer, body) = client.send_request(head, false).unwrap();
    Asked { answer, body }
}

impl Asked {
    /// Whether it may send its body: not if it has the answer instead.
    async fn may_send(&mut self) -> bool {
        let told = soon("word from the gateway", poll_fn(|cx| self.answer.poll_informational(cx))).await;
        match told {
            Some(interim) => {
                let interim = interim.unwrap();
                assert_eq!(interim.status(), 100);
                assert!(interim.headers().is_empty());
                true
            }
            None => false,
        }
    }

    /// The answer, which is the next that it is told.
    async fn answer(mut self) -> Response<RecvStream> {
        assert!(!self.may_send().await);
        soon("the answer", self.answer).await.unwrap()
    }
}

async fn whole(response: Response<RecvStream>) -> Vec<u8> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = soon("the rest", body.data()).await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// Sends `bytes` as far as the gateway takes them.
async fn send(body: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let room = soon("room", poll_fn(|cx| body.poll_capacity(cx))).await.unwrap().unwrap();
        body.send_data(bytes.split_to(room.min(bytes.len())), bytes.is_empty()).unwrap();
    }
}

#[tokio::test]
async fn who_is_let_in_is_told_to_go_on() {
    let (server, identity) = (Upstream::bind().await, Identity::new());
    let gate = gate_before(&server, &identity).await;
    // A table of a size of its own has to be spoken of in the first header block (RFC 7541 §4.2), which this one is.
    for table in [4096, 0, 30, 31, 300, 1 << 20] {
        let client = connected(&gate, &identity, Builder::new().header_table_size(table)).await;
        for length in [Some("4"), Some("70000"), None] {
            let length: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let mut client = asked(&client, head("/db", DEV, &[&[ASKS], &length[..]].concat())).await;
            assert!(client.may_send().await, "{length:?} {table}");
            let text =
                if length == [("content-length", "70000")] { vec![b'x'; 70_000] } else { b"body".into() };
            send(&mut client.body, text.into()).await;
            let mut behind = server.accept().await;
            assert_eq!(field(&behind.head().await, "expect"), None);
            behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), 200, "{length:?} {table}");
            assert_eq!(whole(answer).await, b"{}");
        }
        // So it is where the gateway reads the message itself.
        let mut client = asked(&client, head("/own", DEV, &[ASKS])).await;
        assert!(client.may_send().await);
        send(&mut client.body, INITIALIZE.into()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 200);
        let message: Value = serde_json::from_slice(&whole(answer).await).unwrap();
        assert_eq!(message["id"], 1);
    }
}

#[tokio::test]
async fn who_has_the_answer_or_does_not_ask_is_told_nothing_else() {
    let (server, identity) = (Upstream::bind().await, Identity::new());
    let gate = gate_before(&server, &identity).await;
    let client = connected(&gate, &identity, &Builder::new()).await;
    // One waits beside them.
    let mut open = asked(&client, head("/own", DEV, &[ASKS])).await;
    for (path, token, fields, status) in [
        ("/db", "wrong-token-0123456789", &[ASKS][..], 401),
        ("/none", DEV, &[ASKS], 404),
        ("/db", DEV, &[ASKS, ("content-length", "1000001")], 413),
        ("/own", DEV, &[("expect", "200-maybe")], 417),
        ("/own", DEV, &[ASKS, ("expect", "200-maybe")], 417),
    ] {
        let refused = asked(&client, head(path, token, fields)).await;
        assert_eq!(refused.answer().await.status(), status, "{path} {fields:?}");
    }
    // There is no body.
    let mut sender = soon("room", client.clone().ready()).await.unwrap();
    let (answer, body) = sender.send_request(head("/own", DEV, &[ASKS]), true).unwrap();
    assert_eq!(Asked { answer, body }.answer().await.status(), 400);
    // It does not ask.
    let mut silent = asked(&client, head("/own", DEV, &[])).await;
    send(&mut silent.body, INITIALIZE.into()).await;
    assert_eq!(silent.answer().await.status(), 200);
    assert!(open.may_send().await);
    send(&mut open.body, INITIALIZE.into()).await;
    assert_eq!(open.answer().await.status(), 200);
}

#[tokio::test]
async fn of_many_at_once_each_is_told_for_itself() {
    let (server, identity) = (Upstream::bind().await, Identity::new());
    let gate = gate_before(&server, &identity).await;
    let client = connected(&gate, &identity, &Builder::new()).await;
    let mut waiting = Vec::new();
    for number in 0..90 {
        let (token, fields) = match number % 3 {
            0 => (DEV, &[ASKS][..]),
            1 => ("wrong-token-0123456789", &[ASKS][..]),
            _ => (DEV, &[][..]),
        };
        waiting.push((number % 3, asked(&client, head("/own", token, fields)).await));
    }
    let mut told = Vec::new();
    for (kind, mut client) in waiting {
        match kind {
            0 => assert!(client.may_send().await),
            1 => {
                assert_eq!(client.answer().await.status(), 401);
                continue;
            }
            _ => {}
        }
        told.push(client);
    }
    for mut client in told {
        send(&mut client.body, INITIALIZE.into()).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[tokio::test]
async fn it_is_told_amid_what_others_on_its_connection_read() {
    let (server, identity) = (Upstream::bind().await, Identity::new());
    let gate = gate_before(&server, &identity).await;
    let mut builder = Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
    let client = connected(&gate, &identity, &builder).await;
    let bytes = noise(2 << 20);
    let mut reader = asked(&client, head("/db", DEV, &[])).await;
    send(&mut reader.body, Bytes::from_static(b"{}")).await;
    let mut behind = server.accept().await;
    behind.until("{}").await;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
    let sent = bytes.clone();
    tokio::spawn(async move {
        behind.send(answer).await;
        behind.send(sent).await;
        behind
    });
    let reading = tokio::spawn(async move { whole(reader.answer().await).await });
    while !reading.is_finished() {
        let mut batch = Vec::new();
        for _ in 0..7 {
            batch.push(asked(&client, head("/own", DEV, &[ASKS])).await);
        }
        for mut client in batch {
            assert!(client.may_send().await);
            send(&mut client.body, INITIALIZE.into()).await;
            assert_eq!(client.answer().await.status(), 200);
        }
    }
    assert!(reading.await.unwrap() == bytes, "what was read is not what was sent");
}
