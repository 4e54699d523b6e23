//! What a balancer in front asks of the gateway.

use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Gate, fields, until},
    recorder::Recorder,
};

/// HAProxy with `option httpchk`, and with `option httpchk GET /health`: HTTP/1.0, and no Host (RFC 9112 §3.2 asks for one
/// in HTTP/1.1).
#[tokio::test]
async fn the_default_checks_of_haproxy_find_the_gate_up_on_both_listeners() {
    let gate = Gate::start(json!({
        "proxy": { "admin": { "addr": "127.0.0.1:0" }, "allowedHosts": ["mcp.example"] },
        "mcpServers": {},
    }))
    .await;
    let admin = gate.gateway.admin_addr().unwrap();
    for (addr, check, status) in [
        (gate.addr, "OPTIONS / HTTP/1.0\r\n\r\n", "HTTP/1.0 204 "),
        (gate.addr, "GET /health HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        (gate.addr, "GET /health/ready HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        (admin, "GET /health/ready HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        // It learns nothing that is behind a name.
        (admin, "GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 403 "),
        (admin, "GET /status HTTP/1.0\r\n\r\n", "HTTP/1.0 403 "),
    ] {
        let mut client = Client::new(TcpStream::connect(addr).await.unwrap());
        client.send(check).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with(status), "{check}{answer}");
    }
}

#[tokio::test]
async fn without_a_host_nothing_else_is_served_and_the_refusal_says_once_that_it_closes() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": { "allowedHosts": ["*"] },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let auth = format!("Authorization: Bearer {DEV}\r\n");
    for fields_of_request in [auth.clone(), format!("{auth}Connection: keep-alive\r\n")] {
        let mut client = gate.client().await;
        client.send(format!("GET /db/mcp HTTP/1.0\r\n{fields_of_request}\r\n")).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        assert!(fields(&answer, "connection").eq(["close"]), "{answer}");
    }
    server.saw_nothing("there was no host").await;
}

#[tokio::test]
async fn a_broken_proxy_header_of_a_trusted_balancer_is_told_of_and_counted() {
    let gate = Gate::start(json!({ "proxy": { "trustedProxies": ["127.0.0.1"] }, "mcpServers": {} })).await;
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let header =
        |version: u8, length: u16| [&signature[..], &[version, 0x11], &length.to_be_bytes()].concat();
    for broken in [header(0x11, 12), header(0x21, 4097), b"\r\nGET /health HTTP/1.1\r\n".to_vec()] {
        let mut client = gate.client().await;
        client.send([broken, vec![0; 12]].concat()).await;
        // It may be reset before what it sent was read.
        while client.more().await {}
    }
    gate.log.line("Rejected connection", &[("reason", json!("proxy_header"))]).await;
    until("all are counted", || gate.metrics().contains(r#"http_rejected_total{reason="proxy_header"} 3"#))
        .await;
}
