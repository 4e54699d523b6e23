//! TLS handshakes of one address: so many at once. A crowd has its turns, and who stalls or says nothing keeps nobody out.

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
    harness::{Client, Gate, get, soon},
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

#[tokio::test]
async fn connections_that_say_nothing_take_no_turn_and_keep_nobody_out() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({ "connections": 64, "handshakes": 2 })).await;
    let addr = gate.addr;
    let flood = tokio::spawn(async move {
        // Real time: how fast the flood is.
        let mut silent = std::collections::VecDeque::new();
        loop {
            silent.push_back(TcpStream::connect(addr).await.unwrap());
            if silent.len() > 200 {
                silent.pop_front();
            }
            sleep(Duration::from_millis(1)).await;
        }
    });
    for _ in 0..10 {
        soon("a client beside them is served", comes_again(addr, &identity, Duration::from_millis(5))).await;
    }
    flood.abort();
}

/// A connection whose handshake has begun, and does not go on.
async fn stalled(gate: &Gate, identity: &Identity) -> Client<TcpStream> {
    let config = identity.client_config(HTTP1, DEFAULT_VERSIONS);
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut client = gate.client().await;
    client.send(&hello).await;
    client
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_their_address_for_a_while_and_no_other_at_all() {
    let identity = Identity::new();
    let gate = gate_with(&identity, json!({ "handshakes": 2 })).await;
    let first =
        Client::new(identity.connect(gate.client().await.stream, HTTP1, DEFAULT_VERSIONS).await.unwrap());
    let mut holding = [stalled(&gate, &identity).await, stalled(&gate, &identity).await];
    // They run: their servers' side is here.
    for stalled in &mut holding {
        assert!(stalled.more().await);
    }
    let waits = tokio::spawn({
        let stream = gate.client().await.stream;
        let config = identity.client_config(HTTP1, DEFAULT_VERSIONS);
        async move {
            let connector = tokio_rustls::TlsConnector::from(config);
            connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.map(drop)
        }
    });
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let elsewhere = elsewhere.connect(gate.addr).await.unwrap();
    assert!(is_served(&identity, elsewhere).await, "another address");
    assert!(soon("its turn", waits).await.unwrap().is_ok());
    gate.log
        .line("Rejected connection", &[("reason", json!("per_address")), ("peer", json!("127.0.0.1"))])
        .await;
    // Only one had to go for it; and who has shaken hands stays.
    assert_eq!(gate.observer.metrics.connections_evicted.get(), 1);
    let mut first = first;
    first.send(get("/health", "", "")).await;
    assert_eq!(first.response().await.0, 200);
}
