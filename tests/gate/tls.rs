//! HTTPS as clients speak it: both versions of HTTP, both sides of the gateway, certificates that change.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sluicegate::{
    config::{Snapshot, Tls},
    gateway::Gateway,
    net::crypto::provider,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, client::TlsStream};

pub use test_support::tls::Identity;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, post, soon, until},
    process::{Process, serve, text},
};

pub async fn https_gate(identity: &Identity, server: &Upstream) -> Gate {
    Gate::start(config(identity, server)).await
}

fn config(identity: &Identity, server: &Upstream) -> Value {
    json!({
        "proxy": { "tls": identity.config(), "allowedHosts": ["localhost"] },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    })
}

/// Whoever starts it: the config asks for TLS, and nothing is served without.
#[tokio::test]
async fn without_its_certificate_nothing_is_served() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut snapshot = Snapshot::clone(&gate.gateway.in_force());
    snapshot.tls = Some(Tls::Files(None));
    let started = Gateway::start(&snapshot, Arc::clone(&gate.observer)).await;
    let error = started.err().expect("it was served in the clear").to_string();
    assert!(error.contains("certificate"), "{error}");
}

pub async fn connected(gate: &Gate, identity: &Identity, alpn: &[&str]) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    identity.connect(tcp, alpn, rustls::DEFAULT_VERSIONS).await.unwrap()
}

fn alpn_of(stream: &TlsStream<TcpStream>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

pub type Http2 = SendRequest<Empty<Bytes>>;

pub async fn http2(gate: &Gate, identity: &Identity) -> Http2 {
    let stream = connected(gate, identity, &["h2", "http/1.1"]).await;
    assert_eq!(alpn_of(&stream), Some(&b"h2"[..]));
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn h2_get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {DEV}"))
        .body(Empty::new())
        .unwrap()
}

/// An event stream as one of many on an HTTP/2 connection, and the server's side of it.
pub async fn h2_stream(client: &mut Http2, server: &Upstream) -> (Response<Incoming>, Client<TcpStream>) {
    let answer = tokio::spawn(client.send_request(h2_get("/db")));
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    let response = soon("the head", answer).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    (response, behind)
}

async fn h2_passes(behind: &mut Client<TcpStream>, response: &mut Response<Incoming>, event: &str) {
    behind.send(chunk(event)).await;
    let frame = soon(event, response.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), event.as_bytes());
}

#[tokio::test]
async fn http1_clients_get_http1_with_and_without_alpn() {
    let identity = Identity::new();
    let gate = https_gate(&identity, &Upstream::bind().await).await;
    for (alpn, agreed) in [(&["http/1.1"][..], Some(&b"http/1.1"[..])), (&[][..], None)] {
        let stream = connected(&gate, &identity, alpn).await;
        assert_eq!(alpn_of(&stream), agreed);
        let mut client = Client::new(stream);
        client.send(get("/health", DEV, "")).await;
        assert_eq!(client.response().await.0, 200);
    }
}

#[tokio::test]
async fn events_pass_one_by_one_over_https_with_http1() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut client = Client::new(connected(&gate, &identity, &["http/1.1"]).await);
    client.send(get("/db", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE).await;
    client.head().await;
    for n in 0..20 {
        let event = format!("data: {n}\n\n");
        behind.send(chunk(&event)).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    behind.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    client.send(get("/health", DEV, "")).await;
    assert_eq!(client.response().await.0, 200);
}

#[tokio::test]
async fn of_many_streams_on_one_http2_connection_one_ends_and_the_others_go_on() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut client = http2(&gate, &identity).await;
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(h2_stream(&mut client, &server).await);
    }
    for (n, (response, behind)) in streams.iter_mut().enumerate() {
        h2_passes(behind, response, &format!("data: {n}\n\n")).await;
    }

    let (mut ended, mut behind) = streams.swap_remove(7);
    behind.send("0\r\n\r\n").await;
    while let Some(frame) = soon("the end", ended.frame()).await {
        assert_eq!(frame.unwrap().into_data().unwrap(), "", "nothing but the end was to come");
    }
    let (mut broken, behind) = streams.swap_remove(8);
    drop(behind);
    assert!(soon("the reset", broken.frame()).await.unwrap().is_err(), "no end is made up");

    for (response, behind) in &mut streams {
        h2_passes(behind, response, "data: after\n\n").await;
    }
}

