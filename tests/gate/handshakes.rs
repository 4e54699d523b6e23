//! TLS handshakes of one address: so many at once. A crowd has its turns, and who stalls or sends nothing keeps nobody out.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{ClientConnection, DEFAULT_VERSIONS, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep},
};

use crate::{
    harness::{Client, Gate, get, soon, until},
    tls::Identity,
};

const HTTP1: &[&str] = &["http/1.1"];

async fn gate_with(identity: &Identity, per_address: Value) -> Gate {
    Gate::start(json!({
        "proxy": {
            "tls": identity.config(), "allowedHosts": ["localhost"], "limits": { "perAddress": per_address },
        },
        "mcpServers": {},
    }))
    .await
}

/// A connection to somebody far away: all that comes takes so long.
struct Far {
    stream: TcpStream,
    distance: Duration,
    on_its_way: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Real time: how far away the client is.
        let distance = self.distance;
        let on_its_way = self.on_its_way.get_or_insert_with(|| Box::pin(sleep(distance)));
        ready!(on_its_way.as_mut().poll(cx));
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.on_its_way = None;
        Poll::Ready(read)
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether a request over this connection has an answer.
async fn is_served<T: AsyncRead + AsyncWrite + Unpin>(identity: &Identity, stream: T) -> bool {
    let Ok(mut stream) = identity.connect(stream, HTTP1, DEFAULT_VERSIONS).await else { return false };
    let mut status = [0; 12];
    stream.write_all(get("/health", "", "").as_bytes()).await.is_ok()
        && soon("an answer, or the end", stream.read_exact(&mut status)).await.is_ok()
        && &status == b"HTTP/1.1 200"
}

/// Connects until it is served, as clients do.
async fn comes_again(addr: SocketAddr, identity: &Identity, distance: Duration) {
    loop {
        let stream = TcpStream::connect(addr).await.unwrap();
        if is_served(identity, Far { stream, distance, on_its_way: None }).await {
            return;
        }
    }
}

#[tokio::test]
async fn a_crowd_behind_one_address_is_served_however_far_away_it_is() {
    let identity = Arc::new(Identity::new());
    let gate = gate_with(&identity, json!({ "connections": 20, "handshakes": 4 })).await;
    let mut crowd = JoinSet::new();
    for _ in 0..40 {
        let (addr, identity) = (gate.addr, Arc::clone(&identity));
        crowd.spawn(async move { comes_again(addr, &identity, Duration::from_millis(50)).await });
    }
    soon("everybody is served", crowd.join_all()).await;
}

/// A client that gives up, or sends no TLS, in the very segment of its ClientHello or before it.
#[tokio::test]
async fn what_comes_with_a_client_hello_is_looked_at_with_it() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({})).await;
    let hello = client_hello(&identity);
    // `handshake_failure` (RFC 8446 §6).
    let alert = b"\x15\x03\x03\x00\x02\x02\x28".to_vec();
    let ends = [
        ("tls_alert", [&hello[..], &alert].concat()),
        ("tls_alert", alert),
        ("tls_handshake", [&hello[..], b"no record of TLS"].concat()),
    ];
    for (number, (reason, bytes)) in (1..).zip(ends) {
        let mut stream = TcpStream::connect(gate.addr).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let _ = soon("the end", stream.read_to_end(&mut Vec::new())).await;
        let metric = format!("sluicegate_http_rejected_total{{reason=\"{reason}\"}}");
        let wanted = if number == 3 { 1 } else { number };
        until(reason, || gate.metrics().contains(&format!("{metric} {wanted}"))).await;
    }
}

/// What an attacker sends on each connection, and nothing behind it.
fn beginnings(identity: &Identity) -> [(&'static str, Vec<u8>); 4] {
    let hello = client_hello(identity);
    [
        ("nothing", Vec::new()),
        ("a byte", hello[..1].to_vec()),
        ("half of a ClientHello", hello[..hello.len() / 2].to_vec()),
        ("a ClientHello", hello),
    ]
}

#[tokio::test]
async fn a_flood_of_connections_that_stall_keeps_nobody_of_their_address_out() {
    let identity = Identity::new();
    for (what, sent) in beginnings(&identity) {
        let gate = gate_with(&identity, json!({ "connections": 32, "handshakes": 4 })).await;
        let addr = gate.addr;
        let flood = tokio::spawn(async move {
            let mut open = std::collections::VecDeque::new();
            loop {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                let _ = stream.write_all(&sent).await;
                open.push_back(stream);
                if open.len() > 200 {
                    open.pop_front();
                }
                // Real time: how fast the flood is.
                sleep(Duration::from_millis(10)).await;
            }
        });
        until("it is more than an address may have", || gate.observer.metrics.connections_evicted.get() > 0)
            .await;
        for _ in 0..3 {
            soon(what, comes_again(addr, &identity, Duration::from_millis(5))).await;
        }
        flood.abort();
    }
}

/// How a client begins its handshake.
fn client_hello(identity: &Identity) -> Vec<u8> {
    let config = identity.client_config(HTTP1, DEFAULT_VERSIONS);
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

/// A connection on which this was sent.
async fn begun(gate: &Gate, sent: &[u8]) -> Client<TcpStream> {
    let mut client = gate.client().await;
    client.send(sent).await;
    client
}

#[tokio::test]
async fn half_of_a_client_hello_takes_no_turn_and_the_rest_may_come() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({ "handshakes": 2 })).await;
    let (hello, mut stalled) = (client_hello(&identity), Vec::new());
    for sent in [1, 5, 6, 100, hello.len() - 1] {
        stalled.push((begun(&gate, &hello[..sent]).await, sent));
    }
    assert!(is_served(&identity, gate.client().await.stream).await);
    // In records of a few bytes each, and those byte by byte (RFC 8446 section 5.1).
    let mut slow = gate.client().await;
    for part in hello[5..].chunks(50) {
        for byte in [&[22, 3, 1, 0, part.len() as u8], part].concat() {
            slow.send([byte]).await;
            tokio::task::yield_now().await;
        }
    }
    assert!(slow.more().await, "the server's side");
    for (client, sent) in &mut stalled {
        client.send(&hello[*sent..]).await;
        assert!(client.more().await, "the server's side, behind {sent} bytes");
    }
    assert_eq!(gate.observer.metrics.connections_evicted.get(), 0);
}

#[tokio::test]
async fn half_of_a_client_hello_and_the_end_is_the_end() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({})).await;
    for (what, sent) in beginnings(&identity) {
        let mut client = begun(&gate, &sent).await;
        client.stream.shutdown().await.unwrap();
        soon(what, client.rest()).await;
    }
    until("nothing of them is left", || gate.observer.metrics.connections_open.get() == 0).await;
}

#[tokio::test]
async fn handshakes_that_stall_pass_their_turns_on_and_are_not_ended() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({ "handshakes": 2 })).await;
    let hello = client_hello(&identity);
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(begun(&gate, &hello).await);
    }
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let elsewhere = elsewhere.connect(gate.addr).await.unwrap();
    assert!(is_served(&identity, elsewhere).await, "another address");
    assert!(is_served(&identity, gate.client().await.stream).await, "the same address");
    for stalled in &mut stalled {
        assert!(stalled.more().await, "the server's side");
    }
    assert_eq!(gate.observer.metrics.connections_evicted.get(), 0);
}
