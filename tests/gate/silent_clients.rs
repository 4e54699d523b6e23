//! The end of the process does not wait for connections on which nobody waits for anything, whatever their clients do.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use crate::{
    harness::{Client, DEV, SSE, Upstream, passes, post, soon},
    names::{h2_answer, h2_request},
    process::Process,
    recorder::Recorder,
    tls::Identity,
};

/// Longer than a test waits for anything.
const GRACE: &str = "10m";

fn config(url: &str) -> Value {
    json!({
        "proxy": {
            "shutdownGrace": GRACE, "workers": 1,
            "limits": { "headerTimeout": GRACE, "slowReaderTimeout": "40s" },
        },
        "mcpServers": { "db": { "url": url } }
    })
}

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9/mcp";

/// The preface and an empty SETTINGS frame (RFC 9113 §3.4).
const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_request_holds_up_nothing() {
    let half_body = "POST /db/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    for sent in ["", "GET /heal", "GET /health HTTP/1.1\r\nHost: lo", half_body] {
        let mut gate = Process::start(config(NOWHERE)).await;
        let mut client = gate.client().await;
        client.send(sent).await;
        assert_eq!(gate.get("/health", DEV).await.0, 200);
        gate.signal(Signal::TERM);
        assert_eq!(gate.exited().await, Some(0), "{sent:?}");
        drop(client);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_holds_up_nothing() {
    let mut gate = Process::start(config(NOWHERE)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut client = socket.connect(gate.addr).await.unwrap();
    let sending = async {
        loop {
            client.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        }
    };
    // It comes to a stand once the gateway reads no more.
    let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
    assert_eq!(gate.get("/health", DEV).await.0, 200);
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http2_that_does_not_answer_holds_up_nothing() {
    let identity = Identity::new();
    let server = Recorder::start().await;
    let with_request = [SETTINGS, &h2_request(1, "/db/mcp")].concat();
    for sent in [&SETTINGS[..10], SETTINGS, &with_request] {
        let mut config = config(&server.url("/mcp"));
        config["proxy"]["tls"] = identity.config();
        let mut gate = Process::start(config).await;
        let tcp = gate.client().await.stream;
        let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
        let mut client = Client::new(stream);
        client.send(sent).await;
        if sent == with_request {
            assert_eq!(h2_answer(&mut client, 1).await.0, 200);
        }
        gate.signal(Signal::TERM);
        assert_eq!(gate.exited().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_over_http2_who_takes_nothing_holds_up_nothing() {
    let identity = Identity::new();
    let mut config = config(NOWHERE);
    config["proxy"]["tls"] = identity.config();
    let mut gate = Process::start(config).await;
    let tcp = gate.client().await.stream;
    let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
    let (mut client, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/health").body(Empty::new()).unwrap();
    let response = soon("the head", client.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    drop(response);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_an_answer_gets_it_while_silent_ones_are_closed() {
    let server = Upstream::bind().await;
    let mut gate = Process::start(config(&server.url("/mcp"))).await;
    let (mut streaming, mut waiting, mut silent) =
        (gate.client().await, gate.client().await, gate.client().await);
    streaming.send(post("/db", DEV, "Accept: application/json, text/event-stream\r\n", "{}")).await;
    let mut behind_streaming = server.accept().await;
    behind_streaming.head().await;
    behind_streaming.exactly(2).await;
    behind_streaming.send(SSE).await;
    streaming.head().await;
    waiting.send(post("/db", DEV, "", "{}")).await;
    let mut behind_waiting = server.accept().await;
    behind_waiting.head().await;
    silent.send("GET /heal").await;
    assert_eq!(gate.get("/health", DEV).await.0, 200);
    gate.signal(Signal::TERM);
    soon("the end of the silent one", silent.rest()).await;
    passes(&mut behind_streaming, &mut streaming, "data: on\n\n").await;
    behind_waiting.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(waiting.response().await.2, "{}");
    passes(&mut behind_streaming, &mut streaming, "data: still\n\n").await;
    behind_streaming.send("0\r\n\r\n").await;
    assert_eq!(streaming.chunk().await, None);
    assert_eq!(gate.exited().await, Some(0));
}