#[tokio::test]
async fn a_stream_that_an_http2_client_resets_ends_at_the_server_and_no_other_does() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut client = http2(&gate, &identity).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(h2_stream(&mut client, &server).await);
    }
    let (reset, mut behind) = streams.swap_remove(2);
    drop(reset);
    assert_eq!(soon("the end of the server's connection", behind.rest()).await, b"");
    gate.log.line("Stream closed", &[("reason", json!("client_gone"))]).await;
    for (response, behind) in &mut streams {
        h2_passes(behind, response, "data: after\n\n").await;
    }

    // Before the head as well.
    let waiting = tokio::spawn(client.send_request(h2_get("/db")));
    let mut behind = server.accept().await;
    behind.head().await;
    waiting.abort();
    assert_eq!(soon("the end of the server's connection", behind.rest()).await, b"");
    for (response, behind) in &mut streams {
        h2_passes(behind, response, "data: still\n\n").await;
    }
}

#[tokio::test]
async fn an_http2_stream_that_nobody_reads_holds_up_no_other_and_takes_little() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut client = http2(&gate, &identity).await;
    let (unread, mut flood) = h2_stream(&mut client, &server).await;
    let (mut read, mut behind) = h2_stream(&mut client, &server).await;
    socket2::SockRef::from(&flood.stream).set_send_buffer_size(64 << 10).unwrap();
    let block = chunk(&"x".repeat(16 * 1024));
    let mut taken = 0;
    while let Ok(written) =
        // Real time: that a write waits has no event.
        tokio::time::timeout(Duration::from_millis(500), flood.stream.write_all(block.as_bytes()))
                .await
    {
        written.unwrap();
        taken += block.len();
        assert!(taken < 32 << 20, "nothing slows the server down");
    }
    h2_passes(&mut behind, &mut read, "data: not held up\n\n").await;
    drop(unread);
    assert_eq!(soon("the end of the flood", flood.rest()).await, b"");
}

#[tokio::test]
async fn tls_1_2_is_the_least() {
    let identity = Identity::new();
    let gate = https_gate(&identity, &Upstream::bind().await).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tcp = TcpStream::connect(gate.addr).await.unwrap();
        let stream = identity.connect(tcp, &["http/1.1"], &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }

    // A ClientHello of TLS 1.1 with one suite (RFC 4346 §7.4.1.2).
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut client = gate.client().await;
    client.send(hello).await;
    let alert = soon("the refusal", client.rest()).await;
    // An alert, and a fatal one (RFC 8446 §6).
    assert_eq!((alert.first(), alert.get(5)), (Some(&0x15), Some(&2)), "{alert:?}");
}

#[tokio::test]
async fn a_client_that_is_silent_in_the_handshake_is_cut_and_others_are_served_meanwhile() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let mut config = config(&identity, &server);
    config["proxy"]["limits"] = json!({ "tlsHandshakeTimeout": "300ms" });
    let gate = Gate::start(config).await;
    let mut silent = gate.client().await;
    let mut halting = gate.client().await;
    halting.send([0x16, 3, 1]).await;
    let mut good = Client::new(connected(&gate, &identity, &["http/1.1"]).await);
    good.send(get("/health", DEV, "")).await;
    assert_eq!(good.response().await.0, 200);
    assert_eq!(soon("the end of the silent one", silent.rest()).await, b"");
    soon("the end of the halting one", halting.rest()).await;
}

#[tokio::test]
async fn an_http2_client_without_a_request_is_cut() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let mut config = config(&identity, &server);
    config["proxy"]["limits"] = json!({ "headerTimeout": "300ms" });
    let gate = Gate::start(config).await;
    // The preface and an empty SETTINGS frame (RFC 9113 §3.4).
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for first in [&b""[..], &b"PRI * HTTP"[..], &settings[..]] {
        let mut client = Client::new(connected(&gate, &identity, &["h2"]).await);
        client.send(first).await;
        client.stream.flush().await.unwrap();
        soon("the end of the silent connection", client.rest()).await;
    }
    until("no connection is left", || gate.metrics().contains("sluicegate_connections_open 0")).await;
}

/// A server that speaks TLS with `identity` and answers one request on each connection.
async fn https_server(identity: &Identity) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let certificate = sluicegate::downstream::tls::Certificate::default();
    certificate.set(identity.made.certified().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config.with_cert_resolver(Arc::new(certificate))));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let mut client = Client::new(stream);
            let head = client.head().await;
            let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let body = client.exactly(length).await;
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
            client.send(body).await;
        }
    });
    port
}

#[tokio::test]
async fn a_server_behind_https_is_reached_if_its_certificate_is_trusted() {
    let (trusted, stranger) = (Identity::new(), Identity::new());
    let ca = trusted.path("ca.pem");
    let (good, bad) = (https_server(&trusted).await, https_server(&stranger).await);
    let gate = Gate::start(json!({ "mcpServers": {
        "good": { "url": format!("https://localhost:{good}/mcp"), "caFile": &ca },
        "bad": { "url": format!("https://localhost:{bad}/mcp"), "caFile": &ca },
        "wrong": { "url": format!("https://127.0.0.2:{good}/mcp"), "caFile": &ca },
    } }))
    .await;
    let body = "x".repeat(200_000);
    let (status, _, answer) = gate.ask(&post("/good", DEV, "", &body)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer == body, "the body changed on its way");
    for server in ["bad", "wrong"] {
        let (status, _, answer) = gate.ask(&post(&format!("/{server}"), DEV, "", "{}")).await;
        assert_eq!(status, 502, "{server}: {answer}");
        assert!(answer.contains("upstream_unreachable"), "{answer}");
    }
}

/// A container without certificates: whom nobody can trust is not reached, and the gateway serves the rest.
#[tokio::test]
async fn a_system_that_trusts_nobody_is_no_reason_not_to_serve() {
    let trusted = Identity::new();
    let port = https_server(&trusted).await;
    let url = format!("https://localhost:{port}/mcp");
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    let config = json!({ "mcpServers": {
        "by-system": { "url": &url },
        "by-file": { "url": &url, "caFile": trusted.path("ca.pem") },
    } });
    std::fs::write(&path, text(config.clone())).unwrap();
    let mut command = serve(&path);
    command.env("SSL_CERT_FILE", dir.path().join("nothing")).env("SSL_CERT_DIR", dir.path().join("nothing"));
    let gate = Process::run(command, dir, path).await;
    let fields = [("level", json!("ERROR")), ("server", json!("by-system"))];
    gate.log.line("Servers cannot be reached", &fields).await;
    for (server, status) in [("by-system", 502), ("by-file", 200)] {
        let mut client = gate.client().await;
        client.send(post(&format!("/{server}"), DEV, "", "{}")).await;
        assert_eq!(client.response().await.0, status, "{server}");
    }
    // A reload builds what it has to, and no more.
    gate.save(config);
    gate.signal(rustix::process::Signal::HUP);
    gate.log.line("Config reloaded", &[]).await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_handshakes_and_running_connections_live() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let mut gate = https_gate(&identity, &server).await;
    let mut client = http2(&gate, &identity).await;
    let (mut response, mut behind) = h2_stream(&mut client, &server).await;

    let renewed = Identity::new();
    gate.reload(config(&renewed, &server));
    assert_eq!(connected(&gate, &renewed, &["h2"]).await.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    let refused = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await;
    assert!(refused.is_err(), "the old certificate is still presented");

    h2_passes(&mut behind, &mut response, "data: still here\n\n").await;
    let (mut another, mut behind) = h2_stream(&mut client, &server).await;
    h2_passes(&mut behind, &mut another, "data: and more\n\n").await;
}

#[tokio::test]
async fn an_http2_stream_whose_client_takes_nothing_is_cut_and_the_others_live() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let mut config = config(&identity, &server);
    config["proxy"]["limits"] = json!({ "slowReaderTimeout": "500ms" });
    let mut gate = Gate::start(config.clone()).await;
    let mut client = http2(&gate, &identity).await;
    let (_stuck, mut flood) = h2_stream(&mut client, &server).await;
    let (mut quiet, mut behind) = h2_stream(&mut client, &server).await;
    soon("the end of the server's stream", take_all(&mut flood)).await;
    gate.log.line("Stream closed", &[("reason", json!("slow_reader"))]).await;
    h2_passes(&mut behind, &mut quiet, "data: not cut\n\n").await;

    // A token that goes takes even a stream with it that is stuck for another reason.
    config["proxy"]["limits"] = json!({ "slowReaderTimeout": "10m" });
    gate.reload(config.clone());
    let mut client = http2(&gate, &identity).await;
    let (_stuck, mut flood) = h2_stream(&mut client, &server).await;
    // It takes nothing any more: the gateway reads on only when the client does.
    let block = chunk(&"x".repeat(16 * 1024));
    let patience = Duration::from_millis(500);
    while tokio::time::timeout(patience, flood.stream.write_all(block.as_bytes())).await.is_ok() {}
    config["mcpServers"]["db"]["authTokens"] = json!(["ci"]);
    gate.reload(config);
    soon("the end of the stuck stream", take_all(&mut flood)).await;
}

/// Writes until the gateway ends the connection.
async fn take_all(behind: &mut Client<TcpStream>) {
    let block = chunk(&"x".repeat(16 * 1024));
    while behind.stream.write_all(block.as_bytes()).await.is_ok() {}
}

/// hyper counts the lines of a head over HTTP/1.1 only.
#[tokio::test]
async fn a_head_of_more_than_a_hundred_fields_is_refused_over_http2_too() {
    let server = crate::recorder::Recorder::start().await;
    let identity = Identity::new();
    let gate = Gate::start(json!({
        "proxy": { "tls": identity.config() },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let mut client = http2(&gate, &identity).await;
    for (count, status) in [(99, 200), (100, 431)] {
        let token = format!("Bearer {DEV}");
        let mut request = Request::get("https://localhost/db/mcp").header("authorization", token);
        for n in 0..count {
            request = request.header(format!("x-{n}"), "1");
        }
        let response = client.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{count} fields");
    }
}

#[tokio::test]
async fn plain_http_on_the_port_of_tls_is_answered_in_words() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = Gate::start(json!({
        "proxy": { "tls": identity.config() }, "mcpServers": { "db": { "url": server.url("/mcp") } }
    }))
    .await;
    let large = post("/db", DEV, "", &"x".repeat(60_000));
    for request in [get("/db", DEV, ""), large, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "g".to_owned()]
    {
        let mut client = gate.client().await;
        client.send(&request).await;
        let (status, head, body) = client.response().await;
        assert_eq!((status, field(&head, "connection")), (400, Some("close")), "{head}");
        assert!(body.contains("https://") && body.ends_with('\n'), "{body}");
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"");
    }
    gate.log.line("Rejected connection", &[("reason", json!("tls_handshake"))]).await;
    assert!(!server.was_reached().await);
    // What is neither gets no words, and TLS is served as ever.
    let mut client = gate.client().await;
    client.send([0x80, 0x2e, 1, 0, 2]).await;
    assert!(!client.rest().await.starts_with(b"HTTP"));
    let tls = TcpStream::connect(gate.addr).await.unwrap();
    assert!(identity.connect(tls, &["http/1.1"], rustls::DEFAULT_VERSIONS).await.is_ok());
}
